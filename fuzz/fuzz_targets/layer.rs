//! Layers unpacked into a store: nothing outside of it changes, and the index can be read again.
#![no_main]

use oci::{Descriptor, Digest, media_type};
use store::PackedLayer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let digest = Digest::of(data);
    let blob = Descriptor::new(media_type::OCI_LAYER, digest, data.len() as u64);
    kiln_fuzz::with_store(|store| {
        if let Ok(index) = store.unpack(data, &PackedLayer::new(&blob, digest, &[])) {
            let again = layer::LayerIndex::decode(&index.encode()).expect("it was written so");
            assert_eq!(again.entries(), index.entries());
            let _ = tree::Tree::from_layers([(digest, &*index)]);
        }
    });
});
