//! Debian's packages: `/var/lib/dpkg/status`, and the files of `status.d` in distroless images
//! (deb-control(5)).

use super::{System, field};
use crate::Package;

/// The installed packages of a status file.
pub(super) fn packages(text: &str, path: &str, system: &System) -> Vec<Package> {
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty());
    paragraphs.filter_map(|paragraph| package(paragraph, path, system)).collect()
}

fn package(paragraph: &str, path: &str, system: &System) -> Option<Package> {
    // Removed packages stay in the file while their configuration does; in `status.d` there is no
    // status.
    if field(paragraph, "Status").is_some_and(|status| !status.ends_with(" installed")) {
        return None;
    }
    let mut qualifiers = vec![
        ("arch", field(paragraph, "Architecture").unwrap_or_default().to_owned()),
        ("distro", system.distro()),
    ];
    // `Source: name (version)`, where they are others than the package's.
    if let Some(source) = field(paragraph, "Source") {
        let upstream = match source.split_once(" (") {
            Some((name, version)) => format!("{name}@{}", version.trim_end_matches(')')),
            None => source.to_owned(),
        };
        qualifiers.push(("upstream", upstream));
    }
    Some(Package {
        kind: "deb",
        namespace: system.id_or("debian"),
        name: field(paragraph, "Package").filter(|name| !name.is_empty())?.to_owned(),
        version: field(paragraph, "Version").unwrap_or_default().to_owned(),
        qualifiers,
        license: None,
        source: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_not_listed() {
        let text = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nSource: bash-src (5.2-1)\nVersion: 5.2-1+b2\nDescription: shell\n more\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nNonsense\n";
        let system = System { id: "ubuntu".into(), version: "24.04".into() };
        let found = packages(text, "var/lib/dpkg/status", &system);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].purl(),
            "pkg:deb/ubuntu/bash@5.2-1%2Bb2?arch=amd64&distro=ubuntu-24.04&upstream=bash-src%405.2-1"
        );
    }
}
