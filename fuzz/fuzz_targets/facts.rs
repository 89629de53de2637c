//! Facts that explain builds, from a sidecar: they read as they are written, and the text that is
//! made of them has no control characters.
#![no_main]

use cache::explain::FactBook;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(book) = FactBook::decode(data) else { return };
    let again = FactBook::decode(&book.encoded()).expect("it was written so");
    assert!(again.facts().count() <= book.facts().count());
    for fact in book.facts() {
        let _ = cache::explain::why(fact, again.facts());
    }
});
