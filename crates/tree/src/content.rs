//! The places that hold the bytes of files.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use layer::Time;
use oci::Digest;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::path::{components, split_last};

/// The place that holds the bytes of a regular file.
#[derive(Clone, Debug)]
pub enum Content {
    /// In a layer.
    Layer {
        /// The layer.
        diff_id: Arc<Digest>,
        /// Path in the layer.
        path: Arc<[u8]>,
    },
    /// In a folder of this machine.
    Host(Arc<HostFile>),
    /// In memory.
    Bytes(Arc<[u8]>),
    /// A part of an open file: the member of an archive.
    Slice {
        /// The file.
        file: Arc<File>,
        /// The offset of its first byte in the file.
        offset: u64,
    },
}

/// The identity of a content's file: equal for two names of one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContentId(Id);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Id {
    Layer(Arc<Digest>, Arc<[u8]>),
    Address(usize, u64),
}

/// Opens files of layers.
pub trait LayerFiles: Sync {
    /// Opens a regular file of a layer, by its path in the layer's index.
    ///
    /// # Errors
    /// If the layer's files are not in the store or there is no such file.
    fn open_file(&self, diff_id: &Digest, path: &[u8]) -> io::Result<Box<dyn Read + Send>>;
}

/// For trees without files in layers.
impl LayerFiles for () {
    fn open_file(&self, diff_id: &Digest, _: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        Err(io::Error::other(format!("layer `{diff_id}` is not here")))
    }
}

/// A folder of this machine from which files are read.
#[derive(Debug)]
pub struct HostRoot {
    fd: OwnedFd,
    path: PathBuf,
    opened: Time,
}

/// A file in a [`HostRoot`] as it was when it was found.
#[derive(Debug)]
pub struct HostFile {
    /// The folder.
    pub root: Arc<HostRoot>,
    /// Path in it; none of its parents was a link.
    pub path: Box<[u8]>,
    /// Permission bits.
    pub mode: u32,
    /// Device and inode.
    pub inode: (u64, u64),
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of content or header, which no program can set.
    pub ctime: Time,
    /// The content digest of header and bytes, once known.
    pub(crate) digest: OnceLock<Digest>,
}

impl HostFile {
    /// Returns the same file with other permission bits, on which its content digest depends.
    pub(crate) fn with_mode(&self, mode: u32) -> Self {
        Self {
            root: self.root.clone(),
            path: self.path.clone(),
            mode,
            inode: self.inode,
            size: self.size,
            mtime: self.mtime,
            ctime: self.ctime,
            digest: OnceLock::new(),
        }
    }
}

impl HostRoot {
    /// Opens a folder; links in `path` are followed.
    ///
    /// # Errors
    /// If it is no folder or cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        // The clock from which file systems take their times.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let opened = Time { seconds: now.tv_sec, nanos: now.tv_nsec as u32 };
        Ok(Self { fd, path: path.into(), opened })
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The time when it was opened: metadata of its files is not older.
    pub fn opened(&self) -> Time {
        self.opened
    }

    /// Opens a path in it without following any link; by now it may be no regular file.
    ///
    /// # Errors
    /// If it is gone, a link, or may not be read.
    pub fn open_at(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
            Ok(file) => Ok(file),
            // A kernel before 5.6, or a filter of system calls from before it.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                self.open_stepwise(path, flags)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn open_stepwise(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let (parents, name) = split_last(path);
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut current: Option<OwnedFd> = None;
        for parent in components(parents) {
            let at = current.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            current = Some(rustix::fs::openat(at, parent, directory, Mode::empty())?);
        }
        let at = current.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
        Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
    }

    /// The folder's descriptor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl HostFile {
    /// Opens the file.
    ///
    /// # Errors
    /// If it is gone, may not be read, or is no regular file any more.
    pub fn open(&self) -> io::Result<File> {
        // NONBLOCK, because a pipe may have taken its place.
        let file = File::from(self.root.open_at(&self.path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file any more"));
        }
        Ok(file)
    }
}

impl Content {
    /// Opens the content for reading `size` bytes.
    ///
    /// # Errors
    /// If the file or its layer is missing.
    pub fn open(&self, size: u64, layers: &dyn LayerFiles) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Layer { diff_id, path } => layers.open_file(diff_id, path)?,
            Self::Host(file) => Box::new(file.open()?),
            Self::Bytes(bytes) => Box::new(io::Cursor::new(bytes.clone())),
            Self::Slice { file, offset } => Box::new(FileSlice::new(file.clone(), *offset, size)),
        })
    }

    /// The identity of its file.
    pub fn id(&self) -> ContentId {
        ContentId(match self {
            Self::Layer { diff_id, path } => Id::Layer(diff_id.clone(), path.clone()),
            Self::Host(file) => Id::Address(Arc::as_ptr(file).addr(), 0),
            Self::Bytes(bytes) => Id::Address(bytes.as_ptr().addr(), 0),
            Self::Slice { file, offset } => Id::Address(Arc::as_ptr(file).addr(), *offset),
        })
    }
}

/// A part of an open file.
pub struct FileSlice {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl FileSlice {
    /// Returns the `size` bytes at an offset.
    pub fn new(file: Arc<File>, offset: u64, size: u64) -> Self {
        Self { file, offset, left: size }
    }
}

impl Read for FileSlice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// True if two streams begin with the same `size` bytes.
///
/// # Errors
/// If one of them has fewer bytes or cannot be read.
pub fn same_bytes(size: u64, left: &mut dyn Read, right: &mut dyn Read) -> io::Result<bool> {
    let most = usize::try_from(size).unwrap_or(usize::MAX).min(64 << 10);
    let (mut left_bytes, mut right_bytes) = (vec![0; most], vec![0; most]);
    let (mut left, mut right) = (left.take(size), right.take(size));
    let mut position = 0;
    while position < size {
        let most = usize::try_from(size - position).unwrap_or(usize::MAX).min(most);
        left.read_exact(&mut left_bytes[..most])?;
        right.read_exact(&mut right_bytes[..most])?;
        if left_bytes[..most] != right_bytes[..most] {
            return Ok(false);
        }
        position += most as u64;
    }
    Ok(true)
}
