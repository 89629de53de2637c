//! Changes of a tree, and the layers made of them: the same in an overlay and in a plain folder.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use layer::tar::TarWriter;
use layer::{Entry, EntryKind, Time};
use oci::{Digest, media_type};
use store::{PackedLayer, Store};

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

/// Shell commands that change the base, and the entries of the layer.
pub const CASES: &[(&str, &[&str])] = &[
    (
        "rm gone
        rm -r replaced; mkdir replaced; echo new > replaced/new
        echo more >> etc/passwd
        chmod 600 etc/group; chmod 644 etc/group
        touch etc/tmp; rm etc/tmp
        echo one > one; ln one two
        mv move moved
        rm -r dir; echo file > dir
        mkfifo pipe",
        &[
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
            "replaced/new",
            "replaced/old-",
            "two=",
        ],
    ),
    // Directories that are removed and made again: the same, with less, with other kinds.
    ("cp -a dir x; rm -r dir; mv x dir", &[]),
    ("rm -r dir; mkdir -p dir/a", &["dir/", "dir/a/", "dir/sub-"]),
    (
        "cp -a dir x; rm -r dir; mv x dir; rm dir/sub/b; touch dir/sub/c",
        &["dir/", "dir/sub/", "dir/sub/b-", "dir/sub/c"],
    ),
    ("cp -a dir x; rm -r dir; mv x dir; chmod 700 dir/sub", &["dir/", "dir/sub/"]),
    (
        "rm -r dir; mkdir -p dir/sub/b/c",
        &["dir/", "dir/a-", "dir/sub/", "dir/sub/b/", "dir/sub/b/c/"],
    ),
    // A directory in place of a file.
    ("rm gone; mkdir gone; touch gone/z", &["gone/", "gone/z"]),
    // Another name does not change the file.
    ("ln etc/group linked", &["linked"]),
    (
        "cp -a etc x; rm -r etc; mv x etc; ln etc/group etc/third",
        &["etc/", "etc/group", "etc/third="],
    ),
    // Names of whiteouts are names.
    (
        "echo 1 > etc/.wh.x; mkdir .wh.d; touch .wh.d/.wh..wh..opq; ln -s x .wh.l",
        &[".wh.d/", ".wh.d/.wh..wh..opq", ".wh.l?", "etc/", "etc/.wh.x"],
    ),
];

/// Unpacks the base: files of one time, one of them with two names.
pub fn base(store: &Store) -> Digest {
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
    layer.diff_id
}

/// The entries of a layer, with a mark for each kind.
pub fn listed(store: &Store, diff_id: &Digest) -> Vec<String> {
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

/// The files in a layer's folder, in the form of [`listed`].
#[allow(dead_code, reason = "of use for overlays alone")]
pub fn on_disk(store: &Store, diff_id: &Digest) -> Vec<String> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let root = store.layer_folder(diff_id);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    let mut inodes = Vec::new();
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (kind, path) = (entry.file_type().unwrap(), entry.path());
            let metadata = path.symlink_metadata().unwrap();
            let mark = match () {
                () if kind.is_dir() => "/",
                () if kind.is_fifo() => "|",
                () if kind.is_char_device() => "-",
                () if kind.is_file()
                    && metadata.nlink() > 1
                    && inodes.contains(&metadata.ino()) =>
                {
                    "="
                }
                () if kind.is_file() => "",
                () => "?",
            };
            inodes.push(metadata.ino());
            found.push(format!("{}{mark}", path.strip_prefix(&root).unwrap().display()));
            if kind.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}
