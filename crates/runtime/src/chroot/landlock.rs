//! Keeping a process, and all that it starts, inside a folder: Landlock (kernel 5.19 for renames between folders).
//!
//! It restricts what is opened by path from then on, whatever root the process makes itself; it also keeps the process
//! from tracing those outside, and from sending them signals (kernel 6.12). Descriptors that it has or is given stay
//! usable.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::sys::check;

/// All uses of a folder's files up to the second version of Landlock: execute, write, read, list, remove and make files of
/// all kinds, move them between folders.
const ALL: u64 = (1 << 14) - 1;
/// Cut to a length: since the third version.
const TRUNCATE: u64 = 1 << 14;
/// Connections to abstract sockets, and signals, of those outside: since the sixth version.
const SCOPED: u64 = 0b11;

/// The kernel's version of Landlock, 0 without it.
pub fn version() -> i64 {
    const VERSION: libc::c_ulong = 1;
    // SAFETY: with this flag the call reads no memory.
    let version = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION)
    });
    version.unwrap_or(0)
}

/// Keeps this process inside `folder`, as far as this kernel can. It must have given up new privileges.
pub fn confine_to(folder: impl AsFd) -> rustix::io::Result<()> {
    const PATH_BENEATH: libc::c_int = 1;

    #[repr(C)]
    struct Ruleset {
        files: u64,
        network: u64,
        scoped: u64,
    }
    #[repr(C, packed)]
    struct Beneath {
        allowed: u64,
        folder: i32,
    }

    // Without it, or with the first version, which forbids every move between folders, there is nothing to be had.
    let version @ 2.. = version() else { return Ok(()) };
    let files = if version >= 3 { ALL | TRUNCATE } else { ALL };
    let (scoped, size) = match version {
        6.. => (SCOPED, size_of::<Ruleset>()),
        // The structure began with one field.
        _ => (0, size_of::<u64>()),
    };
    let ruleset = Ruleset { files, network: 0, scoped };
    // SAFETY: the structure is laid out as the kernel's, and so much of it is passed as the kernel's version has.
    let set = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0)
    })?;
    // SAFETY: the kernel just made this descriptor for us.
    let set = unsafe { OwnedFd::from_raw_fd(set as i32) };
    let beneath = Beneath { allowed: files, folder: folder.as_fd().as_raw_fd() };
    // SAFETY: the structure is the kernel's, packed as there, and lives across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            set.as_raw_fd(),
            PATH_BENEATH,
            &raw const beneath,
            0,
        )
    })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, set.as_raw_fd(), 0) }).map(drop)
}
