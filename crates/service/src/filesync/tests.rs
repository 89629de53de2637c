use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tonic::{Request, Streaming};

use super::*;
use crate::grpc::{self, Messages, received};
use crate::proto::BytesMessage;
use crate::proto::fsutil::{Packet, PacketType, Stat};
use crate::session::ClientSession;
use crate::testing::session_with;

const RECEIVE: &str = "/moby.filesync.v1.FileSync/DiffCopy";
const SEND: &str = "/moby.filesync.v1.FileSend/DiffCopy";
const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;

fn packet(kind: PacketType) -> Packet {
    Packet { r#type: kind.into(), ..Packet::default() }
}

fn header(path: &str, mode: u32, size: usize) -> Packet {
    let stat = Stat {
        path: path.into(),
        mode,
        size: size as i64,
        mod_time: 1_600_000_000_000_000_123,
        ..Stat::default()
    };
    Packet { stat: Some(stat), ..packet(PacketType::Stat) }
}

fn link(path: &str, mode: u32, target: &str) -> Packet {
    let mut packet = header(path, mode, 0);
    packet.stat.as_mut().unwrap().linkname = target.into();
    packet
}

fn data(id: u32, bytes: &str) -> Packet {
    Packet { id, data: bytes.to_owned().into(), ..packet(PacketType::Data) }
}

/// A file of a fake client: its header, and its content.
type FakeFile = (Packet, &'static str);

/// A client that sends a tree as fsutil does, and notes which files it was asked for.
async fn honest(
    shared_key: &str,
    tree: Arc<Mutex<Vec<FakeFile>>>,
    asked: Arc<Mutex<Vec<String>>>,
) -> Arc<ClientSession> {
    let serve = move |request: Request<Streaming<Packet>>| {
        let (tree, asked) = (tree.lock().unwrap().clone(), asked.clone());
        async move {
            let mut incoming = request.into_inner();
            let (send, packets) = mpsc::channel(4);
            tokio::spawn(async move {
                for (header, _) in &tree {
                    send.send(Ok(header.clone())).await.unwrap();
                }
                send.send(Ok(packet(PacketType::Stat))).await.unwrap();
                while let Ok(Some(message)) = incoming.message().await {
                    match PacketType::try_from(message.r#type).unwrap() {
                        PacketType::Req => {
                            let (header, content) = &tree[message.id as usize];
                            asked.lock().unwrap().push(header.stat.as_ref().unwrap().path.clone());
                            if !content.is_empty() {
                                send.send(Ok(data(message.id, content))).await.unwrap();
                            }
                            send.send(Ok(data(message.id, ""))).await.unwrap();
                        }
                        PacketType::Fin => {
                            send.send(Ok(packet(PacketType::Fin))).await.unwrap();
                            return;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
            Ok(Box::pin(received(packets)) as Messages<Packet>)
        }
    };
    session_with(shared_key, &[RECEIVE], move |request| grpc::streaming(request, serve.clone()))
        .await
}

async fn receive(
    contexts: &Contexts,
    session: &Arc<ClientSession>,
) -> Result<(Lease, Received), FileSyncError> {
    let (contexts, session) = (contexts.clone(), session.clone());
    let selection = FileSelection { name: "context".into(), ..FileSelection::default() };
    tokio::task::spawn_blocking(move || contexts.receive(&session, &selection)).await.unwrap()
}

fn text(lease: &Lease, path: &str) -> String {
    std::fs::read_to_string(lease.path().join(path)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let contexts = Contexts::open(folder.path(), TransferLimits::default()).unwrap();
    let tree = Arc::new(Mutex::new(vec![
        (header("a", 0o644, 3), "one"),
        (header("d", DIRECTORY | 0o750, 0), ""),
        (header("d/b", 0o755, 0), ""),
        (link("d/l", SYMLINK | 0o777, "../a"), ""),
        (link("h", 0o644, "a"), ""),
        (header("z", 0o600, 4), "four"),
    ]));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let session = honest("key", tree.clone(), asked.clone()).await;
    let (lease, got) = receive(&contexts, &session).await.unwrap();
    assert_eq!((got.entries, got.files, got.bytes), (6, 3, 7));
    assert_eq!(asked.lock().unwrap().drain(..).count(), 3);
    assert_eq!((text(&lease, "a").as_str(), text(&lease, "d/l").as_str()), ("one", "one"));
    let metadata = |path: &str| lease.path().join(path).symlink_metadata().unwrap();
    assert_eq!(metadata("d").permissions().mode() & 0o7777, 0o750);
    assert_eq!(metadata("d/b").permissions().mode() & 0o7777, 0o755);
    assert_eq!((metadata("z").mtime(), metadata("z").mtime_nsec()), (1_600_000_000, 123));
    assert_eq!(metadata("h").ino(), metadata("a").ino());

    // A build that reads it meanwhile has a folder of its own.
    let (second, _) = receive(&contexts, &session).await.unwrap();
    assert_ne!(second.path(), lease.path());
    assert_eq!(asked.lock().unwrap().drain(..).count(), 3);
    drop((lease, second));

    {
        let mut tree = tree.lock().unwrap();
        tree.retain(|(header, _)| {
            !matches!(header.stat.as_ref().unwrap().path.as_str(), "a" | "h")
        });
        tree.last_mut().unwrap().0.stat.as_mut().unwrap().mod_time += 1;
        // A link becomes a file.
        tree[1].0.stat.as_mut().unwrap().mode = DIRECTORY | 0o755;
        tree[2] = (header("d/l", 0o644, 2), "me");
    }
    let (lease, got) = receive(&contexts, &session).await.unwrap();
    assert_eq!(got.files, 2);
    assert_eq!(asked.lock().unwrap().drain(..).collect::<Vec<_>>(), ["d/l", "z"]);
    assert!(!lease.path().join("a").exists() && lease.path().join("d/b").is_dir());
    assert_eq!(text(&lease, "d/l"), "me");
    drop(lease);

    // A client without a key gets nothing that another one left, and leaves nothing.
    let stranger = honest("", tree, asked.clone()).await;
    let (lease, _) = receive(&contexts, &stranger).await.unwrap();
    let path = lease.path().to_owned();
    assert_eq!(asked.lock().unwrap().len(), 2);
    drop(lease);
    assert!(!path.exists());
    contexts.collect().unwrap();
}

/// A client that says these packets, whatever it is asked.
async fn hostile(packets: Vec<Packet>) -> Arc<ClientSession> {
    let serve = move |request: Request<Streaming<Packet>>| {
        let packets = packets.clone();
        async move {
            let mut incoming = request.into_inner();
            let said = futures_util::stream::iter(packets.into_iter().map(Ok));
            // The call stays open until kiln ends it.
            let rest = futures_util::stream::once(async move {
                while let Ok(Some(_)) = incoming.message().await {}
                Ok(packet(PacketType::Fin))
            });
            Ok(Box::pin(futures_util::StreamExt::chain(said, rest)) as Messages<Packet>)
        }
    };
    session_with("", &[RECEIVE], move |request| grpc::streaming(request, serve.clone())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_senders_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let limits = TransferLimits { entries: 8, bytes: 100, names: 4096 };
    let contexts = Contexts::open(&folder.path().join("contexts"), limits).unwrap();
    let end = || packet(PacketType::Stat);
    let directory = |path: &str| header(path, DIRECTORY | 0o755, 0);
    let escape = outside.display().to_string();
    let cases: Vec<(Vec<Packet>, &str)> = vec![
        (vec![header("../x", 0o644, 1), end()], "leads out"),
        (vec![header("/etc/x", 0o644, 1), end()], "absolute"),
        (vec![link("l", SYMLINK, &escape), header("l/x", 0o644, 1), end()], "did not come before"),
        (vec![directory("d"), directory("d"), end()], "comes twice"),
        (vec![header("b", 0o644, 1), header("a", 0o644, 1), end()], "out of order"),
        (vec![link("h", 0o644, "../../outside"), end()], "hard link leads out"),
        (vec![link("h", 0o644, "none"), end()], "hard link leads to no file"),
        (vec![link("l", SYMLINK, "x"), link("m", 0o644, "l"), end()], "hard link leads to no file"),
        (vec![header("dev", DEVICE | 0o644, 0), end()], "device"),
        (vec![header("a", 0o644, 2), data(0, "abc")], "2 bytes were announced, 3 came"),
        (vec![header("a", 0o644, 2), data(0, "a"), data(0, "")], "2 bytes were announced, 1 came"),
        (vec![header("a", 0o644, 200), end()], "more than 100 bytes"),
        (vec![data(7, "x")], "not asked for"),
        (vec![end(), header("a", 0o644, 1)], "breaks"),
        (vec![packet(PacketType::Fin)], "it ends before"),
        (vec![packet(PacketType::Req)], "wrong type"),
        (vec![Packet { r#type: 99, ..Packet::default() }], "wrong type"),
        (
            vec![Packet { data: "no access".into(), ..packet(PacketType::Err) }],
            "error from the client: no access",
        ),
        ((0..9).map(|number| directory(&format!("d{number}"))).collect(), "more than 8 entries"),
        (
            (0..8)
                .map(|number| directory(&format!("{number}{}", "x".repeat(250))))
                .chain((0..1).map(|_| link("y", SYMLINK, &"t".repeat(4000))))
                .collect(),
            "more than",
        ),
    ];
    for (packets, word) in cases {
        // An empty transfer that ends well is not what is tested.
        let session = hostile(packets).await;
        let result =
            tokio::time::timeout(std::time::Duration::from_secs(20), receive(&contexts, &session));
        let error = match result.await.unwrap_or_else(|_| panic!("{word}: it hangs")) {
            Ok(_) if word == "breaks" => continue,
            Ok(_) => panic!("{word}: it was taken"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(word), "{word}: {error}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    // Nothing is left of what was refused.
    assert_eq!(std::fs::read_dir(folder.path().join("contexts")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_files_is_named() {
    let session = session_with("", &[], async |request| grpc::unimplemented(request.uri().path()));
    let session = session.await;
    let folder = tempfile::tempdir().unwrap();
    let contexts = Contexts::open(folder.path(), TransferLimits::default()).unwrap();
    let error = receive(&contexts, &session).await.unwrap_err();
    assert!(error.to_string().contains("no local sources"), "{error}");
}

/// A client that takes a folder, asks for each file and notes what it gets.
async fn taker(taken: Arc<Mutex<Vec<(String, String)>>>) -> Arc<ClientSession> {
    let serve = move |request: Request<Streaming<Packet>>| {
        let taken = taken.clone();
        async move {
            assert_eq!(request.metadata().get("buildkit-attachable-exporter-id").unwrap(), "3");
            let mut incoming = request.into_inner();
            let (send, packets) = mpsc::channel(64);
            tokio::spawn(async move {
                let mut files = Vec::new();
                let mut number = 0;
                while let Ok(Some(message)) = incoming.message().await {
                    match PacketType::try_from(message.r#type).unwrap() {
                        PacketType::Stat => match message.stat {
                            Some(stat) => {
                                files.push((stat, String::new()));
                                let is_file = files[number].0.mode & (DIRECTORY | SYMLINK) == 0;
                                if is_file && files[number].0.linkname.is_empty() {
                                    let id = number as u32;
                                    let ask = Packet { id, ..packet(PacketType::Req) };
                                    send.send(Ok(ask)).await.unwrap();
                                }
                                number += 1;
                            }
                            None => continue,
                        },
                        PacketType::Data if message.data.is_empty() => {
                            let last = files.iter().rposition(|(stat, _)| stat.size > 0).unwrap();
                            if message.id as usize == last {
                                let list = files.iter().map(|(stat, text)| {
                                    (stat.path.clone(), format!("{}{text}", stat.linkname))
                                });
                                *taken.lock().unwrap() = list.collect();
                                send.send(Ok(packet(PacketType::Fin))).await.unwrap();
                            }
                        }
                        PacketType::Data => {
                            let text = String::from_utf8(message.data.to_vec()).unwrap();
                            files[message.id as usize].1.push_str(&text);
                        }
                        PacketType::Fin => return,
                        other => panic!("{other:?}"),
                    }
                }
            });
            Ok(Box::pin(received(packets)) as Messages<Packet>)
        }
    };
    session_with("", &[SEND], move |request| grpc::streaming(request, serve.clone())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_sent_in_fsutils_order() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| std::fs::write(folder.path().join(path), text).unwrap();
    std::fs::create_dir(folder.path().join("b")).unwrap();
    write("b/x", "inner");
    write("b.txt", "beside");
    std::os::unix::fs::symlink("b.txt", folder.path().join("l")).unwrap();
    std::fs::hard_link(folder.path().join("b.txt"), folder.path().join("c")).unwrap();
    write("z", "last");
    let taken = Arc::new(Mutex::new(Vec::new()));
    let session = taker(taken.clone()).await;
    let sent = SentFolder { folder: folder.path().to_owned(), exporter: 3, is_whole: false };
    send_folder(&session, sent).await.unwrap();
    let taken = taken.lock().unwrap();
    let taken: Vec<(&str, &str)> =
        taken.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    assert_eq!(
        taken,
        [
            ("b", ""),
            ("b/x", "inner"),
            ("b.txt", "beside"),
            ("c", "b.txt"),
            ("l", "b.txt"),
            ("z", "last")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_with_what_is_known_of_it() {
    let got = Arc::new(Mutex::new((String::new(), Vec::new())));
    let noted = got.clone();
    let serve = move |request: Request<Streaming<BytesMessage>>| {
        let noted = noted.clone();
        async move {
            let digest = request.metadata().get("exporter-md-containerimage.digest").unwrap();
            let digest = digest.to_str().unwrap().to_owned();
            let mut incoming = request.into_inner();
            let mut bytes = Vec::new();
            while let Some(message) = incoming.message().await? {
                bytes.extend_from_slice(&message.data);
            }
            *noted.lock().unwrap() = (digest, bytes);
            Ok(Box::pin(futures_util::stream::empty()) as Messages<BytesMessage>)
        }
    };
    let session =
        session_with("", &[SEND], move |request| grpc::streaming(request, serve.clone())).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let content = "x".repeat(3 << 20);
    std::fs::write(&path, &content).unwrap();
    let metadata = [("containerimage.digest".to_owned(), "sha256:1".to_owned())].into();
    send_file(&session, &path, 0, &metadata).await.unwrap();
    let got = got.lock().unwrap();
    assert!(got.0 == "sha256:1" && got.1 == content.as_bytes());
    assert!(Path::new(&path).exists());
}
