//! The image config: what a container gets and how the image came to be.
//!
//! Our own type rather than a library's: Docker's fields (`Healthcheck`, `OnBuild`, `Shell`,
//! `ArgsEscaped`) and unknown ones must survive being read and written.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::{Digest, Platform};

/// An image config (image-spec, config.md, with Docker's additions).
///
/// Times are RFC 3339 texts. Fields are written in BuildKit's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The author (`MAINTAINER`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The processor.
    #[serde(default)]
    pub architecture: String,
    /// The processor's variant.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// The operating system.
    #[serde(default)]
    pub os: String,
    /// The system's version (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// The system's features (Windows).
    #[serde(
        default,
        rename = "os.features",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub os_features: Vec<String>,
    /// The container's settings.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Config,
    /// The layers.
    #[serde(default, deserialize_with = "nullable")]
    pub rootfs: RootFs,
    /// One entry for each instruction.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub history: Vec<History>,
    /// Fields that kiln does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Settings of a container made from the image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// User and group, by name or number.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub user: String,
    /// Ports, as `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `NAME=value`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// The command before the arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// The health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Windows: the command is one escaped line. BuildKit sets it with every `CMD`.
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "nullable")]
    pub args_escaped: bool,
    /// Folders that hold data.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub volumes: BTreeMap<String, Value>,
    /// Working directory.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub working_dir: String,
    /// Instructions for images built on this one.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub on_build: Vec<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Signal that ends the container.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub stop_signal: String,
    /// Shell of the shell form.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub shell: Vec<String>,
    /// Fields that kiln does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A health check. Durations are nanoseconds; 0 is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, or `CMD` or `CMD-SHELL` with arguments.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time that a check may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make the container unwell.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, from the bottom up.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// The result of one instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// The author.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// By what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// True if it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// The platform that the config names.
    pub fn platform(&self) -> Platform {
        let mut platform = Platform::new(&self.os, &self.architecture, &self.variant);
        platform.os_version.clone_from(&self.os_version);
        platform.os_features.clone_from(&self.os_features);
        platform
    }
}

/// Docker writes `null` where a list or map is empty.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_dockers_survive() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Volumes":null,"OnBuild":["RUN x"],"Shell":["/bin/bash","-c"],"Healthcheck":{"Test":["NONE"]},"Hostname":"h"},"rootfs":{"type":"layers","diff_ids":[]},"docker_version":"20"}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.on_build, ["RUN x"]);
        let again = serde_json::to_value(&config).unwrap();
        assert_eq!(again["docker_version"], "20");
        assert_eq!(again["config"]["Hostname"], "h");
        assert_eq!(again["config"]["Shell"][0], "/bin/bash");
        assert!(again["config"].get("Volumes").is_none());
    }
}
