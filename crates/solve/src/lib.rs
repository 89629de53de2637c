//! What is already known and what must run.
//!
//! Receives a graph, a [`Cache`] of earlier builds' records and an [`Executor`]; hands over the
//! output that was asked for and what it learned of every step ([`Solved`]). Each step answers two
//! questions, each once: what is your key, and, only if somebody needs it, what is your output.
//! Invariant: no fault of a cache fails a build; a step whose record cannot be used runs, and of an
//! output whose layers are partly lost, only the steps run that made those.

#![forbid(unsafe_code)]

mod cache;
mod executor;
mod facts;
mod go_json;
mod keys;
mod report;
mod solver;

pub use cache::{Cache, FoundOutput, Link, NewRecord, RecordId};
pub use executor::{Blame, Executor, Fetch};
pub use facts::{InputFacts, Solved, StepFacts};
pub use keys::{
    InputKey, StepKey, chain_id, content_record, git_record, http_record, is_commit, record_digest,
    safe_file_name, step_key,
};
pub use report::Tasks;
pub use solver::{Shared, SolveError, Solver};
