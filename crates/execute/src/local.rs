//! Files that the user gives: walked once, read when somebody asks.

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
    pub(crate) fn walk(&self, source: &LocalSource, store: &Store) -> Result<Walked, Error> {
        let Some(folder) = self.0.get(&source.name) else {
            return Err(Error::Unsupported(format!(
                "there is no build context `{}`: give the path of a folder",
                source.name
            )));
        };
        let tree = walk_context(folder, &source.excludes, &source.follow_paths)?;
        let memo = ContextMemo::load(&tree, store.db());
        Ok(Walked { tree: Arc::new(tree), memo })
    }
}

/// A context that was walked.
pub(crate) struct Walked {
    pub tree: Arc<Tree>,
    /// What earlier builds knew of its files.
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
