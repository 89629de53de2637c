//! Receiving a folder: only files that differ from what is here are asked for.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat as FileStat};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tonic::{Request, Status, Streaming};

use super::mode::{self, EntryType};
use super::order::Order;
use super::target::{self, OpenFolder};
use super::{FileSyncError, TransferLimits};
use crate::grpc::received;
use crate::proto::fsutil::{Packet, PacketType, Stat};
use crate::session::{ClientSession, put_values};

const DIFF_COPY: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// Files that are asked for and have not come. A sender queues 128 and does not read on: more would
/// make both wait.
const MOST_REQUESTED: usize = 64;

/// Packets that are taken at once: a thread that is woken for each does little else. A sender's have
/// at most 32 KiB.
const BATCH: usize = 64;
/// Batches on the way to the thread that takes them.
const BATCHES: usize = 2;

/// The time that a client may send nothing.
const PATIENCE: Duration = Duration::from_secs(300);
/// The time that a client has to end a transfer that is over.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The files of a client's folder that are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileSelection {
    /// The client's name of the folder.
    pub name: String,
    /// Paths that are wanted, with what their links lead to; all where empty.
    pub follow_paths: Vec<String>,
    /// Patterns of what is wanted; all where empty.
    pub include_patterns: Vec<String>,
    /// Patterns of what is not.
    pub exclude_patterns: Vec<String>,
}

/// The outcome of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Entries of the folder.
    pub entries: u64,
    /// Files that were sent.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of all files.
    pub announced: u64,
}

impl ClientSession {
    /// Makes a folder the same as the selected part of a client's. `staging` is an empty folder on
    /// the same file system. Blocks: call it on a thread of its own, in a runtime.
    ///
    /// # Errors
    /// If the client breaks off or breaks a rule, or the folder cannot be changed.
    pub(crate) fn receive(
        &self,
        selection: &FileSelection,
        folder: &Path,
        staging: &Path,
        limits: TransferLimits,
    ) -> Result<Received, FileSyncError> {
        let channel = self.channel_for(DIFF_COPY).map_err(|_| FileSyncError::NoFiles)?;
        let (send, outgoing) = mpsc::channel(2 * MOST_REQUESTED);
        let mut request = Request::new(received(outgoing));
        let metadata = request.metadata_mut();
        let name = std::slice::from_ref(&selection.name);
        put_values(metadata, "dir-name", "dir-name-encoded", name);
        for (key, encoded, values) in [
            ("followpaths", "followpaths-encoded", &selection.follow_paths),
            ("include-patterns", "include-patterns-encoded", &selection.include_patterns),
            ("exclude-patterns", "exclude-patterns-encoded", &selection.exclude_patterns),
        ] {
            put_values(metadata, key, encoded, values);
        }
        let runtime = Handle::current();
        let incoming = runtime.block_on(channel.streaming(DIFF_COPY, request))?;
        let root = OpenFolder::root(folder).map_err(|error| FileSyncError::io("", error))?;
        let staging = OpenFolder::root(staging).map_err(|error| FileSyncError::io("", error))?;
        let root_fd = root.fd.try_clone().map_err(|error| FileSyncError::io("", error))?;
        let receiver = Receiver::new(root_fd, staging.fd, limits, send);
        receiver.run(root, &runtime, incoming)
    }
}

/// A file that is wanted.
struct WantedFile {
    id: u32,
    stat: Stat,
}

/// A file that comes.
struct ComingFile {
    stat: Stat,
    /// Its temporary name, and the file; none before its first bytes.
    staged: Option<(String, File)>,
    bytes: u64,
}

/// The receiver of a folder.
pub(super) struct Receiver {
    root: OwnedFd,
    staging: OwnedFd,
    limits: TransferLimits,
    received: Received,
    /// Bytes of paths and links.
    names: u64,
    wanted: VecDeque<WantedFile>,
    requested: HashMap<u32, ComingFile>,
    /// Folders with their modes and times, which are set last.
    folders: Vec<Stat>,
    /// Hard links, made once the files that they are to are here.
    links: Vec<Stat>,
    staged: u64,
    send: mpsc::Sender<Packet>,
}

impl Receiver {
    /// A receiver of a folder into one that is open, with an empty one on the same file system.
    pub(super) fn new(
        root: OwnedFd,
        staging: OwnedFd,
        limits: TransferLimits,
        send: mpsc::Sender<Packet>,
    ) -> Self {
        Self {
            root,
            staging,
            limits,
            received: Received::default(),
            names: 0,
            wanted: VecDeque::new(),
            requested: HashMap::new(),
            folders: Vec::new(),
            links: Vec::new(),
            staged: 0,
            send,
        }
    }

    /// True if no file is wanted any more.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.requested.is_empty()
    }

    fn run(
        mut self,
        root: OpenFolder,
        runtime: &Handle,
        incoming: Streaming<Packet>,
    ) -> Result<Received, FileSyncError> {
        let (batches, mut packets) = mpsc::channel(BATCHES);
        runtime.spawn(collect(incoming, batches));
        let result = self.take_all(root, runtime, &mut packets);
        let last = match &result {
            Ok(()) => Packet { r#type: PacketType::Fin.into(), ..Packet::default() },
            Err(error) => Packet {
                r#type: PacketType::Err.into(),
                data: error.to_string().into(),
                ..Packet::default()
            },
        };
        // A client that has gone needs no answer.
        let _ = self.send.blocking_send(last);
        drop(self.send);
        result?;
        // The client says FIN too, and ends the call. One that does not is not waited for.
        let rest = async { while let Some(Ok(_)) = packets.recv().await {} };
        let _ = runtime.block_on(async { tokio::time::timeout(LAST_WORDS, rest).await });
        Ok(self.received)
    }

    /// Takes packets until the folder is complete.
    fn take_all(
        &mut self,
        root: OpenFolder,
        runtime: &Handle,
        packets: &mut mpsc::Receiver<Batch>,
    ) -> Result<(), FileSyncError> {
        let mut order = Some(Order::new(root));
        loop {
            let next =
                runtime.block_on(async { tokio::time::timeout(PATIENCE, packets.recv()).await });
            let batch = match next {
                Ok(Some(batch)) => batch?,
                Ok(None) => return Err(FileSyncError::Ended),
                Err(_) => return Err(FileSyncError::Silent),
            };
            for packet in batch {
                self.take(packet, &mut order)?;
                if order.is_none() && self.is_idle() {
                    return self.finish();
                }
            }
        }
    }

    /// Takes a packet.
    ///
    /// # Errors
    /// If it breaks a rule, or the folder cannot be changed.
    pub(super) fn take(
        &mut self,
        packet: Packet,
        order: &mut Option<Order<OpenFolder>>,
    ) -> Result<(), FileSyncError> {
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::Stat) => match (packet.stat, order.as_mut()) {
                (Some(stat), Some(order)) => self.entry(stat, order)?,
                (None, Some(_)) => {
                    let order = order.take().ok_or(FileSyncError::Protocol("a second end"))?;
                    order.finish(leave)?;
                }
                (_, None) => {
                    return Err(FileSyncError::Protocol("an entry after the last one"));
                }
            },
            Ok(PacketType::Data) => self.data(packet.id, &packet.data)?,
            Ok(PacketType::Err) => {
                let text: String =
                    String::from_utf8_lossy(&packet.data).chars().take(4096).collect();
                return Err(FileSyncError::Peer(text));
            }
            Ok(PacketType::Fin) => return Err(FileSyncError::Protocol("it ends before the files")),
            Ok(PacketType::Req) | Err(_) => {
                return Err(FileSyncError::Protocol("a packet of a wrong type"));
            }
        }
        self.request()
    }

    /// Takes the header of an entry.
    fn entry(
        &mut self,
        mut stat: Stat,
        order: &mut Order<OpenFolder>,
    ) -> Result<(), FileSyncError> {
        // They do not reach the image in BuildKit either.
        stat.xattrs.clear();
        let id = u32::try_from(self.received.entries)
            .map_err(|_| FileSyncError::Protocol("more entries than there are numbers"))?;
        self.received.entries += 1;
        if self.received.entries > self.limits.entries {
            return Err(FileSyncError::TooMuch { what: "entries", most: self.limits.entries });
        }
        self.names += (stat.path.len() + stat.linkname.len()) as u64;
        if self.names > self.limits.names {
            return Err(FileSyncError::TooMuch { what: "bytes of names", most: self.limits.names });
        }
        let path = stat.path.clone();
        let name = order.enter(&path, leave)?;
        let failed = |error: io::Error| FileSyncError::io(&path, error);
        let folder = order.folder();
        folder.names.insert(name.to_owned());
        let kind = mode::entry_type(stat.mode);
        match kind {
            EntryType::Directory => {
                let opened = folder.folder(name).map_err(failed)?;
                order.open(&path, opened);
                self.folders.push(stat);
            }
            EntryType::File if !stat.linkname.is_empty() => {
                // The other name is checked when the link is made.
                folder.clear(name).map_err(failed)?;
                self.links.push(stat);
            }
            EntryType::File => {
                let size = u64::try_from(stat.size)
                    .map_err(|_| FileSyncError::Protocol("a file has a negative size"))?;
                let announced = &mut self.received.announced;
                *announced = announced.saturating_add(size);
                if *announced > self.limits.bytes {
                    return Err(FileSyncError::TooMuch { what: "bytes", most: self.limits.bytes });
                }
                let known = folder.stat(name).map_err(failed)?;
                if !known.is_some_and(|known| is_same(&known, &stat)) {
                    self.wanted.push_back(WantedFile { id, stat });
                }
            }
            EntryType::Symlink => symlink(folder, name, &stat).map_err(failed)?,
            EntryType::NamedPipe | EntryType::Socket => {
                special(folder, name, &stat).map_err(failed)?;
            }
            EntryType::Other => {
                return Err(FileSyncError::Path { path, reason: "a device cannot be sent" });
            }
        }
        Ok(())
    }

    /// Asks for the next files.
    fn request(&mut self) -> Result<(), FileSyncError> {
        while self.requested.len() < MOST_REQUESTED
            && let Some(WantedFile { id, stat }) = self.wanted.pop_front()
        {
            let request = Packet { r#type: PacketType::Req.into(), id, ..Packet::default() };
            self.send.blocking_send(request).map_err(|_| FileSyncError::Ended)?;
            self.requested.insert(id, ComingFile { stat, staged: None, bytes: 0 });
        }
        Ok(())
    }

    /// Takes bytes of a file; none are its end.
    fn data(&mut self, id: u32, data: &[u8]) -> Result<(), FileSyncError> {
        let Some(file) = self.requested.get_mut(&id) else {
            return Err(FileSyncError::Protocol("bytes of a file that was not asked for"));
        };
        let path = &file.stat.path;
        let failed = |error: io::Error| FileSyncError::io(path, error);
        let announced = file.stat.size.unsigned_abs();
        let sent = file.bytes + data.len() as u64;
        if sent > announced || data.is_empty() && sent < announced {
            let sent = sent.min(announced + 1);
            return Err(FileSyncError::Size { path: path.clone(), announced, sent });
        }
        if file.staged.is_none() {
            let name = self.staged.to_string();
            self.staged += 1;
            let opened = target::create(self.staging.as_fd(), &name).map_err(failed)?;
            file.staged = Some((name, opened));
        }
        if let Some((_, opened)) = &mut file.staged
            && !data.is_empty()
        {
            file.bytes = sent;
            return opened.write_all(data).map_err(failed);
        }
        let Some(ComingFile { stat, staged: Some((name, opened)), bytes }) =
            self.requested.remove(&id)
        else {
            return Ok(());
        };
        self.received.files += 1;
        self.received.bytes += bytes;
        self.place(&stat, &name, &opened).map_err(|error| FileSyncError::io(&stat.path, error))
    }

    /// Moves a file that came to its name.
    fn place(&self, stat: &Stat, staged: &str, file: &File) -> io::Result<()> {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode::permissions(stat.mode)))?;
        target::set_time(self.staging.as_fd(), staged, stat.mod_time)?;
        let (folder, name) = target::parent(self.root.as_fd(), &stat.path)?;
        match rustix::fs::renameat(&self.staging, staged, &folder, name) {
            // A folder had this name.
            Err(rustix::io::Errno::ISDIR | rustix::io::Errno::NOTEMPTY) => {
                OpenFolder { fd: folder.try_clone()?, names: Default::default() }.clear(name)?;
                Ok(rustix::fs::renameat(&self.staging, staged, &folder, name)?)
            }
            renamed => Ok(renamed?),
        }
    }

    /// Makes hard links, then sets the modes and times of folders, the innermost first.
    ///
    /// # Errors
    /// If a link leads to no file of the folder, or the folder cannot be changed.
    pub(super) fn finish(&mut self) -> Result<(), FileSyncError> {
        for stat in std::mem::take(&mut self.links) {
            self.link(&stat)?;
        }
        for stat in std::mem::take(&mut self.folders).into_iter().rev() {
            self.finish_folder(&stat).map_err(|error| FileSyncError::io(&stat.path, error))?;
        }
        Ok(())
    }

    fn link(&self, stat: &Stat) -> Result<(), FileSyncError> {
        let refused = |reason| FileSyncError::Path { path: stat.linkname.clone(), reason };
        let failed = |error: io::Error| FileSyncError::io(&stat.path, error);
        // A path of the same rules; it leads to a file that came before.
        for name in stat.linkname.split('/') {
            if matches!(name, "" | "." | "..") || name.contains('\0') {
                return Err(refused("a hard link leads out of the folder"));
            }
        }
        let found = target::parent(self.root.as_fd(), &stat.linkname);
        let (from, old) = found.map_err(|_| refused("a hard link leads to no file"))?;
        let (to, new) = target::parent(self.root.as_fd(), &stat.path).map_err(failed)?;
        let known = rustix::fs::statat(&from, old, AtFlags::SYMLINK_NOFOLLOW);
        let is_file = known
            .is_ok_and(|known| FileType::from_raw_mode(known.st_mode) == FileType::RegularFile);
        if !is_file {
            return Err(refused("a hard link leads to no file"));
        }
        rustix::fs::linkat(&from, old, &to, new, AtFlags::empty())
            .map_err(|errno| failed(errno.into()))
    }

    fn finish_folder(&self, stat: &Stat) -> io::Result<()> {
        let (folder, name) = target::parent(self.root.as_fd(), &stat.path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
        let (known, wanted) = (rustix::fs::fstat(&opened)?, mode::permissions(stat.mode));
        if known.st_mode & 0o7777 != wanted {
            rustix::fs::fchmod(&opened, Mode::from_raw_mode(wanted))?;
        }
        if target::time_of(&known) == stat.mod_time {
            return Ok(());
        }
        target::set_time(folder.as_fd(), name, stat.mod_time)
    }
}

/// Packets that came together, or why no more come.
type Batch = Result<Vec<Packet>, Status>;

/// Collects packets until the stream ends, or the other end of the channel has gone.
async fn collect(incoming: Streaming<Packet>, batches: mpsc::Sender<Batch>) {
    let mut incoming = incoming.ready_chunks(BATCH);
    loop {
        let next = tokio::select! {
            next = incoming.next() => next,
            () = batches.closed() => return,
        };
        let Some(results) = next else { return };
        let mut packets = Vec::with_capacity(results.len());
        let mut failed = None;
        for result in results {
            match result {
                Ok(packet) => packets.push(packet),
                Err(status) => failed = Some(status),
            }
        }
        let sent = batches.send(Ok(packets)).await;
        if let Some(status) = failed {
            // Nothing comes after an error.
            drop(batches.send(Err(status)).await);
            return;
        }
        if sent.is_err() {
            return;
        }
    }
}

/// Removes what is left of earlier transfers from a folder that is complete.
fn leave(path: &str, folder: OpenFolder) -> Result<(), FileSyncError> {
    folder.remove_others().map_err(|error| FileSyncError::io(path, error))
}

/// True if a file need not be sent (fsutil's comparison of headers). One with several names may
/// have them no more.
fn is_same(known: &FileStat, stat: &Stat) -> bool {
    FileType::from_raw_mode(known.st_mode) == FileType::RegularFile
        && known.st_nlink == 1
        && known.st_size == stat.size
        && known.st_mode & 0o7777 == mode::permissions(stat.mode)
        && target::time_of(known) == stat.mod_time
}

fn symlink(folder: &OpenFolder, name: &str, stat: &Stat) -> io::Result<()> {
    let known = rustix::fs::readlinkat(&folder.fd, name, Vec::new());
    if !known.is_ok_and(|known| known.to_bytes() == stat.linkname.as_bytes()) {
        folder.clear(name)?;
        rustix::fs::symlinkat(stat.linkname.as_str(), &folder.fd, name)?;
    }
    target::set_time(folder.fd.as_fd(), name, stat.mod_time)
}

/// A pipe, or the empty file that a socket becomes.
fn special(folder: &OpenFolder, name: &str, stat: &Stat) -> io::Result<()> {
    folder.clear(name)?;
    let permissions = Mode::from_raw_mode(mode::permissions(stat.mode));
    if mode::entry_type(stat.mode) == EntryType::NamedPipe {
        rustix::fs::mknodat(&folder.fd, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        rustix::fs::chmodat(&folder.fd, name, permissions, AtFlags::empty())?;
    } else {
        let file = target::create(folder.fd.as_fd(), name)?;
        rustix::fs::fchmod(&file, permissions)?;
    }
    target::set_time(folder.fd.as_fd(), name, stat.mod_time)
}
