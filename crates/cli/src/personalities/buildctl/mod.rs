//! `buildctl` and `buildctl-daemonless.sh`: the Dockerfile frontend's options as flags of
//! `kiln build`.

mod rows;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::flags::{self, Given, Operands, Row};
use super::{
    Invocation, NO_POLICY, build_args, field, helped, own_command, say_notes, usage, word,
};
use crate::args::Engine;
use crate::args::compound::{boolean, fields};
use crate::commands;
use crate::render::{Report, table};
use crate::settings::Environment;
use crate::terminal;

pub use rows::{BUILD, DU, GLOBAL, OPTIONS, PRUNE};

/// The version of BuildKit that is spoken.
const VERSION: &str = concat!("v0.31.0+kiln-", env!("CARGO_PKG_VERSION"));

/// Does what `buildctl` would.
///
/// # Errors
/// What is wrong with a flag, the Dockerfile or a step.
pub fn run(invocation: &Invocation, mut environment: Environment) -> Result<(), Report> {
    if let Some(file) = config_of_flags(environment.get("BUILDKITD_FLAGS").unwrap_or_default()) {
        environment.set("KILN_BUILDKITD_CONFIG", &file);
    }
    let given = read(GLOBAL, &invocation.words, Operands::End)?;
    if given.is_on("version", false) {
        let line = format!("buildctl github.com/moby/buildkit {VERSION} kiln\n");
        return terminal::print(&line);
    }
    say_notes(&given.notes);
    let (command, rest) = match given.operands.split_first() {
        Some((command, rest)) if command != "help" => (command.as_str(), rest),
        _ => return helped(&help()),
    };
    match (command, rest) {
        ("build" | "b", rest) => build(invocation, rest, environment),
        ("du", rest) => {
            let given = read(DU, rest, Operands::Anywhere)?;
            let mut words = vec!["du".to_owned()];
            words.extend(given.is_on("verbose", false).then(|| "--verbose".to_owned()));
            words.extend(given.last("format").map(|format| word("format", format)));
            words.extend(given.all("filter").into_iter().map(|filter| word("filter", filter)));
            own(&words, invocation, &environment)
        }
        ("prune", rest) => {
            let given = read(PRUNE, rest, Operands::Anywhere)?;
            let words = prune(&given).map_err(|error| usage(error, None, 1))?;
            own(&words, invocation, &environment)
        }
        ("debug", [what, ..]) if what == "workers" => {
            let row = ["kiln".to_owned(), oci::Platform::host().to_string()];
            terminal::print(&table(["ID", "PLATFORMS"], &[row]))
        }
        ("debug", [what, ..]) if what == "info" => {
            terminal::print(&format!("BuildKit:\tgithub.com/moby/buildkit {VERSION} kiln\n"))
        }
        ("debug" | "dial-stdio" | "prune-histories", _) => Err(usage(
            format!(
                "`buildctl {command}` needs a daemon, which is not there: builds run in this process"
            ),
            None,
            1,
        )),
        _ => Err(usage(
            format!(
                "`buildctl {command}` is not there: there are build, du, prune and debug workers"
            ),
            None,
            1,
        )),
    }
}

/// The configuration that `buildctl-daemonless.sh` would give its daemon: `--config FILE` in
/// BUILDKITD_FLAGS.
fn config_of_flags(flags: &str) -> Option<String> {
    let mut words = flags.split_whitespace();
    let mut found = None;
    while let Some(word) = words.next() {
        let flag = word.trim_start_matches('-');
        match flag.split_once('=') {
            _ if flag.len() == word.len() => {}
            Some(("config", file)) => found = Some(file.to_owned()),
            None if flag == "config" => found = words.next().map(str::to_owned),
            _ => {}
        }
    }
    found
}

fn read(rows: &'static [Row], words: &[String], operands: Operands) -> Result<Given, Report> {
    let given = flags::read(rows, words, operands).map_err(|error| usage(error, None, 1))?;
    if given.help {
        terminal::print(&help())?;
        return Err(Report { code: Some(0), ..Report::default() });
    }
    Ok(given)
}

fn help() -> String {
    let about = "buildctl, spoken by kiln: Dockerfiles are built in this process.";
    let mut text =
        flags::help("buildctl build --frontend dockerfile.v0 --local context=DIR …", about, BUILD);
    text.push_str("\nOptions (--opt):\n");
    for (name, what) in OPTIONS {
        text.push_str(&format!("  {name:<20} {what}\n"));
    }
    text
}

fn own(words: &[String], invocation: &Invocation, environment: &Environment) -> Result<(), Report> {
    let command = own_command(words, 1)?;
    crate::dispatch(&command, environment, &invocation.settings(environment)?)
}

fn prune(given: &Given) -> Result<Vec<String>, String> {
    // It never asks.
    let mut words = vec!["prune".to_owned(), "--force".to_owned()];
    for flag in ["all", "verbose"] {
        words.extend(given.is_on(flag, false).then(|| format!("--{flag}")));
    }
    for (flag, own) in [
        ("keep-storage", "max-used-space"),
        ("keep-storage-min", "reserved-space"),
        ("free-storage", "min-free-space"),
    ] {
        if let Some(size) = given.last(flag) {
            let megabytes: f64 = size
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite() && *number >= 0.0)
                .ok_or_else(|| format!("`--{flag}={size}`: it is not a number of megabytes"))?;
            words.push(format!("--{own}={:.0}", megabytes * 1e6));
        }
    }
    words.extend(given.last("keep-duration").map(|time| word("until", time)));
    words.extend(given.all("filter").into_iter().map(|filter| word("filter", filter)));
    given.done()?;
    Ok(words)
}

fn build(
    invocation: &Invocation,
    words: &[String],
    mut environment: Environment,
) -> Result<(), Report> {
    // buildctl asks no git: a provenance says of the source what `--opt vcs:…` says.
    environment.set("BUILDX_GIT_INFO", "false");
    environment.set("BUILDX_GIT_LABELS", "false");
    let given = read(BUILD, words, Operands::Anywhere)?;
    let words = translate(&given).map_err(|error| usage(error, None, 1))?;
    say_notes(&given.notes);
    let args = build_args([vec![NO_POLICY.into()], words].concat(), 1)?;
    let settings = invocation.settings(&environment)?;
    let flags = commands::build::read(&args, Engine::Docker, &environment, &settings)?;
    let built = commands::build::execute(flags, &environment, &settings);
    built.map(drop).map_err(|mut report| {
        if report.doing == Report::SOLVING {
            report.doing = &["failed to solve"];
        }
        report
    })
}

/// A cache as buildx sends it.
#[derive(Deserialize)]
struct CacheImport {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Attrs", default)]
    attributes: BTreeMap<String, String>,
}

/// Makes words of `kiln build`.
fn translate(given: &Given) -> Result<Vec<String>, String> {
    if let Some(word) = given.operands.first() {
        return Err(format!("`{word}` belongs to no flag; LLB on standard input is not read"));
    }
    let Some(frontend) = given.last("frontend") else {
        return Err("`--frontend` is missing: give `--frontend dockerfile.v0`; LLB on standard input is not read".into());
    };
    let named = |flag: &'static str| -> Result<BTreeMap<String, String>, String> {
        let pairs = given.all(flag).into_iter().map(|text| match text.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(format!("`--{flag} {text}`: it is not NAME=VALUE")),
        });
        pairs.collect()
    };
    let options = named("opt")?;
    let mut places =
        Places { locals: named("local")?, layouts: named("oci-layout")?, words: Vec::new() };
    let option = |name: &str| options.get(name).map(String::as_str).filter(|text| !text.is_empty());
    if frontend == "gateway.v0" {
        let source = option("source").unwrap_or_default();
        let name = source.trim_start_matches("docker.io/");
        if !name.starts_with("docker/dockerfile") {
            return Err(format!(
                "`--opt source={source}`: only docker/dockerfile is built in; other frontends are not run"
            ));
        }
    }
    for (name, value) in &options {
        places.option(name, value)?;
    }
    let (locals, mut words) = (places.locals, places.words);
    let local = |key: &str| locals.get(key).map(String::as_str);
    let context_key = option("contextkey").unwrap_or("context");
    let dockerfile_key = option("dockerfilekey").unwrap_or("dockerfile");
    let context = match (option("context"), local(context_key)) {
        (Some(remote), _) => remote.to_owned(),
        (None, Some(folder)) => match option("contextsubdir") {
            Some(sub) => format!("{}/{sub}", folder.trim_end_matches('/')),
            None => folder.to_owned(),
        },
        (None, None) => {
            return Err(format!(
                "`--local {context_key}=DIR` is missing: the folder with the files"
            ));
        }
    };
    let filename = option("filename");
    match local(dockerfile_key) {
        Some(folder) => {
            let file =
                format!("{}/{}", folder.trim_end_matches('/'), filename.unwrap_or("Dockerfile"));
            words.push(word("file", &file));
        }
        None => words.extend(filename.map(|name| word("file", name))),
    }
    // What buildx ignores, buildctl refuses.
    for flag in ["output", "import-cache", "export-cache", "secret", "ssh", "allow"] {
        if given.all(flag).contains(&"") {
            return Err(format!("`--{flag}`: it is empty"));
        }
    }
    for output in given.all("output") {
        words.push(word("output", &to_stdout(output)?));
    }
    if !given.has("output") {
        words.push("--output=type=cacheonly".into());
    }
    for (flag, own) in [
        ("import-cache", "cache-from"),
        ("export-cache", "cache-to"),
        ("secret", "secret"),
        ("ssh", "ssh"),
        ("allow", "allow"),
        ("metadata-file", "metadata-file"),
    ] {
        words.extend(given.all(flag).into_iter().map(|value| word(own, value)));
    }
    if let Some(mode) = given.last("progress") {
        words.push(word("progress", if mode == "quiet" { "none" } else { mode }));
    }
    if given.is_on("no-cache", false) {
        words.push("--no-cache".into());
    }
    words.push(context);
    given.done()?;
    Ok(words)
}

/// An output that names no place is an archive on standard output.
fn to_stdout(output: &str) -> Result<String, String> {
    let parts = fields(output)?;
    let has = |key: &str| parts.iter().any(|part| part.split('=').next() == Some(key));
    let is_archive = ["type=docker", "type=oci", "type=tar"]
        .iter()
        .any(|kind| parts.iter().any(|part| part == kind));
    Ok(match is_archive && !has("dest") {
        true => format!("{output},dest=-"),
        false => output.to_owned(),
    })
}

/// What options are read into.
struct Places {
    locals: BTreeMap<String, String>,
    layouts: BTreeMap<String, String>,
    words: Vec<String>,
}

impl Places {
    fn push(&mut self, flag: &str, value: &str) {
        self.words.push(word(flag, value));
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |why: String| Err(format!("`--opt {name}={value}`: {why}"));
        if let Some((family, key)) = name.split_once(':') {
            match family {
                "build-arg" => self.push("build-arg", &format!("{key}={value}")),
                "label" => self.push("label", &format!("{key}={value}")),
                "context" => return self.context(key, value),
                "vcs" if value.is_empty() => {}
                "vcs" => self.push("vcs", &format!("{key}={value}")),
                "attest" => {
                    let options =
                        if value.is_empty() { String::new() } else { format!(",{value}") };
                    self.push("attest", &format!("type={key}{options}"));
                }
                _ => return wrong("there is no such option".into()),
            }
            return Ok(());
        }
        match name {
            "target" | "platform" | "shm-size" | "ulimit" | "add-hosts" | "cgroup-parent"
                if value.is_empty() => {}
            // Read together, where all of them are known.
            "filename" | "context" | "contextsubdir" | "contextkey" | "dockerfilekey"
            | "source" => {}
            "target" | "platform" | "shm-size" | "cgroup-parent" => self.push(name, value),
            "no-cache" if value.is_empty() => self.words.push("--no-cache".into()),
            "no-cache" => self.push("no-cache-filter", value),
            "add-hosts" => {
                for host in value.split(',').filter(|host| !host.is_empty()) {
                    self.push("add-host", host);
                }
            }
            "ulimit" => {
                for limit in value.split(',').filter(|limit| !limit.is_empty()) {
                    self.push("ulimit", limit);
                }
            }
            "force-network-mode" => {
                self.push("network", if value == "sandbox" { "default" } else { value });
            }
            "image-resolve-mode" => match value {
                "pull" => self.words.push("--pull".into()),
                "" | "default" | "local" => {}
                _ => return wrong("there are default, pull and local".into()),
            },
            "cache-from" => {
                for reference in value.split(',').filter(|reference| !reference.is_empty()) {
                    self.push("cache-from", reference);
                }
            }
            "cache-imports" => {
                let imports: Vec<CacheImport> = match serde_json::from_str(value) {
                    Ok(imports) => imports,
                    Err(error) => return wrong(format!("it is no JSON of caches: {error}")),
                };
                for import in imports {
                    let mut parts = vec![field("type", &import.kind)];
                    parts.extend(import.attributes.iter().map(|(key, value)| field(key, value)));
                    self.push("cache-from", &parts.join(","));
                }
            }
            "requestid" => {
                let call = value.trim_start_matches("frontend.");
                self.push("call", call);
            }
            "multi-platform" => match boolean(value) {
                Some(false) => {}
                _ => return wrong("several platforms make an index anyway; leave it out".into()),
            },
            // `kiln build` says what becomes of them.
            "memory" => self.push("memory", value),
            "memswap" => self.push("memory-swap", value),
            "cpushares" => self.push("cpu-shares", value),
            "cpuperiod" => self.push("cpu-period", value),
            "cpuquota" => self.push("cpu-quota", value),
            "cpusetcpus" => self.push("cpuset-cpus", value),
            "cpusetmems" => self.push("cpuset-mems", value),
            "hostname" => {
                return wrong(
                    "a step's host name is BuildKit's, and part of its key; leave it out".into(),
                );
            }
            _ => {
                return wrong(
                    "there is no such option; `buildctl --help` lists what is there".into(),
                );
            }
        }
        Ok(())
    }

    fn context(&mut self, name: &str, value: &str) -> Result<(), String> {
        // `NAME::linux/amd64` is a context for one platform.
        let place = match value.split_once(':') {
            Some(("local", key)) => self.locals.get(key).cloned().ok_or_else(|| {
                format!("`--opt context:{name}={value}`: there is no `--local {key}=DIR`")
            })?,
            Some(("oci-layout", rest)) => {
                let rest = rest.trim_start_matches("//");
                let end = rest.find(['@', ':']).unwrap_or(rest.len());
                let (key, version) = rest.split_at(end);
                let folder = self.layouts.get(key).ok_or_else(|| {
                    format!("`--opt context:{name}={value}`: there is no `--oci-layout {key}=DIR`")
                })?;
                format!("oci-layout://{folder}{version}")
            }
            _ => value.to_owned(),
        };
        self.push("build-context", &format!("{name}={place}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalities::flags::testing::walk;

    fn line(words: &str) -> Result<String, String> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        translate(&flags::read(BUILD, &words, Operands::Anywhere)?).map(|words| words.join(" "))
    }

    #[test]
    fn every_flag_is_honoured_or_refused_by_name() {
        walk(BUILD, |words| {
            let mut words = words.to_vec();
            words.extend(["--frontend=dockerfile.v0", "--local=context=."].map(str::to_owned));
            let given = flags::read(BUILD, &words, Operands::Anywhere)?;
            translate(&given).map(|_| given.notes)
        });
        walk(PRUNE, |words| {
            let given = flags::read(PRUNE, words, Operands::Anywhere)?;
            prune(&given).map(|_| given.notes)
        });
        walk(GLOBAL, |words| flags::read(GLOBAL, words, Operands::End).map(|given| given.notes));
        walk(DU, |words| flags::read(DU, words, Operands::Anywhere).map(|given| given.notes));
    }

    #[test]
    fn a_daemons_flags_name_its_configuration() {
        for (flags, file) in [
            ("--config /b.toml", Some("/b.toml")),
            ("--oci-worker-no-process-sandbox --config=/b.toml", Some("/b.toml")),
            ("-config=/b.toml", Some("/b.toml")),
            ("--debug config=/b.toml", None),
            ("", None),
        ] {
            assert_eq!(config_of_flags(flags).as_deref(), file, "{flags}");
        }
    }

    #[test]
    fn every_option_is_known() {
        for (name, what) in OPTIONS {
            let name = name.replace(":NAME", ":X");
            let value = match name.as_str() {
                "cache-imports" => "[]",
                "image-resolve-mode" => "pull",
                "source" => "docker/dockerfile:1",
                _ => "1",
            };
            let base = "--frontend dockerfile.v0 --local context=. --local 1=.";
            let result = line(&format!("{base} --opt {name}={value}"));
            assert_eq!(
                result.is_err(),
                what.contains("refused") && name != "source",
                "{name}: {result:?}"
            );
            if let Err(error) = result {
                assert!(error.starts_with(&format!("`--opt {name}=")), "{error}");
            }
        }
        assert!(line("--frontend dockerfile.v0 --local context=. --opt frob=1").is_err());
    }

    #[test]
    fn a_line_becomes_a_line_of_kiln() {
        assert_eq!(
            line(
                "--frontend dockerfile.v0 --local context=src --local dockerfile=deploy/ --opt filename=app.Dockerfile \
                 --opt build-arg:A=b=c --opt platform=linux/arm64 --output type=image,name=r/app,push=true \
                 --export-cache type=registry,ref=r/app:c,mode=max --import-cache type=registry,ref=r/app:c --progress plain"
            )
            .unwrap(),
            "--build-arg=A=b=c --platform=linux/arm64 --file=deploy/app.Dockerfile \
             --output=type=image,name=r/app,push=true --cache-from=type=registry,ref=r/app:c \
             --cache-to=type=registry,ref=r/app:c,mode=max --progress=plain src"
        );
        assert_eq!(
            line("--frontend=gateway.v0 --opt source=docker/dockerfile:1 --local context=. --output type=docker,name=a --no-cache").unwrap(),
            "--output=type=docker,name=a,dest=- --no-cache ."
        );
        assert_eq!(
            line("--frontend=dockerfile.v0 --local context=. --local lib=../lib --opt context:lib=local:lib --opt no-cache=").unwrap(),
            "--build-context=lib=../lib --no-cache --output=type=cacheonly ."
        );
        let imports = r#"--frontend=dockerfile.v0 --local context=. --opt cache-imports=[{"Type":"registry","Attrs":{"ref":"a"}}]"#;
        assert!(line(imports).unwrap().contains("--cache-from=type=registry,ref=a"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (words, word) in [
            ("--local context=.", "`--frontend` is missing"),
            ("--frontend x.v0 --local context=.", "`--frontend dockerfile.v0`"),
            ("--frontend gateway.v0 --opt source=me/mine --local context=.", "source=me/mine"),
            ("--frontend dockerfile.v0", "`--local context=DIR` is missing"),
            ("--frontend dockerfile.v0 --local context", "not NAME=VALUE"),
            ("--frontend dockerfile.v0 --local context=. --opt context:a=local:b", "--local b=DIR"),
            ("--frontend dockerfile.v0 --local context=. --trace t", "--progress=rawjson"),
        ] {
            let error = line(words).unwrap_err();
            assert!(error.contains(word), "{words}: {error}");
        }
    }
}
