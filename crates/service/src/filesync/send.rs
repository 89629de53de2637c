//! Sending outputs to a client: a folder by fsutil's protocol, or one file as a stream of bytes.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::{Request, Streaming};

use super::{FileSyncError, mode};
use crate::grpc::received;
use crate::proto::BytesMessage;
use crate::proto::fsutil::{Packet, PacketType, Stat};
use crate::session::ClientSession;

const DIFF_COPY: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// The pieces in which files are sent.
const PIECE: usize = 64 << 10;

/// A folder that is sent.
#[derive(Clone, Debug)]
pub struct SentFolder {
    /// The folder.
    pub folder: PathBuf,
    /// The place of the output in the request.
    pub exporter: usize,
    /// True if the client removes what is not in the folder (`mode=delete`).
    pub is_whole: bool,
}

/// Sends a folder; the client puts it where its output is.
///
/// # Errors
/// If the client takes no outputs or breaks off, or a file cannot be read.
pub async fn send_folder(session: &ClientSession, sent: SentFolder) -> Result<(), FileSyncError> {
    let channel = session.channel_for(DIFF_COPY)?.clone();
    let (send, outgoing) = mpsc::channel(16);
    let mut request = Request::new(received(outgoing));
    put_exporter(&mut request, sent.exporter);
    if sent.is_whole {
        let one = MetadataValue::from_static("1");
        request.metadata_mut().insert("buildkit-exporter-multi-platform", one);
    }
    // The client answers nothing before it has the first headers.
    let call = tokio::spawn(async move { channel.streaming(DIFF_COPY, request).await });
    let work = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Handle::current();
        let mut files = HashMap::new();
        let mut headers =
            Headers { send: &send, files: &mut files, inodes: HashMap::new(), next: 0 };
        let walked = headers.walk(&sent.folder, "");
        if let Err(error) = walked {
            let data = error.to_string().into();
            let packet = Packet { r#type: PacketType::Err.into(), data, ..Packet::default() };
            let _ = send.blocking_send(packet);
            // A client that has refused the call says why.
            return Err(match runtime.block_on(call) {
                Ok(Err(status)) => status.into(),
                _ => error,
            });
        }
        let call = runtime.block_on(call).map_err(|_| FileSyncError::Ended)?;
        let mut incoming: Streaming<Packet> = call?;
        loop {
            let packet = runtime.block_on(incoming.message())?.ok_or(FileSyncError::Ended)?;
            match PacketType::try_from(packet.r#type) {
                Ok(PacketType::Req) => {
                    let path = files.remove(&packet.id);
                    let path =
                        path.ok_or(FileSyncError::Protocol("a file that was not offered"))?;
                    send_content(&send, packet.id, &path)?;
                }
                Ok(PacketType::Fin) => {
                    let fin = Packet { r#type: PacketType::Fin.into(), ..Packet::default() };
                    // It may end without waiting for that.
                    let _ = send.blocking_send(fin);
                    drop(send);
                    while runtime.block_on(incoming.message())?.is_some() {}
                    return Ok(());
                }
                Ok(PacketType::Err) => {
                    let text = String::from_utf8_lossy(&packet.data).chars().take(4096).collect();
                    return Err(FileSyncError::Peer(text));
                }
                _ => return Err(FileSyncError::Protocol("a packet of a wrong type")),
            }
        }
    });
    work.await.map_err(|_| FileSyncError::Ended)?
}

fn put_exporter<T>(request: &mut Request<T>, exporter: usize) {
    let value = MetadataValue::from(exporter as u64);
    request.metadata_mut().insert("buildkit-attachable-exporter-id", value);
}

/// The headers of a folder, in fsutil's order.
struct Headers<'a> {
    send: &'a mpsc::Sender<Packet>,
    files: &'a mut HashMap<u32, PathBuf>,
    /// The first name of each file that has several.
    inodes: HashMap<(u64, u64), String>,
    next: u32,
}

impl Headers<'_> {
    fn walk(&mut self, folder: &Path, path: &str) -> Result<(), FileSyncError> {
        let failed = |error| FileSyncError::io(&folder.display().to_string(), error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        for name in names {
            let Some(name) = name.to_str() else {
                let path = folder.join(&name).display().to_string();
                return Err(FileSyncError::Path { path, reason: "it is no UTF-8" });
            };
            let inner = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            self.entry(&folder.join(name), inner)?;
        }
        if path.is_empty() {
            let end = Packet { r#type: PacketType::Stat.into(), ..Packet::default() };
            self.send.blocking_send(end).map_err(|_| FileSyncError::Ended)?;
        }
        Ok(())
    }

    fn entry(&mut self, place: &Path, path: String) -> Result<(), FileSyncError> {
        let failed = |error| FileSyncError::io(&place.display().to_string(), error);
        let metadata = place.symlink_metadata().map_err(failed)?;
        // A socket is no file of an output.
        let Some(go_mode) = mode::of_unix(metadata.mode()) else { return Ok(()) };
        let mut stat = Stat {
            path,
            mode: go_mode,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mod_time: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            ..Stat::default()
        };
        if metadata.is_symlink() {
            let target = std::fs::read_link(place).map_err(failed)?;
            let target = target.into_os_string().into_string();
            stat.linkname = target.map_err(|_| FileSyncError::Path {
                path: stat.path.clone(),
                reason: "its link is no UTF-8",
            })?;
        } else if metadata.is_file() {
            stat.size = metadata.len().cast_signed();
            let inode = (metadata.dev(), metadata.ino());
            match self.inodes.get(&inode) {
                Some(first) => stat.linkname.clone_from(first),
                None if metadata.nlink() > 1 => {
                    self.inodes.insert(inode, stat.path.clone());
                }
                None => {}
            }
        }
        if metadata.is_file() {
            self.files.insert(self.next, place.to_owned());
        }
        self.next += 1;
        let path = stat.path.clone();
        let packet =
            Packet { r#type: PacketType::Stat.into(), stat: Some(stat), ..Packet::default() };
        self.send.blocking_send(packet).map_err(|_| FileSyncError::Ended)?;
        if metadata.is_dir() { self.walk(place, &path) } else { Ok(()) }
    }
}

fn send_content(send: &mpsc::Sender<Packet>, id: u32, place: &Path) -> Result<(), FileSyncError> {
    let failed = |error| FileSyncError::io(&place.display().to_string(), error);
    let mut file = std::fs::File::open(place).map_err(failed)?;
    let mut buffer = vec![0; PIECE];
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        let data = Bytes::copy_from_slice(&buffer[..count]);
        let packet = Packet { r#type: PacketType::Data.into(), id, data, ..Packet::default() };
        send.blocking_send(packet).map_err(|_| FileSyncError::Ended)?;
        if count == 0 {
            return Ok(());
        }
    }
}

/// Sends a file as bytes; the client writes it to its output. `metadata` is what the client learns
/// of it first.
///
/// # Errors
/// If the client takes no outputs or breaks off, or the file cannot be read.
pub async fn send_file(
    session: &ClientSession,
    path: &Path,
    exporter: usize,
    metadata: &std::collections::BTreeMap<String, String>,
) -> Result<(), FileSyncError> {
    let channel = session.channel_for(DIFF_COPY)?.clone();
    let (send, outgoing) = mpsc::channel(4);
    let mut request = Request::new(received(outgoing));
    put_exporter(&mut request, exporter);
    for (key, value) in metadata {
        let key = MetadataKey::from_bytes(format!("exporter-md-{key}").as_bytes());
        // The answer to the solve has it too, also where it cannot be a header.
        if let (Ok(key), Ok(value)) = (key, MetadataValue::try_from(value.as_str())) {
            request.metadata_mut().insert(key, value);
        }
    }
    let call = tokio::spawn(async move {
        let mut incoming: Streaming<BytesMessage> = channel.streaming(DIFF_COPY, request).await?;
        // It ends the call when it has written everything.
        while incoming.message().await?.is_some() {}
        Ok::<(), tonic::Status>(())
    });
    let place = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let failed = |error| FileSyncError::io(&place.display().to_string(), error);
        let mut file = std::fs::File::open(&place).map_err(failed)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            let data = Bytes::copy_from_slice(&buffer[..count]);
            // Its own error is in the answer to the call.
            if count == 0 || send.blocking_send(BytesMessage { data }).is_err() {
                return Ok::<(), FileSyncError>(());
            }
        }
    });
    read.await.map_err(|_| FileSyncError::Ended)??;
    Ok(call.await.map_err(|_| FileSyncError::Ended)??)
}
