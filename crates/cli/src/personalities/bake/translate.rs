//! The attributes of a bake target as flags of a build. Errors name the flags of `kiln build`.

use bake::{Options, Target};

use crate::args::compound::{Fields, cache};
use crate::args::{BuildFlags, Call, ContextFlag, FlagContext, FlagError, InFlag as _};

/// Adds a target to flags.
///
/// # Errors
/// If an attribute has a value that its flag cannot have.
pub fn translate(
    target: &Target,
    flags: &mut BuildFlags,
    context: FlagContext<'_>,
) -> Result<(), FlagError> {
    let folder = here(target.context().unwrap_or("."));
    flags.context = ContextFlag::Named(folder.to_owned());
    if target.inline_dockerfile().is_none() {
        flags.file = dockerfile(target, folder);
    }
    flags.target = target.stage().map(str::to_owned);
    flags.pull = target.pull().unwrap_or(false);
    flags.no_cache = target.no_cache().unwrap_or(false);
    flags.call = target.call().map_or(Ok(None), Call::parse).in_flag("--call")?;
    read_inputs(target, flags, context)?;
    read_outputs(target, flags, context)?;
    read_caches(target, flags, context)?;
    read_surroundings(target, flags, context)
}

fn read_inputs(
    target: &Target,
    flags: &mut BuildFlags,
    context: FlagContext<'_>,
) -> Result<(), FlagError> {
    for (name, value) in target.args() {
        flags.give_build_argument("--build-arg", &name, &value)?;
    }
    for (name, address) in target.contexts() {
        flags.add_named_context("--build-context", &name, here(&address), context.directory)?;
    }
    for text in target.platforms() {
        flags.add_platforms("--platform", &text)?;
    }
    for (name, value) in target.labels() {
        if name.is_empty() {
            return Err(FlagError::bad("--label", "a label has no name"));
        }
        flags.set_label(&name, &value);
    }
    let policies: Vec<_> = target.policies().into_iter().map(|options| options.0).collect();
    flags.set_policy_fields("--policy", &policies)
}

fn read_outputs(
    target: &Target,
    flags: &mut BuildFlags,
    context: FlagContext<'_>,
) -> Result<(), FlagError> {
    for text in target.tags() {
        flags.add_tag("--tag", &text)?;
    }
    for options in some(target.outputs()) {
        match folder(&options) {
            Some(folder) => flags.add_kept_output("--output", &folder, context)?,
            None => flags.add_kept_output_fields("--output", fields(options), context)?,
        }
    }
    for text in target.annotations() {
        flags.add_annotations("--annotation", &text)?;
    }
    for options in target.attestations() {
        flags.attestations.ask_typed(fields(options)).in_flag("--attest")?;
    }
    Ok(())
}

fn read_caches(
    target: &Target,
    flags: &mut BuildFlags,
    context: FlagContext<'_>,
) -> Result<(), FlagError> {
    for options in some(target.cache_from()) {
        let read = cache::import_of(fields(options), context.around());
        flags.add_cache_from("--cache-from", read)?;
    }
    for options in some(target.cache_to()) {
        let read = cache::export_of(fields(options), context.around());
        flags.add_cache_to("--cache-to", read)?;
    }
    for text in target.no_cache_filter() {
        flags.add_no_cache_stages(&text);
    }
    Ok(())
}

fn read_surroundings(
    target: &Target,
    flags: &mut BuildFlags,
    context: FlagContext<'_>,
) -> Result<(), FlagError> {
    flags.set_network("--network", target.network().unwrap_or_default())?;
    for (host, addresses) in target.extra_hosts() {
        for address in addresses.split(',') {
            flags.add_host("--add-host", &host, address)?;
        }
    }
    for text in target.entitlements() {
        flags.allow("--allow", &text)?;
    }
    for text in target.ulimits() {
        flags.set_ulimit("--ulimit", &text)?;
    }
    if let Some(text) = target.shm_size() {
        flags.set_shm_size("--shm-size", text)?;
    }
    let agents = target.ssh();
    let agents = agents.iter().map(|(id, paths)| (id.as_str(), paths.as_deref()));
    // An empty text asks for no agent.
    let agents = agents.filter(|agent| *agent != ("", None));
    let agents = agents.map(|(id, paths)| (id, paths.unwrap_or_default()));
    flags.set_ssh_agents("--ssh", agents, context)?;
    for options in some(target.secrets()) {
        flags.add_secret_fields("--secret", fields(options), context)?;
    }
    Ok(())
}

/// Options without those that are empty, as a condition leaves them.
fn some(all: Vec<Options>) -> impl Iterator<Item = Options> {
    all.into_iter().filter(|options| !options.0.is_empty())
}

fn fields(options: Options) -> Fields {
    Fields::of_pairs(options.0)
}

/// The folder of an output that has one option and no type, as buildx reads it: `a=b` is its name.
fn folder(options: &Options) -> Option<String> {
    match options.0.as_slice() {
        [(key, value)] if key != "type" && !value.contains([',', '"', '\n']) => {
            Some(format!("{key}={value}"))
        }
        _ => None,
    }
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
        return Some(here.to_owned()).filter(|file| !file.is_empty());
    }
    let is_remote = context.contains("://") || context.starts_with("git@") || context == "-";
    if is_remote || file.starts_with('/') || file.contains("://") {
        return Some(file.into()).filter(|file| !(is_remote && file == "Dockerfile"));
    }
    Some(format!("{}/{file}", context.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use build::{CacheMode, NamedContext, Output, Policy, SecretValue};
    use serde_json::{Value, json};

    use super::*;
    use crate::args::CallKind;
    use crate::settings::Environment;

    fn flags(attributes: &[(&str, Value)]) -> Result<BuildFlags, FlagError> {
        let mut target = Target::default();
        for (name, value) in attributes {
            target.set(name, value.clone()).unwrap();
        }
        let environment = Environment::of(&[("A", "hush")]);
        let directory = Path::new("/tmp");
        let context =
            FlagContext { environment: &environment, directory, stdout_is_terminal: false };
        let mut flags = BuildFlags::default();
        translate(&target, &mut flags, context).map(|()| flags)
    }

    #[test]
    fn a_target_becomes_the_flags_of_a_build() {
        let flags = flags(&[
            ("context", json!("src/")),
            ("dockerfile", json!("app.Dockerfile")),
            ("contexts", json!({"base": "docker-image://x", "other": "target:other"})),
            ("args", json!({"A": "b=c", "E": null})),
            ("labels", json!({"l": "a,b"})),
            ("tags", json!(["app", "app"])),
            ("network", json!("host")),
            ("secret", json!(["id=a,env=A"])),
            ("platforms", json!(["linux/amd64,linux/arm64"])),
            ("no-cache", json!(true)),
            ("extra-hosts", json!({"db": "10.0.0.1,::1"})),
            ("output", json!(["out", {"type": "docker", "name": "a,b"}, {"dest": null}])),
            ("cache-from", json!(["x", {}])),
            (
                "cache-to",
                json!(["type=inline,mode=max", {"type": "local", "dest": "a,b", "mode": "max"}]),
            ),
            ("attest", json!(["type=sbom", {"type": "provenance", "disabled": true}])),
            ("policy", json!([{"disabled": true}])),
            ("shm-size", json!("1m")),
            ("ulimits", json!(["nofile=1:2"])),
        ])
        .unwrap();
        assert_eq!(flags.context, ContextFlag::Named("src/".into()));
        assert_eq!(flags.file.as_deref(), Some("src/app.Dockerfile"));
        let names: Vec<&String> = flags.build_contexts.keys().collect();
        assert_eq!(names, ["base"]);
        assert!(matches!(&flags.build_contexts["base"], NamedContext::Image(_)));
        let arguments = flags.build_arguments.resolve(&Environment::default(), &Default::default());
        assert_eq!(arguments, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(flags.labels, [("l".to_owned(), "a,b".to_owned())]);
        assert_eq!((flags.tags.len(), flags.platforms.len()), (1, 2));
        let host = |address: &str| ("db".to_owned(), address.to_owned());
        assert_eq!(flags.extra_hosts, [host("10.0.0.1"), host("::1")]);
        let [Output::Local(local), Output::Image(image)] = &flags.outputs[..] else {
            panic!("{:?}", flags.outputs)
        };
        assert_eq!((local.folder.as_path(), image.names.len()), (Path::new("/tmp/out"), 2));
        assert_eq!((flags.cache_from.len(), flags.cache_to.len()), (1, 2));
        assert_eq!(flags.cache_to[1].mode, CacheMode::Max);
        assert!(
            flags.notes[0].starts_with("`--cache-to type=inline,mode=max`: "),
            "{:?}",
            flags.notes
        );
        assert_eq!(flags.policy, Policy::Disabled);
        assert!(flags.no_cache && !flags.pull && flags.call.is_none());
        assert_eq!((flags.shm_size, flags.ulimits.len()), (1 << 20, 1));
        assert_eq!(flags.secrets.get("a").map(SecretValue::value), Some(&b"hush"[..]));
        assert!(!format!("{flags:?}").contains("hush"));
        let attestations = flags.attestations.with_build_args(&[]).unwrap();
        assert!(attestations.sbom && attestations.provenance.is_none());
    }

    #[test]
    fn paths_are_those_of_this_folder() {
        for (context, dockerfile, expected) in [
            ("cwd://", "Dockerfile", (".", Some("./Dockerfile"))),
            ("cwd://x", "cwd://y/D", ("x", Some("y/D"))),
            ("a/", "/D", ("a/", Some("/D"))),
            ("https://h/r.git", "Dockerfile", ("https://h/r.git", None)),
            ("https://h/r.git", "D", ("https://h/r.git", Some("D"))),
            (".", "cwd://", (".", None)),
            // Not a flag of any command line.
            ("--push", "https://h/D", ("--push", Some("https://h/D"))),
        ] {
            let flags =
                flags(&[("context", json!(context)), ("dockerfile", json!(dockerfile))]).unwrap();
            assert_eq!(flags.context, ContextFlag::Named(expected.0.into()), "{context}");
            assert_eq!(flags.file.as_deref(), expected.1, "{context} {dockerfile}");
        }
        let inline = flags(&[("dockerfile", json!("x")), ("dockerfile-inline", json!("FROM a"))]);
        assert_eq!(inline.unwrap().file, None);
        let [Output::Local(local)] = &flags(&[("output", json!(["a=b"]))]).unwrap().outputs[..]
        else {
            panic!("one folder")
        };
        assert_eq!(local.folder, Path::new("/tmp/a=b"));
    }

    #[test]
    fn a_target_can_ask_a_question() {
        let call = flags(&[("call", json!("check,format=json"))]).unwrap().call.unwrap();
        assert!(call.kind == CallKind::Check && call.is_json);
        assert!(flags(&[("call", json!("build"))]).unwrap().call.is_none());
    }

    #[test]
    fn what_is_wrong_is_named_without_secrets() {
        for (name, value, word) in [
            ("args", json!({"": "hush"}), "`--build-arg`: a build argument has no name"),
            ("labels", json!({"": "x"}), "`--label`: a label has no name"),
            ("tags", json!(["A B"]), "`--tag`: "),
            ("platforms", json!(["x/"]), "`--platform`: "),
            ("contexts", json!({"x": "/none"}), "`--build-context`: `x=/none`"),
            ("policy", json!([{}]), "`--policy`: "),
            ("policy", json!([{"filename": "x"}]), "`filename=x`: policies are not evaluated"),
            ("output", json!([{"type": "x"}]), "`--output`: `type=x`"),
            ("attest", json!([{}]), "`--attest`: attestation type not specified"),
            ("cache-from", json!([{"ref": "x"}]), "`--cache-from`: `a cache` needs `type`"),
            (
                "cache-to",
                json!([{"type": "s3", "bucket": "b", "region": "r", "access_key_id": "i", "secret_access_key": "hush", "x": "y"}]),
                "`x` is not an option of type=s3",
            ),
            ("extra-hosts", json!({"a=b": "1.1.1.1"}), "`--add-host`: `a=b`"),
            ("extra-hosts", json!({"a": ""}), "`--add-host`: "),
            ("entitlements", json!(["fs.read=/"]), "`--allow fs.read=/`: "),
            ("ulimits", json!(["x"]), "`--ulimit`: "),
            ("shm-size", json!("x"), "`--shm-size`: "),
            ("secret", json!([{"env": "A"}]), "`--secret`: `--secret` needs `id`"),
            ("ssh", json!(["default"]), "`--ssh`: "),
            ("network", json!("x"), "`--network x`: "),
            ("call", json!("x"), "`--call`: `x` is none of"),
        ] {
            let error = flags(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hush"), "{name}: {error}");
        }
    }
}
