//! Go's modules: the build information in a program (section `.go.buildinfo`, as Go 1.18 and later
//! write it; `debug/buildinfo` has the format).

use super::error::{CatalogError, GoError};
use crate::Package;

/// The modules of a section.
///
/// # Errors
/// If it is damaged or of an older Go.
pub(super) fn packages(section: &[u8], path: &str) -> Result<Vec<Package>, CatalogError> {
    if !section.starts_with(b"\xff Go buildinf:") || section.len() < 32 {
        return Err(GoError::NoBuildInfo.into());
    }
    if section[15] & 2 == 0 {
        return Err(GoError::OldGo.into());
    }
    let (version, rest) = text(&section[32..])?;
    let (modules, _) = text(rest)?;
    // The list stands between two marks of 16 bytes.
    let length = modules.len();
    let framed = length >= 33 && modules[length - 17] == b'\n';
    let list = if framed { &modules[16..length - 16] } else { &[] };
    let mut packages = Vec::new();
    // A version as `go1.22.1`, perhaps followed by experiments.
    let version = String::from_utf8_lossy(version);
    let version = version.split(' ').next().unwrap_or_default();
    if let Some(version) = version.strip_prefix("go") {
        packages.push(module("stdlib", version, path));
    }
    for line in String::from_utf8_lossy(list).lines() {
        let mut words = line.split('\t');
        let kind = words.next().unwrap_or_default();
        let (Some(name), version) = (words.next(), words.next().unwrap_or_default()) else {
            continue;
        };
        match kind {
            "mod" | "dep" => packages.push(module(name, version, path)),
            // It takes the place of the one before.
            "=>" => {
                packages.pop();
                packages.push(module(name, version, path));
            }
            _ => {}
        }
    }
    Ok(packages)
}

/// A text with its length before it, and what follows.
fn text(bytes: &[u8]) -> Result<(&[u8], &[u8]), GoError> {
    let mut length: u64 = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        length |= u64::from(byte & 0x7f).checked_shl(7 * index as u32).unwrap_or(0);
        if byte & 0x80 == 0 {
            let rest = &bytes[index + 1..];
            let length = usize::try_from(length).map_err(|_| GoError::TextTooLong)?;
            return rest.split_at_checked(length).ok_or(GoError::TextCutOff);
        }
    }
    Err(GoError::LengthCutOff)
}

fn module(name: &str, version: &str, path: &str) -> Package {
    // purl-spec, type golang: in lower case.
    let name = name.to_lowercase();
    let (namespace, name) = match name.rsplit_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (String::new(), name),
    };
    Package {
        kind: "golang",
        namespace,
        name,
        // A build from a working copy has no version.
        version: if version == "(devel)" { String::new() } else { version.to_owned() },
        source: path.to_owned(),
        ..Package::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(version: &str, list: &str) -> Vec<u8> {
        let modules = format!("{}{list}{}", "a".repeat(16), "b".repeat(16));
        let mut bytes = b"\xff Go buildinf:\x08\x02".to_vec();
        bytes.resize(32, 0);
        bytes.push(version.len() as u8);
        bytes.extend_from_slice(version.as_bytes());
        bytes.extend_from_slice(&[(modules.len() & 0x7f) as u8 | 0x80, (modules.len() >> 7) as u8]);
        bytes.extend_from_slice(modules.as_bytes());
        bytes
    }

    #[test]
    fn modules_and_what_takes_their_place() {
        let list = "path\tcommand\nmod\tgithub.com/A/app\t(devel)\t\ndep\tgolang.org/x/sys\tv0.1.0\th1:x=\ndep\tgithub.com/old/b\tv1.0.0\n=>\tgithub.com/new/b\tv1.1.0\th1:y=\nbuild\tGOOS=linux\n";
        let bytes = section("go1.22.1 X:loopvar", list);
        let purls: Vec<String> =
            packages(&bytes, "bin/app").unwrap().iter().map(Package::purl).collect();
        assert_eq!(
            purls,
            [
                "pkg:golang/stdlib@1.22.1",
                "pkg:golang/github.com/a/app",
                "pkg:golang/golang.org/x/sys@v0.1.0",
                "pkg:golang/github.com/new/b@v1.1.0",
            ]
        );
        for length in 0..bytes.len() {
            assert!(packages(&bytes[..length], "").is_err(), "{length}");
        }
        let mut old = bytes;
        old[15] = 0;
        assert!(packages(&old, "").unwrap_err().to_string().contains("before 1.18"));
    }
}
