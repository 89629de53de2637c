//! Keys of sources (BuildKit, `solver/llbsolver/ops/source.go`).

use graph::{GitMtime, GitSource, HttpSource, ImageSource};
use oci::Digest;
use serde::Serialize;

use super::record_digest;
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
pub(super) fn pinned_http(source: &HttpSource) -> Option<Digest> {
    source.checksum.map(|checksum| http(source, checksum, None))
}

/// The record digest of a download, by its content and the `Last-Modified` that came with it
/// (`Mon, 02 Jan 2006 15:04:05 GMT`); a pinned one has none.
pub fn http_record(source: &HttpSource, content: Digest, modified: Option<&str>) -> Digest {
    record_digest(http(source, content, modified))
}

fn http(source: &HttpSource, checksum: Digest, last_mod_time: Option<&str>) -> Digest {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct HttpKey<'a> {
        filename: &'a str,
        perm: u32,
        #[serde(rename = "UID")]
        uid: u32,
        #[serde(rename = "GID")]
        gid: u32,
        checksum: Digest,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_mod_time: Option<&'a str>,
    }
    let filename = safe_file_name(&source.filename);
    let key = HttpKey { filename, perm: 0, uid: 0, gid: 0, checksum, last_mod_time };
    source_digest(&Digest::of(go_json::to_vec(&key)).to_string())
}

/// The name of a download's file, without any path.
pub fn safe_file_name(name: &str) -> &str {
    let name = name.trim().trim_end_matches('/');
    let name = name.rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") || name.chars().any(char::is_control) {
        return "download";
    }
    name
}

/// A checkout's key is the commit; only one that is named whole is known beforehand.
pub(super) fn pinned_git(source: &GitSource) -> Option<Digest> {
    let commit = &source.reference;
    is_commit(commit).then(|| git(source, commit, commit))
}

/// The record digest of a checkout, by its commit (a tag's object, where `.git` stays) and the
/// reference's whole name.
pub fn git_record(source: &GitSource, commit: &str, reference: &str) -> Digest {
    record_digest(git(source, commit, reference))
}

/// True if a text is a full commit hash, SHA-1 or SHA-256.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn git(source: &GitSource, commit: &str, reference: &str) -> Digest {
    let mut key = commit.to_owned();
    if source.keep_git_dir {
        key.push_str(".git");
        if !reference.is_empty() {
            key.push('#');
            key.push_str(reference);
        }
    }
    if !source.subdir.is_empty() {
        key.push(':');
        key.push_str(&source.subdir);
    }
    if source.skip_submodules {
        key.push_str("(skip-submodules)");
    }
    if source.mtime == GitMtime::Commit {
        key.push_str("(mtime=commit)");
    }
    source_digest(&key)
}

fn source_digest(key: &str) -> Digest {
    Digest::of(format!("buildkit.source.v0:{key}"))
}
