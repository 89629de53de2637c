//! Test servers: a registry with faults, and a server with scripted answers.
//!
//! Receives the faults that a test wants; hands over servers on free loopback ports and a record of
//! their requests. Nothing here sleeps or leaves this machine.

#![forbid(unsafe_code)]

mod registry;
mod server;

pub use registry::{BearerRules, FakeRegistry, Fault, Seen, TlsFiles};
pub use server::{Answer, Asked, FakeServer};
