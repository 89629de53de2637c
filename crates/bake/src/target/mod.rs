//! Targets: their attributes, and how the attributes of files, parents and flags are merged.

mod access;
mod read;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::BakeError;
use crate::budget::weight;
use crate::error::{Location, Within as _, invalid};

pub use access::Options;

/// How a later value of an attribute is merged with an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merge {
    /// The later one replaces it.
    Last,
    /// The later one's items are added.
    Append,
    /// The later one's keys are added, or replace the same ones.
    Keys,
}

/// The type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttributeType {
    Text,
    Flag,
    Texts,
    Map,
    /// A list of compound values: CSV texts or maps.
    Options,
}

/// The attributes, in the order in which buildx prints them.
const ATTRIBUTES: &[(&str, AttributeType, Merge)] = &[
    ("description", AttributeType::Text, Merge::Last),
    ("annotations", AttributeType::Texts, Merge::Append),
    ("attest", AttributeType::Options, Merge::Append),
    ("context", AttributeType::Text, Merge::Last),
    ("contexts", AttributeType::Map, Merge::Keys),
    ("dockerfile", AttributeType::Text, Merge::Last),
    ("dockerfile-inline", AttributeType::Text, Merge::Last),
    ("args", AttributeType::Map, Merge::Keys),
    ("labels", AttributeType::Map, Merge::Keys),
    ("tags", AttributeType::Texts, Merge::Last),
    ("cache-from", AttributeType::Options, Merge::Append),
    ("cache-to", AttributeType::Options, Merge::Last),
    ("target", AttributeType::Text, Merge::Last),
    ("secret", AttributeType::Options, Merge::Append),
    ("ssh", AttributeType::Options, Merge::Append),
    ("platforms", AttributeType::Texts, Merge::Last),
    ("output", AttributeType::Options, Merge::Last),
    ("pull", AttributeType::Flag, Merge::Last),
    ("no-cache", AttributeType::Flag, Merge::Last),
    ("network", AttributeType::Text, Merge::Last),
    ("no-cache-filter", AttributeType::Texts, Merge::Append),
    ("shm-size", AttributeType::Text, Merge::Last),
    ("ulimits", AttributeType::Texts, Merge::Append),
    ("call", AttributeType::Text, Merge::Last),
    ("entitlements", AttributeType::Texts, Merge::Append),
    ("policy", AttributeType::Options, Merge::Append),
    ("extra-hosts", AttributeType::Map, Merge::Keys),
];

/// The longest list of an attribute. Each item is compared with each, and targets are merged often.
const MAX_ITEMS: usize = 1000;

/// A target: its attributes in the form that buildx prints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target(Map<String, Value>);

impl Target {
    /// Fills in the attributes that every target has.
    pub(crate) fn complete(&mut self) {
        for (name, value) in [("context", "."), ("dockerfile", "Dockerfile")] {
            self.0.entry(name).or_insert_with(|| value.into());
        }
        // The host's network is an entitlement, which the attribute grants as well.
        if self.network() == Some("host") {
            let allowed = self.list_mut("entitlements");
            if !allowed.iter().any(|known| known == "network.host") {
                allowed.push("network.host".into());
            }
        }
    }

    /// True if there is such an attribute.
    pub(crate) fn is_known(name: &str) -> bool {
        let name = long_name(name);
        name == "resources" || ATTRIBUTES.iter().any(|(known, ..)| *known == name)
    }

    /// Sets an attribute. Null changes nothing.
    ///
    /// # Errors
    /// If there is no such attribute, or the value has another type.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), BakeError> {
        let name = long_name(name);
        if name == "resources" {
            return Err(invalid!("`{name}` is not supported; leave it out"));
        }
        let Some((name, kind, _)) = ATTRIBUTES.iter().find(|(known, ..)| *known == name) else {
            return Err(BakeError::Unknown { kind: "attribute", name: name.to_owned() });
        };
        if value.is_null() {
            return Ok(());
        }
        let value = read::read(name, *kind, value).within(|| Location::Key((*name).into()))?;
        self.0.insert((*name).into(), value);
        Ok(())
    }

    /// Sets an attribute of a list, and keeps the items that it had.
    ///
    /// # Errors
    /// The errors of [`Target::set`].
    pub(crate) fn append(&mut self, name: &str, value: Value) -> Result<(), BakeError> {
        let before = self.get(name).and_then(Value::as_array).cloned();
        self.set(name, value)?;
        let added = self.get(name).and_then(Value::as_array).cloned();
        if let (Some(mut all), Some(added)) = (before, added) {
            add(name, &mut all, added)?;
            *self.list_mut(name) = all;
        }
        Ok(())
    }

    /// Sets a key of an attribute that is a map.
    pub(crate) fn set_key(&mut self, name: &str, key: &str, value: Value) {
        self.map_mut(name).insert(key.to_owned(), value);
    }

    /// Merges another target on top.
    ///
    /// # Errors
    /// If a list gets too long.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), BakeError> {
        for (name, value) in &other.0 {
            let rule = ATTRIBUTES.iter().find(|(known, ..)| known == name).map(|(.., rule)| *rule);
            match (rule, self.0.get_mut(name), value) {
                (Some(Merge::Append), Some(Value::Array(own)), Value::Array(more)) => {
                    add(name, own, more.clone())?;
                }
                (Some(Merge::Keys), Some(Value::Object(own)), Value::Object(more)) => {
                    own.extend(more.clone());
                }
                _ => {
                    self.0.insert(name.clone(), value.clone());
                }
            }
        }
        Ok(())
    }

    /// The cost of copying it.
    pub(crate) fn weight(&self) -> usize {
        self.0.iter().map(|(name, value)| 1 + name.len() / 64 + weight(value)).sum()
    }

    /// The items of an attribute that is a list, which begins empty.
    pub(crate) fn list_mut(&mut self, name: &str) -> &mut Vec<Value> {
        let value = self.0.entry(name).or_insert(Value::Null);
        if !value.is_array() {
            *value = json!([]);
        }
        match value {
            Value::Array(items) => items,
            _ => unreachable!("it was just made a list"),
        }
    }

    /// The keys of an attribute that is a map, which begins empty.
    pub(crate) fn map_mut(&mut self, name: &str) -> &mut Map<String, Value> {
        let value = self.0.entry(name).or_insert(Value::Null);
        if !value.is_object() {
            *value = json!({});
        }
        match value {
            Value::Object(map) => map,
            _ => unreachable!("it was just made a map"),
        }
    }

    /// An attribute's value.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The target as buildx prints it.
    pub fn printed(&self) -> Value {
        let mut map = Map::new();
        for (name, ..) in ATTRIBUTES {
            let Some(value) = self.get(name) else { continue };
            let is_empty = match value {
                Value::Array(items) => items.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            // `build` is what a target without `call` does.
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
}

/// The name of an attribute that has a second one.
pub fn long_name(name: &str) -> &str {
    match name {
        "secrets" => "secret",
        "outputs" => "output",
        "platform" => "platforms",
        name => name,
    }
}

/// Adds the items that a list lacks; of attestations, the last one of a type counts.
fn add(name: &str, list: &mut Vec<Value>, more: Vec<Value>) -> Result<(), BakeError> {
    if list.len() + more.len() > MAX_ITEMS {
        return Err(BakeError::Limit("the list is too long")).within(|| Location::Key(name.into()));
    }
    for item in more {
        if name == "attest" {
            list.retain(|known| known["type"] != item["type"]);
        }
        if !list.contains(&item) {
            list.push(item);
        }
    }
    Ok(())
}

/// The value with its texts escaped, so that the printed definition can be read again.
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
