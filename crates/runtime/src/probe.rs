//! What this machine lets a container have.

use serde::{Deserialize, Serialize};

use crate::identity::IdMapping;

/// How a process can be kept apart here. Weaker ways (a plain chroot, in place) are not built.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Isolation {
    /// In namespaces of its own, on overlays.
    Namespaces {
        /// The ids that a container can use.
        ids: IdMapping,
        /// The rest of what was found.
        capabilities: Capabilities,
    },
    /// Not at all.
    Unavailable {
        /// What is missing, in words, with what grants it.
        reason: String,
    },
}

/// What a probing process could do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Whether overlays must keep their marks in `user.overlay.*`.
    pub userxattr: bool,
    /// Whether an overlay on the state directory's file system works, or what failed.
    pub overlay: Result<(), String>,
    /// Whether a container gets its own `/proc`; else it sees the host's.
    pub fresh_proc: bool,
    /// Whether a container gets its own `/sys`; else it sees the host's, read-only.
    pub fresh_sys: bool,
    /// Whether a container can have no network.
    pub own_network: bool,
}
