//! A command in place: the container's root takes the place of the root of the container that kiln runs in. For
//! containers in which neither namespaces nor chroot are allowed.
//!
//! The files in `/` are moved aside, those of the container's root are moved there, and afterwards both go back. Mounts
//! stay, with the folders around them, and so do kiln's own root and binary. The folder aside has a journal, locked by
//! this process: a kiln that finds one without a lock puts the container's files back.
//!
//! The files that a shell needs leave last and come back first. On an overlay, a folder of a lower layer moves file by file, each
//! of which the kernel copies; that is the first exchange, which stops at once when kiln is gone. The way back is by
//! rename, because what was moved once is in the upper layer.

mod moving;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::chroot::{fill_wanted, open_directory, refuse};
use crate::error::Error;
use crate::init::command::{Never, WorkingFolder, become_and_execute, die_with_parent, prepare};
use crate::init::outside::Outside;
use crate::init::processes::Children;
use crate::init::strays::{self, Sign};
use crate::init::watch::{CommandProcess, CommandWatch, NoReturn, Rung};
use crate::sys::{self, Forked};
use crate::wire::{FailureKind, InitReport, RunOrders, SetupFailure, StepContext, tell};

use self::moving::{FolderMetadata, Mover, NEVER, Stop, is_folder, make_folder, need};

/// Runs a container to its end.
pub fn run(orders: &RunOrders, outside: Outside<'_>) -> Result<InitReport, SetupFailure> {
    let Outside { control, signals, streams } = outside;
    let container = &orders.container;
    refuse(container)?;
    let aside = orders.aside()?;
    sys::hide_from_others();
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut children = Children::adopt()?;
    let (directory, mut root) = open_directory(container)?;
    let prepared = prepare(container, &mut root, WorkingFolder::Made)?;
    let placer = fill_wanted(orders, aside, &mut root);
    tell(control, &InitReport::Stubs(root.take_stubs()));
    let placer = placer?;
    // A signal that ends this process would leave the container without its files.
    sys::block_signals().step(|| "keep signals off".into())?;
    let exchange = Exchange::begin(directory, orders, &|| has_hung_up(control))?;
    match sys::fork(None).step(|| "fork the container's first process".into())? {
        Forked::Child => {
            // Nothing of the parent's is to be put back twice.
            let _no_return = NoReturn;
            signals.restore();
            let become_command = || -> Result<Never, SetupFailure> {
                die_with_parent()?;
                rustix::process::setsid().step(|| "start a session".into())?;
                sys::leave_keyring();
                streams.take_on("/dev/ptmx", orders.terminal)?;
                rustix::process::chdir("/").step(|| "enter the root".into())?;
                become_and_execute(container, prepared, || Ok(()))
            };
            let Err(failure) = become_command();
            tell(control, &InitReport::Failed(failure));
            Ok(InitReport::Exited(127))
        }
        Forked::Parent(pid) => {
            drop(streams);
            let first = CommandProcess::first(pid, control, None)?;
            let status = CommandWatch::new(signals, OnlyCommand, first).run();
            children.end_all();
            let ended = exchange.end();
            drop(placer);
            ended?;
            status.map(InitReport::Exited)
        }
    }
}

/// A command that no other joins: there is one root for all.
struct OnlyCommand;

impl Rung for OnlyCommand {
    fn take_over(&mut self, _: &[u8], _: Vec<OwnedFd>) -> Option<OwnedFd> {
        None
    }

    fn fork(&mut self) -> rustix::io::Result<Forked> {
        Err(Errno::NOSYS)
    }

    fn join(&mut self, _: &mut UnixStream, _: &UnixStream) -> Result<Never, SetupFailure> {
        Err(Errno::NOSYS).step(|| "run another command in place".into())
    }

    fn begun(&mut self, _: i32) {}

    fn serve(&mut self, _: &OwnedFd) -> rustix::io::Result<()> {
        Err(Errno::NOSYS)
    }
}

/// Looks whether kiln is gone, or wants the command's end.
fn has_hung_up(control: &UnixStream) -> bool {
    let mut ready = [PollFd::new(control, PollFlags::IN | PollFlags::HUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut ready, Some(&now)), Ok(count) if count > 0)
}

/// The progress of an exchange. In the first and the last phase the shared folders hold the container's own files, in the
/// second the image's: a recovery may remove them in the second alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// The container's own files go aside.
    Leaving,
    /// They are all aside; the image's come, are there, or go.
    Inside,
    /// The image's are all gone; the container's own come back.
    Returning,
}

/// The journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Journal {
    phase: Phase,
    /// Folders that stay because something in them does, the upper ones first, below the top.
    shared: Vec<PathBuf>,
    /// Their owners, modes and times in the container, in the same order.
    headers: Vec<FolderMetadata>,
    /// The paths that are never moved, below the top.
    fixed: BTreeSet<PathBuf>,
}

/// The container's files are aside, and the root's in their place.
struct Exchange {
    /// `/`.
    top: PathBuf,
    root: PathBuf,
    /// The folder of the container's own files, the journal and its lock.
    state: PathBuf,
    journal: Journal,
    _lock: File,
}

impl Exchange {
    fn begin(root: &Path, orders: &RunOrders, stop: Stop<'_>) -> Result<Exchange, SetupFailure> {
        let state: &Path = &orders.in_place;
        let failed = |what: &str, error: &io::Error| {
            SetupFailure::new(
                FailureKind::Step,
                what.to_owned(),
                Errno::from_io_error(error).unwrap_or(Errno::IO),
            )
        };
        let fixed = fixed(&orders.kept).map_err(|error| failed("read what is mounted", &error))?;
        Exchange::begin_at((Path::new("/"), root, state), fixed, stop).map_err(|error| {
            failed(
                "exchange the container's files (is kiln's root on the container's own disk, and no other kiln \
                 working in place?)",
                &error,
            )
        })
    }

    fn begin_at(
        (top, root, state): (&Path, &Path, &Path),
        fixed: BTreeSet<PathBuf>,
        stop: Stop<'_>,
    ) -> io::Result<Exchange> {
        let lock = lock(state)?;
        recover_locked(top, state)?;
        make_folder(&state.join(OWN))?;
        let shared = shared(&fixed);
        let headers: io::Result<_> =
            shared.iter().map(|folder| FolderMetadata::of(&top.join(folder))).collect();
        let journal = Journal { phase: Phase::Leaving, shared, headers: headers?, fixed };
        let (top, root, state) = (top.to_owned(), root.to_owned(), state.to_owned());
        let mut exchange = Exchange { top, root, state, journal, _lock: lock };
        exchange.journal.write(&exchange.state)?;
        let begun = exchange.put_aside(stop).and_then(|()| {
            exchange.journal.enter(Phase::Inside, &exchange.state)?;
            exchange.bring_in(stop)
        });
        match begun {
            Ok(()) => Ok(exchange),
            Err(error) => {
                // The next kiln puts back the rest.
                let _ = put_back(&exchange.journal, &exchange.top, &exchange.state, &exchange.root);
                Err(error)
            }
        }
    }

    /// The container's own files go aside.
    fn put_aside(&self, stop: Stop<'_>) -> io::Result<()> {
        let own = self.state.join(OWN);
        let mut leaving = Vec::new();
        for folder in &self.journal.shared {
            make_folder(&own.join(folder))?;
            let names = self.journal.movable(&self.top, folder)?;
            leaving.extend(names.into_iter().map(|name| folder.join(name)));
        }
        leaving.sort_by_key(|path| std::cmp::Reverse(need(path)));
        let mover = Mover { state: &self.state, stop };
        leaving.iter().try_for_each(|path| mover.move_entry(&self.top.join(path), &own.join(path)))
    }

    /// The image's files come.
    fn bring_in(&self, stop: Stop<'_>) -> io::Result<()> {
        let mover = Mover { state: &self.state, stop };
        for folder in &self.journal.shared {
            let (here, there) = (self.top.join(folder), self.root.join(folder));
            if !is_folder(&there) {
                continue;
            }
            let header = FolderMetadata::of(&there)?;
            for entry in fs::read_dir(&there)? {
                let name = entry?.file_name();
                // A fixed path hides the root's file of that name.
                if here.join(&name).symlink_metadata().is_err() {
                    mover.move_entry(&there.join(&name), &here.join(&name))?;
                }
            }
            header.give(&here)?;
        }
        Ok(())
    }

    /// Puts everything back.
    fn end(self) -> Result<(), SetupFailure> {
        put_back(&self.journal, &self.top, &self.state, &self.root).map_err(|error| {
            SetupFailure::new(
                FailureKind::Step,
                "put the container's own files back",
                Errno::from_io_error(&error).unwrap_or(Errno::IO),
            )
        })
    }
}

impl Journal {
    /// Makes it what is found after a kill, or after the machine's end: whole, and on the disk.
    fn write(&self, state: &Path) -> io::Result<()> {
        let part = state.join("journal.part");
        let mut file = File::create(&part)?;
        io::Write::write_all(&mut file, &serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&part, state.join(JOURNAL))?;
        File::open(state)?.sync_all()
    }

    fn enter(&mut self, phase: Phase, state: &Path) -> io::Result<()> {
        self.phase = phase;
        self.write(state)
    }

    /// The names in a shared folder that neither stay nor are shared themselves.
    fn movable(&self, top: &Path, folder: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(top.join(folder))? {
            let name = entry?.file_name();
            let path = folder.join(&name);
            if !self.fixed.contains(&path) && !self.shared.contains(&path) {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// Ends an exchange, wherever it has come to: the image's files, if it is they that are there, go to `root`, and the
/// container's own come back. Goes on after a failure, and tells the first: what can be put back is.
fn put_back(journal: &Journal, top: &Path, state: &Path, root: &Path) -> io::Result<()> {
    let mut journal = journal.clone();
    let mut result = Ok(());
    if journal.phase == Phase::Inside {
        result = send_out(&journal, (top, state), root);
        if journal.enter(Phase::Returning, state).is_err() {
            // The disk is full: better nothing to go by than what is no longer true.
            fs::remove_file(state.join(JOURNAL))?;
        }
    }
    bring_back(&journal, top, state)?;
    match fs::remove_file(state.join(JOURNAL)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => result,
    }
}

/// The image's files go.
fn send_out(journal: &Journal, (top, state): (&Path, &Path), root: &Path) -> io::Result<()> {
    let mover = Mover { state, stop: NEVER };
    let mut result = Ok(());
    for folder in &journal.shared {
        let (here, there) = (top.join(folder), root.join(folder));
        let sent = || -> io::Result<()> {
            let header = FolderMetadata::of(&here)?;
            let names = journal.movable(top, folder)?;
            if names.is_empty() && !is_folder(&there) {
                return Ok(());
            }
            make_folder(&there)?;
            let mut moved = Ok(());
            for name in names {
                moved = moved.and(mover.move_entry(&here.join(&name), &there.join(&name)));
            }
            moved.and(header.give(&there))
        };
        result = result.and(sent());
    }
    result
}

/// The container's own files come back. Nothing that is in the shared folders goes.
fn bring_back(journal: &Journal, top: &Path, state: &Path) -> io::Result<()> {
    let (own, mover) = (state.join(OWN), Mover { state, stop: NEVER });
    let mut result = Ok(());
    let mut coming = Vec::new();
    for folder in journal.shared.iter().filter(|folder| is_folder(&own.join(folder))) {
        for entry in fs::read_dir(own.join(folder))? {
            let path = folder.join(entry?.file_name());
            if !journal.shared.contains(&path) {
                coming.push(path);
            }
        }
    }
    coming.sort_by_key(|path| need(path));
    for path in &coming {
        result = result.and(mover.move_entry(&own.join(path), &top.join(path)));
    }
    for (folder, header) in journal.shared.iter().zip(&journal.headers) {
        result = result.and(header.give(&top.join(folder)));
    }
    result?;
    // Nothing but the shared folders, now empty: what is not is the container's, and is kept.
    for folder in journal.shared.iter().rev().map(|folder| own.join(folder)) {
        if is_folder(&folder) {
            fs::remove_dir(folder)?;
        }
    }
    Ok(())
}

/// The container's own files, in the state's folder.
const OWN: &str = "own";
/// The journal's name in the state's folder; without the file, everything is in its place.
const JOURNAL: &str = "journal";

/// Puts a container's own files back that a killed process has left aside in `state`; what stands in their place is
/// removed. Nothing where there is nothing, or where the process is alive.
///
/// # Errors
/// If something cannot be moved.
pub fn recover(state: &Path) -> Result<(), Error> {
    let failed = |source| Error::StateDir { path: state.to_owned(), source };
    if !state.join(JOURNAL).exists() {
        return Ok(());
    }
    match lock(state) {
        Ok(_lock) => recover_locked(Path::new("/"), state).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn recover_locked(top: &Path, state: &Path) -> io::Result<()> {
    let text = match fs::read(state.join(JOURNAL)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    let journal: Journal = serde_json::from_slice(&text)?;
    let trash = state.join("trash");
    fs::create_dir_all(&trash)?;
    let result = put_back(&journal, top, state, &trash);
    // A process whose program is in the trash has lost its supervisor.
    strays::end(Sign::Program, &trash);
    result?;
    fs::remove_dir_all(&trash)
}

/// Held by the process that works in place.
fn lock(state: &Path) -> io::Result<File> {
    let lock = File::options().create(true).truncate(false).write(true).open(state.join("lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// True if a folder is on the mount that is `/`: only then can files be moved between the two.
pub fn is_on_root(folder: &Path) -> rustix::io::Result<bool> {
    let mount = |path: &Path| {
        let found = rustix::fs::statx(CWD, path, AtFlags::empty(), rustix::fs::StatxFlags::MNT_ID)?;
        Ok::<_, Errno>((found.stx_mnt_id, found.stx_dev_major, found.stx_dev_minor))
    };
    Ok(mount(folder)? == mount(Path::new("/"))?)
}

/// Mount points but the root's own, and what is to be kept: below the root.
fn fixed(kept: &[PathBuf]) -> io::Result<BTreeSet<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let targets = text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let paths = targets.chain(kept.iter().cloned());
    let below = paths.filter_map(|path| path.strip_prefix("/").map(Path::to_owned).ok());
    Ok(below.filter(|path| !path.as_os_str().is_empty()).collect())
}

/// A path as the kernel writes it: blanks and the like in octal.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let octal = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// The folders around what is fixed, the top (an empty path) first, each before what is in it. Nothing below what is
/// fixed itself.
fn shared(fixed: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let mut found = BTreeSet::from([PathBuf::new()]);
    for path in fixed {
        let around = || path.ancestors().skip(1);
        if !around().any(|above| fixed.contains(above)) {
            found.extend(around().map(Path::to_owned));
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|path| path.components().count());
    found
}
