//! Tar archives: ustar with PAX records, as written by Go's archive/tar, and the formats that other
//! writers left in images and archives.

mod format;
mod pax;
mod reader;
mod writer;

pub use reader::{Content, Limits, Mode, TarReader};
pub use writer::TarWriter;

pub(crate) use format::padding;
pub(crate) use reader::content_failed;
pub(crate) use writer::{header_bytes, header_size, is_whiteout_name};
