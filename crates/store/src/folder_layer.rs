//! The difference of a folder from a chain of layers, as a layer: for folders that live outside of
//! any chain, such as cache mounts.
//!
//! A file counts as unchanged if its kind, size, mode, owner and time (to the nanosecond) are those
//! of the chain: no content is read to find out. If a file with several names is written, all of
//! its names are. Sockets are left out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use layer::{Compression, Entry, EntryKind, Layer, LayerIndex, Time};
use oci::Digest;
use tree::Tree;

use crate::attributes::Attributes;
use crate::{Error, Result, Store};

/// The result of comparing a folder with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderLayer {
    /// A layer; not unpacked, but its blob and index are in the store.
    Changed(Box<Layer>),
    /// The chain shows all of the folder.
    Unchanged,
    /// The folder's files have this many bytes, which is more than was allowed.
    TooLarge(u64),
}

/// A file of the folder.
struct FolderFile {
    entry: Entry,
    /// Device and inode, for a file with several names.
    inode: Option<(u64, u64)>,
    changed: bool,
}

impl Store {
    /// Writes the difference of a folder from a chain of layers, whose indexes must be in the
    /// store. Nothing is written if the folder's files have more than `most` bytes.
    ///
    /// # Errors
    /// If the folder cannot be read, or one of its files changes meanwhile.
    pub fn folder_layer(
        &self,
        folder: &Path,
        below: &[Digest],
        compression: Compression,
        most: u64,
    ) -> Result<FolderLayer> {
        let mut tree = Tree::new();
        for diff_id in below {
            tree.apply_layer(*diff_id, &*self.index(diff_id)?)
                .map_err(|error| Error::entry(b"", error.to_string()))?;
        }
        let mut known = BTreeMap::new();
        tree.walk(|path, node| {
            known.insert(path.to_vec(), node.to_entry(path));
        });
        let mut walk =
            FolderWalk { root: folder, known: &known, found: Vec::new(), path: Vec::new() };
        walk.directory()?;
        let mut found = walk.found;
        let bytes = size(&found);
        if bytes > most {
            return Ok(FolderLayer::TooLarge(bytes));
        }
        link_names(&mut found);
        let present: HashSet<Vec<u8>> =
            found.iter().map(|found| found.entry.path.to_vec()).collect();
        let gone = known.keys().filter(|path| !path.is_empty() && !present.contains(*path));
        let is_highest = |path: &&Vec<u8>| {
            let parent = tree::split_last(path).0;
            parent.is_empty() || present.contains(parent)
        };
        let gone = gone.filter(is_highest).map(|path| Entry::whiteout(path.as_slice()));
        let changed = found.into_iter().filter(|found| found.changed).map(|found| found.entry);
        let entries = LayerIndex::from_entries(changed.chain(gone).collect()).into_entries();
        if entries.is_empty() {
            return Ok(FolderLayer::Unchanged);
        }
        let mut writer = self.layer_writer(compression)?;
        for entry in &entries {
            let path = folder.join(OsStr::from_bytes(&entry.path));
            match entry.kind {
                EntryKind::File { .. } => {
                    let mut file = File::open(&path).map_err(Error::file("open", &path))?;
                    writer.append(entry, Some(&mut file))?;
                }
                _ => writer.append(entry, None)?,
            }
        }
        Ok(FolderLayer::Changed(Box::new(writer.finish()?)))
    }
}

/// Bytes of all files, each counted once.
fn size(found: &[FolderFile]) -> u64 {
    let mut seen = HashSet::new();
    let counted = found.iter().filter(|found| found.inode.is_none_or(|inode| seen.insert(inode)));
    counted
        .map(|found| match found.entry.kind {
            EntryKind::File { size } => size,
            _ => 0,
        })
        .sum()
}

/// Turns further names of a file into links to the first, if any of them changed.
fn link_names(found: &mut [FolderFile]) {
    let changed: HashSet<(u64, u64)> =
        found.iter().filter(|found| found.changed).filter_map(|found| found.inode).collect();
    let mut first: HashMap<(u64, u64), Box<[u8]>> = HashMap::new();
    for file in found {
        let Some(inode) = file.inode.filter(|inode| changed.contains(inode)) else { continue };
        file.changed = true;
        match first.get(&inode) {
            Some(target) => file.entry.kind = EntryKind::HardLink { target: target.clone() },
            None => _ = first.insert(inode, file.entry.path.clone()),
        }
    }
}

struct FolderWalk<'a> {
    root: &'a Path,
    known: &'a BTreeMap<Vec<u8>, Entry>,
    found: Vec<FolderFile>,
    path: Vec<u8>,
}

impl FolderWalk<'_> {
    fn directory(&mut self) -> Result<()> {
        let folder = self.file();
        let entries = fs::read_dir(&folder).map_err(Error::file("list", &folder))?;
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().into_vec()))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(Error::file("list", &folder))?;
        names.sort();
        for name in names {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            self.visit()?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn visit(&mut self) -> Result<()> {
        let path = self.file();
        let metadata = fs::symlink_metadata(&path).map_err(Error::file("look at", &path))?;
        let Some(kind) = kind(&path, &metadata)? else { return Ok(()) };
        let is_directory = kind == EntryKind::Directory;
        let entry = Entry {
            path: self.path.as_slice().into(),
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: Time {
                seconds: metadata.mtime(),
                // The kernel's value is less than 10^9.
                nanos: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
            },
            xattrs: Attributes::read(&path)?.of_copy(),
        };
        let changed = self.known.get(&self.path).is_none_or(|known| !is_same(known, &entry));
        let is_linked = !is_directory && metadata.nlink() > 1;
        let inode = is_linked.then(|| (metadata.dev(), metadata.ino()));
        self.found.push(FolderFile { entry, inode, changed });
        if is_directory { self.directory() } else { Ok(()) }
    }

    fn file(&self) -> PathBuf {
        self.root.join(OsStr::from_bytes(&self.path))
    }
}

/// The kind of a file; none for a socket.
fn kind(path: &Path, metadata: &Metadata) -> Result<Option<EntryKind>> {
    let (file_type, device) = (metadata.file_type(), metadata.rdev());
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(Some(match () {
        () if file_type.is_dir() => EntryKind::Directory,
        () if file_type.is_file() => EntryKind::File { size: metadata.len() },
        () if file_type.is_symlink() => {
            let target = fs::read_link(path).map_err(Error::file("read link", path))?;
            EntryKind::Symlink { target: target.into_os_string().into_vec().into() }
        }
        () if file_type.is_char_device() => EntryKind::CharDevice { major, minor },
        () if file_type.is_block_device() => EntryKind::BlockDevice { major, minor },
        () if file_type.is_fifo() => EntryKind::Fifo,
        () => return Ok(None),
    }))
}

/// True if a file is unchanged. The times of links are ignored, and so are those of directories,
/// which only show that their content changed.
fn is_same(known: &Entry, now: &Entry) -> bool {
    let has_time = matches!(now.kind, EntryKind::File { .. });
    let is_link = matches!(now.kind, EntryKind::Symlink { .. });
    known.kind == now.kind
        && (is_link || known.mode == now.mode)
        && (known.uid, known.gid) == (now.uid, now.gid)
        && (!has_time || known.mtime == now.mtime)
        && known.xattrs == now.xattrs
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{OpenOptions, Privileges};

    fn changed(store: &Store, folder: &Path, below: &[Digest]) -> (Digest, Vec<String>) {
        let layer = store.folder_layer(folder, below, Compression::Zstd(None), 1 << 20).unwrap();
        let FolderLayer::Changed(layer) = layer else { panic!("{layer:?}") };
        let index = store.index(&layer.diff_id).unwrap();
        let text = |entry: &Entry| {
            let path = String::from_utf8_lossy(&entry.path);
            match entry.kind {
                EntryKind::Whiteout => format!("-{path}"),
                EntryKind::HardLink { .. } => format!("={path}"),
                _ => path.into_owned(),
            }
        };
        (layer.diff_id, index.entries().iter().map(text).collect())
    }

    #[test]
    fn only_what_changed_is_in_the_layer() {
        let place = tempfile::tempdir().unwrap();
        let options = OpenOptions::new(Privileges::None);
        let store = Store::open(&place.path().join("root"), options).unwrap();
        let folder = place.path().join("mount");
        let write = |path: &str, text: &str| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/one", "1");
        write("a/two", "2");
        write("b", "3");
        std::os::unix::fs::symlink("a/one", folder.join("link")).unwrap();
        let (base, entries) = changed(&store, &folder, &[]);
        assert_eq!(entries, ["a", "a/one", "a/two", "b", "link"]);
        let again = store.folder_layer(&folder, &[base], Compression::None, 1 << 20).unwrap();
        assert_eq!(again, FolderLayer::Unchanged);

        write("a/two", "22");
        write("c/new", "4");
        fs::hard_link(folder.join("c/new"), folder.join("c/other")).unwrap();
        fs::remove_file(folder.join("b")).unwrap();
        fs::set_permissions(folder.join("a/one"), fs::Permissions::from_mode(0o600)).unwrap();
        let (delta, entries) = changed(&store, &folder, &[base]);
        assert_eq!(entries, ["a/one", "a/two", "-b", "c", "c/new", "=c/other"]);

        fs::remove_dir_all(folder.join("a")).unwrap();
        let (_, entries) = changed(&store, &folder, &[base, delta]);
        assert_eq!(entries, ["-a"]);
        let large = store.folder_layer(&folder, &[], Compression::None, 0).unwrap();
        assert_eq!(large, FolderLayer::TooLarge(1));
    }
}
