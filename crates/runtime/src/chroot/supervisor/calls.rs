//! The system calls that are looked at, and their arguments.

use rustix::fs::OFlags;

/// The calls that are looked at: those that name a path, and those that reach another process.
pub fn calls() -> Vec<i64> {
    vec![
        libc::SYS_openat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_readlinkat,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_openat2,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_statfs,
        libc::SYS_symlinkat,
        libc::SYS_getxattr,
        libc::SYS_lgetxattr,
        libc::SYS_listxattr,
        libc::SYS_llistxattr,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_uname,
        libc::SYS_chdir,
        libc::SYS_fchmodat,
        FCHMODAT2,
        libc::SYS_fchownat,
        libc::SYS_linkat,
        libc::SYS_chroot,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_stat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_lstat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_access,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_readlink,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_symlink,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chown,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_lchown,
    ]
}

/// The calls that begin to trace a process, by their first argument. What is done with one that is traced already is its
/// tracer's affair.
pub fn tracing_calls() -> Vec<(i64, u32)> {
    vec![(libc::SYS_ptrace, libc::PTRACE_ATTACH), (libc::SYS_ptrace, libc::PTRACE_SEIZE)]
}

/// The process that a call reaches into; none if it reaches into none.
pub(super) fn reached(call: i64, args: &[u64; 6]) -> Option<i32> {
    match call {
        libc::SYS_ptrace => Some(args[1] as i32),
        libc::SYS_process_vm_readv | libc::SYS_process_vm_writev => Some(args[0] as i32),
        _ => None,
    }
}

/// The same number on all machines (kernel 6.6).
const FCHMODAT2: i64 = 452;

/// The request of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Open {
        flags: OFlags,
        mode: u32,
    },
    /// The flags are at this address.
    OpenHow {
        how: u64,
    },
    Stat {
        buffer: u64,
        follow: bool,
    },
    Statx {
        buffer: u64,
        follow: bool,
        mask: u32,
    },
    ReadLink {
        buffer: u64,
        size: u64,
    },
    Access {
        mode: u32,
    },
    Execute,
    StatFs {
        buffer: u64,
    },
    /// A change of the folder around, and with another path of the folder around that.
    Change {
        other: Option<(Option<i32>, u64)>,
    },
    /// To be in a folder.
    Enter,
    SetMode {
        mode: u32,
        follow: bool,
    },
    SetOwner {
        uid: u32,
        gid: u32,
        follow: bool,
    },
    /// The value of the attribute whose name is at this address.
    Attribute {
        name: u64,
        buffer: u64,
        size: u64,
        follow: bool,
    },
    /// The names of all attributes.
    Attributes {
        buffer: u64,
        size: u64,
        follow: bool,
    },
    SetAttribute {
        name: u64,
        value: u64,
        size: u64,
        flags: u32,
        follow: bool,
    },
    /// Another name, relative to the folder, for what a link in `/proc` leads to: how a file without a name gets one.
    Name {
        folder: Option<i32>,
        path: u64,
    },
    /// The target's text is at this address.
    Link {
        target: u64,
    },
}

impl Wish {
    /// True if a link at the path's end is followed.
    pub(super) fn follows(self) -> bool {
        match self {
            Wish::Open { flags, .. } => !flags.contains(OFlags::NOFOLLOW),
            Wish::Stat { follow, .. }
            | Wish::Statx { follow, .. }
            | Wish::SetMode { follow, .. }
            | Wish::SetOwner { follow, .. }
            | Wish::Attribute { follow, .. }
            | Wish::Attributes { follow, .. }
            | Wish::SetAttribute { follow, .. } => follow,
            Wish::ReadLink { .. } | Wish::Link { .. } | Wish::Change { .. } => false,
            Wish::OpenHow { .. }
            | Wish::Access { .. }
            | Wish::Execute
            | Wish::StatFs { .. }
            | Wish::Enter
            | Wish::Name { .. } => true,
        }
    }

    /// The same wish, for a path that ends with a slash: what a link there leads to is meant.
    pub(super) fn of_folder(mut self) -> Wish {
        match &mut self {
            Wish::Open { flags, .. } => flags.remove(OFlags::NOFOLLOW),
            Wish::Stat { follow, .. }
            | Wish::Statx { follow, .. }
            | Wish::SetMode { follow, .. }
            | Wish::SetOwner { follow, .. }
            | Wish::Attribute { follow, .. }
            | Wish::Attributes { follow, .. }
            | Wish::SetAttribute { follow, .. } => *follow = true,
            _ => {}
        }
        self
    }

    /// True if it changes something at the path.
    pub(super) fn writes(self) -> bool {
        match self {
            Wish::Open { flags, .. } => {
                flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)
            }
            Wish::Change { .. }
            | Wish::Link { .. }
            | Wish::SetMode { .. }
            | Wish::SetOwner { .. }
            | Wish::SetAttribute { .. } => true,
            _ => false,
        }
    }

    /// A second path that is written to.
    pub(super) fn other(self) -> Option<(Option<i32>, u64)> {
        match self {
            Wish::Change { other } => other,
            Wish::Name { folder, path } => Some((folder, path)),
            _ => None,
        }
    }
}

/// A call that names a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// The descriptor that a relative path begins at; none is the working directory.
    pub(super) folder: Option<i32>,
    /// The address of the path in memory.
    pub(super) path: u64,
    pub(super) wish: Wish,
}

impl Call {
    /// Reads the arguments of a call; none for one that names no path after all.
    pub(super) fn of(call: i64, args: &[u64; 6]) -> Option<Call> {
        let at = |index: usize| {
            let fd = args[index] as i32;
            (fd != libc::AT_FDCWD).then_some(fd)
        };
        let flag = |index: usize, flag: i32| args[index] as i32 & flag != 0;
        let open = |index: usize| Wish::Open {
            flags: OFlags::from_bits_retain(args[index] as u32),
            mode: args[index + 1] as u32,
        };
        let here = |path: usize, wish| Call { folder: None, path: args[path], wish };
        let there = |wish| Call { folder: at(0), path: args[1], wish };
        let follow = |index| !flag(index, libc::AT_SYMLINK_NOFOLLOW);
        let owner = |index: usize, follow| Wish::SetOwner {
            uid: args[index] as u32,
            gid: args[index + 1] as u32,
            follow,
        };
        #[cfg(target_arch = "x86_64")]
        match call {
            libc::SYS_open => return Some(here(0, open(1))),
            libc::SYS_stat => return Some(here(0, Wish::Stat { buffer: args[1], follow: true })),
            libc::SYS_lstat => return Some(here(0, Wish::Stat { buffer: args[1], follow: false })),
            libc::SYS_access => return Some(here(0, Wish::Access { mode: args[1] as u32 })),
            libc::SYS_readlink => {
                return Some(here(0, Wish::ReadLink { buffer: args[1], size: args[2] }));
            }
            libc::SYS_symlink => return Some(here(1, Wish::Link { target: args[0] })),
            libc::SYS_mkdir | libc::SYS_rmdir | libc::SYS_unlink | libc::SYS_mknod => {
                return Some(here(0, Wish::Change { other: None }));
            }
            libc::SYS_creat => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
                return Some(here(0, Wish::Open { flags, mode: args[1] as u32 }));
            }
            libc::SYS_chmod => {
                return Some(here(0, Wish::SetMode { mode: args[1] as u32, follow: true }));
            }
            libc::SYS_chown => return Some(here(0, owner(1, true))),
            libc::SYS_lchown => return Some(here(0, owner(1, false))),
            libc::SYS_rename | libc::SYS_link => {
                return Some(here(0, Wish::Change { other: Some((None, args[1])) }));
            }
            _ => {}
        }
        Some(match call {
            libc::SYS_openat => there(open(2)),
            libc::SYS_openat2 => there(Wish::OpenHow { how: args[2] }),
            // With this flag the path is empty, and the descriptor is meant.
            libc::SYS_newfstatat if flag(3, libc::AT_EMPTY_PATH) => return None,
            libc::SYS_newfstatat => there(Wish::Stat { buffer: args[2], follow: follow(3) }),
            libc::SYS_statx if flag(2, libc::AT_EMPTY_PATH) => return None,
            libc::SYS_statx => {
                there(Wish::Statx { buffer: args[4], follow: follow(2), mask: args[3] as u32 })
            }
            libc::SYS_readlinkat => there(Wish::ReadLink { buffer: args[2], size: args[3] }),
            libc::SYS_faccessat | libc::SYS_faccessat2 => {
                there(Wish::Access { mode: args[2] as u32 })
            }
            libc::SYS_execve => here(0, Wish::Execute),
            libc::SYS_execveat if flag(4, libc::AT_EMPTY_PATH) => return None,
            libc::SYS_execveat => there(Wish::Execute),
            libc::SYS_statfs => here(0, Wish::StatFs { buffer: args[1] }),
            libc::SYS_getxattr | libc::SYS_lgetxattr => {
                let (name, buffer, size) = (args[1], args[2], args[3]);
                let follow = call == libc::SYS_getxattr;
                here(0, Wish::Attribute { name, buffer, size, follow })
            }
            libc::SYS_listxattr | libc::SYS_llistxattr => {
                let (buffer, size, follow) = (args[1], args[2], call == libc::SYS_listxattr);
                here(0, Wish::Attributes { buffer, size, follow })
            }
            libc::SYS_setxattr | libc::SYS_lsetxattr => {
                let (name, value, size, flags) = (args[1], args[2], args[3], args[4] as u32);
                let follow = call == libc::SYS_setxattr;
                here(0, Wish::SetAttribute { name, value, size, flags, follow })
            }
            libc::SYS_chdir => here(0, Wish::Enter),
            libc::SYS_fchmodat => there(Wish::SetMode { mode: args[2] as u32, follow: true }),
            FCHMODAT2 => there(Wish::SetMode { mode: args[2] as u32, follow: follow(3) }),
            libc::SYS_fchownat => there(owner(2, follow(4))),
            libc::SYS_linkat if flag(4, libc::AT_SYMLINK_FOLLOW) => {
                there(Wish::Name { folder: at(2), path: args[3] })
            }
            libc::SYS_symlinkat => {
                Call { folder: at(1), path: args[2], wish: Wish::Link { target: args[0] } }
            }
            libc::SYS_mkdirat | libc::SYS_unlinkat | libc::SYS_mknodat => {
                there(Wish::Change { other: None })
            }
            libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => {
                there(Wish::Change { other: Some((at(2), args[3])) })
            }
            _ => return None,
        })
    }
}

/// The calls that change folders: looked at where something must not be written to.
pub fn changing_calls() -> Vec<i64> {
    vec![
        libc::SYS_mkdirat,
        libc::SYS_unlinkat,
        libc::SYS_mknodat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_renameat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rmdir,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mknod,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_link,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat,
    ]
}

/// The calls that wait for a disk. What a RUN leaves is stored, or done again: none of them is worth its time, as on an
/// overlay that is mounted `volatile`.
pub fn syncing_calls() -> Vec<i64> {
    vec![
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_sync,
        libc::SYS_syncfs,
        libc::SYS_sync_file_range,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_without_a_path_are_nobodys() {
        let args = |third: i32| [3, 0x1000, 0x2000, third as u64, 0, 0];
        assert_eq!(Call::of(libc::SYS_newfstatat, &args(libc::AT_EMPTY_PATH)), None);
        let call = Call::of(libc::SYS_newfstatat, &args(libc::AT_SYMLINK_NOFOLLOW)).unwrap();
        assert_eq!(call.folder, Some(3));
        assert_eq!(call.wish, Wish::Stat { buffer: 0x2000, follow: false });
        let args = [libc::AT_FDCWD as u32 as u64, 0x1000, libc::O_NOFOLLOW as u64, 0, 0, 0];
        let call = Call::of(libc::SYS_openat, &args).unwrap();
        assert_eq!(call.folder, None);
        assert!(!call.wish.follows());
        assert!(calls().iter().all(|call| *call >= 0));
    }

    #[test]
    fn the_process_that_a_call_reaches_into() {
        let args = [7, 8, 0, 0, 0, 0];
        assert_eq!(reached(libc::SYS_ptrace, &args), Some(8));
        assert_eq!(reached(libc::SYS_process_vm_readv, &args), Some(7));
        assert_eq!(reached(libc::SYS_process_vm_writev, &args), Some(7));
        assert_eq!(reached(libc::SYS_openat, &args), None);
        assert!(tracing_calls().iter().all(|(call, _)| reached(*call, &args).is_some()));
    }

    #[test]
    fn a_slash_at_the_end_means_what_a_link_leads_to() {
        let stat = Wish::Stat { buffer: 1, follow: false };
        assert!(!stat.follows() && stat.of_folder().follows());
        let open = Wish::Open { flags: OFlags::NOFOLLOW, mode: 0 };
        assert!(!open.follows() && open.of_folder().follows());
    }
}
