//! Contexts that are folders of the caller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graph::{LocalSource, TaskEvent, TaskId, TransferProgress};
use store::Store;
use transfer::blocking;
use tree::{ContextMemo, Tree};

use crate::client::{ContextFolder, FolderQuery};
use crate::sources::Sources;
use crate::{ClientError, Error};

/// The folders that names stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folders(pub BTreeMap<String, ContextFolder>);

impl Folders {
    /// The folder of a source, with its files here, and the bytes that its client sent for it, if
    /// it is one of a client.
    pub(crate) async fn folder(
        &self,
        source: &LocalSource,
        sources: &Sources,
    ) -> Result<(PathBuf, Option<u64>), Error> {
        let Some(folder) = self.0.get(&source.name) else {
            return Err(Error::Unsupported(match source.name.as_str() {
                "context" => "there are no files to copy from: the Dockerfile came alone; give a \
                     folder too, as in `build -f - . < Dockerfile`"
                    .into(),
                name => format!("there is no build context `{name}`: give the path of a folder"),
            }));
        };
        let client = match folder {
            ContextFolder::Path(path) => return Ok((path.clone(), None)),
            ContextFolder::Client(client) => client.clone(),
        };
        let cell = sources.brought.of(source);
        let brought = cell
            .get_or_try_init(|| {
                let source = source.clone();
                blocking(move || {
                    let LocalSource { excludes, follow_paths, .. } = &source;
                    client.0.bring(FolderQuery { excludes, follow_paths })
                })
            })
            .await
            .map_err(|error: ClientError| Error::from(error))?;
        Ok((brought.path.clone(), Some(brought.bytes)))
    }
}

/// Walks the folder of a source. Blocks.
pub(crate) fn walk(
    folder: &Path,
    source: &LocalSource,
    store: &Store,
    modes: Modes,
) -> Result<Walked, Error> {
    let mut tree = tree::walk_context(folder, &source.excludes, &source.follow_paths)?;
    if modes == Modes::Normalized {
        tree.normalize_modes();
    }
    let memo = ContextMemo::load(&tree, store.db());
    Ok(Walked { tree: Arc::new(tree), memo })
}

/// The permission bits of a context's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Modes {
    /// Those that they have, as with BuildKit.
    #[default]
    Kept,
    /// 0755 for folders and what its owner can execute, 0644 for other files: a checkout has the
    /// same ones under every umask.
    Normalized,
}

/// A context that was walked.
pub(crate) struct Walked {
    pub tree: Arc<Tree>,
    /// Facts about its files from earlier builds.
    pub memo: Option<ContextMemo>,
}

/// Says how many bytes a context has, or how many of it a client sent.
pub(crate) fn tell(events: &graph::Events, task: Option<TaskId>, tree: &Tree, sent: Option<u64>) {
    let Some(task) = task else { return };
    let bytes = sent.unwrap_or_else(|| size(tree));
    let transfer = TransferProgress::at_once("transferring context:", bytes);
    events.send(task, TaskEvent::Transfer(transfer));
}

/// Bytes of a context's files.
fn size(tree: &Tree) -> u64 {
    let mut bytes = 0;
    tree.walk(|_, node| {
        if let tree::NodeKind::File { size, .. } = &node.kind {
            bytes += size;
        }
    });
    bytes
}
