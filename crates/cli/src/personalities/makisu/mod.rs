//! Makisu: `build`, `push`, `pull`, `diff` and `version`.

mod files;
mod registry_config;
mod remote_cache;
mod rows;

use std::fs::File;
use std::path::Path;

use build::images;
use oci::Reference;

use super::flags::{self, Given, Operands, Row};
use super::{
    Invocation, NO_POLICY, build_args, field, helped, own_command, say_notes, usage, word,
};
use crate::args::Command;
use crate::commands;
use crate::machine;
use crate::render::Report;
use crate::settings::{Environment, Hidden, RegistrySetting, Settings};
use crate::terminal;

pub use rows::{BUILD, DIFF, GLOBAL, PULL, PUSH};

const ABOUT: &str = "makisu, spoken by kiln: builds a Dockerfile and pushes the image.";

/// Does what `makisu` would.
///
/// # Errors
/// What is wrong with a flag, the Dockerfile or a step.
pub fn run(invocation: &Invocation, environment: Environment) -> Result<(), Report> {
    let before = read(GLOBAL, &invocation.words, Operands::End)?;
    let (command, rest) = match before.operands.split_first() {
        Some((command, rest)) if command != "help" && !before.help => (command.as_str(), rest),
        _ => return helped(&flags::help("makisu build -t NAME CONTEXT", ABOUT, BUILD)),
    };
    // Flags of every command may come behind it too.
    let (global, rest) = split(rest);
    let global = [&invocation.words[..invocation.words.len() - before.operands.len()], &global];
    let global = read(GLOBAL, &global.concat(), Operands::Anywhere)?;
    say_notes(&global.notes);
    match command {
        "build" => build(&global, &rest, invocation, environment),
        "push" => push(&rest, invocation, environment),
        "pull" => pull(&rest, invocation, environment),
        "version" => terminal::print(&commands::version::text()),
        "diff" => files::diff(&rest, invocation, &environment),
        other => Err(usage(
            format!("`makisu {other}` is not there: there are build, push, pull, diff and version"),
            None,
            1,
        )),
    }
}

fn read(rows: &'static [Row], words: &[String], operands: Operands) -> Result<Given, Report> {
    flags::read(rows, words, operands).map_err(|error| usage(error, None, 1))
}

/// Takes the flags of every command out of the words behind a command.
fn split(words: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut global, mut own) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(text) = words.next() {
        let name = text.trim_start_matches('-').split('=').next().unwrap_or_default();
        let is_flag = text.starts_with("--");
        match GLOBAL.iter().find(|row| is_flag && row.name == name) {
            None => own.push(text.clone()),
            Some(row) => {
                global.push(text.clone());
                if !text.contains('=') && row.takes != flags::Takes::Switch {
                    global.extend(words.next().cloned());
                }
            }
        }
    }
    (global, own)
}

/// A build as Makisu was asked for it.
#[derive(Debug, Default)]
struct Plan {
    words: Vec<String>,
    registries: Vec<RegistrySetting>,
    notes: Vec<String>,
    docker_host: Option<String>,
    storage: Option<String>,
    /// Variables that the cache's secrets are read from.
    secrets: Vec<(String, Hidden)>,
}

fn build(
    global: &Given,
    words: &[String],
    invocation: &Invocation,
    mut environment: Environment,
) -> Result<(), Report> {
    let given = read(BUILD, words, Operands::Anywhere)?;
    if given.help {
        return helped(&flags::help("makisu build -t NAME CONTEXT", ABOUT, BUILD));
    }
    let plan = translate(global, given, &environment).map_err(|error| usage(error, None, 1))?;
    say_notes(&plan.notes);
    if let Some(host) = &plan.docker_host {
        environment.set("DOCKER_HOST", host);
    }
    for (name, value) in &plan.secrets {
        environment.set(name, value.expose());
    }
    let args = build_args([vec![NO_POLICY.into()], plan.words].concat(), 1)?;
    let mut settings = invocation.settings(&environment)?;
    settings.registries.extend(plan.registries);
    if let Some(storage) = plan.storage
        && invocation.root.is_none()
    {
        settings.root = Path::new(&storage).join("kiln");
    }
    commands::build::run(&args, &environment, &settings)
}

/// How progress is shown.
fn progress(global: &Given) -> Result<&'static str, String> {
    let mode = match global.last("log-fmt") {
        None => "auto",
        Some("console") => "plain",
        Some("json") => "rawjson",
        Some(other) => return Err(format!("`--log-fmt={other}`: there are console and json")),
    };
    let mode = match global.last("log-level") {
        Some("error" | "fatal" | "panic") => "none",
        None | Some("debug" | "info" | "warn") => mode,
        Some(other) => {
            return Err(format!("`--log-level={other}`: there are debug, info, warn and error"));
        }
    };
    global.done()?;
    Ok(mode)
}

/// The names that an image goes to: with each registry before the tag, and the replicas.
fn names(given: &Given) -> Result<(String, Vec<String>), String> {
    let tag = given.last("tag").ok_or("`--tag` is missing: give the image's name")?;
    let reference: Reference = tag.parse().map_err(|error| format!("`--tag={tag}`: {error}"))?;
    // The registry of the tag gives way to that of `--push`.
    let path = reference.repository().path();
    let path = match reference.repository().host() {
        "docker.io" if !tag.contains("library/") => path.strip_prefix("library/").unwrap_or(path),
        _ => path,
    };
    let version = reference.tag().unwrap_or("latest");
    let mut names: Vec<String> = given
        .all("push")
        .into_iter()
        .map(|registry| match registry {
            "index.docker.io" | "docker.io" => format!("docker.io/{path}:{version}"),
            registry => format!("{registry}/{path}:{version}"),
        })
        .collect();
    names.extend(given.all("replica").into_iter().map(str::to_owned));
    Ok((tag.to_owned(), names))
}

/// What `--registry-config` says of the registries of some names.
fn registries(
    given: &Given,
    names: &[String],
    environment: &Environment,
) -> Result<(Vec<RegistrySetting>, Vec<String>), String> {
    let Some(text) = given.last("registry-config") else { return Ok(Default::default()) };
    let text = match text.trim_start().starts_with('{') {
        true => text.to_owned(),
        false => std::fs::read_to_string(text)
            .map_err(|error| format!("`--registry-config`: reading `{text}`: {error}"))?,
    };
    let repositories = names.iter().filter_map(|name| name.parse::<Reference>().ok());
    let repositories: Vec<(String, String)> = repositories
        .map(|name| (name.repository().host().to_owned(), name.repository().path().to_owned()))
        .collect();
    registry_config::read(&text, environment, &repositories)
}

/// Makes words of `kiln build`.
fn translate(global: &Given, given: Given, environment: &Environment) -> Result<Plan, String> {
    let [context] = given.operands.as_slice() else {
        return Err(format!("it takes one context, and not {}", given.operands.len()));
    };
    let (tag, pushed) = names(&given)?;
    let (registries, mut notes) = registries(&given, &pushed, environment)?;
    let mut words = vec![format!("--progress={}", progress(global)?)];
    let shown: Vec<&str> = match pushed.is_empty() {
        true => vec![&tag],
        false => pushed.iter().map(String::as_str).collect(),
    };
    words.extend(shown.iter().map(|name| word("tag", name)));
    // Relative to the context, as Makisu has it.
    let file = Path::new(context).join(given.last("file").unwrap_or("Dockerfile"));
    words.push(word("file", &file.to_string_lossy()));
    words.extend(given.last("target").map(|stage| word("target", stage)));
    for argument in given.all("build-arg") {
        if !argument.contains('=') {
            return Err(format!("`--build-arg={argument}`: it is not NAME=VALUE"));
        }
        words.push(word("build-arg", argument));
    }
    let compression = match given.last("compression") {
        None | Some("default") => "",
        Some("no") => ",compression=uncompressed",
        Some("speed") => ",compression=gzip,compression-level=1",
        Some("size") => ",compression=gzip,compression-level=9",
        Some(other) => {
            return Err(format!("`--compression={other}`: there are no, speed, size and default"));
        }
    };
    words.push(match given.last("commit") {
        None | Some("implicit") => "--layers=unmarked".into(),
        Some("explicit") => "--layers=marked".into(),
        Some(other) => return Err(format!("`--commit={other}`: there are implicit and explicit")),
    });
    words.push(format!("--output=type=image,push={}{compression}", !pushed.is_empty()));
    if let Some(path) = given.last("dest") {
        words.push(format!("--output=type=docker,{}{compression}", field("dest", path)));
    }
    words.extend(given.is_on("load", false).then(|| "--load".to_owned()));
    let remote = remote_cache::read(&given, &pushed)?;
    words.extend(remote.words);
    notes.extend(remote.notes);
    words.push(context.clone());
    let plan = Plan {
        words,
        registries,
        docker_host: given.last("docker-host").map(str::to_owned),
        storage: given.last("storage").map(str::to_owned),
        secrets: remote.secrets,
        notes: Vec::new(),
    };
    given.done()?;
    notes.extend(given.notes);
    Ok(Plan { notes, ..plan })
}

fn push(words: &[String], invocation: &Invocation, environment: Environment) -> Result<(), Report> {
    let given = read(PUSH, words, Operands::Anywhere)?;
    if given.help {
        return helped(&flags::help("makisu push -t NAME --push REGISTRY TAR", ABOUT, PUSH));
    }
    let [archive] = given.operands.as_slice() else {
        return Err(usage("it takes one archive of `docker save`", None, 1));
    };
    let wrong = |error: String| usage(error, None, 1);
    let (_, names) = names(&given).map_err(wrong)?;
    let (registries, notes) = registries(&given, &names, &environment).map_err(wrong)?;
    given.done()?;
    say_notes(&notes);
    if names.is_empty() {
        return Err(usage("`--push` is missing: give the registry", None, 1));
    }
    let mut settings = invocation.settings(&environment)?;
    settings.registries.extend(registries);
    let store = machine::open_store(&settings, &machine::rise(&settings))?;
    let file = File::open(archive).map_err(|error| format!("reading `{archive}`: {error}"))?;
    let loaded = images::load(&store, file).map_err(|error| commands::report(&error))?;
    let [image] = loaded.as_slice() else {
        return Err(format!("`{archive}` has {} images, and not one", loaded.len()).into());
    };
    for name in &names {
        let target: Reference = name.parse().map_err(|error| format!("`{name}`: {error}"))?;
        images::tag(&store, &image.id.hex(), &target).map_err(|error| commands::report(&error))?;
    }
    drop(store);
    for name in &names {
        own(&["push".to_owned(), name.clone()], &environment, &settings)?;
    }
    Ok(())
}

fn pull(words: &[String], invocation: &Invocation, environment: Environment) -> Result<(), Report> {
    let given = read(PULL, words, Operands::Anywhere)?;
    if given.help {
        return helped(&flags::help("makisu pull IMAGE", ABOUT, PULL));
    }
    let [image] = given.operands.as_slice() else {
        return Err(usage("it takes one image", None, 1));
    };
    let tag = given.last("tag").unwrap_or("latest");
    let name = match given.last("registry").map(registry_config::canonical) {
        None | Some("docker.io") => format!("docker.io/{image}:{tag}"),
        Some(registry) => format!("{registry}/{image}:{tag}"),
    };
    let folder = given.last("extract").map(Path::new);
    given.done()?;
    let settings = invocation.settings(&environment)?;
    own(&["pull".to_owned(), name.clone()], &environment, &settings)?;
    folder.map_or(Ok(()), |folder| files::extract(&name, folder, &environment, &settings))
}

fn own(words: &[String], environment: &Environment, settings: &Settings) -> Result<(), Report> {
    let command: Command = own_command(words, 1)?;
    crate::dispatch(&command, environment, settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalities::flags::testing::walk;

    fn plan(line: &str) -> Result<Plan, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (global, rest) = split(&words);
        let global = flags::read(GLOBAL, &global, Operands::Anywhere)?;
        let given = flags::read(BUILD, &rest, Operands::Anywhere)?;
        translate(&global, given, &Environment::default())
    }

    #[test]
    fn every_flag_is_honoured_or_refused_by_name() {
        walk(BUILD, |words| {
            let mut words = words.to_vec();
            words.extend(["--tag=app", "--push=r", "--redis-cache-addr=r", "."].map(str::to_owned));
            let global = flags::read(GLOBAL, &[], Operands::Anywhere)?;
            let given = flags::read(BUILD, &words, Operands::Anywhere)?;
            translate(&global, given, &Environment::default()).map(|plan| plan.notes)
        });
        walk(GLOBAL, |words| {
            let given = flags::read(GLOBAL, words, Operands::Anywhere)?;
            progress(&given).map(|_| given.notes)
        });
        walk(PUSH, |words| flags::read(PUSH, words, Operands::Anywhere).map(|given| given.notes));
        walk(DIFF, |words| flags::read(DIFF, words, Operands::Anywhere).map(|given| given.notes));
        walk(PULL, |words| flags::read(PULL, words, Operands::Anywhere).map(|given| given.notes));
    }

    #[test]
    fn a_line_becomes_a_line_of_kiln() {
        assert_eq!(
            plan("--modifyfs=true -t r.old/team/app:1 --push r1:5000 --push r2 --replica r3/x:2 --log-fmt=console --dest /a.tar --compression=size src")
                .unwrap().words.join(" "),
            "--progress=plain --tag=r1:5000/team/app:1 --tag=r2/team/app:1 --tag=r3/x:2 --file=src/Dockerfile --layers=unmarked \
             --output=type=image,push=true,compression=gzip,compression-level=9 \
             --output=type=docker,dest=/a.tar,compression=gzip,compression-level=9 src"
        );
        let redis = plan("-t app --push r --redis-cache-addr redis --redis-cache-password=hush --redis-cache-ttl=1h --http-cache-addr=kv .").unwrap();
        let place =
            "type=redis,addr=redis,password-env=KILN_MAKISU_REDIS_PASSWORD,ttl=1h,ref=r/app:latest";
        assert!(redis.words.contains(&format!("--cache-from={place}")), "{:?}", redis.words);
        let to = format!("--cache-to={place},mode=max,ignore-error=true");
        assert!(redis.words.contains(&to), "{:?}", redis.words);
        assert!(redis.notes.iter().any(|note| note.contains("--http-cache-addr")));
        assert_eq!(redis.secrets[0].1.expose(), "hush");
        assert!(!format!("{redis:?}").contains("hush"));
        let http = plan("-t app --push r --http-cache-addr kv:80 --http-cache-header=X-Key:hush .");
        let http = http.unwrap();
        let place = "type=http,url=http://kv:80,header-X-Key-env=KILN_MAKISU_HTTP_HEADER_0,ref=r/app:latest";
        assert!(http.words.contains(&format!("--cache-from={place}")), "{:?}", http.words);
        assert_eq!(http.secrets[0].1.expose(), "hush");
        assert!(!format!("{http:?}").contains("hush"));
        assert!(plan("-t app .").unwrap().words.contains(&"--tag=app".to_owned()));
        for (line, layers) in [("-t app .", "unmarked"), ("-t app --commit=explicit .", "marked")] {
            let words = plan(line).unwrap().words;
            assert!(words.contains(&format!("--layers={layers}")), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            (".", "`--tag` is missing"),
            ("-t a", "one context"),
            ("-t a . --commit=often", "there are implicit and explicit"),
            ("-t a . --blacklist=/usr", "--mount=type=tmpfs"),
            ("-t a . --build-arg=B", "not NAME=VALUE"),
            ("-t a . --compression=lz4", "there are no, speed"),
            ("-t a . --registry-config={\"r\":1}", "PATTERN: OPTIONS"),
            ("-t a . --log-fmt=xml", "console and json"),
            ("-t a . --redis-cache-addr=r", "`--redis-cache-addr` needs `--push`"),
            ("-t a . --push r --redis-cache-addr=r --redis-cache-ttl=x", "`--redis-cache-ttl=x`"),
            ("-t a . --push r --http-cache-addr=r --http-cache-header=hush", "NAME:VALUE"),
            ("-t a . --frob", "unknown flag: --frob"),
        ] {
            let error = plan(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
