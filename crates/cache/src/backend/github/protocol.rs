//! The two interfaces of GitHub's cache service.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use oci::Digest;
use registry::{Client, Stats};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use super::{GITHUB_TOKEN, GithubSettings, GithubVersion, watched};

/// Bytes that are sent in one request.
const CHUNK: u64 = 32 << 20;
/// The largest response of the service, in bytes. Entries come from another storage.
const RESPONSE_LIMIT: u64 = 32 << 10;
/// Characters of a refusal that are shown.
const SHOWN_TEXT: usize = 300;
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Attempts to send a block to the storage.
const BLOCK_ATTEMPTS: u32 = 4;
const SERVICE: &str = "twirp/github.actions.results.api.v1.CacheService";

/// A failed request. Signed URLs open an entry to anyone, so no message has one.
#[derive(Debug, thiserror::Error)]
pub(super) enum GithubError {
    #[error("{request}: no answer in time")]
    Timeout { request: String },
    #[error("{request}: {source}")]
    Http { request: String, source: reqwest::Error },
    #[error("{request}: its answer is too long")]
    LongResponse { request: String },
    #[error("{request}: the service answered {status} {text}")]
    Refused { request: String, status: StatusCode, text: String },
    #[error("the service's answer cannot be read")]
    Response(#[from] serde_json::Error),
    #[error("the service gave an address that is not a URL")]
    SignedUrl,
    #[error("the service's address is not a URL")]
    Address,
    #[error(transparent)]
    Client(#[from] registry::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its storage answered {0}")]
    Storage(StatusCode),
    #[error(transparent)]
    StorageHttp(reqwest::Error),
    #[error("its storage did not answer in time")]
    StorageTimeout,
    #[error("the service has no such entry")]
    NoEntry,
    #[error("the service reserved no entry")]
    NotReserved,
    #[error("the service did not keep the entry")]
    NotKept,
    #[error("it is larger than {} MiB", .0 >> 20)]
    TooLarge(u64),
    #[error("every number is taken")]
    NoFreeNumber,
}

/// A client of the service.
pub(super) struct Protocol {
    client: Client,
    base: Url,
    version: GithubVersion,
    token: String,
    timeout: Duration,
    /// The version of all entries: BuildKit's, by which both find each other's entries.
    namespace: String,
}

impl std::fmt::Debug for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Protocol").field(&self.version).finish()
    }
}

/// An entry of the service.
pub(super) struct GithubEntry {
    pub key: String,
    /// Signed: it gives access without a token.
    url: Url,
}

/// A key that is reserved for an entry.
pub(super) struct Reserved {
    key: String,
    /// The entry's number (version 1), or a signed URL (version 2).
    handle: String,
}

/// The content of an entry.
#[derive(Clone, Copy)]
pub(super) enum EntryContent<'a> {
    Bytes(&'a [u8]),
    /// A file and its size.
    File(&'a Path, u64),
}

#[derive(Serialize)]
struct KeyRequest<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    restore_keys: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    version: &'a str,
}

#[derive(Deserialize)]
struct FoundOne {
    #[serde(rename = "cacheKey", default)]
    key: String,
    #[serde(rename = "archiveLocation", default)]
    url: String,
}

#[derive(Deserialize)]
struct ReservedOne {
    #[serde(rename = "cacheId", alias = "cacheID")]
    id: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseTwo {
    ok: bool,
    signed_download_url: String,
    signed_upload_url: String,
    matched_key: String,
}

/// A response of the service.
enum ServiceResponse {
    Done(Bytes),
    /// There is such an entry already.
    Exists,
}

/// A request to the service.
struct ServiceRequest {
    method: Method,
    url: Url,
    body: Option<Bytes>,
    /// The part of an entry that the body is.
    range: Option<String>,
}

impl ServiceRequest {
    fn new(method: Method, url: Url) -> Self {
        Self { method, url, body: None, range: None }
    }

    fn with_body(self, body: impl Into<Bytes>) -> Self {
        Self { body: Some(body.into()), ..self }
    }
}

impl Protocol {
    pub fn new(client: Client, settings: &GithubSettings) -> Result<Self, GithubError> {
        let address = format!("{}/", settings.url.trim_end_matches('/'));
        Ok(Self {
            client,
            base: Url::parse(&address).map_err(|_| GithubError::Address)?,
            version: settings.version,
            token: settings.credentials.get(GITHUB_TOKEN).unwrap_or_default().to_owned(),
            timeout: settings.timeout,
            namespace: Digest::of("|go-actionscache-1.0").hex(),
        })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The newest entry whose key has a prefix.
    pub async fn find(&self, key: &str) -> Result<Option<GithubEntry>, GithubError> {
        match self.version {
            GithubVersion::One => {
                let mut url = self.url("_apis/artifactcache/cache")?;
                let version = &self.namespace;
                url.query_pairs_mut().append_pair("keys", key).append_pair("version", version);
                let request = ServiceRequest::new(Method::GET, url);
                let ServiceResponse::Done(bytes) = self.send(request).await? else {
                    return Ok(None);
                };
                // The response has no body if nothing was found.
                if bytes.is_empty() {
                    return Ok(None);
                }
                let found: FoundOne = serde_json::from_slice(&bytes)?;
                if found.key.is_empty() {
                    return Ok(None);
                }
                Ok(Some(GithubEntry { key: found.key, url: signed(&found.url)? }))
            }
            GithubVersion::Two => {
                let request = KeyRequest {
                    key,
                    restore_keys: vec![key],
                    size_bytes: None,
                    version: &self.namespace,
                };
                match self.twirp("GetCacheEntryDownloadURL", &request).await? {
                    Some(found) if found.ok => Ok(Some(GithubEntry {
                        key: found.matched_key,
                        url: signed(&found.signed_download_url)?,
                    })),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Reserves a key; `None` if it is taken.
    pub async fn reserve(&self, key: &str) -> Result<Option<Reserved>, GithubError> {
        let handle = match self.version {
            GithubVersion::One => {
                let url = self.url("_apis/artifactcache/caches")?;
                let body = serde_json::json!({"key": key, "version": self.namespace});
                let request = ServiceRequest::new(Method::POST, url).with_body(body.to_string());
                match self.send(request).await? {
                    ServiceResponse::Exists => return Ok(None),
                    ServiceResponse::Done(bytes) => {
                        serde_json::from_slice::<ReservedOne>(&bytes)?.id.to_string()
                    }
                }
            }
            GithubVersion::Two => {
                let request = KeyRequest {
                    key,
                    restore_keys: Vec::new(),
                    size_bytes: None,
                    version: &self.namespace,
                };
                match self.twirp("CreateCacheEntry", &request).await? {
                    None => return Ok(None),
                    Some(answer) if answer.ok => answer.signed_upload_url,
                    Some(_) => return Err(GithubError::NotReserved),
                }
            }
        };
        Ok(Some(Reserved { key: key.to_owned(), handle }))
    }

    /// Writes an entry and publishes it.
    pub async fn fill(&self, to: &Reserved, content: EntryContent<'_>) -> Result<(), GithubError> {
        let mut chunks = Chunks::open(content).await?;
        let mut blocks = Vec::new();
        while let Some((at, chunk)) = chunks.next().await? {
            match self.version {
                GithubVersion::One => {
                    let end = (at + chunk.len() as u64).saturating_sub(1);
                    let request = ServiceRequest {
                        method: Method::PATCH,
                        url: self.entry(to)?,
                        body: Some(chunk),
                        range: Some(format!("bytes {at}-{end}/*")),
                    };
                    self.send(request).await?;
                }
                GithubVersion::Two => {
                    let id = STANDARD.encode(format!("{:08}", blocks.len()));
                    let mut url = signed(&to.handle)?;
                    url.query_pairs_mut().append_pair("comp", "block").append_pair("blockid", &id);
                    self.put_storage(url, chunk).await?;
                    blocks.push(id);
                }
            }
        }
        match self.version {
            GithubVersion::One => {
                let body = serde_json::json!({"size": chunks.size}).to_string();
                let request = ServiceRequest::new(Method::POST, self.entry(to)?).with_body(body);
                self.send(request).await?;
                Ok(())
            }
            GithubVersion::Two => self.commit(to, &blocks, chunks.size).await,
        }
    }

    /// Publishes an entry of the given blocks.
    async fn commit(&self, to: &Reserved, blocks: &[String], size: u64) -> Result<(), GithubError> {
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for id in blocks {
            list.push_str(&format!("<Latest>{id}</Latest>"));
        }
        list.push_str("</BlockList>");
        let mut url = signed(&to.handle)?;
        url.query_pairs_mut().append_pair("comp", "blocklist");
        self.put_storage(url, list.into()).await?;
        let request = KeyRequest {
            key: &to.key,
            restore_keys: Vec::new(),
            size_bytes: Some(size),
            version: &self.namespace,
        };
        match self.twirp("FinalizeCacheEntryUpload", &request).await? {
            Some(response) if response.ok => Ok(()),
            _ => Err(GithubError::NotKept),
        }
    }

    /// Downloads an entry.
    pub async fn download(
        &self,
        entry: &GithubEntry,
    ) -> Result<impl Stream<Item = Result<Bytes, reqwest::Error>> + use<>, GithubError> {
        let client = self.client.wire(&entry.url).await?;
        self.client.count(Stats { requests: 1, ..Stats::default() });
        let request = client.get(entry.url.clone());
        let response = tokio::time::timeout(self.timeout, request.send()).await;
        let response = response
            .map_err(|_| GithubError::StorageTimeout)?
            .map_err(|error| GithubError::StorageHttp(error.without_url()))?;
        if !response.status().is_success() {
            return Err(GithubError::Storage(response.status()));
        }
        Ok(response.bytes_stream().map(|chunk| chunk.map_err(reqwest::Error::without_url)))
    }

    /// The bytes of an entry of at most `limit` bytes.
    pub async fn bytes(&self, entry: &GithubEntry, limit: u64) -> Result<Vec<u8>, GithubError> {
        let stream = self.download(entry).await?;
        let mut stream = std::pin::pin!(watched(self.client.clone(), stream));
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() as u64 > limit {
                return Err(GithubError::TooLarge(limit));
            }
        }
        Ok(bytes)
    }

    fn url(&self, path: &str) -> Result<Url, GithubError> {
        self.base.join(path).map_err(|_| GithubError::Address)
    }

    fn entry(&self, to: &Reserved) -> Result<Url, GithubError> {
        self.url(&format!("_apis/artifactcache/caches/{}", to.handle))
    }

    async fn twirp(
        &self,
        method: &str,
        request: &KeyRequest<'_>,
    ) -> Result<Option<ResponseTwo>, GithubError> {
        let url = self.url(&format!("{SERVICE}/{method}"))?;
        let request =
            ServiceRequest::new(Method::POST, url).with_body(serde_json::to_vec(request)?);
        match self.send(request).await? {
            ServiceResponse::Exists => Ok(None),
            ServiceResponse::Done(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        }
    }

    /// Sends a request to the service, again while it is overloaded.
    async fn send(&self, request: ServiceRequest) -> Result<ServiceResponse, GithubError> {
        let name = || format!("{} {}", request.method, request.url.path());
        let deadline = Instant::now() + self.timeout;
        let mut pause = Duration::from_secs(1);
        loop {
            let sent = self.build(&request).await?.send();
            let left = deadline.saturating_duration_since(Instant::now());
            let response = tokio::time::timeout(left, sent).await;
            let response = response
                .map_err(|_| GithubError::Timeout { request: name() })?
                .map_err(|error| http_error(name(), error))?;
            let status = response.status();
            let wanted = response.headers().get("retry-after");
            let wanted = wanted.and_then(|value| value.to_str().ok()?.parse().ok());
            let bytes = limited(response, &name).await?;
            if status.is_success() {
                return Ok(ServiceResponse::Done(bytes));
            }
            let text = String::from_utf8_lossy(&bytes);
            if says_exists(status, &text) {
                return Ok(ServiceResponse::Exists);
            }
            let wait = wanted.map_or(pause, Duration::from_secs);
            let is_passing = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            if !is_passing || Instant::now() + wait >= deadline {
                let text = text.chars().take(SHOWN_TEXT).collect();
                return Err(GithubError::Refused { request: name(), status, text });
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A request with its headers, counted as sent.
    async fn build(&self, request: &ServiceRequest) -> Result<RequestBuilder, GithubError> {
        let client = self.client.wire(&request.url).await?;
        let mut builder = client
            .request(request.method.clone(), request.url.clone())
            .bearer_auth(&self.token)
            .header("accept", "application/json;api-version=6.0-preview.1");
        builder = match &request.range {
            Some(range) => builder
                .header("content-type", "application/octet-stream")
                .header("content-range", range),
            None => builder.header("content-type", "application/json"),
        };
        let bytes_up = request.body.as_ref().map_or(0, Bytes::len) as u64;
        self.client.count(Stats { requests: 1, bytes_up, bytes_down: 0 });
        Ok(match &request.body {
            Some(body) => builder.body(body.clone()),
            None => builder,
        })
    }

    /// Sends a block to the storage behind the service.
    async fn put_storage(&self, url: Url, body: Bytes) -> Result<(), GithubError> {
        let client = self.client.wire(&url).await?;
        let stats = Stats { requests: 1, bytes_up: body.len() as u64, bytes_down: 0 };
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.client.count(stats);
            let request = client.put(url.clone()).header("x-ms-version", "2021-12-02");
            let sent = tokio::time::timeout(self.timeout, request.body(body.clone()).send()).await;
            let is_last = attempt == BLOCK_ATTEMPTS;
            match sent.map_err(|_| GithubError::StorageTimeout)? {
                Ok(response) if response.status().is_success() => return Ok(()),
                Ok(response) if is_last || response.status().is_client_error() => {
                    return Err(GithubError::Storage(response.status()));
                }
                Err(error) if is_last => return Err(GithubError::StorageHttp(error.without_url())),
                _ => tokio::time::sleep(Duration::from_secs(1 << (attempt - 1))).await,
            }
        }
    }
}

/// The content of an entry, in parts of [`CHUNK`] bytes. Empty content is one empty part.
struct Chunks<'a> {
    content: EntryContent<'a>,
    file: Option<tokio::fs::File>,
    size: u64,
    at: u64,
    done: bool,
}

impl<'a> Chunks<'a> {
    async fn open(content: EntryContent<'a>) -> Result<Self, GithubError> {
        let (size, file) = match content {
            EntryContent::Bytes(bytes) => (bytes.len() as u64, None),
            EntryContent::File(path, size) => (size, Some(tokio::fs::File::open(path).await?)),
        };
        Ok(Self { content, file, size, at: 0, done: false })
    }

    /// The next part and its offset.
    async fn next(&mut self) -> Result<Option<(u64, Bytes)>, GithubError> {
        if self.done {
            return Ok(None);
        }
        let at = self.at;
        let end = self.size.min(at + CHUNK);
        let chunk = match (self.content, &mut self.file) {
            (EntryContent::Bytes(bytes), _) => {
                Bytes::copy_from_slice(&bytes[at as usize..end as usize])
            }
            (EntryContent::File(..), Some(file)) => {
                let mut chunk = vec![0; (end - at) as usize];
                file.read_exact(&mut chunk).await?;
                chunk.into()
            }
            (EntryContent::File(..), None) => Bytes::new(),
        };
        self.at = end;
        self.done = end == self.size;
        Ok(Some((at, chunk)))
    }
}

/// Parses a signed URL.
fn signed(url: &str) -> Result<Url, GithubError> {
    Url::parse(url).map_err(|_| GithubError::SignedUrl)
}

/// True if a refusal says that there is such an entry. The service has no single way to say it.
fn says_exists(status: StatusCode, text: &str) -> bool {
    let text = text.to_lowercase();
    status == StatusCode::CONFLICT
        || ["already_exists", "alreadyexists", "already exists"]
            .iter()
            .any(|phrase| text.contains(phrase))
}

fn http_error(request: String, error: reqwest::Error) -> GithubError {
    GithubError::Http { request, source: error.without_url() }
}

/// The body of a response of at most [`RESPONSE_LIMIT`] bytes.
async fn limited(
    response: Response,
    name: &(dyn Fn() -> String + Sync),
) -> Result<Bytes, GithubError> {
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| http_error(name(), error))?);
        if bytes.len() as u64 > RESPONSE_LIMIT {
            return Err(GithubError::LongResponse { request: name() });
        }
    }
    Ok(bytes.into())
}
