//! A service of a compose file as a target.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::merge::pairs;
use super::variables::{Variables, read_file};
use super::{list, placed};
use crate::personalities::bake::dotenv;
use crate::personalities::bake::substitute::Lookup as _;
use crate::personalities::bake::target::{self, Target};

/// Makes what can be written in several ways of one form, so that files can be put together.
///
/// # Errors
/// What is of no form.
pub fn long_form(service: &mut Value, folder: &Path) -> Result<(), String> {
    if !matches!(service, Value::Object(_) | Value::Null) {
        return Err("it is no map".into());
    }
    if let Some(variables) = service.get_mut("environment") {
        *variables = pairs(variables).map_err(|error| format!("`environment`: {error}"))?;
    }
    if let Some(files) = service.get_mut("env_file") {
        *files = list(Some(files)).into_iter().map(|file| env_file(file, folder)).collect();
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
            *value = pairs(value).map_err(|error| format!("`build.{key}`: {error}"))?;
        }
    }
    if let Some(hosts) = build.get_mut("extra_hosts") {
        *hosts = host_lines(hosts)?;
    }
    if let Some(Value::String(context)) = build.get_mut("context") {
        *context = placed(context, folder);
    }
    let contexts = build.get_mut("additional_contexts").and_then(Value::as_object_mut);
    for value in contexts.into_iter().flat_map(|map| map.values_mut()) {
        if let Value::String(path) = value
            && !["service:", "target:", "docker-image:", "oci-layout:"]
                .iter()
                .any(|kind| path.starts_with(kind))
        {
            *path = placed(path, folder);
        }
    }
    Ok(())
}

/// A file with variables as a map, its path from here.
fn env_file(mut file: Value, folder: &Path) -> Value {
    if let Value::String(path) = file {
        file = json!({ "path": path });
    }
    if let Some(Value::String(path)) = file.get_mut("path") {
        *path = placed(path, folder);
    }
    file
}

/// Hosts and their addresses, a line each: `db=10.0.0.1`.
fn host_lines(value: &Value) -> Result<Value, String> {
    match value {
        Value::Array(_) | Value::Null => Ok(value.clone()),
        Value::Object(map) => {
            let lines = map.iter().flat_map(|(host, addresses)| {
                let addresses = list(Some(addresses)).into_iter();
                addresses.map(move |address| json!(format!("{host}={}", yaml::text(&address))))
            });
            Ok(lines.collect())
        }
        other => Err(format!("`build.extra_hosts`: `{other}` is neither map nor list")),
    }
}

/// The targets of all services that are built, by name.
///
/// # Errors
/// A sentence that names the service, and what of it cannot be read or contradicts itself.
pub fn targets(root: &Value, variables: &Variables) -> Result<Vec<(String, Target)>, String> {
    if root.get("services").is_none() && root.get("secrets").is_none() {
        return Err("there are no `services` in the compose file".into());
    }
    let empty = Map::new();
    let services = root.get("services").and_then(Value::as_object).unwrap_or(&empty);
    let secrets = root.get("secrets").and_then(Value::as_object).unwrap_or(&empty);
    for (name, secret) in secrets {
        let says = |key: &str| secret.get(key).is_some_and(|value| !value.is_null());
        if !says("file") && !says("environment") && !is_external(secret) {
            return Err(format!("the secret `{name}` has neither `file` nor `environment`"));
        }
    }
    let mut targets = Vec::new();
    for (name, service) in services {
        let failed = |error: String| format!("service `{name}`: {error}");
        let image = service.get("image").and_then(Value::as_str).unwrap_or_default();
        let build = service.get("build").filter(|build| !build.is_null());
        let Some(build) = build else {
            if image.is_empty() {
                return Err(failed("it has neither `image` nor `build`".into()));
            }
            continue;
        };
        let around = Around { service, services, secrets, variables };
        // Targets have no dots in their names.
        targets.push((name.replace('.', "_"), around.target(build).map_err(failed)?));
    }
    targets.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(targets)
}

fn is_external(secret: &Value) -> bool {
    secret
        .get("external")
        .is_some_and(|external| !matches!(external, Value::Null | Value::Bool(false)))
}

/// A service among the others.
struct Around<'a> {
    service: &'a Value,
    services: &'a Map<String, Value>,
    secrets: &'a Map<String, Value>,
    variables: &'a Variables,
}

impl Around<'_> {
    fn target(&self, build: &Value) -> Result<Target, String> {
        let mut target = Target::default();
        let empty = Map::new();
        let build = build.as_object().unwrap_or(&empty);
        let says = |key: &str| build.get(key).is_some_and(|value| !value.is_null() && value != "");
        if says("dockerfile") && says("dockerfile_inline") {
            return Err(
                "`build.dockerfile` and `build.dockerfile_inline` exclude each other".into()
            );
        }
        let mut extension = None;
        for (key, value) in build.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "context" | "dockerfile" | "target" | "network" if value == "" => {}
                "context" | "dockerfile" | "target" | "network" | "tags" | "platforms" => {
                    target.set(key, value.clone())?;
                }
                // Off is what is not said.
                "pull" | "no_cache" => {
                    let value = truth(value)
                        .ok_or_else(|| format!("`build.{key}` is neither true nor false"))?;
                    if value {
                        target.set(&key.replace('_', "-"), value.into())?;
                    }
                }
                "dockerfile_inline" => target.set("dockerfile-inline", value.clone())?,
                "shm_size" => target.set("shm-size", shm_size(value)?.into())?,
                "cache_from" => target.set("cache-from", value.clone())?,
                "cache_to" => target.set("cache-to", value.clone())?,
                "no_cache_filter" => target.set("no-cache-filter", list(Some(value)).into())?,
                "entitlements" => target.set("entitlements", value.clone())?,
                "args" => target.set("args", self.arguments(value)?)?,
                "labels" => target.set("labels", labels(value))?,
                "additional_contexts" => target.set("contexts", self.contexts(value)?)?,
                "extra_hosts" => target.set("extra-hosts", hosts(value)?)?,
                "secrets" => target.set("secret", self.secret_list(value)?)?,
                "ssh" => target.set("ssh", ssh_list(value)?)?,
                "ulimits" => target.set("ulimits", ulimits(value)?)?,
                "attest" | "provenance" | "sbom" => {
                    let mut all = target.get("attest").and_then(Value::as_array).cloned();
                    all.get_or_insert_default().push(attest(key, value));
                    target.set("attest", all.unwrap_or_default().into())?;
                }
                // They change nothing for BuildKit.
                "privileged" | "isolation" => {}
                "x-bake" => extension = Some(value.clone()),
                key if key.starts_with("x-") => {}
                key => return Err(format!("`build.{key}` is not there yet; leave it out")),
            }
        }
        for (key, value) in extension.as_ref().and_then(Value::as_object).into_iter().flatten() {
            extend(&mut target, key, value).map_err(|error| format!("`x-bake`: {error}"))?;
        }
        let image = self.service.get("image").and_then(Value::as_str);
        let has_tags =
            target.get("tags").and_then(Value::as_array).is_some_and(|tags| !tags.is_empty());
        if let Some(image) = image.filter(|image| !image.is_empty() && !has_tags) {
            target.set("tags", json!([image]))?;
        }
        Ok(target)
    }

    /// Build arguments: one without a value has that of the service's variables, or of the
    /// project's; where nothing says a value, there is no argument.
    fn arguments(&self, value: &Value) -> Result<Value, String> {
        let Value::Object(map) = value else { return Ok(value.clone()) };
        let of_service = self.environment()?;
        let known = |name: &str| {
            let value = of_service.get(name).cloned();
            value.or_else(|| self.variables.value(name)).map(Value::from)
        };
        let argument = |(name, value): (&String, &Value)| match value.is_null() {
            true => (name.clone(), known(name).unwrap_or(Value::Null)),
            false => (name.clone(), value.clone()),
        };
        Ok(Value::Object(map.iter().map(argument).collect()))
    }

    /// The service's own variables: those of its `env_file`, with its `environment` on top.
    fn environment(&self) -> Result<BTreeMap<String, String>, String> {
        let own = self.service.get("environment").and_then(Value::as_object);
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in own.into_iter().flatten() {
            let value = value.as_str().map(str::to_owned).or_else(|| self.variables.value(name));
            variables.extend(value.map(|value| (name.clone(), value)));
        }
        let own = variables.clone();
        let outer = |name: &str| self.variables.value(name).or_else(|| own.get(name).cloned());
        for file in list(self.service.get("env_file")) {
            let path =
                file.get("path").and_then(Value::as_str).ok_or("an `env_file` has no `path`")?;
            let failed = |error: String| format!("reading `{path}`: {error}");
            if let Some(format) =
                file.get("format").and_then(Value::as_str).filter(|format| !format.is_empty())
            {
                return Err(failed(format!("`format: {format}` is not there")));
            }
            let is_needed = file.get("required").is_none_or(|value| truth(value) != Some(false));
            match read_file(Path::new(path)).map_err(|error| failed(error.to_string()))? {
                Some(text) => {
                    let unset = self.variables.unset();
                    dotenv::read(&text, &outer, &mut variables, unset)
                        .map_err(|error| failed(error.to_string()))?;
                }
                None if is_needed => return Err(failed("there is no such file".into())),
                None => {}
            }
        }
        variables.extend(own.clone());
        Ok(variables)
    }

    /// Named contexts: a service is the target of its name, and has to be built.
    fn contexts(&self, value: &Value) -> Result<Value, String> {
        let mut contexts = value.clone();
        for (name, place) in contexts.as_object_mut().into_iter().flatten() {
            let Some(text) = place.as_str().map(str::to_owned) else {
                return Err(format!("`build.additional_contexts.{name}` has no value"));
            };
            if let Some(service) = text.strip_prefix("service:") {
                let build = self.services.get(service).map(|service| service.get("build"));
                match build {
                    None => {
                        return Err(format!(
                            "the context `{name}` is the service `{service}`, which is not there"
                        ));
                    }
                    Some(None | Some(Value::Null)) => {
                        return Err(format!(
                            "the context `{name}` is the service `{service}`, which is not built"
                        ));
                    }
                    Some(Some(_)) => {}
                }
            }
            *place = linked(&text).into();
        }
        Ok(contexts)
    }

    fn secret_list(&self, value: &Value) -> Result<Value, String> {
        let mut secrets = Vec::new();
        for item in list(Some(value)) {
            let name = item.as_str().or_else(|| item.get("source")?.as_str());
            let name = name.ok_or("a secret has no name")?;
            let secret = self.secrets.get(name);
            let secret = secret
                .ok_or_else(|| format!("the secret `{name}` is not among the file's `secrets`"))?;
            if is_external(secret) {
                return Err(format!(
                    "the secret `{name}` is external: name a `file` or a variable"
                ));
            }
            let text = |key: &str| secret.get(key).and_then(Value::as_str);
            // As buildx has it, `target` does not count.
            let mut fields = json!({ "id": name });
            for (key, field) in [("file", "src"), ("environment", "env")] {
                if let Some(value) = text(key) {
                    fields[field] = value.into();
                }
            }
            secrets.push(fields);
        }
        Ok(Value::Array(secrets))
    }
}

/// `service:NAME` and `target:NAME` as the target of that name.
fn linked(place: &str) -> String {
    let target = place.strip_prefix("service:").or_else(|| place.strip_prefix("target:"));
    target.map_or_else(|| place.to_owned(), |name| format!("target:{}", name.replace('.', "_")))
}

/// Adds what `x-bake` says to what is said already.
fn extend(target: &mut Target, key: &str, value: &Value) -> Result<(), String> {
    let is_list = matches!(
        key,
        "tags"
            | "cache-from"
            | "cache-to"
            | "secret"
            | "ssh"
            | "platforms"
            | "output"
            | "no-cache-filter"
    );
    match (key, value) {
        (_, Value::Null) => Ok(()),
        ("contexts", Value::Object(contexts)) => {
            let known = target.entry("contexts", json!({}));
            for (name, place) in contexts {
                let place =
                    place.as_str().ok_or_else(|| format!("`contexts.{name}` is no text"))?;
                if let Value::Object(known) = known {
                    known.entry(name.as_str()).or_insert_with(|| linked(place).into());
                }
            }
            Ok(())
        }
        ("pull" | "no-cache", value) => target.set(key, value.clone()),
        (_, value) if is_list => {
            // Several words of a text are several values.
            let more: Vec<Value> = match value {
                Value::String(words) => words.split_whitespace().map(Value::from).collect(),
                Value::Array(items) => items.clone(),
                other => return Err(format!("`{key}`: `{other}` is neither text nor list")),
            };
            let before = target.get(key).and_then(Value::as_array).cloned();
            target.set(key, more.into())?;
            let added = target.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            let mut all = before.unwrap_or_default();
            target::add(key, &mut all, added);
            *target.entry(key, json!([])) = all.into();
            Ok(())
        }
        _ => Err(format!("there is no attribute `{key}`")),
    }
}

/// A truth value, which can be a text when a variable was put in.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) => match text.to_lowercase().as_str() {
            "true" | "y" | "yes" | "on" => Some(true),
            "false" | "n" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn attest(kind: &str, value: &Value) -> Value {
    match (value, truth(value)) {
        (Value::Bool(true), _) | (_, Some(true)) => json!(format!("type={kind}")),
        (Value::Bool(false), _) | (_, Some(false)) => json!(format!("type={kind},disabled=true")),
        (other, None) => json!(format!("type={kind},{}", yaml::text(other))),
    }
}

/// Labels without a value are empty.
fn labels(value: &Value) -> Value {
    let mut labels = value.clone();
    for value in labels.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
        if value.is_null() {
            *value = json!("");
        }
    }
    labels
}

/// A size as buildx prints it: `128m` is `128MiB`.
fn shm_size(value: &Value) -> Result<String, String> {
    let bytes = crate::args::compound::limits::size(&yaml::text(value))?;
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.iter().find(|(size, _)| bytes >= *size && bytes % size == 0);
    Ok(whole.map_or_else(|| format!("{bytes}B"), |(size, unit)| format!("{}{unit}", bytes / size)))
}

/// Lines of hosts as a map: several addresses of a host stand behind commas.
fn hosts(value: &Value) -> Result<Value, String> {
    let mut hosts: Map<String, Value> = Map::new();
    for line in list(Some(value)) {
        let line = yaml::text(&line);
        let pair = line.split_once('=').or_else(|| line.split_once(':'));
        let (host, address) =
            pair.ok_or_else(|| format!("`build.extra_hosts`: `{line}` has no address"))?;
        let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
        let address = bare.unwrap_or(address);
        let all = match hosts.get(host).and_then(Value::as_str) {
            Some(known) => format!("{known},{address}"),
            None => address.to_owned(),
        };
        hosts.insert(host.to_owned(), all.into());
    }
    Ok(Value::Object(hosts))
}

fn ssh_list(value: &Value) -> Result<Value, String> {
    let mut agents = match value {
        Value::Object(map) => map
            .iter()
            .map(|(id, path)| match path {
                Value::Null => id.clone(),
                path => format!("{id}={}", yaml::text(path)),
            })
            .collect(),
        other => list(Some(other)).iter().map(yaml::text).collect::<Vec<_>>(),
    };
    agents.sort();
    if let Some(wrong) = agents.iter().find(|agent| !agent.contains('=') && *agent != "default") {
        return Err(format!("`build.ssh`: `{wrong}` is neither `default` nor ID=PATH"));
    }
    Ok(agents.into())
}

fn ulimits(value: &Value) -> Result<Value, String> {
    let Value::Object(map) = value else { return Err("`ulimits` is no map".into()) };
    let whole = |value: &Value| yaml::text(value).parse::<i64>().ok();
    let mut limits = Vec::new();
    for (name, limit) in map {
        let number = |key: &str| limit.get(key).and_then(whole);
        limits.push(match (whole(limit), number("soft"), number("hard")) {
            (Some(limit), ..) => json!(format!("{name}={limit}:{limit}")),
            (None, Some(soft), Some(hard)) => json!(format!("{name}={soft}:{hard}")),
            _ => return Err(format!("`ulimits.{name}` is neither number nor soft and hard")),
        });
    }
    Ok(Value::Array(limits))
}
