//! Images in folders of the OCI layout: bases that no registry is asked for.

pub(crate) mod error;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use graph::ImageSource;
use layer::Place;
use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference};
use serde::de::DeserializeOwned;
use transfer::blocking;

use crate::image::{BaseImage, ImageError, Images, choose, is_index, layers};
use error::DOCUMENT_LIMIT;
pub use error::LayoutError;

/// Annotations for an image's name in `index.json`; the second is containerd's.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

/// The digest that a layout's `index.json` has for a tag. A layout's only image answers to any.
///
/// # Errors
/// If the folder is no layout, or has several images and none of that name.
pub fn tagged_in_layout(folder: &Path, tag: &str) -> Result<Digest, LayoutError> {
    let index: Index = document(&read(&folder.join("index.json"))?, "index.json")?;
    let is_named = |manifest: &&Descriptor| {
        NAMES.iter().any(|name| manifest.annotations.get(*name).is_some_and(|name| name == tag))
    };
    match (index.manifests.iter().find(is_named), index.manifests.as_slice()) {
        (Some(found), _) | (None, [found]) => Ok(found.digest),
        (None, []) => Err(LayoutError::NoImage),
        (None, several) => {
            let names = several.iter().filter_map(|manifest| manifest.annotations.get(NAMES[0]));
            let names: Vec<&str> = names.map(String::as_str).collect();
            Err(LayoutError::UnknownTag {
                tag: tag.into(),
                count: several.len(),
                tags: names.join(", "),
            })
        }
    }
}

impl Images {
    /// The image that a layout has under a reference's digest, for a platform. The reference's
    /// name is for progress only.
    ///
    /// # Errors
    /// If the layout does not have it, it is for other platforms, or makes no sense.
    pub async fn resolve_in_layout(
        &self,
        folder: &Path,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<BaseImage, ImageError> {
        let layout = Layout { folder: folder.into(), reference: reference.clone() };
        let platform = platform.clone();
        let image = blocking(move || layout.image(&platform)).await?;
        self.remember(&image);
        Ok(image)
    }
}

struct Layout {
    folder: PathBuf,
    reference: Reference,
}

impl Layout {
    /// Reads the documents of the image. Blocks.
    fn image(&self, platform: &Platform) -> Result<BaseImage, ImageError> {
        let reference = || self.reference.clone();
        let damaged = |source| ImageError::Layout { reference: reference(), source };
        let root = self.reference.digest();
        let root = root.ok_or_else(|| ImageError::NoDigest { reference: reference() })?;
        let bytes = self.blob(root)?;
        // No media type comes with it: the shape tells.
        let untyped = Descriptor::new("", root, bytes.len() as u64);
        let (manifest_digest, bytes) = match is_index(&untyped, &bytes) {
            false => (root, bytes),
            true => {
                let chosen = choose(&self.reference, &bytes, platform)?.digest;
                (chosen, self.blob(chosen)?)
            }
        };
        let manifest: Manifest = document(&bytes, "its manifest").map_err(damaged)?;
        let config_bytes = self.blob(manifest.config.digest)?;
        let config: ImageConfig = document(&config_bytes, "its config").map_err(damaged)?;
        let place = Place::Layout(self.folder.clone());
        let layers = layers(&manifest, &config, Some(&place))
            .map_err(|source| ImageError::Layers { reference: reference(), source })?;
        Ok(BaseImage {
            source: ImageSource {
                reference: self.reference.clone(),
                platform: platform.normalize(),
                manifest: manifest_digest,
                diff_ids: config.rootfs.diff_ids.clone(),
            },
            config,
            layers,
        })
    }

    fn blob(&self, digest: Digest) -> Result<Vec<u8>, ImageError> {
        let damaged = |source| ImageError::Layout { reference: self.reference.clone(), source };
        let path = self.folder.join("blobs/sha256").join(digest.hex());
        let bytes = read(&path).map_err(damaged)?;
        if Digest::of(&bytes) != digest {
            return Err(damaged(LayoutError::WrongDigest { path }));
        }
        Ok(bytes)
    }
}

fn document<T: DeserializeOwned>(bytes: &[u8], name: &'static str) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes).map_err(|source| LayoutError::Document { name, source })
}

fn read(path: &Path) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = Vec::new();
    store::open_regular(path)
        .and_then(|file| file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|source| LayoutError::File { path: path.into(), source })?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(LayoutError::TooLarge { path: path.into() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_layouts() {
        let folder = tempfile::tempdir().unwrap();
        let tagged = |tag: &str| tagged_in_layout(folder.path(), tag);
        let refused = |tag: &str| tagged(tag).unwrap_err().to_string();
        assert!(refused("latest").contains("index.json"));
        let entry = |text: &str, name: &str| {
            format!(
                r#"{{"mediaType":"x","digest":"{}","size":1,"annotations":{{"{}":"{name}"}}}}"#,
                Digest::of(text),
                NAMES[0]
            )
        };
        let write = |entries: &[String]| {
            let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
            std::fs::write(folder.path().join("index.json"), text).unwrap();
        };
        write(&[entry("a", "1.0")]);
        assert_eq!(tagged("latest").unwrap(), Digest::of("a"), "the only one");
        write(&[entry("a", "1.0"), entry("b", "latest")]);
        assert_eq!(tagged("latest").unwrap(), Digest::of("b"));
        assert_eq!(tagged("1.0").unwrap(), Digest::of("a"));
        assert!(refused("2").contains("1.0, latest"), "{}", refused("2"));
        write(&[]);
        assert!(refused("latest").contains("no image"));
        let path = folder.path().join("index.json");
        std::fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        assert!(refused("latest").contains("it is a pipe"));
    }
}
