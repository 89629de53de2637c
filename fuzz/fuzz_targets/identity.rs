//! A `USER` and the tables of a container, with zero bytes between them.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, '\0');
    let mut next = || parts.next().unwrap_or_default();
    runtime::fuzzing::identity(next(), next(), next());
});
