//! Blobs to a registry, with as few requests as will do.
//!
//! | the caller knows | requests for a new blob | for one that is there |
//! |---|---|---|
//! | a repository that has it | POST mount (1) | POST mount (1) |
//! | nothing | HEAD, POST, PUT (3) | HEAD (1) |
//! | that it is new | POST, PUT (2) | POST, PUT (2) |

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use oci::{Descriptor, Digest, Repository};
use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::io::StreamReader;

use crate::auth::Scopes;
use crate::blob_source::BlobSource;
use crate::client::{Client, Presence};
use crate::endpoint::Endpoint;
use crate::exchange::{ApiRequest, Target};
use crate::payload::Payload;
use crate::upload::Upload;
use crate::upload_session::UploadSession;
use crate::{Error, Result};

/// A blob that another repository has.
struct Elsewhere<'a> {
    client: &'a Client,
    repository: &'a Repository,
    descriptor: &'a Descriptor,
}

impl BlobSource for Elsewhere<'_> {
    type Reader = Pin<Box<dyn AsyncRead + Send>>;

    async fn open(&self, offset: u64) -> io::Result<Self::Reader> {
        let stream = self.client.blob(self.repository, self.descriptor).await;
        let stream = stream.map_err(io::Error::other)?.map_err(io::Error::other);
        let mut reader = StreamReader::new(stream);
        // Only an upload that broke off begins further on.
        tokio::io::copy(&mut (&mut reader).take(offset), &mut tokio::io::sink()).await?;
        Ok(Box::pin(reader))
    }
}

/// The caller's knowledge of a blob at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing: the registry is asked before bytes are sent.
    Unknown,
    /// The blob is new, or so small that a check costs as much as sending it.
    New,
}

/// The way a blob came into a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent; its size in bytes.
    Uploaded(u64),
}

/// Other repositories that are tried for a cross-repository mount before bytes are sent.
const MOST_MOUNTS: usize = 2;

impl Client {
    /// The size of a blob in a repository, if it is there. Each blob is asked for once.
    ///
    /// # Errors
    /// If the registry does not say.
    pub async fn exists(&self, repository: &Repository, digest: Digest) -> Result<Option<u64>> {
        let endpoint = self.origin(repository.host())?;
        let scopes = Scopes::pull(endpoint.path(repository));
        match self.find(&endpoint, repository, digest, scopes).await? {
            Presence::Absent => Ok(None),
            Presence::Present(Some(size)) => Ok(Some(size)),
            Presence::Present(None) => Err(Error::Protocol {
                host: endpoint.authority.clone(),
                what: format!("blob {digest}"),
                reason: "it does not say its size".into(),
            }),
        }
    }

    /// Makes sure that a repository has a blob. Where `mount_from` names repositories of the same
    /// registry that have it, the registry is asked to take it from there.
    ///
    /// # Errors
    /// [`Error::Source`] if the bytes cannot be read; others if the registry does not take them.
    #[expect(clippy::too_many_arguments, reason = "one call, each word of it its own type")]
    pub async fn push_blob<S: BlobSource>(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        source: &S,
        mount_from: &[Repository],
        expect: Expect,
    ) -> Result<Pushed> {
        let digest = descriptor.digest;
        let presence = self.presence(repository, digest);
        if matches!(*presence.lock().await, Some(Presence::Present(_))) {
            return Ok(Pushed::Existed);
        }
        let endpoint = self.origin(repository.host())?;
        let upload = Upload { client: self, endpoint: &endpoint, repository, descriptor, source };
        let mut session = None;
        let others = mount_from
            .iter()
            .filter(|from| from.host() == repository.host() && *from != repository);
        for from in others.take(MOST_MOUNTS) {
            // A mount that fails is a mount that is not: sending the bytes will tell why.
            match upload.mount(from).await {
                Ok(None) => {
                    *presence.lock().await = Some(Presence::Present(Some(descriptor.size)));
                    return Ok(Pushed::Mounted);
                }
                Ok(opened) => session = opened,
                Err(_) => {}
            }
        }
        if expect == Expect::Unknown {
            let scopes = Scopes::push(endpoint.path(repository));
            let found = self.find(&endpoint, repository, digest, scopes).await?;
            if found != Presence::Absent {
                return Ok(Pushed::Existed);
            }
        }
        let session: UploadSession = match session.or_else(|| self.begun().take(repository)) {
            Some(session) => session,
            None => upload.open().await?,
        };
        upload.run(session).await?;
        *presence.lock().await = Some(Presence::Present(Some(descriptor.size)));
        Ok(Pushed::Uploaded(descriptor.size))
    }

    /// Sends a small blob that is in memory, such as a config, without asking whether it is there.
    ///
    /// # Errors
    /// As [`Client::push_blob`].
    pub async fn push_bytes(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        bytes: Bytes,
    ) -> Result<()> {
        self.push_blob(repository, descriptor, &bytes, &[], Expect::New).await.map(drop)
    }

    /// Makes sure that a repository has a blob of another one, which may be of another registry:
    /// then the bytes come through here.
    ///
    /// # Errors
    /// As [`Client::push_blob`].
    pub async fn copy_blob(
        &self,
        from: &Repository,
        to: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Pushed> {
        let source = Elsewhere { client: self, repository: from, descriptor };
        let others = std::slice::from_ref(from);
        self.push_blob(to, descriptor, &source, others, Expect::Unknown).await
    }

    async fn find(
        &self,
        endpoint: &Endpoint,
        repository: &Repository,
        digest: Digest,
        scopes: Scopes,
    ) -> Result<Presence> {
        let cell = self.presence(repository, digest);
        let mut known = cell.lock().await;
        if let Some(presence) = *known {
            return Ok(presence);
        }
        let presence = self.head_blob(endpoint, repository, digest, scopes).await?;
        Ok(*known.insert(presence))
    }

    pub(crate) async fn head_blob(
        &self,
        endpoint: &Endpoint,
        repository: &Repository,
        digest: Digest,
        scopes: Scopes,
    ) -> Result<Presence> {
        let ask = ApiRequest {
            endpoint,
            repository,
            scopes,
            method: Method::HEAD,
            target: Target::Path(format!("{}/blobs/{digest}", endpoint.path(repository))),
            headers: HeaderMap::new(),
            what: format!("blob {digest} of `{repository}`"),
        };
        let answer = self.call(&ask, &Payload::EMPTY).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(Presence::Absent),
            status if status.is_success() => {
                let length = answer.header(CONTENT_LENGTH);
                Ok(Presence::Present(length.and_then(|length| length.parse().ok())))
            }
            _ => Err(self.refusal(&ask, answer).await),
        }
    }
}
