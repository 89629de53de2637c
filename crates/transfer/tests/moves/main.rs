//! Layers between registries, folders and a store.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod at_once;

use std::fs;
use std::io::Read as _;
use std::time::Duration;

use futures_util::future::join_all;
use graph::{Event, Events, TaskEvent};
use layer::tar::TarWriter;
use layer::{Compression, Entry, EntryKind, Layer, LayerIndex, Place, Time};
use oci::{Descriptor, Repository, media_type};
use registry::{Client, RetryPolicy, Settings};
use store::{OpenOptions, Privileges, Store};
use testing::FakeRegistry;
use transfer::{Destination, Error, LayerFormat, PushTarget, RegistryUpload, Transfer};
use tree::LayerFiles;
use tree::LayerPaths;

const AS_IT_IS: LayerFormat = LayerFormat { compression: Compression::Gzip(None), force: false };

struct World {
    registry: FakeRegistry,
    transfer: Transfer,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::with(Events::none())
    }

    fn with(events: Events) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions::new(Privileges::None);
        let store = Store::open(&folder.path().join("root"), options).unwrap();
        let retry = RetryPolicy {
            attempts: 2,
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(1),
        };
        let client = Client::new(Settings { retry, ..Settings::default() }).unwrap();
        let transfer = Transfer::new(store, client, events);
        Self { registry: FakeRegistry::start(), transfer, folder }
    }

    fn store(&self) -> &Store {
        self.transfer.store()
    }

    fn place(&self, path: &str) -> Place {
        Place::Registry { repository: Repository::new(self.registry.host(), path), insecure: false }
    }

    fn target(&self, path: &str) -> PushTarget {
        PushTarget { repository: Repository::new(self.registry.host(), path), insecure: false }
    }

    /// Puts a layer into a repository.
    fn put(&self, path: &str, archive: &[u8]) -> Layer {
        self.registry.put_blob(path, archive.to_vec());
        layer(archive, vec![self.place(path)])
    }

    /// The number of requests that contain `part`.
    fn asked(&self, part: &str) -> usize {
        self.registry.requests().iter().filter(|line| line.contains(part)).count()
    }

    fn content(&self, layer: &Layer, path: &str) -> String {
        fs::read_to_string(self.store().layer_folder(&layer.diff_id).join(path)).unwrap()
    }

    async fn upload(&self, layer: &Layer, format: LayerFormat, to: &str) -> Descriptor {
        let target = self.target(to);
        let to = RegistryUpload { target: &target, task: None };
        self.transfer.upload(std::slice::from_ref(layer), 0, format, to).await.unwrap()
    }
}

fn layer(archive: &[u8], places: Vec<Place>) -> Layer {
    let blob = Descriptor::of(media_type::OCI_LAYER, archive);
    Layer { diff_id: blob.digest, blob: Some(blob), created: None, places }
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: path.as_bytes().into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
    }
}

fn archive(entries: &[(&str, EntryKind, &str)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (path, kind, content) in entries {
        let entry = entry(path, kind.clone());
        writer.append(&entry, &mut content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn file(path: &str, content: &str) -> Vec<u8> {
    archive(&[(path, EntryKind::File { size: content.len() as u64 }, content)])
}

fn link(path: &str, target: &str) -> Vec<u8> {
    archive(&[(path, EntryKind::HardLink { target: target.as_bytes().into() }, "")])
}

/// Fails instead of a deadlock.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it waits for itself")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_unpacked_at_once_and_each_layer_comes_once() {
    let world = World::new();
    let mut chain = vec![world.put("app", &file("bottom", "content"))];
    for number in 0..9 {
        chain.push(world.put("app", &link(&format!("link{number}"), "bottom")));
    }
    // Two steps request the same layers.
    let (one, other) = soon(async {
        tokio::join!(world.transfer.unpack(&chain, None), world.transfer.unpack(&chain, None))
    })
    .await;
    one.unwrap();
    other.unwrap();
    for (number, layer) in chain[1..].iter().enumerate() {
        assert_eq!(world.content(layer, &format!("link{number}")), "content");
    }
    for layer in &chain {
        assert_eq!(world.asked(&layer.diff_id.to_string()), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_wait_for_those_below_leave_them_their_lanes() {
    let world = World::new();
    // More layers than the limit of concurrent downloads, each of which waits for an unrequested
    // one below.
    let chains: Vec<[Layer; 2]> = (0..12)
        .map(|number| {
            let bottom = world.put("app", &file(&format!("f{number}"), "content"));
            [bottom, world.put("app", &link("link", &format!("f{number}")))]
        })
        .collect();
    let unpacked = chains.iter().map(|chain| world.transfer.unpack_at(chain, 1, None));
    for result in soon(join_all(unpacked)).await {
        result.unwrap();
    }
    assert!(chains.iter().all(|chain| world.content(&chain[1], "link") == "content"));
}

#[tokio::test]
async fn the_next_place_serves_where_one_lacks_or_spoils_a_layer() {
    let world = World::new();
    let bytes = file("a", "content");
    let blobs = world.folder.path().join("layout/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let mut layer = world.put("whole", &bytes);
    fs::write(blobs.join(layer.diff_id.hex()), vec![7; bytes.len()]).unwrap();
    let spoilt = Place::Layout(world.folder.path().join("layout"));
    layer.places = vec![world.place("empty"), spoilt, world.place("whole")];
    world.transfer.unpack(std::slice::from_ref(&layer), None).await.unwrap();
    assert_eq!(world.content(&layer, "a"), "content");
    world.transfer.fetch_blob(&layer, None).await.unwrap();
    assert_eq!(world.store().read_blob(&layer.diff_id).unwrap(), bytes);
}

/// The base is on one registry and the target on another: the base's layer is downloaded once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_unpacked_and_sent_on_comes_once() {
    let (world, other) = (World::new(), FakeRegistry::start());
    let target = PushTarget { repository: Repository::new(other.host(), "app"), insecure: false };
    let layer = world.put("base", &file("a", "content"));
    world.transfer.keep_for(Destination::Registry(other.host().to_owned()));
    world.transfer.unpack(std::slice::from_ref(&layer), None).await.unwrap();
    let to = RegistryUpload { target: &target, task: None };
    world.transfer.upload(std::slice::from_ref(&layer), 0, AS_IT_IS, to).await.unwrap();
    assert!(other.has_blob("app", layer.diff_id));
    assert_eq!(world.asked(&format!("GET /v2/base/blobs/{}", layer.diff_id)), 1);

    // The target's registry has the layer, mounts it from there, and nothing is kept.
    let layer = world.put("base", &file("b", "content"));
    world.transfer.keep_for(Destination::Registry(world.registry.host().to_owned()));
    let alone = world.transfer.afresh();
    alone.keep_for(Destination::Registry(world.registry.host().to_owned()));
    alone.unpack(std::slice::from_ref(&layer), None).await.unwrap();
    assert!(!world.store().has_blob(&layer.diff_id).unwrap());
}

/// Both lost layers are reported together, since their steps can run in parallel.
#[tokio::test(flavor = "multi_thread")]
async fn all_layers_that_are_lost_are_named() {
    let world = World::new();
    let place = || vec![world.place("app")];
    let there = world.put("app", &file("there", ""));
    let (one, two) = (layer(&file("one", ""), place()), layer(&file("two", ""), place()));
    let chain = [one.clone(), there, two.clone()];
    let error = world.transfer.unpack(&chain, None).await.unwrap_err();
    assert_eq!(transfer::lost_layers(&error), [one.diff_id, two.diff_id]);
    assert!(world.store().is_unpacked(&chain[1].diff_id).unwrap());

    // A layer with hard links to a lost layer is not lost itself.
    let linked = world.put("app", &link("link", "one"));
    let error = world.transfer.unpack(&[one.clone(), linked], None).await.unwrap_err();
    assert_eq!(transfer::lost_layers(&error), [one.diff_id]);
}

#[tokio::test]
async fn a_layer_that_is_nowhere_names_the_places_that_were_asked() {
    let world = World::new();
    let mut layer = layer(&file("a", ""), Vec::new());
    let error = world.transfer.unpack(std::slice::from_ref(&layer), None).await.unwrap_err();
    assert!(error.to_string().ends_with("no place is known that has it"), "{error}");
    let folder = world.folder.path().join("layout");
    layer.places = vec![world.place("one"), Place::Layout(folder.clone()), world.place("two")];
    for error in [
        world.transfer.unpack(std::slice::from_ref(&layer), None).await.unwrap_err(),
        world.transfer.fetch_blob(&layer, None).await.map(drop).unwrap_err(),
    ] {
        let host = world.registry.host();
        let text = error.to_string();
        assert!(matches!(error, Error::Lost { layers, .. } if layers == [layer.diff_id]));
        for place in
            [format!("`{host}/one`"), format!("`{}`", folder.display()), format!("`{host}/two`")]
        {
            assert!(text.contains(&place), "{text}");
        }
    }
    // A failure is not remembered.
    layer.places.push(world.place("late"));
    world.registry.put_blob("late", file("a", ""));
    world.transfer.unpack(std::slice::from_ref(&layer), None).await.unwrap();
}

#[tokio::test]
async fn a_broken_download_goes_on_and_progress_says_how_far_it_is() {
    let log: std::sync::Arc<std::sync::Mutex<Vec<Event>>> = std::sync::Arc::default();
    let sink = log.clone();
    let events = Events::new(move |event| sink.lock().unwrap().push(event));
    let task = events.task("pull", Vec::new());
    let world = World::with(events);
    let content = "0123456789abcdef".repeat(64 << 10);
    let layer = world.put("app", &file("large", &content));
    world.registry.cut_blob_after(100_000);
    world.transfer.unpack(std::slice::from_ref(&layer), Some(task)).await.unwrap();
    assert_eq!(world.content(&layer, "large"), content);
    let events = log.lock().unwrap();
    let last = events.iter().rev().find_map(|event| match &event.what {
        TaskEvent::Transfer(transfer) => Some(transfer.clone()),
        _ => None,
    });
    let (last, size) = (last.unwrap(), layer.blob.unwrap().size);
    assert_eq!((last.current, last.total, last.completed.is_some()), (size, size, true));
}

#[tokio::test]
async fn a_layer_is_sent_once_however_many_want_it_there() {
    let world = World::new();
    let local = layer(&file("a", &"x".repeat(300 << 10)), Vec::new());
    world.store().put_blob(&file("a", &"x".repeat(300 << 10))).unwrap();
    let format = LayerFormat { compression: Compression::None, force: false };
    let uploads = (0..4).map(|_| world.upload(&local, format, "app"));
    join_all(uploads).await;
    assert!(world.registry.has_blob("app", local.diff_id));
    assert_eq!((world.asked("POST"), world.asked("HEAD")), (1, 1));
    // Another repository receives it too.
    world.upload(&local, format, "other").await;
    assert!(world.registry.has_blob("other", local.diff_id));
}

#[tokio::test]
async fn a_small_layer_is_sent_without_asking() {
    let world = World::new();
    let local = layer(&file("a", ""), Vec::new());
    world.store().put_blob(&file("a", "")).unwrap();
    world.upload(&local, LayerFormat { compression: Compression::None, force: false }, "app").await;
    assert_eq!(world.asked("HEAD"), 0);
}

#[tokio::test]
async fn a_layer_of_another_repository_is_mounted() {
    let world = World::new();
    let layer = world.put("base", &file("a", ""));
    world.upload(&layer, AS_IT_IS, "app").await;
    let asked = world.registry.requests();
    assert!(asked[0].contains("mount=") && asked[0].contains("from=base"), "{asked:?}");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(!world.store().has_blob(&layer.diff_id).unwrap());
    // The repository has it: no request is needed.
    world.upload(&layer, AS_IT_IS, "base").await;
    assert_eq!(world.registry.requests().len(), 1);
}

#[tokio::test]
async fn a_registry_that_mounts_nothing_gets_the_bytes() {
    let world = World::new();
    let layer = world.put("base", &file("a", ""));
    world.registry.refuse_mounts();
    world.upload(&layer, AS_IT_IS, "app").await;
    assert!(world.registry.has_blob("app", layer.diff_id));
}

#[tokio::test]
async fn a_layer_in_another_format_is_another_blob() {
    let world = World::new();
    let layer = world.put("app", &file("a", &"content ".repeat(100)));
    let forced = LayerFormat { compression: Compression::Zstd(None), force: true };
    // The repository has the layer, but not in this format.
    let descriptor = world.upload(&layer, forced, "app").await;
    assert_eq!(descriptor.media_type, media_type::OCI_LAYER_ZSTD);
    assert!(world.registry.has_blob("app", descriptor.digest));
    let kept = world.transfer.blob(std::slice::from_ref(&layer), 0, forced, None).await.unwrap();
    assert_eq!(kept, descriptor);
    assert_eq!(world.upload(&layer, AS_IT_IS, "app").await, layer.blob.unwrap());
}

/// A layer of `small` and much else, as kiln writes it, and a world that knows only its index.
fn large_layer() -> (World, Layer) {
    let writing = World::new();
    let mut writer = writing.store().layer_writer(Compression::Gzip(None)).unwrap();
    let mut noise = vec![0; 6 << 20];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for byte in &mut noise {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    }
    for (path, content) in [("large", &noise[..]), ("small", b"content"), ("tall", &noise)] {
        let entry = entry(path, EntryKind::File { size: content.len() as u64 });
        writer.append(&entry, Some(&mut &content[..])).unwrap();
    }
    let made = writer.finish().unwrap();
    let world = World::new();
    let blob = writing.store().read_blob(&made.blob.as_ref().unwrap().digest).unwrap();
    world.registry.put_blob("app", blob);
    let index = writing.store().index(&made.diff_id).unwrap().encode();
    let layer = Layer { places: vec![world.place("app")], ..made };
    let index = LayerIndex::decode(&index).unwrap();
    world.store().lend_index(std::slice::from_ref(&layer), index, &"cache".into());
    (world, layer)
}

async fn small(world: &World, layer: &Layer) -> Result<String, Error> {
    let wanted = LayerPaths::from([(layer.diff_id, [(*b"small").into()].into())]);
    world.transfer.fetch_files(std::slice::from_ref(layer), &wanted, None).await?;
    let files: &dyn LayerFiles = world.store();
    let mut text = String::new();
    files.open_file(&layer.diff_id, b"small").unwrap().read_to_string(&mut text).unwrap();
    Ok(text)
}

#[tokio::test]
async fn a_file_of_a_large_layer_comes_without_the_rest() {
    let (world, layer) = large_layer();
    assert_eq!(small(&world, &layer).await.unwrap(), "content");
    assert!(!world.store().is_unpacked(&layer.diff_id).unwrap());
    let seen = world.registry.seen();
    let ranges: Vec<_> = seen.iter().filter_map(|seen| seen.range.as_deref()).collect();
    let [range] = ranges[..] else { panic!("{seen:?}") };
    let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let size = to.parse::<u64>().unwrap() - from.parse::<u64>().unwrap();
    assert!(size < 2 << 20, "{range}");
    // The second read makes no request.
    assert_eq!(small(&world, &layer).await.unwrap(), "content");
    assert_eq!(world.registry.requests().len(), seen.len());
    // A command requires the whole layer.
    world.transfer.unpack(std::slice::from_ref(&layer), None).await.unwrap();
    assert_eq!(world.content(&layer, "small"), "content");
}

#[tokio::test]
async fn where_no_part_can_be_had_the_layer_comes_whole() {
    let (world, layer) = large_layer();
    world.registry.ignore_ranges();
    assert_eq!(small(&world, &layer).await.unwrap(), "content");
    assert!(world.store().is_unpacked(&layer.diff_id).unwrap());

    let (world, layer) = large_layer();
    // All requests for parts are cut off, then the one for the layer, which is resumed.
    (0..4).for_each(|_| world.registry.cut_blob_after(1000));
    assert_eq!(small(&world, &layer).await.unwrap(), "content");
    assert!(world.store().is_unpacked(&layer.diff_id).unwrap());

    // Wrong bytes are rejected, in parts as in whole blobs.
    let (world, layer) = large_layer();
    world.registry.lie_about_digest();
    assert!(matches!(small(&world, &layer).await, Err(Error::Lost { .. })));
}

#[tokio::test]
async fn a_layer_that_was_compressed_later_is_found_when_its_folder_is_gone() {
    let world = World::new();
    let mut writer = world.store().layer_writer(Compression::Zstd(None)).unwrap();
    let entry = entry("a", EntryKind::File { size: 7 });
    writer.append(&entry, Some(&mut &b"content"[..])).unwrap();
    let made = writer.finish().unwrap();
    let unknown = Layer { blob: None, ..made.clone() };
    world.transfer.unpack(std::slice::from_ref(&unknown), None).await.unwrap();
    assert_eq!(world.content(&made, "a"), "content");
}

/// To a reader, gzip of wrong bytes is a broken archive: the error must name the sender.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_asked_for_again_and_told_as_such() {
    let archive = file("f", "content");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &archive).unwrap();
    let packed = gzip.finish().unwrap();
    let blob = Descriptor::of(media_type::OCI_LAYER_GZIP, &packed);
    for (is_kept, is_passing) in [(false, false), (false, true), (true, false), (true, true)] {
        let world = World::new();
        world.registry.put_blob("app", packed.clone());
        match is_passing {
            true => world.registry.fail_after(0, testing::Fault::Garbled),
            false => world.registry.lie_about_digest(),
        }
        let layer = Layer {
            diff_id: oci::Digest::of(&archive),
            blob: Some(blob.clone()),
            created: None,
            places: vec![world.place("app")],
        };
        let fetched = match is_kept {
            true => world.transfer.fetch_blob(&layer, None).await.map(drop),
            false => world.transfer.unpack(std::slice::from_ref(&layer), None).await,
        };
        match (is_passing, fetched) {
            (true, fetched) => fetched.unwrap(),
            (false, fetched) => {
                let text = graph::chain_text(&fetched.unwrap_err());
                let said = format!("`{}` sent other bytes", world.registry.host());
                assert!(text.contains(&said), "{text}");
            }
        }
    }
}
