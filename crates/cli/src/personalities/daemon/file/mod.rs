//! `daemon.json`: dockerd's flags in a file. A key has what becomes of the flag that it stands for, and a flag
//! that is given too is an error, as with dockerd.

mod builder;
mod keys;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::args::FlagError;
use crate::args::compound::boolean;
use crate::personalities::flags::ParsedFlags;
use crate::render::CommandError;
use crate::settings::{FileFault, read_text};

#[cfg(test)]
pub use builder::BUILDER_KEYS;
pub use builder::BuilderOptions;
#[cfg(test)]
pub use keys::DAEMON_JSON;

use builder::BuilderFault;
use keys::{FileKey, Shape};

/// A `daemon.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {source}", file.display())]
pub struct DaemonFileError {
    file: PathBuf,
    source: DaemonFileFault,
}

impl CommandError for DaemonFileError {}

/// The fault of a `daemon.json`.
#[derive(Debug, thiserror::Error)]
enum DaemonFileFault {
    #[error(transparent)]
    File(#[from] FileFault),
    #[error("dockerd has no option `{0}`")]
    Unknown(String),
    #[error("`{key}` is no {shape}")]
    Shape { key: String, shape: &'static str },
    #[error("`--{flag}` and `{key}` are the same option: give it once")]
    Twice { flag: &'static str, key: String },
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error(transparent)]
    Builder(#[from] BuilderFault),
}

/// Reads a file, and adds what it has to the flags. What no flag has is returned.
///
/// # Errors
/// If it cannot be read, or something in it is unknown, refused, or given as a flag too.
pub fn read(path: &Path, given: &mut ParsedFlags) -> Result<BuilderOptions, DaemonFileError> {
    let read = read_text(path).map_err(DaemonFileFault::from).and_then(|text| take(&text, given));
    read.map_err(|source| DaemonFileError { file: path.to_owned(), source })
}

fn take(text: &str, given: &mut ParsedFlags) -> Result<BuilderOptions, DaemonFileFault> {
    // dockerd takes an empty file too.
    let text = if text.trim().is_empty() { "{}" } else { text };
    let options: Map<String, Value> = serde_json::from_str(text).map_err(FileFault::from)?;
    let mut builder = BuilderOptions::default();
    // Conflicts are with the command line alone, not with what the file has added.
    for (key, row) in rows(&options)? {
        if let Some(flag) = row.flags().iter().find(|flag| given.was_given(flag)) {
            return Err(DaemonFileFault::Twice { flag, key: key.clone() });
        }
    }
    for (key, row) in rows(&options)? {
        let value = &options[key];
        if row.shape == Shape::Builder {
            builder = builder::read(value, &mut given.notes)?;
            continue;
        }
        let shape = || DaemonFileFault::Shape { key: key.clone(), shape: row.shape.name() };
        for (flag, text) in row.values(value).ok_or_else(shape)? {
            given.add(flag, &format!("{key} in daemon.json"), text)?;
        }
    }
    Ok(builder)
}

fn rows(options: &Map<String, Value>) -> Result<Vec<(&String, &'static FileKey)>, DaemonFileFault> {
    let row = |key: &String| {
        let row = keys::DAEMON_JSON.iter().find(|row| row.name == *key);
        row.ok_or_else(|| DaemonFileFault::Unknown(key.clone()))
    };
    options.keys().map(|key| Ok((key, row(key)?))).collect()
}

impl FileKey {
    /// The values of the flags that a JSON value stands for; none if it has another shape.
    fn values(&self, value: &Value) -> Option<Vec<(&'static str, String)>> {
        if self.shape == Shape::Proxies {
            return proxies(value);
        }
        let texts = texts(self.shape, value)?;
        Some(texts.into_iter().map(|text| (self.flag, text)).collect())
    }
}

/// The values of a flag that a JSON value of a shape stands for.
fn texts(shape: Shape, value: &Value) -> Option<Vec<String>> {
    let one = |text: Option<String>| Some(vec![text?]);
    match shape {
        Shape::Switch => one(value.as_bool().map(|value| value.to_string())),
        Shape::Text => one(value.as_str().map(str::to_owned)),
        Shape::Number => one(value.is_number().then(|| value.to_string())),
        Shape::Size => one(scalar(value)),
        Shape::Texts => {
            value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        }
        Shape::Objects => {
            let objects = value.as_array()?.iter();
            objects.map(|object| Some(pairs(object, scalar)?.join(","))).collect()
        }
        // Runtimes and limits are objects themselves, of which the name says enough.
        Shape::Pairs => pairs(value, |value| Some(scalar(value).unwrap_or_default())),
        Shape::Features => {
            pairs(value, |value| boolean(&scalar(value)?).map(|value| value.to_string()))
        }
        Shape::Proxies | Shape::Builder => None,
    }
}

/// `name=value` for each value of an object.
fn pairs(value: &Value, read: impl Fn(&Value) -> Option<String>) -> Option<Vec<String>> {
    let pairs = value.as_object()?.iter();
    pairs.map(|(name, value)| Some(format!("{name}={}", read(value)?))).collect()
}

fn proxies(value: &Value) -> Option<Vec<(&'static str, String)>> {
    let proxy = |(name, value): (&String, &Value)| {
        let flag = keys::PROXIES.iter().find(|flag| *flag == name)?;
        Some((*flag, value.as_str()?.to_owned()))
    };
    value.as_object()?.iter().map(proxy).collect()
}

/// A text, a number or a truth value as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::DOCKERD;
    use super::*;
    use crate::personalities::flags::{self, Operands};

    #[test]
    fn every_key_stands_for_a_flag_and_takes_its_shape() {
        for row in DAEMON_JSON {
            assert_eq!(DAEMON_JSON.iter().filter(|other| other.name == row.name).count(), 1);
            for flag in row.flags() {
                assert!(DOCKERD.iter().any(|known| known.is(flag)), "{}: {flag}", row.name);
            }
            if row.shape == Shape::Builder || row.name == "authorization-plugins" {
                continue;
            }
            let text = format!("{{\"{}\": {}}}", row.name, row.shape.example());
            let mut given = flags::read(DOCKERD, &[], Operands::Anywhere).unwrap();
            take(&text, &mut given).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(row.flags().iter().any(|flag| given.was_given(flag)), "{text}");
            let wrong = format!("{{\"{}\": null}}", row.name);
            let error = take(&wrong, &mut flags::read(DOCKERD, &[], Operands::Anywhere).unwrap());
            assert!(error.unwrap_err().to_string().contains(row.name), "{wrong}");
        }
    }

    #[test]
    fn every_flag_has_a_key() {
        // Those that say where the file is or what to do with it, and kiln's own.
        let own = ["config-file", "validate", "version", "allow-bind"];
        for flag in DOCKERD.iter().filter(|flag| !own.contains(&flag.name)) {
            let has = DAEMON_JSON.iter().any(|row| row.flags().contains(&flag.name));
            assert!(has, "--{}", flag.name);
        }
    }

    #[test]
    fn a_key_without_effect_is_noted_as_its_flag_is() {
        let mut given = flags::read(DOCKERD, &[], Operands::Anywhere).unwrap();
        let text =
            r#"{"builder": {"gc": {"policy": [{"keepStorage": "1GB"}]}}, "labels": ["a=b"]}"#;
        take(text, &mut given).unwrap();
        assert_eq!(given.notes.len(), 1, "{:?}", given.notes);
        assert!(given.notes[0].contains("builder.gc.policy"), "{:?}", given.notes);
    }
}
