//! RPM's packages: headers in `rpmdb.sqlite` (rpm 4.16 and later). The older formats, Berkeley DB
//! and ndb, are named and not read.

use super::System;
use super::error::CatalogError;
use super::sqlite::{Database, Value};
use crate::{File, ImageFiles, Package};

const FOLDERS: [&str; 3] = ["var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/"];

/// True if a file is a database of installed packages.
pub(super) fn is_database(path: &str) -> bool {
    let name = FOLDERS.iter().find_map(|folder| path.strip_prefix(folder));
    matches!(name, Some("rpmdb.sqlite" | "Packages" | "Packages.db"))
}

/// The packages of a database.
///
/// # Errors
/// If it is damaged, or has changes in a log beside it.
pub(super) fn packages(
    files: &dyn ImageFiles,
    file: &File,
    system: &System,
) -> Result<Vec<Package>, CatalogError> {
    let log = format!("{}-wal", file.path);
    if files.read_at(&log, 0, 1).is_ok_and(|bytes| !bytes.is_empty()) {
        return Err(CatalogError::Unmerged { path: log });
    }
    let mut packages = Vec::new();
    let mut damaged = None;
    Database::open(files, file)?.rows("Packages", &mut |row| {
        if let [_, Value::Bytes(header), ..] = row {
            match RpmHeader::parse(header) {
                Some(header) => packages.extend(header.package(&file.path, system)),
                None => damaged = Some(CatalogError::RpmHeader),
            }
        }
    })?;
    damaged.map_or(Ok(packages), Err)
}

/// The header of a package (rpm.org, "RPM V4 package format"): an index of tags, and their data.
struct RpmHeader<'a> {
    index: &'a [u8],
    data: &'a [u8],
}

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const SOURCE_RPM: u32 = 1044;

impl<'a> RpmHeader<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_be_bytes(*count)).ok()?.checked_mul(16)?;
        let size = usize::try_from(u32::from_be_bytes(*size)).ok()?;
        let (index, data) = rest.split_at_checked(count)?;
        Some(Self { index, data: data.get(..size)? })
    }

    /// The data of a tag from its beginning, and its type.
    fn tag(&self, wanted: u32) -> Option<(u32, &'a [u8])> {
        let number = |entry: &[u8], at: usize| {
            let bytes = entry.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        let entry = self.index.chunks_exact(16).find(|entry| number(entry, 0) == Some(wanted))?;
        let offset = usize::try_from(number(entry, 8)?).ok()?;
        Some((number(entry, 4)?, self.data.get(offset..)?))
    }

    /// A text (type 6), or the first of several (8, 9).
    fn text(&self, tag: u32) -> String {
        let text = self.tag(tag).filter(|(kind, _)| matches!(kind, 6 | 8 | 9));
        let bytes = text.and_then(|(_, data)| data.split(|byte| *byte == 0).next());
        String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
    }

    fn package(&self, path: &str, system: &System) -> Option<Package> {
        let name = self.text(NAME);
        // Keys that were imported are kept as packages.
        if name.is_empty() || name == "gpg-pubkey" {
            return None;
        }
        let epoch = self.tag(EPOCH).and_then(|(_, data)| data.first_chunk::<4>().copied());
        let epoch = epoch.map(u32::from_be_bytes).filter(|epoch| *epoch != 0);
        let version = match (self.text(VERSION), self.text(RELEASE)) {
            (version, release) if release.is_empty() => version,
            (version, release) => format!("{version}-{release}"),
        };
        Some(Package {
            kind: "rpm",
            namespace: system.id_or("rpm"),
            name,
            version,
            qualifiers: vec![
                ("arch", self.text(ARCH)),
                ("distro", system.distro()),
                ("epoch", epoch.map(|epoch| epoch.to_string()).unwrap_or_default()),
                ("upstream", self.text(SOURCE_RPM)),
            ],
            license: Some(self.text(LICENSE)).filter(|license| !license.is_empty()),
            source: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    fn header(tags: &[(u32, &str)]) -> Vec<u8> {
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (tag, text) in tags {
            for number in [*tag, 6, data.len() as u32, 1] {
                index.extend_from_slice(&number.to_be_bytes());
            }
            data.extend_from_slice(text.as_bytes());
            data.push(0);
        }
        let mut header = Vec::new();
        header.extend_from_slice(&(tags.len() as u32).to_be_bytes());
        header.extend_from_slice(&(data.len() as u32).to_be_bytes());
        [header, index, data].concat()
    }

    fn varint(number: usize) -> Vec<u8> {
        match number {
            0..128 => vec![number as u8],
            _ => vec![0x80 | (number >> 7) as u8, (number & 0x7f) as u8],
        }
    }

    /// A leaf of a table with cells of these records.
    fn leaf(size: usize, header: usize, cells: &[Vec<u8>]) -> Vec<u8> {
        let mut page = vec![0; size];
        page[header] = 13;
        page[header + 3..header + 5].copy_from_slice(&(cells.len() as u16).to_be_bytes());
        let mut end = size;
        for (index, cell) in cells.iter().enumerate() {
            end -= cell.len();
            page[end..end + cell.len()].copy_from_slice(cell);
            let at = header + 8 + 2 * index;
            page[at..at + 2].copy_from_slice(&(end as u16).to_be_bytes());
        }
        page
    }

    /// A database of 512-byte pages: the schema, one leaf whose row goes on on a third page.
    fn database(blob: &[u8]) -> Vec<u8> {
        let schema =
            [[6, 23, 29, 29, 1, 13].as_slice(), b"table", b"Packages", b"Packages", &[2]].concat();
        let schema = [varint(schema.len()), varint(1), schema].concat();
        let mut first = leaf(512, 100, &[schema]);
        first[..16].copy_from_slice(b"SQLite format 3\0");
        first[16..18].copy_from_slice(&512_u16.to_be_bytes());
        let kind = varint(12 + 2 * blob.len());
        let record = [vec![2 + kind.len() as u8, 0], kind, blob.to_vec()].concat();
        let (most, least) = (512 - 35, (512 - 12) * 32 / 255 - 23);
        let local = match least + (record.len() - least) % (512 - 4) {
            local if local <= most => local,
            _ => least,
        };
        let cell = [
            varint(record.len()),
            varint(7),
            record[..local].to_vec(),
            3_u32.to_be_bytes().to_vec(),
        ]
        .concat();
        let mut overflow = [&[0; 4], &record[local..]].concat();
        overflow.resize(512, 0);
        [first, leaf(512, 0, &[cell]), overflow].concat()
    }

    #[test]
    fn headers_are_found_in_rows_that_go_on_on_other_pages() {
        let license = "GPL ".repeat(150);
        let tags = [
            (NAME, "bash"),
            (VERSION, "5.2"),
            (RELEASE, "1.fc40"),
            (ARCH, "x86_64"),
            (LICENSE, license.as_str()),
        ];
        let path = "usr/lib/sysimage/rpm/rpmdb.sqlite";
        let bytes = database(&header(&tags));
        let files = Memory::of(&[(path, &bytes)]);
        let system = System { id: "fedora".into(), version: "40".into() };
        let file = files.list().pop().unwrap();
        let found = packages(&files, &file, &system).unwrap();
        assert_eq!(found[0].purl(), "pkg:rpm/fedora/bash@5.2-1.fc40?arch=x86_64&distro=fedora-40");
        assert_eq!(found[0].license.as_deref(), Some(license.as_str()));

        // A truncated database gives an error, wherever it is cut.
        for length in (0..bytes.len()).step_by(7) {
            let files = Memory::of(&[(path, &bytes[..length])]);
            assert!(packages(&files, &file, &system).is_err(), "{length}");
        }
        let long = "x".repeat(1200);
        let mut endless = database(&header(&[(NAME, "a"), (LICENSE, &long)]));
        endless.truncate(1536);
        endless[1024..1028].copy_from_slice(&3_u32.to_be_bytes());
        let files = Memory::of(&[(path, &endless)]);
        assert!(packages(&files, &file, &system).unwrap_err().to_string().contains("used twice"));
        let waiting = Memory::of(&[(path, &bytes), (&format!("{path}-wal"), b"x")]);
        assert!(packages(&waiting, &file, &system).unwrap_err().to_string().contains("-wal"));
    }
}
