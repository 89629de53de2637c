//! From a Dockerfile's text to a graph: resolving bases, lowering, and the questions that need no
//! build.

pub(crate) mod bases;
pub(crate) mod checking;
mod client_policy;
mod oci_layouts;
