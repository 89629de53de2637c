//! Cache keys, byte for byte those of BuildKit v0.18 and later (`solver/llbsolver/ops/*.go`, and
//! `rootKey` in `solver/cachemanager.go`). `tests/vectors/cache-keys` has recorded ones.

mod files;
mod run;
mod source;

pub use source::{chain_id, git_record, http_record, is_commit, safe_file_name};

use graph::{ContentQuery, Operation, Step};
use oci::Digest;
use serde::Serialize;

use crate::go_json;

/// The parts of a step's key, without its inputs' keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepKey {
    /// Record digests of the operation, any of which a record of it may have. More than one for
    /// images (manifest and layers); none for local files, which only their content names.
    pub digests: Vec<Digest>,
    /// The digest that BuildKit 0.8 (Docker 20.10) gives its records, where it is another one and
    /// says as much. There a link to a command's root names no part.
    pub old: Option<Digest>,
    /// The inputs' parts, in the step's order.
    pub inputs: Vec<InputKey>,
}

/// An input's part of a step's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputKey {
    /// The part of the input that is read, for links to the input's own key.
    pub selector: Option<Digest>,
    /// The content that is read, where it may replace the input's key.
    pub content: Option<ContentQuery>,
}

/// The key of a step.
pub fn step_key(step: &Step) -> StepKey {
    match &step.operation {
        Operation::Image(source) => StepKey {
            digests: source::image(source).into_iter().map(record_digest).collect(),
            old: None,
            inputs: Vec::new(),
        },
        Operation::Local(_) => StepKey { digests: Vec::new(), old: None, inputs: Vec::new() },
        Operation::Http(source) => StepKey {
            digests: source::pinned_http(source).map(record_digest).into_iter().collect(),
            old: None,
            inputs: Vec::new(),
        },
        Operation::Git(source) => StepKey {
            digests: source::pinned_git(source).map(record_digest).into_iter().collect(),
            old: None,
            inputs: Vec::new(),
        },
        Operation::Run(run) => run::key(run, &step.platform, step.inputs.len()),
        Operation::Files(files) => files::key(files, step.inputs.len()),
        Operation::Merge => merge(step.inputs.len()),
    }
}

/// Digest of the record of an operation's first output: of the text `D@0`.
pub fn record_digest(operation: Digest) -> Digest {
    Digest::of(format!("{operation}@0"))
}

/// Digest of the record that stands for content: of the text `C@-1`.
pub fn content_record(content: Digest) -> Digest {
    Digest::of(format!("{content}@-1"))
}

/// Selector of paths that are read together.
fn selector(paths: &[&str]) -> Digest {
    Digest::of(paths.join("\0"))
}

fn merge(inputs: usize) -> StepKey {
    #[derive(Serialize)]
    struct MergeRecord {
        #[serde(rename = "Type")]
        kind: &'static str,
        #[serde(rename = "Merge")]
        merge: Merge,
    }
    #[derive(Serialize)]
    struct Merge {
        inputs: Vec<Input>,
    }
    #[derive(Serialize)]
    struct Input {
        #[serde(skip_serializing_if = "is_zero")]
        input: i64,
    }
    let record = MergeRecord {
        kind: "buildkit.merge.v0",
        merge: Merge { inputs: (0..inputs).map(|index| Input { input: index as i64 }).collect() },
    };
    let digests = vec![json_record(&record)];
    StepKey { digests, old: None, inputs: vec![InputKey::default(); inputs] }
}

fn json_record(record: &impl Serialize) -> Digest {
    record_digest(Digest::of(go_json::to_vec(record)))
}

// The `&` is what serde's `skip_serializing_if` calls with.
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
