//! `docker buildx bake`: targets of HCL, JSON and compose files, built side by side.

mod compose;
mod definition;
mod dotenv;
mod expression;
mod functions;
mod networks;
mod rows;
mod run;
mod substitute;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::flags::{self, Given, Operands};
use super::{helped, say_notes, usage};
use crate::args::compound::fields;
use crate::args::compound::policy::policy;
use crate::personalities::docker::Context;
use crate::render::{Report, table};
use crate::settings::Environment;
use crate::terminal;

use definition::{Definition, Named};
use target::Target;

pub use rows::BAKE;

/// Files that are read where none is named, in this order, all that there are.
const FILES: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];

/// Builds, or prints what would be built.
///
/// # Errors
/// What is wrong with a flag, a file or a build.
pub fn run(words: &[String], context: &Context) -> Result<(), Report> {
    let given = flags::read(BAKE, words, Operands::Anywhere).map_err(|error| {
        let code = if error.is_unknown() { 125 } else { 1 };
        usage(error.to_string(), None, code)
    })?;
    if given.help {
        let about = "Builds the targets of bake and compose files, side by side.";
        return helped(&flags::help("docker buildx bake [TARGET...]", about, BAKE));
    }
    say_notes(&given.notes);
    let wrong = |error: String| usage(error, None, 1);
    let loaded = load(&given, &context.environment).map_err(wrong)?;
    say_notes(&loaded.notes);
    if given.is_on("print", false) && given.last("list").is_some() {
        return Err(wrong("`--print` and `--list` exclude each other".into()));
    }
    if let Some(list) = given.last("list") {
        return terminal::print(&listed(list, &loaded).map_err(wrong)?);
    }
    let overrides = overrides(&given, &context.environment).map_err(wrong)?;
    let resolved = resolve(&loaded, &given.operands, &overrides).map_err(wrong)?;
    let is_printed = given.is_on("print", false);
    let plan = run::Plan {
        resolved,
        progress: given.last("progress").map(str::to_owned),
        metadata_file: given.last("metadata-file").map(str::to_owned),
        allow: given.all("allow").into_iter().map(str::to_owned).collect(),
    };
    given.done()?;
    match is_printed {
        true => terminal::print(&printed(&plan.resolved)),
        false => run::build(plan, context),
    }
}

/// What all files say, with values instead of expressions.
#[derive(Debug, Default)]
struct Loaded {
    definition: Definition,
    groups: BTreeMap<String, Vec<String>>,
    targets: BTreeMap<String, Evaluated>,
    /// Names of targets in the order of the files.
    order: Vec<String>,
    /// What changes nothing.
    notes: Vec<String>,
}

/// A target before its parents.
#[derive(Clone, Debug, Default)]
struct Evaluated {
    inherits: Vec<String>,
    target: Target,
}

/// What is built.
#[derive(Debug, Default)]
struct Resolved {
    groups: BTreeMap<String, Vec<String>>,
    targets: BTreeMap<String, Target>,
}

fn load(given: &Given, environment: &Environment) -> Result<Loaded, String> {
    let mut loaded = Loaded::default();
    loaded.definition.environment = environment.clone();
    for text in given.all("var") {
        let (name, value) =
            text.split_once('=').ok_or_else(|| format!("`--var {text}`: it is not NAME=VALUE"))?;
        loaded.definition.given.insert(name.into(), value.into());
    }
    let mut files: Vec<String> = given.all("file").into_iter().map(str::to_owned).collect();
    if files.is_empty()
        && let Some(list) = environment.get("BUILDX_BAKE_FILE")
    {
        let separator = environment.get("BUILDX_BAKE_PATH_SEPARATOR").unwrap_or(":");
        files = list.split(separator).map(str::to_owned).collect();
    }
    // All files are in this folder: definitions from elsewhere are not read.
    for file in &mut files {
        if let Some(here) = file.strip_prefix("cwd://") {
            *file = here.to_owned();
        }
    }
    if files.is_empty() {
        files = FILES
            .iter()
            .filter(|file| Path::new(file).is_file())
            .map(|file| (*file).to_owned())
            .collect();
    }
    if files.is_empty() {
        return Err("there is no docker-bake.hcl, docker-bake.json or compose.yaml here: name a file with `-f`".into());
    }
    let remote = given.operands.first().filter(|first| is_remote(first));
    if let Some(remote) = remote.or(files.iter().find(|file| is_remote(file))) {
        return Err(format!(
            "`{remote}`: definitions from elsewhere are not read: clone the repository, and run bake in it"
        ));
    }
    let is_relative = environment.get("BUILDX_BAKE_FILE_RELATIVE_PATHS");
    if is_relative.is_some_and(|value| !matches!(value.trim(), "0" | "false")) {
        return Err("`BUILDX_BAKE_FILE_RELATIVE_PATHS`: paths begin in the folder that bake runs in; unset it, and write them so".into());
    }
    let mut project: Option<compose::Project> = None;
    for file in &files {
        let text = read(file)?;
        let failed = |error: String| format!("`{file}`: {error}");
        match kind_of(file, &text) {
            FileKind::Compose => {
                let project = match &mut project {
                    Some(project) => project,
                    None => project
                        .insert(compose::Project::new(environment, &loaded.definition.given)?),
                };
                project.add(file, &text).map_err(failed)?;
            }
            FileKind::Json => loaded.definition.add_json(&text).map_err(failed)?,
            FileKind::Hcl => loaded.definition.add_hcl(&text).map_err(failed)?,
        }
    }
    let is_project = project.is_some();
    let services = project.map(compose::Project::targets).transpose()?.unwrap_or_default();
    loaded.notes.extend(services.notes);
    let names: Vec<String> = services.targets.iter().map(|(name, _)| name.clone()).collect();
    for (name, target) in services.targets {
        loaded.say(name, Evaluated { inherits: Vec::new(), target });
    }
    loaded.evaluate()?;
    if is_project && !loaded.groups.contains_key("default") {
        loaded.groups.insert("default".into(), names);
    }
    Ok(loaded)
}

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Compose,
    Json,
    Hcl,
}

/// What a file is written in: its name says so, or what it looks like, as with `-f -`.
fn kind_of(file: &str, text: &str) -> FileKind {
    let extension = Path::new(file).extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_lowercase).as_deref() {
        Some("yaml" | "yml") => FileKind::Compose,
        Some("json") => FileKind::Json,
        Some("hcl") => FileKind::Hcl,
        _ if compose::is_compose(text) => FileKind::Compose,
        _ if text.trim_start().starts_with('{') => FileKind::Json,
        _ => FileKind::Hcl,
    }
}

fn is_remote(text: &str) -> bool {
    text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/")
}

fn read(file: &str) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    let limit = definition::LARGEST as u64 + 1;
    let read = match file {
        "-" => std::io::stdin().lock().take(limit).read_to_string(&mut text),
        path => {
            let file =
                std::fs::File::open(path).map_err(|error| format!("reading `{path}`: {error}"))?;
            file.take(limit).read_to_string(&mut text)
        }
    };
    read.map_err(|error| format!("reading `{file}`: {error}"))?;
    match text.len() > definition::LARGEST {
        true => Err(format!("`{file}` is larger than {} MiB", definition::LARGEST >> 20)),
        false => Ok(text),
    }
}

impl Loaded {
    /// Adds what is said of a target to what was said before.
    fn say(&mut self, name: String, evaluated: Evaluated) {
        match self.targets.get_mut(&name) {
            Some(known) => {
                known.target.merge(&evaluated.target);
                known.inherits.extend(evaluated.inherits);
            }
            None => {
                self.order.push(name.clone());
                self.targets.insert(name, evaluated);
            }
        }
    }

    fn evaluate(&mut self) -> Result<(), String> {
        let definition = std::mem::take(&mut self.definition);
        let result = self.evaluate_all(&definition);
        self.definition = definition;
        result
    }

    fn evaluate_all(&mut self, definition: &Definition) -> Result<(), String> {
        for block in &definition.targets {
            self.evaluate_target(definition, block)
                .map_err(|error| format!("target `{}`: {error}", block.name))?;
        }
        for block in &definition.groups {
            let failed = |error| format!("group `{}`: {error}", block.name);
            let mut targets = Vec::new();
            for (key, value) in &block.attributes {
                let value = definition.evaluate(value, &[]).map_err(failed)?;
                match key.as_str() {
                    "targets" => targets = names(&value).map_err(failed)?,
                    "description" => {}
                    _ => return Err(failed(format!("there is no attribute `{key}`"))),
                }
            }
            let group = self.groups.entry(block.name.clone()).or_default();
            group.extend(targets);
        }
        Ok(())
    }

    fn evaluate_target(&mut self, definition: &Definition, block: &Named) -> Result<(), String> {
        let find = |wanted: &str| {
            block.attributes.iter().find(|(key, _)| key == wanted).map(|(_, value)| value)
        };
        let combinations = match find("matrix") {
            Some(matrix) => combinations(&definition.evaluate(matrix, &[])?)?,
            None => vec![Vec::new()],
        };
        if find("matrix").is_some() && find("name").is_none() {
            return Err("a `matrix` needs a `name`, as `name = \"app-${tgt}\"`".into());
        }
        let mut made = Vec::new();
        for locals in &combinations {
            let name = match (find("name"), find("matrix")) {
                (Some(name), Some(_)) => {
                    let value = definition.evaluate(name, locals)?;
                    expression::text(&value)?
                }
                (Some(_), None) => return Err("`name` is for targets with a `matrix`".into()),
                _ => block.name.clone(),
            };
            is_name(&name)?;
            let mut evaluated = Evaluated::default();
            for (key, value) in &block.attributes {
                let value = match key.as_str() {
                    "matrix" | "name" => continue,
                    key if key != "inherits" && !Target::is_known(key) => {
                        self.notes.push(format!(
                            "target `{}`: there is no attribute `{key}`: it changes nothing",
                            block.name
                        ));
                        continue;
                    }
                    _ => definition
                        .evaluate(value, locals)
                        .map_err(|error| format!("`{key}`: {error}"))?,
                };
                match key.as_str() {
                    "resources" => self.notes.push(format!(
                        "target `{}`: `resources`: no limit is set: steps have those of the job that kiln runs in",
                        block.name
                    )),
                    "inherits" => evaluated.inherits = names(&value)?,
                    key => evaluated.target.set(key, value)?,
                }
            }
            made.push(name.clone());
            self.say(name, evaluated);
        }
        if find("matrix").is_some() {
            self.groups.insert(block.name.clone(), made);
        }
        Ok(())
    }

    /// A target with all that its parents say, and the overrides of each.
    fn target(
        &self,
        name: &str,
        overrides: &[Override],
        path: &mut Vec<String>,
    ) -> Result<Target, String> {
        let Some(own) = self.targets.get(name) else {
            return Err(format!("there is no target `{name}`; there are {}", self.known()));
        };
        if path.iter().any(|known| known == name) {
            return Err(format!("targets inherit from each other: {} → {name}", path.join(" → ")));
        }
        path.push(name.into());
        let mut target = Target::default();
        for parent in &own.inherits {
            target.merge(&self.target(parent, overrides, path)?);
        }
        path.pop();
        target.merge(&own.target);
        for change in overrides.iter().filter(|change| is_like(&change.pattern, name)) {
            change.apply(&mut target).map_err(|error| format!("`{}`: {error}", change.said))?;
        }
        Ok(target)
    }

    /// The groups and targets that are called so, or are like it.
    fn like(&self, name: &str) -> Result<Vec<String>, String> {
        // As targets of services with dots are called.
        let name = name.replace('.', "_");
        if !name.contains(['*', '?', '[']) {
            return Ok(vec![name]);
        }
        let all = self.groups.keys().chain(&self.order);
        let mut found: Vec<String> = Vec::new();
        for known in all.filter(|known| is_like(&name, known)) {
            if !found.contains(known) {
                found.push(known.clone());
            }
        }
        match found.is_empty() {
            true => Err(format!("there is no target like `{name}`; there are {}", self.known())),
            false => Ok(found),
        }
    }

    fn known(&self) -> String {
        let groups = self.groups.keys().map(String::as_str);
        let names: Vec<&str> =
            groups.chain(self.order.iter().map(String::as_str)).take(20).collect();
        match names.is_empty() {
            true => "none".into(),
            false => names.join(", "),
        }
    }

    /// The targets that a name means.
    fn flatten(
        &self,
        name: &str,
        found: &mut Vec<String>,
        path: &mut Vec<String>,
    ) -> Result<(), String> {
        match self.groups.get(name) {
            Some(members) if !path.iter().any(|known| known == name) => {
                path.push(name.into());
                for member in members {
                    self.flatten(member, found, path)?;
                }
                path.pop();
                Ok(())
            }
            _ if self.targets.contains_key(name) => {
                if !found.iter().any(|known| known == name) {
                    found.push(name.into());
                }
                Ok(())
            }
            _ => Err(format!("there is no group or target `{name}`; there are {}", self.known())),
        }
    }
}

/// Names that buildx takes too.
fn is_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.chars().all(fits) {
        true => Ok(()),
        false => Err(format!("`{name}` is no name: letters, digits, `_` and `-` make one")),
    }
}

fn names(value: &Value) -> Result<Vec<String>, String> {
    let items = value.as_array().ok_or_else(|| format!("`{value}` is no list"))?;
    items.iter().map(expression::text).collect()
}

/// So many targets of one matrix are a mistake.
const MOST_COMBINATIONS: usize = 1000;

/// All combinations of a matrix: the last name changes fastest.
fn combinations(matrix: &Value) -> Result<Vec<Vec<(String, Value)>>, String> {
    let Value::Object(axes) = matrix else { return Err("`matrix` is no map".into()) };
    let mut all = vec![Vec::new()];
    for (name, values) in axes {
        let values = values.as_array().ok_or_else(|| format!("`matrix.{name}` is no list"))?;
        let longer = all.iter().flat_map(|known: &Vec<(String, Value)>| {
            values.iter().map(|value| {
                let mut known = known.clone();
                known.push((name.clone(), value.clone()));
                known
            })
        });
        all = longer.take(MOST_COMBINATIONS + 1).collect();
        if all.len() > MOST_COMBINATIONS {
            return Err(format!("`matrix` has more than {MOST_COMBINATIONS} combinations"));
        }
    }
    Ok(all)
}

/// `--set`, and the flags that are short for it.
#[derive(Clone, Debug)]
struct Override {
    said: String,
    pattern: String,
    key: String,
    sub: Option<String>,
    value: Value,
    appends: bool,
}

fn overrides(given: &Given, environment: &Environment) -> Result<Vec<Override>, String> {
    let mut all: Vec<Override> = Vec::new();
    let short = |said: &str, key: &str, value: Value| Override {
        said: said.into(),
        pattern: "*".into(),
        key: key.into(),
        sub: None,
        value,
        appends: false,
    };
    for flag in ["no-cache", "pull"] {
        if given.has(flag) {
            all.push(short(&format!("--{flag}"), flag, given.is_on(flag, false).into()));
        }
    }
    for text in given.all("set") {
        let Some(change) = Override::read(text, environment)? else { continue };
        // Several values of a list in one line are all of its values.
        let same = all.iter_mut().find(|known| {
            (&known.pattern, &known.key, &known.sub) == (&change.pattern, &change.key, &change.sub)
                && known.appends == change.appends
        });
        match (same, change.value) {
            (Some(Override { value: Value::Array(known), .. }), Value::Array(more)) => {
                known.extend(more);
            }
            (_, value) => all.push(Override { value, ..change }),
        }
    }
    for (flag, kind) in [("provenance", "provenance"), ("sbom", "sbom")] {
        if let Some(value) = given.last(flag) {
            let text = match crate::args::compound::boolean(value) {
                Some(true) => format!("type={kind}"),
                Some(false) => format!("type={kind},disabled=true"),
                None => format!("type={kind},{value}"),
            };
            let change = short(&format!("--{flag}"), "attest", json!([text]));
            all.push(Override { appends: true, ..change });
        }
    }
    if let Some(call) = given.last("call") {
        all.push(short("--call", "call", call.into()));
    }
    if given.is_on("check", false) {
        all.push(short("--check", "call", "check".into()));
    }
    for flag in ["push", "load"] {
        if given.is_on(flag, false) {
            all.push(short(&format!("--{flag}"), flag, true.into()));
        }
    }
    let policies = policies(given).map_err(|error| format!("`--policy`: {error}"))?;
    if let Some((policies, appends)) = policies {
        all.push(Override { appends, ..short("--policy", "policy", policies) });
    }
    Ok(all)
}

/// What `--policy` says of all targets, and whether it is added to what they say.
fn policies(given: &Given) -> Result<Option<(Value, bool)>, String> {
    let values: Vec<String> = given.all("policy").into_iter().map(str::to_owned).collect();
    if values.is_empty() {
        return Ok(None);
    }
    for value in &values {
        for field in fields(value)? {
            let name = field.split('=').next().unwrap_or_default().trim().to_lowercase();
            if matches!(name.as_str(), "filename" | "reset") {
                return Err(format!(
                    "`{field}` is for the `policy` of a target, in its definition"
                ));
            }
        }
    }
    let is_off = policy(&values)? == build::Policy::Disabled;
    Ok(Some((json!(values), !is_off)))
}

impl Override {
    /// Reads `TARGET.KEY[.SUB]=VALUE`, or with `+=`; none where the environment is to say the value,
    /// and does not.
    fn read(text: &str, environment: &Environment) -> Result<Option<Self>, String> {
        let said = format!("--set {text}");
        let wrong = || format!("`{said}`: it is not TARGET.KEY=VALUE");
        let (place, value) = match text.split_once('=') {
            Some((place, value)) => (place, Some(value)),
            None => (text, None),
        };
        let (place, appends) = match place.strip_suffix('+') {
            Some(place) => (place, true),
            None => (place, false),
        };
        let mut parts = place.splitn(3, '.');
        let (pattern, key) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(wrong)?);
        let sub = parts.next().map(str::to_owned);
        let key = match key {
            "secrets" => "secret",
            "outputs" => "output",
            "platform" => "platforms",
            key => key,
        };
        let is_map = matches!(key, "args" | "contexts" | "labels" | "extra-hosts");
        let is_list = matches!(
            key,
            "tags"
                | "platforms"
                | "cache-from"
                | "cache-to"
                | "output"
                | "secret"
                | "ssh"
                | "no-cache-filter"
                | "ulimits"
                | "annotations"
                | "attest"
                | "entitlements"
                | "policy"
        );
        if pattern.is_empty() || is_map != sub.is_some() {
            return Err(match is_map {
                true => format!("`{said}`: it is TARGET.{key}.NAME=VALUE"),
                false => wrong(),
            });
        }
        let value = match (value, is_map) {
            (Some(value), _) => value.to_owned(),
            // An argument without a value has the environment's.
            (None, true) => match sub.as_deref().and_then(|name| environment.raw(name)) {
                Some(value) => value.to_owned(),
                None => return Ok(None),
            },
            (None, false) => return Err(wrong()),
        };
        let value = match is_list {
            true if value.is_empty() => json!([]),
            true => json!([value]),
            false => json!(value),
        };
        // To these, buildx adds whatever is said.
        let appends = appends || matches!(key, "annotations" | "attest" | "entitlements");
        Ok(Some(Self { said, pattern: pattern.into(), key: key.into(), sub, value, appends }))
    }

    fn apply(&self, target: &mut Target) -> Result<(), String> {
        match (self.key.as_str(), &self.sub) {
            ("push" | "load", _) => {
                let is_on = expression::boolean(&self.value)?;
                match self.key.as_str() {
                    "push" => push(target, is_on),
                    _ if is_on => load_too(target),
                    _ => {}
                }
                Ok(())
            }
            (key, Some(sub)) => {
                let map = target.entry(key, json!({}));
                if let Value::Object(map) = map {
                    map.insert(sub.clone(), self.value.clone());
                }
                Ok(())
            }
            (key, None) if self.appends => {
                let before = target.get(key).cloned();
                target.set(key, self.value.clone())?;
                let added = target.get(key).cloned();
                if let (Some(Value::Array(mut all)), Some(Value::Array(added))) = (before, added) {
                    target::add(key, &mut all, added);
                    *target.entry(key, json!([])) = Value::Array(all);
                }
                Ok(())
            }
            (key, None) => target.set(key, self.value.clone()),
        }
    }
}

fn kind(output: &Value) -> &str {
    output["type"].as_str().unwrap_or_default()
}

/// `--push` pushes the images that are made, or makes one where nothing but an image for an engine
/// is asked for: files stay files. `--set *.push=false` pushes none.
fn push(target: &mut Target, is_on: bool) {
    let Value::Array(outputs) = target.entry("output", json!([])) else { return };
    if !is_on {
        outputs.retain(|output| kind(output) != "registry");
    }
    for output in outputs.iter_mut().filter(|output| kind(output) == "image") {
        output["push"] = is_on.to_string().into();
    }
    if is_on && outputs.iter().all(|output| kind(output) == "docker") {
        outputs.push(json!({ "type": "image", "push": "true" }));
    }
}

/// `--load` keeps an image too, unless files are asked for.
fn load_too(target: &mut Target) {
    let Value::Array(outputs) = target.entry("output", json!([])) else { return };
    let is_file = |output: &Value| match kind(output) {
        "docker" => output.get("dest").is_none(),
        other => !matches!(other, "image" | "registry" | "oci"),
    };
    if !outputs.iter().any(is_file) {
        outputs.push(json!({ "type": "docker" }));
    }
}

/// Whether a name is like a pattern: `*` is any text, `?` one letter, `[a-z]` one of some.
fn is_like(pattern: &str, name: &str) -> bool {
    fn fits(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], name) => name.is_empty(),
            ([b'*', pattern @ ..], name) => (0..=name.len()).any(|at| fits(pattern, &name[at..])),
            ([b'?', pattern @ ..], [_, name @ ..]) => fits(pattern, name),
            ([b'[', class @ ..], [letter, name @ ..]) => {
                match class.iter().position(|c| *c == b']') {
                    Some(end) => is_of(&class[..end], *letter) && fits(&class[end + 1..], name),
                    None => false,
                }
            }
            ([one, pattern @ ..], [letter, name @ ..]) => one == letter && fits(pattern, name),
            (_, []) => false,
        }
    }
    fits(pattern.as_bytes(), name.as_bytes())
}

/// Whether a letter is of a class: `a-z0`, or `^a` for all others.
fn is_of(class: &[u8], letter: u8) -> bool {
    if let [b'^', class @ ..] = class {
        return !is_of(class, letter);
    }
    match class {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&letter) || is_of(rest, letter),
        [one, rest @ ..] => *one == letter || is_of(rest, letter),
        [] => false,
    }
}

fn resolve(loaded: &Loaded, wanted: &[String], overrides: &[Override]) -> Result<Resolved, String> {
    let wanted: Vec<String> = match wanted.is_empty() {
        true => vec!["default".to_owned()],
        false => {
            let mut names = Vec::new();
            for name in wanted {
                names.extend(loaded.like(name)?);
            }
            names
        }
    };
    let (mut found, mut resolved) = (Vec::new(), Resolved::default());
    for name in &wanted {
        loaded.flatten(name, &mut found, &mut Vec::new())?;
    }
    let shown = match wanted.as_slice() {
        [only] if only == "default" && loaded.groups.contains_key("default") => {
            loaded.groups["default"].clone()
        }
        _ => wanted.clone(),
    };
    let mut groups: Vec<String> = shown.clone();
    while let Some(name) = groups.pop() {
        if let Some(members) = loaded.groups.get(&name)
            && name != "default"
            && resolved.groups.insert(name, members.clone()).is_none()
        {
            groups.extend(members.iter().cloned());
        }
    }
    let shown: BTreeSet<String> = shown.into_iter().collect();
    resolved.groups.insert("default".into(), shown.into_iter().collect());
    let asked: BTreeSet<String> = found.iter().cloned().collect();
    while let Some(name) = found.pop() {
        if resolved.targets.contains_key(&name) {
            continue;
        }
        let mut target = loaded.target(&name, overrides, &mut Vec::new())?;
        target.complete();
        if !asked.contains(&name) {
            // It is built for another target alone.
            target.set("output", json!(["type=cacheonly"]))?;
        }
        for (context, other) in target.links() {
            if other == name {
                return Err(format!(
                    "target `{name}`: the context `{context}` is the target itself"
                ));
            }
            if !loaded.targets.contains_key(&other) {
                return Err(format!(
                    "target `{name}`: the context `{context}` is the target `{other}`, which is not there"
                ));
            }
            found.push(other);
        }
        resolved.targets.insert(name, target);
    }
    for pattern in overrides.iter().filter(|change| change.pattern != "*") {
        if !loaded.targets.keys().any(|name| is_like(&pattern.pattern, name)) {
            return Err(format!(
                "`{}`: there is no target like `{}`; there are {}",
                pattern.said,
                pattern.pattern,
                loaded.known()
            ));
        }
    }
    Ok(resolved)
}

/// What `--print` prints.
fn printed(resolved: &Resolved) -> String {
    let groups: Map<String, Value> = resolved
        .groups
        .iter()
        .map(|(name, targets)| (name.clone(), json!({ "targets": targets })))
        .collect();
    let targets: Map<String, Value> =
        resolved.targets.iter().map(|(name, target)| (name.clone(), target.printed())).collect();
    let all = json!({ "group": groups, "target": targets });
    serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
}

/// What `--list` prints.
fn listed(what: &str, loaded: &Loaded) -> Result<String, String> {
    let (what, is_json) = match what.trim_start_matches("type=").split_once(',') {
        Some((what, "format=json")) => (what, true),
        Some((what, "format=table")) => (what, false),
        Some((_, other)) => {
            return Err(format!("`--list`: `{other}` is none of format=table, format=json"));
        }
        None => (what.trim_start_matches("type="), false),
    };
    let rows: Vec<[String; 3]> = match what {
        "targets" => {
            let groups = loaded.groups.iter();
            let groups =
                groups.map(|(name, members)| [name.clone(), members.join(", "), String::new()]);
            let describe = |name: &String| {
                let description = loaded.targets[name].target.get("description");
                description.and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            let targets =
                loaded.order.iter().map(|name| [name.clone(), describe(name), String::new()]);
            groups.chain(targets).collect()
        }
        "variables" => {
            let mut rows = Vec::new();
            for (name, variable) in loaded.definition.variables.iter().filter(|(_, v)| v.is_block) {
                let default = match &variable.default {
                    Some(default) => match loaded.definition.evaluate(default, &[])? {
                        Value::String(text) => text,
                        other => other.to_string(),
                    },
                    None => "<null>".into(),
                };
                rows.push([
                    name.clone(),
                    default,
                    variable.description.clone().unwrap_or_default(),
                ]);
            }
            rows
        }
        other => return Err(format!("`--list={other}`: there are targets and variables")),
    };
    if is_json {
        let values: Vec<Value> = rows
            .iter()
            .map(|[name, second, third]| match what {
                "targets" => json!({ "name": name, "description": second }),
                _ => json!({ "name": name, "value": second, "description": third }),
            })
            .collect();
        return Ok(serde_json::to_string_pretty(&values).unwrap_or_default() + "\n");
    }
    Ok(match what {
        "targets" => {
            let rows: Vec<[String; 2]> = rows.into_iter().map(|[a, b, _]| [a, b]).collect();
            table(["TARGET", "DESCRIPTION"], &rows)
        }
        _ => table(["VARIABLE", "VALUE", "DESCRIPTION"], &rows),
    })
}

#[cfg(test)]
mod tests;
