//! The messages between kiln and the container's init process, over their socket.
//!
//! A frame is a length (u32, little endian) and that many bytes: JSON, or the raw content of a file mount. Down go one
//! frame of orders and a frame per file; up come reports. What else is said is in `line`.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::container::{Container, FileContent, MountKind, TerminalSize};
use crate::error::Error;
use crate::ladder::{ChrootCapabilities, Isolation, NamespaceCapabilities, Unavailable};

/// Largest frame: bounds what either side allocates.
const LARGEST: usize = 64 << 20;

/// The task of the init process.
#[derive(Serialize, Deserialize)]
pub enum Orders {
    /// Run a container.
    Run(Box<RunOrders>),
    /// Run another command in the container whose init process this is.
    Exec(Box<ExecOrders>),
    /// Open that container's root and hand it over.
    OpenRoot,
    /// Try what this machine allows.
    Probe {
        /// Existing directories for the attempt, on the file system where the layers are.
        directory: PathBuf,
        /// The folder to mount over, see [`RunOrders::scratch`].
        scratch: PathBuf,
    },
    /// Try whether opens of an overlay's files are reported where the files are.
    ProbeOpens {
        /// The same directories as for [`Orders::Probe`].
        directory: PathBuf,
        /// The folder to mount over, see [`RunOrders::scratch`].
        scratch: PathBuf,
    },
    /// Try whether a plain folder can be a root, in this one, which is empty.
    ProbeChroot(PathBuf),
}

/// A container and what it needs from the host.
#[derive(Serialize, Deserialize)]
pub struct RunOrders {
    /// The container; its file contents follow in frames of their own.
    pub container: Container,
    /// Its isolation.
    pub isolation: Isolation,
    /// A folder for the journal and the files of this container, for [`Isolation::InPlace`].
    pub in_place: PathBuf,
    /// kiln's own files, which [`Isolation::InPlace`] does not move.
    pub kept: Vec<PathBuf>,
    /// An existing directory to mount over, in the container's own mount namespace.
    pub scratch: PathBuf,
    /// An empty directory.
    pub empty: PathBuf,
    /// A directory with empty files and folders for the usual mounts.
    pub stubs: PathBuf,
    /// Content of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Content of `/etc/hosts`.
    pub hosts: String,
    /// The cgroup that limits the container's devices; without one its file systems are mounted `nodev`.
    pub cgroup: Option<PathBuf>,
    /// The size of the command's terminal, if it is to have one.
    pub terminal: Option<TerminalSize>,
    /// True for a container that others are to join: its start is told.
    pub is_joinable: bool,
}

/// Another command in a container that runs.
#[derive(Serialize, Deserialize)]
pub struct ExecOrders {
    /// The container with this command in place of its own. Its files have no content.
    pub container: Container,
    /// The size of the command's terminal, if it is to have one.
    pub terminal: Option<TerminalSize>,
}

impl RunOrders {
    /// The folder for what is put aside where nothing can be mounted.
    pub fn aside(&self) -> Result<&Path, SetupFailure> {
        self.container.aside.as_deref().ok_or_else(|| {
            let reason = "a container without mounts needs a folder for what is put aside";
            SetupFailure::plain(FailureKind::Refused, reason)
        })
    }
}

/// A message of the init process.
#[derive(Debug, Serialize, Deserialize)]
pub enum InitReport {
    /// Mount points that were made in the root, as paths from it, parents first. Comes before anything runs.
    Stubs(Vec<String>),
    /// The process could not be started.
    Failed(SetupFailure),
    /// The command runs, in the process of this number. It comes after a failure, too.
    Started(i32),
    /// A process wanted another root and did not get it. Comes before the end.
    RefusedRoot,
    /// The process ended with this wait status.
    Exited(i32),
    /// The result of a probe.
    Probed(NamespaceCapabilities),
    /// The result of a probe of plain folders.
    ProbedChroot(ChrootCapabilities),
    /// The result of a probe of opens: why files of an overlay cannot be filled when they are opened.
    ProbedOpens(Result<(), Unavailable>),
}

/// A failure in the container's process before it became the command: text and errno.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetupFailure {
    kind: FailureKind,
    subject: String,
    errno: i32,
}

/// The kind of a failure's subject.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum FailureKind {
    /// A step.
    Step,
    /// A program that is not there.
    ProgramNotFound,
    /// A program that may not be executed.
    ProgramDenied,
    /// A program that the kernel refuses.
    Execute,
    /// A user's name.
    NoSuchUser,
    /// A group's name.
    NoSuchGroup,
    /// The source of a mount.
    MountSource,
    /// A whole sentence.
    Refused,
}

impl SetupFailure {
    /// A failure with the kernel's answer.
    pub fn new(
        kind: FailureKind,
        subject: impl Into<String>,
        errno: rustix::io::Errno,
    ) -> SetupFailure {
        SetupFailure { kind, subject: subject.into(), errno: errno.raw_os_error() }
    }

    /// A failure that needs no errno.
    pub fn plain(kind: FailureKind, subject: impl Into<String>) -> SetupFailure {
        SetupFailure { kind, subject: subject.into(), errno: 0 }
    }

    /// The failure as a reason, with the kernel's answer in it.
    pub fn reason(self) -> Unavailable {
        let errno = self.errno;
        let error = Error::from(self);
        Unavailable::new(if errno == 0 {
            error.to_string()
        } else {
            format!("{error}: {}", io::Error::from_raw_os_error(errno))
        })
    }
}

impl From<SetupFailure> for Error {
    fn from(failure: SetupFailure) -> Error {
        let SetupFailure { kind, subject, errno } = failure;
        let source = io::Error::from_raw_os_error(errno);
        match kind {
            FailureKind::Step => Error::Setup { step: subject, source },
            FailureKind::ProgramNotFound => Error::ProgramNotFound { program: subject },
            FailureKind::ProgramDenied => Error::ProgramDenied { program: subject },
            FailureKind::Execute => Error::Execute { program: subject, source },
            FailureKind::NoSuchUser => Error::NoSuchUser { user: subject },
            FailureKind::NoSuchGroup => Error::NoSuchGroup { group: subject },
            FailureKind::MountSource => Error::MountSourceMissing { path: subject },
            FailureKind::Refused => Error::Refused(subject),
        }
    }
}

/// Adds what was being done to a system call's error.
pub trait StepContext<T> {
    /// The error as a failed step.
    fn step(self, what: impl FnOnce() -> String) -> Result<T, SetupFailure>;
}

impl<T> StepContext<T> for rustix::io::Result<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, SetupFailure> {
        self.map_err(|errno| SetupFailure::new(FailureKind::Step, what(), errno))
    }
}

/// The frames of `orders`, ready to send.
pub fn encode(orders: &Orders) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let json = serde_json::to_vec(orders).map_err(|error| {
        Error::Refused(format!("describe the container to its init process: {error}"))
    })?;
    push_frame(&mut bytes, &json)?;
    if let Orders::Run(run) = orders {
        for mount in &run.container.mounts {
            if let MountKind::File { content, .. } = &mount.kind {
                push_frame(&mut bytes, content.bytes())?;
            }
        }
    }
    Ok(bytes)
}

fn push_frame(bytes: &mut Vec<u8>, frame: &[u8]) -> Result<(), Error> {
    if frame.len() > LARGEST {
        return Err(Error::Refused(format!(
            "{} bytes for a container's init process are too many",
            frame.len()
        )));
    }
    bytes.extend_from_slice(&(frame.len() as u32).to_le_bytes());
    bytes.extend_from_slice(frame);
    Ok(())
}

/// Reads what [`encode`] wrote.
pub fn read_orders(stream: &mut impl Read) -> io::Result<Orders> {
    let mut orders: Orders = serde_json::from_slice(&read_frame(stream)?)?;
    if let Orders::Run(run) = &mut orders {
        for mount in &mut run.container.mounts {
            if let MountKind::File { content, .. } = &mut mount.kind {
                *content = FileContent::new(read_frame(stream)?);
            }
        }
    }
    Ok(orders)
}

fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LARGEST {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

/// Sends a report. kiln may be gone, and then nothing is left to do about it.
pub fn tell(stream: &mut impl Write, report: &InitReport) {
    let mut bytes = vec![0; 4];
    if serde_json::to_writer(&mut bytes, report).is_ok() {
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let _ = stream.write_all(&bytes);
    }
}

/// Takes the first whole frame out of `inbox`.
pub fn take_frame<T: DeserializeOwned>(inbox: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(length) = inbox.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > LARGEST {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    if inbox.len() < 4 + length {
        return Ok(None);
    }
    let value = serde_json::from_slice(&inbox[4..4 + length])?;
    inbox.drain(..4 + length);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{Mount, RootSource};

    #[test]
    fn orders_travel_with_their_files_outside_the_json() {
        let mut container = Container::new(RootSource::Directory("/r".into()), vec!["sh".into()]);
        let content = FileContent::new(b"s3cret".to_vec());
        container.mounts.push(Mount {
            target: "/run/secrets/x".into(),
            kind: MountKind::File { content, mode: 0o400, uid: 0, gid: 0 },
        });
        let orders = Orders::Run(Box::new(RunOrders {
            container,
            isolation: Isolation::Namespaces { overlays: Ok(()) },
            in_place: "/i".into(),
            kept: Vec::new(),
            scratch: "/s".into(),
            empty: "/e".into(),
            stubs: "/t".into(),
            resolv_conf: String::new(),
            hosts: String::new(),
            cgroup: None,
            terminal: None,
            is_joinable: false,
        }));
        let bytes = encode(&orders).unwrap();
        let Orders::Run(back) = read_orders(&mut bytes.as_slice()).unwrap() else {
            panic!("not a run")
        };
        let MountKind::File { content, .. } = &back.container.mounts[0].kind else {
            panic!("not a file")
        };
        assert_eq!(content.bytes(), b"s3cret");
        assert_eq!(format!("{content:?}"), "FileContent(6 bytes)");
    }

    #[test]
    fn a_report_in_two_pieces_waits_for_its_end() {
        let mut bytes = Vec::new();
        tell(&mut bytes, &InitReport::Exited(256));
        let tail = bytes.split_off(6);
        assert!(take_frame::<InitReport>(&mut bytes).unwrap().is_none());
        bytes.extend(tail);
        assert!(matches!(take_frame(&mut bytes).unwrap(), Some(InitReport::Exited(256))));
        assert!(bytes.is_empty());
    }
}
