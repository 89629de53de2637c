//! kiln's own configuration: `config.toml`.
//!
//! The first of these that exists: `$KILN_CONFIG`, `$XDG_CONFIG_HOME/kiln/config.toml` (or
//! `~/.config/kiln/config.toml`), `/etc/kiln/config.toml`. Files are not merged: the one file says
//! everything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bake::quantity::{QuantityError, duration};
use build::images::{CollectPolicy, Space};
use serde::Deserialize;

use super::Environment;
use super::file::{FileFault, read_text};
use crate::human::{NotASize, disk_size};
use crate::render::CommandError;

/// An error in kiln's configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration `{}`: {source}", .file.display())]
pub struct ConfigError {
    /// The file.
    file: PathBuf,
    /// Its fault.
    source: ConfigFault,
}

impl CommandError for ConfigError {}

/// The fault of kiln's configuration.
#[derive(Debug, thiserror::Error)]
enum ConfigFault {
    #[error(transparent)]
    File(#[from] FileFault),
    #[error("gc.{key} = {text:?}: {source}")]
    Value { key: &'static str, text: String, source: ValueFault },
}

/// The fault of a value of `[gc]`.
#[derive(Debug, thiserror::Error)]
pub enum ValueFault {
    /// A part of a disk that is none.
    #[error("it is not from 0% to 100%")]
    Percent,
    /// A text that is no size.
    #[error(transparent)]
    Size(#[from] NotASize),
    /// A text that is no time.
    #[error(transparent)]
    Time(#[from] QuantityError),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigFile {
    gc: Gc,
}

/// The settings of collection after builds.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Gc {
    enabled: Option<bool>,
    #[serde(alias = "keep-storage")]
    max_used_space: Option<String>,
    min_free_space: Option<String>,
    reserved_space: Option<String>,
    unused_for: Option<String>,
    every: Option<String>,
}

/// The policy of collection after builds; none if the configuration turns it off.
///
/// # Errors
/// If the file is wrong.
pub fn collect_policy(environment: &Environment) -> Result<Option<CollectPolicy>, ConfigError> {
    let Some(file) = find(environment) else { return Ok(Some(CollectPolicy::default())) };
    let text = read_text(&file).map_err(ConfigFault::from);
    text.and_then(|text| policy(&text)).map_err(|source| ConfigError { file, source })
}

fn find(environment: &Environment) -> Option<PathBuf> {
    if let Some(path) = environment.get("KILN_CONFIG") {
        return Some(path.into());
    }
    let folder = match environment.get("XDG_CONFIG_HOME").filter(|path| path.starts_with('/')) {
        Some(folder) => Some(PathBuf::from(folder)),
        None => environment.get("HOME").map(|home| Path::new(home).join(".config")),
    };
    let own = folder.map(|folder| folder.join("kiln/config.toml"));
    let places = own.into_iter().chain([PathBuf::from("/etc/kiln/config.toml")]);
    places.into_iter().find(|path| path.exists())
}

fn policy(text: &str) -> Result<Option<CollectPolicy>, ConfigFault> {
    let file: ConfigFile =
        toml::from_str(text).map_err(|error| FileFault::from(Box::new(error)))?;
    let Gc { enabled, max_used_space, min_free_space, reserved_space, unused_for, every } = file.gc;
    let usual = CollectPolicy::default();
    let policy = CollectPolicy {
        max_used: value("max-used-space", max_used_space, space)?.or(usual.max_used),
        min_free: value("min-free-space", min_free_space, space)?.or(usual.min_free),
        reserved: value("reserved-space", reserved_space, space)?.or(usual.reserved),
        unused_for: value("unused-for", unused_for, time)?.or(usual.unused_for),
        every: value("every", every, time)?.unwrap_or(usual.every),
    };
    Ok(enabled.unwrap_or(true).then_some(policy))
}

/// Reads the value of a key, if it is set.
fn value<T>(
    key: &'static str,
    text: Option<String>,
    read: impl Fn(&str) -> Result<T, ValueFault>,
) -> Result<Option<T>, ConfigFault> {
    let Some(text) = text else { return Ok(None) };
    read(&text).map(Some).map_err(|source| ConfigFault::Value { key, text, source })
}

/// A size: `10gb`, or `20%` of the disk.
///
/// # Errors
/// If it is none.
pub fn space(text: &str) -> Result<Space, ValueFault> {
    match text.trim().strip_suffix('%') {
        Some(percent) => match percent.trim().parse() {
            Ok(percent @ 0..=100) => Ok(Space::Percent(percent, u64::MAX)),
            _ => Err(ValueFault::Percent),
        },
        None => Ok(Space::Bytes(disk_size(text)?)),
    }
}

fn time(text: &str) -> Result<Duration, ValueFault> {
    Ok(duration(text)?)
}

/// The policy of `--keep-storage`: after this build, at once, down to a size.
pub fn keep(bytes: u64, policy: Option<CollectPolicy>) -> CollectPolicy {
    CollectPolicy {
        max_used: Some(Space::Bytes(bytes)),
        reserved: None,
        every: Duration::ZERO,
        ..policy.unwrap_or(CollectPolicy { min_free: None, unused_for: None, ..Default::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_usual() {
        assert_eq!(policy("").unwrap(), Some(CollectPolicy::default()));
        assert_eq!(policy("[gc]\nenabled = false").unwrap(), None);
        let read =
            policy("[gc]\nmax-used-space = '5gb'\nmin-free-space = \"15%\"\nunused-for = '7d'");
        let expected = CollectPolicy {
            max_used: Some(Space::Bytes(5 << 30)),
            min_free: Some(Space::Percent(15, u64::MAX)),
            unused_for: Some(Duration::from_secs(7 * 86_400)),
            ..CollectPolicy::default()
        };
        assert_eq!(read.unwrap(), Some(expected));
        assert_eq!(keep(5, None).every, Duration::ZERO);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("[gc", "expected"),
            ("[gc]\nmax-space = '1gb'", "max-space"),
            ("[garbage]", "garbage"),
            ("[gc]\nmax-used-space = 'much'", "gc.max-used-space = \"much\""),
            ("[gc]\nmin-free-space = '120%'", "100%"),
            ("[gc]\nunused-for = 'long'", "gc.unused-for"),
            ("[gc]\nenabled = 'no'", "enabled"),
        ] {
            let error = policy(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().display().to_string();
        let of = |pairs: &[(&str, &str)]| collect_policy(&Environment::of(pairs));
        std::fs::create_dir(folder.path().join("kiln")).unwrap();
        std::fs::write(folder.path().join("kiln/config.toml"), "[gc]\nenabled = false").unwrap();
        assert_eq!(of(&[("XDG_CONFIG_HOME", &text)]).unwrap(), None);
        let missing = format!("{text}/none");
        let error = of(&[("XDG_CONFIG_HOME", &text), ("KILN_CONFIG", &missing)]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&missing), "{error}");
    }
}
