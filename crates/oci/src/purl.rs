//! Package URLs (purl-spec), those of images as BuildKit writes them.

use crate::{Platform, Reference, percent};

/// The package URL of an image in a registry.
pub fn image(name: &Reference, platform: Option<&Platform>) -> String {
    let plain = Reference::new(name.repository().clone(), None, None).familiar();
    let mut url = String::from("pkg:docker/");
    let parts: Vec<String> = plain.split('/').map(encode).collect();
    url.push_str(&parts.join("/"));
    let version = match (name.tag(), name.digest()) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, None) => Some("latest".into()),
        (None, Some(_)) => None,
    };
    if let Some(version) = version {
        url.push('@');
        url.push_str(&encode(&version));
    }
    let digest = name.digest().map(|digest| format!("digest={}", encode(&digest.to_string())));
    let platform =
        platform.map(|platform| format!("platform={}", encode(&platform.normalize().to_string())));
    let qualifiers: Vec<String> = digest.into_iter().chain(platform).collect();
    if !qualifiers.is_empty() {
        url.push('?');
        url.push_str(&qualifiers.join("&"));
    }
    url
}

/// Percent-encodes all but what a purl's parts may have (purl-spec, character encoding).
pub fn encode(text: &str) -> String {
    percent::encode(text, b":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_as_buildkit_names_them() {
        let platform: Platform = "linux/amd64".parse().unwrap();
        let digest = crate::Digest::of("x");
        for (name, url) in [
            ("shop:1", "pkg:docker/shop@1?platform=linux%2Famd64".to_owned()),
            ("shop", "pkg:docker/shop@latest?platform=linux%2Famd64".into()),
            (
                "localhost:5000/a/b:c",
                "pkg:docker/localhost:5000/a/b@c?platform=linux%2Famd64".into(),
            ),
            (
                &format!("shop@{digest}"),
                format!("pkg:docker/shop?digest={digest}&platform=linux%2Famd64"),
            ),
        ] {
            let reference: Reference = name.parse().unwrap();
            assert_eq!(image(&reference, Some(&platform)), url);
        }
    }
}
