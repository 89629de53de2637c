//! System calls of one process answered by another: seccomp's user notification (kernel 5.14 for all that is used).
//!
//! A filter names the calls that are told to a listener. Its holder reads them one by one and lets each go on, gives its
//! result, or puts an open file into the caller as its result.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::init::bpf::{
    ARGUMENTS, AUDIT_ARCH, CALL, COMPAT_CHROOT, COMPAT_MACHINE, EQUALS, HAS, LOAD, MACHINE, RETURN,
    step,
};
use crate::sys::check;

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    /// Its name in answers.
    pub id: u64,
    /// The calling thread.
    pub tid: i32,
    /// The call's number; of a 32-bit program's calls only `chroot` is told, with its usual number.
    pub call: i64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// True if the numbers of this machine's calls are known here.
pub const fn is_known_machine() -> bool {
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64"))
}

/// The handling of calls; all others go on.
#[derive(Default)]
pub struct Rules {
    /// These are told.
    pub told: Vec<i64>,
    /// These are told where their first argument is the number.
    pub told_with: Vec<(i64, u32)>,
    /// These seem to have been done.
    pub dismissed: Vec<i64>,
}

/// The filter. Programs of another machine type (32 bit) are left alone, but when they change their root.
fn program(rules: &Rules) -> Vec<libc::sock_filter> {
    let count = rules.told.len();
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    let machine = AUDIT_ARCH;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let machine = 0;
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    let compat = COMPAT_MACHINE;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let compat = 0;
    let tells_chroot = rules.told.contains(&libc::SYS_chroot);
    let compat_chroot =
        if tells_chroot { libc::SECCOMP_RET_USER_NOTIF } else { libc::SECCOMP_RET_ALLOW };
    let mut steps = vec![
        step(LOAD, 0, 0, MACHINE),
        step(EQUALS, 5, 0, machine),
        step(EQUALS, 0, 3, compat),
        step(LOAD, 0, 0, CALL),
        step(EQUALS, 0, 1, COMPAT_CHROOT as u32),
        step(RETURN, 0, 0, compat_chroot),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(LOAD, 0, 0, CALL),
    ];
    // With AT_EMPTY_PATH a descriptor is meant: that is how fstat is called today.
    for (call, argument) in [(libc::SYS_newfstatat, 3), (libc::SYS_statx, 2)] {
        steps.extend([
            step(EQUALS, 0, 4, call as u32),
            // The lower half of the number, on these machines.
            step(LOAD, 0, 0, ARGUMENTS + 8 * argument),
            step(HAS, 0, 1, libc::AT_EMPTY_PATH as u32),
            step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
            step(LOAD, 0, 0, CALL),
        ]);
    }
    for (call, first) in &rules.told_with {
        steps.extend([
            step(EQUALS, 0, 4, *call as u32),
            step(LOAD, 0, 0, ARGUMENTS),
            step(EQUALS, 0, 1, *first),
            step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
            step(LOAD, 0, 0, CALL),
        ]);
    }
    for call in &rules.dismissed {
        steps.push(step(EQUALS, 0, 1, *call as u32));
        steps.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO));
    }
    // x32 calls have a bit of their own in the number, so none equals.
    for (index, call) in rules.told.iter().enumerate() {
        steps.push(step(EQUALS, (count - index) as u8, 0, *call as u32));
    }
    steps.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    steps.push(step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
    steps
}

/// Has calls of this process, and of all that it will start, told to the descriptor that is returned. Takes away the
/// right to gain rights by executing a program.
pub fn listen(rules: &Rules) -> rustix::io::Result<OwnedFd> {
    const SET_MODE_FILTER: libc::c_long = 1;
    rustix::thread::set_no_new_privs(true)?;
    let mut steps = program(rules);
    let filter = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    let load = |flags: libc::c_ulong| {
        // SAFETY: `filter` names `steps`, and both live across the call, which copies them.
        check(unsafe {
            libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const filter)
        })
    };
    // With the second flag (5.19) only a deadly signal interrupts a call that is being answered: Go's many would make
    // a program repeat it for ever.
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let fd = match load(listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(Errno::INVAL) => load(listener)?,
        result => result?,
    };
    // The caller waits for the supervisor and the supervisor for callers: on one processor neither has to wake another up.
    // SAFETY: the request takes a number. A kernel before 6.6 does not know it.
    unsafe { libc::ioctl(fd as i32, libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`.
const SYNC_WAKE_UP: u64 = 1;

/// The next call that waits; none if it was given up meanwhile.
pub fn receive(listener: impl AsFd) -> rustix::io::Result<Option<Notification>> {
    // SAFETY: plain integers, for which zero is valid, and which the kernel wants to be zero.
    let mut told: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the request writes one such structure.
    match check(unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut told) }) {
        Ok(_) => Ok(Some(Notification {
            id: told.id,
            tid: told.pid as i32,
            call: match told.data.arch {
                #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
                COMPAT_MACHINE => libc::SYS_chroot,
                _ => told.data.nr.into(),
            },
            args: told.data.args,
        })),
        Err(Errno::NOENT | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel does it, as if there were no listener.
    GoOn,
    /// It returns this.
    Value(i64),
    /// It fails.
    Fail(Errno),
}

/// Answers a call. The caller may have ended since.
pub fn answer(listener: impl AsFd, id: u64, answer: Answer) {
    let (val, error, flags) = match answer {
        Answer::GoOn => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Answer::Value(value) => (value, 0, 0),
        Answer::Fail(errno) => (0, -errno.raw_os_error(), 0),
    };
    let response = libc::seccomp_notif_resp { id, val, error, flags };
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the request reads one such structure.
    unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
}

/// Puts `file` into the caller and answers with its number there.
pub fn answer_with_file(
    listener: impl AsFd,
    id: u64,
    file: impl AsFd,
    close_on_exec: bool,
) -> rustix::io::Result<()> {
    let request = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: file.as_fd().as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the request reads one such structure.
    check(unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const request) }).map(drop)
}

/// True if a call still waits: otherwise its thread's number may belong to another thread by now.
pub fn waits(listener: impl AsFd, id: u64) -> bool {
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the request reads one number.
    check(unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) }).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::bpf::decide;

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn the_filter_tells_what_is_listed_and_nothing_else() {
        let rules = Rules { told: vec![5, 9, 300], told_with: vec![(8, 2)], dismissed: vec![7] };
        let steps = program(&rules);
        for call in 0..400 {
            let expected = match call {
                5 | 9 | 300 => libc::SECCOMP_RET_USER_NOTIF,
                7 => libc::SECCOMP_RET_ERRNO,
                _ => libc::SECCOMP_RET_ALLOW,
            };
            assert_eq!(decide(&steps, AUDIT_ARCH, call, 0), expected, "{call}");
            assert_eq!(decide(&steps, COMPAT_MACHINE, call, 0), libc::SECCOMP_RET_ALLOW);
        }
        assert_eq!(decide(&steps, AUDIT_ARCH, 8, 2), libc::SECCOMP_RET_USER_NOTIF);
        let steps = program(&Rules { told: vec![libc::SYS_chroot], ..Rules::default() });
        for (call, expected) in [
            (COMPAT_CHROOT as u32, libc::SECCOMP_RET_USER_NOTIF),
            (libc::SYS_chroot as u32, libc::SECCOMP_RET_ALLOW),
        ] {
            assert_eq!(decide(&steps, COMPAT_MACHINE, call, 0), expected, "32 bit {call}");
        }
        let stat = libc::SYS_newfstatat;
        let steps = program(&Rules { told: vec![stat], ..Rules::default() });
        for (flags, expected) in
            [(0, libc::SECCOMP_RET_USER_NOTIF), (0x1900, libc::SECCOMP_RET_ALLOW)]
        {
            assert_eq!(decide(&steps, AUDIT_ARCH, stat as u32, flags), expected);
        }
    }
}
