//! How each operation runs: image, local, run, files, merge
