//! The output of a container from before and from now on.

use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::Response;
use hyper::header::CONTENT_TYPE;
use tokio::sync::mpsc;

use super::found::Found;
use crate::answers::set;
use crate::body::Body;
use crate::handlers::EndpointCall;
use crate::moments::{parse_seconds, rfc3339};
use crate::query::Query;
use crate::streams::{frame, media_type};
use crate::{ApiError, EngineServer, LogLine, LogQuery, OutputPiece, Sizes};

/// Lines that wait for a client.
const WAITING: usize = 64;

fn log_query(query: &Query) -> Result<LogQuery, ApiError> {
    let moment = |name: &str| query.get(name).map_or(Ok(None), |text| parse_seconds(name, text));
    let tail = match query.get("tail").unwrap_or("all") {
        "all" => None,
        // All lines are a number below zero, too.
        _ => query.number::<i64>("tail")?.and_then(|tail| u64::try_from(tail).ok()),
    };
    let read = LogQuery {
        follow: query.is_on("follow", false),
        stdout: query.is_on("stdout", false),
        stderr: query.is_on("stderr", false),
        since: moment("since")?,
        until: moment("until")?,
        tail,
    };
    if !read.stdout && !read.stderr {
        let message = "Bad parameters: you must choose at least one stream";
        return Err(ApiError::BadRequest(message.into()));
    }
    Ok(read)
}

pub(in crate::handlers) async fn logs(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, call).await?;
    let query = log_query(&call.query)?;
    let with_times = call.query.is_on("timestamps", false);
    let id = &found.identity.id;
    let terminal = found.containers.inspect(id, Sizes::Left).await?.spec.terminal;
    let mut lines = found.containers.logs(id, query).await?;
    let (sender, pieces) = mpsc::channel(WAITING);
    let task = tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            let stream = line.stream;
            let bytes = if with_times { with_time(&line) } else { line.bytes };
            if sender.send(frame(OutputPiece { stream, bytes }, terminal)).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(Body::pieces(pieces, task.abort_handle()));
    set(&mut response, CONTENT_TYPE, media_type(terminal, call.version));
    Ok(response)
}

fn with_time(line: &LogLine) -> Bytes {
    let time = rfc3339(line.time);
    let mut bytes = BytesMut::with_capacity(time.len() + 1 + line.bytes.len());
    bytes.put_slice(time.as_bytes());
    bytes.put_u8(b' ');
    bytes.put_slice(&line.bytes);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::OutputStream;

    #[test]
    fn queries_are_read() {
        let read = |text: &str| log_query(&Query::parse(text).unwrap());
        let query = read("stdout=1&follow=true&since=5.5&until=0&tail=3").unwrap();
        let since = Some(UNIX_EPOCH + Duration::from_millis(5500));
        let expected =
            LogQuery { follow: true, stdout: true, since, tail: Some(3), ..LogQuery::default() };
        assert_eq!(query, expected);
        for all in ["stderr=1", "stderr=1&tail=all", "stderr=1&tail=-1", "stderr=1&tail="] {
            assert_eq!(read(all).unwrap().tail, None, "{all}");
        }
        for wrong in ["", "stdout=0", "stdout=1&tail=x", "stdout=1&since=x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_are_chosen_by_stream_and_time() {
        let line = |second, stream| LogLine {
            time: UNIX_EPOCH + Duration::from_secs(second),
            stream,
            bytes: Bytes::from_static(b"x\n"),
        };
        let query = log_query(&Query::parse("stdout=1&since=2&until=4").unwrap()).unwrap();
        let wanted = |second| query.wants(&line(second, OutputStream::Stdout));
        assert_eq!([1, 2, 4, 5].map(wanted), [false, true, true, false]);
        assert!(!query.wants(&line(3, OutputStream::Stderr)));
        let text = with_time(&line(1, OutputStream::Stdout));
        assert_eq!(&text[..], b"1970-01-01T00:00:01.000000000Z x\n");
    }
}
