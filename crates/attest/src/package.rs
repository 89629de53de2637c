//! A package, as a database of an image names it.

use oci::purl::encode;

/// A package.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// The purl type: `deb`, `apk`, `rpm`, `pypi`, `npm`, `cargo`, `golang`.
    pub kind: &'static str,
    /// The purl namespace, as `debian` or `@scope`; empty for none. May have `/`.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its version, as its database writes it.
    pub version: String,
    /// Purl qualifiers, as `arch` and `distro`.
    pub qualifiers: Vec<(&'static str, String)>,
    /// The licence in its database; in general no SPDX expression.
    pub license: Option<String>,
    /// The file that names it.
    pub source: String,
}

impl Package {
    /// Its package URL (purl-spec).
    pub fn purl(&self) -> String {
        let mut url = format!("pkg:{}/", self.kind);
        for part in self.namespace.split('/').filter(|part| !part.is_empty()) {
            url.push_str(&encode(part));
            url.push('/');
        }
        url.push_str(&encode(&self.name));
        if !self.version.is_empty() {
            url.push('@');
            url.push_str(&encode(&self.version));
        }
        let mut qualifiers: Vec<String> = self
            .qualifiers
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| format!("{key}={}", encode(value)))
            .collect();
        qualifiers.sort();
        if !qualifiers.is_empty() {
            url.push('?');
            url.push_str(&qualifiers.join("&"));
        }
        url
    }
}

/// The packages of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanResult {
    /// Packages, sorted, each once.
    pub packages: Vec<Package>,
    /// Things that could not be read, one sentence each.
    pub notes: Vec<String>,
    /// The system's name and version, as `debian-12`; empty where the image does not say.
    pub system: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_those_of_the_specification() {
        let deb = Package {
            kind: "deb",
            namespace: "debian".into(),
            name: "libstdc++6".into(),
            version: "1:12.2.0-14+deb12u1".into(),
            qualifiers: vec![("distro", "debian-12".into()), ("arch", "amd64".into())],
            ..Package::default()
        };
        assert_eq!(
            deb.purl(),
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12"
        );
        let npm = Package {
            kind: "npm",
            namespace: "@babel".into(),
            name: "core".into(),
            version: "7.0.0".into(),
            ..Package::default()
        };
        assert_eq!(npm.purl(), "pkg:npm/%40babel/core@7.0.0");
        let go = Package {
            kind: "golang",
            namespace: "github.com/a".into(),
            name: "b".into(),
            ..Package::default()
        };
        assert_eq!(go.purl(), "pkg:golang/github.com/a/b");
    }
}
