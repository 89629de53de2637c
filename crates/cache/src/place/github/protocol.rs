//! The two interfaces of GitHub's cache service.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use oci::Digest;
use registry::{Client, Stats};
use reqwest::{Method, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use transfer::RemoteError;

use super::{GITHUB_TOKEN, GithubSettings, GithubVersion};

/// How much goes at once.
const CHUNK: u64 = 32 << 20;
/// Answers of the service are small.
const ANSWER_LIMIT: u64 = 32 << 10;
const SERVICE: &str = "twirp/github.actions.results.api.v1.CacheService";

/// Speaks to the service.
pub(super) struct Protocol {
    client: Client,
    base: Url,
    version: GithubVersion,
    token: String,
    timeout: Duration,
    /// The namespace of entries. BuildKit's, or its entries would not be found.
    namespace: String,
}

impl std::fmt::Debug for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Protocol").field(&self.version).finish()
    }
}

/// An entry that was found.
pub(super) struct Entry {
    pub key: String,
    /// Signed: whoever has it can read the entry.
    url: Url,
}

/// An entry that is to be written.
pub(super) struct Reserved {
    key: String,
    /// Number, or signed address.
    handle: String,
}

/// What goes into an entry.
pub(super) enum Content<'a> {
    Bytes(&'a [u8]),
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
struct AnswerTwo {
    ok: bool,
    signed_download_url: String,
    signed_upload_url: String,
    matched_key: String,
}

/// What a request is answered with.
enum Answered {
    Well(Bytes),
    /// There is such an entry already.
    Exists,
}

impl Protocol {
    pub fn new(client: Client, settings: &GithubSettings) -> Result<Self, RemoteError> {
        let address = format!("{}/", settings.url.trim_end_matches('/'));
        Ok(Self {
            client,
            base: Url::parse(&address)?,
            version: settings.version,
            token: settings.credentials.get(GITHUB_TOKEN).unwrap_or_default().to_owned(),
            timeout: settings.timeout,
            namespace: Digest::of("|go-actionscache-1.0").hex(),
        })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The newest entry whose key begins so.
    pub async fn find(&self, key: &str) -> Result<Option<Entry>, RemoteError> {
        match self.version {
            GithubVersion::One => {
                let mut url = self.base.join("_apis/artifactcache/cache")?;
                let version = &self.namespace;
                url.query_pairs_mut().append_pair("keys", key).append_pair("version", version);
                let Answered::Well(bytes) = self.ask(Method::GET, url, None, None).await? else {
                    return Ok(None);
                };
                // Nothing found is an answer without a body.
                if bytes.is_empty() {
                    return Ok(None);
                }
                let found: FoundOne = serde_json::from_slice(&bytes)?;
                match found.key.is_empty() {
                    true => Ok(None),
                    false => Ok(Some(Entry { key: found.key, url: signed(&found.url)? })),
                }
            }
            GithubVersion::Two => {
                let request = KeyRequest {
                    key,
                    restore_keys: vec![key],
                    size_bytes: None,
                    version: &self.namespace,
                };
                match self.twirp("GetCacheEntryDownloadURL", &request).await? {
                    Some(found) if found.ok => Ok(Some(Entry {
                        key: found.matched_key,
                        url: signed(&found.signed_download_url)?,
                    })),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Takes a key; none if it is taken.
    pub async fn reserve(&self, key: &str) -> Result<Option<Reserved>, RemoteError> {
        let handle = match self.version {
            GithubVersion::One => {
                let url = self.base.join("_apis/artifactcache/caches")?;
                let body = serde_json::json!({"key": key, "version": self.namespace});
                let body = body.to_string().into();
                match self.ask(Method::POST, url, Some(body), None).await? {
                    Answered::Exists => return Ok(None),
                    Answered::Well(bytes) => {
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
                    Some(_) => return Err("the service gave no entry".into()),
                }
            }
        };
        Ok(Some(Reserved { key: key.to_owned(), handle }))
    }

    /// Writes an entry and makes it found.
    pub async fn fill(&self, to: &Reserved, content: Content<'_>) -> Result<(), RemoteError> {
        let (size, mut file) = match &content {
            Content::Bytes(bytes) => (bytes.len() as u64, None),
            Content::File(path, size) => (*size, Some(tokio::fs::File::open(path).await?)),
        };
        let mut blocks = Vec::new();
        let mut at = 0;
        while at < size || (at == 0 && size == 0) {
            let length = CHUNK.min(size - at);
            let chunk: Bytes = match (&content, &mut file) {
                (Content::File(..), Some(file)) => {
                    let mut chunk = vec![0; usize::try_from(length)?];
                    file.read_exact(&mut chunk).await?;
                    chunk.into()
                }
                (Content::Bytes(bytes), _) => {
                    let at = usize::try_from(at)?;
                    Bytes::copy_from_slice(&bytes[at..at + usize::try_from(length)?])
                }
                (Content::File(..), None) => Bytes::new(),
            };
            match self.version {
                GithubVersion::One => {
                    let end = (at + length).saturating_sub(1);
                    let range = format!("bytes {at}-{end}/*");
                    let url = self.entry(to)?;
                    self.ask(Method::PATCH, url, Some(chunk), Some(range)).await?;
                }
                GithubVersion::Two => {
                    let id = STANDARD.encode(format!("{:08}", blocks.len()));
                    let mut url = signed(&to.handle)?;
                    url.query_pairs_mut().append_pair("comp", "block").append_pair("blockid", &id);
                    self.azure(url, chunk).await?;
                    blocks.push(id);
                }
            }
            at += length.max(1);
        }
        match self.version {
            GithubVersion::One => {
                let body = serde_json::json!({"size": size}).to_string().into();
                self.ask(Method::POST, self.entry(to)?, Some(body), None).await.map(drop)
            }
            GithubVersion::Two => {
                let mut list =
                    String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
                for id in &blocks {
                    list.push_str(&format!("<Latest>{id}</Latest>"));
                }
                list.push_str("</BlockList>");
                let mut url = signed(&to.handle)?;
                url.query_pairs_mut().append_pair("comp", "blocklist");
                self.azure(url, list.into()).await?;
                let request = KeyRequest {
                    key: &to.key,
                    restore_keys: Vec::new(),
                    size_bytes: Some(size),
                    version: &self.namespace,
                };
                match self.twirp("FinalizeCacheEntryUpload", &request).await? {
                    Some(answer) if answer.ok => Ok(()),
                    _ => Err("the service did not keep the entry".into()),
                }
            }
        }
    }

    /// An entry's bytes, from some place on.
    pub async fn download(
        &self,
        entry: &Entry,
        from: u64,
    ) -> Result<impl Stream<Item = Result<Bytes, String>> + use<>, RemoteError> {
        let client = self.client.wire(&entry.url).await?;
        self.client.count(Stats { requests: 1, ..Stats::default() });
        let mut request = client.get(entry.url.clone());
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let answer = tokio::time::timeout(self.timeout, request.send()).await?;
        let answer = answer.map_err(reqwest::Error::without_url)?;
        if !answer.status().is_success() {
            return Err(format!("its storage answered {}", answer.status()).into());
        }
        Ok(answer
            .bytes_stream()
            .map(|chunk| chunk.map_err(|error| error.without_url().to_string())))
    }

    /// An entry's bytes, if they are few.
    pub async fn bytes(&self, entry: &Entry, limit: u64) -> Result<Vec<u8>, RemoteError> {
        let stream = self.download(entry, 0).await?;
        let mut stream = std::pin::pin!(super::watched(self.client.clone(), stream));
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() as u64 > limit {
                return Err(format!("it is larger than {} MiB", limit >> 20).into());
            }
        }
        Ok(bytes)
    }

    fn entry(&self, to: &Reserved) -> Result<Url, RemoteError> {
        Ok(self.base.join(&format!("_apis/artifactcache/caches/{}", to.handle))?)
    }

    async fn twirp(
        &self,
        method: &str,
        request: &KeyRequest<'_>,
    ) -> Result<Option<AnswerTwo>, RemoteError> {
        let url = self.base.join(&format!("{SERVICE}/{method}"))?;
        let body = serde_json::to_vec(request)?.into();
        match self.ask(Method::POST, url, Some(body), None).await? {
            Answered::Exists => Ok(None),
            Answered::Well(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        }
    }

    /// Asks the service; again where it says that it has too much to do.
    async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Option<Bytes>,
        range: Option<String>,
    ) -> Result<Answered, RemoteError> {
        let client = self.client.wire(&url).await?;
        let what = format!("{method} {}", url.path());
        let deadline = Instant::now() + self.timeout;
        let mut pause = Duration::from_secs(1);
        loop {
            let mut request = client
                .request(method.clone(), url.clone())
                .bearer_auth(&self.token)
                .header("accept", "application/json;api-version=6.0-preview.1");
            request = match &range {
                Some(range) => request
                    .header("content-type", "application/octet-stream")
                    .header("content-range", range),
                None => request.header("content-type", "application/json"),
            };
            if let Some(body) = &body {
                let bytes_up = body.len() as u64;
                self.client.count(Stats { bytes_up, ..Stats::default() });
                request = request.body(body.clone());
            }
            self.client.count(Stats { requests: 1, ..Stats::default() });
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = tokio::time::timeout(left, request.send()).await;
            let answer = answer.map_err(|_| format!("{what}: no answer in time"))?;
            let answer = answer.map_err(|error| format!("{what}: {}", error.without_url()))?;
            let status = answer.status();
            let asked = answer.headers().get("retry-after");
            let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok());
            let bytes = limited(answer).await.map_err(|error| format!("{what}: {error}"))?;
            if status.is_success() {
                return Ok(Answered::Well(bytes));
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if status == StatusCode::CONFLICT
                || text.contains("already_exists")
                || text.contains("AlreadyExists")
                || text.to_lowercase().contains("already exists")
            {
                return Ok(Answered::Exists);
            }
            let wait = asked.map_or(pause, Duration::from_secs);
            let is_passing = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            if !is_passing || Instant::now() + wait >= deadline {
                let text: String = text.chars().take(300).collect();
                return Err(format!("{what}: the service answered {status} {text}").into());
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }

    /// Sends a part to the storage behind the service.
    async fn azure(&self, url: Url, body: Bytes) -> Result<(), RemoteError> {
        let client = self.client.wire(&url).await?;
        let stats = Stats { requests: 1, bytes_up: body.len() as u64, bytes_down: 0 };
        for attempt in 0..4_u32 {
            self.client.count(stats);
            let request = client.put(url.clone()).header("x-ms-version", "2021-12-02");
            let sent =
                tokio::time::timeout(self.timeout, request.body(body.clone()).send()).await?;
            match sent {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) if attempt == 3 || answer.status().is_client_error() => {
                    return Err(format!("its storage answered {}", answer.status()).into());
                }
                Err(error) if attempt == 3 => return Err(error.without_url().into()),
                _ => tokio::time::sleep(Duration::from_secs(1 << attempt)).await,
            }
        }
        Err("its storage did not answer".into())
    }
}

/// A signed address. It is never said: whoever has it has what it opens.
fn signed(url: &str) -> Result<Url, RemoteError> {
    Url::parse(url).map_err(|_| "the service gave an address that is none".into())
}

async fn limited(answer: Response) -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| error.without_url().to_string())?);
        if bytes.len() as u64 > ANSWER_LIMIT {
            return Err("its answer is too long".into());
        }
    }
    Ok(bytes.into())
}
