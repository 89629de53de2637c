//! Rust's packages: the list that `cargo auditable` puts into a program (section `.dep-v0`: JSON
//! under zlib).

use std::io::Read as _;

use serde::Deserialize;

use super::error::CatalogError;
use crate::Package;

/// The largest list, without compression.
const LIST_LIMIT: u64 = 16 << 20;

#[derive(Deserialize)]
struct AuditedCrates {
    packages: Vec<AuditedCrate>,
}

#[derive(Deserialize)]
struct AuditedCrate {
    name: String,
    version: String,
    /// Absent for those that are part of the program; others helped to build it.
    kind: Option<String>,
}

/// The packages of a section.
///
/// # Errors
/// If it is damaged.
pub(super) fn packages(section: &[u8], path: &str) -> Result<Vec<Package>, CatalogError> {
    let mut text = Vec::new();
    flate2::read::ZlibDecoder::new(section).take(LIST_LIMIT).read_to_end(&mut text)?;
    let list: AuditedCrates = serde_json::from_slice(&text)?;
    let runtime =
        |listed: &AuditedCrate| listed.kind.as_deref().is_none_or(|kind| kind == "runtime");
    let package = |listed: AuditedCrate| Package {
        kind: "cargo",
        name: listed.name,
        version: listed.version,
        source: path.to_owned(),
        ..Package::default()
    };
    Ok(list.packages.into_iter().filter(runtime).map(package).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::elf::tests::program;
    use super::super::tests::Memory;
    use super::*;

    #[test]
    fn what_is_in_the_program_is_listed() {
        let list = r#"{"packages":[{"name":"a","version":"1.0.0","source":"crates.io","root":true},{"name":"b","version":"2.0.0","source":"crates.io","kind":"build"}]}"#;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(list.as_bytes()).unwrap();
        let section = encoder.finish().unwrap();
        let bytes = program(".dep-v0", &section);
        let files = Memory::of(&[("usr/bin/a", &bytes), ("usr/bin/b", &program(".dep-v0", b"x"))]);
        let found = super::super::scan(&files);
        let purls: Vec<String> = found.packages.iter().map(Package::purl).collect();
        assert_eq!(purls, ["pkg:cargo/a@1.0.0"]);
        assert!(found.notes[0].contains("/usr/bin/b") && found.notes.len() == 1);
    }
}
