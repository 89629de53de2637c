//! Comparisons with digests that BuildKit computed (recorded plain texts of its digests).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use graph::ContentPath;
use layer::{Entry, EntryKind, LayerIndex, Time};

use super::*;
use crate::{ContextMemo, DigestMemo, walk_context};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/content");

/// The context that most recordings have in common, with the recording's Dockerfile.
fn context(case: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, bytes: &[u8], mode: u32| {
        let full = folder.path().join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(&full, bytes).unwrap();
        fs::set_permissions(full, fs::Permissions::from_mode(mode)).unwrap();
    };
    let source = Path::new(VECTORS);
    for path in ["lock.json", "notes.md", "app/main.txt", "app/lib/a.txt", "app/lib/b.txt"] {
        write(path, &fs::read(source.join("common").join(path)).unwrap(), 0o644);
    }
    write("app/run.sh", &fs::read(source.join("common/app/run.sh")).unwrap(), 0o755);
    for file in fs::read_dir(source.join(case)).into_iter().flatten() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap().replace("dot.", ".");
        write(&name, &fs::read(file.path()).unwrap(), 0o644);
    }
    if case == "09-ignore" {
        write("empty/keep.md", b"x\n", 0o644);
    }
    symlink("lib/a.txt", folder.path().join("app/link")).unwrap();
    for directory in ["app", "app/lib", "empty"] {
        let path = folder.path().join(directory);
        if path.exists() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    folder
}

fn plain(path: &str) -> ContentPath {
    ContentPath { path: path.into(), follow_links: true, ..ContentPath::default() }
}

fn short(case: &str, excludes: &[&str], paths: Vec<ContentPath>) -> String {
    let folder = context(case);
    let excludes: Vec<_> = excludes.iter().map(|text| (*text).to_owned()).collect();
    let tree = walk_context(folder.path(), &excludes, &[]).unwrap();
    content_digest(&tree, &ContentQuery { paths }, &()).unwrap().hex()[..8].to_owned()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn plain_paths() {
    assert_eq!(short("01-run-copy", &[], vec![plain("/lock.json")]), "eea9e456");
    assert_eq!(short("01-run-copy", &[], vec![plain("/app")]), "6193d567");
    assert_eq!(short("01-run-copy", &[], vec![plain("/app/lib")]), "90623e18");
    assert_eq!(short("05-owners-modes", &[], vec![plain("/notes.md")]), "730d4911");
}

#[test]
fn several_paths() {
    let paths = ["/app/main.txt", "/lock.json", "/notes.md"].map(plain);
    assert_eq!(short("04-wildcards", &[], paths.into()), "cd01f3ae");
    assert_eq!(
        short("10-add-archive", &[], ["/lock.json", "/notes.md"].map(plain).into()),
        "f1f78aa2"
    );
}

#[test]
fn an_archive_is_a_file() {
    assert_eq!(short("10-add-archive", &[], vec![plain("/tree.tar.gz")]), "fa6612ab");
}

#[test]
fn wildcards() {
    let path = ContentPath { wildcard: true, ..plain("/app/lib/*.txt") };
    assert_eq!(short("04-wildcards", &[], vec![path]), "886545e7");
}

#[test]
fn excluded_patterns() {
    let path = ContentPath { exclude: strings(&["*.md"]), ..plain("/") };
    assert_eq!(short("04-wildcards", &[], vec![path]), "bc388cb3");
}

#[test]
fn parents() {
    let include = |path: &str, include: &[&str], required: &[&str]| ContentPath {
        include: strings(include),
        required: strings(required),
        ..plain(path)
    };
    let paths = vec![
        include("/", &["app/main.txt"], &["/app/main.txt"]),
        include("/app", &["lib/a.txt"], &["/app/lib/a.txt"]),
    ];
    assert_eq!(short("04-wildcards", &[], paths), "7d1076da");
}

#[test]
fn a_whole_context_with_an_ignore_file() {
    let excludes = ["*.md", "app/lib", "!app/lib/a.txt"];
    assert_eq!(short("09-ignore", &excludes, vec![plain("/")]), "6bccba99");
    assert_eq!(short("09-ignore", &excludes, Vec::new()), "6bccba99");
}

fn layer_file(path: &str, size: u64) -> Entry {
    Entry {
        path: path.as_bytes().into(),
        kind: EntryKind::File { size },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
    }
}

/// Layers with these files, by path and content.
struct Contents(tempfile::TempDir, Vec<(&'static str, &'static str)>);

impl LayerFiles for Contents {
    fn open_file(&self, _: &Digest, path: &[u8]) -> io::Result<Box<dyn io::Read + Send>> {
        let path = String::from_utf8_lossy(path);
        let (_, content) = self.1.iter().find(|(name, _)| *name == path).unwrap();
        let file = self.0.path().join(path.replace('/', "_"));
        fs::write(&file, content)?;
        Ok(Box::new(fs::File::open(file)?))
    }
}

#[test]
fn layers() {
    // The heredoc of 07: `/SCRIPT`, read as a whole from the layer made for it.
    let script = "#!/bin/sh\necho script > /three\n";
    let contents = Contents(tempfile::tempdir().unwrap(), vec![("SCRIPT", script)]);
    let mut entry = layer_file("SCRIPT", script.len() as u64);
    entry.mode = 0o755;
    let tree =
        Tree::from_layers([(Digest::of("x"), LayerIndex::from_entries(vec![entry]))]).unwrap();
    let digest = content_digest(&tree, &ContentQuery::default(), &contents).unwrap();
    assert_eq!(digest.hex()[..8], *"d5114be2");
    let files = content_files(&tree, &ContentQuery::default()).unwrap();
    assert_eq!(files, LayerPaths::from([(Digest::of("x"), [Arc::from(*b"SCRIPT")].into())]));
}

#[test]
fn what_is_missing_is_named_as_in_buildkit() {
    let folder = context("01-run-copy");
    let tree = walk_context(folder.path(), &[], &[]).unwrap();
    let digest =
        |path: ContentPath| content_digest(&tree, &ContentQuery { paths: vec![path] }, &());
    assert_eq!(digest(plain("/no")).unwrap_err().to_string(), "\"/no\": not found");
    let required =
        ContentPath { include: strings(&["x"]), required: strings(&["/app/x"]), ..plain("/app") };
    assert_eq!(digest(required).unwrap_err().to_string(), "\"/app/x\": not found");
    let nothing = ContentPath { wildcard: true, ..plain("/zz*") };
    assert_eq!(digest(nothing).unwrap(), Digest::of(Digest::of("").to_string()));
    let scratch = content_digest(&Tree::new(), &ContentQuery::default(), &()).unwrap();
    assert_eq!(scratch, Digest::of(Digest::of("").to_string()));
}

#[test]
fn links_at_the_top_of_a_wildcard_stand_for_their_targets() {
    let folder = context("01-run-copy");
    let tree = walk_context(folder.path(), &[], &[]).unwrap();
    let digest = |path: ContentPath| {
        content_digest(&tree, &ContentQuery { paths: vec![path] }, &()).unwrap()
    };
    let followed = digest(ContentPath { wildcard: true, ..plain("/app/lin*") });
    let not = digest(ContentPath { wildcard: true, follow_links: false, ..plain("/app/lin*") });
    assert_ne!(followed, not);
    assert_eq!(digest(plain("/app/link")), digest(plain("/app/lib/a.txt")));
    assert_eq!(
        digest(ContentPath { wildcard: true, ..plain("/app/link") }),
        digest(plain("/app/link"))
    );
}

#[derive(Default)]
struct Table(Mutex<HashMap<Vec<u8>, Vec<u8>>>);

impl DigestMemo for Table {
    fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
        let table = self.0.lock().unwrap();
        keys.iter().map(|key| table.get(key).cloned()).collect()
    }

    fn put_many(&self, values: Vec<(Vec<u8>, Vec<u8>)>) {
        self.0.lock().unwrap().extend(values);
    }
}

#[test]
fn only_old_files_are_remembered() {
    let folder = context("01-run-copy");
    let memo = Table::default();
    let query = ContentQuery { paths: vec![plain("/lock.json")] };
    let tree = walk_context(folder.path(), &[], &[]).unwrap();
    let known = ContextMemo::load(&tree, &memo).unwrap();
    let digest = content_digest(&tree, &query, &()).unwrap();
    known.save(&tree, &memo);
    assert!(memo.0.lock().unwrap().is_empty(), "its files were just written");

    // Old times, as if the files had been found later.
    let aged = |tree: &Tree| {
        let mut aged = tree.clone();
        let node = aged.get_mut(b"lock.json").unwrap();
        let NodeKind::File { content: Content::Host(file), .. } = &mut node.kind else { panic!() };
        let old = Time { seconds: 1_600_000_000, nanos: 0 };
        *file = Arc::new(HostFile {
            root: file.root.clone(),
            path: file.path.clone(),
            mode: file.mode,
            inode: file.inode,
            size: file.size,
            mtime: old,
            ctime: old,
            digest: std::sync::OnceLock::new(),
        });
        aged
    };
    let first = aged(&tree);
    let known = ContextMemo::load(&first, &memo).unwrap();
    content_digest(&first, &query, &()).unwrap();
    known.save(&first, &memo);
    assert_eq!(memo.0.lock().unwrap().len(), 1);

    fs::write(folder.path().join("lock.json"), "changed!").unwrap();
    let second = aged(&tree);
    ContextMemo::load(&second, &memo).unwrap();
    assert_eq!(content_digest(&second, &query, &()).unwrap(), digest, "it was not read again");
}

/// Attributes of the user's files count, as in a cache that BuildKit exported.
#[test]
fn attributes_of_a_context_count() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    let file = folder.path().join("d/u");
    for (name, text) in [("d/u", "u"), ("d/cap", "c")] {
        fs::write(folder.path().join(name), text).unwrap();
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(folder.path().join(name), mode).unwrap();
    }
    fs::set_permissions(folder.path().join("d"), fs::Permissions::from_mode(0o755)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&file, "user.note", b"hello", flags).is_err() {
        let reason = "no attributes in the temporary folder";
        return fixtures::skip("attributes_of_a_context_count", reason);
    }
    let tree = walk_context(folder.path(), &[], &[]).unwrap();
    let query = ContentQuery { paths: vec![plain("/d")] };
    let content = content_digest(&tree, &query, &()).unwrap();
    let record = Digest::of(format!("{content}@-1"));
    assert_eq!(record.hex(), "ad35b55bce178d96725d2464d61624b222a8fd3918f053b540b508e597ca12b9");
}
