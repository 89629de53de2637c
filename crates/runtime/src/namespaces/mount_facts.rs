//! The facts that mounting depends on.

use crate::sys::MountAttributes;

/// The facts that mounting depends on.
pub struct MountFacts {
    /// A folder in memory, gone with the mount namespace.
    pub scratch: String,
    /// True if the container is confined.
    pub sandbox: bool,
    /// True if a cgroup keeps the container from the host's devices.
    pub guarded: bool,
    /// True if `/sys/fs/cgroup` is cgroup v2 and the container has its own view of it.
    pub unified_cgroups: bool,
}

impl MountFacts {
    /// True if device files must not work in folders that the container can write to: its root user can make any.
    pub fn without_devices(&self) -> bool {
        self.sandbox && !self.guarded
    }

    /// The attribute that makes device files not work, where it is needed.
    pub fn nodev(&self) -> MountAttributes {
        if self.without_devices() { MountAttributes::NODEV } else { MountAttributes::NONE }
    }
}

/// True if the host's `/sys/fs/cgroup` is cgroup v2 alone.
pub fn unified_cgroups() -> bool {
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|found| found.f_type == CGROUP2_SUPER_MAGIC)
}
