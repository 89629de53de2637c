//! The context, `--file` and `--build-context`.

use std::path::{Path, PathBuf};

use build::{Context, DockerfileSource, NamedContext};
use oci::Reference;

/// Larger texts on standard input are no Dockerfile.
pub const LARGEST_DOCKERFILE: usize = 16 << 20;

/// Reads the positional argument and `--file` together.
///
/// `stdin` is asked for the bytes of standard input where one of them is `-`.
///
/// # Errors
/// A sentence that names what is wrong or not there yet.
pub fn context(
    path: &str,
    file: Option<&str>,
    directory: &Path,
    stdin: &mut dyn FnMut() -> std::io::Result<Vec<u8>>,
) -> Result<(Context, DockerfileSource), String> {
    if path == "-" && file == Some("-") {
        return Err("the context and `--file` cannot both be standard input (`-`)".into());
    }
    if let Some(kind) = remote(path) {
        return Err(format!(
            "`{path}`: a context from {kind} is not there yet; clone or download it first"
        ));
    }
    let dockerfile = match file {
        None => DockerfileSource::Path(None),
        Some("-") => DockerfileSource::Text(text(&read(stdin)?)?.into()),
        Some(file) if remote(file).is_some() => {
            return Err(format!(
                "`--file {file}`: a Dockerfile from a URL is not there yet; download it first"
            ));
        }
        Some(file) => DockerfileSource::Path(Some(directory.join(file))),
    };
    if path == "-" {
        let bytes = read(stdin)?;
        if is_archive(&bytes) {
            return Err(
                "a context as an archive on standard input is not there yet; unpack it first"
                    .into(),
            );
        }
        if file.is_some() {
            return Err("the Dockerfile is given twice: by `--file` and on standard input".into());
        }
        return Ok((Context::Empty, DockerfileSource::Text(text(&bytes)?.into())));
    }
    // Without the `.` of `kiln build .`.
    let folder: PathBuf = directory.join(path).components().collect();
    match folder.metadata() {
        Err(error) => Err(format!("the context `{path}`: {error}")),
        Ok(metadata) if !metadata.is_dir() => Err(format!("the context `{path}` is not a folder")),
        Ok(_) => Ok((Context::Folder(folder), dockerfile)),
    }
}

fn read(stdin: &mut dyn FnMut() -> std::io::Result<Vec<u8>>) -> Result<Vec<u8>, String> {
    let bytes = stdin().map_err(|error| format!("reading standard input: {error}"))?;
    match bytes.len() > LARGEST_DOCKERFILE && !is_archive(&bytes) {
        true => Err("standard input is larger than 16 MiB and no Dockerfile".into()),
        false => Ok(bytes),
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.trim().is_empty() => {
            Err("the Dockerfile on standard input is empty".into())
        }
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err("the Dockerfile on standard input is not UTF-8".into()),
    }
}

/// Whether bytes begin as tar, gzip, bzip2, xz or zstd.
fn is_archive(bytes: &[u8]) -> bool {
    let magics: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    magics.iter().any(|magic| bytes.starts_with(magic)) || bytes.get(257..262) == Some(b"ustar")
}

/// What a remote context comes from; none if it is a path.
fn remote(text: &str) -> Option<&'static str> {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    match () {
        () if begins(&["git://", "git@", "ssh://", "github.com/"]) => Some("git"),
        () if begins(&["http://", "https://"]) => Some("a URL"),
        () => None,
    }
}

/// Reads `name=value` of `--build-context`.
///
/// # Errors
/// A sentence that names what is wrong or not there yet.
pub fn named(text: &str, directory: &Path) -> Result<(String, NamedContext), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .ok_or_else(|| format!("`{text}` is not `name=path`"))?;
    let reference: Reference = name
        .parse()
        .map_err(|error| format!("the name of a context is that of a stage or image: {error}"))?;
    let name = reference.familiar();
    let name = name.strip_suffix(":latest").unwrap_or(&name).to_owned();
    if let Some(image) = value.strip_prefix("docker-image://") {
        let reference = image.parse().map_err(|error| format!("`{text}`: {error}"))?;
        return Ok((name, NamedContext::Image(reference)));
    }
    if let Some(scheme) =
        ["oci-layout://", "target:"].iter().find(|scheme| value.starts_with(**scheme))
    {
        return Err(format!(
            "`{text}`: a context of kind `{scheme}` is not there yet; a folder and docker-image:// are"
        ));
    }
    if let Some(kind) = remote(value) {
        return Err(format!(
            "`{text}`: a context from {kind} is not there yet; clone or download it first"
        ));
    }
    let folder: PathBuf = directory.join(value).components().collect();
    match folder.metadata() {
        Err(error) => Err(format!("`{text}`: {error}")),
        Ok(metadata) if !metadata.is_dir() => Err(format!("`{text}`: it is not a folder")),
        Ok(_) => Ok((name, NamedContext::Folder(folder))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(
        path: &str,
        file: Option<&str>,
        input: &[u8],
    ) -> Result<(Context, DockerfileSource), String> {
        context(path, file, Path::new("/"), &mut || Ok(input.to_vec()))
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
            ("-", None, b"\x1f\x8b\x08....", "archive"),
            ("-", None, b" \n", "empty"),
            ("-", None, b"\xff", "UTF-8"),
            ("https://github.com/a/b.git", None, b"", "not there yet"),
            ("git@github.com:a/b", None, b"", "git"),
            ("/nowhere", None, b"", "`/nowhere`"),
            ("/proc/version", None, b"", "not a folder"),
            (".", Some("https://x/Dockerfile"), b"", "URL"),
        ] {
            let error = read_with(path, file, input).unwrap_err();
            assert!(error.contains(word), "{path}: {error}");
        }
    }

    #[test]
    fn named_contexts() {
        let read = |text: &str| named(text, Path::new("/"));
        assert_eq!(read("base=tmp").unwrap(), ("base".into(), NamedContext::Folder("/tmp".into())));
        let (name, context) = read("alpine:latest=docker-image://busybox:1").unwrap();
        assert_eq!(name, "alpine");
        assert!(matches!(context, NamedContext::Image(image) if image.familiar() == "busybox:1"));
        for (text, word) in [
            ("a", "name=path"),
            ("A=/tmp", "lower case"),
            ("a=oci-layout://x", "oci-layout://"),
            ("a=target:x", "target:"),
            ("a=https://x", "URL"),
            ("a=/nowhere", "a=/nowhere"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
