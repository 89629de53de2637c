//! A map in Redis: one hash, `kiln:<name>`, with a field for each entry. The few commands that it
//! takes are spoken here (RESP2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::entries::Entries;
use super::{LIMIT, MapSettings, MapStore, PATIENCE, REDIS_PASSWORD, Raw};

/// Fields that are set at once.
const BATCH: usize = 200;

pub(super) async fn read(settings: &MapSettings) -> Result<Raw, String> {
    let work = async {
        let mut connection = Connection::open(settings).await?;
        let Reply::Many(parts) = connection.ask(&[b"HGETALL", &hash(settings)]).await? else {
            return Err("the answer is no hash".to_owned());
        };
        let mut raw = Raw::new();
        let mut parts = parts.into_iter();
        while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
            raw.insert(String::from_utf8_lossy(&key).into_owned(), value);
        }
        Ok(raw)
    };
    in_time(work).await
}

pub(super) async fn write(
    settings: &MapSettings,
    changed: &Entries,
    expired: &[String],
) -> Result<(), String> {
    let work = async {
        let mut connection = Connection::open(settings).await?;
        let hash = hash(settings);
        let fields: Vec<(&str, Vec<u8>)> = changed.raw().collect();
        for batch in fields.chunks(BATCH) {
            let mut command: Vec<&[u8]> = vec![b"HSET", &hash];
            for (key, value) in batch {
                command.extend([key.as_bytes(), value.as_slice()]);
            }
            connection.ask(&command).await?;
        }
        for batch in expired.chunks(BATCH) {
            let keys = batch.iter().map(String::as_bytes);
            let command: Vec<&[u8]> = [&b"HDEL"[..], &hash].into_iter().chain(keys).collect();
            connection.ask(&command).await?;
        }
        // A map that nobody uses goes as a whole.
        let seconds = settings.ttl.as_secs().max(1).to_string();
        connection.ask(&[b"EXPIRE", &hash, seconds.as_bytes()]).await.map(drop)
    };
    in_time(work).await
}

async fn in_time<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| "no answer in time".to_owned())?
}

fn hash(settings: &MapSettings) -> Vec<u8> {
    format!("kiln:{}", settings.name).into_bytes()
}

struct Connection(BufReader<TcpStream>);

enum Reply {
    /// Something that says no more than that it went well.
    Fine,
    Many(Vec<Vec<u8>>),
}

impl Connection {
    async fn open(settings: &MapSettings) -> Result<Self, String> {
        let MapStore::Redis { address, database, user } = &settings.store else {
            return Err("it is no Redis server".into());
        };
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let mut connection = Self(BufReader::new(stream));
        if let Some(password) = settings.credentials.get(REDIS_PASSWORD) {
            let user = user.as_deref().map(str::as_bytes);
            let words: Vec<&[u8]> =
                [&b"AUTH"[..]].into_iter().chain(user).chain([password.as_bytes()]).collect();
            connection.ask(&words).await?;
        }
        if *database != 0 {
            connection.ask(&[b"SELECT", database.to_string().as_bytes()]).await?;
        }
        Ok(connection)
    }

    async fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, String> {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&command).await.map_err(|error| error.to_string())?;
        let mut left = LIMIT;
        let line = self.line().await?;
        match line.split_at_checked(1) {
            Some(("+" | ":", _)) => Ok(Reply::Fine),
            Some(("-", error)) => Err(error.to_owned()),
            Some(("*", count)) => {
                let count: usize = count.parse().map_err(|_| "a damaged answer".to_owned())?;
                let mut parts = Vec::new();
                for _ in 0..count {
                    parts.push(self.bulk(&mut left).await?);
                }
                Ok(Reply::Many(parts))
            }
            _ => Err("an answer of another kind".into()),
        }
    }

    async fn bulk(&mut self, left: &mut u64) -> Result<Vec<u8>, String> {
        let line = self.line().await?;
        let length = line.strip_prefix('$').and_then(|length| length.parse::<u64>().ok());
        let length = length.ok_or("a damaged answer")?;
        *left = left
            .checked_sub(length + 16)
            .ok_or_else(|| format!("it is larger than {} MiB", LIMIT >> 20))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0) + 2];
        self.0.read_exact(&mut bytes).await.map_err(|error: io::Error| error.to_string())?;
        bytes.truncate(bytes.len() - 2);
        Ok(bytes)
    }

    async fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        let mut limited = (&mut self.0).take(4096);
        limited.read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&line);
        text.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| "a damaged answer".into())
    }
}
