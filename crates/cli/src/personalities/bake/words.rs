//! A bake target as the words of `kiln build`.

use bake::{Options, Target};

use crate::personalities::{field, word};

/// The words of `kiln build` for a target, the context last.
pub fn words(target: &Target) -> Vec<String> {
    let mut words = Vec::new();
    let context = here(target.context().unwrap_or("."));
    if target.inline_dockerfile().is_none() {
        words.extend(dockerfile(target, context).map(|file| word("file", &file)));
    }
    for (name, address) in target.contexts() {
        words.push(format!("--build-context={name}={}", here(&address)));
    }
    for (flag, pairs) in [
        ("build-arg", target.args()),
        ("label", target.labels()),
        ("add-host", target.extra_hosts()),
    ] {
        words.extend(pairs.iter().map(|(key, value)| format!("--{flag}={key}={value}")));
    }
    for (flag, texts) in [
        ("tag", target.tags()),
        ("platform", target.platforms()),
        ("annotation", target.annotations()),
        ("no-cache-filter", target.no_cache_filter()),
        ("ulimit", target.ulimits()),
        ("allow", target.entitlements()),
    ] {
        words.extend(texts.iter().map(|text| word(flag, text)));
    }
    for (flag, options) in [
        ("attest", target.attestations()),
        ("cache-from", target.cache_from()),
        ("cache-to", target.cache_to()),
        ("secret", target.secrets()),
        ("output", target.outputs()),
        ("policy", target.policies()),
    ] {
        words.extend(options.iter().map(|options| word(flag, &compound(options))));
    }
    for (id, paths) in target.ssh() {
        let value = paths.map_or(id.clone(), |paths| format!("{id}={paths}"));
        words.push(word("ssh", &value));
    }
    for (flag, text) in [
        ("target", target.stage()),
        ("network", target.network()),
        ("shm-size", target.shm_size()),
        ("call", target.call()),
    ] {
        words.extend(text.map(|text| word(flag, text)));
    }
    for (flag, value) in [("pull", target.pull()), ("no-cache", target.no_cache())] {
        words.extend(value.map(|value| word(flag, &value.to_string())));
    }
    words.push(context.into());
    words
}

/// A path without `cwd://`, which only matters for definitions in repositories.
fn here(path: &str) -> &str {
    match path.strip_prefix("cwd://") {
        Some("") => ".",
        Some(path) => path,
        None => path,
    }
}

/// The Dockerfile's path, which is relative to a context that is a folder.
fn dockerfile(target: &Target, context: &str) -> Option<String> {
    let file = target.dockerfile()?;
    if let Some(here) = file.strip_prefix("cwd://") {
        return Some(here.into());
    }
    let is_remote = context.contains("://") || context.starts_with("git@") || context == "-";
    if is_remote || file.starts_with('/') || file.contains("://") {
        return Some(file.into()).filter(|file| !(is_remote && file == "Dockerfile"));
    }
    Some(format!("{}/{file}", context.trim_end_matches('/')))
}

/// Options as a line of CSV.
fn compound(options: &Options) -> String {
    let fields = options.0.iter().map(|(key, value)| field(key, value));
    fields.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_target_is_a_line_of_kiln() {
        let mut all = Target::default();
        for (name, value) in [
            ("context", json!("src/")),
            ("dockerfile", json!("app.Dockerfile")),
            ("contexts", json!({"base": "docker-image://x", "other": "target:other"})),
            ("args", json!({"A": "b=c", "E": null})),
            ("network", json!("host")),
            ("secret", json!(["id=a,env=A"])),
            ("ssh", json!(["default"])),
            ("platforms", json!(["linux/amd64"])),
            ("no-cache", json!(true)),
            ("extra-hosts", json!({"db": "10.0.0.1"})),
            ("output", json!(["out"])),
        ] {
            all.set(name, value).unwrap();
        }
        assert_eq!(
            words(&all).join(" "),
            "--file=src/app.Dockerfile --build-context=base=docker-image://x --build-arg=A=b=c \
             --add-host=db=10.0.0.1 --platform=linux/amd64 --secret=id=a,env=A --output=type=local,dest=out \
             --ssh=default --network=host --no-cache=true src/"
        );
        assert_eq!(all.links(), [("other".to_owned(), "other".to_owned())]);
    }
}
