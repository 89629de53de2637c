//! Values of flags that are more than a word: `type=registry,ref=…`, `id=…,src=…`.
//!
//! One file per family. An [`OptionError`] does not name the flag; the caller puts it before.

pub mod annotation;
pub mod attest;
pub mod bucket;
pub mod cache;
pub mod context;
mod csv;
mod error;
pub mod limits;
pub mod output;
pub mod pairs;
pub mod policy;
pub mod secret;
pub mod service;
pub mod ssh;

pub use csv::{Fields, boolean, fields};
pub use error::OptionError;

use build::ImageFormat;
use store::Compression;

/// Takes `compression`, `compression-level`, `force-compression` and `oci-mediatypes` out of the
/// fields of an output or cache.
fn image_format(fields: &mut Fields, oci_mediatypes: bool) -> Result<ImageFormat, OptionError> {
    let level = fields.take("compression-level");
    let level = level
        .map(|text| {
            let number = text.parse::<u32>();
            number.map_err(|_| OptionError::invalid("compression-level", text, "a number"))
        })
        .transpose()?;
    let name = fields.take("compression");
    let compression = match name.as_deref() {
        None | Some("" | "gzip") => Compression::Gzip(within(level, 9, "from 0 to 9 for gzip")?),
        Some("zstd") => Compression::Zstd(within(level, 22, "from 0 to 22 for zstd")?),
        Some("uncompressed") if level.is_some() => {
            return Err(OptionError::together("compression-level", "compression=uncompressed"));
        }
        Some("uncompressed") => Compression::None,
        Some(other @ ("estargz" | "nydus")) => {
            return Err(OptionError::NotSupported {
                option: format!("compression={other}"),
                hint: "; gzip, zstd and uncompressed are",
            });
        }
        Some(other) => {
            return Err(OptionError::invalid("compression", other, "gzip, zstd or uncompressed"));
        }
    };
    Ok(ImageFormat {
        compression,
        force_compression: fields.take_boolean("force-compression", false)?,
        oci_mediatypes: fields.take_boolean("oci-mediatypes", oci_mediatypes)?,
    })
}

fn within(
    level: Option<u32>,
    highest: u32,
    expected: &'static str,
) -> Result<Option<u32>, OptionError> {
    match level {
        Some(level) if level > highest => {
            Err(OptionError::invalid("compression-level", level.to_string(), expected))
        }
        level => Ok(level),
    }
}
