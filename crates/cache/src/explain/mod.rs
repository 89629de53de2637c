//! Why a step ran: the parts of its key in words, compared with those of earlier steps.
//!
//! A record has digests alone. Builds therefore keep [`Fact`]s of their steps, on this machine and in
//! the sidecars of the caches that they write; a later build finds the nearest fact and reports the
//! difference. Facts are for display and decide nothing. Possible secrets are digests in them.

mod difference;
mod fact;
mod keep;
mod parts;

pub use difference::{Difference, Why, why};
pub use fact::{Fact, FileFact, InputFact};
pub(crate) use keep::addition;
pub use keep::{FactBook, LocalFacts, read_sidecar_facts};
pub use parts::looks_secret;
