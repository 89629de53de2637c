//! Attestations of an image: its provenance (SLSA) and its packages (an SPDX document).
//!
//! Receives facts about a build, and a tree of files with a reader; hands over the predicates of
//! in-toto statements. Nothing in an image is executed or trusted: files are read up to a limit,
//! numbers are checked, and the document names what could not be read. Invariant: secrets are known
//! here by their names alone.

#![forbid(unsafe_code)]

mod catalog;
mod package;
mod provenance;
mod spdx;
mod steps;

use std::io;

pub use catalog::scan;
pub use package::{Package, ScanResult};
pub use provenance::{Digests, Facts, Material, Mode, Provenance, Version};
pub use spdx::{Document, PREDICATE as SPDX_PREDICATE, document};

/// The files of an image.
pub trait Files {
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
