//! The packages of an image, from its package databases and from data in its programs.

mod apk;
mod cargo;
mod dpkg;
mod elf;
mod error;
mod go;
mod npm;
mod python;
mod rpm;
mod sqlite;

use std::collections::BTreeSet;

use crate::{File, ImageFiles, Package, ScanResult};

/// The largest text that is read whole. Debian's status file of a full desktop has 5 MiB.
const TEXT_LIMIT: u64 = 64 << 20;
/// The largest description of one package.
const DESCRIPTION_LIMIT: u64 = 1 << 20;
/// The limit of listed packages.
const PACKAGE_LIMIT: usize = 200_000;

/// A distribution's own description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct System {
    /// `debian`, `alpine`.
    id: String,
    /// `12`, `3.20.1`.
    version: String,
}

impl System {
    /// The form used in purls.
    fn distro(&self) -> String {
        match (self.id.as_str(), self.version.as_str()) {
            ("", _) => String::new(),
            (id, "") => id.to_owned(),
            (id, version) => format!("{id}-{version}"),
        }
    }

    /// Its name, or a usual one where the image does not say.
    fn id_or(&self, usual: &str) -> String {
        if self.id.is_empty() { usual.to_owned() } else { self.id.clone() }
    }
}

/// Looks for packages in the files of an image.
pub fn scan(files: &dyn ImageFiles) -> ScanResult {
    let listed = files.list();
    let mut scan = Scan { files, packages: BTreeSet::new(), notes: Vec::new() };
    let system = scan.system(&listed);
    for file in &listed {
        if scan.packages.len() >= PACKAGE_LIMIT {
            scan.notes
                .push(format!("more than {PACKAGE_LIMIT} packages: the others are not listed"));
            break;
        }
        scan.look_at(file, &system);
    }
    let Scan { packages, notes, .. } = scan;
    ScanResult { packages: packages.into_iter().collect(), notes, system: system.distro() }
}

struct Scan<'a> {
    files: &'a dyn ImageFiles,
    packages: BTreeSet<Package>,
    notes: Vec<String>,
}

impl Scan<'_> {
    fn system(&mut self, listed: &[File]) -> System {
        let names = ["etc/os-release", "usr/lib/os-release"];
        let file = names.iter().find_map(|name| listed.iter().find(|file| file.path == *name));
        let text = file.and_then(|file| self.text(file, DESCRIPTION_LIMIT)).unwrap_or_default();
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
        };
        System { id: value("ID"), version: value("VERSION_ID") }
    }

    /// Reads a database or a description, by the place where it is kept.
    fn look_at(&mut self, file: &File, system: &System) {
        let path = file.path.as_str();
        let name = path.rsplit('/').next().unwrap_or(path);
        let found = if path == "var/lib/dpkg/status" {
            self.text(file, TEXT_LIMIT).map(|text| dpkg::packages(&text, path, system))
        } else if path.starts_with("var/lib/dpkg/status.d/") && !name.ends_with(".md5sums") {
            self.text(file, DESCRIPTION_LIMIT).map(|text| dpkg::packages(&text, path, system))
        } else if matches!(path, "lib/apk/db/installed" | "usr/lib/apk/db/installed") {
            self.text(file, TEXT_LIMIT).map(|text| apk::packages(&text, path, system))
        } else if rpm::is_database(path) {
            self.rpm(file, system)
        } else if python::is_description(path) {
            self.text(file, DESCRIPTION_LIMIT).map(|text| python::packages(&text, path))
        } else if npm::is_description(path) {
            self.text(file, DESCRIPTION_LIMIT).map(|text| npm::packages(&text, path))
        } else if file.is_executable {
            Some(self.program(file))
        } else {
            None
        };
        self.packages.extend(found.unwrap_or_default());
    }

    fn rpm(&mut self, file: &File, system: &System) -> Option<Vec<Package>> {
        if !file.path.ends_with(".sqlite") {
            let kind = if file.path.ends_with(".db") { "ndb" } else { "Berkeley DB" };
            self.notes.push(format!(
                "`/{}` is a database of rpm in the format {kind}, which is not read: its packages are missing here",
                file.path
            ));
            return None;
        }
        match rpm::packages(self.files, file, system) {
            Ok(packages) => Some(packages),
            Err(error) => {
                self.notes.push(format!("`/{}` could not be read: {error}", file.path));
                None
            }
        }
    }

    /// The packages that a program was built from.
    fn program(&mut self, file: &File) -> Vec<Package> {
        let mut packages = Vec::new();
        // A file that is no ELF program, or a damaged one, lists nothing.
        let Some(program) = elf::Program::open(self.files, file) else { return packages };
        for (section, read) in [
            (".dep-v0", cargo::packages as elf::ReadSection<Vec<Package>>),
            (".go.buildinfo", go::packages),
        ] {
            match program.section(section, &file.path, read) {
                Some(Ok(found)) => packages.extend(found),
                Some(Err(error)) => {
                    self.notes.push(format!("`/{}`, section {section}: {error}", file.path));
                }
                None => {}
            }
        }
        packages
    }

    /// A file as text. What is no UTF-8 in it is replaced: a name is more useful than none.
    fn text(&mut self, file: &File, limit: u64) -> Option<String> {
        if file.size > limit {
            let (path, size) = (&file.path, file.size);
            self.notes
                .push(format!("`/{path}` has {size} bytes and is not read: at most {limit} are"));
            return None;
        }
        match self.files.read_at(&file.path, 0, usize::try_from(file.size).ok()?) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => {
                self.notes.push(format!("`/{}` could not be read: {error}", file.path));
                None
            }
        }
    }
}

/// Paragraphs of `Key: value` lines, as dpkg and Python's metadata have them; of a value that goes
/// on in the next lines, the first line.
fn fields(paragraph: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = paragraph.lines().filter(|line| !line.starts_with([' ', '\t']));
    lines.filter_map(|line| line.split_once(':')).map(|(key, value)| (key, value.trim()))
}

/// The value of a field.
fn field<'a>(paragraph: &'a str, wanted: &str) -> Option<&'a str> {
    fields(paragraph).find(|(key, _)| key.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;

    /// Files in memory; programs are those whose paths are in `bin`.
    pub(crate) struct Memory(pub BTreeMap<String, Vec<u8>>);

    impl Memory {
        pub(crate) fn of(files: &[(&str, &[u8])]) -> Self {
            Self(files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect())
        }
    }

    impl ImageFiles for Memory {
        fn list(&self) -> Vec<File> {
            let file = |(path, bytes): (&String, &Vec<u8>)| File {
                path: path.clone(),
                size: bytes.len() as u64,
                is_executable: path.contains("bin/"),
            };
            self.0.iter().map(file).collect()
        }

        fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
            let bytes = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let end = start.saturating_add(length).min(bytes.len());
            Ok(bytes[start..end].to_vec())
        }
    }

    #[test]
    fn databases_are_found_by_their_places() {
        let files = Memory::of(&[
            ("etc/os-release", b"NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n"),
            ("var/lib/dpkg/status", b"Package: a\nStatus: install ok installed\nVersion: 1\n"),
            ("var/lib/dpkg/status.d/b", b"Package: b\nVersion: 2\nArchitecture: all\n"),
            ("var/lib/dpkg/status.d/b.md5sums", b"Package: c\n"),
            ("usr/lib/python3/dist-packages/d-3.dist-info/METADATA", b"Name: D_d\nVersion: 3\n"),
            ("srv/node_modules/e/package.json", br#"{"name":"e","version":"4"}"#),
            ("var/lib/rpm/Packages", b"old"),
            ("bin/sh", b"#!/bin/false"),
        ]);
        let found = scan(&files);
        let purls: Vec<String> = found.packages.iter().map(Package::purl).collect();
        assert_eq!(
            purls,
            [
                "pkg:deb/debian/a@1?distro=debian-12",
                "pkg:deb/debian/b@2?arch=all&distro=debian-12",
                "pkg:npm/e@4",
                "pkg:pypi/d-d@3",
            ]
        );
        assert_eq!(found.system, "debian-12");
        assert!(found.notes[0].contains("/var/lib/rpm/Packages") && found.notes.len() == 1);
    }

    #[test]
    fn a_file_that_is_too_large_is_named() {
        struct Large;
        impl ImageFiles for Large {
            fn list(&self) -> Vec<File> {
                let path = "lib/apk/db/installed".into();
                vec![File { path, size: TEXT_LIMIT + 1, is_executable: false }]
            }
            fn read_at(&self, _: &str, _: u64, _: usize) -> io::Result<Vec<u8>> {
                panic!("it is not read")
            }
        }
        let found = scan(&Large);
        assert!(found.packages.is_empty() && found.notes[0].contains("is not read"));
    }
}
