//! A command in place: the container that kiln runs in lends its own `/`, as nothing else is allowed.
//!
//! What is in `/` is moved aside, what is in the container's root is moved there, and afterwards both go back. What is
//! mounted somewhere stays, with the folders around it, and so do kiln's own root and binary. The folder aside has a
//! journal, locked by this process: whoever finds one that nobody holds puts the container's files back.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Uid, chownat, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sys::{self, Forked};
use crate::wire::{Failure, FailureKind, Report, RunOrders, Step, tell};

use super::chroot::{Children, fill_wanted, open_directory, refuse, watch};
use super::stage::{become_and_execute, die_with_parent, prepare};
use super::{Never, Outside, let_go_of_output};

/// Runs a container to its end. `state` is a folder for this alone, `kept` are paths that stay what they are.
pub fn run(
    orders: &RunOrders,
    aside: &Path,
    state: &Path,
    kept: &[PathBuf],
    outside: Outside<'_>,
) -> Result<Report, Failure> {
    let Outside { control, signals, null } = outside;
    let container = &orders.container;
    refuse(container)?;
    sys::hide_from_others();
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut children = Children::adopt()?;
    let (directory, mut root) = open_directory(container)?;
    let prepared = prepare(container, &mut root)?;
    let placer = fill_wanted(orders, aside, &mut root);
    tell(control, &Report::Stubs(root.take_stubs()));
    let placer = placer?;
    let exchange = Exchange::begin(directory, state, kept)?;
    match sys::fork(None).step(|| "fork the container's first process".into())? {
        Forked::Child => {
            signals.restore();
            let become_command = || -> Result<Never, Failure> {
                die_with_parent()?;
                rustix::process::setsid().step(|| "start a session".into())?;
                sys::leave_keyring();
                rustix::process::chdir("/").step(|| "enter the root".into())?;
                become_and_execute(container, prepared, || Ok(()))
            };
            let Err(failure) = become_command();
            tell(control, &Report::Failed(failure));
            // Nothing of the parent's is to be put back twice.
            std::process::exit(127);
        }
        Forked::Parent(pid) => {
            let_go_of_output(null)?;
            let status = watch(pid, control, signals, None, &mut children);
            children.end_all();
            let ended = exchange.end();
            drop(placer);
            ended?;
            status.map(Report::Exited)
        }
    }
}

/// What has been moved where: the journal.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Moved {
    /// Folders that stay because something in them does, the upper ones first, relative to `/`.
    shared: Vec<PathBuf>,
    /// What stays, and is nobody's to move.
    fixed: BTreeSet<PathBuf>,
}

/// The container's files are aside, and the root's in their place.
struct Exchange {
    root: PathBuf,
    /// Where the container's own files are.
    own: PathBuf,
    journal: PathBuf,
    _lock: File,
    moved: Moved,
}

impl Exchange {
    fn begin(root: &Path, state: &Path, kept: &[PathBuf]) -> Result<Exchange, Failure> {
        let failed = |what: &str, error: &io::Error| {
            Failure::new(
                FailureKind::Step,
                what.to_owned(),
                Errno::from_io_error(error).unwrap_or(Errno::IO),
            )
        };
        let fixed = fixed(kept).map_err(|error| failed("read what is mounted", &error))?;
        let own = state.join("own");
        fs::create_dir_all(&own).map_err(|error| failed("make a folder aside", &error))?;
        let journal = state.join("journal");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&journal)
            .map_err(|error| failed("open the journal", &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .step(|| "lock the container's `/` (another kiln works in place)".into())?;
        let shared = shared(&fixed);
        let moved = Moved { shared, fixed };
        let text = serde_json::to_vec(&moved).unwrap_or_default();
        fs::write(&journal, text).map_err(|error| failed("write the journal", &error))?;
        let exchange = Exchange { root: root.to_owned(), own, journal, _lock: lock, moved };
        let entered = exchange.enter();
        if let Err(error) = entered {
            let _ = exchange.end();
            return Err(failed(
                "exchange the container's files (is kiln's root on the container's own disk?)",
                &error,
            ));
        }
        Ok(exchange)
    }

    fn enter(&self) -> io::Result<()> {
        for folder in &self.moved.shared {
            let here = Path::new("/").join(folder);
            make_like(&self.own.join(folder), &here)?;
            for name in self.movable(&here)? {
                move_entry(&here.join(&name), &self.own.join(folder).join(&name))?;
            }
        }
        for folder in &self.moved.shared {
            let (here, there) = (Path::new("/").join(folder), self.root.join(folder));
            if !is_folder(&there) {
                continue;
            }
            take_header(&here, &there)?;
            for entry in fs::read_dir(&there)? {
                let name = entry?.file_name();
                // What is fixed hides what the root has there.
                if here.join(&name).symlink_metadata().is_err() {
                    move_entry(&there.join(&name), &here.join(&name))?;
                }
            }
        }
        Ok(())
    }

    /// Puts everything back.
    fn end(self) -> Result<(), Failure> {
        let result = leave(&self.moved, &self.own, &self.root);
        let result = result.and_then(|()| fs::remove_file(&self.journal));
        result.map_err(|error| {
            Failure::new(
                FailureKind::Step,
                "put the container's own files back",
                Errno::from_io_error(&error).unwrap_or(Errno::IO),
            )
        })
    }

    /// The names in a shared folder that are not fixed.
    fn movable(&self, folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        movable(&self.moved, folder)
    }
}

fn movable(moved: &Moved, folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let path = folder.join(&name);
        let relative = path.strip_prefix("/").unwrap_or(&path);
        if !moved.fixed.contains(&path) && !moved.shared.iter().any(|shared| shared == relative) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Moves what is in the shared folders into `root`, and what is in `own` back. Goes on after a failure: what can be put
/// back is.
fn leave(moved: &Moved, own: &Path, root: &Path) -> io::Result<()> {
    let mut result = Ok(());
    for folder in &moved.shared {
        let (here, there) = (Path::new("/").join(folder), root.join(folder));
        let names = movable(moved, &here)?;
        if !names.is_empty() && !is_folder(&there) {
            make_like(&there, &here)?;
        }
        for name in names {
            let moved = move_entry(&here.join(&name), &there.join(&name));
            result = result.and(moved);
        }
        if is_folder(&there) {
            result = result.and(take_header(&there, &here));
        }
    }
    for folder in &moved.shared {
        let (here, there) = (Path::new("/").join(folder), own.join(folder));
        if !is_folder(&there) {
            continue;
        }
        for entry in fs::read_dir(&there)? {
            let name = entry?.file_name();
            if !moved.shared.contains(&folder.join(&name)) {
                let moved = move_entry(&there.join(&name), &here.join(&name));
                result = result.and(moved);
            }
        }
        result = result.and(take_header(&here, &there));
    }
    if result.is_ok() {
        fs::remove_dir_all(own)?;
    }
    result
}

/// Puts a container's own files back that a killed process has left aside in `state`; what stands in their place is
/// removed. Nothing where there is nothing, or where the process is alive.
///
/// # Errors
/// If something cannot be moved.
pub fn recover(state: &Path) -> Result<(), Error> {
    let failed = |source| Error::StateDir { path: state.to_owned(), source };
    let journal = state.join("journal");
    let Ok(lock) = File::options().read(true).write(true).open(&journal) else { return Ok(()) };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    let Ok(moved) = serde_json::from_slice::<Moved>(&fs::read(&journal).map_err(failed)?) else {
        // Written before anything is moved.
        return fs::remove_file(&journal).map_err(failed);
    };
    let trash = state.join("trash");
    fs::create_dir_all(&trash).map_err(failed)?;
    leave(&moved, &state.join("own"), &trash).map_err(failed)?;
    fs::remove_dir_all(&trash).map_err(failed)?;
    fs::remove_file(&journal).map_err(failed)
}

/// Whether a folder is on the mount that is `/`: only then can files be moved between the two.
pub fn is_on_root(folder: &Path) -> rustix::io::Result<bool> {
    let mount = |path: &Path| {
        let found = rustix::fs::statx(CWD, path, AtFlags::empty(), rustix::fs::StatxFlags::MNT_ID)?;
        Ok::<_, Errno>((found.stx_mnt_id, found.stx_dev_major, found.stx_dev_minor))
    };
    Ok(mount(folder)? == mount(Path::new("/"))?)
}

/// Mount points but the root's own, and what is to be kept.
fn fixed(kept: &[PathBuf]) -> io::Result<BTreeSet<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let targets = text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    Ok(targets.filter(|target| target != Path::new("/")).chain(kept.iter().cloned()).collect())
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

/// The folders around what is fixed, `/` (an empty path) first, each before what is in it. Nothing below what is fixed
/// itself.
fn shared(fixed: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let mut found = BTreeSet::from([PathBuf::new()]);
    for path in fixed {
        let is_below = path.ancestors().skip(1).any(|above| fixed.contains(above));
        if is_below {
            continue;
        }
        for above in path.ancestors().skip(1) {
            if let Ok(relative) = above.strip_prefix("/") {
                found.insert(relative.to_owned());
            }
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|path| path.components().count());
    found
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// Moves a file or folder. A folder of a lower layer of the container's own overlay can be moved file by file only.
fn move_entry(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices && is_folder(from) => {}
        result => return result,
    }
    make_like(to, from)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        move_entry(&from.join(&name), &to.join(&name))?;
    }
    take_header(to, from)?;
    fs::remove_dir(from)
}

/// Makes a folder, if it is missing, with the header of another one.
fn make_like(path: &Path, other: &Path) -> io::Result<()> {
    if !is_folder(path) {
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::create_dir(path)?;
    }
    take_header(path, other)
}

/// Gives a folder another one's owner, mode and times.
fn take_header(path: &Path, other: &Path) -> io::Result<()> {
    let found = other.symlink_metadata()?;
    let (uid, gid) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    fs::set_permissions(path, fs::Permissions::from_mode(found.mode() & 0o7777))?;
    let times =
        fs::FileTimes::new().set_accessed(found.accessed()?).set_modified(found.modified()?);
    File::open(path)?.set_times(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_around_what_stays_are_shared() {
        let fixed = ["/proc", "/proc/sys", "/etc/hosts", "/var/lib/kiln", "/etc/a b"];
        let fixed: BTreeSet<PathBuf> = fixed.iter().map(PathBuf::from).collect();
        let found: Vec<_> = shared(&fixed);
        assert_eq!(found, ["", "etc", "var", "var/lib"].map(PathBuf::from));
        assert_eq!(unescape("/etc/a\\040b"), Path::new("/etc/a b"));
        assert_eq!(unescape("/c\\d"), Path::new("/c\\d"));
    }

    #[test]
    fn what_was_moved_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("file"), "x").unwrap();
        move_entry(&from, &to).unwrap();
        assert!(!from.exists());
        assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "x");
        // Nothing of a journal that is not there.
        recover(folder.path()).unwrap();
    }
}
