//! A chain in a plain folder, changed, committed and used again.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

use oci::Digest;
use store::{MountPoints, OpenOptions, Privileges, Store};

mod changes;

use changes::listed;

/// A root with a base of some files, all of them of one time. Only root can give the files owners.
fn base() -> Option<(tempfile::TempDir, Store, Digest)> {
    if !rustix::process::geteuid().is_root() {
        fixtures::skip("folders", "it needs root");
        return None;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = OpenOptions::new(Privileges::Chroot);
    let store = Store::open(&folder.path().join("root"), options).unwrap();
    let base = changes::base(&store);
    Some((folder, store, base))
}

fn run(root: &Path, script: &str) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(root).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn a_folders_layer_is_what_an_overlays_would_be() {
    for (script, expected) in changes::CASES {
        let Some((_folder, store, base)) = base() else { return };
        let snapshot = store.folder_snapshot(&[base]).unwrap();
        run(&snapshot.root, script);
        let layer = snapshot.commit(&MountPoints::default(), None).unwrap();
        assert_eq!(listed(&store, &layer.diff_id), *expected, "{script}");
        // The layer is complete: it can be compressed.
        let blob = store.compress(&layer.diff_id, layer::Compression::Gzip(None)).unwrap();
        assert!(blob.size > 0);
    }
}

#[test]
fn mount_points_last_where_nothing_was() {
    let Some((_folder, store, base)) = base() else { return };
    let snapshot = store.folder_snapshot(&[base]).unwrap();
    run(&snapshot.root, "mkdir proc run; touch run/hosts");
    let points = MountPoints {
        passing: vec![(*b"proc").into(), (*b"run").into(), (*b"run/hosts").into()],
        lasting: vec!["etc", "proc", "sys"],
    };
    let layer = snapshot.commit(&points, None).unwrap();
    assert_eq!(listed(&store, &layer.diff_id), ["proc/", "sys/"]);
}

#[test]
fn a_change_that_keeps_size_and_time_is_found() {
    let Some((_folder, store, base)) = base() else { return };
    let snapshot = store.folder_snapshot(&[base]).unwrap();
    run(&snapshot.root, "printf 21 > same/size; touch -d @1000000000 same/size");
    let layer = snapshot.commit(&MountPoints::default(), None).unwrap();
    // Both names of the file.
    assert_eq!(listed(&store, &layer.diff_id), ["same/", "same/size", "twin="]);
}

#[test]
fn a_folder_goes_on_to_the_steps_above() {
    let Some((_folder, store, base)) = base() else { return };
    let first = store.folder_snapshot(&[base]).unwrap();
    let place = first.root.clone();
    run(&first.root, "rm -r replaced; echo 1 > etc/one");
    let first = first.commit(&MountPoints::default(), None).unwrap();

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
    let second = second.commit(&MountPoints::default(), None).unwrap();
    assert_eq!(listed(&store, &second.diff_id), ["etc/", "etc/one-", "new/", "new/two"]);
    drop(third);

    // Layers that were made otherwise, such as by COPY, are put onto the folder of the chain below.
    let other = store.folder_snapshot(&[base]).unwrap();
    run(&other.root, "echo other > gone");
    let other = other.commit(&MountPoints::default(), None).unwrap();
    let all = [base, first.diff_id, second.diff_id, other.diff_id];
    let fourth = store.folder_snapshot(&all).unwrap();
    assert_eq!(fourth.root, place);
    assert_eq!(fs::read_to_string(fourth.root.join("gone")).unwrap(), "other\n");
    assert!(fourth.root.join("new/two").exists() && !fourth.root.join("etc/one").exists());
    assert!(
        listed(&store, &fourth.commit(&MountPoints::default(), None).unwrap().diff_id).is_empty()
    );
}

/// BuildKit's layers keep `security.capability` and no other attribute.
#[test]
fn of_attributes_a_layer_keeps_the_capability() {
    let Some((_folder, store, base)) = base() else { return };
    let capability = b"\x01\0\0\x02\x0a\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let set = |root: &Path, name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("same/size"), name, value, flags)
    };
    let attributes = |diff_id: &Digest| {
        let index = store.index(diff_id).unwrap();
        index.get(b"same/size").unwrap().xattrs.clone()
    };
    let first = store.folder_snapshot(&[base]).unwrap();
    set(&first.root, "security.capability", capability).unwrap();
    // A tmpfs takes none before Linux 6.6.
    let _ = set(&first.root, "user.of_a_command", b"v");
    let first = first.commit(&MountPoints::default(), None).unwrap();
    let kept = [((*b"security.capability").into(), (*capability).into())];
    assert_eq!(attributes(&first.diff_id), kept);

    // The folder still has both attributes.
    let second = store.folder_snapshot(&[base, first.diff_id]).unwrap();
    run(&second.root, "touch -d @5 same/size");
    let second = second.commit(&MountPoints::default(), None).unwrap();
    assert_eq!(attributes(&second.diff_id), kept);
}
