//! A request to Docker's Engine API.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| engine::fuzzing::request(text));
