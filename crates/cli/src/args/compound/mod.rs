//! Values of flags that are more than a word: `type=registry,ref=…`, `id=…,src=…`.
//!
//! One file per family. Errors are sentences without the flag's name; the caller puts it before
//! them.

pub mod annotation;
pub mod attest;
pub mod bucket;
pub mod cache;
pub mod context;
mod csv;
pub mod limits;
pub mod output;
pub mod pairs;
pub mod policy;
pub mod secret;
pub mod service;
pub mod ssh;

pub use csv::{Fields, boolean, fields};

use build::ImageFormat;
use store::Compression;

/// Takes `compression`, `compression-level`, `force-compression` and `oci-mediatypes` out of the
/// fields of an output or cache.
fn image_format(fields: &mut Fields, oci_mediatypes: bool) -> Result<ImageFormat, String> {
    let level = fields.take("compression-level");
    let level = level
        .map(|text| {
            text.parse::<u32>().map_err(|_| format!("`compression-level={text}` is not a number"))
        })
        .transpose()?;
    let name = fields.take("compression");
    let compression = match name.as_deref() {
        None | Some("" | "gzip") => Compression::Gzip(within(level, 9, "gzip")?),
        Some("zstd") => Compression::Zstd(within(level, 22, "zstd")?),
        Some("uncompressed") if level.is_some() => {
            return Err("`compression-level` has no meaning with `compression=uncompressed`".into());
        }
        Some("uncompressed") => Compression::None,
        Some(other @ ("estargz" | "nydus")) => {
            return Err(format!(
                "`compression={other}` is not there yet; gzip, zstd and uncompressed are"
            ));
        }
        Some(other) => {
            return Err(format!("`compression={other}` is none of gzip, zstd, uncompressed"));
        }
    };
    Ok(ImageFormat {
        compression,
        force_compression: fields.take_boolean("force-compression", false)?,
        oci_mediatypes: fields.take_boolean("oci-mediatypes", oci_mediatypes)?,
    })
}

fn within(level: Option<u32>, highest: u32, name: &str) -> Result<Option<u32>, String> {
    match level {
        Some(level) if level > highest => {
            Err(format!("`compression-level={level}`: {name} has levels 0 to {highest}"))
        }
        level => Ok(level),
    }
}
