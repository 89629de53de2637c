//! The object `builder` of a `daemon.json`.

use build::images::{CollectPolicy, Space};
use serde::Deserialize;
use serde_json::Value;

use crate::serve::Collection;
use crate::settings::{ValueFault, space};

/// The keys below `builder`, and what becomes of each.
#[cfg(test)]
pub const BUILDER_KEYS: &[(&str, &str)] = &[
    ("builder.gc.enabled", "`false`: build cache is not collected after builds"),
    ("builder.gc.defaultKeepStorage", "the same as `defaultMaxUsedSpace`"),
    ("builder.gc.defaultMaxUsedSpace", "the most that stays after a build"),
    ("builder.gc.defaultReservedSpace", "what stays however full the disk is"),
    ("builder.gc.defaultMinFreeSpace", "the part of the disk to keep free"),
    ("builder.gc.policy", "accepted with a note: there is one rule"),
    ("builder.entitlements.security-insecure", "`true`: clients may ask for it"),
    (
        "builder.entitlements.network-host",
        "accepted with a note if it is `false`: it is never refused",
    ),
    ("builder.history", "accepted with a note: records of builds are kept by kiln's own limits"),
];

/// The options of `builder`.
#[derive(Debug, PartialEq, Eq)]
pub struct BuilderOptions {
    /// The collection of old build cache.
    pub collection: Collection,
    /// Entitlements that clients may have.
    pub entitlements: Vec<String>,
}

impl Default for BuilderOptions {
    fn default() -> Self {
        Self { collection: Collection::AsConfigured, entitlements: Vec::new() }
    }
}

/// The fault of `builder`.
#[derive(Debug, thiserror::Error)]
pub enum BuilderFault {
    #[error("`builder`: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("`builder.gc.{key}`: `{text}`: {source}")]
    Size { key: &'static str, text: String, source: ValueFault },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Builder {
    gc: Option<Gc>,
    entitlements: Entitlements,
    history: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Gc {
    enabled: Option<bool>,
    default_keep_storage: Option<String>,
    default_max_used_space: Option<String>,
    default_reserved_space: Option<String>,
    default_min_free_space: Option<String>,
    policy: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Entitlements {
    network_host: Option<bool>,
    security_insecure: Option<bool>,
}

/// Reads the object; notes name what has no effect.
pub fn read(value: &Value, notes: &mut Vec<String>) -> Result<BuilderOptions, BuilderFault> {
    let Builder { gc, entitlements, history } = Builder::deserialize(value)?;
    let mut note = |key: &str, why: &str| notes.push(format!("`{key}` in daemon.json: {why}"));
    if history.is_some() {
        note("builder.history", "records of builds are kept by kiln's own limits");
    }
    if entitlements.network_host == Some(false) {
        note("builder.entitlements.network-host", "it is never refused");
    }
    let insecure = entitlements.security_insecure == Some(true);
    let gc = gc.map(|gc| {
        if gc.policy.as_ref().is_some_and(|policy| !policy.is_empty()) {
            note("builder.gc.policy", "there is one rule: give defaultMaxUsedSpace and the like");
        }
        collection(gc)
    });
    Ok(BuilderOptions {
        collection: gc.transpose()?.unwrap_or(Collection::AsConfigured),
        entitlements: insecure.then(|| "security.insecure".to_owned()).into_iter().collect(),
    })
}

fn collection(gc: Gc) -> Result<Collection, BuilderFault> {
    if gc.enabled == Some(false) {
        return Ok(Collection::Never);
    }
    let kept = size("defaultKeepStorage", gc.default_keep_storage)?;
    let most = size("defaultMaxUsedSpace", gc.default_max_used_space)?;
    let usual = CollectPolicy::default();
    Ok(Collection::By(CollectPolicy {
        max_used: most.or(kept).or(usual.max_used),
        reserved: size("defaultReservedSpace", gc.default_reserved_space)?.or(usual.reserved),
        min_free: size("defaultMinFreeSpace", gc.default_min_free_space)?.or(usual.min_free),
        ..usual
    }))
}

fn size(key: &'static str, text: Option<String>) -> Result<Option<Space>, BuilderFault> {
    let Some(text) = text else { return Ok(None) };
    space(&text).map(Some).map_err(|source| BuilderFault::Size { key, text, source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn collection_is_as_the_file_says() {
        let read = |value: Value| read(&value, &mut Vec::new()).unwrap();
        assert_eq!(read(json!({})).collection, Collection::AsConfigured);
        assert_eq!(read(json!({"gc": {"enabled": false}})).collection, Collection::Never);
        let file =
            read(json!({"gc": {"defaultKeepStorage": "20GB", "defaultMinFreeSpace": "10%"}}));
        let expected = CollectPolicy {
            max_used: Some(Space::Bytes(20 << 30)),
            min_free: Some(Space::Percent(10, u64::MAX)),
            ..CollectPolicy::default()
        };
        assert_eq!(file.collection, Collection::By(expected));
        assert!(file.entitlements.is_empty());
    }

    #[test]
    fn what_has_no_effect_is_noted() {
        let mut notes = Vec::new();
        let value = json!({"history": {"maxAge": "1h"}, "entitlements": {"network-host": false}});
        read(&value, &mut notes).unwrap();
        assert_eq!(notes.len(), 2, "{notes:?}");
    }
}
