//! Manifests, indexes and image configs: what is read is written back with the same meaning.
#![no_main]

use oci::{ImageConfig, Index, Manifest};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    again::<Manifest>(data);
    again::<Index>(data);
    again::<ImageConfig>(data);
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(reference) = text.parse::<oci::Reference>() {
            assert_eq!(reference.to_string().parse().ok(), Some(reference));
        }
        let _ = text.parse::<oci::Platform>();
        let _ = text.parse::<oci::Digest>();
    }
});

fn again<T: serde::Serialize + serde::de::DeserializeOwned>(data: &[u8]) {
    let Ok(document) = serde_json::from_slice::<T>(data) else { return };
    let written = serde_json::to_vec(&document).expect("a document can be written");
    let read: T = serde_json::from_slice(&written).expect("it was written so");
    assert_eq!(serde_json::to_vec(&read).expect("a document can be written"), written);
}
