//! The files of an image, as the crate reads them.

use std::io;

/// The files of an image.
pub trait ImageFiles {
    /// All regular files, in the order of their paths.
    fn list(&self) -> Vec<File>;

    /// Reads a part of a file; less than was asked for where the file ends.
    ///
    /// # Errors
    /// If the file cannot be read.
    fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;
}

/// A regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path, without a first `/`. Files whose paths are no text are not listed.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// True if any user may execute it.
    pub is_executable: bool,
}
