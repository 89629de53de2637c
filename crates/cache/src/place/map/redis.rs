//! A map in Redis: one hash, `kiln:<name>`, with a field for each entry. The few commands that it
//! takes are spoken here (RESP2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
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
        reply(&mut self.0).await
    }
}

/// Reads a reply; an error reply is an error.
async fn reply(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Reply, String> {
    let line = line(stream).await?;
    match line.split_at_checked(1) {
        Some(("+" | ":", _)) => Ok(Reply::Fine),
        Some(("-", error)) => Err(error.to_owned()),
        Some(("*", count)) => {
            let count: usize = count.parse().map_err(|_| "a damaged answer".to_owned())?;
            let mut left = LIMIT;
            let mut parts = Vec::new();
            for _ in 0..count {
                parts.push(bulk(stream, &mut left).await?);
            }
            Ok(Reply::Many(parts))
        }
        _ => Err("an answer of another kind".into()),
    }
}

/// Reads a bulk string. Its bytes, and some for each string, are taken from what is `left`.
async fn bulk(stream: &mut (impl AsyncBufRead + Unpin), left: &mut u64) -> Result<Vec<u8>, String> {
    let line = line(stream).await?;
    let length = line.strip_prefix('$').and_then(|length| length.parse::<u64>().ok());
    let length = length.ok_or("a damaged answer")?;
    let rest = left.checked_sub(length.saturating_add(16));
    *left = rest.ok_or_else(|| format!("it is larger than {} MiB", LIMIT >> 20))?;
    // Grows with what arrives: a length alone costs no memory.
    let mut bytes = Vec::new();
    let read = stream.take(length + 2).read_to_end(&mut bytes).await;
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 != length + 2 || !bytes.ends_with(b"\r\n") {
        return Err("a damaged answer".into());
    }
    bytes.truncate(bytes.len() - 2);
    Ok(bytes)
}

async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<String, String> {
    let mut line = Vec::new();
    let read = stream.take(4096).read_until(b'\n', &mut line).await;
    read.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&line);
    text.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| "a damaged answer".into())
}

/// Reads a map from a server's reply, for the fuzzer.
#[cfg(fuzzing)]
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
        match reply(&mut bytes).await? {
            Reply::Fine => Ok(Vec::new()),
            Reply::Many(parts) => Ok(parts),
        }
    }

    #[tokio::test]
    async fn replies_are_read() {
        assert_eq!(read(b"+OK\r\n").await, Ok(Vec::new()));
        assert_eq!(read(b"*2\r\n$1\r\na\r\n$0\r\n\r\n").await, Ok(vec![b"a".to_vec(), Vec::new()]));
        assert_eq!(read(b"-NOAUTH first\r\n").await, Err("NOAUTH first".into()));
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
