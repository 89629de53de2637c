//! Progress for programs: a line of JSON for each event, in the shape of BuildKit's
//! `SolveStatus` (`client/graph.go`).

use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use graph::{Event, Stream, TaskEvent, Vertex, Vertexes};
use oci::Digest;
use serde::Serialize;

use super::{Renderer, Size};

/// BuildKit's raw JSON.
#[derive(Default)]
pub struct RawJson {
    vertexes: Vertexes,
    pending: Vec<u8>,
}

#[derive(Default, Serialize)]
struct Status<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vertexes: Vec<VertexLine<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<VertexStatus<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<Log>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
}

#[derive(Serialize)]
struct VertexLine<'a> {
    digest: Digest,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    inputs: &'a [Digest],
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

impl<'a> VertexLine<'a> {
    fn of(vertex: &'a Vertex) -> Self {
        Self {
            digest: vertex.digest,
            inputs: &vertex.inputs,
            name: &vertex.name,
            started: vertex.started.map(time),
            completed: vertex.completed.map(time),
            cached: vertex.cached,
            error: &vertex.error,
        }
    }
}

#[derive(Serialize)]
struct VertexStatus<'a> {
    id: &'a str,
    vertex: Digest,
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    current: u64,
    timestamp: String,
    started: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
}

#[derive(Serialize)]
struct Log {
    vertex: Digest,
    stream: u8,
    data: String,
    timestamp: String,
}

#[derive(Serialize)]
struct Warning {
    vertex: Digest,
    level: u8,
    short: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// RFC 3339 with nanoseconds, as Go writes a time.
fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

impl RawJson {
    fn write(pending: &mut Vec<u8>, status: &Status<'_>) {
        if serde_json::to_writer(&mut *pending, status).is_ok() {
            pending.push(b'\n');
        }
    }
}

impl Renderer for RawJson {
    fn take(&mut self, event: &Event, _now: SystemTime) {
        let at = time(event.at);
        let vertex = self.vertexes.digest(event.task);
        let pending = &mut self.pending;
        if let Some(changed) = self.vertexes.take(event) {
            let line = VertexLine::of(changed);
            Self::write(pending, &Status { vertexes: vec![line], ..Status::default() });
        }
        match &event.what {
            TaskEvent::Transfer(transfer) => {
                let part = VertexStatus {
                    id: &transfer.name,
                    vertex,
                    total: transfer.total,
                    current: transfer.current,
                    timestamp: at,
                    started: time(transfer.started),
                    completed: transfer.completed.map(time),
                };
                Self::write(pending, &Status { statuses: vec![part], ..Status::default() });
            }
            TaskEvent::Log(stream, data) => {
                let stream = match stream {
                    Stream::Out => 1,
                    Stream::Err => 2,
                };
                let data = BASE64_STANDARD.encode(data);
                let log = Log { vertex, stream, data, timestamp: at };
                Self::write(pending, &Status { logs: vec![log], ..Status::default() });
            }
            TaskEvent::Warning(text) => {
                let short = BASE64_STANDARD.encode(text.as_bytes());
                let warning = Warning { vertex, level: 1, short };
                Self::write(pending, &Status { warnings: vec![warning], ..Status::default() });
            }
            TaskEvent::Known(_)
            | TaskEvent::Started
            | TaskEvent::Cached(_)
            | TaskEvent::Done
            | TaskEvent::Failed(_) => {}
        }
    }

    fn draw(&mut self, _now: SystemTime, _size: Size, out: &mut Vec<u8>) {
        out.append(&mut self.pending);
    }

    fn finish(&mut self, _now: SystemTime, _size: Size, out: &mut Vec<u8>) {
        out.append(&mut self.pending);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;
    use super::*;

    #[test]
    fn each_event_is_a_line() {
        let mut script = Script::new(RawJson::default());
        let task = script.task("[1/2] RUN x");
        script.started(task);
        script.at(0.25);
        script.log(task, "hi\n");
        script.transfer(task, "sha256:aa", (1, 2), false);
        script.failed(task, "no");
        let text = script.finish();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let vertex = Vertexes::default().digest(task).to_string();
        assert_eq!(
            lines[0],
            serde_json::json!({"vertexes": [{"digest": vertex, "name": "[1/2] RUN x"}]})
        );
        assert_eq!(lines[1]["vertexes"][0]["started"], "2023-11-14T22:13:20Z");
        assert_eq!(
            lines[2],
            serde_json::json!({"logs": [{"vertex": vertex, "stream": 1, "data": "aGkK",
                "timestamp": "2023-11-14T22:13:20.25Z"}]})
        );
        assert_eq!(lines[3]["statuses"][0]["total"], 2);
        assert_eq!(lines[4]["vertexes"][0]["error"], "no");
    }
}
