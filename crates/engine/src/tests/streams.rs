//! Streams of containers over sockets.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::ask_engine;
use super::fake_containers::engine;
use crate::*;

struct Client {
    socket: UnixStream,
    _stop: watch::Sender<bool>,
}

impl Client {
    fn connect(engine: &Arc<EngineServer>) -> Self {
        let (socket, server) = UnixStream::pair().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(engine.clone().serve(server, stopped));
        Self { socket, _stop: stop }
    }

    async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends a request with its lines, and a body.
    async fn request(&mut self, lines: &[&str], body: &str) {
        let head = lines.join("\r\n");
        self.send(&format!("{head}\r\nhost: x\r\n\r\n{body}")).await;
    }

    /// The head of an answer.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.socket.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    async fn exactly(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        self.socket.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).await.unwrap();
        rest
    }
}

const UPGRADE: [&str; 2] = ["connection: Upgrade", "upgrade: tcp"];

fn upgraded<'l>(line: &'l str, more: &[&'l str]) -> Vec<&'l str> {
    [&[line][..], &UPGRADE, more].concat()
}

/// A container that was made of a body with these fields.
async fn create(engine: &Arc<EngineServer>, name: &str, fields: &str) {
    let body = format!(r#"{{"Image":"app"{fields}}}"#);
    let request = format!("POST /containers/create?name={name} HTTP/1.1\n\n{body}");
    let (status, _, body) = ask_engine(engine, &request).await;
    assert_eq!(status, 201, "{body}");
}

async fn start(engine: &Arc<EngineServer>, name: &str) {
    let request = format!("POST /containers/{name}/start HTTP/1.1");
    assert_eq!(ask_engine(engine, &request).await.0, 204);
}

fn framed(stream: u8, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[stream, 0, 0, 0][..], &length, text.as_bytes()].concat()
}

#[tokio::test]
async fn docker_run_attaches_waits_and_starts() {
    let (engine, containers) = engine();
    create(&engine, "box", r#","OpenStdin":true"#).await;
    let mut attached = Client::connect(&engine);
    let line = "POST /v1.51/containers/box/attach?stdin=1&stdout=1&stderr=1&stream=1 HTTP/1.1";
    attached.request(&upgraded(line, &["content-length: 0"]), "").await;
    let head = attached.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: tcp") && head.contains("vnd.docker.multiplexed-stream"));
    let mut waiting = Client::connect(&engine);
    waiting
        .request(
            &[
                "POST /v1.51/containers/box/wait?condition=next-exit HTTP/1.1",
                "connection: close",
                "content-length: 0",
            ],
            "",
        )
        .await;
    // The head comes before the container is started.
    assert!(waiting.head().await.starts_with("HTTP/1.1 200 "));
    start(&engine, "box").await;
    attached.send("hello").await;
    attached.exactly(&framed(1, "hello")).await;
    // The end of the input does not end the output.
    attached.socket.shutdown().await.unwrap();
    assert_eq!(attached.rest().await, framed(2, "end\n"));
    assert_eq!(ask_engine(&engine, "POST /containers/box/kill HTTP/1.1").await.0, 204);
    let answer = String::from_utf8(waiting.rest().await).unwrap();
    assert!(answer.contains(r#"{"StatusCode":137,"Error":null}"#), "{answer}");
    assert!(containers.asked().contains("stdin: true, stdout: true, stderr: true, logs: false"));
}

#[tokio::test]
async fn a_client_that_does_not_upgrade_sends_input_in_its_body() {
    let (engine, _) = engine();
    create(&engine, "box", "").await;
    let mut client = Client::connect(&engine);
    let line = "POST /v1.41/containers/box/attach?stdin=1&stdout=1&stream=1 HTTP/1.1";
    client.request(&[line, "transfer-encoding: chunked"], "2\r\nhi\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("vnd.docker.raw-stream"), "{head}");
    client.exactly(b"A\r\n").await;
    client.exactly(&framed(1, "hi")).await;
    client.send("3\r\nyou\r\n0\r\n\r\n").await;
    client.exactly(b"\r\nB\r\n").await;
    client.exactly(&framed(1, "you")).await;
    client.exactly(b"\r\nC\r\n").await;
    client.exactly(&framed(2, "end\n")).await;
    client.exactly(b"\r\n0\r\n\r\n").await;
    // The connection serves the next request.
    client.request(&["GET /_ping HTTP/1.1", "connection: close"], "").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_client_may_end_its_side_with_the_request() {
    let (engine, _) = engine();
    create(&engine, "box", "").await;
    for upgrade in [&[][..], &UPGRADE] {
        let mut client = Client::connect(&engine);
        let line = "POST /containers/box/attach?stdin=1&stdout=1&stderr=1&stream=1 HTTP/1.1";
        let lines = [&[line, "content-length: 0"], upgrade].concat();
        client.request(&lines, "").await;
        client.socket.shutdown().await.unwrap();
        client.head().await;
        let rest = client.rest().await;
        let end = framed(2, "end\n");
        let is_there = rest.windows(end.len()).any(|window| window == end);
        assert!(is_there, "{}", rest.escape_ascii());
    }
}

#[tokio::test]
async fn output_of_a_terminal_has_no_frames_and_keys_leave_it() {
    let (engine, _) = engine();
    create(&engine, "box", r#","Tty":true,"OpenStdin":true"#).await;
    start(&engine, "box").await;
    let mut client = Client::connect(&engine);
    let line = "POST /containers/box/attach?stdin=1&stdout=1&stream=1&detachKeys=ctrl-a,q HTTP/1.1";
    client.request(&upgraded(line, &["content-length: 0"]), "").await;
    assert!(client.head().await.contains("vnd.docker.raw-stream"));
    client.send("ls\x01x").await;
    client.exactly(b"ls\x01x").await;
    client.send("\x01q").await;
    assert_eq!(client.rest().await, b"");
    let (_, _, body) = ask_engine(&engine, "GET /containers/box/json HTTP/1.1").await;
    assert!(body.contains(r#""Status":"running""#), "{body}");
    let wrong = "POST /containers/box/attach?stdin=1&detachKeys=ctrl-%C3%A9 HTTP/1.1";
    assert_eq!(ask_engine(&engine, wrong).await.0, 400);
}

#[tokio::test]
async fn a_further_command_has_streams() {
    let (engine, containers) = engine();
    create(&engine, "box", "").await;
    start(&engine, "box").await;
    let fields = r#"{"Cmd":["sh"],"AttachStdin":true,"AttachStdout":true,"Env":["A=1"]}"#;
    let request = format!("POST /containers/box/exec HTTP/1.1\n\n{fields}");
    let (status, _, body) = ask_engine(&engine, &request).await;
    assert_eq!((status, body.trim()), (201, r#"{"Id":"exec0"}"#));
    let mut client = Client::connect(&engine);
    let start = r#"{"Detach":false,"Tty":false,"ConsoleSize":[24,80]}"#;
    let length = format!("content-length: {}", start.len());
    let line = "POST /v1.30/exec/exec0/start HTTP/1.1";
    client.request(&upgraded(line, &[&length]), start).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("vnd.docker.raw-stream"), "{head}");
    client.send("ping").await;
    client.exactly(&framed(1, "ping")).await;
    client.socket.shutdown().await.unwrap();
    assert_eq!(client.rest().await, framed(2, "end\n"));
    let asked = containers.asked();
    assert!(asked.contains("Some(ConsoleSize { columns: 80, rows: 24 })"), "{asked}");
    let (status, _, body) = ask_engine(&engine, "POST /exec/exec0/start HTTP/1.1\n\n{}").await;
    assert_eq!(status, 409, "{body}");
    let (_, _, body) = ask_engine(&engine, "GET /exec/exec0/json HTTP/1.1").await;
    assert!(body.contains(r#""Running":true,"ExitCode":null"#), "{body}");
}

#[tokio::test]
async fn a_further_command_can_be_left_alone() {
    let (engine, containers) = engine();
    create(&engine, "box", "").await;
    let request = "POST /containers/box/exec HTTP/1.1\n\n{\"Cmd\":\"true\"}";
    assert_eq!(ask_engine(&engine, request).await.0, 409);
    start(&engine, "box").await;
    assert_eq!(ask_engine(&engine, request).await.0, 201);
    let request = "POST /exec/exec0/start HTTP/1.1\n\n{\"Detach\":true}";
    let (status, _, body) = ask_engine(&engine, request).await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert_eq!(ask_engine(&engine, "POST /exec/exec0/resize?h=5&w=6 HTTP/1.1").await.0, 200);
    assert!(containers.asked().contains("ConsoleSize { columns: 6, rows: 5 }"));
    assert_eq!(ask_engine(&engine, "POST /exec/none/start HTTP/1.1\n\n{}").await.0, 404);
}

#[tokio::test]
async fn logs_have_frames_and_times() {
    let (engine, containers) = engine();
    create(&engine, "box", "").await;
    let logs = async |query: &str| {
        let request = format!("GET /containers/box/logs?{query} HTTP/1.1");
        ask_engine(&engine, &request).await
    };
    let (status, head, body) = logs("stdout=1&stderr=1&tail=5").await;
    let expected = [framed(1, "out\n"), framed(2, "err\n")].concat();
    assert_eq!((status, body.as_bytes()), (200, &expected[..]));
    assert!(head.contains("vnd.docker.multiplexed-stream"), "{head}");
    assert!(containers.asked().contains("tail: Some(5)"));
    let (_, _, body) = logs("stdout=1&timestamps=1").await;
    assert!(body.contains("1970-01-01T00:00:01.000000000Z out\n"), "{body}");
    let (status, _, body) = logs("follow=1").await;
    assert!(status == 400 && body.contains("at least one stream"), "{body}");
    assert_eq!(logs("stdout=1&tail=x").await.0, 400);
}

#[tokio::test]
async fn a_wait_ends_with_the_removal() {
    let (engine, _) = engine();
    create(&engine, "box", "").await;
    let mut client = Client::connect(&engine);
    let line = "POST /containers/box/wait?condition=removed HTTP/1.1";
    client.request(&[line, "connection: close", "content-length: 0"], "").await;
    client.head().await;
    assert_eq!(ask_engine(&engine, "DELETE /containers/box?force=1 HTTP/1.1").await.0, 204);
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(answer.contains(r#"{"StatusCode":0,"Error":null}"#), "{answer}");
    let wrong = "POST /containers/other/wait HTTP/1.1";
    assert_eq!(ask_engine(&engine, wrong).await.0, 404);
}

#[tokio::test]
async fn events_tell_of_containers() {
    let (engine, _) = engine();
    let mut client = Client::connect(&engine);
    let line = "GET /events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D HTTP/1.1";
    client.request(&[line, "connection: close"], "").await;
    client.head().await;
    create(&engine, "box", "").await;
    start(&engine, "box").await;
    assert_eq!(ask_engine(&engine, "POST /containers/box/rename?name=bag HTTP/1.1").await.0, 204);
    let mut text = String::new();
    while !text.contains("oldName") {
        let mut piece = vec![0; 4096];
        let length = client.socket.read(&mut piece).await.unwrap();
        assert!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    for part in [r#""status":"create""#, r#""status":"start""#, r#""name":"bag","oldName":"/box""#]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let wrong = "GET /events?filters=%7B%22speed%22%3A%5B%221%22%5D%7D HTTP/1.1";
    assert_eq!(ask_engine(&engine, wrong).await.0, 400);
}
