//! Caches as maps: replies of Redis, and the entries of any store.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cache::read_hostile_map(data));
