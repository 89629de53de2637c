//! Compose files: YAML, variables, includes and merging. The second file begins behind a NUL.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let files = text.split('\0').enumerate();
    let files =
        files.map(|(at, text)| bake::DefinitionFile { name: format!("{at}.yaml"), text: text.into() });
    kiln_fuzz::bake(files.collect());
});
