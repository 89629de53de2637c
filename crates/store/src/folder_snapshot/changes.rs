//! The differences between two readings of a tree, as the entries of a layer.
//!
//! A file is unchanged if `stat` returns the same as before, including the time of its inode's last
//! change, which programs cannot set. That time has the kernel's granularity, so header and content
//! are compared with the layers below for files that were written in the last moment before the
//! command began, and for those that were touched. The rules for a change are then those of an
//! overlay's upper directory: see `upper`. If a file has several names, all of them change at once,
//! where an overlay would copy one of them up and leave the others.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use oci::Digest;
use rustix::fs::FileType;

use super::stats::{Child, FileStat, Folder};
use layer::{Entry, EntryKind, Time};
use tree::{Content, Node, NodeKind, Tree, same_bytes};

use crate::attributes::Attributes;
use crate::found::{FoundFile, settle};
use crate::{Error, Result, Store};

/// The coarsest tick of the clock that stamps files: 10 ms at 100 ticks a second, with some room.
const GRAIN_NANOS: i128 = 20_000_000;
/// The same for times in whole seconds (ext4 with small inodes).
const WHOLE_SECONDS_NANOS: i128 = 2_000_000_000;

/// The two sides of a comparison, and the layers to look up contents in.
pub(super) struct Changes<'a> {
    pub(super) root: &'a Path,
    /// The tree before the command.
    pub(super) before: &'a Folder,
    /// The time when the command could begin.
    pub(super) handed_out: Time,
    pub(super) store: &'a Store,
    /// The layers that the tree shows.
    pub(super) layers: &'a [Digest],
}

impl Changes<'_> {
    /// Returns the entries for the differences of a later reading.
    pub(super) fn between(&self, after: &Folder) -> Result<Vec<Entry>> {
        let mut finder =
            Finder { given: self, below: OnceCell::new(), found: Vec::new(), path: Vec::new() };
        finder.directory((Some(self.before), false), after)?;
        let mut entries = settle(finder.found).entries;
        for entry in entries.iter_mut().filter(|entry| entry.kind == EntryKind::Directory) {
            let folder = self.root.join(OsStr::from_bytes(&entry.path));
            entry.xattrs = Attributes::read(&folder)?.of_layer();
        }
        Ok(entries)
    }
}

struct Finder<'a> {
    given: &'a Changes<'a>,
    /// The merged layers, made when they are first needed.
    below: OnceCell<Tree>,
    found: Vec<FoundFile>,
    path: Vec<u8>,
}

impl Finder<'_> {
    /// Compares a directory with its earlier state; `is_remade` if it was removed and made again.
    fn directory(
        &mut self,
        (before, is_remade): (Option<&Folder>, bool),
        after: &Folder,
    ) -> Result<()> {
        let none = Folder::default();
        let mut old = before.unwrap_or(&none).children.iter().peekable();
        for child in &after.children {
            while let Some(gone) = old.next_if(|old| old.name < child.name) {
                self.at(&gone.name, Self::gone)?;
            }
            let old = old.next_if(|old| old.name == child.name);
            self.at(&child.name, |this| match &child.folder {
                Some(folder) => this.visit_directory((old, is_remade), child, folder),
                None => this.visit_file((old, is_remade), child),
            })?;
        }
        for gone in old {
            self.at(&gone.name, Self::gone)?;
        }
        Ok(())
    }

    /// Calls `work` with `self.path` set to a name of the current directory.
    fn at(&mut self, name: &[u8], work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let length = self.path.len();
        if length > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let result = work(self);
        self.path.truncate(length);
        result
    }

    fn gone(&mut self) -> Result<()> {
        self.found.push(FoundFile::gone(&self.path));
        Ok(())
    }

    fn visit_directory(
        &mut self,
        (old, in_remade): (Option<&Child>, bool),
        now: &Child,
        after: &Folder,
    ) -> Result<()> {
        let old = old.filter(|old| old.folder.is_some());
        let is_same =
            |old: &Child| (old.stat.inode, old.stat.born) == (now.stat.inode, now.stat.born);
        let is_remade = in_remade || old.is_some_and(|old| !is_same(old));
        let changed = match old {
            None => true,
            Some(old) => {
                old.stat.header() != now.stat.header()
                    || (is_remade || old.stat.changed != now.stat.changed)
                        && !self.same_capability()?
            }
        };
        let place = self.found.len();
        // The attributes are read later, only for directories that are entries.
        let entry = self.entry(&now.stat, EntryKind::Directory, Vec::new());
        self.found.push(FoundFile { entry, inode: None, changed });
        self.directory((old.and_then(|old| old.folder.as_ref()), is_remade), after)?;
        if !changed && self.found.len() == place + 1 {
            self.found.pop();
        }
        Ok(())
    }

    fn visit_file(&mut self, (old, in_remade): (Option<&Child>, bool), now: &Child) -> Result<()> {
        let changed = match old {
            Some(old) if old.folder.is_none() => !self.same_file(&old.stat, &now.stat)?,
            _ => true,
        };
        let has_names = now.stat.links > 1;
        if (changed || has_names && in_remade)
            && let Some(kind) = self.kind(&now.stat)?
        {
            let xattrs = Attributes::read(&self.file())?.of_layer();
            let entry = self.entry(&now.stat, kind, xattrs);
            let inode = has_names.then_some(now.stat.inode);
            self.found.push(FoundFile { entry, inode, changed });
        }
        Ok(())
    }

    /// The kind of a file; `None` for a socket, which archives do not have.
    fn kind(&self, stat: &FileStat) -> Result<Option<EntryKind>> {
        let (major, minor) = stat.device;
        Ok(Some(match stat.file_type() {
            FileType::RegularFile => EntryKind::File { size: stat.size },
            FileType::Symlink => EntryKind::Symlink { target: self.link_target()?.into() },
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => return Ok(None),
            _ => return Err(Error::entry(&self.path, "a file of an unknown type")),
        }))
    }

    fn entry(&self, stat: &FileStat, kind: EntryKind, xattrs: Vec<layer::Xattr>) -> Entry {
        Entry {
            path: self.path.as_slice().into(),
            kind,
            mode: stat.mode & 0o7777,
            uid: stat.uid,
            gid: stat.gid,
            // Whole seconds, as containerd's differ writes them.
            mtime: Time { seconds: stat.mtime.seconds, nanos: 0 },
            xattrs,
        }
    }

    fn file(&self) -> PathBuf {
        self.given.root.join(OsStr::from_bytes(&self.path))
    }

    fn link_target(&self) -> Result<Vec<u8>> {
        let path = self.file();
        let target = fs::read_link(&path).map_err(Error::file("read link", &path))?;
        Ok(target.into_os_string().into_vec())
    }

    /// The node of the layers at this path.
    fn below(&self) -> Result<Option<&Node>> {
        let tree = match self.below.get() {
            Some(tree) => tree,
            None => {
                let layers = self.given.layers.iter();
                let layers: Vec<_> = layers
                    .map(|diff_id| Ok((*diff_id, self.given.store.index(diff_id)?)))
                    .collect::<Result<_>>()?;
                let layers = layers.iter().map(|(diff_id, index)| (*diff_id, &**index));
                // Layers that cannot be merged give an empty tree: then all files that were touched
                // count.
                self.below.get_or_init(|| Tree::from_layers(layers).unwrap_or_default())
            }
        };
        Ok(tree.get(&self.path))
    }

    fn same_capability(&self) -> Result<bool> {
        let is_capability = |name: &[u8]| name == b"security.capability";
        let node = self.below()?;
        let old = node
            .and_then(|node| node.xattrs.as_deref())
            .and_then(|xattrs| xattrs.iter().find(|(name, _)| is_capability(name)))
            .map(|(_, value)| &**value);
        Ok(Attributes::read(&self.file())?.capability() == old)
    }

    fn same_file(&self, old: &FileStat, now: &FileStat) -> Result<bool> {
        if old == now && !self.is_recent(old.changed) {
            return Ok(true);
        }
        if (old.header(), old.size, old.mtime) != (now.header(), now.size, now.mtime)
            || !self.same_capability()?
        {
            return Ok(false);
        }
        match now.file_type() {
            FileType::RegularFile => match self.below()? {
                Some(Node { kind: NodeKind::File { content, .. }, .. }) => {
                    self.same_content(content, now.size)
                }
                _ => Ok(false),
            },
            FileType::Symlink => match self.below()? {
                Some(Node { kind: NodeKind::Symlink { target }, .. }) => {
                    Ok(**target == *self.link_target()?)
                }
                _ => Ok(false),
            },
            _ => Ok(true),
        }
    }

    /// True if a change right after this time could have left it the same.
    fn is_recent(&self, time: Time) -> bool {
        let nanos = |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        let grain = if time.nanos == 0 { WHOLE_SECONDS_NANOS } else { GRAIN_NANOS };
        nanos(time) + grain >= nanos(self.given.handed_out)
    }

    fn same_content(&self, old: &Content, size: u64) -> Result<bool> {
        let Content::Layer { diff_id, path } = old else { return Ok(false) };
        let file = self.file();
        let mut old = match self.given.store.open_file(diff_id, path) {
            Ok(old) => io::BufReader::with_capacity(64 << 10, old),
            Err(_) => return Ok(false),
        };
        let now = fs::File::open(&file).map_err(Error::file("open", &file))?;
        let mut now = io::BufReader::with_capacity(64 << 10, now);
        // A layer's file that is shorter than in the index is not the same.
        Ok(same_bytes(size, &mut now, &mut old).unwrap_or(false))
    }
}
