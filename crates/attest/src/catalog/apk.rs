//! Alpine's packages: `/lib/apk/db/installed`, paragraphs of one-letter fields (apk(5)).

use super::System;
use crate::Package;

/// The packages of a database.
pub(super) fn packages(text: &str, path: &str, system: &System) -> Vec<Package> {
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty());
    paragraphs.filter_map(|paragraph| package(paragraph, path, system)).collect()
}

fn package(paragraph: &str, path: &str, system: &System) -> Option<Package> {
    let value = |letter: &str| {
        let line = paragraph.lines().find_map(|line| line.strip_prefix(letter)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    let (name, origin) = (value("P"), value("o"));
    if name.is_empty() {
        return None;
    }
    let upstream = if origin == name { String::new() } else { origin };
    Some(Package {
        kind: "apk",
        namespace: system.id_or("alpine"),
        version: value("V"),
        qualifiers: vec![("arch", value("A")), ("distro", system.distro()), ("upstream", upstream)],
        license: Some(value("L")).filter(|license| !license.is_empty()),
        source: path.to_owned(),
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_letters() {
        let text = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\n\nP:busybox-binsh\nV:1\no:busybox\n\n";
        let system = System { id: "alpine".into(), version: "3.20.1".into() };
        let found = packages(text, "lib/apk/db/installed", &system);
        assert_eq!(
            found[0].purl(),
            "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1"
        );
        assert_eq!(found[0].license.as_deref(), Some("MIT"));
        assert!(found[1].purl().ends_with("upstream=busybox"), "{}", found[1].purl());
    }
}
