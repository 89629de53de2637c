//! Compose files: their services' `build` sections as targets.

mod merge;
mod service;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};
use yaml::Document;

use self::merge::{clear, merge, trim};
use self::variables::{PROJECT_NAME, Variables, read_file};
use super::substitute::{SubstituteError, substitute};
use super::target::Target;
use crate::settings::Environment;

/// So many files include and extend each other at most.
const MOST_FILES: usize = 256;
/// So often files are included at most, however few they are.
const MOST_INCLUDES: usize = 1000;
/// Files include files, and services extend services, at most so deep.
const DEEPEST: usize = 16;

/// Compose files, put together: what a later one says is on top.
pub struct Project {
    variables: Variables,
    files: Vec<Source>,
    /// Files that others name, as they were read.
    read: BTreeMap<PathBuf, Vec<Document>>,
    includes: usize,
}

/// What compose files say.
#[derive(Debug, Default)]
pub struct Targets {
    /// The targets, by name.
    pub targets: Vec<(String, Target)>,
    /// What changes nothing, or may not be what was meant.
    pub notes: Vec<String>,
}

/// A file.
struct Source {
    name: String,
    documents: Vec<Document>,
}

/// Where files are read.
struct Around {
    /// Where their paths begin.
    folder: PathBuf,
    variables: Variables,
    /// The files that include them.
    includers: Vec<PathBuf>,
}

impl Project {
    /// A project without files; variables come from what is given, from the environment, then from
    /// `.env` here.
    ///
    /// # Errors
    /// If `.env` cannot be read.
    pub fn new(
        environment: &Environment,
        given: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let mut variables = Variables::new(environment, given);
        let is_off = environment.get("COMPOSE_DISABLE_ENV_FILE");
        if !is_off.is_some_and(|value| !matches!(value, "0" | "false")) {
            add_file(&mut variables, Path::new(".env"), false)?;
        }
        Ok(Self { variables, files: Vec::new(), read: BTreeMap::new(), includes: 0 })
    }

    /// Adds a file of this folder.
    ///
    /// # Errors
    /// A sentence that says what cannot be read.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        let documents = yaml::documents(text).map_err(|error| error.to_string())?;
        self.files.push(Source { name: name.to_owned(), documents });
        Ok(())
    }

    /// The targets.
    ///
    /// # Errors
    /// A sentence that names the file or service, and what of it cannot be read.
    pub fn targets(mut self) -> Result<Targets, String> {
        if self.files.is_empty() {
            return Ok(Targets::default());
        }
        self.name_project()?;
        let variables = self.variables.clone();
        let around = Around { folder: PathBuf::new(), variables, includers: Vec::new() };
        let files = std::mem::take(&mut self.files);
        let root = self.model(&files, &around)?;
        let notes = || {
            let unset = around.variables.unset().borrow();
            let said =
                |name| format!("The \"{name}\" variable is not set. Defaulting to a blank string.");
            unset.iter().map(said).collect()
        };
        Ok(Targets { targets: service::targets(&root, &around.variables)?, notes: notes() })
    }

    /// Says `COMPOSE_PROJECT_NAME`: the last `name` of the files, else what the environment has,
    /// else what buildx has.
    fn name_project(&mut self) -> Result<(), String> {
        let names = self.files.iter().flat_map(|file| &file.documents);
        let mut names = names.filter_map(|document| document.root.get("name")?.as_str());
        let mut name = String::new();
        if let Some(last) = names.rfind(|name| !name.is_empty()) {
            name = substitute(last, &self.variables, self.variables.unset())
                .map_err(|error| format!("`name`: {error}"))?;
        }
        if name.is_empty() {
            name = super::substitute::Lookup::value(&self.variables, PROJECT_NAME)
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "bake".into());
        }
        self.variables.set(PROJECT_NAME, &name);
        Ok(())
    }

    /// Puts files together, with all that they include and extend.
    fn model(&mut self, files: &[Source], around: &Around) -> Result<Value, String> {
        let mut whole = json!({});
        for file in files {
            let failed = |error: String| format!("`{}`: {error}", file.name);
            for document in &file.documents {
                let mut root = opened(document, around).map_err(failed)?;
                self.include(&mut root, document, around).map_err(failed)?;
                clear(&mut whole, &document.cleared);
                self.extend(&mut root, document, around).map_err(failed)?;
                merge(&mut whole, root);
            }
        }
        if !around.folder.as_os_str().is_empty() {
            for (_, build) in builds(&mut whole) {
                build.entry("context").or_insert_with(|| placed(".", &around.folder).into());
            }
        }
        Ok(whole)
    }

    /// Puts what a document includes below it.
    fn include(
        &mut self,
        root: &mut Value,
        document: &Document,
        around: &Around,
    ) -> Result<(), String> {
        let includes = root.as_object_mut().and_then(|root| root.remove("include"));
        for include in list(includes.as_ref()) {
            let imported = self.included(&include, around)?;
            for kind in ["services", "secrets"] {
                let Some(Value::Object(imported)) = imported.get(kind).cloned() else { continue };
                for (name, mut below) in imported {
                    let own = root[kind].get(&name).cloned();
                    if let Some(own) = own {
                        let mut wrapped = json!({ kind: { &name: below } });
                        clear(&mut wrapped, &document.cleared);
                        below = wrapped[kind][&name].take();
                        merge(&mut below, own);
                    }
                    if !root[kind].is_object() {
                        root[kind] = json!({});
                    }
                    root[kind][name] = below;
                }
            }
        }
        Ok(())
    }

    /// What an `include` brings.
    fn included(&mut self, include: &Value, around: &Around) -> Result<Value, String> {
        self.includes += 1;
        if self.includes > MOST_INCLUDES || around.includers.len() > DEEPEST {
            return Err("too many files include each other".into());
        }
        let texts = |key: &str| -> Result<Vec<String>, String> {
            let texts = list(include.get(key)).into_iter();
            let texts = texts.map(|text| text.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(|| format!("`include.{key}` is no text"))
        };
        let paths = match include.as_str() {
            Some(path) => vec![path.to_owned()],
            None => texts("path")?,
        };
        let paths: Vec<PathBuf> = paths.iter().map(|path| around.folder.join(path)).collect();
        let Some(main) = paths.first() else { return Err("an `include` has no `path`".into()) };
        if around.includers.contains(main) {
            return Err(format!("`{}` includes itself", main.display()));
        }
        let folder = match include.get("project_directory").and_then(Value::as_str) {
            Some(folder) => around.folder.join(folder),
            None => main.parent().unwrap_or(&around.folder).to_owned(),
        };
        let mut variables = around.variables.clone();
        match texts("env_file")? {
            none if none.is_empty() => add_file(&mut variables, &folder.join(".env"), false)?,
            files => {
                for file in files.iter().filter(|file| *file != "/dev/null") {
                    add_file(&mut variables, &around.folder.join(file), true)?;
                }
            }
        }
        let mut sources = Vec::new();
        for path in &paths {
            let documents = self.open(path)?;
            sources.push(Source { name: path.display().to_string(), documents });
        }
        let includers = [around.includers.as_slice(), &paths].concat();
        self.model(&sources, &Around { folder, variables, includers })
    }

    /// The documents of a file that another one names.
    fn open(&mut self, path: &Path) -> Result<Vec<Document>, String> {
        if let Some(known) = self.read.get(path) {
            return Ok(known.clone());
        }
        if self.read.len() >= MOST_FILES {
            return Err("too many files include each other".into());
        }
        let failed = |error: String| format!("reading `{}`: {error}", path.display());
        let text = read_file(path).map_err(|error| failed(error.to_string()))?;
        let text = text.ok_or_else(|| failed("there is no such file".into()))?;
        let documents = yaml::documents(&text).map_err(|error| failed(error.to_string()))?;
        self.read.insert(path.to_owned(), documents.clone());
        Ok(documents)
    }

    /// Puts each service of a document on top of the one that it extends.
    fn extend(
        &mut self,
        root: &mut Value,
        document: &Document,
        around: &Around,
    ) -> Result<(), String> {
        let Some(Value::Object(services)) = root.get("services").cloned() else { return Ok(()) };
        let own =
            Services { services: &services, cleared: &document.cleared, folder: &around.folder };
        for name in services.keys() {
            let whole = self
                .extended(name, &own, around, 0)
                .map_err(|error| format!("service `{name}`: {error}"))?;
            root["services"][name] = whole;
        }
        Ok(())
    }

    /// A service on top of the one that it extends.
    fn extended(
        &mut self,
        name: &str,
        of: &Services<'_>,
        around: &Around,
        depth: usize,
    ) -> Result<Value, String> {
        let service = of.services.get(name);
        let service = service.ok_or_else(|| format!("it extends `{name}`, which is not there"))?;
        let Some(extends) = service.get("extends").filter(|extends| !extends.is_null()) else {
            return Ok(service.clone());
        };
        if depth > DEEPEST {
            return Err("`extends` is nested too deep".into());
        }
        let base = extends.as_str().or_else(|| extends.get("service")?.as_str());
        let base = base.ok_or("`extends` has no `service`")?;
        let mut below = match extends.get("file").and_then(Value::as_str) {
            None => self.extended(base, of, around, depth + 1)?,
            Some(file) => {
                let file = of.folder.join(file);
                let folder = file.parent().unwrap_or(of.folder);
                let (services, cleared) = self.services_of(&file, folder, around)?;
                let other = Services { services: &services, cleared: &cleared, folder };
                self.extended(base, &other, around, depth + 1)?
            }
        };
        let mut wrapped = json!({ "services": { name: below } });
        clear(&mut wrapped, of.cleared);
        below = wrapped["services"][name].take();
        let mut service = service.clone();
        if let Value::Object(service) = &mut service {
            service.remove("extends");
        }
        merge(&mut below, service);
        Ok(below)
    }

    /// The services of another file, and what its last document clears.
    fn services_of(
        &mut self,
        file: &Path,
        folder: &Path,
        around: &Around,
    ) -> Result<(Map<String, Value>, Cleared), String> {
        let failed = |error: String| format!("`{}`: {error}", file.display());
        let other = Around {
            folder: folder.to_owned(),
            variables: around.variables.clone(),
            includers: Vec::new(),
        };
        let mut whole = json!({});
        let mut cleared = Vec::new();
        for document in self.open(file)? {
            let root = opened(&document, &other).map_err(failed)?;
            clear(&mut whole, &document.cleared);
            merge(&mut whole, root);
            cleared = document.cleared;
        }
        match whole["services"].take() {
            Value::Object(services) => Ok((services, cleared)),
            _ => Err(failed("it has no `services`".into())),
        }
    }
}

/// Places of which nothing that was said before counts.
type Cleared = Vec<Vec<String>>;

/// Services among which one is looked for.
struct Services<'s> {
    services: &'s Map<String, Value>,
    cleared: &'s [Vec<String>],
    folder: &'s Path,
}

/// Adds the variables of a file.
fn add_file(variables: &mut Variables, path: &Path, is_needed: bool) -> Result<(), String> {
    let failed = |error: String| format!("reading `{}`: {error}", path.display());
    match read_file(path).map_err(|error| failed(error.to_string()))? {
        Some(text) => variables.add(&text).map_err(|error| failed(error.to_string())),
        None if is_needed => Err(failed("there is no such file".into())),
        None => Ok(()),
    }
}

/// A document with variables put in, paths from here, and everything in its long form.
fn opened(document: &Document, around: &Around) -> Result<Value, String> {
    let mut root = document.root.clone();
    let Value::Object(map) = &mut root else { return Err("it is no map of services".into()) };
    map.retain(|key, _| matches!(key.as_str(), "services" | "secrets" | "include"));
    for (key, value) in map.iter_mut() {
        interpolate(value, &around.variables)
            .map_err(|wrong| format!("`{key}{}`: {}", wrong.path, wrong.source))?;
    }
    for kind in ["services", "secrets"] {
        match root.get(kind) {
            Some(Value::Object(_)) | None => {}
            Some(Value::Null) => root[kind] = json!({}),
            Some(_) => return Err(format!("`{kind}` is no map")),
        }
    }
    for (_, secret) in root.get_mut("secrets").and_then(Value::as_object_mut).into_iter().flatten()
    {
        if let Some(Value::String(file)) = secret.get_mut("file") {
            *file = placed(file, &around.folder);
        }
    }
    for (name, service) in
        root.get_mut("services").and_then(Value::as_object_mut).into_iter().flatten()
    {
        trim(service);
        service::long_form(service, &around.folder)
            .map_err(|error| format!("service `{name}`: {error}"))?;
    }
    Ok(root)
}

/// A value that no variables could be put in.
struct NotPut {
    /// Where it is: `.a.image`.
    path: String,
    source: SubstituteError,
}

/// Puts variables into all texts.
fn interpolate(value: &mut Value, variables: &Variables) -> Result<(), NotPut> {
    let under =
        |part: &str, wrong: NotPut| NotPut { path: format!(".{part}{}", wrong.path), ..wrong };
    match value {
        Value::String(text) if text.contains('$') => {
            *text = substitute(text, variables, variables.unset())
                .map_err(|source| NotPut { path: String::new(), source })?;
        }
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                interpolate(item, variables).map_err(|wrong| under(&at.to_string(), wrong))?;
            }
        }
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                interpolate(item, variables).map_err(|wrong| under(key, wrong))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether a text without a telling name is a compose file.
pub fn is_compose(text: &str) -> bool {
    let documents = yaml::documents(text).unwrap_or_default();
    documents
        .iter()
        .any(|document| ["services", "secrets"].iter().any(|key| document.root.get(key).is_some()))
}

/// The `build` sections of all services.
fn builds(root: &mut Value) -> impl Iterator<Item = (&String, &mut Map<String, Value>)> {
    let services = root.get_mut("services").and_then(Value::as_object_mut);
    services
        .into_iter()
        .flatten()
        .filter_map(|(name, service)| Some((name, service.get_mut("build")?.as_object_mut()?)))
}

fn list(value: Option<&Value>) -> Vec<Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items.clone(),
        Some(one) => vec![one.clone()],
    }
}

/// A path of a file in a folder, as it is from here; addresses stay.
fn placed(path: &str, folder: &Path) -> String {
    if path.contains("://") || path.starts_with("git@") || path.starts_with("github.com/") {
        return path.into();
    }
    let mut clean = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if clean.file_name().is_some_and(|last| last != "..") => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    match clean.to_string_lossy() {
        empty if empty.is_empty() => ".".into(),
        path => path.into_owned(),
    }
}
