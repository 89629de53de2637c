//! Addresses of repositories, as sources of ADD and as contexts.

use graph::{GitMtime, GitSource};

use crate::error::Error;
use crate::path;

/// A repository with what its address says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitAddress {
    /// The repository. What the address says of `.git` is not in it.
    pub source: GitSource,
    /// The address's choice for `.git` (`?keep-git-dir=`).
    pub keep_git_dir: Option<bool>,
    /// The address's choice for the files' times (`?mtime=`).
    pub mtime: Option<GitMtime>,
}

impl GitAddress {
    /// Reads the address of a repository as a context; none where a text is something else.
    /// Contexts know a short form too, `github.com/owner/name`.
    ///
    /// # Errors
    /// If it is one, and its query makes no sense.
    pub fn of_context(text: &str) -> Result<Option<Self>, Error> {
        match text.strip_prefix("github.com/") {
            Some(_) => read(&format!("https://{text}"), true),
            None => parse(text),
        }
    }

    /// The repository as a context.
    pub fn into_context(self) -> GitSource {
        let mut source = self.source;
        source.keep_git_dir = self.keep_git_dir.unwrap_or_default();
        source.mtime = self.mtime.unwrap_or_default();
        source
    }
}

/// Reads the address of a repository; none where a text is something else.
pub(super) fn parse(text: &str) -> Result<Option<GitAddress>, Error> {
    read(text, false)
}

/// Like [`parse`]; `any_path` also accepts web addresses that do not end in `.git`.
fn read(text: &str, any_path: bool) -> Result<Option<GitAddress>, Error> {
    if text.starts_with("./") || text.starts_with("../") {
        return Ok(None);
    }
    let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (address, query) = address.split_once('?').unwrap_or((address, ""));
    let known = match address.split_once("://") {
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            // Only the ending tells a repository from a file.
            "http" | "https" => rest.contains('/') && (any_path || rest.ends_with(".git")),
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
            ..GitSource::default()
        },
        keep_git_dir: None,
        mtime: None,
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
                return Err(Error::new(format!("query \"{key}\" has multiple values"))
                    .hint("leave all but one out"));
            }
            let flag = matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !flag {
                return Err(Error::new(format!("query \"{key}\" has no value"))
                    .hint(format!("write {key}=VALUE")));
            }
            match key.as_str() {
                "ref" => set("ref", &mut self.source.reference, value)?,
                "tag" => tag = Some(prefixed("refs/tags/", value)),
                "branch" => branch = Some(prefixed("refs/heads/", value)),
                "subdir" => set("subdir", &mut self.source.subdir, relative(&value))?,
                "checksum" | "commit" => self.source.checksum = Some(value),
                "keep-git-dir" => self.keep_git_dir = Some(boolean(&key, &value)?),
                "submodules" => self.source.skip_submodules = !boolean(&key, &value)?,
                "mtime" => self.mtime = Some(mtime(&value)?),
                "fetch-by-commit" => self.source.fetch_by_commit = boolean(&key, &value)?,
                _ => {
                    return Err(Error::new(format!("unexpected query \"{key}\"")).suggest(
                        &key,
                        [
                            "ref",
                            "tag",
                            "branch",
                            "subdir",
                            "checksum",
                            "commit",
                            "keep-git-dir",
                            "submodules",
                            "mtime",
                            "fetch-by-commit",
                        ],
                    ));
                }
            }
            seen.push(key);
        }
        if tag.is_some() && branch.is_some() {
            return Err(Error::new("branch conflicts with tag").hint("leave one of them out"));
        }
        match tag.or(branch) {
            Some(reference) => set("ref", &mut self.source.reference, reference),
            None => Ok(()),
        }
    }
}

fn set(what: &str, place: &mut String, value: String) -> Result<(), Error> {
    if !place.is_empty() && *place != value {
        return Err(Error::new(format!("{what} conflicts: \"{place}\" vs \"{value}\""))
            .hint("the address says it twice: leave one out"));
    }
    *place = value;
    Ok(())
}

fn boolean(key: &str, value: &str) -> Result<bool, Error> {
    match value {
        "" => Ok(true),
        value => {
            oci::parse_bool(value).ok_or_else(|| format!("invalid {key} value: \"{value}\"").into())
        }
    }
}

fn mtime(value: &str) -> Result<GitMtime, Error> {
    match value {
        "checkout" => Ok(GitMtime::Checkout),
        "commit" => Ok(GitMtime::Commit),
        _ => {
            Err(format!("invalid mtime value: \"{value}\" (must be \"checkout\" or \"commit\")")
                .into())
        }
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
    String::from_utf8_lossy(&oci::percent::decode(text)).into_owned()
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

    #[test]
    fn queries() {
        let read = |text: &str| parse(text).unwrap().unwrap();
        let address = read("git://h/r?mtime=commit&fetch-by-commit&commit=abc&submodules=0");
        assert_eq!(address.mtime, Some(GitMtime::Commit));
        assert!(address.source.fetch_by_commit && address.source.skip_submodules);
        assert_eq!(address.source.checksum.as_deref(), Some("abc"));
        let context = read("git://h/r?keep-git-dir=true&mtime=checkout").into_context();
        assert!(context.keep_git_dir && context.mtime == GitMtime::Checkout);
        for text in
            ["git://h/r?mtime=now", "git://h/r?fetch-by-commit=x", "git://h/r?tag=a&branch=b"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn contexts_have_a_short_form() {
        for (text, remote, reference) in [
            ("github.com/o/r", "https://github.com/o/r", ""),
            ("github.com/o/r.git#v1", "https://github.com/o/r.git", "v1"),
            ("https://h/r.git#v1", "https://h/r.git", "v1"),
        ] {
            let source = GitAddress::of_context(text).unwrap().unwrap().into_context();
            assert_eq!((source.remote.as_str(), source.reference.as_str()), (remote, reference));
        }
        for text in ["github.com", "https://github.com/o/r", "./github.com/o/r"] {
            assert_eq!(GitAddress::of_context(text).unwrap(), None, "{text}");
        }
        assert_eq!(parse("github.com/o/r").unwrap(), None);
    }
}
