//! The project that is built repeatedly: changes of all kinds, always the same files, and a background process that no
//! command waits for.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context as _;
use fixtures::tar::{self, Kind};

use super::Fault;
use super::processes::MARK;

/// The number of contexts.
pub const VERSIONS: u64 = 3;

const DOCKERFILE: &str = r#"
FROM REGISTRY/library/busybox AS first
ENV KILN_TORTURE=MARK
ARG SALT
RUN mkdir /made && for i in $(seq 60); do echo $i >/made/$i; done && ln -s 1 /made/link && ln /made/1 /made/hard; \
    (setsid sleep 300 >/dev/null 2>&1 &); test -n "$SALT" && sleep 0.05
COPY a.txt /made/
RUN --mount=type=cache,target=/cache,id=MARK echo x >>/cache/log && rm /made/2 && mv /made/3 /made/moved \
 && mkdir -p /usr/deep/er && cp /made/a.txt /usr/deep/er/ && (sleep 0.05 & wait)
RUN rm -r /made/[45]* && mkdir /made/again && cat /made/a.txt >/made/again/x && chmod 751 /made/again && rm /bin/wget
FROM REGISTRY/library/busybox
ENV KILN_TORTURE=MARK
COPY --from=first /made /made
RUN --mount=type=bind,target=/context cat /context/a.txt /made/again/x >/sum && chown 5:6 /sum && sleep 0.05
COPY . /src/
"#;

/// The files of an archive or a folder, without times.
pub type Listing = BTreeMap<String, String>;

/// Writes a version of the project into a folder.
pub fn write(folder: &Path, host: &str, mark: &str, version: u64) -> Result<(), Fault> {
    debug_assert!(DOCKERFILE.contains(MARK));
    let dockerfile = DOCKERFILE
        .replace("KILN_TORTURE=MARK", &format!("{MARK}={mark}"))
        .replace("id=MARK", &format!("id={mark}"))
        .replace("REGISTRY", host);
    let lines: String =
        (0..200 * (version + 1)).map(|line| format!("{version}: {line}\n")).collect();
    std::fs::create_dir_all(folder.join("more")).context("a context")?;
    for (name, text) in [
        ("Dockerfile", &*dockerfile),
        (".dockerignore", "Dockerfile\n"),
        ("a.txt", &*lines),
        ("more/b", "b\n"),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text).context("a context")?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).context("a context")?;
    }
    for folder in [folder, &folder.join("more")] {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).context("a context")?;
    }
    Ok(())
}

/// Lists an archive. Hard links are listed as files: an overlay breaks those of lower layers, a plain folder does not.
pub fn listing(archive: &Path) -> Result<Listing, Fault> {
    let bytes = std::fs::read(archive)
        .map_err(|error| Fault::Lie(format!("`{}`: {error}", archive.display())))?;
    let entries = tar::read(&bytes).map_err(|error| Fault::Lie(format!("{error:#}")))?;
    let mut files = BTreeMap::new();
    for entry in &entries {
        if let Kind::File(bytes) = &entry.kind {
            files.insert(entry.absolute(), fixtures::digest(bytes));
        }
    }
    let shown = |entry: &tar::Entry| {
        let kind = match &entry.kind {
            Kind::File(_) => files.get(&entry.absolute()).cloned().unwrap_or_default(),
            Kind::HardLink(target) => {
                files.get(&tar::absolute(target)).cloned().unwrap_or_default()
            }
            other => format!("{other:?}"),
        };
        format!("{kind} {:o} {}:{}", entry.mode, entry.uid, entry.gid)
    };
    Ok(entries.iter().map(|entry| (entry.absolute(), shown(entry))).collect())
}

/// The differences between two listings, in a few lines.
pub fn difference(found: &Listing, expected: &Listing) -> Option<String> {
    let paths = found.keys().chain(expected.keys().filter(|path| !found.contains_key(*path)));
    let differing = paths.filter(|path| found.get(*path) != expected.get(*path));
    let lines: Vec<String> = differing
        .map(|path| format!("{path}: {:?} and not {:?}", found.get(path), expected.get(path)))
        .take(5)
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named() {
        let of = |pairs: &[(&str, &str)]| -> Listing {
            pairs.iter().map(|(path, what)| ((*path).to_owned(), (*what).to_owned())).collect()
        };
        let expected = of(&[("/a", "1"), ("/b", "2")]);
        assert_eq!(difference(&expected, &expected), None);
        let other = of(&[("/b", "3"), ("/c", "4")]);
        let text = difference(&other, &expected).unwrap();
        assert!(["/a: ", "/b: ", "/c: "].iter().all(|path| text.contains(path)), "{text}");
    }
}
