//! `WWW-Authenticate` headers, one a line.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| registry::fuzzing::challenges(text));
