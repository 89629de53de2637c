//! Tests with Docker's own registry, if it is installed.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::slice::from_ref;

use oci::{Digest, media_type};
use registry::{Credentials, DockerConfig, Error, Expect, Pushed, Secret};
use tempfile::TempDir;

use super::*;

const PROGRAM: &str = "/usr/bin/docker-registry";

struct Distribution {
    host: String,
    process: Child,
    _dir: TempDir,
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(user: bool) -> Option<Distribution> {
    if !Path::new(PROGRAM).exists() {
        fixtures::skip("distribution", "no docker-registry: `apt-get install docker-registry`");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("127.0.0.1:{port}");
    let (at, users) = (dir.path().display(), dir.path().join("users"));
    // The password is `pw`.
    std::fs::write(&users, "me:$2b$05$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q\n")
        .unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", users.display());
    let config = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\n\
         http: {{addr: \"{host}\"}}\n{}",
        if user { auth } else { String::new() }
    );
    std::fs::write(dir.path().join("config.yml"), config).unwrap();
    let mut process = Command::new(PROGRAM)
        .arg("serve")
        .arg(dir.path().join("config.yml"))
        .env("OTEL_TRACES_EXPORTER", "none")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let started = log.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
    assert!(started, "{PROGRAM} did not start");
    // The registry blocks unless its log is read.
    std::thread::spawn(move || log.for_each(drop));
    Some(Distribution { host, process, _dir: dir })
}

async fn push_and_pull(client: &Client, host: &str) {
    let (to, other) = (Repository::new(host, "team/app"), Repository::new(host, "team/other"));
    let bytes = some_bytes(5_000_000);
    let blob = layer(&bytes);
    assert_eq!(client.exists(&to, blob.digest).await.unwrap(), None);
    let before = client.stats().requests;
    let pushed = client.push_blob(&to, &blob, &bytes, &[], Expect::New).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded(blob.size));
    assert_eq!(client.stats().requests - before, 2);
    let mounted = client.push_blob(&other, &blob, &bytes, from_ref(&to), Expect::Unknown).await;
    assert_eq!(mounted.unwrap(), Pushed::Mounted);
    let empty = layer(b"");
    client.push_bytes(&to, &empty, Bytes::new()).await.unwrap();
    for from in [&to, &other] {
        assert!(pull(client, from, &blob).await.unwrap() == bytes);
    }
    assert!(pull(client, &to, &empty).await.unwrap().is_empty());
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": {"mediaType": media_type::OCI_CONFIG, "digest": empty.digest, "size": 0},
        "layers": [{"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}],
    });
    let manifest = Bytes::from(manifest.to_string());
    let name = format!("{host}/team/app:v1").parse().unwrap();
    let put = client.put_manifest(&name, media_type::OCI_MANIFEST, manifest.clone()).await;
    assert_eq!(put.unwrap(), Digest::of(&manifest));
    let (descriptor, got) = client.manifest(&name).await.unwrap();
    assert_eq!(got, manifest);
    assert_eq!(client.resolve(&name.with_digest(descriptor.digest)).await.unwrap(), descriptor);
    let missing = client.resolve(&format!("{host}/team/app:v2").parse().unwrap()).await;
    assert!(missing.unwrap_err().is_not_found());
    // The registry rejects bytes that do not match the digest.
    let error = client.push_bytes(&to, &layer(b"x"), Bytes::from_static(b"y")).await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 400, .. }), "{error}");
}

#[tokio::test]
async fn it_takes_and_gives() {
    let Some(registry) = start(false) else { return };
    push_and_pull(&client(), &registry.host).await;
}

#[tokio::test]
async fn it_wants_a_password() {
    let Some(registry) = start(true) else { return };
    let with = |password: &str| {
        let password = Secret::new(password);
        let credentials = Credentials::Password { username: "me".into(), password };
        let docker_config = DockerConfig::default().with_credentials(&registry.host, credentials);
        Client::new(Settings { docker_config, ..settings() }).unwrap()
    };
    with("pw").ping(&registry.host).await.unwrap();
    push_and_pull(&with("pw"), &registry.host).await;
    for client in [with("wrong"), client()] {
        let error = client.ping(&registry.host).await.unwrap_err();
        assert!(error.is_unauthorized(), "{error}");
    }
}

/// Breaks the first connection that sends more than `cut` bytes, and forwards all else.
async fn breaking_proxy(upstream: String, cut: usize) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut cuts = vec![cut];
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = tokio::net::TcpStream::connect(&upstream).await.unwrap();
            let cut = cuts.pop();
            tokio::spawn(async move {
                match cut {
                    Some(cut) => {
                        let (mut from, mut to) = client.split();
                        let (mut answers, mut requests) = server.split();
                        let mut limited = tokio::io::AsyncReadExt::take(&mut from, cut as u64);
                        tokio::select! {
                            _ = tokio::io::copy(&mut limited, &mut requests) => {}
                            _ = tokio::io::copy(&mut answers, &mut to) => {}
                        }
                    }
                    None => {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                }
            });
        }
    });
    host
}

#[tokio::test]
async fn its_uploads_go_on_after_a_break() {
    let Some(registry) = start(false) else { return };
    let host = breaking_proxy(registry.host.clone(), 3_000_000).await;
    let client = client();
    let (to, bytes) = (Repository::new(&host, "a"), some_bytes(8_000_000));
    let blob = layer(&bytes);
    client.push_blob(&to, &blob, &bytes, &[], Expect::New).await.unwrap();
    assert!(pull(&client, &to, &blob).await.unwrap() == bytes);
}
