//! From a root to the command in it: its user, working directory, rights and program.

use std::convert::Infallible;
use std::io::Read;

use rustix::fs::{FileType, Mode, OFlags, open};
use rustix::io::Errno;

use super::command::Command;
use super::privileges;
use super::walk::{Missing, Root, fd_path, file_type};
use crate::container::Container;
use crate::identity::{Identity, home};
use crate::sys;
use crate::wire::{Failure, FailureKind, Step};

/// Largest `/etc/passwd` or `/etc/group` that is read, as in BuildKit.
const LARGEST_TABLE: u64 = 10 << 20;

/// The result of becoming the command: there is none.
pub type Never = Infallible;

/// The command with its user.
pub struct Prepared {
    identity: Identity,
    command: Command,
}

/// Looks the user up in the root's own tables, and makes the working directory.
pub fn prepare(container: &Container, root: &mut Root) -> Result<Prepared, Failure> {
    let passwd = read_table(root, "/etc/passwd")?;
    let identity = match container.user.as_deref().filter(|user| !user.is_empty()) {
        Some(user) => Identity::resolve(user, &passwd, &read_table(root, "/etc/group")?)?,
        None => Identity::resolve("0", &passwd, &read_table(root, "/etc/group")?)
            .unwrap_or(Identity { uid: 0, gid: 0, groups: vec![0] }),
    };
    let command = Command::new(container, home(identity.uid, &passwd))?;
    let cwd = root
        .find(&container.cwd, Missing::Owned(identity.uid, identity.gid))
        .and_then(|place| if place.is_directory()? { Ok(()) } else { Err(Errno::NOTDIR) });
    cwd.step(|| format!("make the working directory `{}`", container.cwd))?;
    Ok(Prepared { identity, command })
}

/// In the root by now: takes the user's rights and becomes the command. `at_last` comes right before that.
pub fn become_and_execute(
    container: &Container,
    Prepared { identity, command }: Prepared,
    at_last: impl FnOnce() -> Result<(), Failure>,
) -> Result<Never, Failure> {
    enter_cwd(&container.cwd)?;
    privileges::set_limits(&container.ulimits)?;
    for fd in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
        // Otherwise only root could open /dev/stdout and /dev/stderr, which are pipes of ours.
        let _ = rustix::fs::fchown(fd, Some(rustix::process::Uid::from_raw(identity.uid)), None);
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    privileges::become_user(&identity, container.security)?;
    // A change of user resets it.
    die_with_parent()?;
    at_last()?;
    Err(command.execute())
}

/// Asks to be killed with the init process, wherever that ends.
pub fn die_with_parent() -> Result<(), Failure> {
    sys::die_with_parent().step(|| "tie the container to kiln".into())
}

/// Reads `/etc/passwd` or `/etc/group`; a missing one, or one that is no file, is empty.
fn read_table(root: &mut Root, path: &str) -> Result<String, Failure> {
    let Ok(place) = root.find(path, Missing::Fail) else { return Ok(String::new()) };
    if file_type(&place.file) != Ok(FileType::RegularFile) {
        return Ok(String::new());
    }
    let fd = open(
        fd_path(&place.file),
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::empty(),
    )
    .step(|| format!("open the container's {path}"))?;
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(LARGEST_TABLE + 1).read_to_end(&mut bytes).map_err(|_| {
        Failure::new(FailureKind::Step, format!("read the container's {path}"), Errno::IO)
    })?;
    if bytes.len() as u64 > LARGEST_TABLE {
        return Err(Failure::plain(
            FailureKind::Refused,
            format!("the container's {path} exceeds {LARGEST_TABLE} bytes"),
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Enters the working directory, made again if a mount hides the first one. The root is the container's by now.
fn enter_cwd(cwd: &str) -> Result<(), Failure> {
    match rustix::process::chdir(cwd) {
        Err(Errno::NOENT) => {
            rustix::process::umask(Mode::from_raw_mode(0o022));
            let made = std::fs::create_dir_all(cwd)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
            made.and_then(|()| rustix::process::chdir(cwd))
        }
        result => result,
    }
    .step(|| format!("enter the working directory `{cwd}`"))
}
