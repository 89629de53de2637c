//! Doors for the fuzzer to readers that are private otherwise.

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

/// Reads the challenges of an answer, a header for each line.
pub fn challenges(text: &str) {
    let mut headers = HeaderMap::new();
    for line in text.lines() {
        if let Ok(value) = HeaderValue::from_str(line) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    for challenge in crate::challenge::challenges(&headers) {
        assert!(!challenge.scheme.is_empty());
        for name in ["realm", "service", "scope", "error"] {
            assert!(challenge.get(name).is_none_or(|value| !value.is_empty()));
        }
    }
}
