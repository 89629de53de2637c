//! Starting kiln again as root of a user namespace.
//!
//! A build by an ordinary user happens inside a user namespace as a whole, because unpacking gives files to other users
//! and overlays are mounted. So kiln executes itself again in a new one, and the first process only passes signals on
//! and waits for the second.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use crate::id_mapping::IdRange;
use crate::privilege::{Privilege, UsernsError, own_mapping};
use crate::sys::{self, Forked, SignalFd};

/// Executes this program again with `args` (all of them, from the zeroth on) as root of a new user namespace, if this
/// process is not root with CAP_SYS_ADMIN already. In that case the call does not return: it passes signals on and ends
/// this process as the new one ends.
///
/// Must be called before there are threads, because it forks. Returns this process's privilege, with the reason if
/// there can be no namespace.
pub fn reexec_in_userns(args: impl IntoIterator<Item = OsString>) -> Privilege {
    let now = Privilege::of_process();
    if matches!(now, Privilege::Root | Privilege::NamespaceRoot { .. }) {
        return now;
    }
    let refused = match enter(args) {
        Ok(status) => end_as(status),
        Err(error) => Some(error),
    };
    match now {
        Privilege::Confined { .. } => Privilege::Confined { refused },
        _ => Privilege::User { refused },
    }
}

/// Ends this process as a child of it has ended.
fn end_as(status: i32) -> ! {
    if libc::WIFSIGNALED(status) {
        sys::die_of(libc::WTERMSIG(status));
    }
    let code = if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    };
    std::process::exit(code)
}

/// Signals that are passed on to the process in the namespace.
const PASSED_ON: [i32; 6] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

/// Starts the new process and waits for it. Returns its wait status.
fn enter(args: impl IntoIterator<Item = OsString>) -> Result<i32, UsernsError> {
    let args = args.into_iter().map(|arg| CString::new(arg.into_vec()));
    let args: Vec<CString> = args.collect::<Result<_, _>>().map_err(|_| UsernsError::ZeroByte)?;
    if fs::read_dir("/proc/self/task").map_or(0, Iterator::count) != 1 {
        return Err(UsernsError::Threads);
    }
    let (mut from_child, to_parent) = io::pipe().map_err(|error| failed("make a pipe", &error))?;
    let (from_parent, mut to_child) = io::pipe().map_err(|error| failed("make a pipe", &error))?;
    let mut signals = PASSED_ON.to_vec();
    signals.push(libc::SIGCHLD);
    let signals = SignalFd::new(&signals).step("watch for signals")?;
    let pid = match sys::fork(None).step("fork")? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            drop((from_child, to_child));
            signals.restore();
            drop(signals);
            let Err(error) = become_root(&args, from_parent, &to_parent);
            let _ = serde_json::to_writer(&to_parent, &error);
            std::process::exit(127);
        }
    };
    drop((from_parent, to_parent));

    // The child sends a `+` from its namespace and waits for its ids. The pipe ends without another byte when it
    // becomes kiln; otherwise an error in JSON says why it did not.
    let mut report = Vec::new();
    let mut first = [0];
    let mut refused = None;
    if from_child.read(&mut first).is_ok_and(|count| count == 1) && first != *b"+" {
        report.extend(first);
    } else if let Err(error) = map_ids(pid) {
        refused = Some(error);
        sys::kill(pid, libc::SIGKILL);
    } else {
        let _ = to_child.write_all(b"+");
    }
    drop(to_child);
    let _ = from_child.read_to_end(&mut report);
    if refused.is_none() && report.is_empty() {
        return pass_signals(pid, &signals);
    }
    let _ = sys::wait_for(pid);
    signals.restore();
    Err(refused.unwrap_or_else(|| {
        serde_json::from_slice(&report)
            .unwrap_or_else(|_| failed("read the report of a child", &Errno::IO.into()))
    }))
}

/// Adds the failed step to a system call's error.
trait UsernsContext<T> {
    fn step(self, step: &str) -> Result<T, UsernsError>;
}

impl<T> UsernsContext<T> for rustix::io::Result<T> {
    fn step(self, step: &str) -> Result<T, UsernsError> {
        self.map_err(|errno| failed(step, &errno.into()))
    }
}

fn failed(step: &str, error: &io::Error) -> UsernsError {
    UsernsError::Step { step: step.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
}

/// Gives the new namespace its ids: all of ours for root, else ours as root's and those that /etc/subuid and
/// /etc/subgid grant, else ours alone.
fn map_ids(pid: i32) -> Result<(), UsernsError> {
    let write = |file: &str, text: &str| fs::write(format!("/proc/{pid}/{file}"), text);
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    if uid == 0 {
        let own = own_mapping();
        let all = |ranges: &[IdRange]| -> String {
            ranges.iter().map(|range| format!("{0} {0} {1}\n", range.inside, range.count)).collect()
        };
        if write("uid_map", &all(&own.uids)).is_ok() {
            return write("gid_map", &all(&own.gids))
                .map_err(|error| failed("map all groups", &error));
        }
    }
    if !granted(pid, "newuidmap", "/etc/subuid", uid, uid) {
        write("uid_map", &format!("0 {uid} 1"))
            .map_err(|error| failed(&format!("map user {uid}"), &error))?;
    }
    if !granted(pid, "newgidmap", "/etc/subgid", uid, gid) {
        // Else leaving a group that forbids something would be a way around it.
        let _ = write("setgroups", "deny");
        write("gid_map", &format!("0 {gid} 1"))
            .map_err(|error| failed(&format!("map group {gid}"), &error))?;
    }
    Ok(())
}

/// Maps `own` to root and the ranges that `table` grants to user `uid` from 1 on, with shadow's set-user-id helper.
fn granted(pid: i32, helper: &str, table: &str, uid: u32, own: u32) -> bool {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ranges = granted_ranges(&fs::read_to_string(table).unwrap_or_default(), &passwd, uid);
    if ranges.is_empty() {
        return false;
    }
    let mut arguments = vec![pid.to_string(), "0".into(), own.to_string(), "1".into()];
    for range in ranges {
        arguments
            .extend([range.inside, range.outside, range.count].map(|number| number.to_string()));
    }
    Command::new(helper).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// The ranges that a table of subordinate ids grants to a user, by name or number, laid end to end from 1 on.
fn granted_ranges(table: &str, passwd: &str, uid: u32) -> Vec<IdRange> {
    let number = uid.to_string();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    });
    let mut inside = 1_u32;
    let mut ranges = Vec::new();
    for line in table.lines() {
        let fields: Vec<_> = line.trim().split(':').collect();
        let [owner, outside, count] = fields[..] else { continue };
        let (Ok(outside), Ok(count)) = (outside.parse(), count.parse::<u32>()) else { continue };
        if (Some(owner) != name && owner != number) || count == 0 {
            continue;
        }
        let Some(next) = inside.checked_add(count) else { break };
        ranges.push(IdRange { inside, outside, count });
        inside = next;
    }
    ranges
}

/// Waits for the end of the process in the namespace.
fn pass_signals(pid: i32, signals: &SignalFd) -> Result<i32, UsernsError> {
    loop {
        let received = signals.next().step("wait for signals")?;
        if received.signal != libc::SIGCHLD {
            // A terminal's Ctrl-C has reached the whole group already.
            if !received.from_kernel {
                sys::kill(pid, received.signal);
            }
            continue;
        }
        if let Some(status) = sys::ended(pid).step("wait for kiln in its user namespace")? {
            return Ok(status);
        }
    }
}

/// The child: makes the namespaces, waits for its ids and becomes kiln.
fn become_root(
    args: &[CString],
    mut from_parent: impl Read,
    mut to_parent: impl Write,
) -> Result<Infallible, UsernsError> {
    sys::unshare(UnshareFlags::NEWUSER).map_err(|errno| match errno {
        // A full table of namespaces, not a full disk.
        Errno::NOSPC => UsernsError::TooMany,
        _ => UsernsError::Namespace { errno: errno.raw_os_error() },
    })?;
    let mut answer = [0];
    if to_parent.write_all(b"+").is_err()
        || !from_parent.read(&mut answer).is_ok_and(|count| count == 1)
    {
        return Err(UsernsError::NoIds);
    }
    sys::unshare(UnshareFlags::NEWNS)
        .and_then(|()| {
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)
        })
        .map_err(|errno| UsernsError::Mount { errno: errno.raw_os_error() })?;
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
        .and_then(|()| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        })
        .step("become root of a user namespace")?;
    Err(sys::execute_here(&c"/proc/self/exe".to_owned(), args)).step("start kiln again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granted_ranges_are_the_users_own_laid_end_to_end() {
        let passwd = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\n";
        let table = "bob:1:5\nann:100000:65536\n# no\n1000:300000:10\nann:7:0\n";
        assert_eq!(
            granted_ranges(table, passwd, 1000),
            [
                IdRange { inside: 1, outside: 100_000, count: 65536 },
                IdRange { inside: 65537, outside: 300_000, count: 10 },
            ]
        );
        assert!(granted_ranges(table, passwd, 1001).is_empty());
    }
}
