//! docker's `config.json`, and what is found in it for repositories.
#![no_main]

use registry::DockerConfig;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(config) = DockerConfig::parse(text) else { return };
    let shown = format!("{config:?}");
    // A password that is shown is a fault; short ones occur in other words.
    for secret in secrets(text).filter(|secret| secret.len() > 24) {
        assert!(!shown.contains(&secret), "a secret is shown");
    }
});

/// The passwords and tokens of a file, as they are written.
fn secrets(text: &str) -> impl Iterator<Item = String> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let auths = value["auths"].as_object().cloned().unwrap_or_default();
    let names = ["auth", "password", "identitytoken", "registrytoken"];
    auths.into_iter().flat_map(move |(_, entry)| {
        names.map(|name| entry[name].as_str().unwrap_or_default().to_owned())
    })
}
