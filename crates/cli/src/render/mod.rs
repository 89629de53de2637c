//! The output around and after a build, and the tables of the other commands.

mod call;
mod error;
mod excerpt;
mod metadata;
mod summary;
mod table;

pub use call::{checked, checked_json, outline, outline_json, targets, targets_json};
pub use error::{CommandError, INTERRUPTED, Report};
pub use excerpt::{Excerpt, Look};
pub use metadata::{image_id, metadata, write_file};
pub use summary::{explained, summary, warnings};
pub use table::table;
