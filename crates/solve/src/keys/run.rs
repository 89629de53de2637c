//! Keys of commands (BuildKit, `solver/llbsolver/ops/exec.go`).

use graph::{ContentPath, ContentQuery, Mount, MountKind, Network, RunOp, Security, Sharing};
use oci::Platform;
use serde::Serialize;

use super::{InputKey, StepKey, is_zero, json_record, selector};

#[derive(Serialize)]
struct ExecRecord<'a> {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Exec")]
    exec: Exec<'a>,
    #[serde(rename = "OS")]
    os: &'a str,
    #[serde(rename = "Arch")]
    arch: &'a str,
    #[serde(rename = "Variant", skip_serializing_if = "str::is_empty")]
    variant: &'a str,
    #[serde(rename = "OSVersion", skip_serializing_if = "str::is_empty")]
    os_version: &'a str,
    #[serde(rename = "OSFeatures", skip_serializing_if = "<[String]>::is_empty")]
    os_features: &'a [String],
}

#[derive(Serialize)]
struct Exec<'a> {
    meta: Meta<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<MountRecord<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    network: i64,
    #[serde(skip_serializing_if = "is_zero")]
    security: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secretenv: Vec<SecretEnvRecord<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    args: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    cwd: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extra_hosts: Vec<HostRecord<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    hostname: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ulimit: Vec<UlimitRecord<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    cgroup_parent: &'a str,
    /// The Dockerfile frontend always asks for it, from BuildKit 0.11 on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    remove_mount_stubs_recursive: bool,
}

/// The address is blank in keys.
#[derive(Serialize)]
struct HostRecord<'a> {
    #[serde(rename = "Host")]
    host: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct UlimitRecord<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    soft: i64,
    #[serde(skip_serializing_if = "is_zero")]
    hard: i64,
}

#[derive(Serialize)]
struct SecretEnvRecord<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct MountRecord<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    input: i64,
    dest: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    output: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    readonly: bool,
    #[serde(skip_serializing_if = "is_zero")]
    mount_type: i64,
    #[serde(rename = "TmpfsOpt", skip_serializing_if = "Option::is_none")]
    tmpfs: Option<TmpfsRecord>,
    #[serde(rename = "cacheOpt", skip_serializing_if = "Option::is_none")]
    cache: Option<CacheRecord<'a>>,
    #[serde(rename = "secretOpt", skip_serializing_if = "Option::is_none")]
    secret: Option<FileRecord<'a>>,
    #[serde(rename = "SSHOpt", skip_serializing_if = "Option::is_none")]
    ssh: Option<FileRecord<'a>>,
}

#[derive(Serialize)]
struct TmpfsRecord {
    #[serde(skip_serializing_if = "is_zero")]
    size: i64,
}

/// Sharing is never written: a mount that is not shared is blanked.
#[derive(Serialize)]
struct CacheRecord<'a> {
    #[serde(rename = "ID", skip_serializing_if = "str::is_empty")]
    id: &'a str,
}

#[derive(Serialize)]
struct FileRecord<'a> {
    #[serde(rename = "ID", skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    uid: i64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: i64,
    #[serde(skip_serializing_if = "is_zero")]
    mode: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
}

/// The key of a command on `inputs` inputs.
pub(super) fn key(run: &RunOp, platform: &Platform, inputs: usize) -> StepKey {
    let platform = platform.normalize();
    let meta = Meta {
        args: &run.args,
        env: run.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        cwd: &run.cwd,
        user: &run.user,
        extra_hosts: run.extra_hosts.iter().map(|(host, _)| HostRecord { host }).collect(),
        hostname: &run.hostname,
        ulimit: run
            .ulimits
            .iter()
            .map(|limit| UlimitRecord { name: &limit.name, soft: limit.soft, hard: limit.hard })
            .collect(),
        cgroup_parent: &run.cgroup_parent,
        remove_mount_stubs_recursive: true,
    };
    let exec = Exec {
        meta,
        mounts: mounts(&run.mounts),
        network: match run.network {
            Network::Default => 0,
            Network::Host => 1,
            Network::None => 2,
        },
        security: match run.security {
            Security::Sandbox => 0,
            Security::Insecure => 1,
        },
        secretenv: run
            .secret_env
            .iter()
            .map(|secret| SecretEnvRecord {
                id: &secret.id,
                name: &secret.name,
                optional: secret.optional,
            })
            .collect(),
    };
    let mut record = ExecRecord {
        kind: "buildkit.exec.v0",
        exec,
        os: &platform.os,
        arch: &platform.architecture,
        variant: &platform.variant,
        os_version: &platform.os_version,
        os_features: &platform.os_features,
    };
    let digests = vec![json_record(&record)];
    // Old keys know nothing of mounts: they say as much only where there are none.
    let says_all = record.exec.mounts.is_empty() && record.exec.secretenv.is_empty();
    record.exec.meta.remove_mount_stubs_recursive = false;
    StepKey {
        digests,
        old: says_all.then(|| json_record(&record)),
        inputs: (0..inputs).map(|input| input_key(&run.mounts, input)).collect(),
    }
}

/// A lone writable root is left out: old versions forgot mounts, and keys must stay.
fn mounts(mounts: &[Mount]) -> Vec<MountRecord<'_>> {
    match mounts {
        [root]
            if root.target == "/"
                && root.kind == MountKind::Bind
                && !root.readonly
                && matches!(root.selector.as_str(), "" | "/") =>
        {
            Vec::new()
        }
        mounts => mounts.iter().map(mount_record).collect(),
    }
}

fn mount_record(mount: &Mount) -> MountRecord<'_> {
    let file = |id, uid: u32, gid: u32, mode: u32, optional| FileRecord {
        id,
        uid: uid.into(),
        gid: gid.into(),
        mode: mode.into(),
        optional,
    };
    let record = MountRecord {
        input: mount.input.map_or(-1, |input| input as i64),
        dest: &mount.target,
        // Secrets and ssh are made without a word on output, which is output 0.
        output: match mount.kind {
            MountKind::Secret { .. } | MountKind::Ssh { .. } => 0,
            _ if mount.output => 0,
            _ => -1,
        },
        readonly: mount.readonly,
        ..MountRecord::default()
    };
    match &mount.kind {
        MountKind::Bind => record,
        MountKind::Cache { id, sharing } => {
            let id = if *sharing == Sharing::Shared && names_target(id, &mount.target) {
                id
            } else {
                ""
            };
            MountRecord { mount_type: 3, cache: Some(CacheRecord { id }), ..record }
        }
        MountKind::Tmpfs { size } => MountRecord {
            mount_type: 4,
            // An object also without a size, unlike what has nothing to say elsewhere.
            tmpfs: Some(TmpfsRecord { size: *size }),
            ..record
        },
        MountKind::Secret { id, uid, gid, mode, optional } => MountRecord {
            mount_type: 1,
            secret: Some(file(id, *uid, *gid, *mode, *optional)),
            ..record
        },
        MountKind::Ssh { id, uid, gid, mode, optional } => MountRecord {
            mount_type: 2,
            ssh: Some(file(id, *uid, *gid, *mode, *optional)),
            ..record
        },
    }
}

/// True if a cache mount's id is its target, or `<namespace>/<target>`.
fn names_target(id: &str, target: &str) -> bool {
    id == target || id.split_once('/').is_some_and(|(_, rest)| rest == target)
}

/// Selector of all mounts of an input; content only where the last one of them is read-only.
fn input_key(mounts: &[Mount], input: usize) -> InputKey {
    let of_input: Vec<&Mount> = mounts.iter().filter(|mount| mount.input == Some(input)).collect();
    let paths: Vec<String> = of_input.iter().map(|mount| rooted(&mount.selector)).collect();
    if paths.is_empty() {
        return InputKey::default();
    }
    let texts: Vec<&str> = paths.iter().map(String::as_str).collect();
    let by_content = of_input.last().is_some_and(|mount| {
        mount.target != "/" && (mount.readonly || !mount.output || rooted(&mount.selector) == "/")
    });
    InputKey { selector: Some(selector(&texts)), content: by_content.then(|| content(&texts)) }
}

fn rooted(path: &str) -> String {
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

/// Paths below another one of the list say nothing new; `/` says all.
fn content(paths: &[&str]) -> ContentQuery {
    if paths.contains(&"/") {
        return ContentQuery {
            paths: vec![ContentPath { path: "/".into(), ..ContentPath::default() }],
        };
    }
    let mut sorted = paths.to_vec();
    sorted.sort_unstable();
    let mut kept: Vec<&str> = Vec::new();
    for path in sorted {
        let covered = kept.iter().any(|kept| {
            path == *kept || path.strip_prefix(kept).is_some_and(|rest| rest.starts_with('/'))
        });
        if !covered {
            kept.push(path);
        }
    }
    ContentQuery {
        paths: kept
            .into_iter()
            .map(|path| ContentPath {
                path: path.into(),
                follow_links: true,
                ..ContentPath::default()
            })
            .collect(),
    }
}
