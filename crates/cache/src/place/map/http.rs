//! A map on an HTTP server that keeps what is put, as Makisu uses one (`GET` and `PUT` of
//! `address/base64url(key)`). Such a server lists nothing, so entries lie in sixteen documents, by
//! the first digit of their keys.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use registry::{Client, Stats};
use reqwest::{Method, StatusCode, Url};

use super::entries::Entries;
use super::{HTTP_HEADER, LIMIT, MapSettings, PATIENCE, Raw};

const SHARDS: &str = "0123456789abcdef";
/// Two builds that write one document at once both read it again.
const ATTEMPTS: u32 = 6;

type Shard = BTreeMap<String, serde_json::Value>;

pub(super) async fn read(
    client: &Client,
    settings: &MapSettings,
    url: &str,
) -> Result<Raw, String> {
    let shards = SHARDS.chars().map(|digit| get(client, settings, url, digit));
    let mut raw = Raw::new();
    for shard in try_join_all(shards).await? {
        raw.extend(shard.into_iter().map(|(key, value)| (key, value.to_string().into_bytes())));
    }
    Ok(raw)
}

pub(super) async fn write(
    client: &Client,
    settings: &MapSettings,
    url: &str,
    changed: &Entries,
    expired: &[String],
) -> Result<(), String> {
    let mut shards: BTreeMap<char, Shard> = BTreeMap::new();
    for (key, value) in changed.raw() {
        let value = serde_json::from_slice(&value).map_err(|error| error.to_string())?;
        shards.entry(digit_of(key)).or_default().insert(key.to_owned(), value);
    }
    let writes = shards.into_iter().map(|(digit, new)| async move {
        for _ in 0..ATTEMPTS {
            let mut there = get(client, settings, url, digit).await?;
            if new.iter().all(|(key, value)| there.get(key) == Some(value)) {
                return Ok(());
            }
            there.extend(new.clone());
            there.retain(|key, _| !expired.contains(key));
            let body = serde_json::to_vec(&there).map_err(|error| error.to_string())?;
            ask(client, settings, url, digit, Some(body)).await?;
        }
        Err("other builds write there without end".to_owned())
    });
    try_join_all(writes).await.map(drop)
}

fn digit_of(key: &str) -> char {
    key.chars().nth(2).filter(|digit| SHARDS.contains(*digit)).unwrap_or('0')
}

async fn get(
    client: &Client,
    settings: &MapSettings,
    url: &str,
    digit: char,
) -> Result<Shard, String> {
    match ask(client, settings, url, digit, None).await? {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| format!("what is there is no map of kiln's: {error}")),
        None => Ok(Shard::new()),
    }
}

async fn ask(
    client: &Client,
    settings: &MapSettings,
    url: &str,
    digit: char,
    body: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, String> {
    let key = URL_SAFE.encode(format!("kiln_cache_{}_{digit}", settings.name));
    let url = format!("{}/{key}", url.trim_end_matches('/'));
    let url = Url::parse(&url).map_err(|error| error.to_string())?;
    let wire = client.wire(&url).await.map_err(|error| graph::chain_text(&error))?;
    let method = if body.is_some() { Method::PUT } else { Method::GET };
    let mut request = wire.request(method.clone(), url);
    for (name, value) in settings.credentials.iter() {
        if let Some(name) = name.strip_prefix(HTTP_HEADER) {
            request = request.header(name, value);
        }
    }
    let bytes_up = body.as_ref().map_or(0, Vec::len) as u64;
    client.count(Stats { requests: 1, bytes_up, bytes_down: 0 });
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body);
    }
    let told = |error: reqwest::Error| graph::chain_text(&error.without_url());
    let answer = tokio::time::timeout(PATIENCE, request.send());
    let answer = answer.await.map_err(|_| "no answer in time".to_owned())?.map_err(told)?;
    match answer.status() {
        StatusCode::NOT_FOUND if method == Method::GET => return Ok(None),
        status if status.is_success() => (),
        status => return Err(format!("{method}: the server answered {status}")),
    }
    let mut stream = answer.bytes_stream();
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = tokio::time::timeout(PATIENCE, stream.next()).await {
        bytes.extend_from_slice(&chunk.map_err(told)?);
        if bytes.len() as u64 > LIMIT {
            return Err(format!("it is larger than {} MiB", LIMIT >> 20));
        }
    }
    client.count(Stats { bytes_down: bytes.len() as u64, ..Stats::default() });
    Ok(Some(bytes))
}
