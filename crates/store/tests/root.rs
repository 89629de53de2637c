//! The root folder: its users, the rules for trusting its content, and removal from it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use layer::tar::TarWriter;
use layer::{Compression, Entry, EntryKind, Time};
use oci::{Descriptor, Digest, Manifest, media_type};
use store::{Error, ItemKind, OpenOptions, Privileges, PruneFilter, Store};

fn open(root: &Path) -> Store {
    Store::open(root, OpenOptions::new(Privileges::None)).unwrap()
}

fn age_all(store: &Store) {
    store
        .db()
        .with("age", |connection| {
            connection
                .execute_batch("UPDATE blobs SET last_use = 5; UPDATE layers SET last_use = 5")
        })
        .unwrap();
}

fn one_file_layer(store: &Store) -> Digest {
    let entry = Entry {
        path: (*b"f").into(),
        kind: EntryKind::File { size: 4 },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
    };
    let mut writer = store.layer_writer(Compression::None).unwrap();
    writer.append(&entry, Some(&mut &b"text"[..])).unwrap();
    let layer = writer.finish().unwrap();
    store.unpack_blob(layer.blob.as_ref().unwrap(), layer.diff_id, &[]).unwrap();
    layer.diff_id
}

#[test]
fn a_blob_is_what_its_name_says() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let digest = store.put_blob(b"hello").unwrap();
    assert_eq!(store.read_blob(&digest).unwrap(), b"hello");
    assert!(matches!(store.open_blob(&Digest::of("x")), Err(Error::NoBlob(_))));
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"other").unwrap();
    let error = writer.commit(Some((digest, 5))).unwrap_err();
    assert!(matches!(error, Error::BlobMismatch { .. }));
    assert!(!store.has_blob(&Digest::of("other")).unwrap());
}

#[test]
fn a_root_is_made_for_one_kind() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let error = Store::open(folder.path(), OpenOptions::new(Privileges::Root)).err().unwrap();
    assert!(error.to_string().contains("`plain-user`"), "{error}");
}

#[test]
fn what_a_lost_machine_spoiled_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (good, bad) = (store.put_blob(b"good").unwrap(), store.put_blob(b"bad").unwrap());
    let layer = one_file_layer(&store);
    fs::write(store.blob_path(&bad), b"").unwrap();
    let reboot = |store: &Store| {
        let sql = "UPDATE blobs SET boot = 'before'; UPDATE layers SET boot = 'before'";
        store.db().with("reboot", |connection| connection.execute_batch(sql)).unwrap();
    };
    reboot(&store);
    drop(store);
    let store = open(folder.path());
    assert!(store.has_blob(&good).unwrap() && !store.has_blob(&bad).unwrap());
    assert!(store.is_unpacked(&layer).unwrap());
    fs::write(store.layer_folder(&layer).join("f"), "").unwrap();
    reboot(&store);
    drop(store);
    let store = open(folder.path());
    assert!(!store.is_unpacked(&layer).unwrap() && !store.layer_folder(&layer).exists());
}

#[test]
fn what_dead_processes_left_goes_and_what_live_ones_have_stays() {
    let folder = tempfile::tempdir().unwrap();
    let live = open(folder.path());
    let writer = live.blob_writer().unwrap();
    let dead = folder.path().join("v1/tmp/1-dead");
    fs::create_dir_all(dead.join("layer-0/fs/work")).unwrap();
    fs::write(folder.path().join("v1/run/1-dead"), "5").unwrap();
    let store = open(folder.path());
    assert!(!dead.exists() && !folder.path().join("v1/run/1-dead").exists());
    writer.commit(None).unwrap();
    drop((live, store));
    assert_eq!(fs::read_dir(folder.path().join("v1/run")).unwrap().count(), 0);
}

#[test]
fn what_was_under_way_at_the_end_never_gets_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut late = store.blob_writer().unwrap();
    late.write_all(b"half").unwrap();
    store.end();
    let names = |name: &str| fs::read_dir(folder.path().join("v1").join(name)).unwrap().count();
    assert_eq!((names("tmp"), names("run")), (0, 0));
    assert!(late.commit(None).is_err());
    assert!(!open(folder.path()).has_blob(&Digest::of(b"half")).unwrap());
}

#[test]
fn prune_keeps_what_a_running_process_may_use() {
    let folder = tempfile::tempdir().unwrap();
    let running = open(folder.path());
    let old = running.put_blob(b"old and unused").unwrap();
    let layer = one_file_layer(&running);
    drop(running);
    let running = open(folder.path());
    age_all(&running);
    assert!(running.is_unpacked(&layer).unwrap());
    let pruner = open(folder.path());
    let usage = pruner.usage().unwrap();
    let in_use = |digest: &Digest, kind| {
        usage.items.iter().find(|item| item.digest == *digest && item.kind == kind).unwrap().in_use
    };
    assert!(in_use(&layer, ItemKind::Layer) && !in_use(&old, ItemKind::Blob));
    let pruned = pruner.prune(PruneFilter::default()).unwrap();
    assert!(pruned.items.iter().any(|item| item.digest == old));
    assert!(!pruner.has_blob(&old).unwrap() && pruner.is_unpacked(&layer).unwrap());
    drop(running);
    drop(pruner);
    let pruner = open(folder.path());
    age_all(&pruner);
    let day = Some(Duration::from_secs(86400));
    let pruned = pruner.prune(PruneFilter { older_than: day, ..PruneFilter::default() }).unwrap();
    assert_eq!(pruned.items.iter().filter(|item| item.kind == ItemKind::Layer).count(), 1);
    assert!(!pruner.is_unpacked(&layer).unwrap() && pruner.has_index(&layer));
}

#[test]
fn an_index_that_was_found_can_be_read_whatever_others_prune() {
    let folder = tempfile::tempdir().unwrap();
    let layer = one_file_layer(&open(folder.path()));
    let running = open(folder.path());
    assert!(running.has_index(&layer));
    // The same as a prune that chose the layer before its index was found.
    fs::remove_dir_all(folder.path().join("v1/layers").join(layer.hex())).unwrap();
    assert!(running.index(&layer).is_ok());
}

#[test]
fn prune_keeps_images_with_names_and_as_much_as_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let config = store.put_blob(b"{}").unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: None,
        artifact_type: None,
        config: Descriptor::new(media_type::OCI_CONFIG, config, 2),
        layers: Vec::new(),
        subject: None,
        annotations: oci::Annotations::new(),
    };
    let manifest = store.put_blob(&serde_json::to_vec(&manifest).unwrap()).unwrap();
    store.db().put_image("app", &manifest).unwrap();
    for size in [1000, 2000, 3000] {
        store.put_blob(&vec![7; size]).unwrap();
    }
    drop(store);
    let store = open(folder.path());
    age_all(&store);
    let total = store.usage().unwrap().bytes();
    let filter = PruneFilter { keep_bytes: Some(total - 1), ..PruneFilter::default() };
    assert_eq!(store.prune(filter).unwrap().items.len(), 1);
    assert_eq!(store.prune(PruneFilter::default()).unwrap().items.len(), 2);
    assert!(store.has_blob(&config).unwrap() && store.has_blob(&manifest).unwrap());
    assert!(store.db().remove_image("app").unwrap());
}

#[test]
fn an_empty_archive_is_two_blocks() {
    assert_eq!(TarWriter::new(Vec::new()).finish().unwrap(), [0; 1024]);
}
