//! Keys of sources (interop reference, 2.2).

use graph::{GitSource, HttpSource, ImageSource};
use oci::Digest;
use serde::Serialize;

use crate::go_json;

/// The operation digests of an image: by manifest, and by layers. Records may have either.
pub(super) fn image(source: &ImageSource) -> Vec<Digest> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct ManifestKey<'a> {
        digest: Digest,
        #[serde(rename = "OS")]
        os: &'a str,
        arch: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        variant: &'a str,
        #[serde(rename = "OSVersion", skip_serializing_if = "str::is_empty")]
        os_version: &'a str,
        #[serde(rename = "OSFeatures", skip_serializing_if = "<[String]>::is_empty")]
        os_features: &'a [String],
    }
    let platform = source.platform.normalize();
    let root = source.reference.digest().unwrap_or(source.manifest);
    let key = ManifestKey {
        digest: root,
        os: &platform.os,
        arch: &platform.architecture,
        variant: &platform.variant,
        os_version: &platform.os_version,
        os_features: &platform.os_features,
    };
    let by_manifest = Digest::of(go_json::to_vec(&key));
    let by_layers = chain_id(&source.diff_ids);
    by_layers
        .into_iter()
        .chain([by_manifest])
        .map(|digest| source_digest(&digest.to_string()))
        .collect()
}

/// OCI's chain ID (image-spec, config.md); none for an image without layers.
pub fn chain_id(diff_ids: &[Digest]) -> Option<Digest> {
    diff_ids.iter().copied().reduce(|below, layer| Digest::of(format!("{below} {layer}")))
}

/// A download's key needs the answer's digest; only one that was pinned is known beforehand.
pub(super) fn http(source: &HttpSource) -> Option<Digest> {
    #[derive(Serialize)]
    struct HttpKey<'a> {
        #[serde(rename = "Filename")]
        filename: &'a str,
        #[serde(rename = "Perm")]
        perm: u32,
        #[serde(rename = "UID")]
        uid: u32,
        #[serde(rename = "GID")]
        gid: u32,
        #[serde(rename = "Checksum")]
        checksum: Digest,
    }
    let checksum = source.checksum?;
    let key = HttpKey { filename: &source.filename, perm: 0, uid: 0, gid: 0, checksum };
    Some(source_digest(&Digest::of(go_json::to_vec(&key)).to_string()))
}

/// A checkout's key is the commit; only one that is named whole is known beforehand.
pub(super) fn git(source: &GitSource) -> Option<Digest> {
    let commit = Some(&source.reference)
        .filter(|text| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let mut key = commit.clone();
    if source.keep_git_dir {
        key.push_str(".git#");
        key.push_str(&source.reference);
    }
    if !source.subdir.is_empty() {
        key.push(':');
        key.push_str(&source.subdir);
    }
    if source.skip_submodules {
        key.push_str("(skip-submodules)");
    }
    Some(source_digest(&key))
}

fn source_digest(key: &str) -> Digest {
    Digest::of(format!("buildkit.source.v0:{key}"))
}
