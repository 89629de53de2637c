//! Sockets that connections come in on.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::engine::{Connection, EngineServer};
use rustix::net::AddressFamily;
use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, Id};
use tokio_rustls::TlsAcceptor;

use super::connection;
use super::stopping::Activity;
use super::{Address, ServeError};

/// Connections that have sent nothing yet. The oldest gives way to a new one.
const MOST_SILENT: usize = 256;
/// The wait after an error of accept(2), such as too many open files.
const AFTER_ERROR: Duration = Duration::from_millis(50);
/// The mode of a socket's file, as dockerd's.
const SOCKET_MODE: u32 = 0o660;

/// A socket that connections come in on.
pub(super) struct Listener {
    socket: Socket,
    address: String,
    tls: Option<TlsAcceptor>,
    /// The socket's file, to be removed at the end.
    file: Option<PathBuf>,
}

enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens on an address. TLS is for TCP.
    pub(super) fn bind(
        address: &Address,
        group: Option<&str>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self, ServeError> {
        let text = address.to_string();
        let failed = |source| ServeError::Listen { address: text.clone(), source };
        match address {
            Address::Unix(path) => {
                make_room(path, &text)?;
                let socket = UnixListener::bind(path).map_err(failed)?;
                set_owner(path, group)?;
                let file = Some(path.clone());
                Ok(Self { socket: Socket::Unix(socket), address: text, tls: None, file })
            }
            Address::Tcp(host) => {
                let socket = std::net::TcpListener::bind(host).map_err(failed)?;
                Self::of_tcp(socket, tls)
            }
        }
    }

    fn of_tcp(
        socket: std::net::TcpListener,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { address: "tcp".to_owned(), source };
        socket.set_nonblocking(true).map_err(failed)?;
        let address = format!("tcp://{}", socket.local_addr().map_err(failed)?);
        let socket = Socket::Tcp(TcpListener::from_std(socket).map_err(failed)?);
        Ok(Self { socket, address, tls: tls.map(TlsAcceptor::from), file: None })
    }

    /// Takes a socket that listens already.
    pub(super) fn of_descriptor(
        socket: OwnedFd,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self, ServeError> {
        let wrong = |reason: String| ServeError::Inherited(reason);
        let name = rustix::net::getsockname(&socket).map_err(|error| wrong(error.to_string()))?;
        match name.address_family() {
            AddressFamily::UNIX => {
                let socket = std::os::unix::net::UnixListener::from(socket);
                let failed = |source| ServeError::Listen { address: "fd".to_owned(), source };
                socket.set_nonblocking(true).map_err(failed)?;
                let name = socket.local_addr().ok();
                let path = name.as_ref().and_then(|name| name.as_pathname());
                let address = format!("unix://{}", path.unwrap_or(Path::new("?")).display());
                let socket = Socket::Unix(UnixListener::from_std(socket).map_err(failed)?);
                Ok(Self { socket, address, tls: None, file: None })
            }
            AddressFamily::INET | AddressFamily::INET6 => Self::of_tcp(socket.into(), tls),
            _ => Err(wrong("one is neither a Unix nor a TCP socket".into())),
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The socket's file, if it has one of its own.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        self.file.clone()
    }

    /// True if other machines reach it, and it asks for no certificate.
    pub(super) fn is_open_to_all(&self) -> bool {
        match &self.socket {
            Socket::Unix(_) => false,
            Socket::Tcp(socket) => {
                let is_loopback = socket.local_addr().is_ok_and(|name| name.ip().is_loopback());
                self.tls.is_none() && !is_loopback
            }
        }
    }

    /// Accepts connections for ever.
    pub(super) async fn accept(self, engine: Arc<EngineServer>, activity: Activity) {
        let silent = Arc::new(Silent::default());
        loop {
            let stream = match self.next().await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, address = self.address, "accept");
                    tokio::time::sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            let (engine, activity, tls) = (engine.clone(), activity.clone(), self.tls.clone());
            let spoken = silent.clone();
            let (go, registered) = oneshot::channel();
            let task = tokio::spawn(async move {
                let _guard = activity.begin();
                let _ = registered.await;
                let served = async {
                    let stream = match tls {
                        Some(tls) => connection::secure(stream, tls).await?,
                        None => stream,
                    };
                    let begun = connection::begin(stream).await?;
                    spoken.remove(tokio::task::id());
                    connection::serve(begun, engine, activity.draining()).await;
                    Some(())
                };
                tokio::select! {
                    served = served => if served.is_none() { spoken.remove(tokio::task::id()) },
                    () = activity.given_up() => (),
                }
            });
            silent.add(task.id(), task.abort_handle());
            // A task that was given up at once does not wait.
            let _ = go.send(());
        }
    }

    async fn next(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match &self.socket {
            Socket::Unix(socket) => Box::new(socket.accept().await?.0),
            Socket::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }
}

/// Connections that have sent nothing yet, the oldest first.
#[derive(Default)]
struct Silent(Mutex<VecDeque<(Id, AbortHandle)>>);

impl Silent {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Id, AbortHandle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: Id, task: AbortHandle) {
        let mut silent = self.lock();
        silent.push_back((id, task));
        silent.retain(|(_, task)| !task.is_finished());
        if silent.len() > MOST_SILENT
            && let Some((_, oldest)) = silent.pop_front()
        {
            oldest.abort();
        }
    }

    fn remove(&self, id: Id) {
        self.lock().retain(|(known, _)| *known != id);
    }
}

/// Makes a socket's folder, and removes the file of a service that has ended.
fn make_room(path: &Path, address: &str) -> Result<(), ServeError> {
    let failed = |source| ServeError::Listen { address: address.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed)?;
    }
    let is_socket = |metadata: fs::Metadata| metadata.file_type().is_socket();
    if path.symlink_metadata().is_ok_and(is_socket) {
        if BlockingUnixStream::connect(path).is_ok() {
            return Err(ServeError::Taken { address: address.to_owned() });
        }
        fs::remove_file(path).map_err(failed)?;
    }
    Ok(())
}

/// Gives a socket to a group, which may use it.
fn set_owner(path: &Path, group: Option<&str>) -> Result<(), ServeError> {
    let failed = |source| ServeError::File { path: path.to_owned(), source };
    if let Some(group) = group {
        let id = group_id(group).ok_or_else(|| ServeError::Group(group.to_owned()))?;
        std::os::unix::fs::chown(path, None, Some(id)).map_err(failed)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)
}

/// A group's number, by its name in `/etc/group`, or as it is.
fn group_id(group: &str) -> Option<u32> {
    if let Ok(id) = group.parse() {
        return Some(id);
    }
    let groups = fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(group))?;
    line.split(':').nth(2)?.parse().ok()
}
