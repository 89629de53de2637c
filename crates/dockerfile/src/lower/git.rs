//! Repositories as sources of ADD.

use graph::GitSource;

use crate::error::Error;
use crate::path;

/// A repository with what its address says of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GitAddress {
    pub source: GitSource,
    /// What the address says of `.git`.
    pub keep_git_dir: Option<bool>,
}

/// Reads the address of a repository; none where a text is something else.
pub(super) fn parse(text: &str) -> Result<Option<GitAddress>, Error> {
    if text.starts_with("./") || text.starts_with("../") {
        return Ok(None);
    }
    let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (address, query) = address.split_once('?').unwrap_or((address, ""));
    let known = match address.split_once("://") {
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            // Only the ending tells a repository from a file.
            "http" | "https" => rest.contains('/') && rest.ends_with(".git"),
            "git" | "ssh" => true,
            _ => false,
        },
        None => is_scp_style(address),
    };
    if !known {
        return Ok(None);
    }
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let mut git = GitAddress {
        source: GitSource {
            remote: address.into(),
            reference: decode(reference),
            subdir: relative(&decode(subdir)),
            keep_git_dir: false,
            checksum: None,
            skip_submodules: false,
        },
        keep_git_dir: None,
    };
    git.read_query(query)?;
    Ok(Some(git))
}

impl GitAddress {
    fn read_query(&mut self, query: &str) -> Result<(), Error> {
        let (mut tag, mut branch) = (None, None);
        let mut seen: Vec<String> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (decode(key), decode(value));
            if seen.contains(&key) {
                return Err(format!("query \"{key}\" has multiple values").into());
            }
            let flag = matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !flag {
                return Err(format!("query \"{key}\" has no value").into());
            }
            match key.as_str() {
                "ref" => set("ref", &mut self.source.reference, value)?,
                "tag" => tag = Some(prefixed("refs/tags/", value)),
                "branch" => branch = Some(prefixed("refs/heads/", value)),
                "subdir" => set("subdir", &mut self.source.subdir, relative(&value))?,
                "checksum" | "commit" => self.source.checksum = Some(value),
                "keep-git-dir" => self.keep_git_dir = Some(boolean(&key, &value)?),
                "submodules" => self.source.skip_submodules = !boolean(&key, &value)?,
                "mtime" if value == "checkout" => {}
                "mtime" => {
                    return Err(format!("mtime value \"{value}\" is not supported").into());
                }
                "fetch-by-commit" if !boolean(&key, &value)? => {}
                "fetch-by-commit" => return Err("fetch-by-commit is not supported".into()),
                _ => {
                    return Err(Error::new(format!("unexpected query \"{key}\"")).suggest(
                        &key,
                        [
                            "ref",
                            "tag",
                            "branch",
                            "subdir",
                            "checksum",
                            "keep-git-dir",
                            "submodules",
                        ],
                    ));
                }
            }
            seen.push(key);
        }
        if tag.is_some() && branch.is_some() {
            return Err("branch conflicts with tag".into());
        }
        match tag.or(branch) {
            Some(reference) => set("ref", &mut self.source.reference, reference),
            None => Ok(()),
        }
    }
}

fn set(what: &str, place: &mut String, value: String) -> Result<(), Error> {
    if !place.is_empty() && *place != value {
        return Err(format!("{what} conflicts: \"{place}\" vs \"{value}\"").into());
    }
    *place = value;
    Ok(())
}

fn boolean(key: &str, value: &str) -> Result<bool, Error> {
    match value {
        "" => Ok(true),
        value => crate::go::parse_bool(value)
            .ok_or_else(|| format!("invalid {key} value: \"{value}\"").into()),
    }
}

fn prefixed(prefix: &str, name: String) -> String {
    match name.starts_with(prefix) {
        true => name,
        false => format!("{prefix}{name}"),
    }
}

fn relative(path: &str) -> String {
    path::join("/", path).trim_start_matches('/').into()
}

/// `user@host:path`
fn is_scp_style(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    word(user, "-_") && word(host, "-.")
}

/// Resolves `%41` and the like.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
            }
            (byte, _) => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_files() {
        for (text, remote, reference, subdir) in [
            ("https://h/o/r.git", "https://h/o/r.git", "", ""),
            ("https://h/r.git#v1:/a/../b", "https://h/r.git", "v1", "b"),
            ("https://h/r.git?tag=v1&subdir=x", "https://h/r.git", "refs/tags/v1", "x"),
            ("git@github.com:o/r.git#main", "git@github.com:o/r.git", "main", ""),
            ("ssh://git@h/r", "ssh://git@h/r", "", ""),
            ("git://h/r", "git://h/r", "", ""),
        ] {
            let source = parse(text).unwrap().unwrap().source;
            let found = (source.remote, source.reference, source.subdir);
            assert_eq!(found, (remote.into(), reference.into(), subdir.into()), "{text}");
        }
        for text in
            ["a.git", "https://h/x", "http://h/x.tar?y=.git", "ftp://h/r.git", "a@b", "./a@b:c"]
        {
            assert_eq!(parse(text).unwrap(), None, "{text}");
        }
        for text in ["https://h/r.git?rf=x", "git://h/r?ref=a#b", "git://h/r?ref"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
