//! What this machine lets a container have.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::identity::IdMapping;

/// How a process can be kept apart here, the strongest way first.
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
    /// In a plain folder as its root.
    Chroot(ChrootCapabilities),
    /// In place of the container that kiln itself runs in: its files are moved aside meanwhile.
    InPlace {
        /// What stays where it is, besides what is mounted: kiln's own files.
        kept: Vec<PathBuf>,
    },
    /// Not at all.
    Unavailable {
        /// What is missing, in words, with what grants it.
        reason: String,
    },
}

/// What a probing process could do with a plain folder as its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChrootCapabilities {
    /// Whether device files can be made and used.
    pub devices: bool,
    /// Whether `/proc` and `/sys` can be served, or what failed.
    pub supervised: Result<(), String>,
    /// The version of Landlock, 0 where there is none: the second keeps a command in its folder, the sixth also its
    /// signals.
    pub landlock: i64,
}

/// What a probing process could do in namespaces.
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

/// What each common platform must be told so that commands can run.
pub const ADVICE: &str = "\
one of these allows it:
  Docker      run it as root with docker's own capabilities, or with --security-opt seccomp=unconfined
              (and --security-opt apparmor=unconfined where there is AppArmor)
  Kubernetes  securityContext: {runAsUser: 0, capabilities: {add: [SYS_CHROOT, SETUID, SETGID, CHOWN, DAC_OVERRIDE,
              FOWNER, FSETID, KILL]}}, or hostUsers: false in the pod, or seccompProfile: {type: Unconfined}
  OpenShift   the SCC `anyuid` for the pod's service account, and the capability SYS_CHROOT; or the SCC
              `nested-container` (4.19) with hostUsers: false
  GitLab      docker executor: an image whose user is root; kubernetes executor:
              [runners.kubernetes.build_container_security_context] with run_as_user = 0 and SYS_CHROOT added
  anywhere    --isolation=in-place, as root in a container that is for this build alone";

/// As it is said at the start of a build: the way, and what is missing for a better one.
impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Isolation::Namespaces { capabilities, .. } => match &capabilities.overlay {
                Ok(()) => f.write_str("namespaces"),
                Err(_) => f.write_str("namespaces, on plain folders (no overlay here)"),
            },
            Isolation::Chroot(found) => {
                f.write_str("chroot (no unshare, no mount)")?;
                match &found.supervised {
                    Ok(()) => Ok(()),
                    Err(reason) => write!(f, ", without /proc and /sys: {reason}"),
                }
            }
            Isolation::InPlace { .. } => {
                f.write_str("in-place (the container's own files are aside meanwhile)")
            }
            Isolation::Unavailable { reason } => f.write_str(reason),
        }
    }
}
