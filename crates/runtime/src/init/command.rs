//! From a root to the command in it: its user, working directory, rights, environment and program.

use std::convert::Infallible;
use std::ffi::CString;
use std::io::Read;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, openat, stat};
use rustix::io::Errno;
use rustix::termios::isatty;

use super::privileges;
use super::walk::{LocatedFile, Missing, Root, file_type};
use crate::container::Container;
use crate::identity::{Identity, home};
use crate::sys;
use crate::wire::{FailureKind, SetupFailure, StepContext};

/// Largest `/etc/passwd` or `/etc/group` that is read, as in BuildKit.
const LARGEST_TABLE: u64 = 10 << 20;

/// The result of becoming the command: there is none.
pub type Never = Infallible;

/// The command with its user.
pub struct ResolvedCommand {
    identity: Identity,
    command: ExecutedProgram,
    folder: WorkingFolder,
}

/// The treatment of a working directory that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkingFolder {
    /// It is made.
    Made,
    /// Its absence is an error.
    Found,
}

/// Looks the user up in the root's own tables, and makes the working directory.
pub fn prepare(
    container: &Container,
    root: &mut Root,
    folder: WorkingFolder,
) -> Result<ResolvedCommand, SetupFailure> {
    let passwd = read_table(root, "/etc/passwd")?;
    let identity = match container.user.as_deref().filter(|user| !user.is_empty()) {
        Some(user) => Identity::resolve(user, &passwd, &read_table(root, "/etc/group")?)?,
        None => Identity::resolve("0", &passwd, &read_table(root, "/etc/group")?)
            .unwrap_or(Identity { uid: 0, gid: 0, groups: vec![0] }),
    };
    let command = ExecutedProgram::new(container, home(identity.uid, &passwd))?;
    let resolved = ResolvedCommand { identity, command, folder };
    if folder == WorkingFolder::Found {
        return Ok(resolved);
    }
    let (uid, gid) = (resolved.identity.uid, resolved.identity.gid);
    let cwd = root
        .find(&container.cwd, Missing::Owned(uid, gid))
        .and_then(|place| if place.is_directory()? { Ok(()) } else { Err(Errno::NOTDIR) });
    cwd.step(|| format!("make the working directory `{}`", container.cwd))?;
    Ok(resolved)
}

/// In the root by now: takes the user's rights and becomes the command. `at_last` comes right before that.
pub fn become_and_execute(
    container: &Container,
    ResolvedCommand { identity, command, folder }: ResolvedCommand,
    at_last: impl FnOnce() -> Result<(), SetupFailure>,
) -> Result<Never, SetupFailure> {
    enter_cwd(&container.cwd, folder)?;
    privileges::set_limits(&container.ulimits)?;
    give_streams(identity.uid);
    rustix::process::umask(Mode::from_raw_mode(0o022));
    privileges::become_user(&identity, container.security)?;
    // A change of user resets it.
    die_with_parent()?;
    at_last()?;
    Err(command.execute())
}

/// Gives the streams to the user. Otherwise only root could open /dev/stdout and the others, which are pipes or a terminal
/// of ours.
fn give_streams(uid: u32) {
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        // `/dev/null` is the machine's.
        if file_type(fd) == Ok(FileType::Fifo) || isatty(fd) {
            let _ = rustix::fs::fchown(fd, Some(rustix::process::Uid::from_raw(uid)), None);
        }
    }
}

/// Asks to be killed with the init process, wherever that ends.
pub fn die_with_parent() -> Result<(), SetupFailure> {
    sys::die_with_parent().step(|| "tie the container to kiln".into())
}

/// Reads `/etc/passwd` or `/etc/group`; a missing one, or one that is no file, is empty.
fn read_table(root: &mut Root, path: &str) -> Result<String, SetupFailure> {
    let Ok(LocatedFile { file, within: Some((folder, name)) }) = root.find(path, Missing::Fail)
    else {
        return Ok(String::new());
    };
    let found = rustix::fs::fstat(&file).step(|| format!("look at the container's {path}"))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Ok(String::new());
    }
    // By its name again, and not through `/proc`, which can be a hostile one's here. Another file may have come in its place.
    let flags =
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(folder, &name, flags, Mode::empty())
        .step(|| format!("open the container's {path}"))?;
    let opened = rustix::fs::fstat(&fd).step(|| format!("look at the container's {path}"))?;
    if (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino) {
        return Err(Errno::AGAIN).step(|| format!("open the container's {path}"));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(LARGEST_TABLE + 1).read_to_end(&mut bytes).map_err(|_| {
        SetupFailure::new(FailureKind::Step, format!("read the container's {path}"), Errno::IO)
    })?;
    if bytes.len() as u64 > LARGEST_TABLE {
        return Err(SetupFailure::plain(
            FailureKind::Refused,
            format!("the container's {path} exceeds {LARGEST_TABLE} bytes"),
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Enters the working directory, made again if a mount hides the first one. The root is the container's by now.
fn enter_cwd(cwd: &str, folder: WorkingFolder) -> Result<(), SetupFailure> {
    match rustix::process::chdir(cwd) {
        Err(Errno::NOENT) if folder == WorkingFolder::Made => {
            rustix::process::umask(Mode::from_raw_mode(0o022));
            let made = std::fs::create_dir_all(cwd)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
            made.and_then(|()| rustix::process::chdir(cwd))
        }
        result => result,
    }
    // A link in `/proc` may lead to a folder outside that is open here.
    .and_then(|()| match rustix::process::getcwd(Vec::new())?.as_bytes() {
        [b'/', ..] => Ok(()),
        _ => Err(Errno::ACCESS),
    })
    .step(|| format!("enter the working directory `{cwd}`"))
}

/// The strings for execve, made while an error can still be told well.
struct ExecutedProgram {
    program: String,
    path: Option<String>,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl ExecutedProgram {
    /// Takes the command line and environment of `container`; `home` is for an environment without `HOME`.
    fn new(container: &Container, home: &str) -> Result<ExecutedProgram, SetupFailure> {
        let string = |text: String| {
            CString::new(text).map_err(|_| {
                SetupFailure::plain(FailureKind::Refused, "a zero byte in an argument or variable")
            })
        };
        let Some(program) = container.args.first().filter(|program| !program.is_empty()) else {
            return Err(SetupFailure::plain(FailureKind::Refused, "an empty command"));
        };
        // The last of several values counts, at the place of the first.
        let mut variables: Vec<(&str, &str)> = Vec::with_capacity(container.env.len() + 1);
        for (name, value) in &container.env {
            match variables.iter_mut().find(|(known, _)| known == name) {
                Some(variable) => variable.1 = value,
                None => variables.push((name, value)),
            }
        }
        match variables.iter_mut().find(|(name, _)| *name == "HOME") {
            Some((_, value)) if value.is_empty() => *value = home,
            Some(_) => {}
            None => variables.push(("HOME", home)),
        }
        let path = variables
            .iter()
            .find(|(name, _)| *name == "PATH")
            .map(|(_, value)| (*value).to_owned());
        Ok(ExecutedProgram {
            program: program.clone(),
            path,
            args: container.args.iter().cloned().map(string).collect::<Result<_, _>>()?,
            env: variables
                .into_iter()
                .map(|(name, value)| string(format!("{name}={value}")))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Becomes the command. Returns only what kept it from that.
    fn execute(self) -> SetupFailure {
        let file = match self.file() {
            Ok(file) => file,
            Err(failure) => return failure,
        };
        let Ok(file) = CString::new(file) else {
            return SetupFailure::plain(FailureKind::ProgramNotFound, self.program);
        };
        match sys::execute(&file, &self.args, &self.env) {
            Errno::ACCESS | Errno::PERM => {
                SetupFailure::plain(FailureKind::ProgramDenied, self.program)
            }
            // The interpreter of a script, or the loader of a program, is missing.
            errno => SetupFailure::new(FailureKind::Execute, self.program, errno),
        }
    }

    /// The program's file: the first in `PATH` that this user may execute. There is no default path, as in runc.
    fn file(&self) -> Result<String, SetupFailure> {
        let program = &self.program;
        if program.contains('/') {
            return match executable(program) {
                Ok(()) => Ok(program.clone()),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
                    Err(SetupFailure::plain(FailureKind::ProgramNotFound, program.as_str()))
                }
                Err(_) => Err(SetupFailure::plain(FailureKind::ProgramDenied, program.as_str())),
            };
        }
        let mut denied = false;
        // A relative folder in PATH is not searched: Go's look-up, which runc uses, refuses what it finds there.
        for folder in self
            .path
            .as_deref()
            .unwrap_or_default()
            .split(':')
            .filter(|folder| folder.starts_with('/'))
        {
            let file = format!("{folder}/{program}");
            match executable(&file) {
                Ok(()) => return Ok(file),
                Err(Errno::ACCESS) => denied = true,
                Err(_) => {}
            }
        }
        let kind = if denied { FailureKind::ProgramDenied } else { FailureKind::ProgramNotFound };
        Err(SetupFailure::plain(kind, program.as_str()))
    }
}

fn executable(file: &str) -> rustix::io::Result<()> {
    let found = stat(file)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        return Err(Errno::ACCESS);
    }
    accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS)
}
