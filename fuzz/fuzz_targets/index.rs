//! Layer indexes, which can come from elsewhere.
#![no_main]

use store::LayerIndex;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(index) = LayerIndex::decode(data) {
        let again = LayerIndex::decode(&index.encode()).expect("it was written so");
        assert_eq!(again.entries(), index.entries());
        let _ = store::Tree::from_layers([(oci::Digest::of(data), &index)]);
    }
});
