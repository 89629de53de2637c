//! `--format`: templates are parsed and rendered, and rendering ends.
#![no_main]

use gotemplate::Template;
use serde_json::json;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(template) = Template::parse(text) else { return };
    let value = json!({
        "Name": "n", "ID": "sha256:a", "Size": 3, "Ratio": 1.5, "On": true, "None": null,
        "Labels": {"a": "b", "c": "d"}, "List": ["x", ["y", 1], {"k": "v"}],
        "Manifest": {"mediaType": "m", "diff_ids": []},
    });
    let _ = (template.render(&value), template.indented().render(&value));
});
