//! Why a step ran: what its key is made of, in words, beside what earlier steps' keys were made
//! of.
//!
//! A record says no more of a step than digests. So builds keep [`Fact`]s of their steps, on this
//! machine and beside the caches that they write, and a later build finds the nearest one of them
//! and says what differs. Facts never decide anything: they are words for people. What could be a
//! secret is in them as a digest alone.

mod difference;
mod fact;
mod keep;
mod parts;

pub use difference::{Difference, Why, why};
pub use fact::{Fact, FileFact, InputFact};
pub(crate) use keep::addition;
pub use keep::{FactBook, LocalFacts, read_beside};
pub use parts::looks_secret;
