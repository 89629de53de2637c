//! Repositories: what a reference names, and a checkout as a tree.
//!
//! The system's `git` does the work, and is told to believe nothing: no configuration but what is
//! given here, no hooks, no helpers, no transport but the usual ones. Fetched objects are kept in
//! a bare repository that only one build holds at a time; the checkout has its own folder, and
//! borrows the objects.

mod command;
mod remote;

use std::path::Path;

use graph::{GitMtime, GitSource, Sharing};
use layer::Time;
use oci::Digest;
use store::ScratchFolder;
use transfer::blocking;
use tree::{Node, NodeKind};
use tree::{Tree, walk_context};

use crate::Error;
use crate::http::tree_of_own;
use crate::source_fetcher::SourceFetcher;
use command::Git;
pub(crate) use remote::GitRemote;
use remote::failed;

/// The local name of a fetched reference.
const FETCHED: &str = "refs/kiln/fetched";

/// The object that a source's reference names.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The object that the reference names: a commit, or an annotated tag.
    object: String,
    /// The commit for the key, where it is another one.
    pub(crate) commit: String,
    /// The reference's whole name, or the commit.
    reference: String,
}

impl Resolved {
    /// The digest of its record.
    pub(crate) fn record(&self, source: &GitSource) -> Digest {
        solve::git_record(source, &self.commit, &self.reference)
    }

    /// The object of a source that names a whole commit, for which no server is asked.
    pub(crate) fn of_commit(source: &GitSource) -> Result<Option<Self>, Error> {
        let wanted = source.checksum.as_deref().unwrap_or_default();
        if !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let reason = format!("invalid checksum {wanted} for Git URL, expected hex commit hash");
            return Err(failed(source, reason));
        }
        if source.reference.starts_with('-') {
            return Err(failed(source, format!("invalid git ref {:?}", source.reference)));
        }
        if solve::is_commit(&source.reference) {
            let commit = source.reference.clone();
            if !commit.starts_with(wanted) {
                return Err(mismatch(source, &commit));
            }
            return Ok(Some(Self {
                object: commit.clone(),
                commit: commit.clone(),
                reference: commit,
            }));
        }
        if source.fetch_by_commit { by_commit(source).map(Some) } else { Ok(None) }
    }
}

/// A checkout.
pub(crate) struct Checkout {
    pub(crate) tree: Tree,
    /// The folder that the tree reads.
    pub(crate) folder: ScratchFolder,
}

impl SourceFetcher<'_> {
    /// Asks the server for the object that a source's reference names.
    pub(crate) async fn resolve(
        &self,
        source: &GitSource,
        remote: &GitRemote,
    ) -> Result<Resolved, Error> {
        let wanted = source.checksum.as_deref().unwrap_or_default();
        let scratch = self.scratch_folder().await?;
        let git = Git::new(self, source, remote, scratch.path()).await?;
        let reference = match source.reference.as_str() {
            "" => git.default_branch().await?,
            text => text.to_owned(),
        };
        let found = git.list(&reference).await?;
        let Some((name, object, peeled)) = choose(&found, &reference) else {
            return Err(git.failed(format!("repository does not contain ref {reference}")));
        };
        if !solve::is_commit(object) {
            return Err(git.failed(format!("invalid commit sha {object:?}")));
        }
        if !object.starts_with(wanted) && !peeled.is_some_and(|peeled| peeled.starts_with(wanted)) {
            return Err(mismatch(
                source,
                &peeled.map_or(object.into(), |peeled| format!("{object} or {peeled}")),
            ));
        }
        // Without `.git`, a tag is as good as its commit.
        let commit = peeled.filter(|_| !source.keep_git_dir).unwrap_or(object);
        if !solve::is_commit(commit) {
            return Err(git.failed(format!("invalid commit sha {commit:?}")));
        }
        Ok(Resolved { object: object.into(), commit: commit.into(), reference: name })
    }

    /// Checks a source out as a tree: of root, with the modes that a usual umask gives.
    pub(crate) async fn check_out(
        &self,
        source: &GitSource,
        remote: &GitRemote,
        found: &Resolved,
    ) -> Result<Checkout, Error> {
        let scratch = self.scratch_folder().await?;
        let work = scratch.path().join("tree");
        let name = format!("git {} {}", found.object.len(), source.remote);
        let mounts = self.cache_mounts.clone();
        let held = blocking(move || mounts.hold(&name, Sharing::Locked));
        let repository = held.await.map_err(|error| failed(source, error.to_string()))?;
        let bare = Git::new(self, source, remote, &repository.path).await?;
        fetch(&bare, found, !source.fetch_by_commit).await?;
        let time = match source.mtime {
            GitMtime::Checkout => self.now,
            GitMtime::Commit => Time { seconds: bare.commit_time(&found.object).await?, nanos: 0 },
        };
        let keep = source.keep_git_dir && source.subdir.is_empty();
        if keep {
            let git = Git::new(self, source, remote, &work.join(".git")).await?;
            check_out_with_repository(git, source, found, &bare, &work).await?;
        } else {
            let git = Git::new(self, source, remote, &work.with_file_name("git")).await?;
            check_out(git, source, found, &repository.path, &work).await?;
        }
        drop(repository);
        let source = source.clone();
        let tree = blocking(move || tree_of(&work, keep, time, &source)).await?;
        Ok(Checkout { tree, folder: scratch })
    }
}

fn mismatch(source: &GitSource, found: &str) -> Error {
    let wanted = source.checksum.as_deref().unwrap_or_default();
    failed(source, format!("expected checksum to match {wanted}, got {found}"))
}

/// The commit that `checksum` names, under the reference's name, without asking what that stands
/// for (BuildKit, `source/git`): a name that is not whole is a branch's.
fn by_commit(source: &GitSource) -> Result<Resolved, Error> {
    let failed = |reason: String| Err(failed(source, reason));
    let commit = match source.checksum.as_deref() {
        Some(commit) if solve::is_commit(commit) => commit,
        Some(part) => {
            return failed(format!(
                "fetch-by-commit requires a full commit SHA checksum, got {part:?}"
            ));
        }
        None => return failed("fetch-by-commit requires a checksum or a commit SHA ref".into()),
    };
    let reference = match source.reference.as_str() {
        "" => commit.to_owned(),
        name if name.starts_with("refs/") => name.to_owned(),
        name => format!("refs/heads/{name}"),
    };
    Ok(Resolved { object: commit.into(), commit: commit.into(), reference })
}

/// The line of `ls-remote` that git checkout would choose for a reference: its full name, its
/// object and, for an annotated tag, the commit.
fn choose<'a>(
    found: &'a [(String, String)],
    reference: &str,
) -> Option<(String, &'a str, Option<&'a str>)> {
    let object =
        |name: &str| found.iter().find(|(_, known)| known == name).map(|(id, _)| id.as_str());
    let named =
        |prefix: &str| format!("{prefix}{}", reference.strip_prefix(prefix).unwrap_or(reference));
    let tag = named("refs/tags/");
    for name in [named("refs/"), named("refs/heads/")] {
        // The same name can be a whole tag's.
        if name != tag
            && let Some(object) = object(&name)
        {
            return Some((name, object, None));
        }
    }
    let peeled = object(&format!("{tag}^{{}}"));
    object(&tag).map(|object| (tag.clone(), object, peeled))
}

/// Brings an object into the bare repository; `by_name` first tries the reference, which every
/// server gives.
async fn fetch(git: &Git, found: &Resolved, by_name: bool) -> Result<(), Error> {
    if !git.folder().join("HEAD").exists() {
        git.init(true, found.object.len()).await?;
    }
    let has = || async { git.has(&found.object).await };
    if has().await {
        return Ok(());
    }
    // A killed git leaves this lock behind; the repository's own lock is held here.
    let _ = std::fs::remove_file(git.folder().join("shallow.lock"));
    let mut last = Ok(());
    if by_name && !solve::is_commit(&found.reference) {
        last = git.fetch(&[&format!("+{}:{FETCHED}", found.reference)], true).await;
        if has().await {
            return Ok(());
        }
    }
    // Most servers give any commit that something leads to; of others, everything is needed.
    let exact = format!("+{}:{FETCHED}", found.object);
    if git.fetch(&[&exact], true).await.is_ok() && has().await {
        return Ok(());
    }
    let all =
        git.fetch(&["+refs/heads/*:refs/kiln/heads/*", "+refs/tags/*:refs/tags/*"], false).await;
    match has().await {
        true => Ok(()),
        false => {
            last?;
            all?;
            Err(git.failed(format!("the repository has no commit {}", found.object)))
        }
    }
}

/// A checkout alone: its repository stays outside.
async fn check_out(
    git: Git,
    source: &GitSource,
    found: &Resolved,
    bare: &Path,
    work: &Path,
) -> Result<(), Error> {
    let git = git.with_work_tree(work)?;
    let folder = git.folder();
    git.init(false, found.object.len()).await?;
    let borrow = || -> std::io::Result<()> {
        let mut path = bare.join("objects").into_os_string().into_encoded_bytes();
        path.push(b'\n');
        std::fs::create_dir_all(folder.join("objects/info"))?;
        std::fs::write(folder.join("objects/info/alternates"), path)?;
        match std::fs::copy(bare.join("shallow"), folder.join("shallow")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    borrow().map_err(|error| git.failed(error.to_string()))?;
    git.run(&["read-tree", "--reset", "-u", &found.object]).await?;
    submodules(&git, source, work).await
}

/// A checkout with a `.git` of its own, as BuildKit makes it: one commit deep, its head detached.
async fn check_out_with_repository(
    git: Git,
    source: &GitSource,
    found: &Resolved,
    bare: &Git,
    work: &Path,
) -> Result<(), Error> {
    bare.run(&["update-ref", "--no-deref", "refs/kiln/checkout", &found.object]).await?;
    let git = git.with_work_tree(work)?;
    let folder = git.folder();
    git.init(false, found.object.len()).await?;
    let name = match source.reference.as_str() {
        _ if source.fetch_by_commit => &found.reference,
        "" => found.reference.strip_prefix("refs/heads/").unwrap_or(&found.reference),
        text => text,
    };
    let spec = match name {
        name if solve::is_commit(name) => "refs/kiln/checkout".to_owned(),
        name if name.starts_with("refs/") => format!("+refs/kiln/checkout:{name}"),
        name => format!("+refs/kiln/checkout:refs/tags/{name}"),
    };
    // Through the protocol: what a local clone would share could be more than the commit.
    git.fetch_from_folder(bare.folder(), &spec).await?;
    git.run(&["checkout", "-q", "--detach", "FETCH_HEAD"]).await?;
    submodules(&git, source, work).await?;
    git.run(&["config", "remote.origin.url", &git.shown_remote()]).await?;
    git.run(&["reflog", "expire", "--all", "--expire=now"]).await?;
    for name in ["FETCH_HEAD", "ORIG_HEAD"] {
        let _ = std::fs::remove_file(folder.join(name));
    }
    Ok(())
}

async fn submodules(git: &Git, source: &GitSource, work: &Path) -> Result<(), Error> {
    let there = std::fs::symlink_metadata(work.join(".gitmodules")).is_ok();
    if source.skip_submodules || !there {
        return Ok(());
    }
    git.run(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"]).await
}

/// A checkout's files as a tree. Blocks.
fn tree_of(work: &Path, keep: bool, time: Time, source: &GitSource) -> Result<Tree, Error> {
    let subdir = source.subdir.as_str();
    let walked =
        walk_context(work, &[], &[]).map_err(|error| failed(source, graph::chain_text(&error)))?;
    let Some(root) = walked.get(subdir.as_bytes()).filter(|node| node.is_directory()) else {
        let reason = format!("git subpath {subdir:?} is no folder of the repository");
        return Err(failed(source, reason));
    };
    let mut root = root.clone();
    root.mode = 0o755;
    let mut tree = tree_of_own()?;
    tree.insert(b"", root)?;
    let mut paths: Vec<Vec<u8>> = vec![Vec::new()];
    tree.walk(|path, _| paths.push(path.into()));
    for path in paths {
        // Outside its repository a submodule's link to it is dangling.
        if !keep && path.rsplit(|byte| *byte == b'/').next() == Some(b".git") {
            tree.remove(&path);
        }
        let Some(node) = tree.get_mut(&path) else { continue };
        node.mode = usual_mode(node);
        (node.uid, node.gid, node.mtime, node.xattrs) = (0, 0, time, None);
    }
    Ok(tree)
}

/// The mode that git gives under a umask of 022, whatever this process has.
fn usual_mode(node: &Node) -> u32 {
    let own = node.mode >> 6 & 7;
    match node.kind {
        NodeKind::Symlink { .. } => 0o777,
        NodeKind::Directory(_) => 0o755,
        _ => own << 6 | (own & 5) << 3 | own & 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_come_before_tags() {
        let found: Vec<(String, String)> = [
            ("1", "refs/heads/both"),
            ("2", "refs/tags/both"),
            ("3", "refs/tags/v1"),
            ("4", "refs/tags/v1^{}"),
            ("5", "refs/pull/7/head"),
            ("6", "refs/heads/other/v2"),
        ]
        .map(|(object, name)| (object.to_owned(), name.to_owned()))
        .into();
        for (reference, expected) in [
            ("both", Some(("refs/heads/both", "1", None))),
            ("refs/tags/both", Some(("refs/tags/both", "2", None))),
            ("v1", Some(("refs/tags/v1", "3", Some("4")))),
            ("refs/tags/v1", Some(("refs/tags/v1", "3", Some("4")))),
            ("refs/pull/7/head", Some(("refs/pull/7/head", "5", None))),
            ("pull/7/head", Some(("refs/pull/7/head", "5", None))),
            ("v2", None),
        ] {
            let chosen = choose(&found, reference);
            let chosen =
                chosen.as_ref().map(|(name, object, commit)| (name.as_str(), *object, *commit));
            assert_eq!(chosen, expected, "{reference}");
        }
    }
}
