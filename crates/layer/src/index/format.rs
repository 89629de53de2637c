//! Encoding of an index's entries.

use crate::encoding::{put_bytes, put_number};
use crate::{Entry, EntryKind, Time};

/// The fields that the next entry's encoding may refer to.
#[derive(Default)]
pub(super) struct Last<'a> {
    pub(super) path: &'a [u8],
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) mtime: Time,
}

impl<'a> Last<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            path: &entry.path,
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            mtime: entry.mtime,
        }
    }
}

pub(super) const SAME_MODE: u8 = 0x10;
pub(super) const SAME_OWNER: u8 = 0x20;
pub(super) const SAME_TIME: u8 = 0x40;
pub(super) const XATTRS: u8 = 0x80;

/// Appends an entry.
pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry, last: &Last<'_>) {
    let shared = entry.path.iter().zip(last.path).take_while(|(a, b)| a == b).count();
    put_number(out, shared as u64);
    put_bytes(out, &entry.path[shared..]);
    let kind = match entry.kind {
        EntryKind::File { .. } => 0,
        EntryKind::HardLink { .. } => 1,
        EntryKind::Symlink { .. } => 2,
        EntryKind::Directory => 3,
        EntryKind::CharDevice { .. } => 4,
        EntryKind::BlockDevice { .. } => 5,
        EntryKind::Fifo => 6,
        EntryKind::Whiteout => 7,
        EntryKind::Opaque => 8,
    };
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let same_mode = entry.mode == last.mode;
    let same_owner = (entry.uid, entry.gid) == last.owner;
    let same_time = entry.mtime == last.mtime;
    out.push(
        kind | flag(same_mode, SAME_MODE)
            | flag(same_owner, SAME_OWNER)
            | flag(same_time, SAME_TIME)
            | flag(!entry.xattrs.is_empty(), XATTRS),
    );
    if !same_mode {
        put_number(out, entry.mode.into());
    }
    if !same_owner {
        put_number(out, entry.uid.into());
        put_number(out, entry.gid.into());
    }
    if !same_time {
        // Zigzag encoding, so that times before 1970 stay short too.
        let seconds = entry.mtime.seconds;
        put_number(out, ((seconds << 1) ^ (seconds >> 63)) as u64);
        put_number(out, entry.mtime.nanos.into());
    }
    match &entry.kind {
        EntryKind::File { size } => put_number(out, *size),
        EntryKind::HardLink { target } | EntryKind::Symlink { target } => put_bytes(out, target),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            put_number(out, (*major).into());
            put_number(out, (*minor).into());
        }
        EntryKind::Directory | EntryKind::Fifo | EntryKind::Whiteout | EntryKind::Opaque => {}
    }
    if !entry.xattrs.is_empty() {
        put_number(out, entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            put_bytes(out, name);
            put_bytes(out, value);
        }
    }
}
