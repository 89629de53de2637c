//! Cache manifests and configs from elsewhere: the first zero byte stands between the two.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let middle = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    cache::read_hostile(&data[..middle], data.get(middle + 1..).unwrap_or_default());
});
