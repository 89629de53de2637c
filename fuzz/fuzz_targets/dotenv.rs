//! `.env` files. An error names the line, and shows no value.
#![no_main]

use std::collections::BTreeMap;

use bake::dotenv;
use bake::substitute::Tally;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let outer = |name: &str| (name == "A").then(|| "a".to_owned());
    let mut variables = BTreeMap::new();
    let read = dotenv::read(text, &outer, &mut variables, &Tally::default());
    assert!(!variables.keys().any(|name| name.contains(' ')), "{variables:?}");
    if let Err(error) = read {
        let error = error.to_string();
        let line = error.strip_prefix("line ").and_then(|rest| rest.split(':').next());
        let line: usize = line.and_then(|line| line.parse().ok()).expect("a line");
        assert!((1..=text.matches('\n').count() + 1).contains(&line), "{error}");
    }
});
