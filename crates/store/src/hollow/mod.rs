//! Layers that are not here and can be mounted all the same: folders, links, headers and sizes by
//! the index, and files whose contents come when they are opened.
//!
//! A file is allocated in full and empty. Its first open waits ([`watch`]) until its contents are
//! there, read by the seek table of the layer's blob and checked by the digests in it. A layer like
//! this belongs to one build, and is never taken for an unpacked one.

mod make;
mod private;
mod watch;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, OnceLock};

use layer::tar::header_bytes;
use layer::{BlockRange, CAPABILITY, Entry, LayerIndex, SeekTable, shown};
use oci::{Descriptor, Digest, Hasher};
use rustix::fs::{OFlags, Timespec, Timestamps, XattrFlags, fsetxattr, fstat, futimens};

pub(crate) use self::private::{PrivateLayer, PrivateLayers};
use self::watch::HeldOpen;
pub use self::watch::OpenShare;
pub(crate) use self::watch::OpenWatch;
use crate::disk::lock;
use crate::folder::open_beneath;
use crate::loans::Loans;
use crate::{Error, Result};

/// Bytes between two blocks up to which both are read in one range.
const GAP: u64 = 256 << 10;
/// Bytes that are requested at once, and held in memory.
const AT_ONCE: u64 = 8 << 20;
/// Bytes of a file that are written at once.
const PIECE: usize = 1 << 20;

/// The number of a file in a hollow layer.
pub type FileNumber = u32;

/// Receives the files that are opened and have no contents yet. Must not wait.
pub type Filler = Box<dyn Fn(FileNumber) + Send + Sync>;

/// A layer whose files are filled when they are opened.
pub struct HollowLayer {
    diff_id: Digest,
    blob: Descriptor,
    index: Arc<LayerIndex>,
    /// The build's loans, if the index is one: the digests of what is read are noted there.
    loans: Option<Arc<Loans>>,
    watch: Arc<OpenWatch>,
    root: Arc<OwnedFd>,
    device: u64,
    /// Files with contents, in the order of the archive.
    files: Vec<HollowFile>,
    by_inode: HashMap<u64, FileNumber>,
    /// The layer's archive, with holes for the blocks that were not read.
    archive: File,
    state: Mutex<State>,
    /// Held while a file is written: one that is open for writing twice could be let go, and executed
    /// (ETXTBSY), before the second writer is done.
    writing: Mutex<()>,
    filler: OnceLock<Filler>,
}

/// A file with contents.
struct HollowFile {
    /// The number of its entry in the index.
    entry: u32,
    /// Bytes of the header in the archive, right before the contents; 0 if it is not known.
    header: u32,
    /// The place of the contents.
    content: Range<u64>,
}

struct State {
    /// The blocks that are in the archive.
    blocks: Vec<bool>,
    filled: Vec<bool>,
    /// Opens that wait for a file.
    waiting: HashMap<FileNumber, Vec<HeldOpen>>,
    /// Files that were opened since the listing began.
    opened: HashSet<FileNumber>,
    /// True once contents cannot be had any more.
    is_lost: bool,
    /// Bytes of the blob that were read.
    read: u64,
}

impl std::fmt::Debug for HollowLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HollowLayer").field("diff_id", &self.diff_id).finish_non_exhaustive()
    }
}

impl HollowLayer {
    /// The layer.
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// The layer's blob.
    pub(crate) fn blob_digest(&self) -> Digest {
        self.blob.digest
    }

    /// The number of bytes of the blob that were read, and the blob's size.
    pub fn progress(&self) -> (u64, u64) {
        (lock(&self.state).read, self.blob.size)
    }

    /// Begins a new list of the files that are opened.
    pub fn list_opened_from_now(&self) {
        let mut state = lock(&self.state);
        state.opened.clear();
    }

    /// Returns the paths of the files that were opened, in the order of the index.
    pub fn opened_paths(&self) -> Vec<Box<[u8]>> {
        let mut opened: Vec<FileNumber> = lock(&self.state).opened.iter().copied().collect();
        opened.sort_unstable();
        opened.into_iter().map(|file| self.entry(file).path.clone()).collect()
    }

    /// Returns the files at some paths that are still empty.
    pub fn empty_files(&self, paths: &[Box<[u8]>]) -> Vec<FileNumber> {
        let paths: HashSet<&[u8]> = paths.iter().map(|path| &**path).collect();
        let is_wanted = |file: &FileNumber| paths.contains(&*self.entry(*file).path);
        let state = lock(&self.state);
        let all = 0..self.files.len() as FileNumber;
        all.filter(|file| !state.filled[*file as usize]).filter(is_wanted).collect()
    }

    /// Returns the files that must be filled before anything sees the layer: writing takes away a
    /// program's capabilities, which others could miss meanwhile.
    pub fn first_files(&self) -> Vec<FileNumber> {
        let is_first = |file: &FileNumber| {
            self.entry(*file).xattrs.iter().any(|(name, _)| **name == *CAPABILITY)
        };
        (0..self.files.len() as FileNumber).filter(is_first).collect()
    }

    /// Sets the receiver of files that are opened. Only the first call has an effect.
    pub fn fill_by(&self, filler: Filler) {
        let _ = self.filler.set(filler);
    }

    /// Returns the ranges of the blob that are missing for some files.
    ///
    /// # Errors
    /// If the seek table is not long enough.
    pub fn missing(&self, files: &[FileNumber]) -> Result<Vec<BlockRange>> {
        let wrong = || Error::from(layer::Error::WrongBlock(self.blob.digest));
        let wanted: Vec<Range<u64>> = files.iter().map(|file| self.file(*file).whole()).collect();
        let table = self.table().ok_or_else(wrong)?;
        let mut blocks = table.blocks_of(&wanted).ok_or_else(wrong)?;
        let state = lock(&self.state);
        blocks.retain(|block| !state.blocks[*block]);
        Ok(table.ranges(&blocks, GAP, AT_ONCE, &self.blob))
    }

    /// Stores the bytes of a range of the blob; `sent` of them came over the network.
    ///
    /// # Errors
    /// If they are not those of the blocks, or the disk refuses.
    pub fn put(&self, range: &BlockRange, bytes: &[u8], sent: u64) -> Result<()> {
        let wrong = || layer::Error::WrongBlock(self.blob.digest);
        let (at, content) = self.table().ok_or_else(wrong)?.decode(&self.blob, range, bytes)?;
        self.archive
            .write_all_at(&content, at)
            .map_err(Error::file("keep blocks of", self.diff_id.to_string()))?;
        let mut state = lock(&self.state);
        range.blocks.clone().for_each(|block| state.blocks[block] = true);
        state.read += sent;
        Ok(())
    }

    /// Fills a file whose blocks are all here, and lets its opens go on.
    ///
    /// # Errors
    /// If a block is missing, the archive has something else there, or the disk refuses.
    pub fn fill(&self, file: FileNumber) -> Result<()> {
        let writing = lock(&self.writing);
        if !lock(&self.state).filled[file as usize] {
            if !self.missing(&[file])?.is_empty() {
                return Err(layer::Error::WrongBlock(self.blob.digest).into());
            }
            self.watch.writing(|| self.write(file))?;
        }
        let mut state = lock(&self.state);
        state.filled[file as usize] = true;
        let waiting = state.waiting.remove(&file).unwrap_or_default();
        drop((state, writing));
        waiting.into_iter().for_each(HeldOpen::allow);
        Ok(())
    }

    /// Denies all opens of files without contents from now on.
    pub fn give_up(&self) {
        let mut state = lock(&self.state);
        state.is_lost = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    /// The file with an inode.
    fn file_of(&self, device: u64, inode: u64) -> Option<FileNumber> {
        (device == self.device).then(|| self.by_inode.get(&inode).copied())?
    }

    /// Answers an open, or has the file filled first.
    fn opened(&self, file: FileNumber, held: HeldOpen) {
        let mut state = lock(&self.state);
        state.opened.insert(file);
        if state.filled[file as usize] {
            drop(state);
            return held.allow();
        }
        let Some(filler) = self.filler.get().filter(|_| !state.is_lost) else { return };
        let waiting = state.waiting.entry(file).or_default();
        waiting.push(held);
        if waiting.len() == 1 {
            drop(state);
            filler(file);
        }
    }

    fn file(&self, file: FileNumber) -> &HollowFile {
        &self.files[file as usize]
    }

    fn entry(&self, file: FileNumber) -> &Entry {
        &self.index.entries()[self.file(file).entry as usize]
    }

    fn table(&self) -> Option<&SeekTable> {
        self.index.seek_table(&self.blob)
    }

    fn write(&self, number: FileNumber) -> Result<()> {
        let (file, entry) = (self.file(number), self.entry(number));
        let wrong = || Error::from(layer::Error::WrongBlock(self.blob.digest));
        let failed = || Error::file::<io::Error>("fill", shown(&entry.path));
        let mut header = vec![0; file.header as usize];
        self.archive.read_exact_at(&mut header, file.whole().start).map_err(Error::read_archive)?;
        if file.header > 0 && header != header_bytes(entry)? {
            return Err(wrong());
        }
        let target = open_beneath(self.root.as_fd(), &entry.path, OFlags::WRONLY)
            .map_err(|errno| failed()(errno.into()))?;
        let stat = fstat(&target).map_err(|errno| failed()(errno.into()))?;
        if self.file_of(stat.st_dev, stat.st_ino) != Some(number) {
            return Err(wrong());
        }
        let target = File::from(target);
        let mut hasher = self.loans.as_ref().map(|_| Hasher::new());
        let mut piece = vec![0; PIECE.min((file.content.end - file.content.start) as usize)];
        let mut at = file.content.start;
        while at < file.content.end {
            let size = piece.len().min((file.content.end - at) as usize);
            let piece = &mut piece[..size];
            self.archive.read_exact_at(piece, at).map_err(Error::read_archive)?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&*piece);
            }
            target.write_all_at(piece, at - file.content.start).map_err(failed())?;
            at += size as u64;
        }
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| **name == *CAPABILITY) {
            fsetxattr(&target, &**name, value, XattrFlags::empty())
                .map_err(|errno| failed()(errno.into()))?;
        }
        let time = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanos.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        futimens(&target, &times).map_err(|errno| failed()(errno.into()))?;
        if let (Some(loans), Some(hasher)) = (&self.loans, hasher) {
            loans.note_file(&self.diff_id, &Arc::from(&*entry.path), hasher.finish());
        }
        Ok(())
    }
}

impl HollowFile {
    /// The bytes of the archive that are read for it.
    fn whole(&self) -> Range<u64> {
        self.content.start - u64::from(self.header)..self.content.end
    }
}
