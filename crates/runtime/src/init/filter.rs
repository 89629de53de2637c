//! System calls that a command in the sandbox does not get, as in Docker and BuildKit: those that reach what is not
//! kept apart (keys, performance counters, io_uring), and those that make new namespaces, in which a user has rights
//! that he has nowhere else. What capabilities forbid anyhow is named where it has had holes.

use rustix::io::Errno;

use crate::bpf::{ARGUMENTS, AT_LEAST, CALL, EQUALS, HAS, LOAD, MACHINE, RETURN, step};
use crate::seccomp::AUDIT_ARCH;
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

/// The same of 32-bit programs on this machine, as far as it does not take capabilities, with `clone` and `clone3`
/// (kernel, `arch/x86/entry/syscalls/syscall_32.tbl`).
#[cfg(target_arch = "x86_64")]
const COMPAT: Table = Table {
    machine: 0x4000_0003,
    refused: &[286, 287, 288, 310, 336, 346, 357, 374, 425, 426, 427, 428, 429, 430, 431, 432, 433],
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

/// Calls of a kind of machine.
struct Table {
    machine: u32,
    refused: &'static [i64],
    clone: i64,
    /// Its flags are in memory, where no filter sees them: programs go on with `clone` where it is unknown.
    clone3: i64,
}

const OWN: Table = Table {
    machine: AUDIT_ARCH,
    refused: REFUSED,
    clone: libc::SYS_clone,
    clone3: libc::SYS_clone3,
};

/// Numbers from here on are x32's on x86_64: other names of the same calls.
const X32: u32 = 0x4000_0000;

/// Takes the calls from this process and all that it will start. Needs `CAP_SYS_ADMIN`, and not that programs can gain no
/// rights. Without a word where the kernel has no filters.
pub fn take_calls() -> rustix::io::Result<()> {
    const SET_MODE_FILTER: libc::c_long = 1;
    let mut steps = program();
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

fn program() -> Vec<libc::sock_filter> {
    let mut steps = vec![step(LOAD, 0, 0, MACHINE)];
    #[cfg(target_arch = "x86_64")]
    add_table(&mut steps, &COMPAT, &[]);
    let x32: &[libc::sock_filter] = match cfg!(target_arch = "x86_64") {
        true => &[step(AT_LEAST, 0, 1, X32), fail(libc::ENOSYS)],
        false => &[],
    };
    add_table(&mut steps, &OWN, x32);
    // Another machine's calls, of which this kernel has none.
    steps.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    steps
}

/// What is done with the calls of a kind of machine, whose number is loaded; it is loaded again for the next kind.
fn add_table(steps: &mut Vec<libc::sock_filter>, table: &Table, first: &[libc::sock_filter]) {
    let mut own = vec![step(LOAD, 0, 0, CALL)];
    own.extend_from_slice(first);
    own.extend([step(EQUALS, 0, 1, table.clone3 as u32), fail(libc::ENOSYS)]);
    own.extend([
        step(EQUALS, 0, 3, table.clone as u32),
        step(LOAD, 0, 0, ARGUMENTS),
        step(HAS, (2 + table.refused.len()) as u8, 0, NEW_NAMESPACES),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
    for (index, call) in table.refused.iter().enumerate() {
        own.push(step(EQUALS, (table.refused.len() - index) as u8, 0, *call as u32));
    }
    own.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    own.push(fail(libc::EPERM));
    steps.push(step(EQUALS, 0, own.len() as u8, table.machine));
    steps.append(&mut own);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(machine: u32, call: u32, argument: u32) -> u32 {
        crate::bpf::decide(&program(), machine, call, argument)
    }

    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    #[test]
    fn what_is_listed_is_refused_and_nothing_else() {
        for call in 0..600 {
            let expected = match i64::from(call) {
                call if REFUSED.contains(&call) => REFUSE,
                libc::SYS_clone3 => UNKNOWN,
                _ => libc::SECCOMP_RET_ALLOW,
            };
            assert_eq!(decide(AUDIT_ARCH, call, 0), expected, "{call}");
        }
        let clone = libc::SYS_clone as u32;
        let thread = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u32;
        assert_eq!(decide(AUDIT_ARCH, clone, thread), libc::SECCOMP_RET_ALLOW);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET] {
            assert_eq!(decide(AUDIT_ARCH, clone, thread | flag as u32), REFUSE);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn other_names_of_the_calls_are_no_way_around() {
        assert_eq!(decide(AUDIT_ARCH, X32 + libc::SYS_unshare as u32, 0), UNKNOWN);
        // unshare, clone, read of 32-bit programs.
        assert_eq!(decide(COMPAT.machine, 310, 0), REFUSE);
        assert_eq!(decide(COMPAT.machine, 120, libc::CLONE_NEWUSER as u32), REFUSE);
        assert_eq!(decide(COMPAT.machine, 3, 0), libc::SECCOMP_RET_ALLOW);
    }
}
