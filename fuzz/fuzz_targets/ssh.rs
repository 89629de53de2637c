//! Private keys, and requests to kiln's own agent: the first zero byte stands between the two.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    execute::fuzzing::private_key(data);
    if let Some(middle) = data.iter().position(|byte| *byte == 0) {
        execute::fuzzing::agent_request(&data[..middle], &data[middle + 1..]);
    }
});
