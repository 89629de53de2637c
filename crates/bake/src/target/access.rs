//! Typed access to a target's attributes.

use serde_json::Value;

use super::Target;

/// The fields of a compound value, as `type=registry,ref=app` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(pub Vec<(String, String)>);

impl Target {
    /// The build context: a folder or an address.
    pub fn context(&self) -> Option<&str> {
        self.text("context")
    }

    /// The Dockerfile's path.
    pub fn dockerfile(&self) -> Option<&str> {
        self.text("dockerfile")
    }

    /// The Dockerfile's text, if it is in the definition.
    pub fn inline_dockerfile(&self) -> Option<&str> {
        self.text("dockerfile-inline")
    }

    /// Named contexts that are not other targets: names and addresses.
    pub fn contexts(&self) -> Vec<(String, String)> {
        let mut contexts = self.pairs("contexts");
        contexts.retain(|(_, address)| !address.starts_with("target:"));
        contexts
    }

    /// Named contexts that are other targets: names and targets.
    pub fn links(&self) -> Vec<(String, String)> {
        let contexts = self.pairs("contexts").into_iter();
        let links = contexts.filter_map(|(name, address)| {
            address.strip_prefix("target:").map(|target| (name, target.to_owned()))
        });
        links.collect()
    }

    /// Build arguments.
    pub fn args(&self) -> Vec<(String, String)> {
        self.pairs("args")
    }

    /// Labels of the image.
    pub fn labels(&self) -> Vec<(String, String)> {
        self.pairs("labels")
    }

    /// Hosts and their addresses.
    pub fn extra_hosts(&self) -> Vec<(String, String)> {
        self.pairs("extra-hosts")
    }

    /// Names of the image.
    pub fn tags(&self) -> Vec<String> {
        self.texts("tags")
    }

    /// Platforms.
    pub fn platforms(&self) -> Vec<String> {
        self.texts("platforms")
    }

    /// Annotations of the image: `KEY=VALUE`.
    pub fn annotations(&self) -> Vec<String> {
        self.texts("annotations")
    }

    /// Stages that are not taken from the cache.
    pub fn no_cache_filter(&self) -> Vec<String> {
        self.texts("no-cache-filter")
    }

    /// Resource limits: `nofile=1024:2048`.
    pub fn ulimits(&self) -> Vec<String> {
        self.texts("ulimits")
    }

    /// Entitlements that are granted.
    pub fn entitlements(&self) -> Vec<String> {
        self.texts("entitlements")
    }

    /// Attestations.
    pub fn attestations(&self) -> Vec<Options> {
        self.options("attest")
    }

    /// Caches that are read.
    pub fn cache_from(&self) -> Vec<Options> {
        self.options("cache-from")
    }

    /// Caches that are written.
    pub fn cache_to(&self) -> Vec<Options> {
        self.options("cache-to")
    }

    /// Secrets: their ids and sources, never their values.
    pub fn secrets(&self) -> Vec<Options> {
        self.options("secret")
    }

    /// Outputs.
    pub fn outputs(&self) -> Vec<Options> {
        self.options("output")
    }

    /// Policies for sources.
    pub fn policies(&self) -> Vec<Options> {
        self.options("policy")
    }

    /// SSH agents and keys: an id, and paths if it is not the agent of the environment.
    pub fn ssh(&self) -> Vec<(String, Option<String>)> {
        let agents = self.items("ssh").iter().map(|item| {
            let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
            (text("id").unwrap_or_else(|| "default".into()), text("paths"))
        });
        agents.collect()
    }

    /// The stage that is built.
    pub fn stage(&self) -> Option<&str> {
        self.text("target")
    }

    /// The network of RUN instructions.
    pub fn network(&self) -> Option<&str> {
        self.text("network")
    }

    /// The size of `/dev/shm`.
    pub fn shm_size(&self) -> Option<&str> {
        self.text("shm-size")
    }

    /// The question that is answered instead of building.
    pub fn call(&self) -> Option<&str> {
        self.text("call")
    }

    /// The text for `--list`.
    pub fn description(&self) -> Option<&str> {
        self.text("description")
    }

    /// True if registries are asked for newer bases.
    pub fn pull(&self) -> Option<bool> {
        self.get("pull").and_then(Value::as_bool)
    }

    /// True if no step is taken from the cache.
    pub fn no_cache(&self) -> Option<bool> {
        self.get("no-cache").and_then(Value::as_bool)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn items(&self, name: &str) -> &[Value] {
        self.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn texts(&self, name: &str) -> Vec<String> {
        self.items(name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn pairs(&self, name: &str) -> Vec<(String, String)> {
        self.get(name).map(pairs).unwrap_or_default()
    }

    fn options(&self, name: &str) -> Vec<Options> {
        self.items(name).iter().map(|item| Options(pairs(item))).collect()
    }
}

/// The texts of a map, with their keys.
fn pairs(map: &Value) -> Vec<(String, String)> {
    let pairs = map.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
