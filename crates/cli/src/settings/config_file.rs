//! kiln's own configuration: `config.toml`.
//!
//! The first of these that exists: `$KILN_CONFIG`, `$XDG_CONFIG_HOME/kiln/config.toml` (or
//! `~/.config/kiln/config.toml`), `/etc/kiln/config.toml`. Files are not merged: the one file says
//! everything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use build::images::{CollectPolicy, Space};
use serde::Deserialize;

use super::Environment;
use crate::args::{disk_size, duration};

/// The largest configuration file, in bytes.
const LARGEST: u64 = 1 << 20;

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
/// If the file is wrong; the text names it.
pub fn collect_policy(environment: &Environment) -> Result<Option<CollectPolicy>, String> {
    match find(environment) {
        None => Ok(Some(CollectPolicy::default())),
        Some(path) => {
            let failed = |error: String| format!("the configuration `{}`: {error}", path.display());
            read(&path).and_then(|text| policy(&text)).map_err(failed)
        }
    }
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

fn read(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let read =
        file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    match read as u64 > LARGEST {
        true => Err("it is larger than 1 MiB".into()),
        false => Ok(text),
    }
}

fn policy(text: &str) -> Result<Option<CollectPolicy>, String> {
    let file: ConfigFile = toml::from_str(text).map_err(|error| error.to_string())?;
    let Gc { enabled, max_used_space, min_free_space, reserved_space, unused_for, every } = file.gc;
    let usual = CollectPolicy::default();
    let spaces = |key: &str, text: Option<String>, usual: Option<Space>| match text {
        Some(text) => {
            space(&text).map(Some).map_err(|error| format!("gc.{key} = {text:?}: {error}"))
        }
        None => Ok(usual),
    };
    let time = |key: &str, text: Option<String>| {
        let read =
            |text: String| duration(&text).map_err(|error| format!("gc.{key} = {text:?}: {error}"));
        text.map(read).transpose()
    };
    let policy = CollectPolicy {
        max_used: spaces("max-used-space", max_used_space, usual.max_used)?,
        min_free: spaces("min-free-space", min_free_space, usual.min_free)?,
        reserved: spaces("reserved-space", reserved_space, usual.reserved)?,
        unused_for: time("unused-for", unused_for)?.or(usual.unused_for),
        every: time("every", every)?.unwrap_or(usual.every),
    };
    Ok(enabled.unwrap_or(true).then_some(policy))
}

/// A size: `10gb`, or `20%` of the disk.
fn space(text: &str) -> Result<Space, String> {
    match text.trim().strip_suffix('%') {
        Some(percent) => match percent.trim().parse() {
            Ok(percent @ 0..=100) => Ok(Space::Percent(percent, u64::MAX)),
            _ => Err("it is not from 0% to 100%".into()),
        },
        None => disk_size(text).map(Space::Bytes),
    }
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
        assert_eq!(policy(""), Ok(Some(CollectPolicy::default())));
        assert_eq!(policy("[gc]\nenabled = false"), Ok(None));
        let read =
            policy("[gc]\nmax-used-space = '5gb'\nmin-free-space = \"15%\"\nunused-for = '7d'");
        let expected = CollectPolicy {
            max_used: Some(Space::Bytes(5 << 30)),
            min_free: Some(Space::Percent(15, u64::MAX)),
            unused_for: Some(Duration::from_secs(7 * 86_400)),
            ..CollectPolicy::default()
        };
        assert_eq!(read, Ok(Some(expected)));
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
            let error = policy(text).unwrap_err();
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
        assert_eq!(of(&[("XDG_CONFIG_HOME", &text)]), Ok(None));
        let missing = format!("{text}/none");
        let error = of(&[("XDG_CONFIG_HOME", &text), ("KILN_CONFIG", &missing)]).unwrap_err();
        assert!(error.contains(&missing), "{error}");
    }
}
