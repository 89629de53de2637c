//! The inputs and steps of an image as a SLSA provenance predicate (slsa.dev/spec/v1.0/provenance,
//! and v0.2), in BuildKit's form (its `docs/attestations/slsa-definitions.md`).

use std::collections::BTreeMap;

use oci::{Descriptor, Digest, Platform};
use serde_json::{Map, Value, json};

use crate::steps;

/// The level of detail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProvenanceMode {
    /// Without arguments, secrets' names and steps.
    Min,
    /// All. BuildKit's choice where a user asks for provenance and says no more.
    #[default]
    Max,
}

/// The predicate's version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProvenanceVersion {
    /// SLSA v0.2.
    V02,
    /// SLSA v1.
    #[default]
    V1,
}

impl ProvenanceVersion {
    /// The predicate type of statements.
    pub fn predicate_type(self) -> &'static str {
        match self {
            Self::V02 => "https://slsa.dev/provenance/v0.2",
            Self::V1 => "https://slsa.dev/provenance/v1",
        }
    }
}

/// The settings of a provenance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The level of detail.
    pub mode: ProvenanceMode,
    /// In which version.
    pub version: ProvenanceVersion,
    /// The builder's identity; a URL.
    pub builder_id: String,
    /// True if the caller states that the build is reproducible.
    pub reproducible: bool,
}

/// Digests of a thing, by the names of their algorithms.
pub type Digests = BTreeMap<String, String>;

/// Something that a build was made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// A package URL, or an address without a password.
    pub uri: String,
    /// The material's digests.
    pub digests: Digests,
}

impl Material {
    /// Something with a SHA-256 digest.
    pub fn new(uri: impl Into<String>, digest: &Digest) -> Self {
        Self { uri: uri.into(), digests: Digests::from([("sha256".into(), digest.hex())]) }
    }

    /// A commit of a repository.
    pub fn commit(uri: impl Into<String>, commit: &str) -> Self {
        let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
        Self { uri: uri.into(), digests: Digests::from([(algorithm.into(), commit.into())]) }
    }
}

/// The facts about a build for one platform.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The Dockerfile's origin, if not a folder.
    pub source: Option<Material>,
    /// Name of the Dockerfile there.
    pub entry_point: Option<String>,
    /// The request, under BuildKit's names: `build-arg:NAME`, `label:NAME`, `target`.
    pub args: BTreeMap<String, String>,
    /// Names of secrets, and whether a step can do without.
    pub secrets: BTreeMap<String, bool>,
    /// Names of ssh agents, and whether a step can do without.
    pub agents: BTreeMap<String, bool>,
    /// Names of local folders that were read: others cannot inspect those.
    pub locals: Vec<String>,
    /// Images, repositories and downloads.
    pub materials: Vec<Material>,
    /// Version control's unverified facts about local folders: `source`, `revision`,
    /// `localdir:NAME`.
    pub vcs: BTreeMap<String, String>,
    /// True if a command could reach the network.
    pub network_access: bool,
    /// The building machine's platform.
    pub builder_platform: Platform,
    /// Name of the builder, and its version.
    pub builder: (&'a str, &'a str),
    /// A name of this build alone.
    pub invocation: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// When it ended, RFC 3339.
    pub finished: String,
    /// The steps.
    pub graph: &'a graph::Graph,
    /// The step of the result.
    pub result: Option<graph::StepId>,
    /// The Dockerfile.
    pub file: &'a graph::SourceFile,
    /// The layers that steps left, where they are known.
    pub layers: BTreeMap<graph::StepId, Vec<Descriptor>>,
}

impl Facts<'_> {
    /// True if all materials of the build are named.
    pub fn is_complete(&self) -> bool {
        self.locals.is_empty()
    }

    /// Writes the predicate.
    pub fn predicate(&self, wanted: &Provenance) -> Value {
        let is_max = wanted.mode == ProvenanceMode::Max;
        let hidden = |name: &str| name.starts_with("build-arg:") || name.starts_with("label:");
        let all_said = is_max || !self.args.keys().any(|name| hidden(name));
        let args: BTreeMap<&str, &str> = self
            .args
            .iter()
            .filter(|(name, _)| is_max || !hidden(name))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();

        let mut request = Map::new();
        request.insert("frontend".into(), json!("dockerfile.v0"));
        put(&mut request, "args", json!(args));
        if is_max {
            put(&mut request, "secrets", named(&self.secrets));
            put(&mut request, "ssh", named(&self.agents));
        }
        let locals: Vec<Value> = self.locals.iter().map(|name| json!({ "name": name })).collect();
        put(&mut request, "locals", json!(locals));
        request.insert("compatibilityVersion".into(), json!(30));

        let steps = is_max.then(|| steps::Steps::of(self.graph, self.result));
        let definition = steps.as_ref().map(|steps| json!({ "llbDefinition": steps.definition() }));
        let mut buildkit = Map::new();
        if let Some(steps) = &steps {
            buildkit.insert("source".into(), steps.source(self.file));
            put(&mut buildkit, "layers", steps.layers(&self.layers));
        }
        put(&mut buildkit, "vcs", json!(self.vcs));
        let said = SharedContent { all: all_said, request, definition, buildkit };
        match wanted.version {
            ProvenanceVersion::V1 => self.v1(wanted, said),
            ProvenanceVersion::V02 => self.v02(wanted, said),
        }
    }

    fn materials(&self) -> Value {
        let material =
            |material: &Material| json!({ "uri": material.uri, "digest": material.digests });
        self.materials.iter().map(material).collect()
    }

    fn source(&self, entry_point: &str) -> Value {
        let mut source = Map::new();
        if let Some(material) = &self.source {
            source.insert("uri".into(), json!(material.uri));
            put(&mut source, "digest", json!(material.digests));
        }
        if let Some(path) = &self.entry_point {
            source.insert(entry_point.into(), json!(path));
        }
        Value::Object(source)
    }

    fn is_hermetic(&self) -> bool {
        self.is_complete() && !self.network_access
    }

    fn v1(&self, wanted: &Provenance, said: SharedContent) -> Value {
        let mut internal = Map::new();
        if let Some(definition) = said.definition {
            internal.insert("buildConfig".into(), definition);
        }
        internal.insert("builderPlatform".into(), json!(self.builder_platform.to_string()));
        let mut build = Map::new();
        let kind =
            "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
        build.insert("buildType".into(), json!(kind));
        put(&mut build, "resolvedDependencies", self.materials());
        build.insert(
            "externalParameters".into(),
            json!({ "configSource": self.source("path"), "request": said.request }),
        );
        build.insert("internalParameters".into(), Value::Object(internal));

        let mut metadata = Map::new();
        metadata.insert("invocationId".into(), json!(self.invocation));
        metadata.insert("startedOn".into(), json!(self.started));
        metadata.insert("finishedOn".into(), json!(self.finished));
        metadata.insert("buildkit_metadata".into(), Value::Object(said.buildkit));
        if self.is_hermetic() {
            metadata.insert("buildkit_hermetic".into(), json!(true));
        }
        let completeness =
            json!({ "request": said.all, "resolvedDependencies": self.is_complete() });
        metadata.insert("buildkit_completeness".into(), completeness);
        if wanted.reproducible {
            metadata.insert("buildkit_reproducible".into(), json!(true));
        }
        let (name, version) = self.builder;
        json!({
            "buildDefinition": build,
            "runDetails": {
                "builder": { "id": wanted.builder_id, "version": { name: version } },
                "metadata": metadata,
            },
        })
    }

    fn v02(&self, wanted: &Provenance, said: SharedContent) -> Value {
        let mut predicate = Map::new();
        predicate.insert("builder".into(), json!({ "id": wanted.builder_id }));
        predicate.insert("buildType".into(), json!("https://mobyproject.org/buildkit@v1"));
        put(&mut predicate, "materials", self.materials());
        predicate.insert(
            "invocation".into(),
            json!({
                "configSource": self.source("entryPoint"),
                "parameters": said.request,
                "environment": { "platform": self.builder_platform.to_string() },
            }),
        );
        if let Some(definition) = said.definition {
            predicate.insert("buildConfig".into(), definition);
        }
        let mut metadata = Map::new();
        metadata.insert("buildInvocationID".into(), json!(self.invocation));
        metadata.insert("buildStartedOn".into(), json!(self.started));
        metadata.insert("buildFinishedOn".into(), json!(self.finished));
        metadata.insert(
            "completeness".into(),
            json!({
                "parameters": said.all, "environment": true, "materials": self.is_complete(),
            }),
        );
        metadata.insert("reproducible".into(), json!(wanted.reproducible));
        let own = "https://mobyproject.org/buildkit@v1#";
        metadata.insert(format!("{own}metadata"), Value::Object(said.buildkit));
        if self.is_hermetic() {
            metadata.insert(format!("{own}hermetic"), json!(true));
        }
        predicate.insert("metadata".into(), Value::Object(metadata));
        Value::Object(predicate)
    }
}

/// The content that both versions share.
struct SharedContent {
    /// True if no argument is left out.
    all: bool,
    request: Map<String, Value>,
    definition: Option<Value>,
    buildkit: Map<String, Value>,
}

/// Adds what is not empty.
fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    let is_empty = match &value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(values) => values.is_empty(),
        _ => false,
    };
    if !is_empty {
        map.insert(key.into(), value);
    }
}

fn named(names: &BTreeMap<String, bool>) -> Value {
    let one = |(id, optional): (&String, &bool)| match optional {
        true => json!({ "id": id, "optional": true }),
        false => json!({ "id": id }),
    };
    names.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use graph::{Graph, LocalSource, Operation, SourceFile, Step};

    use super::*;

    fn with_facts(check: impl FnOnce(Facts<'_>)) {
        let mut graph = Graph::new();
        let source = LocalSource {
            name: "context".into(),
            excludes: Vec::new(),
            follow_paths: vec!["a".into()],
        };
        let result = graph.add(Step {
            operation: Operation::Local(source),
            inputs: Vec::new(),
            platform: "linux/amd64".parse().unwrap(),
            name: "load".into(),
            lines: None,
            ignore_cache: false,
            shown_as: None,
        });
        let file = SourceFile { name: "Dockerfile".into(), text: "FROM scratch\n".into() };
        check(Facts {
            source: None,
            entry_point: Some("Dockerfile".into()),
            args: BTreeMap::from([
                ("build-arg:TOKEN".into(), "visible in max".into()),
                ("target".into(), "app".into()),
            ]),
            secrets: BTreeMap::from([("key".into(), false)]),
            agents: BTreeMap::from([("default".into(), true)]),
            locals: vec!["context".into()],
            materials: vec![Material::new("pkg:docker/a@1", &Digest::of("a"))],
            vcs: BTreeMap::from([("revision".into(), "0a1b".into())]),
            network_access: true,
            builder_platform: "linux/amd64".parse().unwrap(),
            builder: ("kiln", "1"),
            invocation: "i".into(),
            started: "2026-01-01T00:00:00Z".into(),
            finished: "2026-01-01T00:00:01Z".into(),
            graph: &graph,
            result: Some(result),
            file: &file,
            layers: BTreeMap::new(),
        });
    }

    #[test]
    fn min_hides_arguments_and_says_so() {
        with_facts(|facts| {
            let wanted = Provenance { mode: ProvenanceMode::Min, ..Provenance::default() };
            let value = facts.predicate(&wanted);
            let text = value.to_string();
            assert!(!text.contains("TOKEN") && !text.contains("\"key\""), "{text}");
            let request = &value["buildDefinition"]["externalParameters"]["request"];
            assert_eq!(request["args"], json!({ "target": "app" }));
            let metadata = &value["runDetails"]["metadata"];
            assert_eq!(
                metadata["buildkit_completeness"],
                json!({ "request": false, "resolvedDependencies": false })
            );
            let vcs = json!({ "vcs": { "revision": "0a1b" } });
            assert_eq!(metadata["buildkit_metadata"], vcs);
        });
    }

    #[test]
    fn max_has_arguments_names_of_secrets_steps_and_the_dockerfile() {
        with_facts(|facts| {
            let value = facts.predicate(&Provenance::default());
            let build = &value["buildDefinition"];
            let request = &build["externalParameters"]["request"];
            assert_eq!(request["args"]["build-arg:TOKEN"], "visible in max");
            assert_eq!(request["secrets"], json!([{ "id": "key" }]));
            assert_eq!(request["ssh"], json!([{ "id": "default", "optional": true }]));
            let steps = &build["internalParameters"]["buildConfig"]["llbDefinition"];
            assert_eq!(steps[0]["op"]["Op"]["source"]["identifier"], "local://context");
            assert_eq!(steps[1]["inputs"], json!(["step0:0"]));
            let metadata = &value["runDetails"]["metadata"];
            let info = &metadata["buildkit_metadata"]["source"]["infos"][0];
            assert_eq!(info["data"], "RlJPTSBzY3JhdGNoCg==");
            assert_eq!(metadata["buildkit_completeness"]["request"], true);
            assert_eq!(build["resolvedDependencies"][0]["uri"], "pkg:docker/a@1");
        });
    }

    #[test]
    fn the_older_version_says_the_same_in_other_places() {
        with_facts(|facts| {
            let wanted = Provenance {
                version: ProvenanceVersion::V02,
                builder_id: "https://ci.example.com/1".into(),
                reproducible: true,
                ..Provenance::default()
            };
            let value = facts.predicate(&wanted);
            assert_eq!(value["buildType"], "https://mobyproject.org/buildkit@v1");
            assert_eq!(value["builder"]["id"], "https://ci.example.com/1");
            assert_eq!(value["invocation"]["configSource"]["entryPoint"], "Dockerfile");
            assert_eq!(value["materials"][0]["uri"], "pkg:docker/a@1");
            assert_eq!(value["metadata"]["reproducible"], true);
            assert!(value["buildConfig"]["llbDefinition"].is_array());
            let metadata = &value["metadata"]["https://mobyproject.org/buildkit@v1#metadata"];
            assert_eq!(metadata["vcs"]["revision"], "0a1b");
        });
    }
}
