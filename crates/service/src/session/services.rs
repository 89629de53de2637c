//! A client's secrets, agents, logins, uploads and blobs.

use std::io;

use bytes::Bytes;
use oci::Digest;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};

use super::tunnel::{send_messages, write_messages};
use super::{ClientSession, put_values};
use crate::grpc::received;
use crate::proto::content::{
    InfoRequest, InfoResponse, ReadContentRequest, ReadContentResponse, WriteAction,
    WriteContentRequest, WriteContentResponse,
};
use crate::proto::gateway::ResolveSourceMetaResponse;
use crate::proto::pb::SourceOp;
use crate::proto::session::{
    CheckAgentRequest, CheckPolicyRequest, CheckPolicyResponse, CredentialsRequest,
    CredentialsResponse, DecisionResponse, GetSecretRequest, GetSecretResponse,
};
use crate::proto::{BytesMessage, Empty};
use crate::raw_source::RawSource;

/// BuildKit's limit of a secret, in bytes.
const LARGEST_SECRET: usize = 500 << 10;
/// The pieces in which blobs are written; grpc-go takes messages up to 4 MiB.
const PIECE: usize = 1 << 20;

const GET_SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
const CHECK_AGENT: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD_AGENT: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
const CHECK_POLICY: &str =
    "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy";
const PULL: &str = "/moby.upload.v1.Upload/Pull";
const CONTENT_INFO: &str = "/containerd.services.content.v1.Content/Info";
const CONTENT_READ: &str = "/containerd.services.content.v1.Content/Read";
const CONTENT_WRITE: &str = "/containerd.services.content.v1.Content/Write";

/// The methods that BuildKit calls without looking whether the client has named them.
pub(super) const ASKED_ANYWAY: &[&str] = &[GET_SECRET, CREDENTIALS, CHECK_AGENT, FORWARD_AGENT];

/// The answers of a policy.
const ALLOW: i32 = 0;
const CONVERT: i32 = 2;

/// The header that names one of a client's stores of blobs.
const STORE_ID: &str = "buildkit-attachable-store-id";

/// A login for a registry; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionLogin {
    /// The user; empty where the secret is an identity token.
    pub username: String,
    /// The password or token.
    pub secret: String,
}

impl std::fmt::Debug for SessionLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionLogin(…)")
    }
}

/// A connection to an agent.
pub trait AgentStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AgentStream for T {}

impl ClientSession {
    /// A secret; none if the client has no such one.
    ///
    /// # Errors
    /// If the client does not answer, or the secret is too large.
    pub async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, Status> {
        let Ok(channel) = self.channel_for(GET_SECRET) else { return Ok(None) };
        let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
        match channel.unary::<_, GetSecretResponse>(GET_SECRET, Request::new(request)).await {
            Ok(answer) if answer.data.len() > LARGEST_SECRET => {
                let message = format!("secret `{id}` is larger than {} KiB", LARGEST_SECRET >> 10);
                Err(Status::invalid_argument(message))
            }
            Ok(answer) => Ok(Some(answer.data)),
            Err(status) if is_absent(&status) => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// The login for a registry; none if the client has none.
    ///
    /// # Errors
    /// If the client does not answer.
    pub async fn login(&self, host: &str) -> Result<Option<SessionLogin>, Status> {
        let Ok(channel) = self.channel_for(CREDENTIALS) else { return Ok(None) };
        // Docker's own name for its registry.
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let request = Request::new(CredentialsRequest { host: host.to_owned() });
        match channel.unary::<_, CredentialsResponse>(CREDENTIALS, request).await {
            Ok(answer) if answer.secret.is_empty() => Ok(None),
            Ok(answer) => {
                Ok(Some(SessionLogin { username: answer.username, secret: answer.secret }))
            }
            Err(status) if is_absent(&status) => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Asks the client's policy about a source.
    ///
    /// # Errors
    /// If it is denied, the policy asks for facts of the source or for another one, or the client
    /// does not answer.
    pub async fn check_source(
        &self,
        source: &RawSource,
        platform: &oci::Platform,
    ) -> Result<(), Status> {
        let channel = self.channel_for(CHECK_POLICY)?;
        let request = CheckPolicyRequest {
            platform: Some(platform.into()),
            source: Some(ResolveSourceMetaResponse {
                source: Some(SourceOp {
                    identifier: source.identifier.clone(),
                    attrs: source.attributes.clone().into_iter().collect(),
                }),
            }),
        };
        let answer: CheckPolicyResponse =
            channel.unary(CHECK_POLICY, Request::new(request)).await?;
        let name = &source.identifier;
        let refused = |reason: &str| {
            Err(Status::permission_denied(format!("source `{name}` is refused: {reason}")))
        };
        match answer.decision {
            Some(DecisionResponse { action: ALLOW, .. }) => Ok(()),
            Some(DecisionResponse { action: CONVERT, .. }) => {
                refused("its policy names another source for it, and kiln takes no other")
            }
            Some(DecisionResponse { deny_messages, .. }) => {
                let texts = deny_messages.iter().map(|denied| denied.message.as_str());
                let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
                let texts = if texts.is_empty() {
                    String::new()
                } else {
                    format!(": {}", texts.join("; "))
                };
                refused(&format!("not allowed by the client's policy{texts}"))
            }
            None if answer.request.is_some() => refused(
                "its policy asks for facts of it (a checksum, a signature), which kiln does not give",
            ),
            None => refused("its policy gives no answer"),
        }
    }

    /// True if the client has an agent of this id.
    ///
    /// # Errors
    /// If the client does not answer.
    pub async fn has_agent(&self, id: &str) -> Result<bool, Status> {
        let Ok(channel) = self.channel_for(CHECK_AGENT) else { return Ok(false) };
        let request = Request::new(CheckAgentRequest { id: id.to_owned() });
        match channel.unary::<_, Empty>(CHECK_AGENT, request).await {
            Ok(Empty {}) => Ok(true),
            // The client names no code for an id that it does not know.
            Err(status) if is_absent(&status) || status.code() == Code::Unknown => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// A connection to an agent.
    ///
    /// # Errors
    /// If the client refuses it.
    pub async fn agent(&self, id: &str) -> io::Result<Box<dyn AgentStream>> {
        let channel = self.channel_for(FORWARD_AGENT).map_err(io::Error::other)?;
        let (send, outgoing) = mpsc::channel::<BytesMessage>(4);
        let mut request = Request::new(received(outgoing));
        let id = MetadataValue::try_from(id).map_err(io::Error::other)?;
        request.metadata_mut().insert("buildkit.ssh.id", id);
        let channel = channel.clone();
        // The client answers nothing before it was asked something, not even headers.
        let call = async move { channel.streaming(FORWARD_AGENT, request).await };
        Ok(Box::new(joined(call, send)))
    }

    /// The bytes of an upload: a context on the client's standard input.
    ///
    /// # Errors
    /// If the client refuses it.
    pub async fn upload(&self, host: &str, path: &str) -> Result<ByteStream, Status> {
        let channel = self.channel_for(PULL)?;
        let (send, outgoing) = mpsc::channel::<BytesMessage>(1);
        let mut request = Request::new(received(outgoing));
        let metadata = request.metadata_mut();
        put_values(metadata, "urlhost", "urlhost-encoded", &[host.to_owned()]);
        put_values(metadata, "urlpath", "urlpath-encoded", &[path.to_owned()]);
        let incoming: Streaming<BytesMessage> = channel.streaming(PULL, request).await?;
        Ok(ByteStream { incoming, _open: send })
    }

    /// The size of a blob in one of the client's stores; none if it is not there.
    ///
    /// # Errors
    /// If the client does not answer.
    pub async fn blob_size(&self, store: &str, digest: &Digest) -> Result<Option<u64>, Status> {
        let channel = self.channel_for(CONTENT_INFO)?;
        let mut request = Request::new(InfoRequest { digest: digest.to_string() });
        of_store(&mut request, store)?;
        match channel.unary::<_, InfoResponse>(CONTENT_INFO, request).await {
            Ok(answer) => Ok(answer.info.map(|info| info.size.max(0).cast_unsigned())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Fetches a blob of one of the client's stores, and verifies it.
    ///
    /// # Errors
    /// If the client refuses it, it has more than `most` bytes, or is not what its digest says.
    pub async fn fetch_blob(
        &self,
        store: &str,
        digest: &Digest,
        most: u64,
        mut to: impl AsyncWrite + Unpin + Send,
    ) -> Result<(), Status> {
        let channel = self.channel_for(CONTENT_READ)?;
        let request = ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 };
        // A stream of one message is a single message on the wire.
        let mut request = Request::new(futures_util::stream::iter([request]));
        of_store(&mut request, store)?;
        let mut incoming: Streaming<ReadContentResponse> =
            channel.streaming(CONTENT_READ, request).await?;
        let (mut hasher, mut size) = (oci::Hasher::new(), 0);
        while let Some(piece) = incoming.message().await? {
            size += piece.data.len() as u64;
            if size > most {
                return Err(Status::out_of_range(format!("it has more than {most} bytes")));
            }
            hasher.update(&piece.data);
            to.write_all(&piece.data).await.map_err(internal)?;
        }
        to.flush().await.map_err(internal)?;
        if hasher.finish() == *digest {
            Ok(())
        } else {
            Err(Status::data_loss("it is not what its digest says"))
        }
    }

    /// Writes a blob into one of the client's stores. One that is there stays.
    ///
    /// # Errors
    /// If it cannot be read, or the client refuses it.
    pub async fn write_blob(
        &self,
        store: &str,
        digest: &Digest,
        size: u64,
        mut content: impl AsyncRead + Unpin + Send,
    ) -> Result<(), Status> {
        let channel = self.channel_for(CONTENT_WRITE)?;
        let (send, outgoing) = mpsc::channel::<WriteContentRequest>(2);
        let mut request = Request::new(received(outgoing));
        of_store(&mut request, store)?;
        let total = i64::try_from(size).map_err(|_| Status::out_of_range("blob size"))?;
        let begin = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: format!("kiln-{digest}"),
            total,
            expected: digest.to_string(),
            ..WriteContentRequest::default()
        };
        let ended = || Status::unavailable("the client has ended the transfer of a blob");
        send.send(begin.clone()).await.map_err(|_| ended())?;
        let answer = channel.streaming::<_, WriteContentResponse>(CONTENT_WRITE, request).await;
        let mut answers = match answer {
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            answer => answer?,
        };
        match answers.message().await {
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            answer => answer?.ok_or_else(ended)?,
        };
        let mut offset = 0;
        loop {
            let mut data = bytes::BytesMut::with_capacity(PIECE);
            while data.len() < PIECE {
                if content.read_buf(&mut data).await.map_err(internal)? == 0 {
                    break;
                }
            }
            if data.is_empty() {
                break;
            }
            let written = data.len() as i64;
            let piece = WriteContentRequest {
                action: WriteAction::Write.into(),
                offset,
                data: data.freeze(),
                ..begin.clone()
            };
            offset += written;
            if send.send(piece).await.is_err() {
                break;
            }
            answers.message().await?.ok_or_else(ended)?;
        }
        let commit = WriteContentRequest { action: WriteAction::Commit.into(), offset, ..begin };
        // A client that has ended says why in its answer.
        let _ = send.send(commit).await;
        match answers.message().await {
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(status),
            Ok(_) => Ok(()),
        }
    }
}

fn internal(error: io::Error) -> Status {
    Status::internal(error.to_string())
}

/// True if a client does not have what it was asked for.
fn is_absent(status: &Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::Unimplemented)
}

fn of_store<T>(request: &mut Request<T>, store: &str) -> Result<(), Status> {
    let store = MetadataValue::try_from(store)
        .map_err(|_| Status::invalid_argument(format!("store id {store:?} is no header")))?;
    request.metadata_mut().insert(STORE_ID, store);
    Ok(())
}

/// A connection of messages each way.
fn joined(
    call: impl Future<Output = Result<Streaming<BytesMessage>, Status>> + Send + 'static,
    send: mpsc::Sender<BytesMessage>,
) -> tokio::io::DuplexStream {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (read, mut write) = tokio::io::split(far);
    tokio::spawn(async move {
        if let Ok(incoming) = call.await {
            write_messages(incoming, &mut write).await;
        }
        let _ = write.shutdown().await;
    });
    tokio::spawn(send_messages(read, 32 << 10, send, std::convert::identity));
    near
}

/// Bytes that a client sends.
pub struct ByteStream {
    incoming: Streaming<BytesMessage>,
    /// The client takes the end of our half for the end of the call.
    _open: mpsc::Sender<BytesMessage>,
}

impl ByteStream {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// If the client breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        Ok(self.incoming.message().await?.map(|message| message.data))
    }
}

/// A client's bytes, for those who block; not for the threads of a runtime.
pub struct ByteReader {
    stream: ByteStream,
    threads: tokio::runtime::Handle,
    piece: Bytes,
}

impl ByteStream {
    /// The bytes for those who block. Must be called in a runtime.
    pub fn into_reader(self) -> ByteReader {
        let threads = tokio::runtime::Handle::current();
        ByteReader { stream: self, threads, piece: Bytes::new() }
    }
}

impl io::Read for ByteReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.threads.block_on(self.stream.next()) {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => return Ok(0),
                Err(status) => return Err(io::Error::other(status.message().to_owned())),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
