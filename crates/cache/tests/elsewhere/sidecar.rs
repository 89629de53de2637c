//! Sidecars of caches.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cache::sidecar::{
    Additions, BlobContent, Catalogue, CatalogueChange, NewEntry, Sidecar, SidecarRef,
};
use cache::{CacheMode, Form, SidecarUpdate, WriteRequest};
use futures_util::future::BoxFuture;
use oci::{Annotations, Descriptor, Digest, media_type};
use testing::FakeRegistry;

use crate::world::{Machine, in_registry, reference, request};

fn put(name: &str, text: &str) -> NewEntry {
    NewEntry {
        name: name.into(),
        media_type: "text/plain".into(),
        content: BlobContent::Bytes(Bytes::copy_from_slice(text.as_bytes())),
        notes: Annotations::from([("vnd.kiln.test".to_owned(), text.to_owned())]),
    }
}

/// A change that is made regardless of the catalogue.
struct Same<F>(F);

impl<F: Fn(&Catalogue) -> CatalogueChange + Send + Sync> Additions for Same<F> {
    fn is_news(&self) -> bool {
        true
    }
    fn change<'a>(
        &'a self,
        _: &'a Sidecar,
        there: &'a Catalogue,
    ) -> BoxFuture<'a, CatalogueChange> {
        Box::pin(async move { (self.0)(there) })
    }
}

fn puts(name: &'static str, text: &'static str) -> Same<impl Fn(&Catalogue) -> CatalogueChange> {
    Same(move |there: &Catalogue| match there.get(name) {
        Some(_) => CatalogueChange::default(),
        None => CatalogueChange { put: vec![put(name, text)], ..CatalogueChange::default() },
    })
}

async fn text(sidecar: &Sidecar, name: &str) -> String {
    let catalogue = sidecar.catalogue().await;
    let bytes = sidecar.fetch(catalogue.get(name).unwrap(), 1000).await.unwrap();
    String::from_utf8(bytes.into()).unwrap()
}

#[tokio::test]
async fn entries_in_a_registry_come_back_when_they_are_asked_for() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let cache = reference(&registry, "app:cache");
    let client = machine.transfer.client();
    let open = |named| Sidecar::of_registry(client, (&cache, false), named).unwrap();
    let first = open(SidecarRef::None);
    assert_eq!(first.name(), format!("{}/app:cache.kiln", registry.host()));
    let one = first.add(None, &puts("a/1", "one")).await.unwrap();
    let two = first.add(one, &puts("a/2", "two")).await.unwrap().unwrap();
    assert_eq!(first.add(Some(two), &puts("a/2", "other")).await.unwrap(), Some(two));

    registry.forget_requests();
    let second = open(SidecarRef::Artifact(two));
    assert!(!second.was_read() && registry.requests().is_empty());
    assert_eq!(text(&second, "a/2").await, "two");
    assert_eq!(text(&second, "a/1").await, "one");
    assert_eq!(registry.requests().len(), 3, "{:?}", registry.requests());
    let catalogue = second.catalogue().await;
    assert_eq!(catalogue.get("a/1").unwrap().notes["vnd.kiln.test"], "one");
    let forget = Same(|_: &Catalogue| CatalogueChange {
        forget: vec!["a/1".into()],
        ..CatalogueChange::default()
    });
    let left = second.add(Some(two), &forget).await.unwrap().unwrap();
    assert_eq!(open(SidecarRef::Artifact(left)).catalogue().await.len(), 1);

    // It is an artifact, which BuildKit and readers of images do not take for an image.
    let (kind, bytes) = registry.manifest("app", "cache.kiln").unwrap();
    let manifest: oci::Manifest = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(kind, media_type::OCI_MANIFEST);
    assert_eq!(manifest.config.media_type, media_type::OCI_EMPTY);
    assert!(registry.has_blob("app", manifest.config.digest));
    let artifact = reference(&registry, "app:cache.kiln");
    let place = in_registry(&artifact).open(machine.transfer.client()).unwrap();
    assert!(place.import().await.is_err());
}

#[tokio::test]
async fn what_the_tag_names_is_nothing_that_the_cache_names() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let cache = reference(&registry, "app:cache");
    let client = machine.transfer.client();
    let open = |named| Sidecar::of_registry(client, (&cache, false), named).unwrap();
    let theirs = open(SidecarRef::None).add(None, &puts("a", "theirs")).await.unwrap().unwrap();
    // Another client may have write access to the tag, but not to the cache.
    open(SidecarRef::None).add(None, &puts("a", "false")).await.unwrap();
    assert_eq!(text(&open(SidecarRef::Artifact(theirs)), "a").await, "theirs");
    open(SidecarRef::None).tag(theirs).await.unwrap();
    assert_eq!(Digest::of(registry.manifest("app", "cache.kiln").unwrap().1), theirs);

    // A cache without the name of a sidecar has none. For a cache of kiln's, a fault is reported
    // once.
    for (named, is_said) in [(SidecarRef::None, false), (SidecarRef::Unnamed, true)] {
        let sidecar = open(named);
        assert!(sidecar.catalogue().await.is_empty());
        let fault = sidecar.take_fault();
        assert_eq!(fault.is_some_and(|text| text.contains("does not name it")), is_said);
        assert_eq!(sidecar.take_fault(), None);
    }
    // A missing sidecar counts as none.
    let gone = open(SidecarRef::Artifact(Digest::of("gone")));
    assert!(gone.catalogue().await.is_empty() && gone.take_fault().is_none());
}

#[tokio::test]
async fn a_registry_that_refuses_once_is_asked_again() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let cache = reference(&registry, "app:cache");
    let client = machine.transfer.client();
    let sidecar = Sidecar::of_registry(client, (&cache, false), SidecarRef::None).unwrap();
    let there = sidecar.add(None, &puts("a/1", "one")).await.unwrap();
    let refused = std::sync::atomic::AtomicBool::new(false);
    let forget = Same(|_: &Catalogue| {
        if !refused.swap(true, std::sync::atomic::Ordering::Relaxed) {
            registry.fail_next(1, 400, &[]);
        }
        CatalogueChange { forget: vec!["a/1".into()], ..CatalogueChange::default() }
    });
    assert_ne!(sidecar.add(there, &forget).await.unwrap(), there);
    let refuse = Same(|_: &Catalogue| {
        registry.fail_next(1, 401, &[]);
        CatalogueChange { put: vec![put("a/2", "two")], ..CatalogueChange::default() }
    });
    assert!(sidecar.add(there, &refuse).await.is_err(), "who may not write is not to insist");
}

#[tokio::test]
async fn entries_in_a_folder_come_back_beside_its_caches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    let sidecar = Sidecar::of_layout(&path, "latest", SidecarRef::None);
    assert!(sidecar.catalogue().await.is_empty());
    assert_eq!(sidecar.take_fault(), None);
    let file = folder.path().join("blob");
    std::fs::write(&file, "from a file").unwrap();
    let descriptor = Descriptor::of("text/plain", b"from a file");
    let change = Same(|_: &Catalogue| {
        let content = BlobContent::File { path: file.clone(), digest: descriptor.digest, size: 11 };
        CatalogueChange {
            put: vec![NewEntry { content, ..put("f", "") }],
            ..CatalogueChange::default()
        }
    });
    let latest = sidecar.add(None, &change).await.unwrap().unwrap();
    let other = Sidecar::of_layout(&path, "other", SidecarRef::None);
    let other = other.add(None, &puts("f", "x")).await.unwrap().unwrap();
    let open = |tag, named| Sidecar::of_layout(&path, tag, SidecarRef::Artifact(named));
    assert_eq!(text(&open("latest", latest), "f").await, "from a file");
    assert_eq!(text(&open("other", other), "f").await, "x");

    // A blob that was changed, or is larger than its size says, is rejected.
    let again = open("latest", latest);
    let catalogue = again.catalogue().await;
    let entry = catalogue.get("f").unwrap();
    let blob = path.join("blobs/sha256").join(entry.blob.digest.hex());
    for content in ["from a fire", "from a file with more"] {
        std::fs::write(&blob, content).unwrap();
        assert!(again.fetch(entry, 1000).await.is_err());
    }
    assert!(again.fetch(entry, 5).await.is_err());
    // A manifest that was changed is a fault.
    std::fs::write(path.join("blobs/sha256").join(latest.hex()), "{}").unwrap();
    let changed = open("latest", latest);
    assert!(changed.catalogue().await.is_empty() && changed.take_fault().is_some());
}

#[tokio::test]
async fn what_is_not_kilns_is_empty_and_nothing_is_added_to_it() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let image = br#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
    for content in [&image[..], b"{", b"[]"] {
        registry.put_manifest(
            "app",
            Some("cache.kiln"),
            media_type::OCI_MANIFEST,
            content.to_vec(),
        );
        let cache = reference(&registry, "app:cache");
        let named = Digest::of(content);
        let client = machine.transfer.client();
        let named_it = SidecarRef::Artifact(named);
        let sidecar = Sidecar::of_registry(client, (&cache, false), named_it).unwrap();
        assert!(sidecar.catalogue().await.is_empty());
        assert!(sidecar.take_fault().is_some());
        assert!(sidecar.add(Some(named), &puts("a", "b")).await.is_err());
        assert_eq!(registry.manifest("app", "cache.kiln").unwrap().1, content);
    }
}

/// Concurrent writers of one cache, each with its own entry, which leave one artifact.
#[tokio::test]
async fn writers_that_come_at_once_lose_nothing_beside_the_cache() {
    let registry = FakeRegistry::start();
    let cache = reference(&registry, "app:cache");
    let machines: Vec<Machine> = (0..4).map(|_| Machine::new(&registry)).collect();
    let names = ["w/0", "w/1", "w/2", "w/3"];
    let write = async |machine: &Machine, name: &'static str| {
        let solved = machine.build(Vec::new()).await;
        let client = machine.transfer.client();
        let sidecar = Sidecar::of_registry(client, (&cache, false), SidecarRef::None).unwrap();
        let additions = Arc::new(puts(name, name));
        let sidecar = Some(SidecarUpdate { sidecar, additions });
        let with = WriteRequest { sidecar, ..request(Form::ImageManifest) };
        machine.push(&solved, &cache, CacheMode::Max, &with).await
    };
    let writers = machines.iter().zip(names).map(|(machine, name)| write(machine, name));
    let written = futures_util::future::join_all(writers).await;
    let notes: Vec<_> = written.iter().flat_map(|exported| &exported.notes).collect();
    assert!(notes.is_empty(), "{notes:?}");

    let imported = machines[0].import(&cache).await.unwrap();
    let SidecarRef::Artifact(named) = imported.records.sidecar() else { panic!("it names none") };
    let client = machines[0].transfer.client();
    let sidecar =
        Sidecar::of_registry(client, (&cache, false), SidecarRef::Artifact(named)).unwrap();
    for name in names {
        assert_eq!(text(&sidecar, name).await, name);
    }
    assert_eq!(Digest::of(registry.manifest("app", "cache.kiln").unwrap().1), named);
}

/// A reader of a cache does not depend on its sidecar.
#[tokio::test]
async fn a_cache_that_cannot_have_anything_beside_it_is_written() {
    let registry = FakeRegistry::start();
    let cache = reference(&registry, "app:cache");
    let machine = Machine::new(&registry);
    let solved = machine.build(Vec::new()).await;
    let client = machine.transfer.client();
    let sidecar = Sidecar::of_registry(client, (&cache, false), SidecarRef::None).unwrap();
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let additions = Arc::new(Same(move |_: &Catalogue| {
        *count.lock().unwrap() += 1;
        let missing = "/proc/self/no-such-file".into();
        let content = BlobContent::File { path: missing, digest: Digest::of("x"), size: 1 };
        CatalogueChange {
            put: vec![NewEntry { content, ..put("f", "") }],
            ..CatalogueChange::default()
        }
    }));
    let sidecar = Some(SidecarUpdate { sidecar, additions });
    let with = WriteRequest { sidecar, ..request(Form::ImageManifest) };
    let exported = machine.push(&solved, &cache, CacheMode::Max, &with).await;
    assert!(exported.notes.iter().any(|note| note.contains("nothing was left beside")));
    assert_eq!(*asked.lock().unwrap(), 1);
    let imported = machine.import(&cache).await.unwrap();
    assert_eq!(imported.records.sidecar(), SidecarRef::None);
}
