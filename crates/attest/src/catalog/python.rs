//! Python's packages: the core metadata that installers leave (`METADATA` of `*.dist-info`,
//! `PKG-INFO` of `*.egg-info`, or a file of that name).

use super::field;
use crate::Package;

/// True if a file describes an installed package.
pub(super) fn is_description(path: &str) -> bool {
    path.ends_with(".dist-info/METADATA")
        || path.ends_with(".egg-info/PKG-INFO")
        || path.ends_with(".egg-info")
}

/// The package of a description.
pub(super) fn packages(text: &str, path: &str) -> Vec<Package> {
    // The long description follows the first empty line.
    let head = text.split("\n\n").next().unwrap_or_default();
    let head = head.split("\r\n\r\n").next().unwrap_or_default();
    let Some(name) = field(head, "Name").filter(|name| !name.is_empty()) else { return Vec::new() };
    let license = field(head, "License-Expression").or_else(|| field(head, "License"));
    let usual = |license: &&str| !license.is_empty() && *license != "UNKNOWN";
    vec![Package {
        kind: "pypi",
        // purl-spec, type pypi: in lower case, `_` is `-`.
        name: name.to_lowercase().replace('_', "-"),
        version: field(head, "Version").unwrap_or_default().to_owned(),
        license: license.filter(usual).map(str::to_owned),
        source: path.to_owned(),
        ..Package::default()
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_no_field() {
        let text = "Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1.0\nLicense: UNKNOWN\n\nVersion: 2.0\n";
        let found = packages(text, "x.dist-info/METADATA");
        assert_eq!(found[0].purl(), "pkg:pypi/foo-bar@1.0");
        assert_eq!(found[0].license, None);
        assert!(packages("nothing", "x").is_empty());
        assert!(is_description("a/b.egg-info") && !is_description("a/METADATA"));
    }
}
