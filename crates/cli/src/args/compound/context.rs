//! The context, `--file` and `--build-context`.

use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};

use build::{
    Context, ContextStream, DockerfileSource, GitContext, LONGEST_HEAD, NamedContext, OciLayout,
    is_archive,
};
use oci::{Digest, Reference};

use super::OptionError;

/// The largest Dockerfile on standard input, in bytes.
const LARGEST_DOCKERFILE: u64 = 16 << 20;

/// A function that opens standard input.
pub type Stdin<'a> = &'a mut dyn FnMut() -> Box<dyn Read + Send>;

/// The source of the files that COPY and ADD read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextFlag {
    /// A folder, a repository, a URL, or `-` for standard input.
    Named(String),
    /// An archive on this machine.
    Archive(PathBuf),
    /// A context that came with a request, with its Dockerfile.
    Opened(Context, DockerfileSource),
}

impl Default for ContextFlag {
    fn default() -> Self {
        Self::Named(".".into())
    }
}

/// A context that is not on this machine.
enum Remote {
    Git(GitContext),
    Http(String),
}

/// Reads the context and `--file` together. `stdin` is called only if one of them is `-`.
///
/// # Errors
/// If it cannot be read, or the Dockerfile is given twice or not at all.
pub fn read(
    context: &ContextFlag,
    file: Option<&str>,
    directory: &Path,
    stdin: Stdin<'_>,
) -> Result<(Context, DockerfileSource), OptionError> {
    match context {
        ContextFlag::Named(name) => named_context(name, file, directory, stdin),
        ContextFlag::Archive(path) => {
            let archive = std::fs::File::open(path).map_err(|source| {
                let doing = format!("reading `{}`", path.display());
                OptionError::Io { doing, source }
            })?;
            from_stdin(file, Box::new(archive))
        }
        ContextFlag::Opened(context, dockerfile) => Ok((context.clone(), dockerfile.clone())),
    }
}

/// Reads the positional argument and `--file` together, as `docker buildx build` does: an existing
/// folder takes precedence over an address.
fn named_context(
    path: &str,
    file: Option<&str>,
    directory: &Path,
    stdin: Stdin<'_>,
) -> Result<(Context, DockerfileSource), OptionError> {
    if path == "-" {
        return from_stdin(file, stdin());
    }
    // Collecting the components drops the `.` of `kiln build .`.
    let folder: PathBuf = directory.join(path).components().collect();
    let is_folder = folder.is_dir();
    let remote = if is_folder { None } else { remote(path)? };
    let context = match remote {
        Some(Remote::Git(git)) => Context::Git(git),
        Some(Remote::Http(url)) => Context::Http(url),
        None => match folder.metadata() {
            Err(source) => {
                return Err(OptionError::Io { doing: format!("the context `{path}`"), source });
            }
            Ok(_) if !is_folder => {
                return unusable(format!("the context `{path}` is not a folder"));
            }
            Ok(_) => Context::Folder(folder),
        },
    };
    let dockerfile = match file {
        None => DockerfileSource::Path(None),
        Some("-") => DockerfileSource::Text(text(Vec::new(), &mut *stdin())?.into()),
        Some(file) if is_web(file) => DockerfileSource::Http(file.into()),
        // A relative path is looked up inside a context that is not a local folder.
        Some(file) if !is_folder && !Path::new(file).is_absolute() => {
            DockerfileSource::InContext(file.into())
        }
        Some(file) => DockerfileSource::Path(Some(directory.join(file))),
    };
    Ok((context, dockerfile))
}

/// Reads a context that is elsewhere: never a path of this machine.
///
/// # Errors
/// If it is neither a repository nor a download.
pub fn remote_only(
    address: &str,
    file: Option<&str>,
) -> Result<(Context, DockerfileSource), OptionError> {
    let context = match remote(address)? {
        Some(Remote::Git(git)) => Context::Git(git),
        Some(Remote::Http(url)) => Context::Http(url),
        None => return Err(OptionError::malformed(address, "a repository or a download")),
    };
    let dockerfile = match file {
        None => DockerfileSource::Path(None),
        Some(file) => DockerfileSource::InContext(file.into()),
    };
    Ok((context, dockerfile))
}

/// A context that is a stream: an archive, or a Dockerfile alone.
///
/// # Errors
/// If it cannot be read, or the Dockerfile is given twice.
pub fn from_stdin(
    file: Option<&str>,
    stdin: Box<dyn Read + Send>,
) -> Result<(Context, DockerfileSource), OptionError> {
    if file == Some("-") {
        return unusable("the context and `--file` cannot both be standard input (`-`)");
    }
    let mut stdin = stdin;
    let mut head = Vec::new();
    (&mut stdin).take(LONGEST_HEAD as u64).read_to_end(&mut head).map_err(unreadable)?;
    if is_archive(&head) {
        let dockerfile = match file {
            None => DockerfileSource::Path(None),
            Some(file) if is_web(file) => DockerfileSource::Http(file.into()),
            Some(file) => DockerfileSource::InContext(file.into()),
        };
        let upload = ContextStream::new(std::io::Cursor::new(head).chain(stdin));
        return Ok((Context::Archive(upload), dockerfile));
    }
    if file.is_some() {
        return unusable("the Dockerfile is given twice: by `--file` and on standard input");
    }
    Ok((Context::Empty, DockerfileSource::Text(text(head, &mut *stdin)?.into())))
}

/// A Dockerfile on standard input, of which `head` has been read already.
fn text(mut head: Vec<u8>, stdin: &mut dyn Read) -> Result<String, OptionError> {
    stdin.take(LARGEST_DOCKERFILE + 1).read_to_end(&mut head).map_err(unreadable)?;
    if head.len() as u64 > LARGEST_DOCKERFILE {
        return unusable("standard input is larger than 16 MiB, so it is not a Dockerfile");
    }
    match String::from_utf8(head) {
        Ok(text) if text.trim().is_empty() => unusable("the Dockerfile on standard input is empty"),
        Ok(text) => Ok(text),
        Err(_) => unusable("the Dockerfile on standard input is not UTF-8"),
    }
}

fn unreadable(source: std::io::Error) -> OptionError {
    OptionError::Io { doing: "reading standard input".into(), source }
}

fn unusable<T>(reason: impl Into<Cow<'static, str>>) -> Result<T, OptionError> {
    Err(OptionError::Unusable(reason.into()))
}

/// The remote context that a text names; none for a path.
fn remote(text: &str) -> Result<Option<Remote>, OptionError> {
    let parsed = GitContext::parse(text);
    if let Some(git) = parsed.map_err(|error| OptionError::refused(text, error.to_string()))? {
        return Ok(Some(Remote::Git(git)));
    }
    Ok(is_web(text).then(|| Remote::Http(text.to_owned())))
}

fn is_web(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Reads `name=value` of `--build-context`.
///
/// # Errors
/// If the name is not one of a stage or image, or the context cannot be read.
pub fn named(text: &str, directory: &Path) -> Result<(String, NamedContext), OptionError> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    named_as(name, value, text, directory)
}

/// Reads a named context by its name and its address.
///
/// # Errors
/// The errors of [`named`].
pub fn named_of(
    name: &str,
    value: &str,
    directory: &Path,
) -> Result<(String, NamedContext), OptionError> {
    named_as(name, value, &format!("{name}={value}"), directory)
}

/// Reads a named context that is elsewhere: an image, a repository or a download, and never a path
/// of this machine.
///
/// # Errors
/// If it is something else.
pub fn named_elsewhere(name: &str, value: &str) -> Result<NamedContext, OptionError> {
    let refused = || {
        let reason = "a context of a client is an image, a repository, a download, or a folder \
            that the client sends";
        OptionError::refused(format!("{name}={value}"), reason)
    };
    if value.starts_with("docker-image://") || remote(value)?.is_some() {
        return named_as(name, value, value, Path::new("/")).map(|(_, context)| context);
    }
    Err(refused())
}

/// Reads a named context; errors name it by `text`.
fn named_as(
    name: &str,
    value: &str,
    text: &str,
    directory: &Path,
) -> Result<(String, NamedContext), OptionError> {
    if name.is_empty() || value.is_empty() {
        return Err(OptionError::malformed(text, "`name=path`"));
    }
    let name = context_name(name)?;
    let wrong = |error: OptionError| error.within(text);
    if let Some(image) = value.strip_prefix("docker-image://") {
        if image == "scratch" {
            return Ok((name, NamedContext::Scratch));
        }
        let reference = image.parse::<Reference>().map_err(|error| wrong(error.into()))?;
        return Ok((name, NamedContext::Image(reference)));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        return Ok((name, NamedContext::OciLayout(oci_layout(layout, directory).map_err(wrong)?)));
    }
    if value.starts_with("target:") {
        let reason = "`target:` is for bake files; name the stage in the Dockerfile";
        return Err(OptionError::refused(text, reason));
    }
    let folder: PathBuf = directory.join(value).components().collect();
    match remote(value)? {
        Some(Remote::Git(git)) => return Ok((name, NamedContext::Git(git.source))),
        Some(Remote::Http(url)) => return Ok((name, NamedContext::Http(url))),
        None => (),
    }
    match folder.metadata() {
        Err(source) => Err(OptionError::Io { doing: format!("`{text}`"), source }),
        Ok(metadata) if !metadata.is_dir() => Err(OptionError::refused(text, "it is not a folder")),
        Ok(_) => Ok((name, NamedContext::Folder(folder))),
    }
}

/// A context's name as references are compared, its platform (`name::linux/arm64`) kept.
pub fn context_name(text: &str) -> Result<String, OptionError> {
    let (name, platform) = match text.split_once("::") {
        Some((name, platform)) => (name, Some(platform)),
        None => (text, None),
    };
    let reference: Reference = name.parse().map_err(|error| {
        let text = format!("the name of a context is that of a stage or image: {error}");
        OptionError::Unusable(text.into())
    })?;
    let name = reference.familiar();
    let name = name.strip_suffix(":latest").unwrap_or(&name);
    match platform {
        None => Ok(name.to_owned()),
        Some(text) => {
            let platform: Result<oci::Platform, OptionError> =
                text.parse().map_err(OptionError::Platform);
            let platform = platform.map_err(|error| error.within(format!("{name}::{text}")))?;
            Ok(format!("{name}::{}", platform.normalize()))
        }
    }
}

/// `path[:tag][@digest]`
fn oci_layout(text: &str, directory: &Path) -> Result<OciLayout, OptionError> {
    let (path, digest) = match text.split_once('@') {
        Some((path, digest)) => {
            let parsed: Result<Digest, OptionError> = digest.parse().map_err(OptionError::Digest);
            (path, Some(parsed.map_err(|error| error.within(digest))?))
        }
        None => (text, None),
    };
    let (path, tag) = path.split_once(':').unwrap_or((path, "latest"));
    let folder: PathBuf = directory.join(path).components().collect();
    if folder.join("index.json").is_file() || digest.is_some() && folder.is_dir() {
        Ok(OciLayout { folder, tag: tag.to_owned(), digest })
    } else {
        let reason = "it is not an OCI layout: it has no index.json";
        Err(OptionError::refused(folder.display().to_string(), reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(
        path: &str,
        file: Option<&str>,
        input: &[u8],
    ) -> Result<(Context, DockerfileSource), OptionError> {
        let input = input.to_vec();
        let mut stdin = || Box::new(std::io::Cursor::new(input.clone())) as Box<dyn Read + Send>;
        named_context(path, file, Path::new("/"), &mut stdin)
    }

    #[test]
    fn contexts() {
        assert_eq!(
            read_with("tmp", Some("x/Dockerfile"), b"").unwrap(),
            (Context::Folder("/tmp".into()), DockerfileSource::Path(Some("/x/Dockerfile".into())))
        );
        let text = || DockerfileSource::Text("FROM a".into());
        assert_eq!(read_with("-", None, b"FROM a").unwrap(), (Context::Empty, text()));
        assert_eq!(
            read_with("/tmp", Some("-"), b"FROM a").unwrap(),
            (Context::Folder("/tmp".into()), text())
        );
        for (path, file, input, word) in [
            ("-", Some("-"), &b""[..], "both"),
            ("-", Some("a"), b"FROM a", "twice"),
            ("-", None, b" \n", "empty"),
            ("-", None, b"\xff", "UTF-8"),
            ("https://github.com/a/b.git?x=y", None, b"", "unexpected query"),
            ("/nowhere", None, b"", "`/nowhere`"),
            ("/proc/version", None, b"", "not a folder"),
        ] {
            let error = read_with(path, file, input).unwrap_err().to_string();
            assert!(error.contains(word), "{path}: {error}");
        }
    }

    #[test]
    fn remote_contexts() {
        let in_context = |name: &str| DockerfileSource::InContext(name.into());
        let (context, dockerfile) = read_with("git@h:r#v1:d", Some("a/Dockerfile"), b"").unwrap();
        assert!(matches!(&context, Context::Git(git) if git.source.subdir == "d"), "{context:?}");
        assert_eq!(dockerfile, in_context("a/Dockerfile"));
        assert_eq!(
            read_with("https://h/x.tar", Some("/tmp/Dockerfile"), b"").unwrap(),
            (
                Context::Http("https://h/x.tar".into()),
                DockerfileSource::Path(Some("/tmp/Dockerfile".into()))
            )
        );
        let (context, dockerfile) = read_with("-", Some("x"), b"\x1f\x8b\x08....").unwrap();
        assert!(matches!(context, Context::Archive(_)));
        assert_eq!(dockerfile, in_context("x"));
        let url = "https://h/Dockerfile";
        assert_eq!(
            read_with("/tmp", Some(url), b"").unwrap().1,
            DockerfileSource::Http(url.into())
        );
    }

    #[test]
    fn named_contexts() {
        let read = |text: &str| named(text, Path::new("/"));
        assert_eq!(read("base=tmp").unwrap(), ("base".into(), NamedContext::Folder("/tmp".into())));
        for (text, name) in [
            ("a=https://h/x.tar", "a"),
            ("a=git@h:r", "a"),
            ("a=docker-image://scratch", "a"),
            ("alpine:latest::linux/arm64/v8=/tmp", "alpine::linux/arm64"),
        ] {
            assert_eq!(read(text).unwrap().0, name, "{text}");
        }
        let (name, context) = read("alpine:latest=docker-image://busybox:1").unwrap();
        assert_eq!(name, "alpine");
        assert!(matches!(context, NamedContext::Image(image) if image.familiar() == "busybox:1"));
        for (text, word) in [
            ("a", "name=path"),
            ("A=/tmp", "lower case"),
            ("a=oci-layout://x", "not an OCI layout"),
            ("a=oci-layout://x@sha256:1", "sha256:1"),
            ("a=target:x", "target:"),
            ("a::b=/tmp", "a::b"),
            ("a=git://h/r?x=y", "unexpected query"),
            ("a=/nowhere", "a=/nowhere"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
