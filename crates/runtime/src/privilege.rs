//! The privilege of this process on this machine.

use std::fs;
use std::io;

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::id_mapping::{IdMapping, IdRange};

/// The rights of a process, from the most to the fewest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Root with CAP_SYS_ADMIN, outside any user namespace.
    Root,
    /// Root with CAP_SYS_ADMIN in a user namespace: overlays need `userxattr`.
    NamespaceRoot {
        /// The ids of the namespace.
        ids: IdMapping,
    },
    /// Root of an ordinary container: may give files to others and become others, but not mount.
    Confined {
        /// The failure of a user namespace, once one has been tried.
        refused: Option<UsernsError>,
    },
    /// Any other user: layers cannot be unpacked with their owners, and nothing can be mounted.
    User {
        /// The failure of a user namespace, once one has been tried.
        refused: Option<UsernsError>,
    },
}

impl Privilege {
    /// The privilege of this process now.
    pub fn of_process() -> Privilege {
        let capable = rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        let is_root = rustix::process::geteuid().is_root();
        match (is_root, capable, in_initial_user_namespace()) {
            (true, true, true) => Privilege::Root,
            (true, true, false) => Privilege::NamespaceRoot { ids: own_mapping() },
            (true, false, _) if has_file_rights() => Privilege::Confined { refused: None },
            _ => Privilege::User { refused: None },
        }
    }
}

/// The reason that this process could not become root of a user namespace. Travels from the child that tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum UsernsError {
    /// An argument of the program cannot be passed on.
    #[error("an argument with a zero byte")]
    ZeroByte,
    /// The process has several threads, and a fork would have one of them.
    #[error("a user namespace can only be entered before there are threads")]
    Threads,
    /// The kernel's table of user namespaces is full, or may not have any.
    #[error("make a user namespace: sysctl user.max_user_namespaces allows no more")]
    TooMany,
    /// The kernel refuses a user namespace.
    #[error("make a user namespace: {} (is it refused by seccomp?)", kernel(.errno))]
    Namespace {
        /// The kernel's answer.
        errno: i32,
    },
    /// The namespace did not get its users and groups.
    #[error("no ids for the user namespace")]
    NoIds,
    /// A user namespace gives no rights here.
    #[error(
        "mount in a user namespace: {} (on Ubuntu: kernel.apparmor_restrict_unprivileged_userns)",
        kernel(.errno)
    )]
    Mount {
        /// The kernel's answer.
        errno: i32,
    },
    /// Another step failed.
    #[error("{step}: {}", kernel(.errno))]
    Step {
        /// The step.
        step: String,
        /// The kernel's answer.
        errno: i32,
    },
}

/// The kernel's answer in words.
fn kernel(errno: &i32) -> io::Error {
    io::Error::from_raw_os_error(*errno)
}

/// True if this process may do with files and users what a layer asks for.
pub(crate) fn has_file_rights() -> bool {
    let needed = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// True in the machine's first user namespace, whose inode number is fixed (`PROC_USER_INIT_INO`).
pub(crate) fn in_initial_user_namespace() -> bool {
    const PROC_USER_INIT_INO: &str = "user:[4026531837]";
    fs::read_link("/proc/self/ns/user").is_ok_and(|name| name.as_os_str() == PROC_USER_INIT_INO)
}

/// The ids of this process's user namespace.
pub(crate) fn own_mapping() -> IdMapping {
    let ranges = |file| IdRange::parse_map(&fs::read_to_string(file).unwrap_or_default());
    IdMapping { uids: ranges("/proc/self/uid_map"), gids: ranges("/proc/self/gid_map") }
}
