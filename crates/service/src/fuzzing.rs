//! Doors for the fuzzer to readers that are private otherwise.

pub use crate::filesync::fuzzing::file_sync;
