//! One build from start to finish.
//!
//! Receives a [`Request`] and a host (store, registry client, runtime, events); hands over an
//! [`Outcome`] or an error that names the lines of the Dockerfile.

#![forbid(unsafe_code)]

mod outcome;
mod request;

pub use outcome::{BuiltImage, Outcome, Traffic};
pub use request::{
    ArchiveOutput, CacheFrom, CacheMode, CacheTarget, CacheTo, Context, Destination,
    DockerfileSource, ImageFormat, ImageOutput, NamedContext, NoCache, Output, Request, Secret,
};
