//! Image references, normalised as Docker does it.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// A place for images: a registry's host and a path on it, as `docker.io` and `library/alpine`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// A repository from parts that are known to be right.
    pub fn new(host: impl Into<String>, path: impl Into<String>) -> Self {
        Self { host: host.into(), path: path.into() }
    }

    /// The registry as written in references, with its port if any; `docker.io` for Docker Hub.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path on the registry, `library/` included for Docker Hub's official images.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

/// A repository with a tag, a digest or both; `latest` where neither is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

impl Reference {
    /// A reference from parts that are known to be right.
    pub fn new(repository: Repository, tag: Option<String>, digest: Option<Digest>) -> Self {
        Self { repository, tag, digest }
    }

    /// The image's repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag: as written, or `latest` where neither tag nor digest was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was written.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The name to ask a registry for: the digest, otherwise the tag.
    pub fn target(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }

    /// The same reference, pinned to `digest`.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The short form that people write: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let text = self.to_string();
        let short = text.strip_prefix("docker.io/").unwrap_or(&text);
        match short.strip_prefix("library/") {
            Some(rest) if text.starts_with("docker.io/library/") && !rest.contains('/') => {
                rest.into()
            }
            _ => short.into(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// Reads a reference by the grammar of distribution/reference, with Docker's defaults.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = |reason| ReferenceError { text: text.chars().take(200).collect(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(
                    digest
                        .parse()
                        .map_err(|_| error("what follows `@` is not a SHA-256 digest"))?,
                ),
            ),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(error(
                "a tag has 1 to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two",
            ));
        }
        if name.is_empty() {
            return Err(error("the name is empty"));
        }
        if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(error("64 hex digits are an image's ID, not a name"));
        }
        let (host, path) = split_host(name);
        if !is_host(&host) {
            return Err(error("the registry's host has a character that no host has"));
        }
        if path.len() > 255 {
            return Err(error("the name is longer than 255 characters"));
        }
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(error("the name must be lower case"));
        }
        if !path.split('/').all(is_component) {
            return Err(error(
                "each part of the name has lower-case letters and digits, joined by `.`, `_`, `__` or `-`",
            ));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".into()),
            (tag, _) => tag.map(Into::into),
        };
        Ok(Self { repository: Repository { host, path }, tag, digest })
    }
}

/// The first part is a host if it has a dot, a port or a capital, or is `localhost`.
fn split_host(name: &str) -> (String, String) {
    let (host, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => ("docker.io", name),
    };
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    match host == "docker.io" && !path.contains('/') {
        true => (host.into(), format!("library/{path}")),
        false => (host.into(), path.into()),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let fits = address.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
            return fits && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let label = |label: &str| {
        let inner =
            !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        inner && !label.starts_with('-') && !label.ends_with('-')
    };
    name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit())
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !part.starts_with(alphanumeric) || !part.ends_with(alphanumeric) {
        return false;
    }
    part.split(alphanumeric)
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_dockers_defaults() {
        for (text, full, short) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("grafana/loki:3", "docker.io/grafana/loki:3", "grafana/loki:3"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            (
                "127.0.0.1:5000/library/busybox",
                "127.0.0.1:5000/library/busybox:latest",
                "127.0.0.1:5000/library/busybox:latest",
            ),
            ("ghcr.io/a/b/c:v1.2", "ghcr.io/a/b/c:v1.2", "ghcr.io/a/b/c:v1.2"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), short);
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = Digest::of("x");
        let reference: Reference = format!("alpine@{digest}").parse().unwrap();
        assert_eq!(reference.tag(), None);
        assert_eq!(reference.target(), digest.to_string());
    }

    #[test]
    fn wrong_names_say_what_is_wrong() {
        for (text, word) in [
            ("", "empty"),
            ("Alpine", "lower case"),
            ("a:b c", "tag"),
            ("a//b", "part"),
            ("a@sha256:1", "digest"),
            ("a_-b", "part"),
            ("-a.io:5/x", "host"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
