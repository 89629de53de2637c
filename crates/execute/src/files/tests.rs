//! Trees in, entries out. What is expected was recorded from BuildKit, see the image vectors.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use graph::{ActionKind, ChmodMode, CopyAction, Owner, OwnerName};
use layer::{Entry, EntryKind, LayerIndex};
use oci::Digest;
use store::{OpenOptions, Privileges};
use tree::walk_context;

use super::*;

const NOW: Time = Time { seconds: 1_700_000_000, nanos: 0 };
const OLD: Time = Time { seconds: 1_600_000_000, nanos: 0 };

struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions::new(Privileges::None);
        let store = Store::open(&folder.path().join("store"), options).unwrap();
        fs::create_dir(folder.path().join("context")).unwrap();
        Self { folder, store }
    }

    fn context(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    /// Writes files (`path`), folders (`path/`) and links (`path -> target`), all of one old time.
    fn with(self, paths: &[&str]) -> Self {
        for path in paths {
            let full = |path: &str| self.context().join(path);
            if let Some((link, target)) = path.split_once(" -> ") {
                symlink(target, full(link)).unwrap();
            } else if path.ends_with('/') {
                fs::create_dir_all(full(path)).unwrap();
            } else {
                fs::create_dir_all(full(path).parent().unwrap()).unwrap();
                fs::write(full(path), path).unwrap();
            }
        }
        self
    }

    fn tree(&self) -> Tree {
        let mut tree = walk_context(&self.context(), &[], &[]).unwrap();
        let mut paths = Vec::new();
        tree.walk(|path, _| paths.push(path.to_vec()));
        for path in paths {
            let node = tree.get_mut(&path).unwrap();
            node.mtime = OLD;
            // Independent of the test's umask.
            node.mode = match node.kind {
                NodeKind::Directory(_) => 0o755,
                NodeKind::Symlink { .. } => 0o777,
                _ => 0o644,
            };
        }
        tree
    }

    fn run(&self, op: FilesOp, inputs: &[Tree]) -> Result<Vec<String>, FilesError> {
        contents_needed(&op, inputs)?;
        let runner = FilesRunner {
            store: &self.store,
            now: NOW,
            times: Times::Seconds,
            compression: Compression::None,
            created: None,
            unread: Unread::Write,
        };
        let output = runner.run(&op, inputs)?;
        let index = self.store.index(&output.layer.diff_id).unwrap();
        Ok(index.entries().iter().map(line).collect())
    }

    /// A copy out of the context onto a base.
    fn copy(&self, action: CopyAction, base: &Tree) -> Result<Vec<String>, FilesError> {
        self.run(one(ActionKind::Copy(Box::new(action))), &[base.clone(), self.tree()])
    }
}

fn one(kind: ActionKind) -> FilesOp {
    FilesOp { actions: vec![Action { base: ActionInput::Input(0), kind }] }
}

fn line(entry: &Entry) -> String {
    let path = String::from_utf8_lossy(&entry.path);
    let kind = match &entry.kind {
        EntryKind::File { .. } => String::new(),
        EntryKind::Directory => "/".into(),
        EntryKind::HardLink { target } => format!(" = {}", String::from_utf8_lossy(target)),
        EntryKind::Symlink { target } => format!(" -> {}", String::from_utf8_lossy(target)),
        EntryKind::Whiteout => return format!("{path} gone"),
        other => format!(" {other:?}"),
    };
    let time = match entry.mtime {
        NOW => "now",
        OLD => "old",
        _ => "other",
    };
    format!("{path}{kind} {:o} {}:{} {time}", entry.mode, entry.uid, entry.gid)
}

/// The form that the Dockerfile frontend uses.
fn from_to(source: &str, destination: &str) -> CopyAction {
    CopyAction {
        from: ActionInput::Input(1),
        source: source.into(),
        destination: destination.into(),
        follow_symlinks: true,
        copy_dir_contents: true,
        create_destination: true,
        wildcard: true,
        empty_wildcard: true,
        ..CopyAction::default()
    }
}

fn base(entries: &[(&str, EntryKind)]) -> Tree {
    let entries = entries.iter().map(|(path, kind)| Entry {
        path: path.as_bytes().into(),
        kind: kind.clone(),
        mode: if *kind == EntryKind::Directory { 0o750 } else { 0o600 },
        uid: 7,
        gid: 8,
        mtime: Time { seconds: 5, nanos: 0 },
        xattrs: Vec::new(),
    });
    Tree::from_layers([(Digest::of("base"), entries.collect::<LayerIndex>())]).unwrap()
}

fn link(target: &str) -> EntryKind {
    EntryKind::Symlink { target: target.as_bytes().into() }
}

const DIRECTORY: EntryKind = EntryKind::Directory;
const FILE: EntryKind = EntryKind::File { size: 3 };

#[test]
fn a_file_becomes_a_file_or_goes_into_a_folder() {
    let place = Fixture::new().with(&["a"]);
    let existing = base(&[("d", DIRECTORY)]);
    let copy = |to: &str| place.copy(from_to("/a", to), &existing).unwrap();
    assert_eq!(copy("/x/y"), ["x/ 755 0:0 now", "x/y 644 0:0 old"]);
    assert_eq!(copy("/x/"), ["x/ 755 0:0 now", "x/a 644 0:0 old"]);
    assert_eq!(copy("/x/."), ["x/ 755 0:0 now", "x/a 644 0:0 old"]);
    assert_eq!(copy("/d"), ["d/ 750 7:8 now", "d/a 644 0:0 old"]);
    assert_eq!(copy("/"), ["a 644 0:0 old"]);
}

#[test]
fn of_a_folder_the_contents_are_copied() {
    let place = Fixture::new().with(&["d/s/x", "d/l -> ../no", "d/e/"]);
    assert_eq!(
        place.copy(from_to("/d", "/n/m"), &Tree::new()).unwrap(),
        [
            "n/ 755 0:0 now",
            "n/m/ 755 0:0 old",
            "n/m/e/ 755 0:0 old",
            "n/m/l -> ../no 777 0:0 old",
            "n/m/s/ 755 0:0 old",
            "n/m/s/x 644 0:0 old"
        ]
    );
    // Of an existing folder only the time is changed, of those in it the whole header.
    let existing = base(&[("o", DIRECTORY), ("o/s", DIRECTORY), ("o/s/keep", FILE)]);
    assert_eq!(
        place.copy(from_to("/d/", "/o"), &existing).unwrap(),
        [
            "o/ 750 7:8 old",
            "o/e/ 755 0:0 old",
            "o/l -> ../no 777 0:0 old",
            "o/s/ 755 0:0 old",
            "o/s/x 644 0:0 old"
        ]
    );
}

#[test]
fn links_of_the_base_are_followed_above_the_last_name() {
    let place = Fixture::new().with(&["a", "d/x"]);
    let existing = base(&[
        ("real", DIRECTORY),
        ("lnk", link("/real")),
        ("up", link("../../real/new")),
        ("keep", FILE),
        ("real/x", link("/keep")),
        ("dangling", link("later")),
    ]);
    let copy = |from: &str, to: &str| place.copy(from_to(from, to), &existing).unwrap();
    assert_eq!(copy("/a", "/lnk/"), ["real/ 750 7:8 now", "real/a 644 0:0 old"]);
    assert_eq!(
        copy("/a", "/up/b"),
        ["real/ 750 7:8 now", "real/new/ 755 0:0 now", "real/new/b 644 0:0 old"]
    );
    assert_eq!(copy("/a", "/dangling"), ["later 644 0:0 old"]);
    // But what a folder brings replaces links.
    assert_eq!(copy("/d", "/lnk"), ["real/ 750 7:8 old", "real/x 644 0:0 old"]);
}

#[test]
fn files_and_folders_do_not_replace_each_other() {
    let place = Fixture::new().with(&["a", "d/x", "e/x/y"]);
    let existing = base(&[("f", FILE), ("o", DIRECTORY), ("o/x", DIRECTORY), ("p/x", FILE)]);
    let refused =
        |from: &str, to: &str| place.copy(from_to(from, to), &existing).unwrap_err().to_string();
    assert_eq!(refused("/d", "/f"), "cannot copy to non-directory: /f");
    assert_eq!(refused("/a", "/f/a"), "mkdir /f: not a directory");
    assert_eq!(refused("/d", "/o"), "cannot replace to directory /o/x with file");
    assert_eq!(refused("/e", "/p"), "cannot copy to non-directory: /p/x");
    assert_eq!(refused("/no", "/p"), "lstat /no: no such file or directory");
    // With `--link` they do.
    let replace = |from: &str, to: &str| CopyAction { replace_existing: true, ..from_to(from, to) };
    assert_eq!(
        place.copy(replace("/d", "/o"), &existing).unwrap(),
        ["o/ 750 7:8 old", "o/x 644 0:0 old"]
    );
    assert_eq!(
        place.copy(replace("/e", "/p"), &existing).unwrap(),
        ["p/ 755 0:0 old", "p/x/ 755 0:0 old", "p/x/y 644 0:0 old"]
    );
}

#[test]
fn wildcards_match_component_by_component() {
    let place = Fixture::new().with(&["b.txt", "a.txt", "d/c.txt", "d1/x", "l -> d1"]);
    let copy = |from: &str| place.copy(from_to(from, "/o/"), &Tree::new()).unwrap();
    assert_eq!(copy("/*.txt"), ["o/ 755 0:0 now", "o/a.txt 644 0:0 old", "o/b.txt 644 0:0 old"]);
    assert_eq!(copy("/*/*"), ["o/ 755 0:0 now", "o/c.txt 644 0:0 old", "o/x 644 0:0 old"]);
    assert_eq!(copy("/l*"), ["o/ 755 0:0 old", "o/x 644 0:0 old"]);
    assert_eq!(copy("/*.none"), Vec::<String>::new());
    let strict = CopyAction { empty_wildcard: false, ..from_to("/*.none", "/o/") };
    assert!(place.copy(strict, &Tree::new()).is_err());
}

#[test]
fn owner_and_mode_are_for_made_parents_too() {
    let place = Fixture::new().with(&["a", "d/f", "d/l -> f"]);
    let owner = Some(Owner { user: Some(OwnerName::Id(3)), group: None });
    let octal = CopyAction {
        owner: owner.clone(),
        mode: Some(ChmodMode::Octal(0o4600)),
        ..from_to("/a", "/m/n/t")
    };
    assert_eq!(
        place.copy(octal, &Tree::new()).unwrap(),
        ["m/ 600 3:3 now", "m/n/ 600 3:3 now", "m/n/t 4600 3:3 old"]
    );
    // chown(2) takes -1 for "as it is".
    let unchanged = Some(Owner { user: Some(OwnerName::Id(u32::MAX)), group: None });
    let unchanged = CopyAction { owner: unchanged, ..from_to("/a", "/t") };
    assert_eq!(place.copy(unchanged, &Tree::new()).unwrap(), ["t 644 0:0 old"]);
    let symbolic =
        CopyAction { owner, mode: Some(ChmodMode::Symbolic("go=".into())), ..from_to("/d", "/m") };
    assert_eq!(
        place.copy(symbolic, &Tree::new()).unwrap(),
        ["m/ 755 3:3 old", "m/f 600 3:3 old", "m/l -> f 777 3:3 old"]
    );
}

#[test]
fn names_are_looked_up_in_the_base() {
    let place = Fixture::new().with(&["a"]);
    let mut named = Tree::new();
    for (path, text) in [
        ("etc/passwd", "root:x:0:0\nann:x:500:600::/:\n"),
        ("etc/group", "#crew:x:1:\n crew:x:700:ann\n"),
    ] {
        let mut node = Node::directory(0o644, OLD);
        node.kind = NodeKind::File {
            size: text.len() as u64,
            content: Content::Bytes(text.as_bytes().into()),
            linked: false,
        };
        if named.get(b"etc").is_none() {
            named.insert(b"etc", Node::directory(0o755, OLD)).unwrap();
        }
        named.insert(path.as_bytes(), node).unwrap();
    }
    let name = |name: &str, input| OwnerName::Name { name: name.into(), input };
    let copy = |user: OwnerName, group: Option<OwnerName>| {
        let owner = Some(Owner { user: Some(user), group });
        place.copy(CopyAction { owner, ..from_to("/a", "/a") }, &named)
    };
    let there = ActionInput::Input(0);
    assert_eq!(copy(name("ann", there), None).unwrap(), ["a 644 500:600 old"]);
    assert_eq!(copy(name("ann", there), Some(name("crew", there))).unwrap(), ["a 644 500:700 old"]);
    assert_eq!(copy(name("nobody", there), None).unwrap(), ["a 644 0:0 old"]);
    assert!(copy(name("ann", ActionInput::Scratch), None).is_err());
}

#[test]
fn names_of_one_file_stay_together_within_a_copy() {
    let place = Fixture::new().with(&["d/a"]);
    fs::hard_link(place.context().join("d/a"), place.context().join("d/b")).unwrap();
    assert_eq!(
        place.copy(from_to("/d", "/d"), &Tree::new()).unwrap(),
        ["d/ 755 0:0 old", "d/a 644 0:0 old", "d/b = d/a 644 0:0 old"]
    );
    let two = FilesOp {
        actions: vec![
            Action {
                base: ActionInput::Input(0),
                kind: ActionKind::Copy(Box::new(from_to("/d/a", "/e/"))),
            },
            Action {
                base: ActionInput::Action(0),
                kind: ActionKind::Copy(Box::new(from_to("/d/b", "/e/"))),
            },
        ],
    };
    assert_eq!(
        place.run(two, &[Tree::new(), place.tree()]).unwrap(),
        ["e/ 755 0:0 now", "e/a 644 0:0 old", "e/b 644 0:0 old"]
    );
}

#[test]
fn filters_make_directories_only_for_what_is_in_them() {
    let place = Fixture::new().with(&["d/one", "d/two.txt", "d/s/x.txt", "d/s/.h", "top"]);
    let exclude = |patterns: &[&str], from: &str| {
        let exclude = patterns.iter().map(|pattern| (*pattern).into()).collect();
        place.copy(CopyAction { exclude, ..from_to(from, "/o/") }, &Tree::new()).unwrap()
    };
    assert_eq!(
        exclude(&["**/*.txt", "one"], "/d"),
        ["o/ 755 0:0 old", "o/s/ 755 0:0 old", "o/s/.h 644 0:0 old"]
    );
    assert_eq!(exclude(&["*", "!one"], "/d"), ["o/ 755 0:0 old", "o/one 644 0:0 old"]);
    assert_eq!(exclude(&["t*"], "/t*"), ["o/ 755 0:0 now", "o/top 644 0:0 old"]);
    let parents = CopyAction { include: vec!["d/s/x.txt".into()], ..from_to("/", "/o/") };
    assert_eq!(
        place.copy(parents, &Tree::new()).unwrap(),
        // The context's root has the time at which it was received.
        ["o/ 755 0:0 now", "o/d/ 755 0:0 now", "o/d/s/ 755 0:0 now", "o/d/s/x.txt 644 0:0 old"]
    );
}

#[test]
fn folders_and_inline_files_are_made() {
    let place = Fixture::new();
    let existing = base(&[("w", DIRECTORY), ("f", FILE), ("lnk", link("/w"))]);
    let make = |path: &str| ActionKind::MakeDir {
        path: path.into(),
        mode: 0o755,
        make_parents: true,
        owner: Some(Owner { user: Some(OwnerName::Id(1)), group: Some(OwnerName::Id(2)) }),
        timestamp: None,
    };
    let run = |kind: ActionKind| place.run(one(kind), std::slice::from_ref(&existing));
    assert_eq!(run(make("/w")).unwrap(), Vec::<String>::new());
    assert_eq!(
        run(make("/lnk/a/b")).unwrap(),
        ["w/ 750 7:8 now", "w/a/ 755 1:2 now", "w/a/b/ 755 1:2 now"]
    );
    assert_eq!(run(make("/f")).unwrap_err().to_string(), "mkdir /f: not a directory");
    let file = ActionKind::MakeFile { path: "/n".into(), mode: 0o644, data: b"text".into() };
    let op = FilesOp { actions: vec![Action { base: ActionInput::Scratch, kind: file }] };
    assert_eq!(place.run(op, &[]).unwrap(), ["n 644 0:0 now"]);
}

/// An archive of the members, written as a layer is.
fn archive(place: &Fixture, members: &[(&str, EntryKind)]) -> Vec<u8> {
    let mut writer = layer::tar::TarWriter::new(Vec::new());
    for (path, kind) in members {
        let entry = Entry {
            path: path.as_bytes().into(),
            kind: kind.clone(),
            mode: 0o711,
            uid: 11,
            gid: 12,
            mtime: OLD,
            xattrs: Vec::new(),
        };
        writer.append(&entry, &mut b"abc".as_slice()).unwrap();
    }
    let bytes = writer.finish().unwrap();
    fs::write(place.context().join("a.tar"), &bytes).unwrap();
    bytes
}

fn add(destination: &str) -> CopyAction {
    CopyAction { unpack: true, ..from_to("/a.tar", destination) }
}

#[test]
fn archives_are_unpacked() {
    let place = Fixture::new();
    let members = [
        ("p", DIRECTORY),
        ("p/x", FILE),
        ("p/y", EntryKind::HardLink { target: (*b"p/x").into() }),
        ("q/r", FILE),
    ];
    let bytes = archive(&place, &members);
    let existing =
        base(&[("o", DIRECTORY), ("o/p", DIRECTORY), ("o/p/x", DIRECTORY), ("o/p/x/z", FILE)]);
    let expected = [
        "o/ 750 7:8 now",
        "o/p/ 711 11:12 old",
        "o/p/x 711 11:12 old",
        "o/p/y = o/p/x 711 11:12 old",
        "o/q/ 755 0:0 now",
        "o/q/r 711 11:12 old",
    ];
    assert_eq!(place.copy(add("/o"), &existing).unwrap(), expected);
    fs::write(place.context().join("a.tar"), gzip(&bytes)).unwrap();
    assert_eq!(place.copy(add("/o/"), &existing).unwrap(), expected);

    let owner = Some(Owner { user: Some(OwnerName::Id(1)), group: None });
    assert_eq!(
        place.copy(CopyAction { owner, ..add("/n") }, &Tree::new()).unwrap()[..2],
        ["n/ 755 1:1 now", "n/p/ 711 1:1 old"]
    );
    fs::write(place.context().join("a.tar"), "no archive").unwrap();
    assert_eq!(
        place.copy(add("/n/"), &Tree::new()).unwrap(),
        ["n/ 755 0:0 now", "n/a.tar 644 0:0 old"]
    );
    fs::write(place.context().join("a.tar"), [0; 10240]).unwrap();
    assert_eq!(place.copy(add("/n"), &Tree::new()).unwrap(), ["n 644 0:0 old"]);
}

/// The bytes compressed, by the store's own encoder.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = layer::Encoder::new(Vec::new(), Compression::Gzip(None)).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_archive_stays_in_its_destination() {
    let place = Fixture::new();
    let existing = base(&[
        ("o", DIRECTORY),
        ("real", DIRECTORY),
        ("o/real", DIRECTORY),
        ("o/rel", link("real")),
        ("o/abs", link("/real")),
        ("o/out", link("../../nowhere")),
    ]);
    archive(&place, &[("rel/x", FILE)]);
    assert_eq!(
        place.copy(add("/o"), &existing).unwrap(),
        ["o/ 750 7:8 other", "o/real/ 750 7:8 now", "o/real/x 711 11:12 old"]
    );
    archive(&place, &[("abs/x", FILE)]);
    assert_eq!(place.copy(add("/o"), &existing).unwrap()[1], "o/real/ 750 7:8 now");
    archive(&place, &[("out/x", FILE)]);
    assert!(place.copy(add("/o"), &existing).is_err());
    // No writer makes such a name, so it is put in afterwards.
    let mut bytes = archive(&place, &[("x/.wx.gone", FILE)]);
    bytes[3..5].copy_from_slice(b"wh");
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    fs::write(place.context().join("a.tar"), bytes).unwrap();
    assert_eq!(
        place.copy(add("/o"), &existing).unwrap(),
        ["o/ 750 7:8 now", "o/x/ 755 0:0 now", "o/x/.wh.gone 711 11:12 old"]
    );
}

#[test]
fn only_the_layers_of_what_is_copied_are_needed() {
    let entries = |path: &str| {
        let entry = Entry {
            path: path.as_bytes().into(),
            kind: FILE,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: OLD,
            xattrs: Vec::new(),
        };
        LayerIndex::from_entries(vec![entry])
    };
    let stage = Tree::from_layers([
        (Digest::of("one"), entries("out/app")),
        (Digest::of("two"), entries("cache/big")),
        (Digest::of("names"), entries("etc/passwd")),
    ])
    .unwrap();
    let copy = from_to("/out", "/");
    let needed = |action: CopyAction| {
        let op = one(ActionKind::Copy(Box::new(action)));
        contents_needed(&op, &[stage.clone(), stage.clone()]).unwrap()
    };
    let file = |layer: &str, path: &str| (Digest::of(layer), [path.as_bytes().into()].into());
    assert_eq!(needed(copy.clone()), LayerPaths::from([file("one", "out/app")]));
    let user = Some(OwnerName::Name { name: "ann".into(), input: ActionInput::Input(0) });
    let both = LayerPaths::from([file("one", "out/app"), file("names", "etc/passwd")]);
    assert_eq!(needed(CopyAction { owner: Some(Owner { user, group: None }), ..copy }), both);
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let place = Fixture::new().with(&["d/", "d/a", "d/b"]);
    let op = one(ActionKind::Copy(Box::new(from_to("/", "/app/"))));
    let run = |base: &Tree, unread| {
        let runner = FilesRunner {
            store: &place.store,
            now: NOW,
            times: Times::Seconds,
            compression: Compression::None,
            created: None,
            unread,
        };
        runner.run(&op, &[base.clone(), place.tree()]).map(|output| output.layer)
    };
    let lines = |layer: &Layer| -> Vec<String> {
        let index = place.store.index(&layer.diff_id).unwrap();
        index.entries().iter().map(line).collect()
    };
    let first = run(&Tree::new(), Unread::Ask).unwrap();
    assert_eq!(lines(&first).len(), 4);

    let index = place.store.index(&first.diff_id).unwrap();
    let base = Tree::from_layers([(first.diff_id, &*index)]).unwrap();
    let paths = ["app/d/a", "app/d/b"].map(|path| path.as_bytes().into());
    let compared = LayerPaths::from([(first.diff_id, paths.into())]);
    let asked = run(&base, Unread::Ask).unwrap_err();
    assert!(matches!(asked, FilesError::Unread(paths) if paths == compared));
    // Without the layer, the files cannot be found equal.
    assert_eq!(lines(&run(&base, Unread::Write).unwrap()).len(), 4);

    let blob = first.blob.as_ref().unwrap();
    place.store.unpack_blob(blob, first.diff_id, &[]).unwrap();
    assert_eq!(lines(&run(&base, Unread::Ask).unwrap()), [] as [&str; 0]);
    fs::write(place.context().join("d/b"), "D/B").unwrap();
    fs::write(place.context().join("d/c"), "new").unwrap();
    assert_eq!(
        lines(&run(&base, Unread::Ask).unwrap()),
        ["app/ 755 0:0 now", "app/d/ 755 0:0 old", "app/d/b 644 0:0 old", "app/d/c 644 0:0 old"]
    );
}

#[test]
fn times_are_whole_seconds_unless_a_run_alone_sees_them() {
    let place = Fixture::new().with(&["d/", "f"]);
    let mut tree = place.tree();
    for path in ["d", "f"] {
        let time = Time { nanos: 999_999_999, ..OLD };
        tree.get_mut(path.as_bytes()).unwrap().mtime = time;
    }
    let op = one(ActionKind::Copy(Box::new(from_to("/", "/"))));
    let times = |times| {
        let runner = FilesRunner {
            store: &place.store,
            now: NOW,
            times,
            compression: Compression::None,
            created: None,
            unread: Unread::Write,
        };
        let output = runner.run(&op, &[Tree::new(), tree.clone()]).unwrap();
        let index = place.store.index(&output.layer.diff_id).unwrap();
        index.entries().iter().map(|entry| entry.mtime).collect::<Vec<_>>()
    };
    assert_eq!(times(Times::Seconds), [OLD, OLD]);
    assert_eq!(times(Times::Exact)[0].nanos, 999_999_999);
}

#[test]
fn a_folder_of_another_time_is_no_change() {
    let place = Fixture::new().with(&["d/", "d/sub/"]);
    let below = base(&[("d", EntryKind::Directory), ("d/sub", EntryKind::Directory)]);
    let lines = place.copy(from_to("/d", "/d"), &below).unwrap();
    // `d` was there and keeps its header; what is in it gets the source's.
    assert_eq!(lines, ["d/ 750 7:8 old", "d/sub/ 755 0:0 old"]);
    let below = Tree::from_layers([(
        Digest::of("base"),
        LayerIndex::from_entries(vec![Entry {
            path: b"d".as_slice().into(),
            kind: EntryKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: NOW,
            xattrs: Vec::new(),
        }]),
    )])
    .unwrap();
    let place = Fixture::new().with(&["d/"]);
    assert_eq!(place.copy(from_to("/", "/"), &below).unwrap(), Vec::<String>::new());
}

#[test]
fn made_directories_inherit_the_group() {
    let mut below = base(&[("shared", EntryKind::Directory)]);
    below.get_mut(b"shared").unwrap().mode = 0o2750;
    let place = Fixture::new().with(&["f"]);
    let lines = place.copy(from_to("/f", "/shared/a/b/"), &below).unwrap();
    assert_eq!(
        lines,
        [
            "shared/ 2750 7:8 now",
            "shared/a/ 2755 0:8 now",
            "shared/a/b/ 2755 0:8 now",
            "shared/a/b/f 644 0:0 old"
        ]
    );
    let owner = Some(Owner { user: Some(OwnerName::Id(5)), group: Some(OwnerName::Id(6)) });
    let lines = place.copy(CopyAction { owner, ..from_to("/f", "/shared/a/") }, &below).unwrap();
    assert_eq!(lines[1], "shared/a/ 2755 5:6 now");
    // Copied directories keep their own header.
    let place = Fixture::new().with(&["d/", "d/f"]);
    let lines = place.copy(from_to("/", "/shared/"), &below).unwrap();
    assert_eq!(lines[1], "shared/d/ 755 0:0 old");
}

#[test]
fn names_that_no_disk_takes_are_refused() {
    let place = Fixture::new().with(&["f"]);
    let copy = |path: &str| place.copy(from_to("/f", path), &Tree::new());
    assert_eq!(copy(&format!("/{}", "n".repeat(255))).unwrap().len(), 1);
    assert_eq!(copy(&"/a".repeat(200)).unwrap().len(), 200);
    let long = ["/".to_owned() + &"n".repeat(256), "/a".repeat(2_048), "/a".repeat(20_000) + "/"];
    for path in long {
        let error = copy(&path).unwrap_err().to_string();
        assert!(error.ends_with(": file name too long"), "{error}");
    }
}

#[test]
fn many_files_come_in_order() {
    let place = Fixture::new();
    for number in 0..200 {
        let path = place.context().join(format!("d{}", number % 7));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(format!("f{number}")), vec![b'x'; number * 1500]).unwrap();
    }
    let lines = place.copy(from_to("/", "/all/"), &Tree::new()).unwrap();
    assert_eq!(lines.len(), 1 + 7 + 200);
    fs::remove_file(place.context().join("d0/f0")).unwrap();
    let tree = place.tree();
    fs::write(place.context().join("d1/f1"), "shorter").unwrap();
    let op = one(ActionKind::Copy(Box::new(from_to("/", "/all/"))));
    assert!(place.run(op, &[Tree::new(), tree]).is_err());
}
