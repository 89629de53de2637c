//! A target: what it says, how sayings are put together, and the line of `kiln build` that it is.

use serde_json::{Map, Value, json};

use super::expression::text;
use crate::args::compound::fields;
use crate::personalities::{field, word};

/// How two sayings of an attribute are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merge {
    /// The later one counts.
    Last,
    /// The later ones are added.
    Append,
    /// By their keys.
    Keys,
}

/// What an attribute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Flag,
    Texts,
    Map,
    /// Texts of fields, or maps.
    Fields,
}

/// The attributes, in the order in which buildx prints them.
const ATTRIBUTES: &[(&str, Kind, Merge)] = &[
    ("description", Kind::Text, Merge::Last),
    ("annotations", Kind::Texts, Merge::Append),
    ("attest", Kind::Fields, Merge::Append),
    ("context", Kind::Text, Merge::Last),
    ("contexts", Kind::Map, Merge::Keys),
    ("dockerfile", Kind::Text, Merge::Last),
    ("dockerfile-inline", Kind::Text, Merge::Last),
    ("args", Kind::Map, Merge::Keys),
    ("labels", Kind::Map, Merge::Keys),
    ("tags", Kind::Texts, Merge::Last),
    ("cache-from", Kind::Fields, Merge::Append),
    ("cache-to", Kind::Fields, Merge::Last),
    ("target", Kind::Text, Merge::Last),
    ("secret", Kind::Fields, Merge::Append),
    ("ssh", Kind::Fields, Merge::Append),
    ("platforms", Kind::Texts, Merge::Last),
    ("output", Kind::Fields, Merge::Last),
    ("pull", Kind::Flag, Merge::Last),
    ("no-cache", Kind::Flag, Merge::Last),
    ("network", Kind::Text, Merge::Last),
    ("no-cache-filter", Kind::Texts, Merge::Append),
    ("shm-size", Kind::Text, Merge::Last),
    ("ulimits", Kind::Texts, Merge::Append),
    ("call", Kind::Text, Merge::Last),
    ("entitlements", Kind::Texts, Merge::Append),
    ("policy", Kind::Fields, Merge::Append),
    ("extra-hosts", Kind::Map, Merge::Keys),
];

/// What a target says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target(Map<String, Value>);

impl Target {
    /// Says what every target has, where nothing was said of it.
    pub fn complete(&mut self) {
        for (name, value) in [("context", "."), ("dockerfile", "Dockerfile")] {
            self.0.entry(name).or_insert_with(|| value.into());
        }
        // The host's network is asked for by itself, and allowed like an entitlement.
        if self.text("network") == Some("host") {
            let Value::Array(allowed) = self.entry("entitlements", json!([])) else { return };
            if !allowed.iter().any(|known| known == "network.host") {
                allowed.push("network.host".into());
            }
        }
    }

    /// Whether there is such an attribute.
    pub fn is_known(name: &str) -> bool {
        let name = long_name(name);
        name == "resources" || ATTRIBUTES.iter().any(|(known, ..)| *known == name)
    }

    /// Says an attribute.
    ///
    /// # Errors
    /// A sentence if there is no such attribute, or the value is of another kind.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), String> {
        let name = long_name(name);
        if name == "resources" {
            return Err(format!("`{name}` is not there; leave it out"));
        }
        let Some((name, kind, _)) = ATTRIBUTES.iter().find(|(known, ..)| *known == name) else {
            return Err(format!("there is no attribute `{name}`"));
        };
        if value.is_null() {
            return Ok(());
        }
        let value = read(name, *kind, value).map_err(|error| format!("`{name}`: {error}"))?;
        self.0.insert((*name).into(), value);
        Ok(())
    }

    /// Puts what another says on top.
    pub fn merge(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            let rule = ATTRIBUTES.iter().find(|(known, ..)| known == name).map(|(.., rule)| *rule);
            match (rule, self.0.get_mut(name), value) {
                (Some(Merge::Append), Some(Value::Array(own)), Value::Array(more)) => {
                    add(name, own, more.clone());
                }
                (Some(Merge::Keys), Some(Value::Object(own)), Value::Object(more)) => {
                    own.extend(more.clone());
                }
                _ => drop(self.0.insert(name.clone(), value.clone())),
            }
        }
    }

    /// A list or map that can be changed.
    pub fn entry(&mut self, name: &str, empty: Value) -> &mut Value {
        self.0.entry(name).or_insert(empty)
    }

    /// What is said of an attribute.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let items = self.get(name).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    fn pairs(&self, name: &str) -> Vec<(String, Option<String>)> {
        let pairs = self.get(name).and_then(Value::as_object).into_iter().flatten();
        pairs.map(|(key, value)| (key.clone(), value.as_str().map(str::to_owned))).collect()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// As buildx prints it.
    pub fn printed(&self) -> Value {
        let mut map = Map::new();
        for (name, ..) in ATTRIBUTES {
            let Some(value) = self.get(name) else { continue };
            let is_empty = match value {
                Value::Array(items) => items.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            // No call is a build.
            let is_build = *name == "call" && value == "build";
            if !is_empty && !is_build {
                map.insert((*name).into(), escaped(value));
            }
        }
        for item in map.get_mut("attest").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(disabled) = item.get_mut("disabled") {
                *disabled = (disabled == "true").into();
            }
        }
        Value::Object(map)
    }

    /// The contexts that are other targets: names and targets.
    pub fn links(&self) -> Vec<(String, String)> {
        let target = |(name, place): (String, Option<String>)| {
            let target = place.as_deref()?.strip_prefix("target:")?.to_owned();
            Some((name, target))
        };
        self.pairs("contexts").into_iter().filter_map(target).collect()
    }

    /// The Dockerfile's text, where it is written in the definition.
    pub fn inline(&self) -> Option<&str> {
        self.text("dockerfile-inline")
    }

    /// The words of `kiln build`.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let context = self.text("context").unwrap_or(".");
        let context = match context.strip_prefix("cwd://") {
            Some("") => ".",
            Some(path) => path,
            None => context,
        };
        if self.inline().is_none() {
            words.extend(self.dockerfile(context).map(|file| word("file", &file)));
        }
        for (name, place) in self.pairs("contexts") {
            if let Some(place) = place.filter(|place| !place.starts_with("target:")) {
                let place =
                    place.strip_prefix("cwd://").map_or(place.as_str(), |path| match path {
                        "" => ".",
                        path => path,
                    });
                words.push(format!("--build-context={name}={place}"));
            }
        }
        for (flag, name) in [("build-arg", "args"), ("label", "labels")] {
            for (key, value) in self.pairs(name) {
                words.extend(value.map(|value| format!("--{flag}={key}={value}")));
            }
        }
        for (key, value) in self.pairs("extra-hosts") {
            words.extend(value.map(|value| format!("--add-host={key}={value}")));
        }
        for (flag, name) in [
            ("tag", "tags"),
            ("platform", "platforms"),
            ("annotation", "annotations"),
            ("no-cache-filter", "no-cache-filter"),
            ("ulimit", "ulimits"),
            ("allow", "entitlements"),
        ] {
            words.extend(self.texts(name).iter().map(|text| word(flag, text)));
        }
        for name in ["attest", "cache-from", "cache-to", "secret", "output", "policy"] {
            for item in self.get(name).and_then(Value::as_array).into_iter().flatten() {
                words.push(word(name, &compound(item)));
            }
        }
        for item in self.get("ssh").and_then(Value::as_array).into_iter().flatten() {
            let id = item.get("id").and_then(Value::as_str).unwrap_or("default");
            let paths = item.get("paths").and_then(Value::as_str);
            words.push(word("ssh", &paths.map_or(id.into(), |paths| format!("{id}={paths}"))));
        }
        for name in ["target", "network", "shm-size", "call"] {
            words.extend(self.text(name).map(|text| word(name, text)));
        }
        for name in ["pull", "no-cache"] {
            let value = self.get(name).and_then(Value::as_bool);
            words.extend(value.map(|value| word(name, &value.to_string())));
        }
        words.push(context.into());
        words
    }

    /// The Dockerfile: relative to the context, where that is a folder.
    fn dockerfile(&self, context: &str) -> Option<String> {
        let file = self.text("dockerfile")?;
        if let Some(here) = file.strip_prefix("cwd://") {
            return Some(here.into());
        }
        let is_remote = context.contains("://") || context.starts_with("git@") || context == "-";
        match is_remote || file.starts_with('/') || file.contains("://") {
            true => Some(file.into()).filter(|file| !(is_remote && file == "Dockerfile")),
            false => Some(format!("{}/{file}", context.trim_end_matches('/'))),
        }
    }
}

/// The name of an attribute that has another one.
fn long_name(name: &str) -> &str {
    match name {
        "secrets" => "secret",
        "outputs" => "output",
        "platform" => "platforms",
        name => name,
    }
}

/// Adds to a list what it lacks; of attestations, the last one of a type counts.
pub fn add(name: &str, list: &mut Vec<Value>, more: Vec<Value>) {
    for item in more {
        if name == "attest" {
            list.retain(|known| known["type"] != item["type"]);
        }
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

/// Texts as a definition has them, so that what is printed can be read again.
fn escaped(value: &Value) -> Value {
    match value {
        Value::String(text) => text.replace("${", "$${").replace("%{", "%%{").into(),
        Value::Array(items) => items.iter().map(escaped).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), escaped(value))).collect())
        }
        other => other.clone(),
    }
}

/// What is said twice is said once.
fn distinct(items: impl IntoIterator<Item = Value>) -> Value {
    let mut kept: Vec<Value> = Vec::new();
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    Value::Array(kept)
}

fn read(name: &str, kind: Kind, value: Value) -> Result<Value, String> {
    let list = |value: Value| match value {
        Value::Array(items) => Ok(items),
        other => Err(format!("`{other}` is no list")),
    };
    Ok(match kind {
        Kind::Text => Value::String(text(&value)?),
        Kind::Flag => Value::Bool(super::expression::boolean(&value)?),
        Kind::Texts => {
            let items = list(value)?.into_iter().filter(|item| !item.is_null());
            let texts: Vec<String> = items.map(|item| text(&item)).collect::<Result<_, _>>()?;
            // A name that is empty is none, so that a condition can leave one out.
            distinct(texts.into_iter().filter(|text| !text.is_empty()).map(Value::String))
        }
        Kind::Map => match value {
            Value::Object(map) => {
                let mut read = Map::new();
                for (key, value) in map {
                    // What is null says nothing, and hides nothing that a parent says.
                    if !value.is_null() {
                        read.insert(key, Value::String(text(&value)?));
                    }
                }
                Value::Object(read)
            }
            other => return Err(format!("`{other}` is no map")),
        },
        Kind::Fields => {
            let mut read = Vec::new();
            for item in list(value)? {
                match item {
                    Value::Null => {}
                    Value::String(text) if text.is_empty() => {}
                    Value::String(text) => read.push(of_text(name, &text)?),
                    Value::Object(map) => {
                        let mut fields = Map::new();
                        for (key, value) in map {
                            if !value.is_null() {
                                fields.insert(key, Value::String(text(&value)?));
                            }
                        }
                        read.push(Value::Object(fields));
                    }
                    other => return Err(format!("`{other}` is neither text nor map")),
                }
            }
            distinct(read)
        }
    })
}

/// A compound value as a map.
fn of_text(name: &str, text: &str) -> Result<Value, String> {
    if name == "ssh" {
        return Ok(match text.split_once('=') {
            Some((id, paths)) => json!({ "id": id, "paths": paths }),
            None => json!({ "id": text }),
        });
    }
    let parts = fields(text)?;
    if let [only] = parts.as_slice()
        && !only.contains('=')
    {
        return Ok(match (name, only.as_str()) {
            ("output", "-") => json!({ "type": "tar", "dest": "-" }),
            ("output", path) => json!({ "type": "local", "dest": path }),
            ("cache-from" | "cache-to", reference) => {
                json!({ "type": "registry", "ref": reference })
            }
            (_, other) => return Err(format!("`{other}` is not NAME=VALUE")),
        });
    }
    let mut map = Map::new();
    for part in &parts {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        map.insert(key.into(), value.into());
    }
    Ok(Value::Object(map))
}

/// A map as a compound value.
fn compound(item: &Value) -> String {
    let fields = item.as_object().into_iter().flatten();
    let fields = fields.map(|(key, value)| field(key, value.as_str().unwrap_or_default()));
    fields.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(pairs: &[(&str, Value)]) -> Target {
        let mut target = Target::default();
        for (name, value) in pairs {
            target.set(name, value.clone()).unwrap();
        }
        target
    }

    #[test]
    fn sayings_are_put_together_as_buildx_does() {
        let mut base = target(&[
            ("tags", json!(["a"])),
            ("args", json!({"A": "1", "B": 2})),
            ("cache-from", json!(["r/a"])),
            ("output", json!(["type=docker"])),
        ]);
        base.merge(&target(&[
            ("tags", json!(["b", "", "b"])),
            ("args", json!({"A": null, "B": "3", "C": null})),
            ("cache-from", json!(["type=local,src=x", "type=local,src=x"])),
            ("output", json!([{"type": "image", "push": true}])),
        ]));
        assert_eq!(
            base.printed(),
            json!({
                "args": {"A": "1", "B": "3"}, "tags": ["b"],
                "cache-from": [{"type": "registry", "ref": "r/a"}, {"type": "local", "src": "x"}],
                "output": [{"type": "image", "push": "true"}],
            })
        );
        let keys: Vec<String> = base.printed().as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["args", "tags", "cache-from", "output"]);
    }

    #[test]
    fn a_target_is_a_line_of_kiln() {
        let mut all = Target::default();
        all.merge(&target(&[
            ("context", json!("src/")),
            ("dockerfile", json!("app.Dockerfile")),
            ("contexts", json!({"base": "docker-image://x", "other": "target:other"})),
            ("args", json!({"A": "b=c", "E": null})),
            ("network", json!("host")),
            ("secret", json!(["id=a,env=A"])),
            ("ssh", json!(["default"])),
            ("platforms", json!(["linux/amd64"])),
            ("no-cache", json!(true)),
            ("extra-hosts", json!({"db": "10.0.0.1"})),
            ("output", json!(["out"])),
        ]));
        all.complete();
        assert_eq!(
            all.words().join(" "),
            "--file=src/app.Dockerfile --build-context=base=docker-image://x --build-arg=A=b=c \
             --add-host=db=10.0.0.1 --platform=linux/amd64 --allow=network.host --secret=id=a,env=A --output=type=local,dest=out \
             --ssh=default --network=host --no-cache=true src/"
        );
        assert_eq!(all.links(), [("other".to_owned(), "other".to_owned())]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value, word) in [
            ("colour", json!("red"), "there is no attribute `colour`"),
            ("tags", json!("a"), "`tags`: `\"a\"` is no list"),
            ("args", json!([1]), "is no map"),
            ("secret", json!(["x"]), "not NAME=VALUE"),
            ("pull", json!("perhaps"), "neither true nor false"),
            ("policy", json!(["x"]), "not NAME=VALUE"),
        ] {
            let error = Target::default().set(name, value).unwrap_err();
            assert!(error.contains(word), "{name}: {error}");
        }
    }
}
