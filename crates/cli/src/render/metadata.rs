//! `--metadata-file` and `--iidfile`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use build::Outcome;
use serde_json::{Map, Value, json};

use super::CommandError;

/// The text of `--metadata-file`: buildx' keys in their order, then kiln's own.
pub fn metadata(outcome: &Outcome) -> String {
    let mut map = Map::new();
    if let Some(manifest) = &outcome.cache_manifest {
        map.insert("cache.manifest".into(), json!(manifest));
    }
    if let Some(image) = &outcome.image {
        if let Some(config) = &image.config {
            map.insert("containerimage.config.digest".into(), json!(config));
        }
        map.insert("containerimage.descriptor".into(), json!(image.descriptor));
        map.insert("containerimage.digest".into(), json!(image.descriptor.digest));
        if !image.names.is_empty() {
            map.insert("image.name".into(), json!(image.names.join(",")));
        }
    }
    let traffic = outcome.traffic;
    map.insert(
        "kiln.stats".into(),
        json!({
            "cached": outcome.cached, "ran": outcome.ran,
            "requests": traffic.requests, "bytes_down": traffic.down, "bytes_up": traffic.up,
            "bytes_not_needed": outcome.not_needed,
        }),
    );
    serde_json::to_string_pretty(&Value::Object(map)).unwrap_or_default()
}

/// The image's ID: the digest of its config, or of its index.
pub fn image_id(outcome: &Outcome) -> Option<String> {
    outcome.image.as_ref().map(|image| image.id().to_string())
}

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("writing `{}`: {source}", .path.display())]
pub struct WriteFileError {
    /// The file.
    path: PathBuf,
    /// The system's error.
    source: io::Error,
}

impl CommandError for WriteFileError {}

/// Writes a file whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub fn write_file(path: &Path, text: &str) -> Result<(), WriteFileError> {
    let error = |source| WriteFileError { path: path.to_owned(), source };
    // A device or pipe must not be replaced by a file.
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return std::fs::write(path, text).map_err(error);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|failure| {
        drop(std::fs::remove_file(&temporary));
        error(failure)
    })
}

#[cfg(test)]
mod tests {
    use build::BuiltImage;
    use oci::{Descriptor, Digest};

    use super::*;

    #[test]
    fn metadata_has_the_keys_of_buildx() {
        let image = BuiltImage {
            descriptor: Descriptor::of("application/vnd.oci.image.manifest.v1+json", b"m"),
            config: Some(Digest::of("c")),
            names: vec!["docker.io/library/a:latest".into(), "b/c:1".into()],
        };
        let outcome = Outcome { image: Some(image), ..Outcome::default() };
        let value: Value = serde_json::from_str(&metadata(&outcome)).unwrap();
        assert_eq!(value["image.name"], "docker.io/library/a:latest,b/c:1");
        assert_eq!(value["containerimage.digest"], Digest::of("m").to_string());
        assert_eq!(value["containerimage.descriptor"]["size"], 1);
        assert_eq!(image_id(&outcome).unwrap(), Digest::of("c").to_string());
        assert_eq!(value["kiln.stats"]["ran"], 0);
    }

    #[test]
    fn files_are_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        write_file(&path, "one").unwrap();
        write_file(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = write_file(&folder.path().join("no/id"), "x").unwrap_err().to_string();
        assert!(error.contains("no/id"), "{error}");
    }
}
