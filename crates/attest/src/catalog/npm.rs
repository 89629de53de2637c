//! npm's packages: `package.json` directly in a folder of `node_modules`.

use serde_json::Value;

use crate::Package;

/// True if a file describes an installed package.
pub(super) fn is_description(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    if parts.next() != Some("package.json") {
        return false;
    }
    let (name, parent) = (parts.next(), parts.next());
    match (name, parent) {
        (Some(_), Some("node_modules")) => true,
        (Some(_), Some(scope)) if scope.starts_with('@') => parts.next() == Some("node_modules"),
        _ => false,
    }
}

/// The package of a description.
pub(super) fn packages(text: &str, path: &str) -> Vec<Package> {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return Vec::new() };
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let whole = text("name");
    let (namespace, name) = match whole.split_once('/') {
        Some((scope, name)) if scope.starts_with('@') => (scope.to_owned(), name.to_owned()),
        _ => (String::new(), whole),
    };
    if name.is_empty() {
        return Vec::new();
    }
    let license = value["license"].as_str().or_else(|| value["license"]["type"].as_str());
    vec![Package {
        kind: "npm",
        namespace,
        name,
        version: text("version"),
        license: license.map(str::to_owned),
        source: path.to_owned(),
        ..Package::default()
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_namespaces() {
        let found = packages(
            r#"{"name":"@babel/core","version":"7.1.0","license":{"type":"MIT"}}"#,
            "srv/node_modules/@babel/core/package.json",
        );
        assert_eq!(found[0].purl(), "pkg:npm/%40babel/core@7.1.0");
        assert_eq!(found[0].license.as_deref(), Some("MIT"));
        assert!(packages("[", "x").is_empty() && packages("{}", "x").is_empty());
        assert!(is_description("node_modules/a/package.json"));
        assert!(is_description("a/node_modules/@s/b/package.json"));
        assert!(!is_description("node_modules/a/lib/package.json"));
        assert!(!is_description("app/package.json"));
    }
}
