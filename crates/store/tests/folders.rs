//! A chain in a plain folder, changed, committed and gone on with.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

use oci::{Digest, media_type};
use store::tar::TarWriter;
use store::{Entry, EntryKind, OpenOptions, PackedLayer, Privileges, Store, Time};

const BASE: &[(&str, &str)] = &[
    ("dir/a", "a"),
    ("dir/sub/b", "b"),
    ("etc/group", "g"),
    ("etc/hosts", "h"),
    ("etc/passwd", "p"),
    ("gone", "x"),
    ("move/me", "m"),
    ("replaced/old", "o"),
    ("same/size", "12"),
];

/// A root with a base of some files, all of them of one time. As others than root the files cannot
/// be given to anybody.
fn base() -> Option<(tempfile::TempDir, Store, Digest)> {
    if !rustix::process::geteuid().is_root() {
        fixtures::skip("folders", "it needs root");
        return None;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = OpenOptions::new(Privileges::Chroot);
    let store = Store::open(&folder.path().join("root"), options).unwrap();
    let mut writer = TarWriter::new(Vec::new());
    let mut entry = |path: &str, kind, content: &str| {
        let entry = Entry {
            path: path.as_bytes().into(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time { seconds: 1_000_000_000, nanos: 0 },
            xattrs: Vec::new(),
        };
        writer.append(&entry, &mut content.as_bytes()).unwrap();
    };
    for (path, content) in BASE {
        entry(path, EntryKind::File { size: content.len() as u64 }, content);
    }
    entry("twin", EntryKind::HardLink { target: b"same/size"[..].into() }, "");
    let bytes = writer.finish().unwrap();
    let layer = PackedLayer {
        media_type: media_type::OCI_LAYER,
        diff_id: Digest::of(&bytes),
        blob: None,
        parents: &[],
        wait_for: None,
    };
    store.unpack(&bytes[..], &layer).unwrap();
    Some((folder, store, layer.diff_id))
}

fn run(root: &Path, script: &str) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(root).status().unwrap();
    assert!(status.success(), "{script}");
}

/// What a layer says, with a mark for each kind.
fn listed(store: &Store, diff_id: &Digest) -> Vec<String> {
    let index = store.index(diff_id).unwrap();
    let mark = |entry: &Entry| match &entry.kind {
        EntryKind::File { .. } => "",
        EntryKind::HardLink { .. } => "=",
        EntryKind::Directory => "/",
        EntryKind::Whiteout => "-",
        EntryKind::Opaque => "!",
        EntryKind::Fifo => "|",
        _ => "?",
    };
    let entries = index.entries().iter();
    entries
        .map(|entry| format!("{}{}", String::from_utf8_lossy(&entry.path), mark(entry)))
        .collect()
}

#[test]
fn a_folders_layer_is_what_an_overlays_would_be() {
    let Some((_folder, store, base)) = base() else { return };
    let snapshot = store.folder_snapshot(&[base]).unwrap();
    // The script of tests/overlay.rs, with the same result.
    run(
        &snapshot.root,
        "rm gone
        rm -r replaced; mkdir replaced; echo new > replaced/new
        echo more >> etc/passwd
        chmod 600 etc/group; chmod 644 etc/group
        touch etc/tmp; rm etc/tmp
        echo one > one; ln one two
        mv move moved
        rm -r dir; echo file > dir
        mkfifo pipe",
    );
    let layer = snapshot.commit(&[], None).unwrap();
    assert_eq!(
        listed(&store, &layer.diff_id),
        [
            "dir",
            "etc/",
            "etc/passwd",
            "gone-",
            "move-",
            "moved/",
            "moved/me",
            "one",
            "pipe|",
            "replaced/",
            "replaced!",
            "replaced/new",
            "two=",
        ]
    );
    // The layer is a whole one: others can be put on it.
    let blob = store.compress(&layer.diff_id, store::Compression::Gzip(None)).unwrap();
    assert!(blob.size > 0);
}

#[test]
fn a_change_that_keeps_size_and_time_is_found() {
    let Some((_folder, store, base)) = base() else { return };
    let snapshot = store.folder_snapshot(&[base]).unwrap();
    run(&snapshot.root, "printf 21 > same/size; touch -d @1000000000 same/size");
    let layer = snapshot.commit(&[], None).unwrap();
    // Both names of the file.
    assert_eq!(listed(&store, &layer.diff_id), ["same/", "same/size", "twin="]);
}

#[test]
fn a_folder_goes_on_to_the_steps_above() {
    let Some((_folder, store, base)) = base() else { return };
    let first = store.folder_snapshot(&[base]).unwrap();
    let place = first.root.clone();
    run(&first.root, "rm -r replaced; echo 1 > etc/one");
    let first = first.commit(&[], None).unwrap();

    let second = store.folder_snapshot(&[base, first.diff_id]).unwrap();
    assert_eq!(second.root, place, "the same folder");
    let third = store.folder_snapshot(&[base, first.diff_id]).unwrap();
    assert_ne!(third.root, place, "somebody has that one");
    for snapshot in [&second, &third] {
        assert!(!snapshot.root.join("replaced").exists());
        assert_eq!(fs::read_to_string(snapshot.root.join("etc/one")).unwrap(), "1\n");
    }
    run(&second.root, "rm etc/one; mkdir new; echo 2 > new/two");
    run(&third.root, "rm etc/one; mkdir new; echo 2 > new/two; touch -d @9 new new/two etc");
    let second = second.commit(&[], None).unwrap();
    assert_eq!(listed(&store, &second.diff_id), ["etc/", "etc/one-", "new/", "new/two"]);
    drop(third);

    // Layers that came otherwise, as by COPY, are put onto the folder of what is below.
    let other = store.folder_snapshot(&[base]).unwrap();
    run(&other.root, "echo other > gone");
    let other = other.commit(&[], None).unwrap();
    let all = [base, first.diff_id, second.diff_id, other.diff_id];
    let fourth = store.folder_snapshot(&all).unwrap();
    assert_eq!(fourth.root, place);
    assert_eq!(fs::read_to_string(fourth.root.join("gone")).unwrap(), "other\n");
    assert!(fourth.root.join("new/two").exists() && !fourth.root.join("etc/one").exists());
    assert!(listed(&store, &fourth.commit(&[], None).unwrap().diff_id).is_empty());
}
