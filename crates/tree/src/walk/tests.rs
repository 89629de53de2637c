use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn context(paths: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in paths {
        let full = folder.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
        } else {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, path).unwrap();
        }
    }
    folder
}

fn walked(folder: &tempfile::TempDir, excludes: &[&str], follow: &[&str]) -> Vec<String> {
    let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let tree = walk_context(folder.path(), &own(excludes), &own(follow)).unwrap();
    let mut paths = Vec::new();
    tree.walk(|path, node| {
        let slash = if node.is_directory() { "/" } else { "" };
        paths.push(format!("{}{slash}", String::from_utf8_lossy(path)));
    });
    paths
}

#[test]
fn a_directory_outlives_its_excluded_content_but_not_its_own_pattern() {
    let folder = context(&["a/x.md", "b/x.md", "b/keep", "c/d/e/x", "c/d/f", "top.md", "empty/"]);
    assert_eq!(
        walked(&folder, &["**/*.md"], &[]),
        ["a/", "b/", "b/keep", "c/", "c/d/", "c/d/e/", "c/d/e/x", "c/d/f", "empty/"]
    );
    assert_eq!(
        walked(&folder, &["a", "b/**", "c/d", "!c/d/e/x", "empty"], &[]),
        ["b/", "c/", "c/d/", "c/d/e/", "c/d/e/x", "top.md"]
    );
    assert_eq!(walked(&folder, &["*", "!**/keep"], &[]), ["b/", "b/keep"]);
    assert_eq!(walked(&folder, &["*", "!c/*/f*"], &[]), ["c/", "c/d/", "c/d/f"]);
    assert_eq!(walked(&folder, &["*"], &[]), Vec::<String>::new());
}

#[test]
fn only_the_asked_paths_and_where_their_links_lead_are_walked() {
    let folder = context(&["a/b/file", "a/c", "other/deep/x", "other/y", "z1", "z2"]);
    symlink("../other/deep", folder.path().join("a/link")).unwrap();
    symlink("/a/link", folder.path().join("again")).unwrap();
    symlink("self", folder.path().join("self")).unwrap();
    assert_eq!(walked(&folder, &[], &["a/b"]), ["a/", "a/b/", "a/b/file"]);
    assert_eq!(
        walked(&folder, &[], &["/again/x"]),
        ["a/", "a/link", "again", "other/", "other/deep/", "other/deep/x"]
    );
    assert_eq!(walked(&folder, &[], &["z*", "self"]), ["self", "z1", "z2"]);
    assert_eq!(walked(&folder, &[], &["missing"]), Vec::<String>::new());
    assert_eq!(walked(&folder, &[], &["a", "."]), walked(&folder, &[], &[]));
}

#[test]
fn headers_are_the_disks_but_the_owner() {
    let folder = context(&["f", "d/g", "only"]);
    fs::set_permissions(folder.path().join("f"), fs::Permissions::from_mode(0o4640)).unwrap();
    fs::hard_link(folder.path().join("f"), folder.path().join("d/h")).unwrap();
    fs::hard_link(folder.path().join("only"), folder.path().join("gone")).unwrap();
    fs::remove_file(folder.path().join("gone")).unwrap();
    symlink("no/where", folder.path().join("l")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
    fs::set_permissions(folder.path().join("s"), fs::Permissions::from_mode(0o750)).unwrap();
    let tree = walk_context(folder.path(), &[], &[]).unwrap();
    assert_eq!(tree.root_header(), crate::tree::RootHeader::Unsent);
    let socket = tree.get(b"s").unwrap();
    assert!(matches!(socket.kind, NodeKind::File { size: 0, linked: false, .. }));
    assert_eq!(socket.mode, 0o750);
    let file = tree.get(b"f").unwrap();
    assert_eq!((file.mode, file.uid, file.gid), (0o4640, 0, 0));
    let id = |path: &str| match &tree.get(path.as_bytes()).unwrap().kind {
        NodeKind::File { content, linked, .. } => (content.id(), *linked),
        _ => panic!("{path} is no file"),
    };
    assert_eq!(id("f"), id("d/h"));
    assert!(id("f").1 && !id("only").1);
    let link = tree.get(b"l").unwrap();
    assert!(matches!(&link.kind, NodeKind::Symlink { target } if **target == *b"no/where"));
    assert_eq!(link.mode, 0o777);
}

#[test]
fn modes_can_be_those_of_every_umask() {
    use graph::ContentQuery;
    use std::collections::BTreeSet;
    let digests: BTreeSet<_> = [(0o640, 0o750, 0o700), (0o664, 0o775, 0o777)]
        .into_iter()
        .map(|(file, program, below)| {
            let folder = context(&["f", "d/program"]);
            let set = |path: &str, mode| {
                let path = folder.path().join(path);
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            };
            set("f", file);
            set("d/program", program);
            set("d", below);
            fs::hard_link(folder.path().join("f"), folder.path().join("g")).unwrap();
            let mut tree = walk_context(folder.path(), &[], &[]).unwrap();
            tree.normalize_modes();
            let mode = |path: &[u8]| tree.get(path).unwrap().mode;
            assert_eq!((mode(b"f"), mode(b"d/program"), mode(b"d")), (0o644, 0o755, 0o755));
            let id = |path: &[u8]| match &tree.get(path).unwrap().kind {
                NodeKind::File { content, .. } => content.id(),
                _ => panic!("no file"),
            };
            assert_eq!(id(b"f"), id(b"g"));
            crate::content_digest(&tree, &ContentQuery::default(), &()).unwrap()
        })
        .collect();
    assert_eq!(digests.len(), 1);
}

#[test]
fn many_directories_are_all_found() {
    let paths: Vec<String> =
        (0..300).map(|number| format!("d{}/e{number}/f", number % 40)).collect();
    let folder = context(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(walked(&folder, &[], &[]).len(), 40 + 300 + 300);
}

#[test]
fn a_missing_context_and_a_bad_pattern_are_refused() {
    assert!(walk_context(Path::new("/no/such/folder"), &[], &[]).is_err());
    let folder = context(&["f"]);
    assert!(walk_context(folder.path(), &["[".into()], &[]).is_err());
}
