//! Streams of processes to clients and back.

mod detach;
mod frames;
mod hijack;

pub(crate) use detach::DetachKeys;
pub(crate) use frames::{frame, media_type};
pub(crate) use hijack::{Carried, Hijack};
