//! A map on an HTTP server that keeps what is put, under Makisu's addresses: `GET` and `PUT` of
//! `address/base64url(key)`. Such a server has no listing, so the entries are in sixteen documents
//! (shards), by the first digit of their keys.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use registry::{Client, Stats};
use reqwest::{Method, Response, StatusCode, Url};

use super::super::credentials::BackendCredentials;
use super::entries::MapEntries;
use super::{HTTP_HEADER, KeyValueStore, LIMIT, MapError, RawEntries, TIMEOUT};

const SHARDS: &str = "0123456789abcdef";
/// Attempts to write a shard that other builds write too.
const ATTEMPTS: u32 = 6;

type Shard = BTreeMap<String, serde_json::Value>;

pub(super) struct HttpStore {
    pub client: Client,
    /// The address, without the key.
    pub url: String,
    /// The name of the map.
    pub name: String,
    /// Headers.
    pub credentials: BackendCredentials,
}

#[async_trait]
impl KeyValueStore for HttpStore {
    async fn read(&self) -> Result<RawEntries, MapError> {
        let shards = SHARDS.chars().map(|digit| self.get(digit));
        let mut raw = RawEntries::new();
        for shard in try_join_all(shards).await? {
            raw.extend(shard.into_iter().map(|(key, value)| (key, value.to_string().into_bytes())));
        }
        Ok(raw)
    }

    async fn write(&self, changed: MapEntries, expired: Vec<String>) -> Result<(), MapError> {
        let mut shards: BTreeMap<char, Shard> = BTreeMap::new();
        for (key, value) in changed.raw() {
            let value = serde_json::from_slice(&value)?;
            shards.entry(digit_of(key)).or_default().insert(key.to_owned(), value);
        }
        let writes = shards.iter().map(|(digit, new)| self.write_shard(*digit, new, &expired));
        try_join_all(writes).await?;
        Ok(())
    }
}

impl HttpStore {
    /// Adds entries to a shard until they are there: another build may overwrite them.
    async fn write_shard(
        &self,
        digit: char,
        new: &Shard,
        expired: &[String],
    ) -> Result<(), MapError> {
        for _ in 0..ATTEMPTS {
            let mut there = self.get(digit).await?;
            if new.iter().all(|(key, value)| there.get(key) == Some(value)) {
                return Ok(());
            }
            there.extend(new.clone());
            there.retain(|key, _| !expired.contains(key));
            self.request(digit, Some(serde_json::to_vec(&there)?)).await?;
        }
        Err(MapError::Contended)
    }

    async fn get(&self, digit: char) -> Result<Shard, MapError> {
        match self.request(digit, None).await? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(MapError::Shard),
            None => Ok(Shard::new()),
        }
    }

    /// Puts a shard if there is a body, else gets it; `None` if there is no such shard.
    async fn request(
        &self,
        digit: char,
        body: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, MapError> {
        let key = URL_SAFE.encode(format!("kiln_cache_{}_{digit}", self.name));
        let url = format!("{}/{key}", self.url.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|_| MapError::Address)?;
        let wire = self.client.wire(&url).await?;
        let method = if body.is_some() { Method::PUT } else { Method::GET };
        let mut request = wire.request(method.clone(), url);
        for (name, value) in self.credentials.iter() {
            if let Some(name) = name.strip_prefix(HTTP_HEADER) {
                request = request.header(name, value);
            }
        }
        let bytes_up = body.as_ref().map_or(0, Vec::len) as u64;
        self.client.count(Stats { requests: 1, bytes_up, bytes_down: 0 });
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = tokio::time::timeout(TIMEOUT, request.send());
        let response = response.await.map_err(|_| MapError::Timeout)?.map_err(MapError::http)?;
        match response.status() {
            StatusCode::NOT_FOUND if method == Method::GET => return Ok(None),
            status if status.is_success() => (),
            status => return Err(MapError::Status { method, status }),
        }
        self.body(response).await.map(Some)
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, MapError> {
        let mut stream = response.bytes_stream();
        let mut bytes = Vec::new();
        loop {
            let next = tokio::time::timeout(TIMEOUT, stream.next()).await;
            let Some(chunk) = next.map_err(|_| MapError::Timeout)? else { break };
            bytes.extend_from_slice(&chunk.map_err(MapError::http)?);
            if bytes.len() as u64 > LIMIT {
                return Err(MapError::TooLarge);
            }
        }
        self.client.count(Stats { bytes_down: bytes.len() as u64, ..Stats::default() });
        Ok(bytes)
    }
}

/// The shard of a key.
fn digit_of(key: &str) -> char {
    key.chars().nth(2).filter(|digit| SHARDS.contains(*digit)).unwrap_or('0')
}
