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
use self::variables::{PROJECT_NAME, Variables};
use crate::budget::Budget;
use crate::error::{Location, Within as _, invalid};
use crate::inputs::is_on;
use crate::substitute::{Lookup as _, SubstituteError, substitute};
use crate::target::Target;
use crate::{BakeError, ProjectFiles};

/// The most files that include and extend each other.
const MAX_FILES: usize = 256;
/// The most includes, which a few files can make of each other.
const MAX_INCLUDES: usize = 1000;
/// The deepest nesting of files that include files, and of services that extend services.
const MAX_DEPTH: usize = 16;

/// Compose files that are merged, later ones on top.
pub struct Project<'f> {
    others: &'f dyn ProjectFiles,
    variables: Variables,
    files: Vec<Source>,
    /// Files that others name and that were read.
    read: BTreeMap<PathBuf, Vec<Document>>,
    includes: usize,
    budget: Budget,
}

/// The targets of compose files.
#[derive(Debug, Default)]
pub struct Targets {
    /// The targets, by name.
    pub targets: Vec<(String, Target)>,
    /// Remarks for the user.
    pub notes: Vec<String>,
}

/// A file.
struct Source {
    name: String,
    documents: Vec<Document>,
}

/// The surroundings of a file.
struct Around {
    /// The folder that its paths are relative to.
    folder: PathBuf,
    variables: Variables,
    /// The files that include it.
    includers: Vec<PathBuf>,
}

impl<'f> Project<'f> {
    /// A project without files. Variables come from the given ones, then from the environment,
    /// then from `.env`.
    ///
    /// # Errors
    /// If `.env` cannot be read.
    pub fn new(
        environment: &BTreeMap<String, String>,
        given: &BTreeMap<String, String>,
        others: &'f dyn ProjectFiles,
    ) -> Result<Self, BakeError> {
        let variables = Variables::new(environment, given);
        let (files, read, budget) = (Vec::new(), BTreeMap::new(), Budget::default());
        let mut project = Self { others, variables, files, read, includes: 0, budget };
        if !is_on(environment, "COMPOSE_DISABLE_ENV_FILE") {
            let mut variables = std::mem::take(&mut project.variables);
            project.add_variables(&mut variables, Path::new(".env"), false)?;
            project.variables = variables;
        }
        Ok(project)
    }

    /// Adds a file of this folder.
    ///
    /// # Errors
    /// If it is not YAML.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), BakeError> {
        let documents = yaml::documents(text)?;
        self.files.push(Source { name: name.to_owned(), documents });
        Ok(())
    }

    /// The targets.
    ///
    /// # Errors
    /// If a file, an include or a service cannot be read.
    pub fn targets(mut self) -> Result<Targets, BakeError> {
        if self.files.is_empty() {
            return Ok(Targets::default());
        }
        self.name_project()?;
        let variables = self.variables.clone();
        let around = Around { folder: PathBuf::new(), variables, includers: Vec::new() };
        let files = std::mem::take(&mut self.files);
        let root = self.model(&files, &around)?;
        let targets = service::targets(&root, &around.variables, self.others)?;
        let unset = around.variables.tally().unset().into_iter();
        // The words of docker compose.
        let note =
            |name| format!("The \"{name}\" variable is not set. Defaulting to a blank string.");
        Ok(Targets { targets, notes: unset.map(note).collect() })
    }

    /// Sets `COMPOSE_PROJECT_NAME`: the last `name` of the files, else the environment's, else
    /// buildx's default.
    fn name_project(&mut self) -> Result<(), BakeError> {
        let names = self.files.iter().flat_map(|file| &file.documents);
        let mut names = names.filter_map(|document| document.root.get("name")?.as_str());
        let mut name = String::new();
        if let Some(last) = names.rfind(|name| !name.is_empty()) {
            name = substitute(last, &self.variables, self.variables.tally())
                .within(|| Location::Key("name".into()))?;
        }
        if name.is_empty() {
            let known = self.variables.value(PROJECT_NAME);
            name = known.filter(|name| !name.is_empty()).unwrap_or_else(|| "bake".into());
        }
        self.variables.set(PROJECT_NAME, &name);
        Ok(())
    }

    /// Adds the variables of a file.
    fn add_variables(
        &self,
        variables: &mut Variables,
        path: &Path,
        is_required: bool,
    ) -> Result<(), BakeError> {
        let location = || Location::Reading(path.display().to_string());
        match self.others.read(path).within(location)? {
            Some(text) => variables.add(&text).within(location),
            None if is_required => Err(invalid!("there is no such file").within(location())),
            None => Ok(()),
        }
    }

    /// Merges files with all that they include and extend.
    fn model(&mut self, files: &[Source], around: &Around) -> Result<Value, BakeError> {
        let mut whole = json!({});
        for file in files {
            let location = || Location::File(file.name.clone());
            for document in &file.documents {
                let mut root = opened(document, around).within(location)?;
                self.include(&mut root, document, around).within(location)?;
                clear(&mut whole, &document.cleared);
                self.extend(&mut root, document, around).within(location)?;
                merge(&mut whole, root, &self.budget).within(location)?;
            }
        }
        if !around.folder.as_os_str().is_empty() {
            for (_, build) in builds(&mut whole) {
                build.entry("context").or_insert_with(|| placed(".", &around.folder).into());
            }
        }
        Ok(whole)
    }

    /// Merges a document on top of the files that it includes.
    fn include(
        &mut self,
        root: &mut Value,
        document: &Document,
        around: &Around,
    ) -> Result<(), BakeError> {
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
                        merge(&mut below, own, &self.budget)?;
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

    /// The files of an `include`, merged.
    fn included(&mut self, include: &Value, around: &Around) -> Result<Value, BakeError> {
        self.includes += 1;
        if self.includes > MAX_INCLUDES || around.includers.len() > MAX_DEPTH {
            return Err(BakeError::Limit("too many files include each other"));
        }
        let texts = |key: &str| -> Result<Vec<String>, BakeError> {
            let texts = list(include.get(key)).into_iter();
            let texts = texts.map(|text| text.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(|| invalid!("`include.{key}` is no text"))
        };
        let paths = match include.as_str() {
            Some(path) => vec![path.to_owned()],
            None => texts("path")?,
        };
        let paths: Vec<PathBuf> = paths.iter().map(|path| around.folder.join(path)).collect();
        let Some(main) = paths.first() else { return Err(invalid!("an `include` has no `path`")) };
        if around.includers.contains(main) {
            return Err(invalid!("`{}` includes itself", main.display()));
        }
        let folder = match include.get("project_directory").and_then(Value::as_str) {
            Some(folder) => around.folder.join(folder),
            None => main.parent().unwrap_or(&around.folder).to_owned(),
        };
        let mut variables = around.variables.clone();
        match texts("env_file")? {
            none if none.is_empty() => {
                self.add_variables(&mut variables, &folder.join(".env"), false)?
            }
            files => {
                for file in files.iter().filter(|file| *file != "/dev/null") {
                    self.add_variables(&mut variables, &around.folder.join(file), true)?;
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
    fn open(&mut self, path: &Path) -> Result<Vec<Document>, BakeError> {
        if let Some(known) = self.read.get(path) {
            return Ok(known.clone());
        }
        if self.read.len() >= MAX_FILES {
            return Err(BakeError::Limit("too many files include each other"));
        }
        let location = || Location::Reading(path.display().to_string());
        let text = self.others.read(path).within(location)?;
        let missing = || invalid!("there is no such file");
        let text = text.ok_or_else(missing).within(location)?;
        let documents = yaml::documents(&text).within(location)?;
        self.read.insert(path.to_owned(), documents.clone());
        Ok(documents)
    }

    /// Merges each service of a document on top of the one that it extends.
    fn extend(
        &mut self,
        root: &mut Value,
        document: &Document,
        around: &Around,
    ) -> Result<(), BakeError> {
        let Some(Value::Object(services)) = root.get("services").cloned() else { return Ok(()) };
        let own =
            Services { services: &services, cleared: &document.cleared, folder: &around.folder };
        for name in services.keys() {
            let whole =
                self.extended(name, &own, around, 0).within(|| Location::Service(name.clone()))?;
            root["services"][name] = whole;
        }
        Ok(())
    }

    /// A service merged on top of the one that it extends.
    fn extended(
        &mut self,
        name: &str,
        of: &Services<'_>,
        around: &Around,
        depth: usize,
    ) -> Result<Value, BakeError> {
        let service = of.services.get(name);
        let service = service.ok_or_else(|| invalid!("it extends `{name}`, which is not there"))?;
        let Some(extends) = service.get("extends").filter(|extends| !extends.is_null()) else {
            return Ok(service.clone());
        };
        if depth > MAX_DEPTH {
            return Err(BakeError::Limit("`extends` is nested too deep"));
        }
        let base = extends.as_str().or_else(|| extends.get("service")?.as_str());
        let base = base.ok_or_else(|| invalid!("`extends` has no `service`"))?;
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
        merge(&mut below, service, &self.budget)?;
        Ok(below)
    }

    /// The services of another file, and the paths that its last document clears.
    fn services_of(
        &mut self,
        file: &Path,
        folder: &Path,
        around: &Around,
    ) -> Result<(Map<String, Value>, Cleared), BakeError> {
        let location = || Location::File(file.display().to_string());
        let other = Around {
            folder: folder.to_owned(),
            variables: around.variables.clone(),
            includers: Vec::new(),
        };
        let mut whole = json!({});
        let mut cleared = Vec::new();
        for document in self.open(file)? {
            let root = opened(&document, &other).within(location)?;
            clear(&mut whole, &document.cleared);
            merge(&mut whole, root, &self.budget).within(location)?;
            cleared = document.cleared;
        }
        match whole["services"].take() {
            Value::Object(services) => Ok((services, cleared)),
            _ => Err(invalid!("it has no `services`").within(location())),
        }
    }
}

/// Paths at which earlier values do not count.
type Cleared = Vec<Vec<String>>;

/// The services of a file.
struct Services<'s> {
    services: &'s Map<String, Value>,
    cleared: &'s [Vec<String>],
    folder: &'s Path,
}

/// A document with variables substituted, paths relative to here, and services in their long
/// form.
fn opened(document: &Document, around: &Around) -> Result<Value, BakeError> {
    let mut root = document.root.clone();
    let Value::Object(map) = &mut root else { return Err(invalid!("it is no map of services")) };
    map.retain(|key, _| matches!(key.as_str(), "services" | "secrets" | "include"));
    for (key, value) in map.iter_mut() {
        interpolate(value, &around.variables).map_err(|error| {
            let location = Location::Key(format!("{key}{}", error.path));
            BakeError::from(error.source).within(location)
        })?;
    }
    for kind in ["services", "secrets"] {
        match root.get(kind) {
            Some(Value::Object(_)) | None => {}
            Some(Value::Null) => root[kind] = json!({}),
            Some(_) => return Err(invalid!("`{kind}` is no map")),
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
        service::long_form(service, &around.folder).within(|| Location::Service(name.clone()))?;
    }
    Ok(root)
}

/// A text whose variables cannot be substituted.
struct InterpolationError {
    /// Its path: `.a.image`.
    path: String,
    source: SubstituteError,
}

/// Substitutes variables in all texts.
fn interpolate(value: &mut Value, variables: &Variables) -> Result<(), InterpolationError> {
    let under = |part: &str, error: InterpolationError| InterpolationError {
        path: format!(".{part}{}", error.path),
        ..error
    };
    match value {
        Value::String(text) if text.contains('$') => {
            *text = substitute(text, variables, variables.tally())
                .map_err(|source| InterpolationError { path: String::new(), source })?;
        }
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                interpolate(item, variables).map_err(|error| under(&at.to_string(), error))?;
            }
        }
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                interpolate(item, variables).map_err(|error| under(key, error))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// True if a text is a compose file by its keys.
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

/// A path in a folder as a path from here; addresses stay.
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
