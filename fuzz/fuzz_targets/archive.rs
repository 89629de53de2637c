//! Archives, compressed or not: entries and contents.
#![no_main]

use std::io::Read as _;

use layer::tar::{Limits, Mode, TarReader};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = Limits { max_total_bytes: 1 << 22, max_entries: 1000, ..Limits::default() };
    for mode in [Mode::Layer, Mode::Archive] {
        let Ok(decoder) = layer::open_decoder(data) else { return };
        let mut reader = TarReader::new(decoder, mode, limits);
        let mut total = 0;
        while let Ok(Some((entry, mut content))) = reader.next_entry() {
            assert!(entry.path.is_empty() || layer::is_entry_path(&entry.path), "{entry:?}");
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = content.read(&mut buffer) {
                total += count as u64;
            }
            assert!(total <= limits.max_total_bytes, "more than the limit");
        }
    }
});
