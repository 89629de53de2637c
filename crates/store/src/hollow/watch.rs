//! Opens of files that are held until their contents are there: fanotify's permission events.
//!
//! The folders of hollow layers are marked, not the overlays on them. Whoever opens a file of a
//! marked folder waits for an answer, and so does the overlay itself, when it opens the file for a
//! reader or copies it for a change of its mode (since Linux 6.7; `Runtime::reports_opens` tries it).

use std::collections::HashSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags,
    Response,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::fstat;

use super::HollowLayer;
use crate::disk::lock;

/// The pause after the kernel refused to hand an event over, for want of descriptors: it has denied
/// that open.
const PAUSE: Duration = Duration::from_millis(10);

/// The hollow layers of a process, and the opens of their files.
pub(crate) struct OpenWatch {
    shared: Arc<Shared>,
    writing: Arc<RwLock<()>>,
    /// Its end is that of the thread.
    _end: OwnedFd,
}

/// A share in the watch, for whoever starts processes that open files of hollow layers.
pub struct OpenShare {
    /// The group's descriptor. As long as any process has it, an open that waits goes on waiting, even
    /// when this process is gone: so the init process of a container keeps it until the container is
    /// gone too.
    pub descriptor: OwnedFd,
    /// Locked for reading while contents are written. Whoever starts a process locks it for writing: the
    /// child has this process's descriptors until it executes its program, and a file that anybody has
    /// open for writing cannot be executed (ETXTBSY).
    pub writing: Arc<RwLock<()>>,
}

struct Shared {
    group: Fanotify,
    layers: Mutex<Vec<Weak<HollowLayer>>>,
    /// The threads that write contents: their own opens are answered at once.
    writers: Mutex<HashSet<i32>>,
}

/// An open that waits for its answer. Dropped without one, it is denied.
pub(crate) struct HeldOpen {
    event: FanotifyEvent,
    shared: Arc<Shared>,
    is_answered: bool,
}

impl OpenWatch {
    /// Starts to watch.
    ///
    /// # Errors
    /// If this process may not (it takes CAP_SYS_ADMIN outside of user namespaces), or the kernel
    /// cannot.
    pub(crate) fn start() -> std::io::Result<Self> {
        let flags = InitFlags::FAN_CLASS_PRE_CONTENT
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_REPORT_TID
            | InitFlags::FAN_UNLIMITED_QUEUE
            | InitFlags::FAN_UNLIMITED_MARKS;
        let event_flags = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC | EventFFlags::O_LARGEFILE;
        let group = Fanotify::init(flags, event_flags)?;
        let (ended, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let shared =
            Arc::new(Shared { group, layers: Mutex::default(), writers: Mutex::default() });
        let watching = shared.clone();
        std::thread::Builder::new()
            .name("opens".into())
            .spawn(move || watching.answer_until(&ended))?;
        Ok(Self { shared, writing: Arc::default(), _end: end })
    }

    /// Has opens of the files in a folder held; `path` is relative to `root`, without links.
    pub(crate) fn mark(&self, root: BorrowedFd<'_>, path: &[u8]) -> std::io::Result<()> {
        let path = if path.is_empty() { b"." } else { path };
        let flags =
            MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_ONLYDIR | MarkFlags::FAN_MARK_DONT_FOLLOW;
        let mask = MaskFlags::FAN_OPEN_PERM | MaskFlags::FAN_EVENT_ON_CHILD;
        Ok(self.shared.group.mark(flags, mask, root, Some(path))?)
    }

    /// Adds a layer. Opens of files that are in none are not held up.
    pub(crate) fn add(&self, layer: &Arc<HollowLayer>) {
        let mut layers = lock(&self.shared.layers);
        layers.retain(|layer| layer.strong_count() > 0);
        layers.push(Arc::downgrade(layer));
    }

    pub(crate) fn share(&self) -> std::io::Result<OpenShare> {
        let descriptor = self.shared.group.as_fd().try_clone_to_owned()?;
        Ok(OpenShare { descriptor, writing: self.writing.clone() })
    }

    /// Does some work on a thread whose own opens are not held.
    pub(crate) fn writing<T>(&self, work: impl FnOnce() -> T) -> T {
        let _writing = self.writing.read().unwrap_or_else(PoisonError::into_inner);
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        lock(&self.shared.writers).insert(thread);
        let done = work();
        lock(&self.shared.writers).remove(&thread);
        done
    }
}

impl Shared {
    /// Answers until the other end of a pipe is closed. An error ends nothing: then opens would wait
    /// for ever, or be allowed.
    fn answer_until(self: &Arc<Self>, ended: &OwnedFd) {
        loop {
            let mut files =
                [PollFd::new(&self.group, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
            let _ = poll(&mut files, None);
            if files[1].revents().contains(PollFlags::HUP) {
                return;
            }
            match self.group.read_events() {
                Ok(events) => events.into_iter().for_each(|event| self.answer(event)),
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn answer(self: &Arc<Self>, event: FanotifyEvent) {
        let thread = event.pid();
        let held = HeldOpen { event, shared: self.clone(), is_answered: false };
        if lock(&self.writers).contains(&thread) {
            return held.allow();
        }
        let Some(stat) = held.event.fd().and_then(|fd| fstat(fd).ok()) else { return };
        let layers = lock(&self.layers);
        let found = layers.iter().filter_map(Weak::upgrade).find_map(|layer| {
            let file = layer.file_of(stat.st_dev, stat.st_ino)?;
            Some((layer, file))
        });
        drop(layers);
        match found {
            Some((layer, file)) => layer.opened(file, held),
            None => held.allow(),
        }
    }
}

impl HeldOpen {
    /// Lets the open go on.
    pub(crate) fn allow(mut self) {
        self.send(Response::FAN_ALLOW);
    }

    fn send(&mut self, response: Response) {
        if self.is_answered {
            return;
        }
        self.is_answered = true;
        if let Some(fd) = self.event.fd() {
            // An error: whoever waited was killed.
            let _ = self.shared.group.write_response(FanotifyResponse::new(fd, response));
        }
    }
}

impl Drop for HeldOpen {
    fn drop(&mut self) {
        self.send(Response::FAN_DENY);
    }
}
