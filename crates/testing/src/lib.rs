//! For tests: a registry that can lie and fail.
//!
//! Receives what a test wants to go wrong; hands over servers on free loopback ports and a record
//! of what they were asked. Nothing here sleeps or leaves this machine.

#![forbid(unsafe_code)]

mod registry;
mod server;

pub use registry::{BearerRules, FakeRegistry, Fault, Seen, TlsFiles};
pub use server::{Answer, Asked, FakeServer};
