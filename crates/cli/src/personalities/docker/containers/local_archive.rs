//! Archives of files of this machine, for `docker cp`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use layer::tar::{Limits, Mode, TarReader, TarWriter};
use layer::{Entry, EntryKind, Time};

/// A file that cannot be copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// A file of this machine.
    #[error("`{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive.
    #[error(transparent)]
    Archive(#[from] layer::Error),
    /// The archive wants a file behind a link that is here, or that it has made.
    #[error("`{}` is a link: nothing is written behind it", .0.display())]
    BehindLink(PathBuf),
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CopyError {
    let path = path.to_owned();
    move |source| CopyError::File { path, source }
}

/// An archive from a container that is unpacked here.
pub(super) struct Unpacking {
    /// The path that stands for the first name of all paths, or for the folder that they are in.
    pub(super) top: PathBuf,
    /// True if all paths have a first name in common.
    pub(super) has_name: bool,
    /// True if owners are kept.
    pub(super) keeps_owners: bool,
}

impl Unpacking {
    /// Unpacks it. Nothing is written outside of `top`.
    pub(super) fn unpack(&self, archive: impl Read) -> Result<(), CopyError> {
        let mut reader = TarReader::new(archive, Mode::Archive, Limits::DEFAULT);
        let mut folders = Vec::new();
        while let Some((entry, mut content)) = reader.next_entry()? {
            self.take(&entry, &mut content, &mut folders)?;
        }
        // After their content, which changes their times; and a mode may forbid to write.
        for (path, entry) in folders.iter().rev() {
            self.finish(path, entry)?;
        }
        Ok(())
    }

    fn take(
        &self,
        entry: &Entry,
        content: &mut dyn Read,
        folders: &mut Vec<(PathBuf, Entry)>,
    ) -> Result<(), CopyError> {
        let path = self.place(&entry.path)?;
        let there = fs::symlink_metadata(&path).ok();
        let is_folder_there = there.as_ref().is_some_and(fs::Metadata::is_dir);
        if there.is_some() && !is_folder_there {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
        match &entry.kind {
            EntryKind::Directory => {
                if !is_folder_there {
                    fs::create_dir(&path).map_err(failed(&path))?;
                }
                folders.push((path, entry.clone()));
                return Ok(());
            }
            EntryKind::File { .. } => {
                let mut file = File::create_new(&path).map_err(failed(&path))?;
                io::copy(content, &mut file).map_err(failed(&path))?;
            }
            EntryKind::Symlink { target } => {
                let target = PathBuf::from(std::ffi::OsString::from_vec(target.to_vec()));
                std::os::unix::fs::symlink(target, &path).map_err(failed(&path))?;
                return Ok(());
            }
            EntryKind::HardLink { target } => {
                let first = self.place(target)?;
                fs::hard_link(&first, &path).map_err(failed(&path))?;
                return Ok(());
            }
            // Devices and pipes are for the container.
            _ => return Ok(()),
        }
        self.finish(&path, entry)
    }

    /// The path of an entry. No link is followed on the way.
    fn place(&self, name: &[u8]) -> Result<PathBuf, CopyError> {
        let mut path = self.top.clone();
        let names = name.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let mut names = names.skip(usize::from(self.has_name)).peekable();
        while let Some(name) = names.next() {
            path.push(std::ffi::OsStr::from_bytes(name));
            let is_on_the_way = names.peek().is_some();
            if is_on_the_way && path.is_symlink() {
                return Err(CopyError::BehindLink(path));
            }
        }
        Ok(path)
    }

    fn finish(&self, path: &Path, entry: &Entry) -> Result<(), CopyError> {
        if self.keeps_owners {
            std::os::unix::fs::lchown(path, Some(entry.uid), Some(entry.gid))
                .map_err(failed(path))?;
        }
        let mode = fs::Permissions::from_mode(entry.mode & 0o7777);
        fs::set_permissions(path, mode).map_err(failed(path))?;
        let seconds = Duration::from_secs(u64::try_from(entry.mtime.seconds).unwrap_or(0));
        let time = SystemTime::UNIX_EPOCH
            .checked_add(seconds + Duration::from_nanos(entry.mtime.nanos.into()));
        if let (Some(time), Ok(file)) = (time, File::open(path)) {
            let _ = file.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time));
        }
        Ok(())
    }
}

/// Files of this machine that become an archive.
pub(super) struct Packing {
    /// The file or folder.
    pub(super) source: PathBuf,
    /// Its name in the archive; empty for the content of a folder.
    pub(super) name: String,
    /// True if the source is what a link leads to.
    pub(super) follows: bool,
}

impl Packing {
    /// Writes the archive.
    pub(super) fn pack(&self, out: impl Write) -> Result<(), CopyError> {
        let mut archive = TarWriter::new(out);
        let source = match self.follows {
            true => fs::canonicalize(&self.source).map_err(failed(&self.source))?,
            false => self.source.clone(),
        };
        pack_one(&mut archive, &source, self.name.as_bytes())?;
        archive.finish()?;
        Ok(())
    }
}

fn pack_one(
    archive: &mut TarWriter<impl Write>,
    path: &Path,
    name: &[u8],
) -> Result<(), CopyError> {
    let about = fs::symlink_metadata(path).map_err(failed(path))?;
    let kind = about.file_type();
    let entry_kind = match () {
        () if kind.is_file() => EntryKind::File { size: about.len() },
        () if kind.is_dir() => EntryKind::Directory,
        () if kind.is_symlink() => {
            let target = fs::read_link(path).map_err(failed(path))?;
            EntryKind::Symlink { target: target.into_os_string().into_vec().into() }
        }
        () if kind.is_fifo() => EntryKind::Fifo,
        // Sockets and devices stay here.
        () => return Ok(()),
    };
    let entry = Entry {
        path: name.into(),
        kind: entry_kind,
        mode: about.mode() & 0o7777,
        uid: about.uid(),
        gid: about.gid(),
        mtime: Time {
            seconds: about.mtime(),
            // The kernel's value is less than 10^9.
            nanos: u32::try_from(about.mtime_nsec()).unwrap_or(0),
        },
        xattrs: Vec::new(),
    };
    if kind.is_file() {
        let mut file = File::open(path).map_err(failed(path))?;
        return Ok(archive.append(&entry, &mut file)?);
    }
    archive.append(&entry, &mut io::empty())?;
    if !kind.is_dir() {
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(failed(path))?;
    let mut names: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()
        .map_err(failed(path))?;
    names.sort();
    for child in names {
        let child_name = match name.is_empty() {
            true => child.as_bytes().to_vec(),
            false => [name, b"/", child.as_bytes()].concat(),
        };
        pack_one(archive, &path.join(&child), &child_name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(source: &Path, name: &str) -> Vec<u8> {
        let packing = Packing { source: source.to_owned(), name: name.to_owned(), follows: false };
        let mut archive = Vec::new();
        packing.pack(&mut archive).unwrap();
        archive
    }

    #[test]
    fn files_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir_all(source.join("deep")).unwrap();
        fs::write(source.join("deep/file"), "text").unwrap();
        fs::set_permissions(source.join("deep/file"), fs::Permissions::from_mode(0o741)).unwrap();
        std::os::unix::fs::symlink("deep", source.join("link")).unwrap();
        let archive = packed(&source, "source");
        let top = folder.path().join("copy");
        Unpacking { top: top.clone(), has_name: true, keeps_owners: false }
            .unpack(archive.as_slice())
            .unwrap();
        assert_eq!(fs::read_to_string(top.join("deep/file")).unwrap(), "text");
        let about = fs::metadata(top.join("deep/file")).unwrap();
        assert_eq!(about.mode() & 0o777, 0o741);
        assert_eq!(fs::read_link(top.join("link")).unwrap(), Path::new("deep"));
        // One file, under the name that the destination has.
        let one = packed(&source.join("deep/file"), "file");
        let file = folder.path().join("renamed");
        Unpacking { top: file.clone(), has_name: true, keeps_owners: false }
            .unpack(one.as_slice())
            .unwrap();
        assert_eq!(fs::read_to_string(file).unwrap(), "text");
    }

    #[test]
    fn nothing_is_written_behind_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let mut archive = TarWriter::new(Vec::new());
        let outer = folder.path().join("outer");
        fs::create_dir(&outer).unwrap();
        let target = outer.as_os_str().as_bytes();
        let entries = [
            Entry::new(b"top".as_slice(), EntryKind::Directory, 0o755),
            Entry::new(b"top/a".as_slice(), EntryKind::Symlink { target: target.into() }, 0o777),
            Entry::new(b"top/a/b".as_slice(), EntryKind::File { size: 0 }, 0o644),
        ];
        for entry in &entries {
            archive.append(entry, &mut io::empty()).unwrap();
        }
        let archive = archive.finish().unwrap();
        let top = folder.path().join("top");
        let unpacking = Unpacking { top, has_name: true, keeps_owners: false };
        let error = unpacking.unpack(archive.as_slice()).unwrap_err();
        assert!(matches!(error, CopyError::BehindLink(_)));
        assert_eq!(fs::read_dir(&outer).unwrap().count(), 0);
    }
}
