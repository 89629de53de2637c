//! A sidecar: its manifest, and packs of layer indexes; the first byte says which.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, pack)) => cache::sidecar::read_hostile_pack(pack),
        Some((_, manifest)) => cache::sidecar::read_hostile_catalogue(manifest),
        None => {}
    }
});
