//! Bake files in HCL and JSON: read, evaluated, and every target resolved.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let name = if text.trim_start().starts_with('{') { "a.json" } else { "a.hcl" };
    kiln_fuzz::bake(vec![bake::DefinitionFile { name: name.into(), text: text.into() }]);
});
