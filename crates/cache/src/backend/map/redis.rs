//! A map in Redis: one hash, `kiln:<name>`, with a field for each entry. Speaks RESP2 for the few
//! commands that it needs (<https://redis.io/docs/latest/develop/reference/protocol-spec/>), over
//! TCP or TLS. Not by the `redis` crate, which does not limit the size of a reply.

use std::fmt;
use std::time::Duration;

use ::registry::Client;
use async_trait::async_trait;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::TcpStream;

use super::entries::MapEntries;
use super::{KeyValueStore, LIMIT, MapError, REDIS_PASSWORD, RawEntries, TIMEOUT};
use crate::backend::credentials::BackendCredentials;

/// The timeout of a TLS handshake. Redis without TLS takes it for a command that goes on.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// Fields of one command.
const BATCH: usize = 200;

/// A Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisServer {
    /// The protocol below Redis's own.
    pub scheme: RedisScheme,
    /// Host and port.
    pub address: String,
    /// The number of the database.
    pub database: u32,
    /// The user; none for the default one.
    pub user: Option<String>,
}

/// The protocol below Redis's own. `Display` is the scheme of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisScheme {
    /// `redis:`: TCP alone.
    #[default]
    Tcp,
    /// `rediss:`: TLS, with the certificates that are trusted for the host.
    Tls,
}

impl fmt::Display for RedisScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "redis",
            Self::Tls => "rediss",
        })
    }
}

/// A reply that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyError {
    #[error("{0}")]
    Refused(String),
    /// Without the server's words: some servers repeat the arguments of a refused command.
    #[error("the server refused the user or the password ({code})")]
    Login { code: String },
    #[error("the server did not begin TLS; `redis://` is for servers without it")]
    NoTls,
    #[error("a damaged answer")]
    Damaged,
    #[error("an answer of another kind")]
    OtherKind,
}

pub(super) struct RedisStore {
    pub client: Client,
    pub server: RedisServer,
    /// The name of the map.
    pub name: String,
    pub ttl: Duration,
    pub credentials: BackendCredentials,
}

#[async_trait]
impl KeyValueStore for RedisStore {
    async fn read(&self) -> Result<RawEntries, MapError> {
        tokio::time::timeout(TIMEOUT, self.read_hash()).await.map_err(|_| MapError::Timeout)?
    }

    async fn write(&self, changed: MapEntries, expired: Vec<String>) -> Result<(), MapError> {
        let work = self.write_hash(&changed, &expired);
        tokio::time::timeout(TIMEOUT, work).await.map_err(|_| MapError::Timeout)?
    }
}

impl RedisStore {
    async fn read_hash(&self) -> Result<RawEntries, MapError> {
        let mut connection = self.connect().await?;
        let Reply::Many(parts) = connection.send(&[b"HGETALL", &self.hash()]).await? else {
            return Err(ReplyError::OtherKind.into());
        };
        let mut raw = RawEntries::new();
        let mut parts = parts.into_iter();
        while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
            raw.insert(String::from_utf8_lossy(&key).into_owned(), value);
        }
        Ok(raw)
    }

    async fn write_hash(&self, changed: &MapEntries, expired: &[String]) -> Result<(), MapError> {
        let mut connection = self.connect().await?;
        let hash = self.hash();
        let fields: Vec<(&str, Vec<u8>)> = changed.raw().collect();
        for batch in fields.chunks(BATCH) {
            let mut command: Vec<&[u8]> = vec![b"HSET", &hash];
            for (key, value) in batch {
                command.extend([key.as_bytes(), value.as_slice()]);
            }
            connection.send(&command).await?;
        }
        for batch in expired.chunks(BATCH) {
            let keys = batch.iter().map(String::as_bytes);
            let command: Vec<&[u8]> = [&b"HDEL"[..], &hash].into_iter().chain(keys).collect();
            connection.send(&command).await?;
        }
        // The server removes a map that no build uses any more.
        let seconds = self.ttl.as_secs().max(1).to_string();
        connection.send(&[b"EXPIRE", &hash, seconds.as_bytes()]).await?;
        Ok(())
    }

    /// The key of the map.
    fn hash(&self) -> Vec<u8> {
        format!("kiln:{}", self.name).into_bytes()
    }

    async fn connect(&self) -> Result<Connection, MapError> {
        let RedisServer { scheme, address, database, user } = &self.server;
        let stream = TcpStream::connect(address).await?;
        let stream: Box<dyn RedisStream> = match scheme {
            RedisScheme::Tcp => Box::new(stream),
            RedisScheme::Tls => {
                let connecting = self.client.connect_tls(address, stream);
                let connected = tokio::time::timeout(TLS_TIMEOUT, connecting).await;
                Box::new(connected.map_err(|_| ReplyError::NoTls)??)
            }
        };
        let mut connection = Connection(BufReader::new(stream));
        if let Some(password) = self.credentials.get(REDIS_PASSWORD) {
            connection.log_in(user.as_deref(), password).await?;
        }
        if *database != 0 {
            connection.send(&[b"SELECT", database.to_string().as_bytes()]).await?;
        }
        Ok(connection)
    }
}

/// A connection, with TLS or without.
trait RedisStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> RedisStream for S {}

struct Connection(BufReader<Box<dyn RedisStream>>);

enum Reply {
    /// A simple string or a number.
    Done,
    Many(Vec<Vec<u8>>),
}

impl Connection {
    async fn log_in(&mut self, user: Option<&str>, password: &str) -> Result<(), MapError> {
        let user = user.map(str::as_bytes);
        let words: Vec<&[u8]> =
            [&b"AUTH"[..]].into_iter().chain(user).chain([password.as_bytes()]).collect();
        match self.send(&words).await {
            Err(MapError::Redis(ReplyError::Refused(text))) => {
                Err(ReplyError::Login { code: error_code(&text).to_owned() }.into())
            }
            sent => sent.map(|_| ()),
        }
    }

    async fn send(&mut self, words: &[&[u8]]) -> Result<Reply, MapError> {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&command).await?;
        // A TLS stream may keep a part of the command.
        self.0.get_mut().flush().await?;
        reply(&mut self.0).await
    }
}

/// The first word of an error reply, such as `WRONGPASS`.
fn error_code(text: &str) -> &str {
    let word = text.split(' ').next().unwrap_or_default();
    if word.bytes().all(|byte| byte.is_ascii_uppercase()) { word } else { "no code" }
}

/// Reads a reply. An error reply becomes an error.
async fn reply(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Reply, MapError> {
    let line = line(stream).await?;
    match line.split_at_checked(1) {
        Some(("+" | ":", _)) => Ok(Reply::Done),
        Some(("-", error)) => Err(ReplyError::Refused(error.to_owned()).into()),
        Some(("*", count)) => {
            let count: usize = count.parse().map_err(|_| ReplyError::Damaged)?;
            let mut left = LIMIT;
            let mut parts = Vec::new();
            for _ in 0..count {
                parts.push(bulk(stream, &mut left).await?);
            }
            Ok(Reply::Many(parts))
        }
        _ => Err(ReplyError::OtherKind.into()),
    }
}

/// Reads a bulk string. Its bytes, and a few for each string, are subtracted from `left`.
async fn bulk(
    stream: &mut (impl AsyncBufRead + Unpin),
    left: &mut u64,
) -> Result<Vec<u8>, MapError> {
    let line = line(stream).await?;
    let length = line.strip_prefix('$').and_then(|length| length.parse::<u64>().ok());
    let length = length.ok_or(ReplyError::Damaged)?;
    let rest = left.checked_sub(length.saturating_add(16));
    *left = rest.ok_or(MapError::TooLarge)?;
    // The buffer grows with the bytes that arrive, so that a false length costs no memory.
    let mut bytes = Vec::new();
    stream.take(length + 2).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 != length + 2 || !bytes.ends_with(b"\r\n") {
        return Err(ReplyError::Damaged.into());
    }
    bytes.truncate(bytes.len() - 2);
    Ok(bytes)
}

async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<String, MapError> {
    let mut line = Vec::new();
    stream.take(4096).read_until(b'\n', &mut line).await?;
    let text = String::from_utf8_lossy(&line);
    text.strip_suffix("\r\n").map(str::to_owned).ok_or(ReplyError::Damaged.into())
}

/// Reads a map from a server's reply, for the fuzzer.
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub fn read_hostile(mut reply_bytes: &[u8]) {
    use futures_util::FutureExt as _;
    let reply = reply(&mut reply_bytes).now_or_never().expect("a slice never waits");
    if let Ok(Reply::Many(parts)) = reply {
        assert!(parts.iter().map(Vec::len).sum::<usize>() as u64 <= LIMIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        match reply(&mut bytes).await.map_err(|error| error.to_string())? {
            Reply::Done => Ok(Vec::new()),
            Reply::Many(parts) => Ok(parts),
        }
    }

    #[tokio::test]
    async fn replies_are_read() {
        assert_eq!(read(b"+OK\r\n").await, Ok(Vec::new()));
        assert_eq!(read(b"*2\r\n$1\r\na\r\n$0\r\n\r\n").await, Ok(vec![b"a".to_vec(), Vec::new()]));
        assert_eq!(read(b"-NOAUTH first\r\n").await, Err("NOAUTH first".into()));
    }

    #[test]
    fn a_refused_login_has_the_servers_code_alone() {
        let text = "ERR unknown command `AUTH`, with args beginning with: `hush`";
        for (text, code) in [("WRONGPASS no", "WRONGPASS"), (text, "ERR"), ("hush", "no code")] {
            assert_eq!(error_code(text), code);
        }
    }

    #[tokio::test]
    async fn damaged_replies_are_refused() {
        let too_large = format!("*1\r\n${}\r\n", u64::MAX);
        for bytes in [
            "",
            "*",
            "*1\r\n",
            "*x\r\n",
            "*1\r\n$-1\r\n",
            "*1\r\n$3\r\na\r\n",
            "*1\r\n$1\r\nabc",
            "*1\r\n$18446744073709551600\r\n",
            &too_large,
        ] {
            assert!(read(bytes.as_bytes()).await.is_err(), "{bytes:?}");
        }
    }
}
