//! What is kept beside a cache.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cache::beside::{Beside, Catalogue, Change, Content, Keeper, Put};
use futures_util::future::BoxFuture;
use oci::{Annotations, Descriptor, media_type};
use testing::FakeRegistry;

use crate::world::{Machine, reference, registry_place};

fn put(name: &str, text: &str) -> Put {
    Put {
        name: name.into(),
        media_type: "text/plain".into(),
        content: Content::Bytes(Bytes::copy_from_slice(text.as_bytes())),
        notes: Annotations::from([("vnd.kiln.test".to_owned(), text.to_owned())]),
    }
}

fn puts(name: &'static str, text: &'static str) -> impl Fn(&Catalogue) -> Change {
    move |_| Change { put: vec![put(name, text)], ..Change::default() }
}

async fn text(beside: &Beside, name: &str) -> String {
    let catalogue = beside.catalogue().await;
    let bytes = beside.fetch(catalogue.get(name).unwrap(), 1000).await.unwrap();
    String::from_utf8(bytes.into()).unwrap()
}

#[tokio::test]
async fn entries_in_a_registry_come_back_when_they_are_asked_for() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let cache = reference(&registry, "app:cache");
    let client = machine.transfer.client();
    let open = || Beside::of_registry(client, &cache, false).unwrap();
    let first = open();
    assert_eq!(first.name(), format!("{}/app:cache.kiln", registry.host()));
    first.update(puts("a/1", "one")).await.unwrap();
    first.update(puts("a/2", "two")).await.unwrap();

    registry.forget_requests();
    let second = open();
    assert!(!second.was_read() && registry.requests().is_empty());
    assert_eq!(text(&second, "a/2").await, "two");
    assert_eq!(text(&second, "a/1").await, "one");
    assert_eq!(registry.requests().len(), 3, "{:?}", registry.requests());
    let catalogue = second.catalogue().await;
    assert_eq!(catalogue.get("a/1").unwrap().notes["vnd.kiln.test"], "one");
    let forget = |_: &Catalogue| Change { forget: vec!["a/1".into()], ..Change::default() };
    assert_eq!(second.update(forget).await.unwrap().len(), 1);

    // It is an artifact, and no image that BuildKit or a reader of images takes for another thing.
    let (kind, bytes) = registry.manifest("app", "cache.kiln").unwrap();
    let manifest: oci::Manifest = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(kind, media_type::OCI_MANIFEST);
    assert_eq!(manifest.config.media_type, media_type::OCI_EMPTY);
    assert!(registry.has_blob("app", manifest.config.digest));
    let artifact = reference(&registry, "app:cache.kiln");
    assert!(registry_place(&artifact).import(client).await.is_err());
}

#[tokio::test]
async fn a_registry_that_refuses_once_is_asked_again() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let cache = reference(&registry, "app:cache");
    let beside = Beside::of_registry(machine.transfer.client(), &cache, false).unwrap();
    beside.update(puts("a/1", "one")).await.unwrap();
    let refused = std::sync::atomic::AtomicBool::new(false);
    let forget = |_: &Catalogue| {
        if !refused.swap(true, std::sync::atomic::Ordering::Relaxed) {
            registry.fail_next(1, 400, &[]);
        }
        Change { forget: vec!["a/1".into()], ..Change::default() }
    };
    assert!(beside.update(forget).await.unwrap().is_empty());
    let refuse = |_: &Catalogue| {
        registry.fail_next(1, 401, &[]);
        Change { put: vec![put("a/2", "two")], ..Change::default() }
    };
    assert!(beside.update(refuse).await.is_err(), "who may not write is not to insist");
}

#[tokio::test]
async fn entries_in_a_folder_come_back_beside_its_caches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    let beside = Beside::of_folder(&path, "latest");
    assert!(beside.catalogue().await.is_empty());
    assert_eq!(beside.fault(), None);
    let file = folder.path().join("blob");
    std::fs::write(&file, "from a file").unwrap();
    let descriptor = Descriptor::of("text/plain", b"from a file");
    let change = |_: &Catalogue| {
        let content = Content::File { path: file.clone(), digest: descriptor.digest, size: 11 };
        Change { put: vec![Put { content, ..put("f", "") }], ..Change::default() }
    };
    beside.update(change).await.unwrap();
    Beside::of_folder(&path, "other").update(puts("f", "x")).await.unwrap();
    assert_eq!(text(&Beside::of_folder(&path, "latest"), "f").await, "from a file");
    assert_eq!(text(&Beside::of_folder(&path, "other"), "f").await, "x");

    // A blob that was changed, or is larger than it says, is no blob.
    let again = Beside::of_folder(&path, "latest");
    let catalogue = again.catalogue().await;
    let entry = catalogue.get("f").unwrap();
    let blob = path.join("blobs/sha256").join(entry.blob.digest.hex());
    for content in ["from a fire", "from a file with more"] {
        std::fs::write(&blob, content).unwrap();
        assert!(again.fetch(entry, 1000).await.is_err());
    }
    assert!(again.fetch(entry, 5).await.is_err());
}

#[tokio::test]
async fn what_is_not_kilns_is_empty_and_stays() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let image = br#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
    for content in [&image[..], b"{", b"[]"] {
        let put = || {
            registry.put_manifest(
                "app",
                Some("cache.kiln"),
                media_type::OCI_MANIFEST,
                content.to_vec(),
            )
        };
        put();
        let cache = reference(&registry, "app:cache");
        let beside = Beside::of_registry(machine.transfer.client(), &cache, false).unwrap();
        assert!(beside.catalogue().await.is_empty());
        assert!(beside.fault().is_some());
        assert!(beside.update(puts("a", "b")).await.is_err());
        assert_eq!(registry.manifest("app", "cache.kiln").unwrap().1, content);
    }
}

/// Lets another writer come between reading and writing, some times.
#[derive(Clone)]
struct Busy {
    state: Arc<Mutex<(Option<Bytes>, usize)>>,
    other: Bytes,
}

impl Keeper for Busy {
    fn name(&self) -> String {
        "busy".into()
    }
    fn read(&self) -> BoxFuture<'_, Result<Option<Bytes>, cache::Error>> {
        Box::pin(async { Ok(self.state.lock().unwrap().0.clone()) })
    }
    fn write(&self, manifest: Bytes) -> BoxFuture<'_, Result<(), cache::Error>> {
        Box::pin(async move {
            let mut state = self.state.lock().unwrap();
            // The other one wrote right after, without knowing of this.
            let lost = state.1 > 0;
            state.1 = state.1.saturating_sub(1);
            state.0 = Some(if lost { self.other.clone() } else { manifest });
            Ok(())
        })
    }
    fn blob<'a>(&'a self, _: &'a Descriptor, _: u64) -> BoxFuture<'a, Result<Bytes, cache::Error>> {
        Box::pin(async { Ok(Bytes::new()) })
    }
    fn put_blob<'a>(
        &'a self,
        _: &'a Descriptor,
        _: Content,
    ) -> BoxFuture<'a, Result<(), cache::Error>> {
        Box::pin(async { Ok(()) })
    }
    fn place(&self) -> Option<store::Place> {
        None
    }
}

#[tokio::test]
async fn another_writer_is_merged_with() {
    let other = Busy { state: Arc::default(), other: Bytes::new() };
    Beside::new(Box::new(other.clone())).update(puts("theirs", "1")).await.unwrap();
    let theirs = other.state.lock().unwrap().0.clone().unwrap();
    let busy = |times| Busy { state: Arc::new(Mutex::new((None, times))), other: theirs.clone() };
    let merged = Beside::new(Box::new(busy(2))).update(puts("mine", "2")).await.unwrap();
    assert!(merged.get("mine").is_some() && merged.get("theirs").is_some());
    // One who is always in between wins, and nothing turns for ever.
    assert!(Beside::new(Box::new(busy(1000))).update(puts("mine", "2")).await.is_err());
}
