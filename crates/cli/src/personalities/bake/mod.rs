//! `docker buildx bake`: targets of HCL, JSON and compose files, built side by side.

mod rows;
mod run;
mod translate;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use bake::{BakeError, DefinitionFile, Definitions, Inputs, ListRow, MAX_FILE_SIZE, OverrideFlags};
use serde_json::{Value, json};

use super::flags::{self, Operands, ParsedFlags};
use super::{helped, say_notes, usage};
use crate::args::compound::fields;
use crate::args::compound::policy::policy;
use crate::args::{FlagError, InFlag as _};
use crate::personalities::command_context::CommandContext;
use crate::render::{Report, table};
use crate::settings::Environment;
use crate::terminal;

pub use rows::BAKE;

/// The files that are read if none is named, in this order.
const DEFAULT_FILES: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];

/// Builds targets, or prints them.
///
/// # Errors
/// If a flag or file is wrong, or a build fails.
pub fn run(words: &[String], context: &CommandContext) -> Result<(), Report> {
    let given = flags::read(BAKE, words, Operands::Anywhere).map_err(|error| {
        let code = if error.is_unknown() { 125 } else { 1 };
        usage(error.to_string(), None, code)
    })?;
    if given.help {
        let about = "Builds the targets of bake and compose files, side by side.";
        return helped(&flags::help("docker buildx bake [TARGET...]", about, BAKE));
    }
    let is_printed = given.is_on("print", false);
    // Before a definition is read from standard input, which a process that is started again in a
    // user namespace would find empty.
    let rights = match is_printed || given.last("list").is_some() {
        true => None,
        false => Some(run::rise(context)?),
    };
    say_notes(&given.notes);
    let wrong = |error: FlagError| usage(error.to_string(), None, 1);
    let wrong_definition = |error: BakeError| usage(error.to_string(), None, 1);
    let inputs = inputs(&given, &context.environment).map_err(wrong)?;
    let definitions = Definitions::load(inputs, &Disk).map_err(wrong_definition)?;
    say_notes(definitions.notes());
    if is_printed && given.last("list").is_some() {
        let error = FlagError::Usage("`--print` and `--list` exclude each other".into());
        return Err(wrong(error));
    }
    if let Some(list) = given.last("list") {
        return terminal::print(&listed(list, &definitions).map_err(wrong)?);
    }
    let overrides = overrides(&given).map_err(wrong)?;
    let resolved = definitions.resolve(&given.operands, &overrides).map_err(wrong_definition)?;
    let plan = run::BakePlan {
        resolved,
        progress: given.last("progress").map(str::to_owned),
        metadata_file: given.last("metadata-file").map(str::to_owned),
        allow: given.texts("allow"),
    };
    given.done()?;
    match rights {
        Some(rights) => run::build(plan, context, rights),
        None => terminal::print(&plan.resolved.printed()),
    }
}

/// The files and variables of a command line.
fn inputs(given: &ParsedFlags, environment: &Environment) -> Result<Inputs, FlagError> {
    let mut inputs = Inputs::default();
    for text in given.all("var") {
        let wrong = || FlagError::bad(format!("--var {text}"), "it is not NAME=VALUE");
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        inputs.variables.insert(name.into(), value.into());
    }
    let variables = environment.all();
    inputs.environment = variables.map(|(name, value)| (name.into(), value.into())).collect();
    for name in file_names(given, environment)? {
        let text = read(&name)?;
        inputs.files.push(DefinitionFile { name, text });
    }
    Ok(inputs)
}

/// The files of `--file`, else of the environment, else the default ones that exist.
fn file_names(given: &ParsedFlags, environment: &Environment) -> Result<Vec<String>, FlagError> {
    let mut files = given.texts("file");
    if files.is_empty()
        && let Some(list) = environment.get("BUILDX_BAKE_FILE")
    {
        let separator = environment.get("BUILDX_BAKE_PATH_SEPARATOR").unwrap_or(":");
        files = list.split(separator).map(str::to_owned).collect();
    }
    // Definitions in repositories are refused below, so all files are in this folder.
    for file in &mut files {
        if let Some(here) = file.strip_prefix("cwd://") {
            *file = here.to_owned();
        }
    }
    if files.is_empty() {
        let existing = DEFAULT_FILES.iter().filter(|file| Path::new(file).is_file());
        files = existing.map(|file| (*file).to_owned()).collect();
    }
    if files.is_empty() {
        return Err(FlagError::Usage(
            "there is no docker-bake.hcl, docker-bake.json or compose.yaml here: name a file with `-f`"
                .into(),
        ));
    }
    let remote = given.operands.first().filter(|first| is_remote(first));
    if let Some(remote) = remote.or(files.iter().find(|file| is_remote(file))) {
        return Err(FlagError::refused(
            remote,
            "definitions from elsewhere are not read: clone the repository, and run bake in it",
        ));
    }
    let is_relative = environment.get("BUILDX_BAKE_FILE_RELATIVE_PATHS");
    if is_relative.is_some_and(|value| !matches!(value.trim(), "0" | "false")) {
        return Err(FlagError::refused(
            "BUILDX_BAKE_FILE_RELATIVE_PATHS",
            "paths begin in the folder that bake runs in; unset it, and write them so",
        ));
    }
    Ok(files)
}

fn is_remote(text: &str) -> bool {
    text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/")
}

/// The text of a file of the command line; `-` is standard input.
fn read(file: &str) -> Result<String, FlagError> {
    let text = match file {
        "-" => limited(io::stdin().lock()),
        path => File::open(path).and_then(limited),
    };
    text.map_err(|error| FlagError::Usage(format!("reading `{file}`: {error}")))
}

fn limited(reader: impl io::Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_SIZE {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_FILE_SIZE >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

/// The files of this folder, for those that compose files name.
struct Disk;

impl bake::ProjectFiles for Disk {
    fn read(&self, path: &Path) -> io::Result<Option<String>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if file.metadata()?.is_dir() { Ok(None) } else { limited(file).map(Some) }
    }
}

/// The flags that change targets.
fn overrides(given: &ParsedFlags) -> Result<OverrideFlags, FlagError> {
    let switch = |name: &'static str| given.has(name).then(|| given.is_on(name, false));
    let text = |name: &'static str| given.last(name).map(str::to_owned);
    let (policies, replaces_policies) = policies(given)?;
    let mut call = text("call");
    if given.is_on("check", false) {
        call = Some("check".into());
    }
    Ok(OverrideFlags {
        set: given.texts("set"),
        no_cache: switch("no-cache"),
        pull: switch("pull"),
        provenance: text("provenance"),
        sbom: text("sbom"),
        call,
        push: given.is_on("push", false),
        load: given.is_on("load", false),
        policies,
        replaces_policies,
    })
}

/// The values of `--policy`, and true if they replace the policies of targets.
fn policies(given: &ParsedFlags) -> Result<(Vec<String>, bool), FlagError> {
    let values = given.texts("policy");
    for value in &values {
        for field in fields(value).in_flag("--policy")? {
            let name = field.split('=').next().unwrap_or_default().trim().to_lowercase();
            if matches!(name.as_str(), "filename" | "reset") {
                let reason =
                    format!("`{field}` is for the `policy` of a target, in its definition");
                return Err(FlagError::bad("--policy", reason));
            }
        }
    }
    let policy = policy(&values).in_flag("--policy")?;
    Ok((values, policy == build::Policy::Disabled))
}

/// The text of `--list`: `targets` or `variables`, as a table or as JSON.
fn listed(list: &str, definitions: &Definitions) -> Result<String, FlagError> {
    let (kind, is_json) = match list.trim_start_matches("type=").split_once(',') {
        Some((kind, "format=json")) => (kind, true),
        Some((kind, "format=table")) => (kind, false),
        Some((_, other)) => {
            let reason = format!("`{other}` is none of format=table, format=json");
            return Err(FlagError::bad("--list", reason));
        }
        None => (list.trim_start_matches("type="), false),
    };
    let rows = match kind {
        "targets" => definitions.list_targets(),
        "variables" => {
            definitions.list_variables().map_err(|error| FlagError::Usage(error.to_string()))?
        }
        other => {
            let reason = "there are targets and variables";
            return Err(FlagError::bad(format!("--list={other}"), reason));
        }
    };
    if is_json {
        let json = |row: &ListRow| match &row.value {
            None => json!({ "name": row.name, "description": row.description }),
            Some(value) => {
                json!({ "name": row.name, "value": value, "description": row.description })
            }
        };
        let values: Vec<Value> = rows.iter().map(json).collect();
        return Ok(serde_json::to_string_pretty(&values).unwrap_or_default() + "\n");
    }
    if kind == "targets" {
        let cells: Vec<[String; 2]> =
            rows.into_iter().map(|row| [row.name, row.description]).collect();
        return Ok(table(["TARGET", "DESCRIPTION"], &cells));
    }
    let cells: Vec<[String; 3]> = rows
        .into_iter()
        .map(|row| [row.name, row.value.unwrap_or_default(), row.description])
        .collect();
    Ok(table(["VARIABLE", "VALUE", "DESCRIPTION"], &cells))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalities::flags::testing::walk;

    fn definitions(text: &str) -> Definitions {
        let files = vec![DefinitionFile { name: "a.hcl".into(), text: text.into() }];
        let inputs = Inputs { files, ..Inputs::default() };
        Definitions::load(inputs, &bake::NoFiles).unwrap()
    }

    #[test]
    fn targets_and_variables_are_listed() {
        let definitions = definitions(
            "variable \"TAG\" { default = \"latest\" }\ntarget \"app\" { description = \"it\" }",
        );
        let targets = listed("targets", &definitions).unwrap();
        assert!(targets.starts_with("TARGET") && targets.contains("app"), "{targets}");
        let variables = listed("type=variables,format=json", &definitions).unwrap();
        let variables: Value = serde_json::from_str(&variables).unwrap();
        assert_eq!(variables, json!([{"name": "TAG", "value": "latest", "description": ""}]));
        assert!(listed("x", &definitions).is_err());
    }

    #[test]
    fn policies_of_definitions_are_not_flags() {
        for (value, word) in [
            ("--policy=filename=x", "`filename=x` is for the `policy`"),
            ("--policy=disabled=true,strict=true", "no other option"),
        ] {
            let given = flags::read(BAKE, &[value.to_owned()], Operands::Anywhere).unwrap();
            let error = overrides(&given).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn every_flag_is_honoured_or_refused_by_name() {
        walk(BAKE, |words| {
            let given = flags::read(BAKE, words, Operands::Anywhere)?;
            let definitions = definitions("target \"x\" {}");
            definitions
                .resolve(&["x".to_owned()], &overrides(&given)?)
                .map_err(|error| FlagError::Usage(error.to_string()))?;
            // The others are read where files are.
            for name in ["file", "var", "list", "progress", "metadata-file", "allow"] {
                given.all(name);
            }
            given.is_on("print", false);
            given.done().map(|()| given.notes)
        });
    }
}
