//! A socket of kiln's own for an agent.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use store::{ScratchFolder, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};

use super::agent::SshAgent;
use super::wire::{FAILURE, LARGEST_MESSAGE, REQUEST_IDENTITIES, SIGN_REQUEST};
use crate::client::AgentStream;

/// Simultaneous clients of an agent; others wait.
const MOST_CLIENTS: usize = 64;
/// Longest path of a socket that every program can reach (`sun_path`).
const LONGEST_PATH: usize = 100;
/// The socket's name in its folder.
const NAME: &str = "agent";

/// The owner of a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOwner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// A socket that passes requests on to an agent, as long as this lives.
pub(crate) struct Forward {
    folder: ScratchFolder,
    opened: File,
    server: AbortHandle,
}

impl Forward {
    /// Listens; must be called in a runtime.
    ///
    /// # Errors
    /// If the socket cannot be made, or the owner is none that can be given here.
    pub(crate) fn start(agent: &SshAgent, store: &Store, owner: SocketOwner) -> io::Result<Self> {
        let folder = store.scratch_folder().map_err(io::Error::other)?;
        let opened: File = rustix::fs::open(
            folder.path(),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?
        .into();
        // The folder can have a path that is too long for a socket's address.
        let address = format!("/proc/self/fd/{}/{NAME}", opened.as_raw_fd());
        let listener = UnixListener::bind(address)?;
        // Until here the folder's mode keeps other users away from the socket.
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if (owner.uid, owner.gid) != own_ids() {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            rustix::fs::chownat(&opened, NAME, Some(uid), Some(gid), flags).map_err(|errno| {
                let ids = format!("{}:{}", owner.uid, owner.gid);
                io::Error::other(format!("giving the agent's socket to {ids}: {errno}"))
            })?;
        }
        rustix::fs::chmodat(&opened, NAME, Mode::from_raw_mode(owner.mode), AtFlags::empty())?;
        let server = tokio::spawn(serve(listener, Arc::new(agent.clone()))).abort_handle();
        Ok(Self { folder, opened, server })
    }

    /// The socket's path.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }

    /// A path by which this user's other programs reach the socket, although the real one may be
    /// too long.
    pub(crate) fn short_path(&self) -> PathBuf {
        let path = self.path();
        if path.as_os_str().len() <= LONGEST_PATH {
            return path;
        }
        let process = std::process::id();
        Path::new("/proc").join(format!("{process}/fd/{}/{NAME}", self.opened.as_raw_fd()))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// This process's ids.
pub(crate) fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

async fn serve(listener: UnixListener, agent: Arc<SshAgent>) {
    // They end when this one is dropped.
    let mut clients = JoinSet::new();
    loop {
        while clients.len() >= MOST_CLIENTS {
            clients.join_next().await;
        }
        tokio::select! {
            Some(_) = clients.join_next() => (),
            accepted = listener.accept() => match accepted {
                // A client that breaks off needs no answer.
                Ok((client, _)) => drop(clients.spawn(talk(client, agent.clone()))),
                // Too many open files: what is open is answered first.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            },
        }
    }
}

/// Answers a client until it goes.
async fn talk(mut client: UnixStream, agent: Arc<SshAgent>) -> io::Result<()> {
    let mut upstream = None;
    while let Some(message) = read(&mut client).await? {
        let answer = match (message.first(), &*agent) {
            (Some(&REQUEST_IDENTITIES | &SIGN_REQUEST), SshAgent::Keys(keys)) => {
                let keys = keys.0.clone();
                transfer::blocking(move || keys.answer(&message)).await
            }
            (
                Some(&REQUEST_IDENTITIES | &SIGN_REQUEST),
                SshAgent::Socket(_) | SshAgent::Client(_),
            ) => pass_on(&mut upstream, &agent, &message).await.unwrap_or_else(|_| vec![FAILURE]),
            // Adding, removing, locking and extensions are not a step's to ask for.
            _ => vec![FAILURE],
        };
        write(&mut client, &answer).await?;
    }
    Ok(())
}

/// Asks the caller's agent.
async fn pass_on(
    upstream: &mut Option<Box<dyn AgentStream>>,
    agent: &SshAgent,
    message: &[u8],
) -> io::Result<Vec<u8>> {
    let mut agent = match (upstream.take(), agent) {
        (Some(agent), _) => agent,
        (None, SshAgent::Socket(path)) => Box::new(UnixStream::connect(path).await?),
        (None, SshAgent::Client(agent)) => agent.connect().await?,
        (None, SshAgent::Keys(_)) => return Err(io::ErrorKind::Unsupported.into()),
    };
    write(&mut agent, message).await?;
    let answer = read(&mut agent).await?;
    *upstream = Some(agent);
    answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A message without its length; none where there is no other.
async fn read(stream: &mut (impl AgentStream + ?Sized)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    };
    let length = u32::from_be_bytes(length) as usize;
    if length > LARGEST_MESSAGE {
        return Err(io::Error::other("a message is too long"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write(stream: &mut (impl AgentStream + ?Sized), message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(message).await
}
