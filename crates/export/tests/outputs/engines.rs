//! A Docker engine that accepts, fails and refuses.

use std::path::{Path, PathBuf};

use export::{ArchiveKind, Engine, Error, load};
use layer::Layer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use crate::{OutputFixture, names, product, request, untar};

const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Answers one request, and returns the received bytes.
fn engine(
    folder: &Path,
    reads_all: bool,
    answer: String,
) -> (Engine, tokio::task::JoinHandle<Vec<u8>>) {
    let path: PathBuf = folder.join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let serve = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut came = Vec::new();
        let mut space = vec![0; 1 << 16];
        loop {
            let read = stream.read(&mut space).await.unwrap();
            came.extend_from_slice(&space[..read]);
            if read == 0 || !reads_all || came.ends_with(b"\r\n0\r\n\r\n") {
                break;
            }
        }
        // A client that gave up does not read the answer.
        let _ = stream.write_all(answer.as_bytes()).await;
        came
    };
    (Engine::Unix(path), tokio::spawn(serve))
}

fn chunks(texts: &[&str]) -> String {
    let chunks = texts.iter().map(|text| format!("{:x}\r\n{text}\r\n", text.len()));
    chunks.chain(["0\r\n\r\n".into()]).collect()
}

/// The archive in a request.
fn archive(request: &[u8]) -> Vec<u8> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let mut body = &request[end + 4..];
    let mut archive = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n").unwrap();
        let size = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return archive;
        }
        archive.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
}

async fn message(world: &OutputFixture, answer: String, reads_all: bool) -> String {
    let image = product(world.image());
    let names = names(&["shop:1"]);
    let (engine, _) = engine(world.folder.path(), reads_all, answer);
    let request = request(&image, &names, ArchiveKind::Docker);
    match load(&world.transfer, &request, &engine).await.unwrap_err() {
        Error::Engine { message, .. } => message,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_engine_gets_the_whole_archive() {
    let world = OutputFixture::new();
    let image = product(world.image());
    let names = names(&["shop:1"]);
    let answer = OK.to_owned() + &chunks(&["{\"stream\":\"Loaded image: shop:1\\n\"}\r\n"]);
    let (engine, served) = engine(world.folder.path(), true, answer);
    let request = request(&image, &names, ArchiveKind::Docker);
    let documents = load(&world.transfer, &request, &engine).await.unwrap();
    let came = served.await.unwrap();
    assert!(came.starts_with(b"POST /images/load?quiet=1 HTTP/1.1\r\n"));
    let files = untar(&archive(&came));
    let manifest = format!("blobs/sha256/{}", documents.root.descriptor.digest.hex());
    assert!(files.iter().any(|(path, bytes)| *path == manifest && *bytes == documents.root.bytes));
}

#[tokio::test]
async fn an_error_in_the_answers_stream_is_an_error() {
    let world = OutputFixture::new();
    // One message in two chunks.
    let answer = chunks(&["{\"stream\":\"x\"}\r\n{\"err", "or\":\"no space left\"}\r\n"]);
    assert_eq!(message(&world, OK.to_owned() + &answer, true).await, "no space left");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_engines_words() {
    let world = OutputFixture::new();
    let answer = "HTTP/1.1 500 Internal Server Error\r\n\r\n{\"message\":\"not today\"}\n";
    assert_eq!(message(&world, answer.into(), true).await, "status 500: not today");
}

#[tokio::test]
async fn a_refusal_before_the_archive_was_read_is_told_too() {
    let world = OutputFixture::new();
    let answer = "HTTP/1.1 403 Forbidden\r\n\r\nno loads here\n";
    assert_eq!(message(&world, answer.into(), false).await, "status 403: no loads here");
}

#[tokio::test]
async fn what_speaks_no_http_is_no_engine() {
    let world = OutputFixture::new();
    assert_eq!(message(&world, "hello\n".into(), true).await, "the answer is not HTTP");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_named() {
    let world = OutputFixture::new();
    let image = product(world.image());
    let engine = Engine::Unix(world.folder.path().join("none.sock"));
    let request = request(&image, &[], ArchiveKind::Docker);
    let error = load(&world.transfer, &request, &engine).await.unwrap_err().to_string();
    assert!(error.contains("none.sock`: No such file"), "{error}");
}

#[tokio::test]
async fn an_archive_that_cannot_be_made_is_not_ended_as_if_it_were_whole() {
    let world = OutputFixture::new();
    let mut image = world.image();
    let lost = Layer { diff_id: oci::Digest::of("lost"), blob: None, ..image.layers[0].clone() };
    image.layers.push(lost);
    let image = product(image);
    let (engine, served) = engine(world.folder.path(), true, String::new());
    let request = request(&image, &[], ArchiveKind::Docker);
    let error = load(&world.transfer, &request, &engine).await.unwrap_err();
    assert!(matches!(error, Error::Layer(_)), "{error}");
    assert!(!served.await.unwrap().ends_with(b"0\r\n\r\n"));
}

#[test]
fn addresses_are_read_or_refused() {
    assert_eq!(Engine::parse("").unwrap(), Engine::Unix("/var/run/docker.sock".into()));
    assert_eq!(Engine::parse("unix:///run/x").unwrap().to_string(), "unix:///run/x");
    assert_eq!(Engine::parse("tcp://host:2375/").unwrap(), Engine::Tcp("host:2375".into()));
    for address in ["ssh://host", "fd://", "/run/docker.sock"] {
        assert!(Engine::parse(address).unwrap_err().to_string().contains(address));
    }
}
