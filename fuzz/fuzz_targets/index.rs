//! Layer indexes, which can come from elsewhere.
#![no_main]

use layer::LayerIndex;

/// What a build lends to them at first.
const MEMORY: u64 = 32 << 20;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(index) = LayerIndex::decode_within(data, MEMORY) {
        assert!(index.memory() <= MEMORY);
        let again = LayerIndex::decode(&index.encode()).expect("it was written so");
        assert_eq!(again.entries(), index.entries());
        assert_eq!(again.digest(), index.digest());
        let _ = index.check(None);
        let _ = tree::Tree::from_layers([(oci::Digest::of(data), &index)]);
    }
});
