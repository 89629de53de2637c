//! Layers: unpacked, committed, compressed, and the limits of hostile ones.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use layer::Error::{ArchiveEntry, ReadArchive};
use layer::tar::TarWriter;
use layer::{Compression, Entry, EntryKind, LayerIndex, Time};
use oci::{Digest, media_type};
use store::{Error, MountPoints, OpenOptions, PackedLayer, Privileges, Store};
use tree::Tree;

/// A valid capability of version 2 with newline bytes in it.
const CAPABILITY: &[u8; 20] = b"\x01\0\0\x02\x0a\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn entry(path: &str, kind: EntryKind) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    Entry {
        path: path.as_bytes().into(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 1_000_000_000, nanos: 0 },
        xattrs: Vec::new(),
    }
}

fn file(path: &str, content: &str) -> (Entry, String) {
    (entry(path, EntryKind::File { size: content.len() as u64 }), content.to_owned())
}

fn other(path: &str, kind: EntryKind) -> (Entry, String) {
    (entry(path, kind), String::new())
}

fn hard(path: &str, target: &str) -> (Entry, String) {
    other(path, EntryKind::HardLink { target: target.as_bytes().into() })
}

fn soft(path: &str, target: &str) -> (Entry, String) {
    other(path, EntryKind::Symlink { target: target.as_bytes().into() })
}

fn archive(entries: &[(Entry, String)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

/// True for root with all capabilities, which the tests of metadata need.
fn is_root(folder: &Path) -> bool {
    let path = folder.join("probe");
    fs::write(&path, "").unwrap();
    let is_root = rustix::process::geteuid().is_root()
        && rustix::fs::setxattr(&path, "trusted.probe", b"", rustix::fs::XattrFlags::empty())
            .is_ok();
    fs::remove_file(&path).unwrap();
    is_root
}

struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn plain() -> Self {
        Self::with(Privileges::None)
    }

    fn with(privileges: Privileges) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("root"), OpenOptions::new(privileges)).unwrap();
        Self { folder, store }
    }

    fn root() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if is_root(folder.path()) {
            return Some(Self::with(Privileges::Root));
        }
        fixtures::skip("layers", "it needs root with CAP_SYS_ADMIN");
        None
    }

    fn unpack(&self, entries: &[(Entry, String)], parents: &[Digest]) -> Result<Digest, Error> {
        self.unpack_bytes(&archive(entries), parents)
    }

    fn unpack_bytes(&self, bytes: &[u8], parents: &[Digest]) -> Result<Digest, Error> {
        let diff_id = Digest::of(bytes);
        let layer = PackedLayer {
            media_type: media_type::OCI_LAYER,
            diff_id,
            blob: Some((diff_id, bytes.len() as u64)),
            parents,
            wait_for: None,
        };
        self.store.unpack(bytes, &layer)?;
        Ok(diff_id)
    }

    fn paths(&self, diff_id: &Digest) -> Vec<String> {
        let index = self.store.index(diff_id).unwrap();
        index.entries().iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect()
    }

    fn no_rubbish(&self) -> bool {
        let tmp = self.folder.path().join("root/v1/tmp");
        fs::read_dir(tmp)
            .unwrap()
            .all(|run| fs::read_dir(run.unwrap().path()).unwrap().next().is_none())
    }
}

#[test]
fn an_unpacked_layer_has_all_metadata() {
    let Some(fixture) = Fixture::root() else { return };
    let mut setuid = file("bin/su", "x");
    setuid.0.mode = 0o4755;
    setuid.0.uid = 1;
    let mut link = hard("bin/su2", "bin/su");
    (link.0.mode, link.0.uid) = (setuid.0.mode, setuid.0.uid);
    let mut capable = file("bin/ping", "y");
    capable.0.xattrs.push(((*b"security.capability").into(), (*CAPABILITY).into()));
    let mut directory = other("bin", EntryKind::Directory);
    directory.0.mode = 0o2511;
    directory.0.gid = 7;
    let entries = [
        directory,
        capable,
        soft("bin/sh", "/bin/su"),
        setuid,
        link,
        other("dev/null", EntryKind::CharDevice { major: 1, minor: 3 }),
        other("dev/pipe", EntryKind::Fifo),
        other("etc/gone", EntryKind::Whiteout),
        other("opt", EntryKind::Directory),
        other("opt", EntryKind::Opaque),
    ];
    let diff_id = fixture.unpack(&entries, &[]).unwrap();
    let root = fixture.store.layer_folder(&diff_id);
    let stat = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
    assert_eq!((stat("bin").mode() & 0o7777, stat("bin").gid()), (0o2511, 7));
    assert_eq!(stat("bin").mtime(), 1_000_000_000);
    assert_eq!((stat("bin/su").mode() & 0o7777, stat("bin/su").uid()), (0o4755, 1));
    assert_eq!(stat("bin/su").ino(), stat("bin/su2").ino());
    assert_eq!(stat("bin/sh").mtime(), 1_000_000_000);
    assert!(
        stat("dev/null").file_type().is_char_device() && stat("dev/pipe").file_type().is_fifo()
    );
    assert_eq!(stat("dev").mode() & 0o7777, 0o755);
    assert!(stat("etc/gone").file_type().is_char_device() && stat("etc/gone").rdev() == 0);
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(root.join("bin/ping"), "security.capability", &mut value[..]);
    assert_eq!(&value[..length.unwrap()], CAPABILITY);
    let length = rustix::fs::getxattr(root.join("opt"), "trusted.overlay.opaque", &mut value[..]);
    assert_eq!(&value[..length.unwrap()], b"y");
    // An archive made again from folder and index has the same bytes.
    let blob = fixture.store.compress(&diff_id, Compression::None).unwrap();
    assert_eq!(blob.digest, diff_id);
    assert!(fixture.no_rubbish());
}

#[test]
fn a_plain_user_gets_contents_and_the_whole_index() {
    let fixture = Fixture::plain();
    let mut secret = file("etc/shadow", "root:");
    secret.0.mode = 0;
    secret.0.uid = 12;
    let entries = [
        secret,
        other("etc/x", EntryKind::Whiteout),
        other("null", EntryKind::CharDevice { major: 1, minor: 3 }),
    ];
    let diff_id = fixture.unpack(&entries, &[]).unwrap();
    let mut content = String::new();
    let mut file = fixture.store.open_file(&diff_id, b"etc/shadow").unwrap();
    std::io::Read::read_to_string(&mut file, &mut content).unwrap();
    assert_eq!(content, "root:");
    let index = fixture.store.index(&diff_id).unwrap();
    assert_eq!(index.get(b"etc/shadow").unwrap().uid, 12);
    assert_eq!(fixture.store.compress(&diff_id, Compression::None).unwrap().digest, diff_id);
}

#[test]
fn links_of_an_archive_do_not_lead_out() {
    let fixture = Fixture::plain();
    let outside = fixture.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "whole").unwrap();
    let target = outside.to_str().unwrap();
    let diff_id = fixture
        .unpack(&[soft("out", target), file("out/victim", "hit"), file("out/new", "hit")], &[])
        .unwrap();
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "whole");
    assert!(!outside.join("new").exists());
    // Inside the layer's root the link's target is an ordinary path.
    let inside = format!("{}/victim", target.trim_start_matches('/'));
    assert!(fixture.paths(&diff_id).contains(&inside));
    assert!(fixture.store.open_file(&diff_id, inside.as_bytes()).is_ok());
    assert!(fixture.store.open_file(&diff_id, b"out/victim").is_err());
    assert!(fixture.store.open_file(&diff_id, b"../index").is_err());

    let escape = fixture.unpack(&[soft("up", "../../../../.."), file("up/x", "hit")], &[]).unwrap();
    assert_eq!(fixture.paths(&escape), ["up", "x"]);
    let error = fixture.unpack(&[hard("stolen", &format!("{target}/victim"))], &[]).unwrap_err();
    assert!(error.to_string().contains("stolen"), "{error}");
    let error =
        fixture.unpack(&[soft("a", "b"), soft("b", "a"), file("a/x", "")], &[]).unwrap_err();
    assert!(error.to_string().contains("too many symbolic links"), "{error}");
    assert!(fixture.no_rubbish());
}

#[test]
fn of_two_entries_for_a_path_the_last_counts() {
    let fixture = Fixture::plain();
    let diff_id = fixture
        .unpack(
            &[
                file("a", "first"),
                hard("b", "a"),
                hard("c", "a"),
                file("a", "second"),
                file("d/x", "x"),
                file("d/y/z", "z"),
                soft("d", "a"),
                soft("e", "a"),
                other("e", EntryKind::Directory),
                file("e/in", "in"),
            ],
            &[],
        )
        .unwrap();
    assert_eq!(fixture.paths(&diff_id), ["a", "b", "c", "d", "e", "e/in"]);
    let index = fixture.store.index(&diff_id).unwrap();
    assert_eq!(index.get(b"a").unwrap().kind, EntryKind::File { size: 6 });
    assert_eq!(index.get(b"b").unwrap().kind, EntryKind::File { size: 5 });
    assert_eq!(index.get(b"c").unwrap().kind, EntryKind::HardLink { target: (*b"b").into() });
    let root = fixture.store.layer_folder(&diff_id);
    assert_eq!(fs::read_to_string(root.join("c")).unwrap(), "first");
    assert!(root.join("d").is_symlink() && root.join("e").is_dir());
    // Its archive was not laid out as by kiln, so it cannot be made from the folder alone.
    let error = fixture.store.compress(&diff_id, Compression::None).unwrap_err();
    assert!(matches!(error, Error::NotReproducible(_)));
}

#[test]
fn a_hard_link_to_a_lower_layer_gets_a_copy() {
    let fixture = Fixture::plain();
    let bottom = fixture.unpack(&[file("lib/a", "content")], &[]).unwrap();
    let middle = fixture.unpack(&[file("x", "")], &[bottom]).unwrap();
    let top = fixture.unpack(&[hard("lib/b", "lib/a")], &[bottom, middle]).unwrap();
    let root = fixture.store.layer_folder(&top);
    assert_eq!(fs::read_to_string(root.join("lib/b")).unwrap(), "content");
    let hidden = fixture.unpack(&[other("lib", EntryKind::Whiteout)], &[bottom]).unwrap();
    assert!(fixture.unpack(&[hard("lib/c", "lib/a")], &[bottom, hidden]).is_err());
}

#[test]
fn a_directory_without_entry_is_as_in_the_layer_below() {
    let Some(fixture) = Fixture::root() else { return };
    let mut tmp = other("tmp", EntryKind::Directory);
    tmp.0.mode = 0o1777;
    let bottom = fixture.unpack(&[tmp], &[]).unwrap();
    let top = fixture.unpack(&[file("tmp/new/file", "")], &[bottom]).unwrap();
    let root = fixture.store.layer_folder(&top);
    assert_eq!(fs::metadata(root.join("tmp")).unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(fs::metadata(root.join("tmp/new")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fixture.paths(&top), ["tmp/new/file"]);
}

#[test]
fn what_is_not_what_it_should_be_leaves_nothing() {
    let fixture = Fixture::plain();
    let bytes = archive(&[file("a", &"text".repeat(100_000))]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &bytes).unwrap();
    let gzip = gzip.finish().unwrap();
    let (diff_id, blob) = (Digest::of(&bytes), (Digest::of(&gzip), gzip.len() as u64));
    let layer = PackedLayer {
        media_type: media_type::OCI_LAYER_GZIP,
        diff_id,
        blob: Some(blob),
        parents: &[],
        wait_for: None,
    };
    let unpack =
        |bytes: &[u8], layer: PackedLayer<'_>| fixture.store.unpack(bytes, &layer).unwrap_err();
    let is_blob_error = |error| matches!(error, Error::BlobMismatch { .. });
    assert!(is_blob_error(unpack(&gzip[..gzip.len() - 20], layer)));
    assert!(is_blob_error(unpack(&[&gzip[..], b"more"].concat(), layer)));
    assert!(is_blob_error(unpack(b"garbage", layer)));
    let error = unpack(&gzip[..gzip.len() / 2], PackedLayer { blob: None, ..layer });
    let Error::Archive(cause) = &error else { panic!("{error}") };
    let is_of_stream = matches!(cause, ReadArchive { .. } | ArchiveEntry { .. });
    assert!(is_of_stream, "{error}");
    let error = unpack(&gzip, PackedLayer { diff_id: Digest::of("x"), ..layer });
    assert!(matches!(error, Error::LayerMismatch { .. }));
    let error = unpack(&gzip, PackedLayer { media_type: "text/plain", ..layer });
    assert!(matches!(error, Error::Archive(layer::Error::MediaType(_))));
    assert!(!fixture.store.is_unpacked(&diff_id).unwrap() && !fixture.store.has_index(&diff_id));
    assert!(fixture.no_rubbish());
    fixture.store.unpack(&gzip[..], &layer).unwrap();
    // The layer is in the store, so nothing is read.
    fixture.store.unpack(&b""[..], &layer).unwrap();
}

#[test]
fn two_may_unpack_one_layer_at_once() {
    let fixture = Fixture::plain();
    let entries: Vec<_> = (0..500).map(|n| file(&format!("f{n:03}"), "content")).collect();
    let bytes = archive(&entries);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let options = OpenOptions::new(Privileges::None);
                let store = Store::open(&fixture.folder.path().join("root"), options).unwrap();
                let diff_id = Digest::of(&bytes);
                let layer = PackedLayer {
                    media_type: media_type::OCI_LAYER,
                    diff_id,
                    blob: None,
                    parents: &[],
                    wait_for: None,
                };
                let index = store.unpack(&bytes[..], &layer).unwrap();
                assert_eq!(index.entries().len(), 500);
            });
        }
    });
    assert!(fixture.no_rubbish());
}

#[test]
fn a_written_layer_is_the_same_however_it_comes() {
    let fixture = Fixture::plain();
    let entries =
        [file("a", "one"), other("b", EntryKind::Directory), file("b/c", &"two".repeat(999_999))];
    let write = |compression| {
        let mut writer = fixture.store.layer_writer(compression).unwrap();
        for (entry, content) in &entries {
            writer.append(entry, Some(&mut content.as_bytes())).unwrap();
        }
        writer.finish().unwrap()
    };
    let gzip = write(Compression::Gzip(None));
    let zstd = write(Compression::Zstd(None));
    let blob = gzip.blob.clone().unwrap();
    assert_eq!(gzip.diff_id, zstd.diff_id);
    assert_eq!(gzip.diff_id, Digest::of(archive(&entries)));
    assert_eq!(write(Compression::Gzip(None)), gzip);
    // A blob that is known and not made again; one that is unpacked; one that is recompressed.
    assert_eq!(fixture.store.compress(&gzip.diff_id, Compression::Gzip(None)).unwrap(), blob);
    assert!(fixture.store.has_index(&gzip.diff_id));
    assert!(!fixture.store.is_unpacked(&gzip.diff_id).unwrap());
    fixture.store.unpack_blob(&blob, gzip.diff_id, &[]).unwrap();
    assert!(fixture.store.is_unpacked(&gzip.diff_id).unwrap());
    let plain = fixture.store.compress(&gzip.diff_id, Compression::None).unwrap();
    assert_eq!(plain.digest, gzip.diff_id);

    let mut writer = fixture.store.layer_writer(Compression::None).unwrap();
    writer.append(&entries[1].0, None).unwrap();
    assert!(writer.append(&entries[0].0, Some(&mut &b"one"[..])).is_err());
    drop(writer);
    assert!(fixture.no_rubbish());
}

#[test]
fn a_file_with_several_names_has_the_header_of_the_last() {
    let Some(fixture) = Fixture::root() else { return };
    let header = |mut entry: (Entry, String), mode, uid, seconds| {
        (entry.0.mode, entry.0.uid, entry.0.mtime.seconds) = (mode, uid, seconds);
        entry
    };
    let diff_id = fixture
        .unpack(
            &[
                header(file("a", "x"), 0o600, 0, 100),
                header(hard("b", "a"), 0o4755, 9, 5),
                header(hard("c", "b"), 0o711, 8, 6),
                header(soft("link", "a"), 0o777, 0, 7),
                header(hard("same", "link"), 0o777, 3, 4),
            ],
            &[],
        )
        .unwrap();
    let index = fixture.store.index(&diff_id).unwrap();
    let first = |path: &str| {
        let entry = index.get(path.as_bytes()).unwrap();
        (entry.mode, entry.uid, entry.mtime.seconds)
    };
    assert_eq!([first("a"), first("link")], [(0o711, 8, 6), (0o777, 3, 4)]);
    // A COPY of one name takes the header from the tree.
    let tree = Tree::from_layers([(diff_id, &*index)]).unwrap();
    for path in ["a", "b", "c"] {
        let node = tree.get(path.as_bytes()).unwrap();
        assert_eq!((node.mode, node.uid, node.mtime.seconds), (0o711, 8, 6), "{path}");
    }
    for path in ["a", "b", "c", "link", "same"] {
        let path = fixture.store.layer_folder(&diff_id).join(path);
        let metadata = path.symlink_metadata().unwrap();
        let is = (metadata.mode() & 0o7777, metadata.uid(), metadata.mtime());
        let expected = if metadata.is_symlink() { (0o777, 3, 4) } else { (0o711, 8, 6) };
        assert_eq!(is, expected, "{}", path.display());
    }
}

#[test]
fn directories_that_no_entry_is_for_count() {
    let place = tempfile::tempdir().unwrap();
    let mut options = OpenOptions::new(Privileges::None);
    options.limits.max_entries = 50;
    let store = Store::open(&place.path().join("root"), options).unwrap();
    let unpack = |depth: usize| {
        let bytes = archive(&[file(&("d/".repeat(depth) + "f"), "x")]);
        let layer = PackedLayer {
            media_type: media_type::OCI_LAYER,
            diff_id: Digest::of(&bytes),
            blob: None,
            parents: &[],
            wait_for: None,
        };
        store.unpack(&bytes[..], &layer).map(drop)
    };
    unpack(49).unwrap();
    let error = unpack(50).unwrap_err();
    let wanted = layer::Error::ArchiveLimit { unit: "entries", limit: 50 };
    assert_eq!(error.to_string(), wanted.to_string());
    assert!(error.is_archive_limit());
}

#[test]
fn a_deep_tree_is_unpacked_whole() {
    let fixture = Fixture::plain();
    // More folders than are open at a time.
    let deep = |start: &str| format!("{start}{}", "/d".repeat(900));
    let mut entries: Vec<_> =
        ["a", "b"].iter().map(|start| file(&format!("{}/f", deep(start)), start)).collect();
    entries.push(file("c", "c"));
    let diff_id = fixture.unpack(&entries, &[]).unwrap();
    let index = fixture.store.index(&diff_id).unwrap();
    assert!(index.get(format!("{}/f", deep("b")).as_bytes()).is_some());
    let mut text = String::new();
    let path = format!("{}/f", deep("a"));
    let mut opened = fixture.store.open_file(&diff_id, path.as_bytes()).unwrap();
    std::io::Read::read_to_string(&mut opened, &mut text).unwrap();
    assert_eq!(text, "a");
}

#[test]
fn files_named_as_whiteouts_are_files_for_who_made_them() {
    let fixture = Fixture::plain();
    let mut writer = fixture.store.layer_writer(Compression::Gzip(None)).unwrap();
    let (plain, content) = file("w/.wh.x", "data");
    writer.append(&plain, Some(&mut content.as_bytes())).unwrap();
    writer.append(&other("w/gone", EntryKind::Whiteout).0, None).unwrap();
    let layer = writer.finish().unwrap();
    let blob = layer.blob.unwrap();
    let kinds = |store: &Store| {
        let index = store.unpack_blob(&blob, layer.diff_id, &[]).unwrap();
        let entries = index.entries().iter();
        entries
            .map(|entry| (String::from_utf8_lossy(&entry.path).into_owned(), entry.kind.clone()))
            .collect::<Vec<_>>()
    };
    let gone = ("w/gone".to_owned(), EntryKind::Whiteout);
    assert_eq!(
        kinds(&fixture.store),
        [("w/.wh.x".to_owned(), EntryKind::File { size: 4 }), gone.clone()]
    );
    let unpacked = fixture.store.layer_folder(&layer.diff_id).join("w/.wh.x");
    assert_eq!(fs::read_to_string(unpacked).unwrap(), "data");

    let stranger = Fixture::plain();
    let mut file = fixture.store.open_blob(&blob.digest).unwrap();
    let mut copy = stranger.store.blob_writer().unwrap();
    std::io::copy(&mut file, &mut copy).unwrap();
    copy.commit(None).unwrap();
    assert_eq!(kinds(&stranger.store), [gone, ("w/x".to_owned(), EntryKind::Whiteout)]);
}

#[test]
fn an_index_of_another_version_is_none() {
    let fixture = Fixture::plain();
    let entries = [file("a", "one")];
    let diff_id = fixture.unpack(&entries, &[]).unwrap();
    let layer = fixture.store.layer_folder(&diff_id);
    let index = layer.parent().unwrap().join("index");
    fs::write(&index, b"KLIX\x01 what an older kiln wrote").unwrap();
    // The next process reads the layer again.
    let root = fixture.folder.path().join("root");
    let store = Store::open(&root, OpenOptions::new(Privileges::None)).unwrap();
    assert!(!store.has_index(&diff_id) && !store.is_unpacked(&diff_id).unwrap());
    let next = Fixture { store, ..fixture };
    assert_eq!(next.unpack(&entries, &[]).unwrap(), diff_id);
    assert_eq!(next.paths(&diff_id), ["a"]);
}

#[test]
fn a_commit_has_what_was_changed() {
    let Some(fixture) = Fixture::root() else { return };
    let base = fixture
        .unpack(
            &[
                other("etc", EntryKind::Directory),
                file("etc/changed", "old"),
                file("etc/gone", ""),
                file("etc/same", "same"),
                other("proc", EntryKind::Directory),
                other("touched", EntryKind::Directory),
            ],
            &[],
        )
        .unwrap();
    let snapshot = fixture.store.snapshot(&[base]).unwrap();
    assert_eq!(snapshot.lowers, [fixture.store.layer_folder(&base)]);
    let upper = snapshot.upper.clone();
    let folder = |path: &str| {
        fs::create_dir(upper.join(path)).unwrap();
        fs::set_permissions(upper.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let set_time = |path: &str| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        fs::File::options()
            .append(true)
            .open(upper.join(path))
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    folder("etc");
    fs::write(upper.join("etc/changed"), "new").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        upper.join("etc/gone"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .unwrap();
    // Copied up, but not changed.
    fs::write(upper.join("etc/same"), "same").unwrap();
    set_time("etc/same");
    folder("touched");
    folder("proc");
    // Mount points.
    folder("sys");
    folder("run");
    fs::write(upper.join("etc/resolv.conf"), "").unwrap();
    folder("new");
    fs::write(upper.join("new/a"), "a").unwrap();
    fs::hard_link(upper.join("new/a"), upper.join("new/b")).unwrap();
    symlink("a", upper.join("new/c")).unwrap();
    std::os::unix::net::UnixListener::bind(upper.join("new/socket")).unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(upper.join(path), name, value, rustix::fs::XattrFlags::empty())
            .unwrap();
    };
    set("new", "trusted.overlay.opaque", b"y");
    set("new/a", "trusted.overlay.origin", b"z");
    set("new/a", "security.capability", CAPABILITY);
    for path in ["new", "new/a"] {
        let flags = rustix::fs::XattrFlags::empty();
        // A tmpfs takes none before Linux 6.6.
        let _ = rustix::fs::setxattr(upper.join(path), "user.of_a_command", b"v", flags);
    }

    let passing = vec![(*b"etc/resolv.conf").into(), (*b"run").into(), (*b"sys").into()];
    let points = MountPoints { passing, lasting: vec!["dev", "proc", "sys"] };
    let layer = snapshot.commit(&points, None).unwrap();
    let index = fixture.store.index(&layer.diff_id).unwrap();
    let kinds: Vec<_> = index
        .entries()
        .iter()
        .map(|entry| (String::from_utf8_lossy(&entry.path).into_owned(), entry.kind.clone()))
        .collect();
    let names: Vec<&str> = kinds.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        names,
        ["dev", "etc", "etc/changed", "etc/gone", "new", "new/a", "new/b", "new/c", "sys"]
    );
    assert_eq!(kinds[3].1, EntryKind::Whiteout);
    assert_eq!(kinds[6].1, EntryKind::HardLink { target: (*b"new/a").into() });
    assert!(index.entries().iter().all(|entry| entry.mtime.nanos == 0));
    // BuildKit's layers keep this attribute alone, with each name of the file.
    for entry in index.entries() {
        let is_capable = [&b"new/a"[..], b"new/b"].contains(&&*entry.path);
        let kept: &[_] = &[((*b"security.capability").into(), (*CAPABILITY).into())];
        assert_eq!(entry.xattrs, if is_capable { kept } else { &[] }, "{entry:?}");
    }
    assert!(fixture.store.is_unpacked(&layer.diff_id).unwrap());
    let blob = fixture.store.compress(&layer.diff_id, Compression::Zstd(None)).unwrap();
    assert_eq!(blob.media_type, media_type::OCI_LAYER_ZSTD);

    let nothing = fixture.store.snapshot(&[base, layer.diff_id]).unwrap();
    assert_eq!(nothing.lowers.len(), 2);
    let empty = nothing.commit(&MountPoints::default(), Some("now".into())).unwrap();
    assert_eq!(empty.diff_id, Digest::of([0; 1024]));
    assert_eq!(empty.created.as_deref(), Some("now"));
    // The same layer again, which is in the store already.
    let again = fixture.store.snapshot(&[]).unwrap();
    assert_eq!(again.lowers.len(), 1);
    assert_eq!(again.commit(&MountPoints::default(), None).unwrap().diff_id, empty.diff_id);

    let redirected = fixture.store.snapshot(&[]).unwrap();
    fs::create_dir(redirected.upper.join("d")).unwrap();
    let path = redirected.upper.join("d");
    rustix::fs::setxattr(path, "trusted.overlay.redirect", b"/x", rustix::fs::XattrFlags::empty())
        .unwrap();
    assert!(matches!(
        redirected.commit(&MountPoints::default(), None),
        Err(Error::NotPlainUpper { .. })
    ));
    assert!(fixture.no_rubbish());
}

#[test]
fn two_compressions_at_once_keep_both_seek_tables() {
    let fixture = Fixture::plain();
    // Numbers, which cannot be made so small that the blob has a single block.
    let numbers =
        (0..1_500_000_u64).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761) as u32));
    let diff_id = fixture.unpack(&[file("a", &numbers.collect::<String>())], &[]).unwrap();
    let store = &fixture.store;
    let gzip = store.compress(&diff_id, Compression::Gzip(None)).unwrap();
    let read_before = store.own_index(&diff_id).unwrap();
    let zstd = store.compress(&diff_id, Compression::Zstd(None)).unwrap();
    // The other compression ends now, and knows only what it read when it began.
    store.put_index(&diff_id, &read_before).unwrap();
    assert!(read_before.seek_table(&gzip).is_some() && read_before.seek_table(&zstd).is_none());
    let index = store.own_index(&diff_id).unwrap();
    assert!(index.seek_table(&gzip).is_some() && index.seek_table(&zstd).is_some());
}

#[test]
fn many_layers_are_merged_at_the_bottom() {
    let Some(fixture) = Fixture::root() else { return };
    let mut layers = vec![
        fixture
            .unpack(&[file("0", "old"), file("d/a", "a"), file("d/b", "b"), file("gone", "")], &[])
            .unwrap(),
        fixture
            .unpack(&[file("0", "new"), other("gone", EntryKind::Whiteout), file("o/x", "")], &[])
            .unwrap(),
        fixture
            .unpack(
                &[
                    other("d/b", EntryKind::Whiteout),
                    other("o", EntryKind::Opaque),
                    file("o/y", ""),
                ],
                &[],
            )
            .unwrap(),
    ];
    for number in 0..460 {
        layers.push(fixture.unpack(&[file(&format!("n{number}"), "")], &[]).unwrap());
    }
    let snapshot = fixture.store.snapshot(&layers).unwrap();
    assert_eq!(snapshot.lowers.len(), 208);
    let merged = snapshot.lowers.last().unwrap();
    let names = |path: &str| {
        let mut names: Vec<_> = fs::read_dir(merged.join(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!((names("d"), names("o")), (vec!["a".to_owned()], vec!["y".to_owned()]));
    assert_eq!(fs::read_to_string(merged.join("0")).unwrap(), "new");
    assert!(!merged.join("gone").exists() && merged.join("n10").exists());

    // The steps above have the same folder, until there are enough layers for the next one.
    layers.push(fixture.unpack(&[file("more", "")], &[]).unwrap());
    let above = fixture.store.snapshot(&layers).unwrap();
    assert_eq!((above.lowers.len(), above.lowers.last()), (209, snapshot.lowers.last()));
    for number in 460..510 {
        layers.push(fixture.unpack(&[file(&format!("n{number}"), "")], &[]).unwrap());
    }
    let higher = fixture.store.snapshot(&layers).unwrap();
    assert!(higher.lowers.len() == 131 && higher.lowers.last() != Some(merged));
}

#[test]
fn a_checkout_is_what_the_layers_show() {
    let fixture = Fixture::plain();
    let bottom =
        fixture.unpack(&[file("a/b", "1"), file("a/c", "2"), hard("a/d", "a/c")], &[]).unwrap();
    let top =
        fixture.unpack(&[other("a/b", EntryKind::Whiteout), soft("e", "a")], &[bottom]).unwrap();
    let target = fixture.folder.path().join("checkout");
    fs::create_dir(&target).unwrap();
    fixture.store.checkout(&[bottom, top], &target).unwrap();
    assert!(!target.join("a/b").exists() && target.join("e").is_symlink());
    assert_eq!(fs::read_to_string(target.join("a/d")).unwrap(), "2");
    assert_eq!(fs::metadata(target.join("a/d")).unwrap().nlink(), 2);
}

#[test]
fn an_index_may_come_without_its_layer() {
    let fixture = Fixture::plain();
    let diff_id = Digest::of("nowhere");
    let index = LayerIndex::from_entries(vec![entry("a", EntryKind::Directory)]);
    assert!(matches!(fixture.store.index(&diff_id), Err(Error::NoIndex(_))));
    fixture.store.put_index(&diff_id, &index).unwrap();
    assert_eq!(*fixture.store.index(&diff_id).unwrap(), index);
    assert!(!fixture.store.is_unpacked(&diff_id).unwrap());
    assert!(matches!(fixture.store.snapshot(&[diff_id]), Err(Error::NoLayer(_))));
}
