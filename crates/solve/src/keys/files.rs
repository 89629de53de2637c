//! Keys of file operations (BuildKit, `solver/llbsolver/ops/file.go`).

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use graph::{
    Action, ActionInput, ActionKind, ChmodMode, ContentPath, ContentQuery, CopyAction, FilesOp,
    Owner, OwnerName,
};
use serde::Serialize;

use super::{InputKey, StepKey, json_record, selector};
use crate::go_json;

#[derive(Serialize)]
struct FilesRecord {
    #[serde(rename = "Type")]
    kind: &'static str,
    /// Each action's JSON in base64, as Go writes `[][]byte`.
    #[serde(rename = "Actions")]
    actions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    indexes: Option<Vec<[i64; 3]>>,
}

#[derive(Serialize)]
struct CopyRecord<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    src: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    dest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<OwnerRecord<'a>>,
    #[serde(skip_serializing_if = "super::is_zero")]
    mode: i64,
    #[serde(rename = "followSymlink", skip_serializing_if = "is_false")]
    follow_symlink: bool,
    #[serde(rename = "dirCopyContents", skip_serializing_if = "is_false")]
    dir_copy_contents: bool,
    #[serde(rename = "attemptUnpackDockerCompatibility", skip_serializing_if = "is_false")]
    unpack: bool,
    #[serde(rename = "createDestPath", skip_serializing_if = "is_false")]
    create_dest_path: bool,
    #[serde(rename = "allowWildcard", skip_serializing_if = "is_false")]
    allow_wildcard: bool,
    #[serde(rename = "allowEmptyWildcard", skip_serializing_if = "is_false")]
    allow_empty_wildcard: bool,
    #[serde(skip_serializing_if = "super::is_zero")]
    timestamp: i64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    include_patterns: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    exclude_patterns: &'a [String],
    #[serde(rename = "alwaysReplaceExistingDestPaths", skip_serializing_if = "is_false")]
    always_replace: bool,
    #[serde(rename = "modeStr", skip_serializing_if = "str::is_empty")]
    mode_str: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    required_paths: &'a [String],
}

#[derive(Serialize)]
struct MakeFileRecord<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'a str,
    #[serde(skip_serializing_if = "super::is_zero")]
    mode: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
    #[serde(skip_serializing_if = "super::is_zero")]
    timestamp: i64,
}

#[derive(Serialize)]
struct MakeDirRecord<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'a str,
    #[serde(skip_serializing_if = "super::is_zero")]
    mode: i64,
    #[serde(rename = "makeParents", skip_serializing_if = "is_false")]
    make_parents: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<OwnerRecord<'a>>,
    #[serde(skip_serializing_if = "super::is_zero")]
    timestamp: i64,
}

#[derive(Serialize)]
struct OwnerRecord<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserRecord<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<UserRecord<'a>>,
}

#[derive(Serialize)]
struct UserRecord<'a> {
    #[serde(rename = "User")]
    user: NameRecord<'a>,
}

/// Number 0 is `{}`. Up to BuildKit 0.16 numbers had another name, and an input of 0 was written.
#[derive(Serialize)]
enum NameRecord<'a> {
    #[serde(rename = "byName")]
    Name {
        #[serde(skip_serializing_if = "str::is_empty")]
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        input: Option<i64>,
    },
    #[serde(rename = "byId")]
    Id(i64),
    #[serde(rename = "byID")]
    OldId(i64),
    #[serde(untagged)]
    Zero {},
}

/// The BuildKit version whose JSON a key is computed from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// BuildKit 0.18 and later.
    Today,
    /// BuildKit 0.8, as in Docker 20.10.
    Old,
}

/// The key of file changes on `inputs` inputs.
pub(super) fn key(files: &FilesOp, inputs: usize) -> StepKey {
    let today = record(files, inputs, Dialect::Today);
    let digest = json_record(&today);
    // Old keys have no indexes: where today's have some, they could be those of another step.
    let old = match today.indexes {
        None => Some(json_record(&record(files, inputs, Dialect::Old))),
        Some(_) => None,
    };
    let old = old.filter(|old| *old != digest);
    StepKey { digests: vec![digest], old, inputs: input_keys(files, inputs) }
}

fn record(files: &FilesOp, inputs: usize, dialect: Dialect) -> FilesRecord {
    let node = |node: ActionInput| match node {
        ActionInput::Scratch => -1,
        ActionInput::Input(index) => index as i64,
        ActionInput::Action(index) => (inputs + index) as i64,
    };
    let last = files.actions.len().saturating_sub(1);
    let actions = files
        .actions
        .iter()
        .map(|action| STANDARD.encode(action_json(action, &node, dialect)))
        .collect();
    let indexes: Vec<[i64; 3]> = files
        .actions
        .iter()
        .enumerate()
        .map(|(index, action)| {
            let secondary = match &action.kind {
                ActionKind::Copy(copy) => node(copy.from),
                ActionKind::MakeFile { .. } | ActionKind::MakeDir { .. } => -1,
            };
            [node(action.base), secondary, if index == last { 0 } else { -1 }]
        })
        .collect();
    FilesRecord {
        kind: "buildkit.file.v0",
        actions,
        indexes: (!is_default(&indexes)).then_some(indexes),
    }
}

/// Old versions wrote no indexes; the commonest shape still has none. That it counts actions
/// where it means inputs is BuildKit's.
fn is_default(indexes: &[[i64; 3]]) -> bool {
    let actions = indexes.len() as i64;
    indexes.iter().zip(0..).all(|([base, secondary, output], at)| {
        let expected_base = if at == 0 { 0 } else { actions + at - 1 };
        let expected_output = if at == actions - 1 { 0 } else { -1 };
        *base == expected_base && matches!(secondary, -1 | 1) && *output == expected_output
    })
}

fn action_json(action: &Action, node: &impl Fn(ActionInput) -> i64, dialect: Dialect) -> Vec<u8> {
    match &action.kind {
        ActionKind::Copy(copy) => go_json::to_vec(&copy_record(copy, node, dialect)),
        ActionKind::MakeFile { path, mode, data } => go_json::to_vec(&MakeFileRecord {
            path,
            mode: (*mode).into(),
            data: STANDARD.encode(data),
            timestamp: -1,
        }),
        ActionKind::MakeDir { path, mode, make_parents, owner, timestamp } => {
            go_json::to_vec(&MakeDirRecord {
                path,
                mode: (*mode).into(),
                make_parents: *make_parents,
                owner: owner.as_ref().map(|owner| owner_record(owner, node, dialect)),
                timestamp: timestamp.unwrap_or(-1),
            })
        }
    }
}

fn copy_record<'a>(
    copy: &'a CopyAction,
    node: &impl Fn(ActionInput) -> i64,
    dialect: Dialect,
) -> CopyRecord<'a> {
    let (mode, mode_str) = match &copy.mode {
        None => (-1, ""),
        Some(ChmodMode::Octal(mode)) => (i64::from(*mode), ""),
        Some(ChmodMode::Symbolic(text)) => (0, text.as_str()),
    };
    CopyRecord {
        // The whole path is in the selector, where the source is an input.
        src: if matches!(copy.from, ActionInput::Input(_)) {
            base_name(&copy.source)
        } else {
            &copy.source
        },
        dest: &copy.destination,
        owner: copy.owner.as_ref().map(|owner| owner_record(owner, node, dialect)),
        mode,
        follow_symlink: copy.follow_symlinks,
        dir_copy_contents: copy.copy_dir_contents,
        unpack: copy.unpack,
        create_dest_path: copy.create_destination,
        allow_wildcard: copy.wildcard,
        allow_empty_wildcard: copy.empty_wildcard,
        timestamp: -1,
        include_patterns: &copy.include,
        exclude_patterns: &copy.exclude,
        always_replace: copy.replace_existing,
        mode_str,
        required_paths: &copy.required,
    }
}

fn owner_record<'a>(
    owner: &'a Owner,
    node: &impl Fn(ActionInput) -> i64,
    dialect: Dialect,
) -> OwnerRecord<'a> {
    let user = |name: &'a OwnerName| UserRecord {
        user: match (name, dialect) {
            (OwnerName::Id(0), _) => NameRecord::Zero {},
            (OwnerName::Id(id), Dialect::Today) => NameRecord::Id((*id).into()),
            (OwnerName::Id(id), Dialect::Old) => NameRecord::OldId((*id).into()),
            (OwnerName::Name { name, input }, _) => {
                let input = node(*input);
                let is_written = input != 0 || dialect == Dialect::Old;
                NameRecord::Name { name, input: is_written.then_some(input) }
            }
        },
    };
    OwnerRecord { user: owner.user.as_ref().map(user), group: owner.group.as_ref().map(user) }
}

/// Go's `path.Base`.
fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        _ if path.is_empty() => ".",
        _ if trimmed.is_empty() => "/",
        Some((_, name)) => name,
        None => trimmed,
    }
}

/// Inputs that are changed count by their key alone; inputs that are read count by selector or
/// by content.
fn input_keys(files: &FilesOp, inputs: usize) -> Vec<InputKey> {
    let mut changed = BTreeSet::new();
    let mut read: BTreeMap<usize, Vec<ContentPath>> = BTreeMap::new();
    for action in &files.actions {
        if let ActionInput::Input(input) = action.base {
            changed.insert(input);
        }
        let owner = match &action.kind {
            ActionKind::Copy(copy) => copy.owner.as_ref(),
            ActionKind::MakeDir { owner, .. } => owner.as_ref(),
            ActionKind::MakeFile { .. } => None,
        };
        let names = owner.into_iter().flat_map(|owner| {
            [(owner.user.as_ref(), "/etc/passwd"), (owner.group.as_ref(), "/etc/group")]
        });
        for (name, path) in names {
            if let Some(OwnerName::Name { input: ActionInput::Input(input), .. }) = name {
                read.entry(*input).or_default().push(ContentPath {
                    path: path.into(),
                    follow_links: true,
                    ..ContentPath::default()
                });
            }
        }
        if let ActionKind::Copy(copy) = &action.kind
            && let ActionInput::Input(input) = copy.from
        {
            read.entry(input).or_default().push(ContentPath {
                path: copy.source.clone(),
                wildcard: copy.wildcard && has_wildcard(&copy.source),
                follow_links: copy.follow_symlinks,
                include: copy.include.clone(),
                exclude: copy.exclude.clone(),
                required: copy.required.clone(),
            });
        }
    }
    let key = |input| match read.get(&input) {
        Some(paths) if !changed.contains(&input) => {
            let mut texts: Vec<&str> = paths.iter().map(|path| path.path.as_str()).collect();
            texts.sort_unstable_by(|a, b| b.cmp(a));
            InputKey {
                selector: Some(selector(&texts)),
                content: Some(ContentQuery { paths: deduplicated(paths) }),
            }
        }
        _ => InputKey::default(),
    };
    (0..inputs).map(key).collect()
}

/// Plain paths below another one say nothing new; paths with wildcards or filters all stay.
fn deduplicated(paths: &[ContentPath]) -> Vec<ContentPath> {
    let filtered =
        |path: &ContentPath| path.wildcard || !path.include.is_empty() || !path.exclude.is_empty();
    let mut kept: Vec<ContentPath> = Vec::new();
    for follow_links in [false, true] {
        let plain =
            paths.iter().filter(|path| !filtered(path) && path.follow_links == follow_links);
        let names: BTreeSet<&str> = plain.map(|path| path.path.as_str()).collect();
        let below = |name: &str, other: &str| {
            name != other
                && name
                    .strip_prefix(other)
                    .is_some_and(|rest| other.ends_with('/') || rest.starts_with('/'))
        };
        let alone = names.iter().filter(|name| !names.iter().any(|other| below(name, other)));
        kept.extend(alone.map(|name| ContentPath {
            path: (*name).into(),
            follow_links,
            ..ContentPath::default()
        }));
    }
    kept.extend(paths.iter().filter(|path| filtered(path)).cloned());
    kept.sort_by(|a, b| a.path.cmp(&b.path));
    kept
}

/// True if a path has a wildcard without a backslash before it.
fn has_wildcard(path: &str) -> bool {
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '*' | '?' | '[' => return true,
            _ => (),
        }
    }
    false
}

fn is_false(flag: &bool) -> bool {
    !flag
}
