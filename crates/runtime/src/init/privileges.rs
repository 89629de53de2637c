//! The rights of the command: resource limits, capabilities, user and groups.

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::container::{Security, Ulimit};
use crate::identity::Identity;
use crate::sys;
use crate::wire::{FailureKind, SetupFailure, StepContext};

/// The capabilities that Docker and BuildKit give a container's root user.
const SANDBOX: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// The kernel's number of a limit, by its name on Docker's command line.
pub fn limit_number(name: &str) -> Option<u32> {
    Some(match name {
        "core" => libc::RLIMIT_CORE,
        "cpu" => libc::RLIMIT_CPU,
        "data" => libc::RLIMIT_DATA,
        "fsize" => libc::RLIMIT_FSIZE,
        "locks" => libc::RLIMIT_LOCKS,
        "memlock" => libc::RLIMIT_MEMLOCK,
        "msgqueue" => libc::RLIMIT_MSGQUEUE,
        "nice" => libc::RLIMIT_NICE,
        "nofile" => libc::RLIMIT_NOFILE,
        "nproc" => libc::RLIMIT_NPROC,
        "rss" => libc::RLIMIT_RSS,
        "rtprio" => libc::RLIMIT_RTPRIO,
        "rttime" => libc::RLIMIT_RTTIME,
        "sigpending" => libc::RLIMIT_SIGPENDING,
        "stack" => libc::RLIMIT_STACK,
        "as" => libc::RLIMIT_AS,
        _ => return None,
    })
}

/// Sets the limits, while this process may still raise them.
pub fn set_limits(limits: &[Ulimit]) -> Result<(), SetupFailure> {
    for Ulimit { name, soft, hard } in limits {
        let number = limit_number(name).ok_or_else(|| {
            SetupFailure::plain(FailureKind::Refused, format!("unknown ulimit `{name}`"))
        })?;
        sys::set_limit(number, *soft, *hard)
            .step(|| format!("set the limit `{name}` to {soft}:{hard}"))?;
    }
    Ok(())
}

/// A hint for a change of user that fails in a user namespace.
const UNMAPPED: &str = " (a user namespace has other ids than root's where /etc/subuid and /etc/subgid grant them, and \
     newuidmap and newgidmap are installed)";

/// Becomes the user, with no more rights than `security` gives. What a user other than root keeps is for execve to
/// say: nothing, except under [`Security::Insecure`].
pub fn become_user(identity: &Identity, security: Security) -> Result<(), SetupFailure> {
    let present =
        rustix::thread::capabilities(None).step(|| "read the capabilities".into())?.permitted;
    let (wanted, inheritable) = match security {
        Security::Sandbox => (present & SANDBOX, CapabilitySet::empty()),
        Security::Insecure => (present, present),
    };
    if security == Security::Sandbox {
        drop_bounds(present)?;
    }
    rustix::thread::set_keep_capabilities(true).step(|| "keep the capabilities".into())?;
    set_groups(identity)?;
    let gid = Gid::from_raw(identity.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .step(|| format!("become group {}{UNMAPPED}", identity.gid))?;
    let uid = Uid::from_raw(identity.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .step(|| format!("become user {}{UNMAPPED}", identity.uid))?;
    rustix::thread::set_keep_capabilities(false)
        .step(|| "no longer keep the capabilities".into())?;

    let sets = CapabilitySets { effective: wanted, permitted: wanted, inheritable };
    rustix::thread::set_capabilities(None, sets).step(|| "set the capabilities".into())?;
    for capability in inheritable.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .step(|| "set the ambient capabilities".into())?;
    }
    Ok(())
}

/// Takes from this process, and all that come after it, the capabilities that no container has.
fn drop_bounds(present: CapabilitySet) -> Result<(), SetupFailure> {
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if SANDBOX.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The first number that this kernel does not know.
            Err(Errno::INVAL) => break,
            // Without SETPCAP the bounds stay, and execve may give root what this process has.
            Err(Errno::PERM) if !present.contains(CapabilitySet::SETPCAP) => break,
            result => result.step(|| "drop capabilities".into())?,
        }
    }
    Ok(())
}

/// Takes the right to change its root from this process, and from all that come after it: where a plain folder is the
/// root, the way out of a second one leads past the first.
pub fn give_up_chroot() -> Result<(), SetupFailure> {
    let held = rustix::thread::capabilities(None).step(|| "read the capabilities".into())?;
    let without = |set: CapabilitySet| set.difference(CapabilitySet::SYS_CHROOT);
    if held.effective.contains(CapabilitySet::SETPCAP) {
        rustix::thread::remove_capability_from_bounding_set(CapabilitySet::SYS_CHROOT)
            .step(|| "drop capabilities".into())?;
    }
    let sets = CapabilitySets {
        effective: without(held.effective),
        permitted: without(held.permitted),
        inheritable: without(held.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).step(|| "drop capabilities".into())
}

fn set_groups(identity: &Identity) -> Result<(), SetupFailure> {
    let groups: Vec<_> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match rustix::thread::set_thread_groups(&groups) {
        // A namespace of a single id may not set groups at all, and root's own is all it can have.
        Err(Errno::PERM) if identity.groups == [0] => Ok(()),
        result => result.step(|| format!("set the groups {:?}{UNMAPPED}", identity.groups)),
    }
}
