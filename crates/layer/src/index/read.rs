//! Decoding of an index's entries. The input is not trusted.

use std::cmp::Ordering;

use super::format::{Last, SAME_MODE, SAME_OWNER, SAME_TIME, XATTRS};
use crate::encoding::Reader;
use crate::{Entry, EntryKind, IndexError, Time, Xattr, compare_paths, is_entry_path};

const MAX_XATTRS: u64 = 1024;

impl Reader<'_> {
    fn path(&mut self, last: &Last<'_>) -> Result<Box<[u8]>, IndexError> {
        let shared = self.number()?;
        if shared > last.path.len() as u64 {
            return Err(IndexError::Damaged("a path has a longer beginning than the one before"));
        }
        let rest = self.bytes()?;
        let mut path = Vec::with_capacity(shared as usize + rest.len());
        path.extend_from_slice(&last.path[..shared as usize]);
        path.extend_from_slice(rest);
        if !is_entry_path(&path) {
            return Err(IndexError::Damaged("a path is not one of a layer"));
        }
        Ok(path.into())
    }

    pub(super) fn entry(&mut self, previous: Option<&Entry>) -> Result<Entry, IndexError> {
        let last = previous.map(Last::of).unwrap_or_default();
        let path = self.path(&last)?;
        let tag = self.byte()?;
        let mode = if tag & SAME_MODE != 0 { last.mode } else { self.small()? };
        let (uid, gid) =
            if tag & SAME_OWNER != 0 { last.owner } else { (self.small()?, self.small()?) };
        let mtime = if tag & SAME_TIME != 0 { last.mtime } else { self.time()? };
        if mode > 0o7777 || mtime.nanos >= 1_000_000_000 {
            return Err(IndexError::Damaged("a mode or time is out of range"));
        }
        let kind = self.kind(tag & 0x0f)?;
        let xattrs = if tag & XATTRS == 0 { Vec::new() } else { self.xattrs()? };
        if let Some(previous) = previous {
            let follows = match compare_paths(&previous.path, &path) {
                Ordering::Less => true,
                Ordering::Equal => {
                    kind == EntryKind::Opaque && previous.kind == EntryKind::Directory
                }
                Ordering::Greater => false,
            };
            if !follows {
                return Err(IndexError::Damaged("its entries are not in order"));
            }
        }
        Ok(Entry { path, kind, mode, uid, gid, mtime, xattrs })
    }

    fn time(&mut self) -> Result<Time, IndexError> {
        let zigzag = self.number()?;
        let seconds = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        Ok(Time { seconds, nanos: self.small()? })
    }

    fn kind(&mut self, number: u8) -> Result<EntryKind, IndexError> {
        Ok(match number {
            0 => EntryKind::File { size: self.number()? },
            1 => {
                let target = self.bytes()?;
                if !is_entry_path(target) {
                    return Err(IndexError::Damaged("a hard link's target is not a layer's path"));
                }
                EntryKind::HardLink { target: target.into() }
            }
            2 => EntryKind::Symlink { target: self.bytes()?.into() },
            3 => EntryKind::Directory,
            4 => EntryKind::CharDevice { major: self.small()?, minor: self.small()? },
            5 => EntryKind::BlockDevice { major: self.small()?, minor: self.small()? },
            6 => EntryKind::Fifo,
            7 => EntryKind::Whiteout,
            8 => EntryKind::Opaque,
            _ => return Err(IndexError::Damaged("an entry is of an unknown kind")),
        })
    }

    fn xattrs(&mut self) -> Result<Vec<Xattr>, IndexError> {
        let count = self.number()?;
        if count > MAX_XATTRS {
            return Err(IndexError::Damaged("an entry has too many attributes"));
        }
        (0..count).map(|_| Ok((self.bytes()?.into(), self.bytes()?.into()))).collect()
    }
}
