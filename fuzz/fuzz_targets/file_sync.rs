//! The packets of a client that sends a folder (fsutil's protocol).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| service::fuzzing::file_sync(bytes));
