//! Compose files: their services' `build` sections as targets.

use serde_json::{Map, Value, json};

use super::target::Target;
use crate::personalities::yaml;
use crate::settings::Environment;

/// Targets of a compose file, by name, in its order.
///
/// # Errors
/// A sentence that names the service, and what of it cannot be read.
pub fn targets(text: &str, environment: &Environment) -> Result<Vec<(String, Target)>, String> {
    let mut root = yaml::parse(text)?;
    interpolate(&mut root, environment)?;
    let services = match root.get("services") {
        Some(Value::Object(services)) => services.clone(),
        None | Some(Value::Null) => Map::new(),
        Some(_) => return Err("`services` is no map".into()),
    };
    let secrets = root.get("secrets").cloned().unwrap_or(Value::Null);
    let mut targets = Vec::new();
    for (name, service) in &services {
        let Some(build) = service.get("build").filter(|build| !build.is_null()) else { continue };
        let target = target(service, build, &secrets)
            .map_err(|error| format!("service `{name}`: {error}"))?;
        // Targets have no dots in their names.
        targets.push((name.replace('.', "_"), target));
    }
    Ok(targets)
}

fn target(service: &Value, build: &Value, secrets: &Value) -> Result<Target, String> {
    let mut target = Target::new();
    let build = match build {
        Value::String(context) => json!({ "context": context }),
        Value::Object(_) => build.clone(),
        _ => return Err("`build` is neither text nor map".into()),
    };
    let empty = Map::new();
    let mut extension = None;
    for (key, value) in build.as_object().unwrap_or(&empty) {
        match key.as_str() {
            "context" | "dockerfile" | "target" | "network" | "tags" | "platforms" | "pull" => {
                target.set(key, value.clone())?;
            }
            "no_cache" => target.set("no-cache", value.clone())?,
            "dockerfile_inline" => target.set("dockerfile-inline", value.clone())?,
            "shm_size" => target.set("shm-size", value.clone())?,
            "cache_from" => target.set("cache-from", value.clone())?,
            "cache_to" => target.set("cache-to", value.clone())?,
            "no_cache_filter" => target.set("no-cache-filter", value.clone())?,
            "entitlements" => target.set("entitlements", value.clone())?,
            "args" => target.set("args", pairs(value, '=')?)?,
            "labels" => target.set("labels", pairs(value, '=')?)?,
            "additional_contexts" => {
                let mut contexts = pairs(value, '=')?;
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
                target.set("attest", attest)?;
            }
            "privileged" | "isolation" if value == &json!(false) || value == "default" => {}
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
    if target.get("platforms").is_none()
        && let Some(platform) = service.get("platform").and_then(Value::as_str)
    {
        target.set("platforms", json!([platform]))?;
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
        let id = item.get("target").and_then(Value::as_str).unwrap_or(name);
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
fn interpolate(value: &mut Value, environment: &Environment) -> Result<(), String> {
    match value {
        Value::String(text) if text.contains('$') => *text = expand(text, environment, 0)?,
        Value::Array(items) => {
            for item in items {
                interpolate(item, environment)?;
            }
        }
        Value::Object(map) => {
            for item in map.values_mut() {
                interpolate(item, environment)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn expand(text: &str, environment: &Environment, depth: usize) -> Result<String, String> {
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
            out.push_str(environment.raw(name).unwrap_or_default());
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
        let raw = environment.raw(name);
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
                    ("-", None) => expand(word, environment, depth + 1)?,
                    ("+", Some(_)) => expand(word, environment, depth + 1)?,
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
        let environment = Environment::of(&[("TAG", "")]);
        let targets = targets(text, &environment).unwrap();
        let names: Vec<&str> = targets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["web_app", "base"]);
        assert_eq!(
            targets[0].1.printed(),
            json!({
                "context": "./web", "contexts": {"base": "target:base", "lib": "../lib"},
                "dockerfile": "app.Dockerfile", "args": {"A": "1", "B": null}, "labels": {"a": "b"},
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
        let environment = Environment::of(&[("A", "x"), ("E", "")]);
        for (text, expected) in
            [("$A-${A}$$A", "x-x$A"), ("${E:-d}${E-d}${N-${A}}", "dx"), ("${A:+y}${N:+y}", "y")]
        {
            assert_eq!(expand(text, &environment, 0).as_deref(), Ok(expected), "{text}");
        }
        assert!(expand("${N:?is needed}", &environment, 0).unwrap_err().contains("is needed"));
        assert!(expand("${A", &environment, 0).is_err());
        let wrong = "services: {a: {build: {frob: 1}}}";
        let error = targets(wrong, &environment).unwrap_err();
        assert!(error.contains("service `a`: `build.frob`"), "{error}");
    }
}
