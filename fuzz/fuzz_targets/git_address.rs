//! Addresses of repositories and files, as ADD and contexts have them.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let text = text.replace(['\n', '"', '\\'], "");
    kiln_fuzz::lower(&format!("FROM scratch\nADD [\"{text}\", \"/x\"]\nADD git@{text} /x\n"));
});
