//! `.dockerignore`: the last line is a path, the others are patterns.
#![no_main]

use graph::{Glob, PatternMatcher, split_wildcards};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (patterns, path) = text.rsplit_once('\n').unwrap_or((text, "a/b.c"));
    let patterns = dockerfile::ignore_patterns(patterns);
    for pattern in &patterns {
        if let Ok(glob) = Glob::new(pattern) {
            glob.matches(path.as_bytes());
        }
        split_wildcards(pattern);
    }
    if let Ok(set) = PatternMatcher::new(&patterns) {
        set.matches_or_parent_matches(path.as_bytes());
    }
});
