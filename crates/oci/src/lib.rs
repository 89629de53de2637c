//! The types of the image and distribution specifications that kiln reads and writes.
//!
//! Receives JSON and text from registries, layouts and users; hands over typed values.
//! Invariant: a [`Digest`] is always a whole SHA-256, a [`Reference`] is always normalised, and a
//! document that is read and written again keeps the fields that kiln does not know.

mod address;
mod causes;
mod descriptor;
mod digest;
mod image_config;
mod manifest;
pub mod percent;
mod platform;
pub mod purl;
mod reference;
mod truth;

pub use address::{NoWebAddress, WebAddress, masked_text, shown_text};
pub use causes::chain_text;
pub use descriptor::{Annotations, Descriptor};
pub use digest::{Digest, DigestError, Hasher};
pub use image_config::{Config, Healthcheck, History, ImageConfig, RootFs};
pub use manifest::{Index, Manifest, media_type};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError, Repository};
pub use truth::parse_bool;
