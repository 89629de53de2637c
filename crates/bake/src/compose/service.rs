//! A service of a compose file as a target.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::merge::pairs;
use super::variables::Variables;
use super::{list, placed};
use crate::error::{Location, Within as _, invalid, shown};
use crate::substitute::Lookup as _;
use crate::target::Target;
use crate::{BakeError, ProjectFiles, dotenv, quantity};

/// Brings attributes with several forms into one, so that files can be merged.
///
/// # Errors
/// If an attribute has none of its forms.
pub fn long_form(service: &mut Value, folder: &Path) -> Result<(), BakeError> {
    if !matches!(service, Value::Object(_) | Value::Null) {
        return Err(invalid!("it is no map"));
    }
    if let Some(variables) = service.get_mut("environment") {
        *variables = pairs(variables).within(|| Location::Key("environment".into()))?;
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
        return Err(invalid!("`build` is neither text nor map"));
    };
    for key in ["args", "labels", "additional_contexts"] {
        if let Some(value) = build.get_mut(key) {
            *value = pairs(value).within(|| Location::Key(format!("build.{key}")))?;
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

/// An `env_file` as a map, with its path from here.
fn env_file(mut file: Value, folder: &Path) -> Value {
    if let Value::String(path) = file {
        file = json!({ "path": path });
    }
    if let Some(Value::String(path)) = file.get_mut("path") {
        *path = placed(path, folder);
    }
    file
}

/// Hosts with their addresses, one a line: `db=10.0.0.1`.
fn host_lines(value: &Value) -> Result<Value, BakeError> {
    match value {
        Value::Array(_) | Value::Null => Ok(value.clone()),
        Value::Object(map) => {
            let lines = map.iter().flat_map(|(host, addresses)| {
                let addresses = list(Some(addresses)).into_iter();
                addresses.map(move |address| json!(format!("{host}={}", yaml::text(&address))))
            });
            Ok(lines.collect())
        }
        other => Err(invalid!("`build.extra_hosts`: `{other}` is neither map nor list")),
    }
}

/// The targets of all services that are built, by name.
///
/// # Errors
/// If a service cannot be read or contradicts itself.
pub fn targets(
    root: &Value,
    variables: &Variables,
    files: &dyn ProjectFiles,
) -> Result<Vec<(String, Target)>, BakeError> {
    if root.get("services").is_none() && root.get("secrets").is_none() {
        return Err(invalid!("there are no `services` in the compose file"));
    }
    let empty = Map::new();
    let services = root.get("services").and_then(Value::as_object).unwrap_or(&empty);
    let secrets = root.get("secrets").and_then(Value::as_object).unwrap_or(&empty);
    for (name, secret) in secrets {
        let has = |key: &str| secret.get(key).is_some_and(|value| !value.is_null());
        if !has("file") && !has("environment") && !is_external(secret) {
            return Err(invalid!("the secret `{name}` has neither `file` nor `environment`"));
        }
    }
    let mut targets = Vec::new();
    for (name, service) in services {
        let location = || Location::Service(name.clone());
        let image = service.get("image").and_then(Value::as_str).unwrap_or_default();
        let build = service.get("build").filter(|build| !build.is_null());
        let Some(build) = build else {
            if image.is_empty() {
                return Err(invalid!("it has neither `image` nor `build`").within(location()));
            }
            continue;
        };
        let around = Siblings { service, services, secrets, variables, files };
        // Names of targets cannot have dots.
        targets.push((name.replace('.', "_"), around.target(build).within(location)?));
    }
    targets.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(targets)
}

fn is_external(secret: &Value) -> bool {
    secret
        .get("external")
        .is_some_and(|external| !matches!(external, Value::Null | Value::Bool(false)))
}

/// A service among the others of its project.
struct Siblings<'a> {
    service: &'a Value,
    services: &'a Map<String, Value>,
    secrets: &'a Map<String, Value>,
    variables: &'a Variables,
    files: &'a dyn ProjectFiles,
}

impl Siblings<'_> {
    fn target(&self, build: &Value) -> Result<Target, BakeError> {
        let mut target = Target::default();
        let empty = Map::new();
        let build = build.as_object().unwrap_or(&empty);
        let has = |key: &str| build.get(key).is_some_and(|value| !value.is_null() && value != "");
        if has("dockerfile") && has("dockerfile_inline") {
            return Err(invalid!(
                "`build.dockerfile` and `build.dockerfile_inline` exclude each other"
            ));
        }
        let mut extension = None;
        for (key, value) in build.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "context" | "dockerfile" | "target" | "network" if value == "" => {}
                "context" | "dockerfile" | "target" | "network" | "tags" | "platforms" => {
                    target.set(key, value.clone())?;
                }
                // False is the default, which buildx does not print.
                "pull" | "no_cache" => {
                    let value = truth(value)
                        .ok_or_else(|| invalid!("`build.{key}` is neither true nor false"))?;
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
                    let mut all = target.list_mut("attest").clone();
                    all.push(attest(key, value));
                    target.set("attest", all.into())?;
                }
                // BuildKit ignores these two.
                "privileged" | "isolation" => {}
                "x-bake" => extension = Some(value.clone()),
                key if key.starts_with("x-") => {}
                key => return Err(invalid!("`build.{key}` is not supported; leave it out")),
            }
        }
        for (key, value) in extension.as_ref().and_then(Value::as_object).into_iter().flatten() {
            extend(&mut target, key, value).within(|| Location::Key("x-bake".into()))?;
        }
        let image = self.service.get("image").and_then(Value::as_str);
        if let Some(image) = image.filter(|image| !image.is_empty() && target.tags().is_empty()) {
            target.set("tags", json!([image]))?;
        }
        Ok(target)
    }

    /// Build arguments. One without a value has the value of the service's variables, then of the
    /// project's; one without any value is left out.
    fn arguments(&self, value: &Value) -> Result<Value, BakeError> {
        let Value::Object(map) = value else { return Ok(value.clone()) };
        let of_service = self.environment()?;
        let known = |name: &str| {
            let value = of_service.get(name).cloned();
            value.or_else(|| self.variables.value(name)).map(Value::from)
        };
        let argument = |(name, value): (&String, &Value)| {
            let given = Some(value).filter(|value| !value.is_null()).cloned();
            (name.clone(), given.or_else(|| known(name)).unwrap_or(Value::Null))
        };
        Ok(Value::Object(map.iter().map(argument).collect()))
    }

    /// The service's variables: those of its `env_file`, with its `environment` on top.
    fn environment(&self) -> Result<BTreeMap<String, String>, BakeError> {
        let own = self.service.get("environment").and_then(Value::as_object);
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in own.into_iter().flatten() {
            let value = value.as_str().map(str::to_owned).or_else(|| self.variables.value(name));
            variables.extend(value.map(|value| (name.clone(), value)));
        }
        let own = variables.clone();
        let outer = |name: &str| self.variables.value(name).or_else(|| own.get(name).cloned());
        for file in list(self.service.get("env_file")) {
            let path = file
                .get("path")
                .and_then(Value::as_str)
                .ok_or_else(|| invalid!("an `env_file` has no `path`"))?;
            let location = || Location::Reading(path.to_owned());
            let format = file.get("format").and_then(Value::as_str);
            if let Some(format) = format.filter(|format| !format.is_empty()) {
                return Err(invalid!("`format: {format}` is not supported").within(location()));
            }
            let is_required = file.get("required").is_none_or(|value| truth(value) != Some(false));
            match self.files.read(Path::new(path)).within(location)? {
                Some(text) => dotenv::read(&text, &outer, &mut variables, self.variables.tally())
                    .within(location)?,
                None if is_required => {
                    return Err(invalid!("there is no such file").within(location()));
                }
                None => {}
            }
        }
        variables.extend(own.clone());
        Ok(variables)
    }

    /// Named contexts. A service is the target of its name, and must have a `build`.
    fn contexts(&self, value: &Value) -> Result<Value, BakeError> {
        let mut contexts = value.clone();
        for (name, address) in contexts.as_object_mut().into_iter().flatten() {
            let Some(text) = address.as_str().map(str::to_owned) else {
                return Err(invalid!("`build.additional_contexts.{name}` has no value"));
            };
            if let Some(service) = text.strip_prefix("service:") {
                let build = self.services.get(service).map(|service| service.get("build"));
                match build {
                    None => {
                        return Err(invalid!(
                            "the context `{name}` is the service `{service}`, which is not there"
                        ));
                    }
                    Some(None | Some(Value::Null)) => {
                        return Err(invalid!(
                            "the context `{name}` is the service `{service}`, which is not built"
                        ));
                    }
                    Some(Some(_)) => {}
                }
            }
            *address = linked(&text).into();
        }
        Ok(contexts)
    }

    fn secret_list(&self, value: &Value) -> Result<Value, BakeError> {
        let mut secrets = Vec::new();
        for item in list(Some(value)) {
            let name = item.as_str().or_else(|| item.get("source")?.as_str());
            let name = name.ok_or_else(|| invalid!("a secret has no name"))?;
            let secret = self.secrets.get(name);
            let secret = secret
                .ok_or_else(|| invalid!("the secret `{name}` is not among the file's `secrets`"))?;
            if is_external(secret) {
                return Err(invalid!(
                    "the secret `{name}` is external: name a `file` or a variable"
                ));
            }
            let text = |key: &str| secret.get(key).and_then(Value::as_str);
            // buildx ignores `target`.
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
fn linked(address: &str) -> String {
    let target = address.strip_prefix("service:").or_else(|| address.strip_prefix("target:"));
    target.map_or_else(|| address.to_owned(), |name| format!("target:{}", name.replace('.', "_")))
}

/// Applies an attribute of `x-bake`.
fn extend(target: &mut Target, key: &str, value: &Value) -> Result<(), BakeError> {
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
            let known = target.map_mut("contexts");
            for (name, address) in contexts {
                let address =
                    address.as_str().ok_or_else(|| invalid!("`contexts.{name}` is no text"))?;
                known.entry(name.as_str()).or_insert_with(|| linked(address).into());
            }
            Ok(())
        }
        ("pull" | "no-cache", value) => target.set(key, value.clone()),
        (_, value) if is_list => {
            // Several words of a text are several values.
            let more: Vec<Value> = match value {
                Value::String(words) => words.split_whitespace().map(Value::from).collect(),
                Value::Array(items) => items.clone(),
                other => {
                    return Err(invalid!("`{key}`: {} is neither text nor list", shown(other)));
                }
            };
            target.append(key, more.into())
        }
        _ => Err(BakeError::Unknown { kind: "attribute", name: key.to_owned() }),
    }
}

/// A truth value, which is a text where a variable was substituted.
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
fn shm_size(value: &Value) -> Result<String, BakeError> {
    let text = yaml::text(value);
    let bytes = quantity::size(&text).map_err(|error| invalid!("`{text}`: {error}"))?;
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.iter().find(|(size, _)| bytes >= *size && bytes % size == 0);
    Ok(whole.map_or_else(|| format!("{bytes}B"), |(size, unit)| format!("{}{unit}", bytes / size)))
}

/// Lines of hosts as a map, with commas between several addresses of a host.
fn hosts(value: &Value) -> Result<Value, BakeError> {
    let mut hosts: Map<String, Value> = Map::new();
    for line in list(Some(value)) {
        let line = yaml::text(&line);
        let pair = line.split_once('=').or_else(|| line.split_once(':'));
        let (host, address) =
            pair.ok_or_else(|| invalid!("`build.extra_hosts`: `{line}` has no address"))?;
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

fn ssh_list(value: &Value) -> Result<Value, BakeError> {
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
        return Err(invalid!("`build.ssh`: `{wrong}` is neither `default` nor ID=PATH"));
    }
    Ok(agents.into())
}

fn ulimits(value: &Value) -> Result<Value, BakeError> {
    let Value::Object(map) = value else { return Err(invalid!("`ulimits` is no map")) };
    let whole = |value: &Value| yaml::text(value).parse::<i64>().ok();
    let mut limits = Vec::new();
    for (name, limit) in map {
        let number = |key: &str| limit.get(key).and_then(whole);
        limits.push(match (whole(limit), number("soft"), number("hard")) {
            (Some(limit), ..) => json!(format!("{name}={limit}:{limit}")),
            (None, Some(soft), Some(hard)) => json!(format!("{name}={soft}:{hard}")),
            _ => return Err(invalid!("`ulimits.{name}` is neither number nor soft and hard")),
        });
    }
    Ok(Value::Array(limits))
}
