//! What this process is: root, root of a user namespace, or neither; and how to become the second.
//!
//! A build by an ordinary user happens inside a user namespace as a whole: unpacking gives files to other users and
//! overlays are mounted. So kiln starts itself again in one, and the first process only waits for the second.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{CapabilitySet, UnshareFlags};

use crate::identity::{IdMapping, IdRange};
use crate::sys::{self, Forked, SignalFd};

/// What a process may do to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Root with CAP_SYS_ADMIN, outside any user namespace.
    Root,
    /// Root with CAP_SYS_ADMIN in a user namespace: overlays need `userxattr`.
    NamespaceRoot {
        /// The ids that it has.
        ids: IdMapping,
    },
    /// Root, with what it takes to give files to others and to become others, but not to mount: as ordinary containers
    /// have it.
    Confined {
        /// Why it is not more, in words.
        reason: String,
    },
    /// Neither: layers cannot be unpacked with their owners, and nothing can be mounted.
    User {
        /// Why it is not more, in words.
        reason: String,
    },
}

/// What this process is now.
pub fn standing() -> Standing {
    let capable = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    match (capable, in_initial_user_namespace()) {
        (true, true) if rustix::process::geteuid().is_root() => Standing::Root,
        (true, false) if rustix::process::geteuid().is_root() => {
            Standing::NamespaceRoot { ids: own_mapping() }
        }
        _ if rustix::process::geteuid().is_root() && has_file_rights() => {
            Standing::Confined { reason: "without CAP_SYS_ADMIN".into() }
        }
        _ => Standing::User { reason: "not root, or without CAP_SYS_ADMIN".into() },
    }
}

/// Whether this process may do with files and users what a layer asks for.
pub(crate) fn has_file_rights() -> bool {
    let needed = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Makes this process's work happen as root: in this process when it is that already, else in a new one inside a new
/// user namespace, started with the same arguments (`args`, all of them). In that case this call does not return: it
/// passes signals on and ends as the new process ends.
///
/// To be called before there are threads, because it forks. When it is not possible, the answer says why.
pub fn become_namespace_root(args: impl IntoIterator<Item = OsString>) -> Standing {
    let now = standing();
    let less: fn(String) -> Standing = match now {
        Standing::User { .. } => |reason| Standing::User { reason },
        Standing::Confined { .. } => |reason| Standing::Confined { reason },
        now => return now,
    };
    let args: Option<Vec<CString>> =
        args.into_iter().map(|arg| CString::new(arg.into_vec()).ok()).collect();
    let Some(args) = args else {
        return less("an argument with a zero byte".into());
    };
    if fs::read_dir("/proc/self/task").map_or(0, Iterator::count) != 1 {
        return less("a user namespace can only be entered before there are threads".into());
    }
    match enter(&args) {
        Ok(status) => end_as(status),
        Err(reason) => less(reason),
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

/// Whether this process is in the machine's first user namespace, whose number never changes.
pub(crate) fn in_initial_user_namespace() -> bool {
    const PROC_USER_INIT_INO: &str = "user:[4026531837]";
    fs::read_link("/proc/self/ns/user").is_ok_and(|name| name.as_os_str() == PROC_USER_INIT_INO)
}

/// The ids of this process's user namespace.
pub(crate) fn own_mapping() -> IdMapping {
    let ranges = |file| IdRange::parse_map(&fs::read_to_string(file).unwrap_or_default());
    IdMapping { uids: ranges("/proc/self/uid_map"), gids: ranges("/proc/self/gid_map") }
}

/// Signals that are passed on to the process in the namespace.
const PASSED_ON: [i32; 6] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

/// Starts the new process and waits for it: its wait status, or why there is none.
fn enter(args: &[CString]) -> Result<i32, String> {
    let told = |error: io::Error| format!("make a pipe: {error}");
    let (mut from_child, to_parent) = io::pipe().map_err(told)?;
    let (from_parent, mut to_child) = io::pipe().map_err(told)?;
    let mut signals = PASSED_ON.to_vec();
    signals.push(libc::SIGCHLD);
    let signals = SignalFd::new(&signals).map_err(|errno| format!("watch for signals: {errno}"))?;
    let pid = match sys::fork(None).map_err(|errno| format!("fork: {errno}"))? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            drop((from_child, to_child));
            signals.restore();
            drop(signals);
            let reason = be_root(args, from_parent, &to_parent);
            let _ = (&to_parent).write_all(reason.as_bytes());
            std::process::exit(127);
        }
    };
    drop((from_parent, to_parent));

    // The child sends a `+` from its namespace and waits for its ids. The pipe ends without another word when it
    // becomes kiln; words are why it did not.
    let mut reason = String::new();
    let mut first = [0];
    if from_child.read(&mut first).is_ok_and(|count| count == 1) && first != *b"+" {
        reason.push(char::from(first[0]));
    } else if let Err(refused) = map_ids(pid) {
        reason = refused;
        sys::kill(pid, libc::SIGKILL);
    } else {
        let _ = to_child.write_all(b"+");
    }
    drop(to_child);
    let _ = from_child.read_to_string(&mut reason);
    if reason.is_empty() {
        return pass_signals(pid, &signals);
    }
    let _ = sys::wait_for(pid);
    signals.restore();
    Err(reason)
}

/// Gives the new namespace its ids: all of ours for root, else ours as root's and those that /etc/subuid and
/// /etc/subgid grant, else ours alone.
fn map_ids(pid: i32) -> Result<(), String> {
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
                .map_err(|error| format!("map all groups: {error}"));
        }
    }
    if !granted(pid, "newuidmap", "/etc/subuid", uid, uid) {
        write("uid_map", &format!("0 {uid} 1"))
            .map_err(|error| format!("map user {uid}: {error}"))?;
    }
    if !granted(pid, "newgidmap", "/etc/subgid", uid, gid) {
        // Else leaving a group that forbids something would be a way around it.
        let _ = write("setgroups", "deny");
        write("gid_map", &format!("0 {gid} 1"))
            .map_err(|error| format!("map group {gid}: {error}"))?;
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
fn pass_signals(pid: i32, signals: &SignalFd) -> Result<i32, String> {
    loop {
        let received = signals.next().map_err(|errno| format!("wait for signals: {errno}"))?;
        if received.signal != libc::SIGCHLD {
            // A terminal's Ctrl-C has reached the whole group already.
            if !received.from_kernel {
                sys::kill(pid, received.signal);
            }
            continue;
        }
        match sys::ended(pid) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(errno) => return Err(format!("wait for kiln in its user namespace: {errno}")),
        }
    }
}

/// The child: makes the namespaces, gets its ids and becomes kiln. Returns why that failed.
fn be_root(args: &[CString], mut from_parent: impl Read, mut to_parent: impl Write) -> String {
    if let Err(errno) = sys::unshare(UnshareFlags::NEWUSER) {
        return match errno {
            // Not a full disk.
            rustix::io::Errno::NOSPC => {
                "make a user namespace: sysctl user.max_user_namespaces allows no more".into()
            }
            _ => format!("make a user namespace: {errno} (is it refused by seccomp?)"),
        };
    }
    let mut word = [0];
    if to_parent.write_all(b"+").is_err()
        || !from_parent.read(&mut word).is_ok_and(|count| count == 1)
    {
        return "no ids for the user namespace".into();
    }
    let prepared = sys::unshare(UnshareFlags::NEWNS).and_then(|()| {
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)
    });
    if let Err(errno) = prepared {
        return format!(
            "mount in a user namespace: {errno} (on Ubuntu: kernel.apparmor_restrict_unprivileged_userns)"
        );
    }
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    let changed = rustix::thread::set_thread_res_gid(gid, gid, gid)
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
        .and_then(|()| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        });
    if let Err(errno) = changed {
        return format!("become root of a user namespace: {errno}");
    }
    let errno = sys::execute_here(&c"/proc/self/exe".to_owned(), args);
    format!("start kiln again: {errno}")
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
