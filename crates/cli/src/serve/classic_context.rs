//! The files of a classic build: an archive of the client's folder, taken as dockerd takes it.
//!
//! All files are root's, under any owner on the client's machine. Clients send the Dockerfile and
//! `.dockerignore` even if the latter excludes them, since the build needs them; they are no files of the
//! context then.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use build::{Context, ContextStream, DockerfileSource, LONGEST_HEAD, is_archive};
use graph::PatternMatcher;
use layer::tar::{Mode, TarReader, TarWriter};
use layer::{Entry, EntryKind};
use store::Store;

use crate::args::compound::{OptionError, context};

/// The largest Dockerfile, and the largest `.dockerignore`.
const LARGEST_TEXT: u64 = 16 << 20;
/// Bytes of a block of an archive.
const BLOCK: u64 = 512;
const IGNORE_FILE: &[u8] = b".dockerignore";

/// An archive that cannot be a context.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContextError {
    /// It cannot be read.
    #[error("reading the context")]
    Read(#[source] layer::Error),
    /// Its first bytes do not come, or a copy of it cannot be written.
    #[error("receiving the context")]
    Receive(#[from] io::Error),
    /// It is a text that is no Dockerfile.
    #[error(transparent)]
    Text(#[from] OptionError),
}

/// Reads an archive with the Dockerfile of a path, or a Dockerfile alone.
pub(super) fn read(
    mut body: impl Read + Send + 'static,
    dockerfile: Option<&str>,
    store: &Store,
) -> Result<(Context, DockerfileSource), ContextError> {
    let mut head = Vec::new();
    (&mut body).take(LONGEST_HEAD as u64).read_to_end(&mut head)?;
    let is_archive = is_archive(&head);
    let body = io::Cursor::new(head).chain(body);
    if !is_archive {
        return Ok(context::from_stdin(dockerfile, Box::new(body))?);
    }
    let name = dockerfile.unwrap_or("Dockerfile");
    let taken = take(body, name, store)?;
    let source = match (taken.excluded, dockerfile) {
        (Some(text), _) => DockerfileSource::Text(text.into()),
        (None, Some(name)) => DockerfileSource::InContext(name.to_owned()),
        (None, None) => DockerfileSource::Path(None),
    };
    Ok((Context::Archive(ContextStream::new(BufReader::new(taken.archive))), source))
}

struct Taken {
    archive: File,
    /// The text of the Dockerfile, if it is no file of the context.
    excluded: Option<String>,
}

/// A small file that is looked at when the whole archive was read.
struct HeldFile {
    entry: Entry,
    content: Vec<u8>,
}

/// Copies an archive, with all files root's and without what is excluded.
fn take(archive: impl Read + Send, dockerfile: &str, store: &Store) -> Result<Taken, ContextError> {
    let dockerfile = graph::clean_path(dockerfile);
    let dockerfile = dockerfile.trim_start_matches('/').as_bytes();
    let padded = Arc::<AtomicBool>::default();
    let decoded = Padded {
        reader: layer::open_decoder(archive)?,
        read: 0,
        zeros: None,
        is_padded: padded.clone(),
    };
    let whole = || {
        if padded.load(Ordering::Relaxed) {
            Err(ContextError::Receive(io::ErrorKind::UnexpectedEof.into()))
        } else {
            Ok(())
        }
    };
    let mut reader = TarReader::new(decoded, Mode::Archive, store.limits());
    let mut writer = TarWriter::new(BufWriter::with_capacity(1 << 18, store.spool_file()?));
    let mut held: Vec<HeldFile> = Vec::new();
    while let Some((mut entry, mut content)) = reader.next_entry().map_err(ContextError::Read)? {
        (entry.uid, entry.gid) = (0, 0);
        let is_text = matches!(entry.kind, EntryKind::File { size } if size <= LARGEST_TEXT);
        if is_text && (*entry.path == *dockerfile || *entry.path == *IGNORE_FILE) {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            whole()?;
            held.retain(|other| other.entry.path != entry.path);
            held.push(HeldFile { entry, content: bytes });
        } else if !entry.path.is_empty() {
            writer.append(&entry, &mut content).map_err(ContextError::Read)?;
            whole()?;
        }
    }
    let ignore = held.iter().find(|held| *held.entry.path == *IGNORE_FILE);
    let text = ignore.map(|held| String::from_utf8_lossy(&held.content).into_owned());
    let patterns = dockerfile::ignore_patterns(&text.unwrap_or_default());
    // A pattern that is none is the client's to report: it has excluded nothing by it.
    let matcher = PatternMatcher::new(&patterns).unwrap_or_default();
    let mut excluded = None;
    for HeldFile { entry, content } in held {
        let is_excluded = matcher.matches_or_parent_matches(&entry.path);
        match String::from_utf8(content) {
            Ok(text) if is_excluded && *entry.path == *dockerfile => excluded = Some(text),
            Ok(_) if is_excluded => {}
            Ok(text) => {
                writer.append(&entry, &mut text.as_bytes()).map_err(ContextError::Read)?;
            }
            // The build says what is wrong with it.
            Err(error) => {
                let bytes = error.into_bytes();
                writer.append(&entry, &mut bytes.as_slice()).map_err(ContextError::Read)?;
            }
        }
    }
    let mut buffered = writer.finish().map_err(ContextError::Read)?;
    buffered.flush()?;
    let mut archive = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    archive.rewind()?;
    Ok(Taken { archive, excluded })
}

/// An archive that ends with a whole block and the two empty ones. docker's client up to 20.10 leaves out the
/// end of an archive to which it adds a Dockerfile from elsewhere, and Go's readers do not mind.
struct Padded<R> {
    reader: R,
    read: u64,
    /// Zeros that are left to add, at the end.
    zeros: Option<u64>,
    /// True once a zero was added.
    is_padded: Arc<AtomicBool>,
}

impl<R: Read> Read for Padded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(zeros) = &mut self.zeros else {
            let count = self.reader.read(buffer)?;
            self.read += count as u64;
            if count == 0 && !buffer.is_empty() {
                self.zeros = Some(self.read.next_multiple_of(BLOCK) - self.read + 2 * BLOCK);
                return self.read(buffer);
            }
            return Ok(count);
        };
        let count = buffer.len().min(usize::try_from(*zeros).unwrap_or(usize::MAX));
        *zeros -= count as u64;
        buffer[..count].fill(0);
        self.is_padded.fetch_or(count > 0, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use layer::Time;
    use store::{OpenOptions, Privileges};

    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for (path, text) in files {
            let entry = Entry {
                path: path.as_bytes().into(),
                kind: EntryKind::File { size: text.len() as u64 },
                mode: 0o640,
                uid: 1000,
                gid: 1000,
                mtime: Time::default(),
                xattrs: Vec::new(),
            };
            writer.append(&entry, &mut text.as_bytes()).unwrap();
        }
        writer.finish().unwrap()
    }

    /// The paths that are left, which are all root's, and the text of an excluded Dockerfile.
    fn taken(files: &[(&str, &str)], dockerfile: &str) -> (Vec<String>, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), OpenOptions::new(Privileges::None)).unwrap();
        let taken = take(io::Cursor::new(archive(files)), dockerfile, &store).unwrap();
        let mut reader = TarReader::new(taken.archive, Mode::Archive, store.limits());
        let mut paths = Vec::new();
        while let Some((entry, _)) = reader.next_entry().unwrap() {
            assert_eq!((entry.uid, entry.gid, entry.mode), (0, 0, 0o640));
            paths.push(String::from_utf8_lossy(&entry.path).into_owned());
        }
        (paths, taken.excluded)
    }

    #[test]
    fn an_ignored_dockerfile_is_read_and_is_no_file_of_the_context() {
        let files =
            [("Dockerfile", "FROM x"), (".dockerignore", "Docker*\n.dockerignore\n"), ("a", "")];
        assert_eq!(taken(&files, "./Dockerfile"), (vec!["a".into()], Some("FROM x".into())));
        let files = [(".dockerignore", "*.md\n"), ("Dockerfile", "FROM x"), ("b/c", "hi")];
        let (paths, excluded) = taken(&files, "Dockerfile");
        assert_eq!(
            (paths, excluded),
            (vec!["b/c".into(), ".dockerignore".into(), "Dockerfile".into()], None)
        );
        let files =
            [(".dockerignore", "d\n"), ("d/Dockerfile", "FROM x"), ("Dockerfile", "FROM y")];
        let (paths, excluded) = taken(&files, "d/Dockerfile");
        assert_eq!((paths.len(), excluded.as_deref()), (2, Some("FROM x")));
    }

    #[test]
    fn the_end_of_an_archive_may_be_missing_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), OpenOptions::new(Privileges::None)).unwrap();
        let whole = archive(&[("a", "aa"), ("b", "bbb")]);
        let content = 512 + 512 + 512 + 3;
        for (length, is_whole) in [
            (whole.len(), true),
            (content + 509, true),
            (content, true),
            (content - 1, false),
            (content - 3, false),
            (512 + 2, true),
            (600 + 512, false),
            (512 + 1, false),
        ] {
            let bytes = io::Cursor::new(whole[..length].to_vec());
            assert_eq!(take(bytes, "Dockerfile", &store).is_ok(), is_whole, "{length}");
        }
    }
}
