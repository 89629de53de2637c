//! Reads the rows of a table of an SQLite database (sqlite.org/fileformat2.html).
//!
//! A reader of its own, and no SQL: what an image holds may be made to harm its reader. Here each
//! page is visited once, so a database costs no more than its size, whatever its pages point to.

use std::collections::HashSet;
use std::io;

use crate::{File, ImageFiles};

/// The largest row that is read.
const ROW_LIMIT: u64 = 64 << 20;

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Bytes(Vec<u8>),
}

/// An open database.
pub(super) struct Database<'a> {
    files: &'a dyn ImageFiles,
    path: &'a str,
    page_size: usize,
    /// Bytes of a page that are not reserved for extensions.
    usable: usize,
    seen: HashSet<u32>,
}

/// The reason why a database is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SqliteError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is no SQLite database")]
    NoDatabase,
    #[error("a page size of {0} makes no sense")]
    PageSize(usize),
    #[error("it has no table `{0}`")]
    NoTable(String),
    #[error("page {0} is none of a table")]
    NotOfTable(u32),
    #[error("page {0} is used twice, or is none")]
    UsedTwice(u32),
    #[error("page {0} is not there")]
    NoPage(u32),
    #[error("a row of {0} bytes is larger than {ROW_LIMIT}")]
    RowLimit(u64),
    #[error("{0} is too large")]
    TooLarge(&'static str),
    #[error("a value has a reserved type")]
    ReservedType,
    #[error("something in it points past its end")]
    PastEnd,
}

type Result<T> = std::result::Result<T, SqliteError>;

impl<'a> Database<'a> {
    /// Opens a file.
    pub(super) fn open(files: &'a dyn ImageFiles, file: &'a File) -> Result<Self> {
        let path = file.path.as_str();
        let header = files.read_at(path, 0, 100)?;
        if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
            return Err(SqliteError::NoDatabase);
        }
        let page_size = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65536,
            size => usize::from(size),
        };
        let usable = page_size.saturating_sub(usize::from(header[20]));
        if !page_size.is_power_of_two() || page_size < 512 || usable < 480 {
            return Err(SqliteError::PageSize(page_size));
        }
        Ok(Self { files, path, page_size, usable, seen: HashSet::new() })
    }

    /// Hands each row of a table to `visit`.
    pub(super) fn rows(&mut self, table: &str, visit: &mut dyn FnMut(&[Value])) -> Result<()> {
        let mut root = None;
        self.walk(1, &mut |row| {
            // type, name, tbl_name, rootpage, sql
            if let [Value::Bytes(kind), Value::Bytes(name), _, Value::Integer(page), ..] = row
                && kind == b"table"
                && name == table.as_bytes()
            {
                root = u32::try_from(*page).ok();
            }
        })?;
        let root = root.ok_or_else(|| SqliteError::NoTable(table.into()))?;
        self.walk(root, visit)
    }

    /// Visits the rows of the table whose pages begin with `root`.
    fn walk(&mut self, root: u32, visit: &mut dyn FnMut(&[Value])) -> Result<()> {
        let mut open = vec![root];
        while let Some(number) = open.pop() {
            let page = self.page(number)?;
            let header = if number == 1 { 100 } else { 0 };
            let count = usize::from(u16_at(&page, header + 3)?);
            let is_leaf = match page.get(header) {
                Some(13) => true,
                Some(5) => false,
                _ => return Err(SqliteError::NotOfTable(number)),
            };
            let cells = header + if is_leaf { 8 } else { 12 };
            let mut children = Vec::new();
            for cell in 0..count {
                let at = usize::from(u16_at(&page, cells + 2 * cell)?);
                if is_leaf {
                    let payload = self.payload(&page, at)?;
                    visit(&record(&payload)?);
                } else {
                    children.push(u32_at(&page, at)?);
                }
            }
            if !is_leaf {
                children.push(u32_at(&page, header + 8)?);
            }
            open.extend(children.into_iter().rev());
        }
        Ok(())
    }

    /// A page, which nothing pointed to before.
    fn page(&mut self, number: u32) -> Result<Vec<u8>> {
        if number == 0 || !self.seen.insert(number) {
            return Err(SqliteError::UsedTwice(number));
        }
        let offset = u64::from(number - 1) * self.page_size as u64;
        let page = self.files.read_at(self.path, offset, self.page_size)?;
        if page.len() == self.page_size { Ok(page) } else { Err(SqliteError::NoPage(number)) }
    }

    /// The record of a leaf's cell, with what of it is on other pages (1.6, "payload").
    fn payload(&mut self, page: &[u8], at: usize) -> Result<Vec<u8>> {
        let (size, at) = varint(page, at)?;
        let (_row, at) = varint(page, at)?;
        if size > ROW_LIMIT {
            return Err(SqliteError::RowLimit(size));
        }
        let size = usize::try_from(size).map_err(|_| SqliteError::TooLarge("a row"))?;
        let most = self.usable - 35;
        let least = (self.usable - 12) * 32 / 255 - 23;
        let local = match size <= most {
            true => size,
            false => {
                let local = least + (size - least) % (self.usable - 4);
                if local <= most { local } else { least }
            }
        };
        let mut payload = slice(page, at, local)?.to_vec();
        if local < size {
            let mut next = u32_at(page, at + local)?;
            while payload.len() < size {
                let overflow = self.page(next)?;
                next = u32_at(&overflow, 0)?;
                let wanted = (size - payload.len()).min(self.usable - 4);
                payload.extend_from_slice(slice(&overflow, 4, wanted)?);
            }
        }
        Ok(payload)
    }
}

/// The values of a record (2.1).
fn record(payload: &[u8]) -> Result<Vec<Value>> {
    let (header, mut at) = varint(payload, 0)?;
    let header = usize::try_from(header).map_err(|_| SqliteError::TooLarge("a record's header"))?;
    let mut value_at = header;
    let mut values = Vec::new();
    while at < header {
        let (kind, next) = varint(payload, at)?;
        at = next;
        let width = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(SqliteError::ReservedType),
            _ => usize::try_from((kind - 12) / 2).map_err(|_| SqliteError::TooLarge("a value"))?,
        };
        let bytes = slice(payload, value_at, width)?;
        value_at += width;
        values.push(match kind {
            0 | 7 => Value::Null,
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            1..=6 => Value::Integer(integer(bytes)),
            _ => Value::Bytes(bytes.to_vec()),
        });
    }
    Ok(values)
}

/// A number in two's complement, the highest byte first.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes.iter().fold(start, |number, byte| (number << 8) | i64::from(*byte))
}

/// A number of one to nine bytes, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Result<(u64, usize)> {
    let mut number: u64 = 0;
    for index in 0..9 {
        let byte = *bytes.get(at + index).ok_or(SqliteError::PastEnd)?;
        if index == 8 {
            return Ok(((number << 8) | u64::from(byte), at + 9));
        }
        number = (number << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok((number, at + index + 1));
        }
    }
    Err(SqliteError::PastEnd)
}

fn slice(bytes: &[u8], at: usize, length: usize) -> Result<&[u8]> {
    let end = at.checked_add(length).ok_or(SqliteError::PastEnd)?;
    bytes.get(at..end).ok_or(SqliteError::PastEnd)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let bytes = slice(bytes, at, 2)?;
    Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = slice(bytes, at, 4)?;
    Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(varint(&[0x81, 0x00], 0).unwrap(), (128, 2));
        assert_eq!(varint(&[0xff; 9], 0).unwrap(), (u64::MAX, 9));
        assert!(varint(&[0x80], 0).is_err());
        assert_eq!(integer(&[0xff, 0xfe]), -2);
        assert_eq!(integer(&[0x01, 0x00]), 256);
    }

    #[test]
    fn records() {
        // NULL, 1 byte, text of two bytes.
        assert_eq!(
            record(&[4, 0, 1, 17, 7, b'h', b'i']).unwrap(),
            [Value::Null, Value::Integer(7), Value::Bytes(b"hi".to_vec())]
        );
        assert!(record(&[3, 17, 17, b'h']).is_err());
    }
}
