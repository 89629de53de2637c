//! A map in a folder: a file for each entry.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::entries::MapEntries;
use super::{KeyValueStore, LIMIT, MapError, RawEntries};

pub(super) struct FolderStore {
    pub folder: PathBuf,
}

#[async_trait]
impl KeyValueStore for FolderStore {
    async fn read(&self) -> Result<RawEntries, MapError> {
        let folder = self.folder.clone();
        transfer::blocking(move || read(&folder)).await
    }

    async fn write(&self, changed: MapEntries, expired: Vec<String>) -> Result<(), MapError> {
        let folder = self.folder.clone();
        transfer::blocking(move || write(&folder, &changed, &expired)).await
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> MapError {
    move |source| MapError::File { path: path.to_owned(), source }
}

/// True for a key that kiln makes. Any other name is not a file of the map.
fn is_key(name: &str) -> bool {
    let hash = name.strip_prefix("l.").or_else(|| name.strip_prefix("r."));
    hash.is_some_and(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn read(folder: &Path) -> Result<RawEntries, MapError> {
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RawEntries::new()),
        Err(error) => return Err(failed(folder)(error)),
    };
    let (mut raw, mut left) = (RawEntries::new(), LIMIT);
    for file in files {
        let file = file.map_err(failed(folder))?;
        let Ok(name) = file.file_name().into_string() else { continue };
        if !is_key(&name) {
            continue;
        }
        let mut bytes = Vec::new();
        // Another build may have removed the file since.
        let Ok(opened) = store::open_regular(&file.path()) else { continue };
        opened.take(left + 1).read_to_end(&mut bytes).map_err(failed(folder))?;
        left = left.checked_sub(bytes.len() as u64).ok_or(MapError::TooLarge)?;
        raw.insert(name, bytes);
    }
    Ok(raw)
}

fn write(folder: &Path, changed: &MapEntries, expired: &[String]) -> Result<(), MapError> {
    fs::create_dir_all(folder).map_err(failed(folder))?;
    for (key, value) in changed.raw() {
        write_entry(folder, key, &value).map_err(failed(folder))?;
    }
    for key in expired.iter().filter(|key| is_key(key)) {
        // Another build may have removed it, and an old entry does no harm.
        let _ = fs::remove_file(folder.join(key));
    }
    Ok(())
}

fn write_entry(folder: &Path, key: &str, value: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(value)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(file.path(), mode)?;
    file.persist(folder.join(key)).map_err(|error| error.error)?;
    Ok(())
}
