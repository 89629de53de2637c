//! Operations on stored images, apart from building: names, transfers to and from
//! registries, and the room they take.

mod archive;
mod collect;
mod disk;
mod error;
mod files;
mod lists;
mod names;
mod pull;
mod push;

use graph::{Events, Failure, TaskEvent, TaskId};
use store::Store;

pub use crate::image_store::{Kept, KeptImage, count, each, find, list};
pub use archive::{LoadedImage, Saved, load};
pub use collect::{CollectPolicy, Space, collect};
pub use disk::{DiskEntry, DiskFilter, DiskKind, Limits, PruneRequest, prune, usage};
pub use error::ImageError;
pub use files::{PathChange, PathDifference};
pub use lists::{Described, IndexContent, Member, Style};
pub use names::{FoundImage, Removed, look_up, remove, remove_all, tag};
pub use pull::{PullRequest, Pulled};

/// Moves images between this machine and registries.
pub struct Porter {
    /// The store.
    pub store: Store,
    /// Talks to registries.
    pub client: registry::Client,
    /// Receives progress.
    pub events: Events,
}

impl Porter {
    /// Shows some work as a task.
    async fn shown<T>(
        &self,
        name: String,
        work: impl AsyncFnOnce(TaskId) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let task = self.events.task(name, Vec::new());
        self.events.send(task, TaskEvent::Started);
        let result = work(task).await;
        let end = match &result {
            Ok(_) => TaskEvent::Done,
            Err(error) => TaskEvent::Failed(Failure::Error(transfer::chain_text(error).into())),
        };
        self.events.send(task, end);
        result
    }
}
