//! Sections of ELF programs (elf(5)), as far as they are needed.

use super::error::CatalogError;
use crate::{File, ImageFiles};

/// The largest section that is read.
const SECTION_LIMIT: u64 = 64 << 20;
/// The limit of sections: the Go and Rust compilers make fewer than 100.
const SECTIONS: u64 = 4096;
/// The largest table of section names.
const NAMES_LIMIT: u64 = 1 << 20;

/// A reader of a section's content; the second parameter is the program's path.
pub(super) type ReadSection<T> = fn(&[u8], &str) -> Result<T, CatalogError>;

/// A program, open.
pub(super) struct Program<'a> {
    files: &'a dyn ImageFiles,
    path: &'a str,
    /// Name, place and size of each section.
    sections: Vec<(String, u64, u64)>,
}

/// The offsets of a class's fields.
struct Layout {
    is_64: bool,
    is_little: bool,
}

impl Layout {
    fn number(&self, bytes: &[u8], at: usize, width: usize) -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(width)?)?;
        let fold = |number, byte: &u8| (number << 8) | u64::from(*byte);
        Some(match self.is_little {
            true => bytes.iter().rev().fold(0, fold),
            false => bytes.iter().fold(0, fold),
        })
    }

    fn address(&self, bytes: &[u8], at_32: usize, at_64: usize) -> Option<u64> {
        match self.is_64 {
            true => self.number(bytes, at_64, 8),
            false => self.number(bytes, at_32, 4),
        }
    }
}

impl<'a> Program<'a> {
    /// Opens a program; nothing, if it is none or damaged.
    pub(super) fn open(files: &'a dyn ImageFiles, file: &'a File) -> Option<Self> {
        let path = file.path.as_str();
        let read = |offset, length| files.read_at(path, offset, usize::try_from(length).ok()?).ok();
        let header = read(0, 64)?;
        if !header.starts_with(b"\x7fELF") {
            return None;
        }
        let layout =
            Layout { is_64: header.get(4) == Some(&2), is_little: header.get(5) == Some(&1) };
        let (table, entry, count, names) = match layout.is_64 {
            true => (layout.number(&header, 40, 8)?, 58, 60, 62),
            false => (layout.number(&header, 32, 4)?, 46, 48, 50),
        };
        let size = layout.number(&header, entry, 2)?;
        let count = layout.number(&header, count, 2)?;
        let names = usize::try_from(layout.number(&header, names, 2)?).ok()?;
        let least = if layout.is_64 { 64 } else { 40 };
        if size < least || size > 1024 || count > SECTIONS {
            return None;
        }
        let table = read(table, size * count)?;
        let place =
            |entry: &[u8]| Some((layout.address(entry, 16, 24)?, layout.address(entry, 20, 32)?));
        let mut entries = table.chunks_exact(usize::try_from(size).ok()?);
        let (names_at, names_size) = place(entries.clone().nth(names)?)?;
        let names = read(names_at, names_size.min(NAMES_LIMIT))?;
        let section = |entry: &[u8]| {
            let start = usize::try_from(layout.number(entry, 0, 4)?).ok()?;
            let name = names.get(start..)?.split(|byte| *byte == 0).next()?;
            let (offset, size) = place(entry)?;
            Some((String::from_utf8_lossy(name).into_owned(), offset, size))
        };
        let sections = entries.by_ref().filter_map(section).collect();
        Some(Self { files, path, sections })
    }

    /// Reads a section, if there is one of the name.
    pub(super) fn section<T>(
        &self,
        name: &str,
        path: &str,
        read: ReadSection<T>,
    ) -> Option<Result<T, CatalogError>> {
        let (_, offset, size) = self.sections.iter().find(|(known, _, _)| known == name)?;
        if *size > SECTION_LIMIT {
            return Some(Err(CatalogError::SectionTooLarge { size: *size, limit: SECTION_LIMIT }));
        }
        let bytes = self.files.read_at(self.path, *offset, usize::try_from(*size).ok()?);
        Some(bytes.map_err(CatalogError::from).and_then(|bytes| read(&bytes, path)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Memory;
    use super::*;

    /// A 64-bit little-endian program that has one section.
    pub(crate) fn program(name: &str, content: &[u8]) -> Vec<u8> {
        let names = format!("\0{name}\0.names\0");
        let (content_at, names_at) = (64, 64 + content.len());
        let table_at = names_at + names.len();
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[40..48].copy_from_slice(&(table_at as u64).to_le_bytes());
        for (at, number) in [(58, 64_u16), (60, 3), (62, 2)] {
            bytes[at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(names.as_bytes());
        for (name_at, at, size) in
            [(0, 0, 0), (1, content_at, content.len()), (name.len() + 2, names_at, names.len())]
        {
            let mut entry = [0; 64];
            entry[..4].copy_from_slice(&(name_at as u32).to_le_bytes());
            entry[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            entry[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            bytes.extend_from_slice(&entry);
        }
        bytes
    }

    #[test]
    fn sections_are_found_by_name_and_damage_is_nothing() {
        let bytes = program(".here", b"content");
        let files = Memory::of(&[("bin/a", &bytes)]);
        let file = files.list().pop().unwrap();
        let read = |bytes: &[u8], _: &str| Ok(bytes.to_vec());
        let opened = Program::open(&files, &file).unwrap();
        assert_eq!(opened.section(".here", "", read).unwrap().unwrap(), b"content");
        assert!(opened.section(".gone", "", read).is_none());
        for length in 0..bytes.len() {
            let files = Memory::of(&[("bin/a", &bytes[..length])]);
            // Cut off anywhere, it says less or nothing.
            if let Some(program) = Program::open(&files, &file) {
                drop(program.section(".here", "", read));
            }
        }
    }
}
