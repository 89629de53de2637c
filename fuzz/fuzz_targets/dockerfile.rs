//! Any text as a Dockerfile: read, checked, lowered.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| kiln_fuzz::lower(text));
