//! A snapshot mounted as a container's would be, changed through the mount, and committed.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
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
];

const CHANGES: &str = "
    rm gone
    rm -r replaced && mkdir replaced && echo new > replaced/new
    echo more >> etc/passwd
    chmod 644 etc/group
    touch etc/tmp && rm etc/tmp
    echo one > one && ln one two
    mv move moved
    rm -r dir && echo file > dir
    mkfifo pipe";

fn base(store: &Store) -> Digest {
    let mut writer = TarWriter::new(Vec::new());
    for (path, content) in BASE {
        let entry = Entry {
            path: path.as_bytes().into(),
            kind: EntryKind::File { size: content.len() as u64 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time { seconds: 1_000_000_000, nanos: 0 },
            xattrs: Vec::new(),
        };
        writer.append(&entry, &mut content.as_bytes()).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let layer = PackedLayer {
        media_type: media_type::OCI_LAYER,
        diff_id: Digest::of(&bytes),
        blob: None,
        parents: &[],
        wait_for: None,
    };
    store.unpack(&bytes[..], &layer).unwrap();
    layer.diff_id
}

#[test]
fn what_is_done_in_a_mounted_snapshot_is_what_its_layer_says() {
    if !rustix::process::geteuid().is_root() {
        return fixtures::skip("overlay", "it needs root");
    }
    // tmpfs and overlay cannot be upper directories everywhere: the target folder's disk mostly can.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mounted = folder.path().join("mounted");
    fs::create_dir(&mounted).unwrap();
    let open = || {
        let store = Store::open(&folder.path().join("root"), OpenOptions::new(Privileges::Root));
        store.ok()
    };
    let Some(store) = open() else {
        return fixtures::skip("overlay", "no store for root here");
    };
    let base = base(&store);
    let snapshot = store.snapshot(&[base]).unwrap();
    let lowers: Vec<_> = snapshot.lowers.iter().map(|path| path.to_str().unwrap()).collect();
    let script = format!(
        "mount -t overlay overlay -o redirect_dir=off,metacopy=off,index=off,lowerdir={},upperdir={},\
         workdir={} {target} || exit 77; cd {target} && set -e\n{CHANGES}",
        lowers.join(":"),
        snapshot.upper.display(),
        snapshot.work.display(),
        target = mounted.display(),
    );
    let status = Command::new("unshare").args(["-m", "sh", "-c", &script]).status();
    match status.map(|status| status.code()) {
        Ok(Some(0)) => {}
        other => {
            let reason = format!("cannot mount an overlay here ({other:?})");
            return fixtures::skip("overlay", &reason);
        }
    }
    let layer = snapshot.commit(&[], None).unwrap();
    let index = store.index(&layer.diff_id).unwrap();
    let found: Vec<String> = index
        .entries()
        .iter()
        .map(|entry| {
            let mark = match &entry.kind {
                EntryKind::File { .. } => "",
                EntryKind::HardLink { .. } => "=",
                EntryKind::Directory => "/",
                EntryKind::Whiteout => "-",
                EntryKind::Opaque => "!",
                EntryKind::Fifo => "|",
                _ => "?",
            };
            format!("{}{mark}", String::from_utf8_lossy(&entry.path))
        })
        .collect();
    assert_eq!(
        found,
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
    // Once more from the outside: another store sees the same layer.
    let blob = store.compress(&layer.diff_id, store::Compression::Gzip(None)).unwrap();
    let other =
        Store::open(&folder.path().join("other"), OpenOptions::new(Privileges::None)).unwrap();
    let packed = PackedLayer::new(&blob, layer.diff_id, &[]);
    let again = other.unpack(store.open_blob(&blob.digest).unwrap(), &packed).unwrap();
    assert_eq!(*again, *index);
}
