//! The steps of a build as BuildKit's provenance lists them: operations in the JSON of its LLB
//! messages. They are for readers; nothing is built from them.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use graph::{
    Action, ActionInput, ActionKind, ChmodMode, CopyAction, FilesOp, Graph, Mount, MountKind,
    Network, Operation, RunOp, Security, Sharing, SourceFile, Step, StepId,
};
use oci::{Descriptor, masked_text, shown_text};
use serde_json::{Map, Value, json};

/// The steps that a result stands on, each after its inputs.
pub(crate) struct Steps<'a> {
    graph: &'a Graph,
    ids: Vec<StepId>,
    result: Option<StepId>,
}

impl<'a> Steps<'a> {
    pub(crate) fn of(graph: &'a Graph, result: Option<StepId>) -> Self {
        let mut seen = BTreeSet::new();
        let mut open: Vec<StepId> = result.into_iter().collect();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(&graph.step(id).inputs);
            }
        }
        // Inputs have lower numbers than what stands on them.
        Self { graph, ids: seen.into_iter().collect(), result }
    }

    fn name(&self, id: StepId) -> String {
        let place = self.ids.iter().position(|known| *known == id).unwrap_or(self.ids.len());
        format!("step{place}")
    }

    /// All steps; the last one, which does nothing, names the result.
    pub(crate) fn definition(&self) -> Value {
        let input = |id: &StepId| format!("{}:0", self.name(*id));
        let step = |id: &StepId| {
            let step = self.graph.step(*id);
            let mut value = json!({ "id": self.name(*id), "op": operation(step) });
            if !step.inputs.is_empty() {
                value["inputs"] = step.inputs.iter().map(input).collect();
            }
            value
        };
        let mut steps: Vec<Value> = self.ids.iter().map(step).collect();
        if let Some(result) = &self.result {
            let id = format!("step{}", self.ids.len());
            steps.push(json!({ "id": id, "op": { "Op": {} }, "inputs": [input(result)] }));
        }
        json!(steps)
    }

    /// The Dockerfile, and the lines of each step.
    pub(crate) fn source(&self, file: &SourceFile) -> Value {
        let mut locations = Map::new();
        for id in &self.ids {
            let location = match self.graph.step(*id).lines {
                None => json!({}),
                Some(lines) => json!({ "locations": [{ "ranges": [{
                    "start": { "line": lines.first }, "end": { "line": lines.last },
                }] }] }),
            };
            locations.insert(self.name(*id), location);
        }
        // Lines and columns stay where they are.
        let text = masked_text(&file.text);
        let data = base64::engine::general_purpose::STANDARD.encode(text);
        json!({
            "locations": locations,
            "infos": [{ "filename": &*file.name, "language": "Dockerfile", "data": data }],
        })
    }

    /// The layers that steps left.
    pub(crate) fn layers(&self, layers: &BTreeMap<StepId, Vec<Descriptor>>) -> Value {
        let known = self.ids.iter().filter_map(|id| Some((*id, layers.get(id)?)));
        let layers: Map<String, Value> = known
            .filter(|(_, layers)| !layers.is_empty())
            .map(|(id, layers)| (format!("{}:0", self.name(id)), json!([layers])))
            .collect();
        Value::Object(layers)
    }
}

fn operation(step: &Step) -> Value {
    let (kind, value) = match &step.operation {
        Operation::Image(source) => {
            ("source", json!({ "identifier": format!("docker-image://{}", source.reference) }))
        }
        Operation::Local(source) => {
            let mut attrs = Map::new();
            for (key, list) in [
                ("local.excludepatterns", &source.excludes),
                ("local.followpaths", &source.follow_paths),
            ] {
                if !list.is_empty() {
                    attrs.insert(key.into(), json!(json!(list).to_string()));
                }
            }
            ("source", json!({ "identifier": format!("local://{}", source.name), "attrs": attrs }))
        }
        Operation::Http(source) => ("source", json!({ "identifier": shown_text(&source.url) })),
        Operation::Git(source) => {
            let mut address = shown_text(&source.remote);
            if !source.reference.is_empty() || !source.subdir.is_empty() {
                address.push_str(&format!("#{}", source.reference));
            }
            if !source.subdir.is_empty() {
                address.push_str(&format!(":{}", source.subdir));
            }
            ("source", json!({ "identifier": format!("git://{address}") }))
        }
        Operation::Run(run) => ("exec", exec(run)),
        Operation::Files(files) => ("file", file(files)),
        Operation::Merge => {
            let inputs: Vec<Value> =
                (0..step.inputs.len()).map(|input| json!({ "input": input })).collect();
            ("merge", json!({ "inputs": inputs }))
        }
    };
    let mut operation = json!({ "Op": { kind: value }, "constraints": {} });
    if matches!(step.operation, Operation::Run(_) | Operation::Image(_)) {
        operation["platform"] = json!({
            "Architecture": step.platform.architecture, "OS": step.platform.os,
        });
        if !step.platform.variant.is_empty() {
            operation["platform"]["Variant"] = json!(step.platform.variant);
        }
    }
    operation
}

fn exec(run: &RunOp) -> Value {
    let env = run.env.iter().map(|(name, value)| shown_text(&format!("{name}={value}")));
    let env: Vec<String> = env.collect();
    let args: Vec<String> = run.args.iter().map(|arg| shown_text(arg)).collect();
    let mut meta = Map::new();
    meta.insert("args".into(), json!(args));
    meta.insert("env".into(), json!(env));
    meta.insert("cwd".into(), json!(run.cwd));
    for (key, text) in [("user", &run.user), ("hostname", &run.hostname)] {
        if !text.is_empty() {
            meta.insert(key.into(), json!(text));
        }
    }
    let mut exec = json!({ "meta": meta });
    exec["mounts"] = run.mounts.iter().map(mount).collect();
    match run.network {
        Network::Default => {}
        Network::Host => exec["network"] = json!(1),
        Network::None => exec["network"] = json!(2),
    }
    if run.security == Security::Insecure {
        exec["security"] = json!(1);
    }
    if !run.secret_env.is_empty() {
        let secret = |secret: &graph::SecretEnv| json!({ "ID": secret.id, "name": secret.name, "optional": secret.optional });
        exec["secretenv"] = run.secret_env.iter().map(secret).collect();
    }
    exec
}

fn mount(mount: &Mount) -> Value {
    let input = mount.input.map_or(json!(-1), |input| json!(input));
    let output = if mount.output { 0 } else { -1 };
    let mut value = json!({ "input": input, "dest": mount.target, "output": output });
    if mount.selector != "/" && !mount.selector.is_empty() {
        value["selector"] = json!(mount.selector);
    }
    if mount.readonly {
        value["readonly"] = json!(true);
    }
    // pb.MountType: SECRET 1, SSH 2, CACHE 3, TMPFS 4.
    match &mount.kind {
        MountKind::Bind => {}
        MountKind::Secret { id, uid, gid, mode, optional } => {
            value["mountType"] = json!(1);
            value["secretOpt"] =
                json!({ "ID": id, "uid": uid, "gid": gid, "mode": mode, "optional": optional });
        }
        MountKind::Ssh { id, uid, gid, mode, optional } => {
            value["mountType"] = json!(2);
            value["SSHOpt"] =
                json!({ "ID": id, "uid": uid, "gid": gid, "mode": mode, "optional": optional });
        }
        MountKind::Cache { id, sharing } => {
            let sharing = match sharing {
                Sharing::Shared => 0,
                Sharing::Private => 1,
                Sharing::Locked => 2,
            };
            value["mountType"] = json!(3);
            value["cacheOpt"] = json!({ "ID": id, "sharing": sharing });
        }
        MountKind::Tmpfs { size } => {
            value["mountType"] = json!(4);
            value["TmpfsOpt"] = json!({ "size": size });
        }
    }
    value
}

fn file(files: &FilesOp) -> Value {
    let last = files.actions.len().saturating_sub(1);
    let actions = files.actions.iter().enumerate().map(|(place, action)| {
        let (secondary, value) = action_value(action);
        json!({
            "input": node(&action.base),
            "secondaryInput": secondary,
            "output": if place == last { 0 } else { -1 },
            "Action": value,
        })
    });
    json!({ "actions": actions.collect::<Vec<_>>() })
}

/// Inputs by their places, results of earlier actions behind them.
fn node(node: &ActionInput) -> Value {
    match node {
        ActionInput::Scratch => json!(-1),
        ActionInput::Input(input) => json!(input),
        ActionInput::Action(action) => json!(format!("action{action}")),
    }
}

fn action_value(action: &Action) -> (Value, Value) {
    match &action.kind {
        ActionKind::Copy(copied) => (node(&copied.from), json!({ "copy": copy(copied) })),
        ActionKind::MakeFile { path, mode, data } => {
            let data = base64::engine::general_purpose::STANDARD.encode(data);
            (json!(-1), json!({ "mkfile": { "path": path, "mode": mode, "data": data } }))
        }
        ActionKind::MakeDir { path, mode, make_parents, .. } => (
            json!(-1),
            json!({ "mkdir": { "path": path, "mode": mode, "makeParents": make_parents } }),
        ),
    }
}

fn copy(copy: &CopyAction) -> Value {
    let mut value = json!({ "src": copy.source, "dest": copy.destination, "mode": -1 });
    match &copy.mode {
        None => {}
        Some(ChmodMode::Octal(mode)) => value["mode"] = json!(mode),
        Some(ChmodMode::Symbolic(text)) => value["modeStr"] = json!(text),
    }
    for (key, set) in [
        ("followSymlink", copy.follow_symlinks),
        ("dirCopyContents", copy.copy_dir_contents),
        ("attemptUnpackDockerCompatibility", copy.unpack),
        ("createDestPath", copy.create_destination),
        ("allowWildcard", copy.wildcard),
        ("allowEmptyWildcard", copy.empty_wildcard),
        ("alwaysReplaceExistingDestPaths", copy.replace_existing),
    ] {
        if set {
            value[key] = json!(true);
        }
    }
    for (key, list) in [("include_patterns", &copy.include), ("exclude_patterns", &copy.exclude)] {
        if !list.is_empty() {
            value[key] = json!(list);
        }
    }
    value
}
