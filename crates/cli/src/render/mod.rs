//! What is printed around and after a build, and the tables of the other commands.

mod call;
mod error;
mod metadata;
mod summary;
mod table;

pub use call::{checked, checked_json, outline, outline_json, targets, targets_json};
pub use error::{Excerpt, INTERRUPTED, Report};
pub use metadata::{image_id, metadata, write_file};
pub use summary::{summary, warnings};
pub use table::table;
