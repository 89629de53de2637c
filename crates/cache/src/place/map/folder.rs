//! A map in a folder: a file for each entry.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use super::entries::Entries;
use super::{LIMIT, Raw};

fn said(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("`{}`: {error}", path.display())
}

/// A key as it was made here: nothing else is a file of a map.
fn is_key(name: &str) -> bool {
    let hash = name.strip_prefix("l.").or_else(|| name.strip_prefix("r."));
    hash.is_some_and(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

pub(super) fn read(folder: &Path) -> Result<Raw, String> {
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Raw::new()),
        Err(error) => return Err(said(folder)(error)),
    };
    let (mut raw, mut left) = (Raw::new(), LIMIT);
    for file in files {
        let file = file.map_err(said(folder))?;
        let Ok(name) = file.file_name().into_string() else { continue };
        if !is_key(&name) {
            continue;
        }
        let mut bytes = Vec::new();
        // Another build may have removed it by now.
        let Ok(opened) = store::open_regular(&file.path()) else { continue };
        opened.take(left + 1).read_to_end(&mut bytes).map_err(said(folder))?;
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| format!("it is larger than {} MiB", LIMIT >> 20))?;
        raw.insert(name, bytes);
    }
    Ok(raw)
}

pub(super) fn write(folder: &Path, changed: &Entries, expired: &[String]) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(said(folder))?;
    for (key, value) in changed.raw() {
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&value)?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            fs::set_permissions(file.path(), mode)?;
            file.persist(folder.join(key)).map(drop).map_err(|error| error.error)
        };
        write().map_err(said(folder))?;
    }
    for key in expired.iter().filter(|key| is_key(key)) {
        // Another build may have done it.
        let _ = fs::remove_file(folder.join(key));
    }
    Ok(())
}
