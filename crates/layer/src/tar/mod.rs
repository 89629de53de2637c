//! Tar archives: ustar with PAX records, as written by Go's archive/tar, and the formats that other
//! writers left in images and archives.

mod format;
mod limits;
mod pax;
mod reader;
mod writer;

pub use format::padding;
pub use limits::Limits;
pub use reader::{Content, Mode, PlainNames, TarReader, content_failed};
pub(crate) use writer::header_size;
pub use writer::{TarWriter, header_bytes, is_whiteout_name};
