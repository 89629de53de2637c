//! Writing of OCI layouts (image-spec, image-layout.md) into folders that may have content already.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci::{Annotations, Descriptor, Digest, Index, media_type};

/// The annotation with an entry's tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Maximum size of an index, in bytes.
const INDEX_LIMIT: u64 = 64 << 20;

/// A file of a layout.
#[derive(Debug)]
pub struct LayoutFile {
    /// Its path in the folder.
    pub path: String,
    /// Its content.
    pub content: LayoutContent,
}

/// The content of a file of a layout.
#[derive(Debug)]
pub enum LayoutContent {
    /// Bytes.
    Bytes(Vec<u8>),
    /// A blob: the path of the file with its bytes, and its size.
    Blob(PathBuf, u64),
}

impl LayoutFile {
    /// The file of a blob in a layout.
    pub fn blob(digest: Digest, content: LayoutContent) -> Self {
        Self { path: format!("blobs/sha256/{}", digest.hex()), content }
    }

    /// The file `oci-layout`, which marks a folder as a layout.
    pub fn marker() -> Self {
        let text = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        Self { path: "oci-layout".into(), content: LayoutContent::Bytes(text) }
    }
}

/// A file of a layout that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write `{}`", path.display())]
pub struct LayoutError {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub source: io::Error,
}

/// Writes files into a folder, then adds `entries` to its index. They replace the entries with the
/// same tags, and untagged ones if one of them is untagged. Blocks.
///
/// # Errors
/// If the folder cannot be written, or its index is not an OCI index.
pub fn write_layout(
    folder: &Path,
    files: &[LayoutFile],
    entries: Vec<Descriptor>,
) -> Result<(), LayoutError> {
    write_layout_files(folder, files)?;
    let path = folder.join("index.json");
    let added = locked(folder, || add_to_index(&path, entries));
    added.map_err(|source| LayoutError { path, source })
}

/// Like [`write_layout`], for a caller that holds the lock of the folder: a second lock would wait
/// for the first one, even in the same process. Blocks.
///
/// # Errors
/// As [`write_layout`].
pub fn write_locked_layout(
    folder: &Path,
    files: &[LayoutFile],
    entries: Vec<Descriptor>,
) -> Result<(), LayoutError> {
    write_layout_files(folder, files)?;
    let path = folder.join("index.json");
    add_to_index(&path, entries).map_err(|source| LayoutError { path, source })
}

/// Writes files into a folder without changing its `index.json`. Existing blobs are not
/// overwritten. Blocks.
///
/// # Errors
/// If the folder cannot be written.
pub fn write_layout_files(folder: &Path, files: &[LayoutFile]) -> Result<(), LayoutError> {
    for file in files {
        let path = folder.join(&file.path);
        let written = match &file.content {
            LayoutContent::Bytes(bytes) => write_file(&path, &mut bytes.as_slice()),
            LayoutContent::Blob(..) if path.exists() => Ok(()),
            LayoutContent::Blob(blob, _) => {
                File::open(blob).and_then(|mut blob| write_file(&path, &mut blob))
            }
        };
        written.map_err(|source| LayoutError { path, source })?;
    }
    Ok(())
}

/// Changes the index under a lock: of two concurrent writers, one would lose its entries. The lock
/// is on the folder itself, which leaves no lock file. On a file system without locks there is
/// none.
fn locked<T>(folder: &Path, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    fs::create_dir_all(folder)?;
    let folder = File::open(folder)?;
    let _ = rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive);
    change()
}

fn add_to_index(path: &Path, entries: Vec<Descriptor>) -> io::Result<()> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        store::open_regular(path)?.take(INDEX_LIMIT).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let there = match read() {
        Ok(bytes) => {
            serde_json::from_slice::<Index>(&bytes)
                .map_err(|error| {
                    io::Error::other(format!("what is there is no OCI index: {error}"))
                })?
                .manifests
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let name = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
    let names: BTreeSet<Option<String>> = entries.iter().map(name).collect();
    let kept = there.into_iter().filter(|entry| !names.contains(&name(entry)));
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.into()),
        manifests: kept.chain(entries).collect(),
        annotations: Annotations::new(),
    };
    let bytes = serde_json::to_vec(&index).map_err(io::Error::other)?;
    write_file(path, &mut bytes.as_slice())
}

/// Writes a temporary file, then renames it.
fn write_file(path: &Path, content: &mut dyn Read) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(content, &mut file)?;
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content: &str, tag: Option<&str>) -> Descriptor {
        let mut entry = Descriptor::of(media_type::OCI_MANIFEST, content.as_bytes());
        entry.annotations.extend(tag.map(|tag| (REF_NAME.to_owned(), tag.to_owned())));
        entry
    }

    fn listed(folder: &Path) -> Vec<Descriptor> {
        let bytes = fs::read(folder.join("index.json")).unwrap();
        serde_json::from_slice::<Index>(&bytes).unwrap().manifests
    }

    #[test]
    fn entries_with_other_tags_stay() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let files = [LayoutFile::marker()];
        write_layout(&folder, &files, vec![entry("1", Some("a")), entry("1", Some("b"))]).unwrap();
        write_layout(&folder, &files, vec![entry("2", None)]).unwrap();
        write_layout(&folder, &files, vec![entry("3", Some("a"))]).unwrap();
        write_layout(&folder, &files, vec![entry("4", None)]).unwrap();
        let expected = [entry("1", Some("b")), entry("3", Some("a")), entry("4", None)];
        assert_eq!(listed(&folder), expected);
        assert!(folder.join("oci-layout").exists());
    }

    #[test]
    fn a_folder_with_another_index_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("index.json"), "[]").unwrap();
        let error = write_layout(folder.path(), &[], vec![entry("1", None)]).unwrap_err();
        assert!(error.source.to_string().contains("no OCI index"), "{error:?}");
        assert_eq!(fs::read(folder.path().join("index.json")).unwrap(), b"[]");
    }
}
