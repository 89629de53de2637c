use std::path::Path;

use layer::Compression;
use store::{OpenOptions, Privileges};
use tree::Content;

use super::*;

fn store(folder: &Path) -> Store {
    Store::open(folder, OpenOptions::new(Privileges::None)).unwrap()
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    let mut entry = Entry::new(path.as_bytes(), kind, 0o750);
    (entry.uid, entry.gid) = (5, 6);
    entry
}

fn link(path: &str, target: &str) -> Entry {
    entry(path, EntryKind::Symlink { target: target.as_bytes().into() })
}

/// Makes a layer of files, unpacked.
fn layer_of(store: &Store, files: &[(Entry, &str)], below: &[Digest]) -> Digest {
    let mut writer = store.layer_writer(Compression::None).unwrap();
    for (entry, text) in files {
        match entry.kind {
            EntryKind::File { .. } => writer.append(entry, Some(&mut text.as_bytes())).unwrap(),
            _ => writer.append(entry, None).unwrap(),
        }
    }
    let layer = writer.finish().unwrap();
    store.unpack_blob(layer.blob.as_ref().unwrap(), layer.diff_id, below).unwrap();
    layer.diff_id
}

fn file(path: &str, text: &'static str) -> (Entry, &'static str) {
    (entry(path, EntryKind::File { size: text.len() as u64 }), text)
}

/// A container with `etc/hosts`, a second name of it, a link to the folder and one to a file.
fn container(folder: &Path) -> ChainFiles {
    let store = store(folder);
    let layer = layer_of(
        &store,
        &[
            (entry("data", EntryKind::Directory), ""),
            (entry("etc", EntryKind::Directory), ""),
            file("etc/hosts", "hosts"),
            (entry("etc/more", EntryKind::HardLink { target: (*b"etc/hosts").into() }), ""),
            (link("folder", "/etc"), ""),
            (link("name", "folder/hosts"), ""),
            (link("out", "../../../../../../tmp"), ""),
        ],
        &[],
    );
    ChainFiles::open(store, &[layer], &ContainerId::draw().unwrap()).unwrap()
}

/// An archive's entries, each with its text.
fn listed(archive: &[u8]) -> Vec<(String, EntryKind, String)> {
    let mut reader = TarReader::new(archive, Mode::Archive, layer::tar::Limits::DEFAULT);
    let mut found = Vec::new();
    while let Some((entry, mut content)) = reader.next_entry().unwrap() {
        let mut text = String::new();
        content.read_to_string(&mut text).unwrap();
        found.push((String::from_utf8(entry.path.to_vec()).unwrap(), entry.kind, text));
    }
    found
}

fn names_out(files: &ChainFiles, path: &str) -> Vec<String> {
    let mut archive = Vec::new();
    files.copy_out(&RequestedPath::parse(path), &mut archive).unwrap();
    listed(&archive).into_iter().map(|(name, _, _)| name).collect()
}

fn archive(entries: &[(Entry, &str)]) -> Vec<u8> {
    let mut archive = TarWriter::new(Vec::new());
    for (entry, text) in entries {
        archive.append(entry, &mut text.as_bytes()).unwrap();
    }
    archive.finish().unwrap()
}

/// The container after an archive was unpacked in it.
fn after(
    files: &ChainFiles,
    base: &[Digest],
    path: &str,
    archive: &[u8],
) -> Result<ChainFiles, Error> {
    let options = UnpackOptions { path: path.into(), keeps_kinds: true, owner_is_user: false };
    let layer = files.copy_in(&options, "", archive)?;
    let blob = layer.blob.as_ref().unwrap();
    files.store.unpack_blob(blob, layer.diff_id, base).unwrap();
    let layers = [base, &[layer.diff_id]].concat();
    ChainFiles::open(files.store.clone(), &layers, &files.id)
}

fn base(files: &ChainFiles) -> Vec<Digest> {
    let NodeKind::File { content: Content::Layer { diff_id, .. }, .. } =
        &files.tree.get(b"etc/hosts").unwrap().kind
    else {
        panic!("a file of a layer");
    };
    vec![**diff_id]
}

fn text(files: &ChainFiles, path: &str) -> String {
    let mut archive = Vec::new();
    files.copy_out(&RequestedPath::parse(path), &mut archive).unwrap();
    listed(&archive).remove(0).2
}

#[test]
fn facts_are_those_of_the_path_itself() {
    let folder = tempfile::tempdir().unwrap();
    let files = container(folder.path());
    let facts = |path: &str| files.facts(&RequestedPath::parse(path));
    let hosts = facts("/folder/hosts").unwrap();
    assert_eq!((hosts.name.as_str(), hosts.size, hosts.mode), ("hosts", 5, 0o100_750));
    let link = facts("/name").unwrap();
    assert_eq!((link.link_target.as_str(), link.mode & 0o170_000), ("/etc/hosts", 0o120_000));
    assert_eq!(facts("/out").unwrap().link_target, "/tmp");
    assert_eq!(facts("/folder/").unwrap().mode, 0o040_750);
    assert_eq!(facts("/").unwrap().name, "/");
    for path in ["/none", "/etc/none/x", "/etc/hosts/", "/etc/hosts/."] {
        assert!(matches!(facts(path), Err(Error::NoPath { .. })), "{path}");
    }
}

#[test]
fn archives_begin_with_the_last_name() {
    let folder = tempfile::tempdir().unwrap();
    let files = container(folder.path());
    assert_eq!(names_out(&files, "/etc"), ["etc", "etc/hosts", "etc/more"]);
    assert_eq!(names_out(&files, "/etc/."), ["", "hosts", "more"]);
    assert_eq!(names_out(&files, "/folder"), ["folder"], "a link is copied as one");
    assert_eq!(names_out(&files, "/folder/"), ["folder", "folder/hosts", "folder/more"]);
    assert_eq!(names_out(&files, "/folder/hosts"), ["hosts"]);
    let mut all = Vec::new();
    files.copy_out(&RequestedPath::parse("/etc"), &mut all).unwrap();
    let all = listed(&all);
    assert_eq!(all[1].2, "hosts");
    assert_eq!(all[2].1, EntryKind::HardLink { target: (*b"etc/hosts").into() });
    let mut exported = Vec::new();
    files.export(&mut exported).unwrap();
    assert_eq!(listed(&exported)[1].0, "etc");
    assert_eq!((files.size(), files.bytes_of(&base(&files)).unwrap()), (10, 5));
}

#[test]
fn an_archive_becomes_a_layer() {
    let folder = tempfile::tempdir().unwrap();
    let files = container(folder.path());
    let base = base(&files);
    let packed = archive(&[
        (entry("", EntryKind::Directory), ""),
        file("deep/down/new", "new"),
        file("hosts", "other"),
        (entry("second", EntryKind::HardLink { target: (*b"hosts").into() }), ""),
        (link("way", "down"), ""),
    ]);
    // The folder is reached through a link, and `way` later leads into what was just unpacked.
    let after = after(&files, &base, "/folder", &packed).unwrap();
    assert_eq!(text(&after, "/etc/hosts"), "other");
    assert_eq!(text(&after, "/etc/second"), "other");
    assert_eq!(text(&after, "/etc/more"), "hosts", "the other name keeps its file");
    assert_eq!(text(&after, "/etc/deep/down/new"), "new");
    let changes: Vec<String> = after
        .changes_since(&files)
        .into_iter()
        .map(|changed| format!("{:?} {}", changed.change, changed.path))
        .collect();
    assert_eq!(
        changes,
        [
            "Modified /etc",
            "Added /etc/deep",
            "Added /etc/deep/down",
            "Added /etc/deep/down/new",
            "Modified /etc/hosts",
            "Added /etc/second",
            "Added /etc/way",
        ]
    );
}

#[test]
fn no_archive_leads_out_of_the_container() {
    let folder = tempfile::tempdir().unwrap();
    let files = container(folder.path());
    let base = base(&files);
    let packed = archive(&[
        (link("up", "../../.."), ""),
        file("up/a", "a"),
        file("x/../../../b", "b"),
        (link("abs", "/data"), ""),
        file("abs/c", "c"),
    ]);
    let after = after(&files, &base, "/etc", &packed).unwrap();
    for (path, content) in [("/a", "a"), ("/etc/b", "b"), ("/data/c", "c")] {
        assert_eq!(text(&after, path), content, "{path}");
    }
}

#[test]
fn kinds_are_kept_and_destinations_are_folders() {
    let folder = tempfile::tempdir().unwrap();
    let files = container(folder.path());
    let base = base(&files);
    let into = |path: &str, entries: &[(Entry, &str)]| {
        after(&files, &base, path, &archive(entries)).err().map(|error| error.to_string())
    };
    assert!(into("/none", &[]).unwrap().contains("Could not find"));
    assert!(into("/etc/hosts", &[]).unwrap().contains("not a directory"));
    assert!(into("/", &[file("etc", "x")]).unwrap().contains("cannot overwrite /etc"));
    let over = [(entry("hosts", EntryKind::Directory), "")];
    assert!(into("/etc", &over).unwrap().contains("cannot overwrite /etc/hosts"));
    let dangling = [(entry("l", EntryKind::HardLink { target: (*b"none").into() }), "")];
    assert!(into("/etc", &dangling).unwrap().contains("none"));
    let options = UnpackOptions { path: "/".into(), keeps_kinds: false, owner_is_user: false };
    files.copy_in(&options, "", archive(&[file("etc", "x")]).as_slice()).unwrap();
    let cut = &archive(&[file("f", "text")])[..700];
    assert!(files.copy_in(&options, "", cut).is_err());
}

#[test]
fn owners_are_kept_or_the_users() {
    let folder = tempfile::tempdir().unwrap();
    let files = container(folder.path());
    let packed = archive(&[file("f", "x")]);
    let owner = |owner_is_user, user: &str| {
        let options = UnpackOptions { path: "/".into(), keeps_kinds: true, owner_is_user };
        let layer = files.copy_in(&options, user, packed.as_slice()).unwrap();
        let index = files.store.index(&layer.diff_id).unwrap();
        let entry = index.get(b"f").unwrap().clone();
        (entry.uid, entry.gid)
    };
    assert_eq!(owner(false, "7:8"), (5, 6));
    assert_eq!(owner(true, "7:8"), (7, 8));
    assert_eq!(owner(true, ""), (5, 6), "no user: the archive's");
}

#[test]
fn folders_that_are_missing_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let files = container(folder.path());
    let made = |paths: &[&str]| {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let layer = files.with_folders(&paths).unwrap()?;
        let index = files.store.index(&layer.diff_id).unwrap();
        let path = |entry: &Entry| String::from_utf8(entry.path.to_vec()).unwrap();
        Some(index.entries().iter().map(path).collect::<Vec<_>>())
    };
    assert_eq!(made(&["/data", "/folder"]), None);
    assert_eq!(made(&["/folder/x/y", "/data"]).unwrap(), ["etc/x", "etc/x/y"]);
    let over_a_file = BTreeSet::from(["/etc/hosts/x".to_owned()]);
    assert!(matches!(files.with_folders(&over_a_file), Err(Error::Overwrite(_))));
}
