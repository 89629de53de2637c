//! The user's files: walked once, read on demand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use graph::{LocalSource, TaskEvent, TaskId, Transfer};
use store::{ContextMemo, Store, Tree, walk_context};

use crate::Error;

/// The folders that names stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folders(pub BTreeMap<String, PathBuf>);

impl Folders {
    /// Walks the folder of a source. Blocks.
    pub(crate) fn walk(
        &self,
        source: &LocalSource,
        store: &Store,
        modes: Modes,
    ) -> Result<Walked, Error> {
        let Some(folder) = self.0.get(&source.name) else {
            return Err(Error::Unsupported(match source.name.as_str() {
                "context" => "there are no files to copy from: the Dockerfile came alone; give a \
                     folder too, as in `build -f - . < Dockerfile`"
                    .into(),
                name => format!("there is no build context `{name}`: give the path of a folder"),
            }));
        };
        let mut tree = walk_context(folder, &source.excludes, &source.follow_paths)?;
        if modes == Modes::Normalized {
            tree.normalize_modes();
        }
        let memo = ContextMemo::load(&tree, store.db());
        Ok(Walked { tree: Arc::new(tree), memo })
    }
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

/// Says how many bytes a context has.
pub(crate) fn tell(events: &graph::Events, task: Option<TaskId>, tree: &Tree) {
    let Some(task) = task else { return };
    let mut bytes = 0;
    tree.walk(|_, node| {
        if let store::tree::NodeKind::File { size, .. } = &node.kind {
            bytes += size;
        }
    });
    let now = SystemTime::now();
    events.send(
        task,
        TaskEvent::Transfer(Transfer {
            name: "transferring context:".into(),
            current: bytes,
            total: 0,
            started: now,
            completed: Some(now),
        }),
    );
}
