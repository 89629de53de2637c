//! The packages of an image as an SPDX 2.3 document in JSON.

use oci::Digest;
use serde_json::{Value, json};

use crate::{Package, ScanResult};

/// The predicate type of a statement that holds an SPDX document (in-toto's spec/predicates).
pub const PREDICATE: &str = "https://spdx.dev/Document";

/// A document's subject.
#[derive(Clone, Copy, Debug)]
pub struct SpdxSubject<'a> {
    /// Name of the image, or of the target that was built.
    pub name: &'a str,
    /// The image's identity, for instance the digest of its layers.
    pub identity: &'a Digest,
    /// When it is written, RFC 3339 with seconds.
    pub created: &'a str,
    /// Name and version of the program that writes it.
    pub tool: &'a str,
}

/// Writes a document. The same packages of the same image at the same time are the same document.
pub fn document(found: &ScanResult, about: &SpdxSubject<'_>) -> Value {
    let root = "SPDXRef-DocumentRoot-Image";
    let mut packages = vec![json!({
        "name": about.name,
        "SPDXID": root,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    })];
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relatedSpdxElement": root,
        "relationshipType": "DESCRIBES",
    })];
    for found in &found.packages {
        let id = id(found);
        packages.push(package(found, &id));
        relationships.push(json!({
            "spdxElementId": root,
            "relatedSpdxElement": id,
            "relationshipType": "CONTAINS",
        }));
    }
    let listed = serde_json::to_vec(&packages).expect("keys are texts");
    let identity = format!("{}{}{}", about.identity, Digest::of(&listed), about.created);
    let mut creation = json!({
        "created": about.created,
        "creators": [format!("Tool: {}", about.tool)],
    });
    if !found.notes.is_empty() {
        creation["comment"] = json!(found.notes.join("\n"));
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": about.name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/kiln-{}", Digest::of(&identity).hex()),
        "creationInfo": creation,
        "packages": packages,
        "relationships": relationships,
    })
}

fn package(found: &Package, id: &str) -> Value {
    let name = match found.namespace.as_str() {
        // The namespace of a distribution's package is the distribution.
        "" => found.name.clone(),
        namespace if matches!(found.kind, "npm" | "golang") => {
            format!("{namespace}/{}", found.name)
        }
        _ => found.name.clone(),
    };
    let mut value = json!({
        "name": name,
        "SPDXID": id,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "sourceInfo": format!("named by /{}", found.source),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": found.purl(),
        }],
    });
    if !found.version.is_empty() {
        value["versionInfo"] = json!(found.version);
    }
    if let Some(license) = &found.license {
        value["licenseComments"] = json!(format!("declared as: {license}"));
    }
    value
}

/// An identifier of letters, digits, `.` and `-` (SPDX 2.3, 3.2), different for each package.
fn id(package: &Package) -> String {
    let plain: String = package
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    let unique = Digest::of(format!("{}\n{}", package.purl(), package.source)).hex();
    format!("SPDXRef-Package-{}-{plain}-{}", package.kind, &unique[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_what_readers_require() {
        let package = Package {
            kind: "deb",
            namespace: "debian".into(),
            name: "bash".into(),
            version: "5.2".into(),
            license: Some("GPL-3+".into()),
            source: "var/lib/dpkg/status".into(),
            ..Package::default()
        };
        let found = ScanResult {
            packages: vec![package],
            notes: vec!["`/x` could not be read".into()],
            system: String::new(),
        };
        let about = SpdxSubject {
            name: "shop:1",
            identity: &Digest::of("i"),
            created: "2026-01-01T00:00:00Z",
            tool: "kiln-0.1.0",
        };
        let value = document(&found, &about);
        assert_eq!(value["spdxVersion"], "SPDX-2.3");
        assert_eq!(value["creationInfo"]["comment"], "`/x` could not be read");
        let ids: Vec<&str> = value["packages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|package| package["SPDXID"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), 2);
        assert!(ids.iter().all(|id| {
            id.starts_with("SPDXRef-")
                && id.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
        }));
        assert_eq!(
            value["packages"][1]["externalRefs"][0]["referenceLocator"],
            "pkg:deb/debian/bash@5.2"
        );
        assert_eq!(value["relationships"][1]["relatedSpdxElement"], ids[1]);
        assert_eq!(value, document(&found, &about));
    }
}
