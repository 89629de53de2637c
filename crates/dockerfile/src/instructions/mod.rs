//! One module for each group of instructions: from a statement to its parts.

pub(crate) mod command;
pub(crate) mod copy;
pub(crate) mod from;
pub(crate) mod healthcheck;
pub(crate) mod metadata;
pub(crate) mod mount;
pub(crate) mod onbuild;
pub(crate) mod run;
pub(crate) mod variables;
