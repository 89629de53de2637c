//! Compose files: their services' `build` sections as targets.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use super::target::Target;
use crate::personalities::yaml;
use crate::settings::Environment;

/// So many files include and extend each other at most.
const MOST_FILES: usize = 64;

/// Compose files, put together: what a later one says is on top.
pub struct Project {
    variables: Variables,
    /// The whole document: `services` and `secrets`.
    root: Value,
    files: usize,
}

impl Project {
    /// A project without files; variables come from the environment, then from `.env` here.
    pub fn new(environment: &Environment) -> Self {
        let is_off = environment.get("COMPOSE_DISABLE_ENV_FILE");
        let is_off = is_off.is_some_and(|value| !matches!(value, "0" | "false"));
        let text = std::fs::read_to_string(".env").ok().filter(|_| !is_off);
        let variables = Variables::new(environment, &text.unwrap_or_default());
        Self { variables, root: Value::Null, files: 0 }
    }

    /// Whether there is a file.
    pub fn has_files(&self) -> bool {
        self.files > 0
    }

    /// Adds a file of this folder.
    ///
    /// # Errors
    /// A sentence that names what cannot be read.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        self.add_from(text, Path::new(""))
    }

    /// Adds a file; its paths are relative to a folder.
    fn add_from(&mut self, text: &str, folder: &Path) -> Result<(), String> {
        self.files += 1;
        if self.files > MOST_FILES {
            return Err("too many files include each other".into());
        }
        let mut root = self.read(text, folder)?;
        let services = root.get("services").and_then(Value::as_object).cloned();
        for (name, service) in services.into_iter().flatten() {
            let whole = self
                .extended(service, (&root, folder), 0)
                .map_err(|error| format!("service `{name}`: {error}"))?;
            root["services"][name] = whole;
        }
        for include in list(root.get("include")) {
            let paths = include.get("path").unwrap_or(&include);
            for path in list(Some(paths)) {
                let path = path.as_str().ok_or("an `include` is no path")?;
                let file = folder.join(path);
                let text = read_file(&file)?;
                let own = file.parent().unwrap_or(folder).to_owned();
                let failed = |error: String| format!("`{}`: {error}", file.display());
                self.add_from(&text, &own).map_err(failed)?;
            }
        }
        merge(&mut self.root, root);
        Ok(())
    }

    /// A file with variables put in, paths from here, and everything in its long form.
    fn read(&self, text: &str, folder: &Path) -> Result<Value, String> {
        let mut root = yaml::parse(text)?;
        interpolate(&mut root, &self.variables)?;
        match root.get("services") {
            Some(Value::Object(_) | Value::Null) | None => {}
            Some(_) => return Err("`services` is no map".into()),
        }
        for secret in root.get_mut("secrets").and_then(Value::as_object_mut).into_iter().flatten() {
            if let Some(Value::String(file)) = secret.1.get_mut("file") {
                *file = placed(file, folder);
            }
        }
        let services = root.get_mut("services").and_then(Value::as_object_mut);
        for (name, service) in services.into_iter().flatten() {
            long_form(service, folder).map_err(|error| format!("service `{name}`: {error}"))?;
        }
        Ok(root)
    }

    /// A service on top of the one that it extends.
    fn extended(
        &mut self,
        service: Value,
        (root, folder): (&Value, &Path),
        depth: usize,
    ) -> Result<Value, String> {
        let Some(extends) = service.get("extends").filter(|extends| !extends.is_null()) else {
            return Ok(service);
        };
        if depth > 8 {
            return Err("`extends` is nested too deep".into());
        }
        let name = extends.as_str().or_else(|| extends["service"].as_str());
        let name = name.ok_or("`extends` has no `service`")?;
        let find = |root: &Value| {
            let base = root.get("services").and_then(|services| services.get(name)).cloned();
            base.ok_or_else(|| format!("it extends `{name}`, which is not there"))
        };
        let mut base = match extends.get("file").and_then(Value::as_str) {
            None => self.extended(find(root)?, (root, folder), depth + 1)?,
            Some(file) => {
                let file = folder.join(file);
                let own = file.parent().unwrap_or(folder).to_owned();
                let failed = |error: String| format!("`{}`: {error}", file.display());
                let other = self.read(&read_file(&file)?, &own).map_err(failed)?;
                self.extended(find(&other)?, (&other, &own), depth + 1)?
            }
        };
        merge(&mut base, service);
        Ok(base)
    }

    /// The targets, by name.
    ///
    /// # Errors
    /// A sentence that names the service, and what of it cannot be read.
    pub fn targets(self) -> Result<Vec<(String, Target)>, String> {
        let secrets = self.root.get("secrets").cloned().unwrap_or(Value::Null);
        let services = self.root.get("services").and_then(Value::as_object).cloned();
        let mut targets = Vec::new();
        for (name, service) in services.into_iter().flatten() {
            let Some(build) = service.get("build").filter(|build| !build.is_null()) else {
                continue;
            };
            let target = target((&service, build), &secrets, &self.variables)
                .map_err(|error| format!("service `{name}`: {error}"))?;
            // Targets have no dots in their names.
            targets.push((name.replace('.', "_"), target));
        }
        targets.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(targets)
    }
}

fn list(value: Option<&Value>) -> Vec<Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items.clone(),
        Some(one) => vec![one.clone()],
    }
}

fn read_file(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("reading `{}`: {error}", file.display()))
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

/// Makes what can be written in several ways maps, so that files can be put together.
fn long_form(service: &mut Value, folder: &Path) -> Result<(), String> {
    if let Some(variables) = service.get_mut("environment") {
        *variables = pairs(variables, '=')?;
    }
    let Some(build) = service.get_mut("build").filter(|build| !build.is_null()) else {
        return Ok(());
    };
    if let Value::String(context) = build {
        *build = json!({ "context": context });
    }
    let Value::Object(build) = build else {
        return Err("`build` is neither text nor map".into());
    };
    for key in ["args", "labels", "additional_contexts"] {
        if let Some(value) = build.get_mut(key) {
            *value = pairs(value, '=')?;
        }
    }
    if let Some(Value::String(context)) = build.get_mut("context") {
        *context = placed(context, folder);
    } else if !folder.as_os_str().is_empty() {
        build.insert("context".into(), placed(".", folder).into());
    }
    for place in build.get_mut("additional_contexts").and_then(Value::as_object_mut).into_iter() {
        for value in place.values_mut() {
            if let Value::String(path) = value
                && !["service:", "docker-image:", "oci-layout:"]
                    .iter()
                    .any(|kind| path.starts_with(kind))
            {
                *path = placed(path, folder);
            }
        }
    }
    Ok(())
}

/// Puts what a later file says on top: maps by their keys, lists one behind the other.
fn merge(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                match below.get_mut(&key) {
                    Some(known) if !value.is_null() => merge(known, value),
                    Some(_) => {}
                    None => drop(below.insert(key, value)),
                }
            }
        }
        (Value::Array(below), Value::Array(above)) => {
            for item in above {
                if !below.contains(&item) {
                    below.push(item);
                }
            }
        }
        (below, above) => *below = above,
    }
}

/// Variables: those of the environment, then those of `.env`.
struct Variables {
    environment: Environment,
    file: BTreeMap<String, String>,
}

impl Variables {
    fn new(environment: &Environment, file: &str) -> Self {
        let mut variables = BTreeMap::new();
        for line in file.lines() {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#'))
            else {
                continue;
            };
            let value = value.trim();
            let quoted = |quote: char| {
                let (inner, _) = value.strip_prefix(quote)?.split_once(quote)?;
                Some(inner.to_owned())
            };
            let bare = || value.split(" #").next().unwrap_or_default().trim_end().to_owned();
            let value = quoted('"').or_else(|| quoted('\'')).unwrap_or_else(bare);
            variables.insert(name.trim().to_owned(), value);
        }
        Self { environment: environment.clone(), file: variables }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.environment.raw(name).or_else(|| self.file.get(name).map(String::as_str))
    }
}

fn target(
    (service, build): (&Value, &Value),
    secrets: &Value,
    variables: &Variables,
) -> Result<Target, String> {
    let mut target = Target::default();
    let empty = Map::new();
    let mut extension = None;
    for (key, value) in build.as_object().unwrap_or(&empty) {
        match key.as_str() {
            "context" | "dockerfile" | "target" | "network" | "tags" | "platforms" | "pull" => {
                target.set(key, value.clone())?;
            }
            "no_cache" => target.set("no-cache", value.clone())?,
            "dockerfile_inline" => target.set("dockerfile-inline", value.clone())?,
            "shm_size" => target.set("shm-size", shm_size(value)?.into())?,
            "cache_from" => target.set("cache-from", value.clone())?,
            "cache_to" => target.set("cache-to", value.clone())?,
            "no_cache_filter" => target.set("no-cache-filter", value.clone())?,
            "entitlements" => target.set("entitlements", value.clone())?,
            "args" => target.set("args", arguments(value, service, variables))?,
            "labels" => target.set("labels", value.clone())?,
            "additional_contexts" => {
                let mut contexts = value.clone();
                for place in contexts.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
                    let service = place.as_str().and_then(|place| place.strip_prefix("service:"));
                    if let Some(service) = service.map(|name| name.replace('.', "_")) {
                        *place = format!("target:{service}").into();
                    }
                }
                target.set("contexts", contexts)?;
            }
            "extra_hosts" => {
                let separator = |text: &str| if text.contains('=') { '=' } else { ':' };
                let hosts = match value {
                    Value::Array(items) => {
                        let mut map = Map::new();
                        for text in items.iter().filter_map(Value::as_str) {
                            if let Some((host, address)) = text.split_once(separator(text)) {
                                map.insert(host.into(), address.into());
                            }
                        }
                        Value::Object(map)
                    }
                    other => other.clone(),
                };
                target.set("extra-hosts", hosts)?;
            }
            "secrets" => target.set("secret", secret_list(value, secrets)?)?,
            "ssh" => target.set("ssh", ssh_list(value))?,
            "ulimits" => target.set("ulimits", ulimits(value)?)?,
            "attest" | "provenance" | "sbom" => {
                let kind = key.as_str();
                let attest = match value {
                    Value::Bool(false) => json!([format!("type={kind},disabled=true")]),
                    Value::Bool(true) => json!([format!("type={kind}")]),
                    other => json!([format!("type={kind},{}", other.as_str().unwrap_or_default())]),
                };
                let mut all = target.get("attest").and_then(Value::as_array).cloned();
                all.get_or_insert_default()
                    .extend(attest.as_array().into_iter().flatten().cloned());
                target.set("attest", all.unwrap_or_default().into())?;
            }
            // They change nothing for BuildKit.
            "privileged" | "isolation" => {}
            "x-bake" => extension = Some(value.clone()),
            key if key.starts_with("x-") => {}
            key => return Err(format!("`build.{key}` is not there yet; leave it out")),
        }
    }
    if target.get("tags").is_none()
        && let Some(image) = service.get("image").and_then(Value::as_str)
    {
        target.set("tags", json!([image]))?;
    }
    for (key, value) in extension.as_ref().and_then(Value::as_object).into_iter().flatten() {
        let is_list = matches!(
            key.as_str(),
            "tags"
                | "cache-from"
                | "cache-to"
                | "secret"
                | "secrets"
                | "ssh"
                | "platforms"
                | "output"
                | "no-cache-filter"
        );
        let value = match (is_list, value) {
            (true, Value::String(_)) => json!([value]),
            _ => value.clone(),
        };
        target.set(key, value).map_err(|error| format!("`x-bake`: {error}"))?;
    }
    Ok(target)
}

/// Build arguments: one without a value has that of the service's variables, or of the
/// environment; where nothing says a value, there is no argument.
fn arguments(value: &Value, service: &Value, variables: &Variables) -> Value {
    let Value::Object(map) = value else { return value.clone() };
    let of_service = |name: &str| service.get("environment")?.get(name)?.as_str();
    let known = |name: &str| of_service(name).or_else(|| variables.get(name)).map(Value::from);
    let argument = |(name, value): (&String, &Value)| match value.is_null() {
        true => (name.clone(), known(name).unwrap_or(Value::Null)),
        false => (name.clone(), value.clone()),
    };
    Value::Object(map.iter().map(argument).collect())
}

/// A size as buildx prints it: `128m` is `128MiB`.
fn shm_size(value: &Value) -> Result<String, String> {
    let text = super::expression::text(value)?;
    let bytes = crate::args::compound::limits::size(&text)?;
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.iter().find(|(size, _)| bytes >= *size && bytes % size == 0);
    Ok(whole.map_or_else(|| format!("{bytes}B"), |(size, unit)| format!("{}{unit}", bytes / size)))
}

/// A map, or a list of `KEY=VALUE`; a key alone has the environment's value.
fn pairs(value: &Value, separator: char) -> Result<Value, String> {
    match value {
        Value::Object(_) | Value::Null => Ok(value.clone()),
        Value::Array(items) => {
            let mut map = Map::new();
            for item in items {
                let text = super::expression::text(item)?;
                match text.split_once(separator) {
                    Some((key, value)) => map.insert(key.into(), value.into()),
                    None => map.insert(text, Value::Null),
                };
            }
            Ok(Value::Object(map))
        }
        other => Err(format!("`{other}` is neither map nor list")),
    }
}

fn secret_list(value: &Value, secrets: &Value) -> Result<Value, String> {
    let mut list = Vec::new();
    for item in value.as_array().into_iter().flatten() {
        let name = item.as_str().or_else(|| item.get("source").and_then(Value::as_str));
        let name = name.ok_or("a secret has no name")?;
        // As buildx has it, `target` does not count.
        let id = name;
        let secret = secrets
            .get(name)
            .ok_or_else(|| format!("the secret `{name}` is not among the file's `secrets`"))?;
        let text = |key: &str| secret.get(key).and_then(Value::as_str);
        list.push(match (text("file"), text("environment")) {
            (Some(file), _) => json!({ "id": id, "src": file }),
            (None, Some(variable)) => json!({ "id": id, "env": variable }),
            (None, None) => {
                return Err(format!("the secret `{name}` has neither `file` nor `environment`"));
            }
        });
    }
    Ok(Value::Array(list))
}

fn ssh_list(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(id, path)| match path.as_str() {
                Some(path) => json!(format!("{id}={path}")),
                None => json!(id),
            })
            .collect(),
        other => other.clone(),
    }
}

fn ulimits(value: &Value) -> Result<Value, String> {
    let Value::Object(map) = value else { return Err("`ulimits` is no map".into()) };
    let mut list = Vec::new();
    for (name, limit) in map {
        let number = |key: &str| limit.get(key).map(ToString::to_string);
        list.push(match (limit.as_i64(), number("soft"), number("hard")) {
            (Some(limit), ..) => json!(format!("{name}={limit}:{limit}")),
            (None, Some(soft), Some(hard)) => json!(format!("{name}={soft}:{hard}")),
            _ => return Err(format!("`ulimits.{name}` is neither number nor soft and hard")),
        });
    }
    Ok(Value::Array(list))
}

/// Puts variables in: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `$$`.
fn interpolate(value: &mut Value, variables: &Variables) -> Result<(), String> {
    match value {
        Value::String(text) if text.contains('$') => *text = expand(text, variables, 0)?,
        Value::Array(items) => {
            for item in items {
                interpolate(item, variables)?;
            }
        }
        Value::Object(map) => {
            for item in map.values_mut() {
                interpolate(item, variables)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn expand(text: &str, variables: &Variables, depth: usize) -> Result<String, String> {
    if depth > 8 {
        return Err(format!("`{text}` is nested too deep"));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some(inner) = after.strip_prefix('{') else {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, after) = after.split_at(end.unwrap_or(after.len()));
            out.push_str(variables.get(name).unwrap_or_default());
            rest = after;
            continue;
        };
        let mut open = 1;
        let end = inner.char_indices().find(|(_, c)| {
            match c {
                '{' => open += 1,
                '}' => open -= 1,
                _ => {}
            }
            open == 0
        });
        let (end, _) = end.ok_or_else(|| format!("`{text}`: a `${{` is not closed"))?;
        let (inside, after) = (&inner[..end], &inner[end + 1..]);
        let stop = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, operation) = inside.split_at(stop.unwrap_or(inside.len()));
        let raw = variables.get(name);
        let set = raw.filter(|value| !value.is_empty());
        let value = match operation {
            "" => raw.unwrap_or_default().to_owned(),
            operation => {
                let (found, word) = match operation.strip_prefix(':') {
                    Some(operation) => (set, operation),
                    None => (raw, operation),
                };
                let (sign, word) = word.split_at(word.len().min(1));
                match (sign, found) {
                    ("-", None) => expand(word, variables, depth + 1)?,
                    ("+", Some(_)) => expand(word, variables, depth + 1)?,
                    ("+", None) => String::new(),
                    ("-" | "?", Some(value)) => value.to_owned(),
                    ("?", None) => return Err(format!("variable `{name}`: {word}")),
                    _ => return Err(format!("`${{{inside}}}` is not understood")),
                }
            }
        };
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str, variables: &[(&str, &str)]) -> Result<Vec<(String, Target)>, String> {
        let variables = Variables::new(&Environment::of(variables), "");
        let mut project = Project { variables, root: Value::Null, files: 0 };
        project.add(text)?;
        project.targets()
    }

    #[test]
    fn files_and_services_are_put_together() {
        let variables =
            Variables::new(&Environment::of(&[("E", "e")]), "# x\nexport D=\"d d\" # y\nE=no\n");
        let mut project = Project { variables, root: Value::Null, files: 0 };
        let one = "
services:
  base: {build: {context: ./b/../base/, args: [A=1, E, D, S, NONE], tags: [one], shm_size: 128m}, image: x}
  app: {extends: base, environment: [S=s], image: app, build: {args: {A: 2}}}
  plain: {image: redis}
";
        let two = "services: {base: {build: {tags: [two], privileged: true, provenance: false, sbom: true}}}";
        project.add(one).unwrap();
        project.add(two).unwrap();
        let targets = project.targets().unwrap();
        let names: Vec<&str> = targets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["app", "base"]);
        assert_eq!(
            targets[0].1.printed(),
            json!({
                "context": "base", "args": {"A": "2", "E": "e", "D": "d d", "S": "s"},
                "tags": ["one"], "shm-size": "128MiB",
            })
        );
        let base = targets[1].1.printed();
        assert_eq!(base["tags"], json!(["one", "two"]));
        assert_eq!(
            base["attest"],
            json!([{"type": "provenance", "disabled": "true"}, {"type": "sbom"}])
        );
    }

    #[test]
    fn files_include_and_extend_others() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        put("in/compose.yaml", "services: {inner: {build: {args: {A: 1}}}}");
        put("base/b.yaml", "services: {base: {build: ./src, image: b}}");
        let text = "include: [in/compose.yaml]\nservices: {app: {extends: {file: base/b.yaml, service: base}}}";
        let variables = Variables::new(&Environment::of(&[]), "");
        let mut project = Project { variables, root: Value::Null, files: 0 };
        project.add_from(text, folder.path()).unwrap();
        let targets = project.targets().unwrap();
        let context =
            |at: usize| targets[at].1.get("context").unwrap().as_str().unwrap().to_owned();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert_eq!((context(0), context(1)), (path("base/src"), path("in")));
    }

    #[test]
    fn services_are_targets() {
        let text = "
services:
  db: {image: postgres}
  web.app:
    image: r/web:${TAG:-latest}
    build:
      context: ./web
      dockerfile: app.Dockerfile
      args: {A: 1, B: null}
      labels: [\"a=b\"]
      target: run
      cache_from: [r/web:cache, 'type=local,src=x']
      secrets: [token]
      additional_contexts: [base=service:base, lib=../lib]
      extra_hosts: ['db:10.0.0.1']
      ulimits: {nofile: {soft: 1, hard: 2}}
      x-bake: {platforms: linux/amd64, output: 'type=docker'}
  base: {build: ./base}
secrets:
  token: {environment: TOKEN}
";
        let targets = targets(text, &[("TAG", "")]).unwrap();
        let names: Vec<&str> = targets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["base", "web_app"]);
        assert_eq!(
            targets[1].1.printed(),
            json!({
                "context": "web", "contexts": {"base": "target:base", "lib": "../lib"},
                "dockerfile": "app.Dockerfile", "args": {"A": "1"}, "labels": {"a": "b"},
                "tags": ["r/web:latest"],
                "cache-from": [{"type": "registry", "ref": "r/web:cache"}, {"type": "local", "src": "x"}],
                "target": "run", "secret": [{"id": "token", "env": "TOKEN"}],
                "platforms": ["linux/amd64"], "output": [{"type": "docker"}],
                "ulimits": ["nofile=1:2"], "extra-hosts": {"db": "10.0.0.1"},
            })
        );
    }

    #[test]
    fn variables_are_put_in() {
        let variables = Variables::new(&Environment::of(&[("A", "x"), ("E", "")]), "");
        for (text, expected) in
            [("$A-${A}$$A", "x-x$A"), ("${E:-d}${E-d}${N-${A}}", "dx"), ("${A:+y}${N:+y}", "y")]
        {
            assert_eq!(expand(text, &variables, 0).as_deref(), Ok(expected), "{text}");
        }
        assert!(expand("${N:?is needed}", &variables, 0).unwrap_err().contains("is needed"));
        assert!(expand("${A", &variables, 0).is_err());
        let wrong = "services: {a: {build: {frob: 1}}}";
        let error = targets(wrong, &[]).unwrap_err();
        assert!(error.contains("service `a`: `build.frob`"), "{error}");
    }
}
