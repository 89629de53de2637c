//! Package databases and programs of an image: the first byte says which file it is.
#![no_main]

use std::io;

use attest::{File, ImageFiles};

const PLACES: [(&str, bool); 12] = [
    ("bin/program", true),
    ("var/lib/rpm/rpmdb.sqlite", false),
    ("var/lib/dpkg/status", false),
    ("lib/apk/db/installed", false),
    ("srv/node_modules/e/package.json", false),
    ("usr/lib/python3/dist-packages/d-3.dist-info/METADATA", false),
    ("etc/os-release", false),
    ("usr/lib/python3/dist-packages/d.egg-info/PKG-INFO", false),
    ("var/lib/dpkg/status.d/base", false),
    ("var/lib/rpm/Packages.db", false),
    ("srv/app/package.json", false),
    ("usr/lib/sysimage/rpm/rpmdb.sqlite", false),
];

struct One<'a>(&'static str, bool, &'a [u8]);

impl ImageFiles for One<'_> {
    fn list(&self) -> Vec<File> {
        let size = self.2.len() as u64;
        vec![File { path: self.0.into(), size, is_executable: self.1 }]
    }

    fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        if path != self.0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.2.len());
        let end = start.saturating_add(length).min(self.2.len());
        Ok(self.2[start..end].to_vec())
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let (path, is_executable) = PLACES[usize::from(*which) % PLACES.len()];
    let found = attest::scan(&One(path, is_executable, bytes));
    for package in &found.packages {
        assert!(package.purl().starts_with("pkg:"), "{package:?}");
    }
});
