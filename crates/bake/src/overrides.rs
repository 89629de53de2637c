//! `--set`, and the flags that change all targets.

use std::collections::BTreeMap;

use oci::parse_bool;
use serde_json::{Value, json};

use crate::BakeError;
use crate::error::{Location, Within as _, invalid};
use crate::target::{Target, long_name};
use crate::value::boolean;

/// The flags of the command line that change targets.
#[derive(Clone, Debug, Default)]
pub struct OverrideFlags {
    /// `--set`, each `TARGET.KEY[.NAME]=VALUE`.
    pub set: Vec<String>,
    /// `--no-cache`.
    pub no_cache: Option<bool>,
    /// `--pull`.
    pub pull: Option<bool>,
    /// `--provenance`.
    pub provenance: Option<String>,
    /// `--sbom`.
    pub sbom: Option<String>,
    /// `--call`.
    pub call: Option<String>,
    /// `--push`.
    pub push: bool,
    /// `--load`.
    pub load: bool,
    /// `--policy`.
    pub policies: Vec<String>,
    /// The policies replace those of targets.
    pub replaces_policies: bool,
}

/// A change of the targets that a pattern matches.
#[derive(Clone, Debug)]
pub(crate) struct Override {
    /// The flag for messages, without its value.
    pub flag: String,
    pub pattern: String,
    key: String,
    /// The key of an attribute that is a map.
    name: Option<String>,
    value: Value,
    appends: bool,
}

/// The changes of all flags, in the order in which they apply.
pub(crate) fn overrides(
    flags: &OverrideFlags,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<Override>, BakeError> {
    let mut all: Vec<Override> = Vec::new();
    for (name, value) in [("no-cache", flags.no_cache), ("pull", flags.pull)] {
        all.extend(value.map(|value| Override::of_all(name, name, value.into())));
    }
    for text in &flags.set {
        let change = Override::read(text, environment).within(|| Location::Flag(shown(text)))?;
        if let Some(change) = change {
            add(&mut all, change);
        }
    }
    for (kind, value) in [("provenance", &flags.provenance), ("sbom", &flags.sbom)] {
        if let Some(value) = value {
            let text = match parse_bool(value) {
                Some(true) => format!("type={kind}"),
                Some(false) => format!("type={kind},disabled=true"),
                None => format!("type={kind},{value}"),
            };
            let change = Override::of_all(kind, "attest", json!([text]));
            all.push(Override { appends: true, ..change });
        }
    }
    let call = flags.call.as_ref();
    all.extend(call.map(|call| Override::of_all("call", "call", call.as_str().into())));
    for (name, is_on) in [("push", flags.push), ("load", flags.load)] {
        all.extend(is_on.then(|| Override::of_all(name, name, true.into())));
    }
    if !flags.policies.is_empty() {
        let change = Override::of_all("policy", "policy", json!(flags.policies));
        all.push(Override { appends: !flags.replaces_policies, ..change });
    }
    Ok(all)
}

/// Adds a change. Several values that replace one list together replace it.
fn add(all: &mut Vec<Override>, change: Override) {
    let same = all.iter_mut().find(|known| {
        (&known.pattern, &known.key, &known.name) == (&change.pattern, &change.key, &change.name)
            && known.appends == change.appends
    });
    match (same, change.value) {
        (Some(Override { value: Value::Array(known), .. }), Value::Array(more)) => {
            known.extend(more);
        }
        (_, value) => all.push(Override { value, ..change }),
    }
}

/// `--set` for messages: without the value, which can be a secret.
fn shown(text: &str) -> String {
    let path = text.split_once('=').map_or(text, |(path, _)| path);
    format!("--set {}", path.strip_suffix('+').unwrap_or(path))
}

const MAPS: [&str; 4] = ["args", "contexts", "labels", "extra-hosts"];
const LISTS: [&str; 13] = [
    "tags",
    "platforms",
    "cache-from",
    "cache-to",
    "output",
    "secret",
    "ssh",
    "no-cache-filter",
    "ulimits",
    "annotations",
    "attest",
    "entitlements",
    "policy",
];

impl Override {
    fn of_all(flag: &str, key: &str, value: Value) -> Self {
        Self {
            flag: format!("--{flag}"),
            pattern: "*".into(),
            key: key.into(),
            name: None,
            value,
            appends: false,
        }
    }

    /// Reads `TARGET.KEY[.NAME]=VALUE`, or with `+=`; `None` if the value is the environment's, and
    /// it has none.
    fn read(text: &str, environment: &BTreeMap<String, String>) -> Result<Option<Self>, BakeError> {
        let wrong = || invalid!("it is not TARGET.KEY=VALUE");
        let (path, value) = match text.split_once('=') {
            Some((path, value)) => (path, Some(value)),
            None => (text, None),
        };
        let (path, appends) = match path.strip_suffix('+') {
            Some(path) => (path, true),
            None => (path, false),
        };
        let mut parts = path.splitn(3, '.');
        let (pattern, key) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(wrong)?);
        let name = parts.next().map(str::to_owned);
        let key = long_name(key);
        let is_map = MAPS.contains(&key);
        if is_map && (pattern.is_empty() || name.is_none()) {
            return Err(invalid!("it is TARGET.{key}.NAME=VALUE"));
        }
        if pattern.is_empty() || is_map != name.is_some() {
            return Err(wrong());
        }
        // An argument without a value has the environment's.
        let inherited = name.as_ref().and_then(|name| environment.get(name)).map(String::as_str);
        let value = match value.or(inherited) {
            Some(value) => value,
            None if is_map => return Ok(None),
            None => return Err(wrong()),
        };
        let value = match LISTS.contains(&key) {
            true if value.is_empty() => json!([]),
            true => json!([value]),
            false => json!(value),
        };
        // buildx appends to these even without `+`.
        let appends = appends || matches!(key, "annotations" | "attest" | "entitlements");
        Ok(Some(Self {
            flag: shown(text),
            pattern: pattern.into(),
            key: key.into(),
            name,
            value,
            appends,
        }))
    }

    /// Changes a target.
    pub fn apply(&self, target: &mut Target) -> Result<(), BakeError> {
        match (self.key.as_str(), &self.name) {
            ("push", _) => push(target, boolean(&self.value)?),
            ("load", _) => {
                if boolean(&self.value)? {
                    load_too(target);
                }
            }
            (key, Some(name)) => target.set_key(key, name, self.value.clone()),
            (key, None) if self.appends => target.append(key, self.value.clone())?,
            (key, None) => target.set(key, self.value.clone())?,
        }
        Ok(())
    }
}

fn output_type(output: &Value) -> &str {
    output["type"].as_str().unwrap_or_default()
}

/// `--push`: images are pushed, and one is made where there is only an image for an engine; files
/// stay files. `--set *.push=false` pushes none.
fn push(target: &mut Target, is_on: bool) {
    let outputs = target.list_mut("output");
    if !is_on {
        outputs.retain(|output| output_type(output) != "registry");
    }
    for output in outputs.iter_mut().filter(|output| output_type(output) == "image") {
        output["push"] = is_on.to_string().into();
    }
    if is_on && outputs.iter().all(|output| output_type(output) == "docker") {
        outputs.push(json!({ "type": "image", "push": "true" }));
    }
}

/// `--load`: an image for the engine as well, unless the outputs are files.
fn load_too(target: &mut Target) {
    let outputs = target.list_mut("output");
    let is_file = |output: &Value| match output_type(output) {
        "docker" => output.get("dest").is_none(),
        other => !matches!(other, "image" | "registry" | "oci"),
    };
    if !outputs.iter().any(is_file) {
        outputs.push(json!({ "type": "docker" }));
    }
}
