//! From a key to an output, here and elsewhere: local tables, BuildKit's cache format, import and export
