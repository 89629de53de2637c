//! The text of a configuration file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The largest configuration file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The fault of a configuration file. The text does not name the file.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// A file that cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// A file larger than any configuration.
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// Text that is not TOML, or has unknown keys. The message has the line.
    #[error("{0}")]
    Toml(#[from] Box<toml::de::Error>),
    /// Text that is not JSON. The message has the line.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// Reads a whole file, of up to 1 MiB.
///
/// # Errors
/// If it cannot be read, or is larger.
pub fn read_text(path: &Path) -> Result<String, FileFault> {
    let mut text = String::new();
    let length = File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if length as u64 > LARGEST { Err(FileFault::TooLarge) } else { Ok(text) }
}
