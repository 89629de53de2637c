//! Reads archives, one entry after the other. The input is not trusted: numbers are checked, sizes
//! are limited, paths stay inside the root.

use std::collections::HashSet;
use std::io::{self, Read};

use super::format::{self, BLOCK, Block, OPAQUE, WHITEOUT, number, text};
use super::limits::Limits;
use super::pax::{self, Pax};
use crate::error::shown;
use crate::{Entry, EntryKind, Error, Result, Time};

/// The way in which an archive is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A layer: `.wh.` names are whiteouts.
    Layer,
    /// Any archive: such a name has no special meaning.
    Archive,
}

/// The paths of a layer's entries that look like whiteouts and are none.
pub type PlainNames = HashSet<Box<[u8]>>;

/// Reads a tar archive: ustar, PAX, GNU's long names, numbers and sparse files.
///
/// Global PAX headers are checked and ignored, as in BuildKit: in practice (`git archive`) they
/// hold comments.
pub struct TarReader<R> {
    reader: R,
    mode: Mode,
    limits: Limits,
    entries: u64,
    total: u64,
    /// Remaining bytes of the current entry's content in the archive, and of its padding.
    content: u64,
    padding: u64,
    sparse: Option<Sparse>,
    ended: bool,
    scratch: Box<[u8]>,
    /// In a layer, paths that are files although they look like whiteouts.
    plain_names: PlainNames,
    /// True if the path of the current entry begins with `/`.
    is_absolute: bool,
}

/// The content of a sparse file, as far as it is read.
struct Sparse {
    /// Pieces that are not holes: offset and length. In order, not overlapping, and within the
    /// size.
    pieces: std::vec::IntoIter<(u64, u64)>,
    current: Option<(u64, u64)>,
    position: u64,
    size: u64,
}

/// The content of the entry that was read last; empty for all but regular files. Bytes that are not
/// read are skipped.
pub struct Content<'a, R> {
    archive: &'a mut TarReader<R>,
}

/// The headers before an entry's own.
#[derive(Default)]
struct Extensions {
    pax: Pax,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    bytes: u64,
}

impl<R> Content<'_, R> {
    /// The place of the content in the archive, before anything of it was read; `None` if it is not
    /// in one piece.
    pub fn place(&self) -> Option<u64> {
        self.archive.sparse.is_none().then_some(self.archive.total)
    }
}

impl<R: Read> TarReader<R> {
    /// Starts reading.
    pub fn new(reader: R, mode: Mode, limits: Limits) -> Self {
        Self {
            reader,
            mode,
            limits,
            entries: 0,
            total: 0,
            content: 0,
            padding: 0,
            sparse: None,
            ended: false,
            scratch: vec![0; 64 << 10].into(),
            plain_names: PlainNames::new(),
            is_absolute: false,
        }
    }

    /// Sets the paths of a layer that are files although they look like whiteouts.
    #[must_use]
    pub fn with_plain_names(mut self, names: PlainNames) -> Self {
        self.plain_names = names;
        self
    }

    /// Returns the next entry and its content; `None` at the end of the archive.
    ///
    /// The path is inside the root: `..` goes no higher. The same is true of a hard link's target.
    /// Errors name the entry; after an error the reader cannot be used any more.
    pub fn next_entry(&mut self) -> Result<Option<(Entry, Content<'_, R>)>> {
        let Some(entry) = self.advance()? else { return Ok(None) };
        Ok(Some((entry, Content { archive: self })))
    }

    /// Returns the underlying reader, right after the last block that was read.
    pub fn into_inner(self) -> R {
        self.reader
    }

    fn advance(&mut self) -> Result<Option<Entry>> {
        if self.ended {
            return Ok(None);
        }
        self.sparse = None;
        let rest = self.content + self.padding;
        self.skip(rest)?;
        (self.content, self.padding) = (0, 0);
        let mut extensions = Extensions::default();
        loop {
            let Some(block) = self.header()? else {
                self.ended = true;
                return Ok(None);
            };
            let size = number(&block[format::SIZE])
                .and_then(|size| u64::try_from(size).ok())
                .ok_or_else(|| Error::entry(text(&block[format::NAME]), "its size is no number"))?;
            match block[format::TYPE] {
                b'x' | b'X' => {
                    let data = self.extension(size, &mut extensions)?;
                    extensions.pax = parse_pax(&data)?;
                }
                b'g' => {
                    let data = self.extension(size, &mut extensions)?;
                    parse_pax(&data)?;
                }
                b'L' => extensions.long_name = Some(self.long_text(size, &mut extensions)?),
                b'K' => extensions.long_link = Some(self.long_text(size, &mut extensions)?),
                _ => return self.entry(&block, size, extensions).map(Some),
            }
        }
    }

    /// Returns the next header block; `None` at the end of the archive: at an empty block, or (some
    /// writers leave those out) at the end of the stream.
    fn header(&mut self) -> Result<Option<Block>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(truncated()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::ReadArchive { source }),
            }
        }
        self.count(BLOCK as u64)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !format::checksum_matches(&block) {
            return Err(Error::entry(text(&block[format::NAME]), "no tar header: bad checksum"));
        }
        Ok(Some(block))
    }

    fn entry(&mut self, block: &Block, size: u64, extensions: Extensions) -> Result<Entry> {
        self.entries += 1;
        if self.entries > self.limits.max_entries {
            let limit = self.limits.max_entries;
            return Err(Error::ArchiveLimit { unit: "entries", limit });
        }
        let Extensions { mut pax, long_name, long_link, mut bytes } = extensions;
        let sparse_name = pax.sparse.name.take();
        let raw_name =
            sparse_name.or(pax.path.take()).or(long_name).unwrap_or_else(|| ustar_name(block));
        let path = self.clean(&raw_name)?;
        self.is_absolute = raw_name.first() == Some(&b'/');
        let refuse = |problem: &str| Error::entry(&raw_name, problem);

        let size = match pax.size {
            Some(size) => u64::try_from(size).map_err(|_| refuse("its size is negative"))?,
            None => size,
        };
        let kind = block[format::TYPE];
        // Other kinds have no content, regardless of their size field (as in Go's reader).
        let has_content = matches!(kind, 0 | b'0' | b'7' | b'S');
        self.content = if has_content { size } else { 0 };
        self.padding = format::padding(self.content);
        let link = |reader: &Self| -> Result<Vec<u8>> {
            let link = pax.link_path.clone().or(long_link);
            let link = link.unwrap_or_else(|| text(&block[format::LINK_NAME]).to_vec());
            if link.len() > reader.limits.max_path {
                return Err(reader.path_limit());
            }
            Ok(link)
        };
        let device = |field| {
            let number = number(&block[field]).and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| refuse("its device number is out of range"))
        };
        let kind = match kind {
            // A slash marks a directory only in headers from before POSIX (as in Go's reader).
            0 if raw_name.last() == Some(&b'/') => EntryKind::Directory,
            0 | b'0' | b'7' => match self.pax_sparse(&pax, &raw_name, &mut bytes)? {
                Some(pieces) => self.sparse_file(pieces, &raw_name)?,
                None => EntryKind::File { size },
            },
            b'S' => {
                let pieces = self.gnu_sparse(block, &raw_name, &mut bytes)?;
                self.sparse_file(pieces, &raw_name)?
            }
            b'1' => EntryKind::HardLink { target: self.clean(&link(self)?)? },
            b'2' => {
                let target = link(self)?;
                if target.is_empty() || target.contains(&0) {
                    return Err(refuse("a symbolic link without a target"));
                }
                EntryKind::Symlink { target: target.into() }
            }
            b'3' => EntryKind::CharDevice {
                major: device(format::MAJOR)?,
                minor: device(format::MINOR)?,
            },
            b'4' => EntryKind::BlockDevice {
                major: device(format::MAJOR)?,
                minor: device(format::MINOR)?,
            },
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => {
                let problem = format!("its type `{}` is not supported", other.escape_ascii());
                return Err(Error::entry(&raw_name, problem));
            }
        };
        // GNU's incremental archives and pre-POSIX writers.
        if kind == EntryKind::Directory && has_content && size != 0 {
            return Err(refuse("a directory with content"));
        }
        let id = |field, pax: Option<i64>| {
            let id = pax.or_else(|| number(&block[field])).and_then(|id| u32::try_from(id).ok());
            // The last number means "do not change" to chown(2).
            id.filter(|id| *id != u32::MAX).ok_or_else(|| refuse("its owner is out of range"))
        };
        let mode = number(&block[format::MODE]).ok_or_else(|| refuse("its mode is no number"))?;
        let mtime = match pax.mtime {
            Some(time) => time,
            None => Time {
                seconds: number(&block[format::MTIME])
                    .ok_or_else(|| refuse("its time is no number"))?,
                nanos: 0,
            },
        };
        let entry = Entry {
            uid: id(format::UID, pax.uid)?,
            gid: id(format::GID, pax.gid)?,
            path,
            kind,
            mode: (mode & 0o7777) as u32,
            mtime,
            xattrs: pax.xattrs.into_iter().collect(),
        };
        match self.mode {
            Mode::Layer if self.plain_names.contains(&entry.path) => Ok(entry),
            Mode::Layer => as_mark(entry),
            Mode::Archive => Ok(entry),
        }
    }

    /// Reads an extension's data within the limits.
    fn extension(&mut self, size: u64, extensions: &mut Extensions) -> Result<Vec<u8>> {
        let padding = format::padding(size);
        let data = self.header_bytes(size, &mut extensions.bytes)?;
        self.skip(padding)?;
        Ok(data)
    }

    fn long_text(&mut self, size: u64, extensions: &mut Extensions) -> Result<Vec<u8>> {
        let data = self.extension(size, extensions)?;
        Ok(text(&data).to_vec())
    }

    fn header_bytes(&mut self, size: u64, sum: &mut u64) -> Result<Vec<u8>> {
        *sum = sum.saturating_add(size);
        if *sum > self.limits.max_header_bytes {
            let limit = self.limits.max_header_bytes;
            return Err(Error::ArchiveLimit { unit: "bytes of headers for one entry", limit });
        }
        self.count(size)?;
        let mut data = vec![0; size as usize];
        self.reader.read_exact(&mut data).map_err(read_failed)?;
        Ok(data)
    }

    fn skip(&mut self, size: u64) -> Result<()> {
        self.count(size)?;
        let mut left = size;
        while left > 0 {
            let most = self.scratch.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.reader.read_exact(&mut self.scratch[..most]).map_err(read_failed)?;
            left -= most as u64;
        }
        Ok(())
    }

    fn count(&mut self, bytes: u64) -> Result<()> {
        self.total = self.total.saturating_add(bytes);
        if self.total > self.limits.max_total_bytes {
            let limit = self.limits.max_total_bytes;
            return Err(Error::ArchiveLimit { unit: "bytes", limit });
        }
        Ok(())
    }

    fn path_limit(&self) -> Error {
        Error::ArchiveLimit { unit: "bytes in one path", limit: self.limits.max_path as u64 }
    }

    /// A path inside the root, without `.`, `..` and superfluous `/`.
    fn clean(&self, path: &[u8]) -> Result<Box<[u8]>> {
        if path.len() > self.limits.max_path {
            return Err(self.path_limit());
        }
        if path.contains(&0) {
            return Err(Error::entry(path, "its path has a zero byte"));
        }
        let mut names: Vec<&[u8]> = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => {
                    names.pop();
                }
                name => names.push(name),
            }
        }
        Ok(names.join(&b'/').into())
    }

    /// The pieces of a sparse file in one of GNU tar's PAX formats.
    fn pax_sparse(&mut self, pax: &Pax, name: &[u8], bytes: &mut u64) -> Result<Option<SparseMap>> {
        let sparse = &pax.sparse;
        let numbers = match (sparse.major, sparse.minor) {
            (Some(1), Some(0)) => self.map_in_content(name, bytes)?,
            (None | Some(0), _) if !sparse.map.is_empty() => sparse.map.clone(),
            (None | Some(0), _) if sparse.real_size.is_none() => return Ok(None),
            (None | Some(0), _) => Vec::new(),
            _ => return Err(Error::entry(name, "sparse file in an unknown format")),
        };
        let size =
            sparse.real_size.ok_or_else(|| Error::entry(name, "sparse file without size"))?;
        Ok(Some(SparseMap { numbers, size }))
    }

    /// Format 1.0: decimal numbers, each on a line, in whole blocks at the start of the content.
    fn map_in_content(&mut self, name: &[u8], bytes: &mut u64) -> Result<Vec<i64>> {
        let bad = || Error::entry(name, "malformed sparse map");
        let mut data = Vec::new();
        let mut lines = 0;
        let mut needed = 1;
        let mut numbers = Vec::new();
        let mut parsed = 0;
        while lines < needed {
            self.content = self.content.checked_sub(BLOCK as u64).ok_or_else(bad)?;
            data.extend(self.header_bytes(BLOCK as u64, bytes)?);
            while let Some(end) = data[parsed..].iter().position(|byte| *byte == b'\n') {
                let value = pax::parse_decimal(&data[parsed..parsed + end]).ok_or_else(bad)?;
                parsed += end + 1;
                if lines == 0 {
                    needed = value.checked_mul(2).and_then(|n| n.checked_add(1)).ok_or_else(bad)?;
                } else {
                    numbers.push(value);
                }
                lines += 1;
                if lines == needed {
                    break;
                }
            }
        }
        Ok(numbers)
    }

    /// The pieces of a sparse file in the old GNU format.
    fn gnu_sparse(&mut self, block: &Block, name: &[u8], bytes: &mut u64) -> Result<SparseMap> {
        let bad = || Error::entry(name, "malformed sparse map");
        if &block[format::MAGIC] != format::GNU {
            return Err(Error::entry(name, "sparse file in an unknown format"));
        }
        let size = number(&block[format::GNU_REAL_SIZE]).ok_or_else(bad)?;
        let mut numbers = Vec::new();
        let mut add = |pairs: &[u8]| -> Result<()> {
            for pair in pairs.chunks_exact(24) {
                if pair[0] == 0 {
                    break;
                }
                numbers.push(number(&pair[..12]).ok_or_else(bad)?);
                numbers.push(number(&pair[12..]).ok_or_else(bad)?);
            }
            Ok(())
        };
        add(&block[format::GNU_SPARSE])?;
        let mut more = block[format::GNU_EXTENDED] != 0;
        while more {
            let block = self.header_bytes(BLOCK as u64, bytes)?;
            add(&block[..504])?;
            more = block[504] != 0;
        }
        Ok(SparseMap { numbers, size })
    }

    /// Checks a sparse map and sets up the pieces that [`Content`] reads by.
    fn sparse_file(&mut self, map: SparseMap, name: &[u8]) -> Result<EntryKind> {
        let bad = || Error::entry(name, "its sparse map contradicts its size");
        let size = u64::try_from(map.size).map_err(|_| bad())?;
        let mut pieces = Vec::with_capacity(map.numbers.len() / 2);
        let (mut end, mut sum) = (0_u64, 0_u64);
        if !map.numbers.len().is_multiple_of(2) {
            return Err(bad());
        }
        for pair in map.numbers.chunks_exact(2) {
            let offset = u64::try_from(pair[0]).map_err(|_| bad())?;
            let length = u64::try_from(pair[1]).map_err(|_| bad())?;
            let piece_end = offset.checked_add(length).ok_or_else(bad)?;
            if offset < end || piece_end > size {
                return Err(bad());
            }
            (end, sum) = (piece_end, sum + length);
            if length > 0 {
                pieces.push((offset, length));
            }
        }
        if sum != self.content {
            return Err(bad());
        }
        self.count(size - sum)?;
        let mut pieces = pieces.into_iter();
        let current = pieces.next();
        self.sparse = Some(Sparse { pieces, current, position: 0, size });
        Ok(EntryKind::File { size })
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "archive ends inside a file"));
        }
        self.content -= count as u64;
        self.total = self.total.saturating_add(count as u64);
        if self.total > self.limits.max_total_bytes {
            let limit = self.limits.max_total_bytes;
            return Err(io::Error::other(Error::ArchiveLimit { unit: "bytes", limit }));
        }
        Ok(count)
    }

    fn read_sparse(&mut self, mut sparse: Sparse, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && sparse.position < sparse.size {
            let room = (buffer.len() - filled) as u64;
            match sparse.current {
                Some((offset, length)) if offset == sparse.position => {
                    let most = room.min(length) as usize;
                    let count = self.read_content(&mut buffer[filled..filled + most])?;
                    let left = length - count as u64;
                    sparse.current = if left == 0 {
                        sparse.pieces.next()
                    } else {
                        Some((offset + count as u64, left))
                    };
                    sparse.position += count as u64;
                    filled += count;
                }
                next => {
                    let end = next.map_or(sparse.size, |(offset, _)| offset);
                    let hole = room.min(end - sparse.position) as usize;
                    buffer[filled..filled + hole].fill(0);
                    sparse.position += hole as u64;
                    filled += hole;
                }
            }
        }
        self.sparse = Some(sparse);
        Ok(filled)
    }
}

/// The numbers of a sparse map, not yet checked.
struct SparseMap {
    numbers: Vec<i64>,
    size: i64,
}

impl<R: Read> Content<'_, R> {
    /// True if the entry's path begins with `/`. For the root, it may be either.
    pub fn is_absolute(&self) -> bool {
        self.archive.is_absolute
    }

    /// True if the archive left out holes of the file, which are then worth making again.
    pub fn is_sparse(&self) -> bool {
        self.archive.sparse.is_some()
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.archive.sparse.take() {
            Some(sparse) => self.archive.read_sparse(sparse, buffer),
            None => self.archive.read_content(buffer),
        }
    }
}

/// The path of a header without extensions. Only POSIX headers have a prefix: GNU's keep times
/// there.
fn ustar_name(block: &Block) -> Vec<u8> {
    let name = text(&block[format::NAME]);
    let prefix = text(&block[format::PREFIX]);
    if &block[format::MAGIC.start..format::MAGIC.start + 6] == b"ustar\0" && !prefix.is_empty() {
        return [prefix, name].join(&b'/');
    }
    name.to_vec()
}

fn parse_pax(data: &[u8]) -> Result<Pax> {
    Pax::parse(data).map_err(|problem| Error::entry(b"", problem.to_string()))
}

/// Turns an entry with the name of a whiteout into one (image-spec, layer.md).
fn as_mark(mut entry: Entry) -> Result<Entry> {
    let start = entry.path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let Some(hidden) = entry.path[start..].strip_prefix(WHITEOUT) else { return Ok(entry) };
    let mut path = entry.path[..start].to_vec();
    if &entry.path[start..] == OPAQUE {
        path.pop();
        entry.kind = EntryKind::Opaque;
    } else if matches!(hidden, b"" | b"." | b"..") {
        return Err(Error::entry(&entry.path, "a whiteout of nothing"));
    } else {
        path.extend_from_slice(hidden);
        entry.kind = EntryKind::Whiteout;
    }
    entry.path = path.into();
    Ok(entry)
}

fn truncated() -> Error {
    read_failed(io::Error::new(io::ErrorKind::UnexpectedEof, "archive ends early"))
}

fn read_failed(source: io::Error) -> Error {
    Error::ReadArchive { source }
}

/// Returns the error for a read of content, which names the file. If the archive is larger than
/// allowed, the source holds an error of this crate, which is returned.
pub fn content_failed(path: &[u8], source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::ArchiveEntry { path: shown(path), problem: source.to_string() }
        }
        _ => source.downcast().unwrap_or_else(|source| Error::ReadArchive { source }),
    }
}
