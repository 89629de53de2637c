//! The operations of some Dockerfiles, against the input of BuildKit's cache keys.
//!
//! The vectors contain the texts that BuildKit hashed. Here they are made from the graph in the
//! same form, as far as the graph determines them.

use std::collections::BTreeMap;
use std::sync::Arc;

use dockerfile::{Dockerfile, Images, LowerRequest, Lowered, Lowering, ResolvedImage};
use graph::{
    ActionInput, ActionKind, ChmodMode, Mount, MountKind, Network, Operation, Owner, OwnerName,
    RunOp, Sharing, SourceFile, Step,
};
use oci::{Digest, ImageConfig, Platform};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Vectors {
    dockerfiles: BTreeMap<String, String>,
    operations: Vec<Value>,
}

fn lower(text: &str) -> Lowered {
    let file = SourceFile { name: "Dockerfile".into(), text: Arc::from(text) };
    let file = Dockerfile::parse(file).expect("a vector");
    let request = LowerRequest::new(Platform::new("linux", "amd64", ""));
    let mut images = Images::new();
    loop {
        match file.lower(&request, &images).expect("a vector") {
            Lowering::Done(lowered) => return *lowered,
            Lowering::Needs(needs) => {
                for need in needs {
                    let mut config = ImageConfig::default();
                    config.rootfs.diff_ids = vec![Digest::of("layer")];
                    config.config.env = vec![
                        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
                    ];
                    let source = graph::ImageSource {
                        reference: need.reference.clone(),
                        platform: need.platform.clone(),
                        manifest: Digest::of("manifest"),
                        diff_ids: config.rootfs.diff_ids.clone(),
                    };
                    images.insert(&need, Ok(ResolvedImage { source, config }));
                }
            }
        }
    }
}

/// Omits the fields that Go's `omitempty` omits.
fn object(fields: Vec<(&str, Value)>) -> Value {
    let filled = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0),
        _ => true,
    };
    let fields = fields.into_iter().filter(|(_, value)| filled(value));
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

fn owner(owner: &Option<Owner>) -> Value {
    let name = |name: &Option<OwnerName>| match name {
        None => Value::Null,
        Some(OwnerName::Id(id)) => {
            json!({"User": object(vec![("byId", json!(id))])})
        }
        Some(OwnerName::Name { name, .. }) => json!({"User": {"byName": {"name": name}}}),
    };
    match owner {
        None => Value::Null,
        Some(owner) => object(vec![("user", name(&owner.user)), ("group", name(&owner.group))]),
    }
}

fn action(kind: &ActionKind) -> Value {
    match kind {
        ActionKind::Copy(copy) => {
            let base = copy.source.rsplit('/').next().filter(|base| !base.is_empty());
            let (mode, text) = match &copy.mode {
                None => (-1, ""),
                Some(ChmodMode::Octal(mode)) => (i64::from(*mode), ""),
                Some(ChmodMode::Symbolic(text)) => (0, text.as_str()),
            };
            object(vec![
                ("src", json!(base.unwrap_or("/"))),
                ("dest", json!(copy.destination)),
                ("owner", owner(&copy.owner)),
                ("mode", json!(mode)),
                ("followSymlink", json!(copy.follow_symlinks)),
                ("dirCopyContents", json!(copy.copy_dir_contents)),
                ("attemptUnpackDockerCompatibility", json!(copy.unpack)),
                ("createDestPath", json!(copy.create_destination)),
                ("allowWildcard", json!(copy.wildcard)),
                ("allowEmptyWildcard", json!(copy.empty_wildcard)),
                ("timestamp", json!(-1)),
                ("include_patterns", json!(copy.include)),
                ("exclude_patterns", json!(copy.exclude)),
                ("modeStr", json!(text)),
                ("required_paths", json!(copy.required)),
            ])
        }
        ActionKind::MakeFile { path, mode, data } => object(vec![
            ("path", json!(path)),
            ("mode", json!(mode)),
            ("data", json!(String::from_utf8_lossy(data))),
            ("timestamp", json!(-1)),
        ]),
        ActionKind::MakeDir { path, mode, make_parents, owner: by, timestamp } => object(vec![
            ("path", json!(path)),
            ("mode", json!(mode)),
            ("makeParents", json!(make_parents)),
            ("owner", owner(by)),
            ("timestamp", json!(timestamp.unwrap_or(-1))),
        ]),
    }
}

fn mount(mount: &Mount) -> Value {
    let input = mount.input.map_or(-1, |input| input as i64);
    let mut fields = vec![
        ("input", json!(input)),
        ("dest", json!(mount.target)),
        ("readonly", json!(mount.readonly)),
    ];
    let skipped = !mount.output;
    match &mount.kind {
        MountKind::Bind => fields.push(("output", json!(if skipped { -1 } else { 0 }))),
        MountKind::Cache { id, sharing } => {
            let kept = *sharing == Sharing::Shared
                && id.split_once('/').is_some_and(|(_, rest)| rest == mount.target);
            let id = if kept { json!({"ID": id}) } else { json!({}) };
            fields.extend([("output", json!(-1)), ("mountType", json!(3)), ("cacheOpt", id)]);
        }
        MountKind::Tmpfs { size } => fields.extend([
            ("output", json!(-1)),
            ("mountType", json!(4)),
            ("TmpfsOpt", json!({"size": size})),
        ]),
        MountKind::Secret { id, uid, gid, mode, optional } => {
            let options = object(vec![
                ("ID", json!(id)),
                ("uid", json!(uid)),
                ("gid", json!(gid)),
                ("mode", json!(mode)),
                ("optional", json!(optional)),
            ]);
            fields.extend([("mountType", json!(1)), ("secretOpt", options)]);
        }
        MountKind::Ssh { .. } => panic!("no vector has an agent"),
    }
    object(fields)
}

fn run(run: &RunOp) -> Value {
    let env: Vec<_> = run.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let meta = object(vec![
        ("args", json!(run.args)),
        ("env", json!(env)),
        ("cwd", json!(run.cwd)),
        ("user", json!(run.user)),
        ("hostname", json!(run.hostname)),
        ("removeMountStubsRecursive", json!(true)),
    ]);
    let mounts: Vec<_> = match run.mounts.len() {
        1 => Vec::new(),
        _ => run.mounts.iter().map(mount).collect(),
    };
    let secrets = run.secret_env.iter().map(|secret| {
        object(vec![
            ("ID", json!(secret.id)),
            ("name", json!(secret.name)),
            ("optional", json!(secret.optional)),
        ])
    });
    let network = match run.network {
        Network::Default => 0,
        Network::Host => 1,
        Network::None => 2,
    };
    object(vec![
        ("meta", meta),
        ("mounts", json!(mounts)),
        ("network", json!(network)),
        ("secretenv", json!(secrets.collect::<Vec<_>>())),
    ])
}

fn value(step: &Step) -> Option<Value> {
    match &step.operation {
        Operation::Run(operation) => Some(json!({
            "Type": "buildkit.exec.v0",
            "Exec": run(operation),
            "OS": step.platform.os,
            "Arch": step.platform.architecture,
        })),
        Operation::Files(files) => {
            let index = |node: ActionInput| match node {
                ActionInput::Scratch => -1,
                ActionInput::Input(input) => input as i64,
                ActionInput::Action(action) => (step.inputs.len() + action) as i64,
            };
            let count = files.actions.len() as i64;
            let mut default = true;
            let mut indexes = Vec::new();
            for (at, item) in files.actions.iter().enumerate() {
                let at = at as i64;
                let second = match &item.kind {
                    ActionKind::Copy(copy) => index(copy.from),
                    _ => -1,
                };
                let first = index(item.base);
                default &= first == if at == 0 { 0 } else { count + at - 1 };
                default &= second == 1 || second == -1;
                let output = if at + 1 == count { 0 } else { -1 };
                indexes.push([first, second, output]);
            }
            let actions: Vec<_> = files.actions.iter().map(|item| action(&item.kind)).collect();
            let mut value = json!({"Type": "buildkit.file.v0", "Actions": actions});
            if !default {
                value["indexes"] = json!(indexes);
            }
            Some(value)
        }
        Operation::Merge => {
            let inputs = (0..step.inputs.len()).map(|input| object(vec![("input", json!(input))]));
            let inputs: Vec<_> = inputs.collect();
            Some(json!({"Type": "buildkit.merge.v0", "Merge": {"inputs": inputs}}))
        }
        _ => None,
    }
}

#[test]
fn operations_are_buildkits() {
    let vectors: Vectors =
        serde_json::from_str(include_str!("vectors/operations.json")).expect("a vector");
    let mut missing = vectors.operations.clone();
    let mut wrong = Vec::new();
    for (name, text) in &vectors.dockerfiles {
        let lowered = lower(text);
        for (_, step) in lowered.graph.steps() {
            let Some(value) = value(step) else { continue };
            missing.retain(|other| *other != value);
            if !vectors.operations.contains(&value) {
                wrong.push(format!("{name}: {}: {value}", step.name));
            }
        }
    }
    assert!(
        wrong.is_empty() && missing.is_empty(),
        "not BuildKit's:\n{}\nnot made:\n{}",
        wrong.join("\n"),
        missing.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
    );
}
