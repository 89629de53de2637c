//! Writes archives: the same bytes as Go's archive/tar for the headers that containerd's differ
//! gives it, so that archives of two builders differ only where their content does.

use std::io::{Read, Write};

use super::format::{self, BLOCK, Block, OPAQUE, WHITEOUT, fits_octal, put_octal};
use super::pax::{self, put_record};
use crate::error::shown;
use crate::{Entry, EntryKind, Error, Result};

/// Writes entries as a tar archive: ustar if all fields fit, else PAX records.
pub struct TarWriter<W> {
    out: W,
    buffer: Box<[u8]>,
}

impl<W: Write> TarWriter<W> {
    /// Starts an archive. The writer makes large writes of content and one write for each header.
    pub fn new(out: W) -> Self {
        Self { out, buffer: vec![0; 128 << 10].into() }
    }

    /// Adds an entry. `content` is read for regular files only, and must be as long as the entry
    /// says.
    ///
    /// # Errors
    /// If the entry cannot be in an archive, or the content has another length; the error names the
    /// path.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let header = Header::of(entry)?;
        self.write(entry, &header.encode(entry)?)?;
        if let EntryKind::File { size } = entry.kind {
            self.copy(entry, size, content)?;
        }
        Ok(())
    }

    /// Ends the archive with two empty blocks and returns the underlying writer.
    pub fn finish(mut self) -> Result<W> {
        self.out
            .write_all(&[0; 2 * BLOCK])
            .map_err(|source| Error::WriteArchive { path: String::new(), source })?;
        Ok(self.out)
    }

    fn write(&mut self, entry: &Entry, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(|source| Error::WriteArchive { path: shown(&entry.path), source })
    }

    fn copy(&mut self, entry: &Entry, size: u64, content: &mut dyn Read) -> Result<()> {
        let failed = |source| Error::WriteArchive { path: shown(&entry.path), source };
        let wrong = |problem| Error::ContentSize { path: shown(&entry.path), size, problem };
        let mut left = size;
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = content.read(&mut self.buffer[..most]).map_err(failed)?;
            if count == 0 {
                return Err(wrong("shorter"));
            }
            self.out.write_all(&self.buffer[..count]).map_err(failed)?;
            left -= count as u64;
        }
        if content.read(&mut self.buffer[..1]).map_err(failed)? != 0 {
            return Err(wrong("longer"));
        }
        let padding = format::padding(size) as usize;
        self.out.write_all(&[0; BLOCK][..padding]).map_err(failed)
    }
}

/// True if the last name of a path is one of a whiteout in archives of layers.
pub fn is_whiteout_name(path: &[u8]) -> bool {
    path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(WHITEOUT))
}

/// The number of bytes before an entry's content.
///
/// # Errors
/// If the entry cannot be in an archive.
pub(crate) fn header_size(entry: &Entry) -> Result<u64> {
    Ok(header_bytes(entry)?.len() as u64)
}

/// The bytes before an entry's content.
///
/// # Errors
/// If the entry cannot be in an archive.
pub fn header_bytes(entry: &Entry) -> Result<Vec<u8>> {
    Header::of(entry)?.encode(entry)
}

/// An entry as header fields.
struct Header {
    name: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    mode: u32,
    size: u64,
    major: u32,
    minor: u32,
}

impl Header {
    fn of(entry: &Entry) -> Result<Self> {
        let refuse = |problem| Error::Unwritable { path: shown(&entry.path), problem };
        let mut header = Self {
            name: entry.path.to_vec(),
            link: Vec::new(),
            kind: b'0',
            mode: entry.mode,
            size: 0,
            major: 0,
            minor: 0,
        };
        let base = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        match &entry.kind {
            EntryKind::File { size } => header.size = *size,
            EntryKind::HardLink { target } => {
                header.kind = b'1';
                header.link = target.to_vec();
            }
            EntryKind::Symlink { target } => {
                header.kind = b'2';
                header.link = target.to_vec();
            }
            EntryKind::CharDevice { major, minor } => {
                (header.kind, header.major, header.minor) = (b'3', *major, *minor);
            }
            EntryKind::BlockDevice { major, minor } => {
                (header.kind, header.major, header.minor) = (b'4', *major, *minor);
            }
            EntryKind::Directory => {
                header.kind = b'5';
                if entry.path.is_empty() {
                    header.name.push(b'.');
                }
                header.name.push(b'/');
            }
            EntryKind::Fifo => header.kind = b'6',
            EntryKind::Whiteout => {
                let at = header.name.len() - base.len();
                header.name.splice(at..at, WHITEOUT.iter().copied());
            }
            EntryKind::Opaque => {
                if !entry.path.is_empty() {
                    header.name.push(b'/');
                }
                header.name.extend_from_slice(OPAQUE);
            }
        }
        if header.name.is_empty() || header.name.contains(&0) || header.link.contains(&0) {
            return Err(refuse("its path or target is empty or has a zero byte"));
        }
        if !fits_octal(8, header.major.into()) || !fits_octal(8, header.minor.into()) {
            return Err(refuse("its device number is too large"));
        }
        Ok(header)
    }

    /// The blocks before the content: a PAX header if needed, then the entry's own.
    fn encode(&self, entry: &Entry) -> Result<Vec<u8>> {
        let (records, needs_pax) = self.records(entry)?;
        if !needs_pax {
            let mut block = [0; BLOCK];
            match split_path(&self.name) {
                Some((prefix, name)) => {
                    put_text(&mut block[format::PREFIX], prefix);
                    self.fill(&mut block, entry, name);
                }
                None => self.fill(&mut block, entry, &self.name),
            }
            seal(&mut block);
            return Ok(block.to_vec());
        }
        let mut data = Vec::new();
        for (key, value) in &records {
            put_record(&mut data, key, value);
        }
        let mut out = pax_block(&self.name, data.len()).to_vec();
        out.extend_from_slice(&data);
        out.resize(out.len() + format::padding(data.len() as u64) as usize, 0);
        let mut block = [0; BLOCK];
        self.fill(&mut block, entry, &ascii(&self.name));
        seal(&mut block);
        out.extend_from_slice(&block);
        Ok(out)
    }

    /// The PAX records in the order of their keys, and true if ustar alone is not enough. A name
    /// that ustar can split also has its record once there is a PAX header, as in Go.
    #[expect(clippy::type_complexity, reason = "pairs of key and value")]
    fn records(&self, entry: &Entry) -> Result<(Vec<(Vec<u8>, Vec<u8>)>, bool)> {
        let mut records = Vec::new();
        let mut needs_pax = false;
        for (key, number, field) in [
            ("uid", i64::from(entry.uid), 8),
            ("gid", entry.gid.into(), 8),
            ("size", self.size.try_into().unwrap_or(i64::MAX), 12),
        ] {
            if !fits_octal(field, number) {
                records.push((key.into(), number.to_string().into()));
                needs_pax = true;
            }
        }
        for (key, value) in [("path", &self.name), ("linkpath", &self.link)] {
            if !value.is_ascii() || value.len() > 100 {
                records.push((key.into(), value.clone()));
                needs_pax |= key != "path" || split_path(value).is_none();
            }
        }
        if entry.mtime.nanos != 0 || !fits_octal(12, entry.mtime.seconds) {
            records.push(("mtime".into(), pax::format_time(entry.mtime).into()));
            needs_pax = true;
        }
        for (name, value) in &entry.xattrs {
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
                let problem = "PAX cannot write the name of one of its attributes";
                return Err(Error::Unwritable { path: shown(&entry.path), problem });
            }
            records.push(([pax::XATTR, name].concat(), value.to_vec()));
            needs_pax = true;
        }
        records.sort();
        Ok((records, needs_pax))
    }

    fn fill(&self, block: &mut Block, entry: &Entry, name: &[u8]) {
        put_text(&mut block[format::NAME], name);
        put_text(&mut block[format::LINK_NAME], &ascii(&self.link));
        block[format::TYPE] = self.kind;
        put_octal(&mut block[format::MODE], self.mode.into());
        put_octal(&mut block[format::UID], entry.uid.into());
        put_octal(&mut block[format::GID], entry.gid.into());
        put_octal(&mut block[format::SIZE], self.size.try_into().unwrap_or(i64::MAX));
        put_octal(&mut block[format::MTIME], entry.mtime.seconds);
        put_octal(&mut block[format::MAJOR], self.major.into());
        put_octal(&mut block[format::MINOR], self.minor.into());
    }
}

/// The block before PAX records.
fn pax_block(name: &[u8], size: usize) -> Block {
    let directory = name.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |end| &name[..end]);
    let file = &name[name.len() - name.iter().rev().take_while(|byte| **byte != b'/').count()..];
    let parts: Vec<&[u8]> =
        [directory, b"PaxHeaders.0", file].into_iter().filter(|part| !part.is_empty()).collect();
    let mut name = ascii(&parts.join(&b'/'));
    name.truncate(format::NAME.len());
    while name.last() == Some(&b'/') {
        name.pop();
    }
    let mut block = [0; BLOCK];
    put_text(&mut block[format::NAME], &name);
    block[format::TYPE] = b'x';
    for field in [format::MODE, format::UID, format::GID, format::MTIME] {
        put_octal(&mut block[field], 0);
    }
    put_octal(&mut block[format::SIZE], size as i64);
    seal(&mut block);
    block
}

/// Adds the magic and the checksum.
fn seal(block: &mut Block) {
    block[format::MAGIC].copy_from_slice(format::USTAR);
    block[format::CHECKSUM].fill(b' ');
    let sum: i64 = block.iter().map(|byte| i64::from(*byte)).sum();
    put_octal(&mut block[format::CHECKSUM.start..format::CHECKSUM.end - 1], sum);
}

/// Writes a text, cut at the end of the field. A cut must not leave a final `/`: old readers would
/// take the file for a directory.
fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    if text.len() > field.len() && field.last() == Some(&b'/') {
        let kept = field.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        field[kept..].fill(0);
    }
}

/// The ASCII characters of a text.
fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

/// Splits a long path into ustar's prefix and name, if possible.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= format::NAME.len() || !path.is_ascii() {
        return None;
    }
    let length = if path.len() > format::PREFIX.len() + 1 {
        format::PREFIX.len() + 1
    } else if path.last() == Some(&b'/') {
        path.len() - 1
    } else {
        path.len()
    };
    let at = path[..length].iter().rposition(|byte| *byte == b'/')?;
    let (prefix, name) = (&path[..at], &path[at + 1..]);
    (!prefix.is_empty() && prefix.len() <= format::PREFIX.len())
        .then_some(())
        .and_then(|()| (1..=format::NAME.len()).contains(&name.len()).then_some((prefix, name)))
}
