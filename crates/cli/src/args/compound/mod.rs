//! Structured values of flags: `type=registry,ref=…`, `id=…,src=…`.
//!
//! One file per family. An [`OptionError`] does not name the flag; the caller adds it.

pub mod annotation;
pub mod attest;
pub mod bucket;
pub mod cache;
pub mod context;
mod csv;
pub mod destination;
mod error;
pub mod image_name;
pub mod limits;
mod options;
pub mod output;
pub mod output_options;
pub mod pairs;
pub mod policy;
pub mod secret;
pub mod service;
pub mod ssh;

#[cfg(test)]
mod options_tests;

pub use csv::{Fields, fields};
pub use error::OptionError;
pub use oci::parse_bool as boolean;

use build::ImageFormat;
use layer::Compression;

use options::{OptionSet as _, boolean as on_or_off, options, text};

options! {
    /// The format of layers, in outputs and caches.
    pub struct FormatOptions {
        /// Compression of layers: gzip, zstd or uncompressed.
        compression: String = text("compression") for Export, "zstd";
        /// Level of the compression.
        level: u32 = compression_level("compression-level") for Export, "3";
        /// Compresses layers anew that have another compression.
        force: bool = on_or_off("force-compression") for Export, "true";
        /// Writes OCI's media types instead of docker's.
        oci_mediatypes: bool = on_or_off("oci-mediatypes") for Export, "false";
    }
}

/// A level of a compression. An empty one is an error.
fn compression_level(key: &str, text: &str) -> Result<Option<u32>, OptionError> {
    text.parse().map(Some).map_err(|_| OptionError::invalid(key, text, "a number"))
}

/// The compression of a name and a level; gzip without a name.
///
/// # Errors
/// If there is no such compression or level.
pub fn compression(name: Option<&str>, level: Option<&str>) -> Result<Compression, OptionError> {
    let mut options = FormatOptions::default();
    for (key, text) in [("compression", name), ("compression-level", level)] {
        if let Some(text) = text {
            options.set(key, text)?;
        }
    }
    options.compression()
}

impl FormatOptions {
    fn format(self, oci_mediatypes: bool) -> Result<ImageFormat, OptionError> {
        Ok(ImageFormat {
            compression: self.compression()?,
            force_compression: self.force.unwrap_or(false),
            oci_mediatypes: self.oci_mediatypes.unwrap_or(oci_mediatypes),
        })
    }

    fn compression(&self) -> Result<Compression, OptionError> {
        match self.compression.as_deref() {
            None | Some("" | "gzip") => {
                Ok(Compression::Gzip(self.level_within(9, "from 0 to 9 for gzip")?))
            }
            Some("zstd") => Ok(Compression::Zstd(self.level_within(22, "from 0 to 22 for zstd")?)),
            Some("uncompressed") if self.level.is_some() => {
                Err(OptionError::together("compression-level", "compression=uncompressed"))
            }
            Some("uncompressed") => Ok(Compression::None),
            Some(other @ ("estargz" | "nydus")) => Err(OptionError::NotSupported {
                option: format!("compression={other}"),
                hint: "; gzip, zstd and uncompressed are",
            }),
            Some(other) => {
                Err(OptionError::invalid("compression", other, "gzip, zstd or uncompressed"))
            }
        }
    }

    fn level_within(
        &self,
        highest: u32,
        expected: &'static str,
    ) -> Result<Option<u32>, OptionError> {
        match self.level {
            Some(level) if level > highest => {
                Err(OptionError::invalid("compression-level", level.to_string(), expected))
            }
            level => Ok(level),
        }
    }
}
