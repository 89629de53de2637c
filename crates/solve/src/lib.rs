//! Decides which steps are known and which must run.
//!
//! Receives a graph, a [`Cache`] of earlier builds' records and an [`Executor`]; hands over the
//! requested output and the facts about each step ([`Solved`]). Each step has two answers, each
//! computed once: its key and, only on demand, its output. Invariant: no fault of a cache fails a
//! build. A step whose record cannot be used runs, and of an output whose layers are partly lost,
//! only the steps run that made those.

#![forbid(unsafe_code)]

mod cache;
mod executor;
mod facts;
mod go_json;
mod keys;
mod report;
mod solver;

pub use cache::{Cache, FoundOutput, Link, NewRecord, RecordId};
pub use executor::{Blame, Executor, Fetch, StepTurn};
pub use facts::{InputFacts, Solved, StepFacts};
pub use keys::{
    InputKey, StepKey, chain_id, content_record, git_record, http_record, is_commit, record_digest,
    safe_file_name, step_key,
};
pub use report::Tasks;
pub use solver::{SharedOutputs, SolveError, Solver};
