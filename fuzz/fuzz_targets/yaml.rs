//! YAML, as compose files and Makisu's registry files have it.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(documents) = yaml::documents(text) else { return };
    for document in documents {
        assert!(document.cleared.iter().all(|path| path.len() <= 100), "{document:?}");
    }
});
