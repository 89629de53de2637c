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
    let (name, level) = (fields.take("compression"), fields.take("compression-level"));
    Ok(ImageFormat {
        compression: compression(name.as_deref(), level.as_deref())?,
        force_compression: fields.take_boolean("force-compression", false)?,
        oci_mediatypes: fields.take_boolean("oci-mediatypes", oci_mediatypes)?,
    })
}

/// The compression of a name and a level; gzip where there is no name.
///
/// # Errors
/// If there is no such compression or level.
pub fn compression(name: Option<&str>, level: Option<&str>) -> Result<Compression, OptionError> {
    let level = level
        .map(|text| {
            let number = text.parse::<u32>();
            number.map_err(|_| OptionError::invalid("compression-level", text, "a number"))
        })
        .transpose()?;
    match name {
        None | Some("" | "gzip") => {
            Ok(Compression::Gzip(within(level, 9, "from 0 to 9 for gzip")?))
        }
        Some("zstd") => Ok(Compression::Zstd(within(level, 22, "from 0 to 22 for zstd")?)),
        Some("uncompressed") if level.is_some() => {
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
