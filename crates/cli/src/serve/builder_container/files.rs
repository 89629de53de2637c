//! The files of a builder container: `buildkitd.toml`, and what it names. They are in memory, and in a folder of kiln's
//! root while the container runs.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer::EntryKind;
use layer::tar::{Limits, Mode, TarReader};

use crate::settings::{BuildkitdConfig, FileFault};

/// The folder whose files are taken, and the file that is read without a flag that names one.
pub(super) const FOLDER: &str = "/etc/buildkit";
const CONFIG: &str = "/etc/buildkit/buildkitd.toml";
/// The most files, and the most bytes of all of them.
const MOST_FILES: usize = 256;
const MOST_BYTES: u64 = 1 << 20;

/// Files that a builder container does not take, or cannot use.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuilderFileError {
    /// The archive cannot be read.
    #[error("reading the archive: {0}")]
    Archive(#[from] layer::Error),
    /// Its bytes do not come.
    #[error("receiving the archive: {0}")]
    Receive(io::Error),
    /// A path elsewhere.
    #[error(
        "`{0}`: this container is kiln itself, which reads files below {FOLDER} only; `ca` of a registry in \
         buildkitd.toml names further authorities"
    )]
    Elsewhere(String),
    /// Something other than a file or a folder.
    #[error("`{0}` is neither a file nor a folder")]
    Special(String),
    /// Too many files, or too large ones.
    #[error("more than {MOST_FILES} files or {} MiB below {FOLDER}", MOST_BYTES >> 20)]
    TooMuch,
    /// A file that the flags or `buildkitd.toml` name and that was not copied in.
    #[error("`{0}` is not among the files that were copied into the container")]
    Missing(String),
    /// A file that is no `buildkitd.toml`.
    #[error("`{path}`: {source}")]
    Config {
        /// The path in the container.
        path: String,
        /// The fault.
        source: FileFault,
    },
    /// The files cannot be written.
    #[error("writing the files of the container: {0}")]
    Write(io::Error),
}

impl From<FileFault> for BuilderFileError {
    fn from(source: FileFault) -> Self {
        Self::Config { path: CONFIG.to_owned(), source }
    }
}

/// The files, by their paths in the container.
#[derive(Clone, Default)]
pub(super) struct BuilderFiles(BTreeMap<String, Arc<[u8]>>);

impl fmt::Debug for BuilderFiles {
    // Keys may be among the contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl BuilderFiles {
    /// The files and those of an archive that is unpacked in a folder. Blocks.
    ///
    /// # Errors
    /// If the archive has something that is not taken.
    pub(super) fn with_archive(
        &self,
        folder: &str,
        archive: impl Read + Send,
    ) -> Result<Self, BuilderFileError> {
        let limits = Limits {
            max_entries: 4 * MOST_FILES as u64,
            max_total_bytes: 2 * MOST_BYTES,
            ..Limits::DEFAULT
        };
        let decoded = layer::open_decoder(archive).map_err(BuilderFileError::Receive)?;
        let mut reader = TarReader::new(decoded, Mode::Archive, limits);
        let mut files = self.0.clone();
        while let Some((entry, content)) = reader.next_entry()? {
            let inner = String::from_utf8_lossy(&entry.path);
            let path = graph::clean_path(&format!("/{folder}/{inner}"));
            match entry.kind {
                EntryKind::Directory => continue,
                EntryKind::File { .. } => {}
                _ => return Err(BuilderFileError::Special(path)),
            }
            if !is_below(&path, FOLDER) {
                return Err(BuilderFileError::Elsewhere(path));
            }
            let mut bytes = Vec::new();
            content
                .take(MOST_BYTES + 1)
                .read_to_end(&mut bytes)
                .map_err(BuilderFileError::Receive)?;
            files.insert(path, bytes.into());
            let size: usize = files.values().map(|file| file.len()).sum();
            if files.len() > MOST_FILES || size as u64 > MOST_BYTES {
                return Err(BuilderFileError::TooMuch);
            }
        }
        Ok(Self(files))
    }

    /// True if there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The size of a file; none if there is no such file.
    pub(super) fn size(&self, path: &str) -> Option<u64> {
        self.0.get(path).map(|file| file.len() as u64)
    }

    /// True if it is a folder of a file, or the one for files.
    pub(super) fn has_folder(&self, path: &str) -> bool {
        is_below(FOLDER, path) || path == FOLDER || self.0.keys().any(|file| is_below(file, path))
    }

    /// The registries of the file that `--config` names, or of `buildkitd.toml`; none without one. What it names is
    /// below `folder`, into which [`BuilderFiles::write`] writes.
    ///
    /// # Errors
    /// If the file is missing or wrong, or it names a file that is missing.
    pub(super) fn config(
        &self,
        named: Option<&str>,
        folder: &Path,
    ) -> Result<Option<BuildkitdConfig>, BuilderFileError> {
        let path = graph::clean_path(named.unwrap_or(CONFIG));
        let text = match (self.0.get(&path), named) {
            (Some(text), _) => String::from_utf8_lossy(text),
            // BuildKit's way to say that there is none.
            (None, None | Some("/dev/null")) => return Ok(None),
            (None, Some(named)) => return Err(BuilderFileError::Missing(named.to_owned())),
        };
        let place = |inner: &Path| {
            let inner = graph::clean_path(&format!("/{}", inner.display()));
            if !self.0.contains_key(&inner) && !self.0.keys().any(|file| is_below(file, &inner)) {
                return Err(BuilderFileError::Missing(inner));
            }
            Ok(placed(folder, &inner))
        };
        let config = BuildkitdConfig::of_text(&text, place).map_err(|error| match error {
            BuilderFileError::Config { source, .. } => BuilderFileError::Config { path, source },
            other => other,
        })?;
        Ok(Some(config))
    }

    /// Writes the files below a folder. Blocks.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn write(&self, folder: &Path) -> Result<(), BuilderFileError> {
        self.0
            .iter()
            .try_for_each(|(path, bytes)| write_file(&placed(folder, path), bytes))
            .map_err(BuilderFileError::Write)
    }
}

/// True if a path is inside a folder. Both are clean.
fn is_below(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn placed(folder: &Path, inner: &str) -> PathBuf {
    folder.join(inner.trim_start_matches('/'))
}

/// Writes a file that only this user can read: it may be a key.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use layer::tar::TarWriter;
    use layer::{Entry, Time};

    use super::*;

    fn archive(entries: &[(&str, EntryKind, &[u8])]) -> io::Cursor<Vec<u8>> {
        let mut writer = TarWriter::new(Vec::new());
        for (path, kind, content) in entries {
            let entry = Entry {
                path: path.as_bytes().into(),
                kind: kind.clone(),
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: Time::default(),
                xattrs: Vec::new(),
            };
            writer.append(&entry, &mut &**content).unwrap();
        }
        io::Cursor::new(writer.finish().unwrap())
    }

    fn file(path: &'static str, text: &'static str) -> (&'static str, EntryKind, &'static [u8]) {
        (path, EntryKind::File { size: text.len() as u64 }, text.as_bytes())
    }

    fn unpacked(entries: &[(&str, EntryKind, &[u8])]) -> Result<BuilderFiles, BuilderFileError> {
        BuilderFiles::default().with_archive("/etc", archive(entries))
    }

    #[test]
    fn registries_come_with_their_certificates() {
        let toml = "debug = true\n[registry.'r.example.com']\nca = ['/etc/buildkit/certs/r/ca.pem']\n\
                    [registry.'docker.io']\nmirrors = ['m.example.com']\n";
        let files = unpacked(&[
            ("buildkit", EntryKind::Directory, b""),
            file("buildkit/buildkitd.toml", toml),
            file("buildkit/certs/r/ca.pem", "PEM"),
        ])
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = files.config(Some("/etc/buildkit/buildkitd.toml"), folder.path()).unwrap();
        let config = config.unwrap();
        files.write(folder.path()).unwrap();
        let registries = config.registries();
        let authority =
            &registries.iter().find(|one| one.host == "r.example.com").unwrap().authorities;
        assert_eq!(std::fs::read_to_string(&authority[0]).unwrap(), "PEM");
        assert!(authority[0].starts_with(folder.path()));
        assert_eq!(config.mirrors().next().unwrap().1, "m.example.com");
        assert_eq!(config.others(), ["debug"]);
        assert_eq!(files.size("/etc/buildkit/certs/r/ca.pem"), Some(3));
        assert!(files.has_folder("/etc") && files.has_folder("/etc/buildkit/certs"));
        assert!(!files.has_folder("/var") && !files.has_folder("/etc/build"));
    }

    #[test]
    fn without_a_file_there_are_no_registries() {
        let files = BuilderFiles::default();
        let folder = Path::new("/missing");
        assert_eq!(files.config(None, folder).unwrap(), None);
        assert_eq!(files.config(Some("/dev/null"), folder).unwrap(), None);
        let error = files.config(Some("/etc/x.toml"), folder).unwrap_err().to_string();
        assert!(error.contains("`/etc/x.toml` is not among the files"), "{error}");
    }

    #[test]
    fn no_file_of_the_machine_is_named() {
        for path in ["/etc/passwd", "/etc/buildkit/../passwd", "../../etc/passwd"] {
            let toml = format!("[registry.'r']\nca = ['{path}']\n");
            let size = toml.len() as u64;
            let files =
                unpacked(&[("buildkit/buildkitd.toml", EntryKind::File { size }, toml.as_bytes())])
                    .unwrap();
            let error = files.config(None, Path::new("/missing")).unwrap_err().to_string();
            assert!(error.contains("passwd` is not among the files"), "{error}");
        }
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let link = EntryKind::Symlink { target: b"/etc/passwd"[..].into() };
        let large = vec![0; MOST_BYTES as usize + 1];
        let size = large.len() as u64;
        for (entries, word) in [
            (vec![file("ssl/certs/ca.pem", "PEM")], "/etc/ssl/certs/ca.pem"),
            (vec![("buildkit/a", link, &b""[..])], "neither a file nor a folder"),
            (
                vec![("buildkit/a", EntryKind::File { size }, large.as_slice())],
                "more than 256 files",
            ),
        ] {
            let error = unpacked(&entries).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}
