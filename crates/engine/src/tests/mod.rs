//! Requests over a connection, with an engine that remembers what it was asked.

mod containers;
mod fake_containers;
mod hostile;
mod streams;

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;

use crate::*;

#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    /// True while a build runs.
    building: Arc<AtomicBool>,
}

impl Fake {
    fn note(&self, text: impl std::fmt::Debug) {
        self.asked.lock().unwrap().push(format!("{text:?}"));
    }

    fn asked(&self) -> String {
        self.asked.lock().unwrap().join("\n")
    }
}

struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[async_trait]
impl DockerEngine for Fake {
    fn version(&self) -> Value {
        json!({ "Version": "1" })
    }

    async fn info(&self) -> Result<Value, ApiError> {
        Ok(json!({ "ID": "fake" }))
    }

    async fn login(&self, login: Login) -> Result<LoginStatus, ApiError> {
        self.note(&login);
        match login.password.reveal() {
            "good" => Ok(LoginStatus { status: "in".into(), identity_token: String::new() }),
            _ => Err(ApiError::Unauthorized("wrong password".into())),
        }
    }

    async fn disk_usage(&self) -> Result<DiskUsage, ApiError> {
        Ok(DiskUsage::default())
    }

    async fn list_images(&self, filters: Filters) -> Result<Vec<ImageSummary>, ApiError> {
        self.note(filters.texts());
        Ok(vec![ImageSummary {
            id: "sha256:a".into(),
            parent_id: String::new(),
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            created: 1,
            size: 2,
            virtual_size: 2,
            shared_size: -1,
            containers: -1,
            labels: None,
        }])
    }

    async fn inspect_image(&self, name: String) -> Result<Value, ApiError> {
        Err(ApiError::NotFound(format!("No such image: {name}")))
    }

    async fn image_history(&self, _: String) -> Result<Vec<HistoryStep>, ApiError> {
        Ok(Vec::new())
    }

    async fn tag_image(&self, source: String, target: String) -> Result<(), ApiError> {
        self.note((source, target));
        Ok(())
    }

    async fn remove_image(&self, name: String, _: bool) -> Result<Vec<RemovedImage>, ApiError> {
        Ok(vec![RemovedImage::Untagged(name), RemovedImage::Deleted("sha256:a".into())])
    }

    async fn prune_images(&self, _: Filters) -> Result<PrunedImages, ApiError> {
        Ok(PrunedImages::default())
    }

    async fn pull(&self, request: PullRequest, progress: ProgressSender) -> Result<(), ApiError> {
        self.note(&request);
        if request.name.starts_with("absent") {
            return Err(ApiError::NotFound("manifest unknown".into()));
        }
        progress.send(&Message::status("Pulling"));
        Err(ApiError::Server("broken".into()))
    }

    async fn push(&self, _: PushRequest, progress: ProgressSender) -> Result<(), ApiError> {
        progress.send(&Message::aux(json!({ "Tag": "1" })));
        Ok(())
    }

    async fn save(&self, names: Vec<String>, mut out: ArchiveWriter) -> Result<(), ApiError> {
        if names[0] == "absent" {
            return Err(ApiError::NotFound("No such image: absent".into()));
        }
        let write = move || {
            out.write_all(&vec![b'x'; 3 << 20])?;
            out.flush()
        };
        tokio::task::spawn_blocking(write).await.unwrap().unwrap();
        Ok(())
    }

    async fn load(
        &self,
        mut archive: Upload,
        progress: ProgressSender,
    ) -> Result<Vec<String>, ApiError> {
        let read = move || {
            let mut bytes = Vec::new();
            archive.read_to_end(&mut bytes).map(|_| bytes)
        };
        let bytes = tokio::task::spawn_blocking(read).await.unwrap();
        let bytes = bytes.map_err(|error| ApiError::BadRequest(error.to_string()))?;
        progress.send(&Message::stream(format!("{} bytes\n", bytes.len())));
        Ok(Vec::new())
    }

    async fn inspect_distribution(
        &self,
        _: String,
        _: Option<Login>,
    ) -> Result<DistributionInspect, ApiError> {
        Err(ApiError::Server("no".into()))
    }

    async fn build(
        &self,
        request: BuildRequest,
        progress: ProgressSender,
    ) -> Result<Vec<String>, ApiError> {
        self.note(&request);
        if request.target.as_deref() == Some("forever") {
            self.building.store(true, Ordering::Relaxed);
            let _running = Running(self.building.clone());
            progress.send(&Message::stream("begun\n"));
            std::future::pending::<()>().await;
        }
        progress.send(&Message::stream("Successfully built abc\n"));
        Ok(request.tags)
    }

    async fn prune_build_cache(&self, request: BuildCachePrune) -> Result<PrunedCache, ApiError> {
        self.note(&request);
        Ok(PrunedCache::default())
    }
}

/// A connection to an engine.
fn connect(docker: Arc<Fake>) -> (DuplexStream, watch::Sender<bool>) {
    let (client, server) = tokio::io::duplex(1 << 16);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(Arc::new(EngineServer::new(docker, None, None)).serve(server, stopped));
    (client, stop)
}

/// The answer to a request: status, head, body without the framing of chunks.
async fn ask(docker: &Arc<Fake>, request: &str) -> (u16, String, String) {
    ask_engine(&Arc::new(EngineServer::new(docker.clone(), None, None)), request).await
}

/// The answer of an engine.
async fn ask_engine(engine: &Arc<EngineServer>, request: &str) -> (u16, String, String) {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(engine.clone().serve(server, stopped));
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let head = head.replace('\n', "\r\n");
    let head = format!("{head}\r\nhost: x\r\nconnection: close\r\n");
    let length = format!("content-length: {}\r\n\r\n", body.len());
    client.write_all((head + &length + body).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body =
        if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    (status, head.to_owned(), body)
}

fn unchunked(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = text.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body.push_str(&rest[..length]);
        text = &rest[(length + 2).min(rest.len())..];
    }
    body
}

#[tokio::test]
async fn clients_learn_the_versions() {
    let docker = Arc::<Fake>::default();
    for method in ["HEAD", "GET"] {
        let (status, head, body) = ask(&docker, &format!("{method} /_ping HTTP/1.1")).await;
        assert_eq!((status, body.as_str()), (200, if method == "GET" { "OK" } else { "" }));
        for line in ["api-version: 1.51", "ostype: linux", "builder-version: 1"] {
            assert!(head.contains(line), "{head}");
        }
    }
    let (_, _, version) = ask(&docker, "GET /v1.24/version HTTP/1.1").await;
    let version: Value = serde_json::from_str(&version).unwrap();
    assert_eq!(version["MinAPIVersion"], "1.24");
    assert_eq!(version["Components"][0]["Details"]["ApiVersion"], "1.51");
}

#[tokio::test]
async fn errors_are_json_with_dockers_status() {
    let docker = Arc::<Fake>::default();
    for (request, status, text) in [
        ("GET /v1.41/images/a/b:1/json HTTP/1.1", 404, "No such image: a/b:1"),
        ("GET /v1.41/containers/x/json HTTP/1.1", 404, "No such container: x"),
        ("POST /containers/create HTTP/1.1\n\n{\"Image\":\"a\"}", 501, "starts no containers"),
        ("POST /exec/x/start HTTP/1.1\n\n{}", 404, "No such exec instance: x"),
        ("POST /containers/x/pause HTTP/1.1", 501, "does not freeze"),
        ("GET /swarm HTTP/1.1", 501, "there is no swarm"),
        ("GET /images/search?term=x HTTP/1.1", 501, "does not search"),
        ("GET /x HTTP/1.1", 404, "page not found"),
        ("GET /v1.20/_ping HTTP/1.1", 400, "too old"),
        ("POST /images/create?fromImage=absent HTTP/1.1", 404, "manifest unknown"),
        ("GET /images/absent/get HTTP/1.1", 404, "No such image"),
        ("POST /grpc HTTP/1.1", 501, "BuildKit's API"),
        ("POST /auth HTTP/1.1\n\n{", 400, "wrong JSON"),
        ("POST /auth HTTP/1.1\n\n{\"password\":\"bad\"}", 401, "wrong password"),
        ("POST /build?speed=1 HTTP/1.1", 400, "`speed`"),
    ] {
        let (actual, _, body) = ask(&docker, request).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(actual, status, "{request}: {body}");
        assert!(body["message"].as_str().unwrap().contains(text), "{request}: {body}");
    }
}

#[tokio::test]
async fn requests_reach_the_engine() {
    let docker = Arc::<Fake>::default();
    let (status, _, _) = ask(&docker, "POST /images/a/tag?repo=r:5000/b&tag=2 HTTP/1.1").await;
    assert_eq!(status, 201);
    assert!(docker.asked().contains(r#"("a", "r:5000/b:2")"#));
    let (_, _, body) = ask(&docker, "DELETE /v1.41/images/app:1?force=1 HTTP/1.1").await;
    assert_eq!(body.trim(), r#"[{"Untagged":"app:1"},{"Deleted":"sha256:a"}]"#);
    let (_, _, old) = ask(&docker, "GET /v1.41/images/json?filter=app HTTP/1.1").await;
    assert!(old.contains("<none>:<none>"), "{old}");
    assert!(docker.asked().contains("reference=app"));
    let (_, _, new) = ask(&docker, "GET /images/json HTTP/1.1").await;
    assert!(new.contains(r#""RepoTags":[]"#), "{new}");
    let (status, _, _) =
        ask(&docker, "POST /auth HTTP/1.1\n\n{\"username\":\"u\",\"password\":\"good\"}").await;
    assert_eq!(status, 200);
    assert!(!docker.asked().contains("good"), "passwords are hidden");
    let (_, _, usage) = ask(&docker, "GET /system/df HTTP/1.1").await;
    assert!(usage.contains(r#""Containers":[]"#), "{usage}");
}

#[tokio::test]
async fn an_error_after_progress_is_a_message() {
    let docker = Arc::<Fake>::default();
    let (status, _, body) = ask(&docker, "POST /images/create?fromImage=app&tag=1 HTTP/1.1").await;
    assert_eq!(status, 200);
    let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["status"], "Pulling");
    assert_eq!(lines[1]["errorDetail"]["message"], "broken");
}

#[tokio::test]
async fn archives_go_both_ways() {
    let docker = Arc::<Fake>::default();
    let (status, head, body) = ask(&docker, "GET /images/get?names=a HTTP/1.1").await;
    assert_eq!((status, body.len()), (200, 3 << 20));
    assert!(head.contains("application/x-tar"));
    let body = "y".repeat(1 << 20);
    let (_, _, loaded) = ask(&docker, &format!("POST /images/load HTTP/1.1\n\n{body}")).await;
    assert!(loaded.contains("1048576 bytes"), "{loaded}");
}

#[tokio::test]
async fn a_build_has_its_parameters() {
    let docker = Arc::<Fake>::default();
    let query = [
        "t=a&t=b:1",
        "buildargs=%7B%22A%22%3A%221%22%2C%22B%22%3Anull%7D",
        "ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C%22Soft%22%3A1%2C%22Hard%22%3A2%7D%5D",
        "labels=null&memory=5",
    ]
    .join("&");
    let request = format!("POST /v1.41/build?{query} HTTP/1.1\n\ntar");
    let (status, _, body) = ask(&docker, &request).await;
    assert_eq!(status, 200, "{body}");
    let asked = docker.asked();
    for part in [
        r#"tags: ["a", "b:1"]"#,
        r#"build_args: {"A": Some("1"), "B": None}"#,
        r#"ulimits: ["nofile=1:2"]"#,
        "`memory`: no limit",
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let (status, _, _) = ask(&docker, "POST /build?remote=client-session HTTP/1.1").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_client_that_vanishes_ends_its_build() {
    let docker = Arc::<Fake>::default();
    let (mut client, _stop) = connect(docker.clone());
    let request = "POST /build?target=forever HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut begun = [0; 64];
    client.read_exact(&mut begun).await.unwrap();
    assert!(docker.building.load(Ordering::Relaxed));
    drop(client);
    for _ in 0..100 {
        if !docker.building.load(Ordering::Relaxed) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the build goes on");
}

#[tokio::test]
async fn a_build_can_be_cancelled_by_its_id() {
    let docker = Arc::<Fake>::default();
    let (client, server) = tokio::io::duplex(1 << 16);
    let engine = Arc::new(EngineServer::new(docker.clone(), None, None));
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(engine.clone().serve(server, stopped.clone()));
    let mut client = client;
    let request = "POST /build?target=forever&buildid=7 HTTP/1.1\r\nhost: x\r\n\
        connection: close\r\ncontent-length: 0\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut begun = [0; 64];
    client.read_exact(&mut begun).await.unwrap();
    let (mut other, server) = tokio::io::duplex(1 << 16);
    tokio::spawn(engine.clone().serve(server, stopped));
    let cancel = "POST /build/cancel?id=7 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    other.write_all(cancel.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("canceled"), "{answer}");
    assert!(!docker.building.load(Ordering::Relaxed) && engine.builds().is_empty());
}

#[tokio::test]
async fn nonsense_gets_an_answer_or_an_end() {
    let docker = Arc::<Fake>::default();
    let many = format!("GET /_ping HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2 << 20));
    for request in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET /_ping HTTP/9.9\r\n\r\n", &many, &long]
    {
        let (mut client, _stop) = connect(docker.clone());
        // The engine may close before all of it is sent.
        let _ = client.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}
