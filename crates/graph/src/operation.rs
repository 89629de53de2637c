//! A step's operation.

use oci::{Digest, Platform, Reference, shown_text};

use crate::{FilesOp, RunOp};

/// A step's operation. Sources have no inputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// The layers of an image.
    Image(ImageSource),
    /// Files that the user gives.
    Local(LocalSource),
    /// A file from an HTTP server.
    Http(HttpSource),
    /// A tree from a git repository.
    Git(GitSource),
    /// A command in a container.
    Run(Box<RunOp>),
    /// Changes of files without a command: COPY, ADD, WORKDIR, inline files.
    Files(FilesOp),
    /// The layers of all inputs over one another (`COPY --link`).
    Merge,
}

/// An image, resolved: its key is made of what it is, not of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    /// The image, pinned to the digest that its name stood for (of the index, if it is one).
    pub reference: Reference,
    /// For which platform its manifest was chosen, normalised.
    pub platform: Platform,
    /// Digest of the chosen manifest.
    pub manifest: Digest,
    /// Digests of its uncompressed layers, from the bottom up.
    pub diff_ids: Vec<Digest>,
}

/// A folder that the user gives; its key is the content that steps read of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalSource {
    /// `context`, or the name of a named context.
    pub name: String,
    /// Patterns of `.dockerignore`, in order.
    pub excludes: Vec<String>,
    /// The paths that steps read, sorted; empty means all.
    pub follow_paths: Vec<String>,
}

/// A download; becomes one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpSource {
    /// The address.
    pub url: String,
    /// Name of the file.
    pub filename: String,
    /// Digest that the content must have.
    pub checksum: Option<Digest>,
}

/// A checkout; becomes a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GitSource {
    /// Address of the repository.
    pub remote: String,
    /// Branch, tag or commit; empty means the default branch.
    pub reference: String,
    /// Folder in the repository that becomes the root; empty means all.
    pub subdir: String,
    /// Keeps `.git`.
    pub keep_git_dir: bool,
    /// Commit (or its beginning) that must be found.
    pub checksum: Option<String>,
    /// Leaves submodules out.
    pub skip_submodules: bool,
    /// The files' modification time.
    pub mtime: GitMtime,
    /// Fetches the commit in `checksum` without resolving the reference.
    pub fetch_by_commit: bool,
}

/// The time of a checkout's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GitMtime {
    /// The build's time.
    #[default]
    Checkout,
    /// The commit's committer time.
    Commit,
}

impl GitSource {
    /// Its address with reference and folder, without what may be secret.
    pub fn shown(&self) -> String {
        let mut text = shown_text(&self.remote);
        if !self.reference.is_empty() || !self.subdir.is_empty() {
            text.push('#');
            text.push_str(&self.reference);
        }
        if !self.subdir.is_empty() {
            text.push(':');
            text.push_str(&self.subdir);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_shown_without_secrets() {
        let git = |remote: &str, reference: &str, subdir: &str| GitSource {
            remote: remote.into(),
            reference: reference.into(),
            subdir: subdir.into(),
            ..GitSource::default()
        };
        for (source, text) in [
            (git("https://u:p@h/r.git", "", ""), "https://h/r.git"),
            (git("https://h/r.git", "", "a/b"), "https://h/r.git#:a/b"),
            (git("git@h:r", "v1", "a"), "git@h:r#v1:a"),
        ] {
            assert_eq!(source.shown(), text);
        }
    }
}
