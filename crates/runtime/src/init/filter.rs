//! System calls that a command in the sandbox does not get, as in Docker and BuildKit: those that reach what is not
//! kept apart (keys, performance counters, io_uring), and those that make new namespaces, in which a user has rights
//! that he has not outside. What capabilities forbid anyhow is named where it has had holes.

use rustix::io::Errno;

use super::bpf::{ARGUMENTS, AT_LEAST, AUDIT_ARCH, CALL, EQUALS, HAS, LOAD, MACHINE, RETURN, step};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::bpf::{COMPAT_CHROOT, COMPAT_MACHINE};
use crate::sys::check;

/// Refused with EPERM.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
];

/// The same number on all machines (kernel 6.15).
const OPEN_TREE_ATTR: i64 = 467;

/// Refused as well in a plain folder, where no namespace hides the job's processes: what takes descriptors out of them,
/// or compares or advises them.
const REFUSED_IN_FOLDER: &[i64] =
    &[libc::SYS_kcmp, libc::SYS_pidfd_getfd, libc::SYS_process_madvise];

/// Refused where no supervisor decides about each call: a root user who changes his root can leave the first one, and
/// a process that traces one of the job's is outside.
const REFUSED_UNSUPERVISED: &[i64] =
    &[libc::SYS_chroot, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_ptrace];

/// The same of 32-bit programs on this machine, as far as it does not take capabilities, with `clone` and `clone3`
/// (kernel, `arch/x86/entry/syscalls/syscall_32.tbl`).
#[cfg(target_arch = "x86_64")]
const COMPAT: Table = Table {
    machine: COMPAT_MACHINE,
    refused: &[
        286, 287, 288, 310, 336, 341, 342, 346, 357, 374, 425, 426, 427, 428, 429, 430, 431, 432,
        433, 467,
    ],
    // ptrace, process_vm_readv, process_vm_writev, kcmp, pidfd_getfd, process_madvise: the supervisor is not asked.
    in_folder: &[26, 347, 348, 349, 438, 440],
    unsupervised: &[COMPAT_CHROOT],
    clone: 120,
    clone3: 435,
};

/// The same (kernel, `arch/arm/tools/syscall.tbl`).
#[cfg(target_arch = "aarch64")]
const COMPAT: Table = Table {
    machine: COMPAT_MACHINE,
    refused: &[
        309, 310, 311, 337, 364, 370, 371, 375, 386, 388, 425, 426, 427, 428, 429, 430, 431, 432,
        433, 467,
    ],
    in_folder: &[26, 376, 377, 378, 438, 440],
    unsupervised: &[COMPAT_CHROOT],
    clone: 120,
    clone3: 435,
};

/// Flags of `clone` that make namespaces: its first argument on these machines.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// The isolation of a command, as far as filters depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// In namespaces of its own.
    Namespaces,
    /// In a plain folder, with a supervisor that decides about some of its calls.
    Supervised,
    /// In a plain folder, and nothing else.
    Folder,
}

/// Calls of a kind of machine.
struct Table {
    machine: u32,
    refused: &'static [i64],
    in_folder: &'static [i64],
    unsupervised: &'static [i64],
    clone: i64,
    /// Its flags are in memory, where no filter sees them: programs go on with `clone` where it is unknown.
    clone3: i64,
}

const OWN: Table = Table {
    machine: AUDIT_ARCH,
    refused: REFUSED,
    in_folder: REFUSED_IN_FOLDER,
    unsupervised: REFUSED_UNSUPERVISED,
    clone: libc::SYS_clone,
    clone3: libc::SYS_clone3,
};

impl Table {
    fn refused(&self, apart: Apart) -> Vec<i64> {
        let (in_folder, unsupervised) = match apart {
            Apart::Namespaces => (&[][..], &[][..]),
            Apart::Supervised => (self.in_folder, &[][..]),
            Apart::Folder => (self.in_folder, self.unsupervised),
        };
        [self.refused, in_folder, unsupervised].concat()
    }
}

/// Numbers from here on are x32's on x86_64: other names of the same calls.
const X32: u32 = 0x4000_0000;

/// Takes the calls from this process and all that it will start. Needs `CAP_SYS_ADMIN`, or that programs can gain no
/// rights. Without a word where the kernel has no filters.
pub fn take_calls(apart: Apart) -> rustix::io::Result<()> {
    const SET_MODE_FILTER: libc::c_long = 1;
    let mut steps = program(apart);
    let filter = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // Without the flag, kernels before 5.16 run everything slower from here on.
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: `filter` names `steps`, and both live across the call, which copies them.
    let loaded = check(unsafe {
        libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const filter)
    });
    match loaded {
        Err(Errno::NOSYS | Errno::INVAL) => Ok(()),
        result => result.map(drop),
    }
}

const fn fail(errno: i32) -> libc::sock_filter {
    step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32)
}

fn program(apart: Apart) -> Vec<libc::sock_filter> {
    let mut steps = vec![step(LOAD, 0, 0, MACHINE)];
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    add_table(&mut steps, (&COMPAT, apart), &[]);
    let x32: &[libc::sock_filter] = match cfg!(target_arch = "x86_64") {
        true => &[step(AT_LEAST, 0, 1, X32), fail(libc::ENOSYS)],
        false => &[],
    };
    add_table(&mut steps, (&OWN, apart), x32);
    // Another machine's calls, of which this kernel has none.
    steps.push(fail(libc::ENOSYS));
    steps
}

/// Adds the handling of one kind of machine. The machine's number is loaded before and, for the next kind, afterwards.
fn add_table(
    steps: &mut Vec<libc::sock_filter>,
    (table, apart): (&Table, Apart),
    first: &[libc::sock_filter],
) {
    let refused = table.refused(apart);
    let mut own = vec![step(LOAD, 0, 0, CALL)];
    own.extend_from_slice(first);
    own.extend([step(EQUALS, 0, 1, table.clone3 as u32), fail(libc::ENOSYS)]);
    own.extend([
        step(EQUALS, 0, 3, table.clone as u32),
        step(LOAD, 0, 0, ARGUMENTS),
        step(HAS, (2 + refused.len()) as u8, 0, NEW_NAMESPACES),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
    for (index, call) in refused.iter().enumerate() {
        own.push(step(EQUALS, (refused.len() - index) as u8, 0, *call as u32));
    }
    own.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    own.push(fail(libc::EPERM));
    steps.push(step(EQUALS, 0, own.len() as u8, table.machine));
    steps.append(&mut own);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(apart: Apart, machine: u32, call: u32, argument: u32) -> u32 {
        super::super::bpf::decide(&program(apart), machine, call, argument)
    }

    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    const ALL: [Apart; 3] = [Apart::Namespaces, Apart::Supervised, Apart::Folder];

    #[test]
    fn what_is_listed_is_refused_and_nothing_else() {
        for apart in ALL {
            let refused = OWN.refused(apart);
            for call in 0..600 {
                let expected = match i64::from(call) {
                    call if refused.contains(&call) => REFUSE,
                    libc::SYS_clone3 => UNKNOWN,
                    _ => libc::SECCOMP_RET_ALLOW,
                };
                assert_eq!(decide(apart, AUDIT_ARCH, call, 0), expected, "{apart:?} {call}");
            }
            let clone = libc::SYS_clone as u32;
            let thread = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u32;
            assert_eq!(decide(apart, AUDIT_ARCH, clone, thread), libc::SECCOMP_RET_ALLOW);
            for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET] {
                assert_eq!(decide(apart, AUDIT_ARCH, clone, thread | flag as u32), REFUSE);
            }
            assert_eq!(decide(apart, 0x1234_5678, 1, 0), UNKNOWN, "no such machine");
        }
    }

    #[test]
    fn a_root_is_changed_only_where_it_leads_out_of_nothing_or_somebody_decides() {
        for call in REFUSED_UNSUPERVISED {
            let answers = ALL.map(|apart| decide(apart, AUDIT_ARCH, *call as u32, 0));
            let allow = libc::SECCOMP_RET_ALLOW;
            assert_eq!(answers, [allow, allow, REFUSE], "{call}");
        }
        for call in REFUSED_IN_FOLDER {
            let answers = ALL.map(|apart| decide(apart, AUDIT_ARCH, *call as u32, 0));
            assert_eq!(answers, [libc::SECCOMP_RET_ALLOW, REFUSE, REFUSE], "{call}");
        }
        for call in
            [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register]
        {
            assert_eq!(ALL.map(|apart| decide(apart, AUDIT_ARCH, call as u32, 0)), [REFUSE; 3]);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn other_names_of_the_calls_are_no_way_around() {
        for apart in ALL {
            let compat = |call, argument| decide(apart, COMPAT.machine, call, argument);
            assert_eq!(decide(apart, AUDIT_ARCH, X32 + libc::SYS_unshare as u32, 0), UNKNOWN);
            assert_eq!(decide(apart, AUDIT_ARCH, X32 + libc::SYS_chroot as u32, 0), UNKNOWN);
            // unshare, clone, read of 32-bit programs.
            assert_eq!(compat(310, 0), REFUSE);
            assert_eq!(compat(120, libc::CLONE_NEWUSER as u32), REFUSE);
            assert_eq!(compat(3, 0), libc::SECCOMP_RET_ALLOW);
            let ptrace = if apart == Apart::Namespaces { libc::SECCOMP_RET_ALLOW } else { REFUSE };
            assert_eq!(compat(26, 0), ptrace);
            let chroot = if apart == Apart::Folder { REFUSE } else { libc::SECCOMP_RET_ALLOW };
            assert_eq!(compat(COMPAT_CHROOT as u32, 0), chroot);
        }
    }
}
