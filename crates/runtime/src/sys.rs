//! The system calls that rustix lacks or cannot make safe, each behind a function that can be called safely.
//!
//! All of it is called from single-threaded processes: the container's init process, or kiln before its threads.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The result of a call, or its errno.
pub(crate) fn check(result: impl Into<i64>) -> rustix::io::Result<i64> {
    let result = result.into();
    if result == -1 { Err(last_errno()) } else { Ok(result) }
}

/// Attributes that [`mount_attributes`] can add to a mount.
pub struct MountAttributes(u64);

impl MountAttributes {
    /// No writing.
    pub const READONLY: MountAttributes = MountAttributes(libc::MOUNT_ATTR_RDONLY);
    /// Device files are dead.
    pub const NODEV: MountAttributes = MountAttributes(libc::MOUNT_ATTR_NODEV);
    /// Set-user-id bits are dead.
    pub const NOSUID: MountAttributes = MountAttributes(libc::MOUNT_ATTR_NOSUID);
    /// No program can be executed.
    pub const NOEXEC: MountAttributes = MountAttributes(libc::MOUNT_ATTR_NOEXEC);
    /// Nothing to add.
    pub const NONE: MountAttributes = MountAttributes(0);

    /// Both.
    #[must_use]
    pub fn and(&self, other: MountAttributes) -> MountAttributes {
        MountAttributes(self.0 | other.0)
    }
}

/// Adds attributes to the mount whose root `mount` is, and with `recursive` to all below it. Kernels before 5.12 can
/// do so for the mount alone.
pub fn mount_attributes(
    mount: impl AsFd,
    attributes: &MountAttributes,
    recursive: bool,
) -> rustix::io::Result<()> {
    if attributes.0 == 0 {
        return Ok(());
    }
    let fd = mount.as_fd().as_raw_fd();
    let attr =
        libc::mount_attr { attr_set: attributes.0, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a terminated string, `attr` lives across the call and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    match check(result) {
        Err(Errno::NOSYS) => remount(fd, attributes),
        result => result.map(drop),
    }
}

/// [`mount_attributes`] before there was `mount_setattr`: flags that the mount has must be repeated, because in a
/// user namespace they may be locked.
fn remount(fd: i32, attributes: &MountAttributes) -> rustix::io::Result<()> {
    let path = format!("/proc/self/fd/{fd}");
    let had = rustix::fs::statvfs(path.as_str())?.f_flag.bits();
    let mut flags = libc::MS_REMOUNT | libc::MS_BIND;
    for (attribute, statvfs_flag, flag) in [
        (libc::MOUNT_ATTR_RDONLY, libc::ST_RDONLY, libc::MS_RDONLY),
        (libc::MOUNT_ATTR_NODEV, libc::ST_NODEV, libc::MS_NODEV),
        (libc::MOUNT_ATTR_NOSUID, libc::ST_NOSUID, libc::MS_NOSUID),
        (libc::MOUNT_ATTR_NOEXEC, libc::ST_NOEXEC, libc::MS_NOEXEC),
        (0, libc::ST_NOATIME, libc::MS_NOATIME),
        (0, libc::ST_NODIRATIME, libc::MS_NODIRATIME),
        (0, libc::ST_RELATIME, libc::MS_RELATIME),
    ] {
        if attributes.0 & attribute != 0 || had & statvfs_flag != 0 {
            flags |= flag;
        }
    }
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    // SAFETY: the target is a terminated string; a bind remount reads neither source nor data.
    check(unsafe {
        libc::mount(std::ptr::null(), path.as_ptr(), std::ptr::null(), flags, std::ptr::null())
    })
    .map(drop)
}

/// Closes every descriptor from 3 on: what the job's shell left open is not the container's.
pub fn close_inherited() {
    // SAFETY: called before this process has opened anything above 2, or where it never uses or drops what it has: no
    // owner loses its descriptor.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    if result == 0 {
        return;
    }
    // Before kernel 5.9.
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: as above; a descriptor that is closed already gives an error and nothing else.
        unsafe { libc::close(fd) };
    }
}

/// The standard input as a descriptor to own.
pub fn take_stdin() -> rustix::io::Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
}

/// The process in which [`fork`] returned.
pub enum Forked {
    /// In the new process.
    Child,
    /// In the old one; the child's id.
    Parent(i32),
}

/// The process that forked this one, for [`die_with_parent`].
static PARENT: AtomicI32 = AtomicI32::new(0);

/// Asks to be killed with the process that forked this one.
///
/// # Errors
/// `ESRCH` if that process has ended already: the kernel sends nothing for a parent that ended before it was asked. A
/// child in a process namespace of its own cannot see its parent, and gets no such error.
pub fn die_with_parent() -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let parent = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
    let is_lost = parent != 0 && parent != PARENT.load(Ordering::Relaxed);
    if is_lost { Err(Errno::SRCH) } else { Ok(()) }
}

/// Forks this process. `cgroup` is where the child starts, if given.
pub fn fork(cgroup: Option<&OwnedFd>) -> rustix::io::Result<Forked> {
    PARENT.store(std::process::id() as i32, Ordering::Relaxed);
    let pid = match cgroup {
        // SAFETY: this process has one thread, so the child's memory, locks included, is in a state it can go on with.
        None => check(unsafe { libc::fork() })?,
        Some(cgroup) => {
            const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
            // SAFETY: `clone_args` is plain integers, for which zero means "not used".
            let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
            args.flags = CLONE_INTO_CGROUP;
            args.exit_signal = libc::SIGCHLD as u64;
            args.cgroup = cgroup.as_raw_fd() as u64;
            // SAFETY: without CLONE_VM and a stack this is fork, with one thread as above; libc's cached thread id
            // goes stale, and nothing here asks for it.
            check(unsafe {
                libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>())
            })?
        }
    };
    Ok(if pid == 0 { Forked::Child } else { Forked::Parent(pid as i32) })
}

/// Moves this process, or with the process namespace its coming children, into new namespaces.
pub fn unshare(flags: rustix::thread::UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: only called with namespace flags; FILES, which would break descriptor ownership, is not among them.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Waits for a child: its raw wait status.
pub fn wait_for(pid: i32) -> rustix::io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for writing.
        match check(unsafe { libc::waitpid(pid, &raw mut status, 0) }) {
            Err(Errno::INTR) => {}
            result => return result.map(|_| status),
        }
    }
}

/// The wait status of a child that has ended.
pub fn ended(pid: i32) -> rustix::io::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    let found = check(unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) })?;
    Ok((found != 0).then_some(status))
}

/// Waits for any child: its id and wait status. Without `blocks` there may be none that has ended.
pub fn wait_for_any(blocks: bool) -> rustix::io::Result<Option<(i32, i32)>> {
    let mut status = 0;
    let options = if blocks { 0 } else { libc::WNOHANG };
    // SAFETY: `status` is valid for writing.
    let pid = check(unsafe { libc::waitpid(-1, &raw mut status, options) })?;
    Ok((pid != 0).then_some((pid as i32, status)))
}

/// Keeps this process's memory and files from those who have the same user: what runs in a container that is not kept
/// apart by namespaces.
pub fn hide_from_others() {
    // SAFETY: no memory is involved. A core dump is all that is lost.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Has all threads of this process share two heaps. glibc gives each thread one of its own up to eight for a core, and
/// what is free in one serves no other: measured, a sixth of the memory of a build. Before the first thread.
pub fn share_heaps() {
    // SAFETY: no memory is involved, and one thread only.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

/// Returns to the kernel what is free in this process's heaps: glibc keeps pages below ones that are used. It takes some
/// milliseconds for each 100 MB, in which no thread allocates.
pub fn return_free_memory() {
    // SAFETY: only pages without an allocation are given back.
    unsafe { libc::malloc_trim(0) };
}

/// The bytes of uname(2), with another name of the machine.
pub fn uname_as(hostname: &str) -> rustix::io::Result<Vec<u8>> {
    const FIELD: usize = 65;
    let names = rustix::system::uname();
    let fields: [&[u8]; 6] = [
        names.sysname().to_bytes(),
        hostname.as_bytes(),
        names.release().to_bytes(),
        names.version().to_bytes(),
        names.machine().to_bytes(),
        names.domainname().to_bytes(),
    ];
    let mut bytes = Vec::with_capacity(fields.len() * FIELD);
    for field in fields {
        let mut text = field[..field.len().min(FIELD - 1)].to_vec();
        text.resize(FIELD, 0);
        bytes.extend(text);
    }
    Ok(bytes)
}

/// The number of the terminal whose master this is; none for anything else.
pub fn terminal_number(file: impl AsFd) -> Option<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the request writes one such number.
    let told =
        check(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::TIOCGPTN, &raw mut number) });
    told.ok().map(|_| number)
}

/// Another user's ids for access to files, until it is dropped. For a process with one thread, and root's capabilities.
pub struct FileRights {
    uid: u32,
    gid: u32,
    groups: Option<Vec<rustix::process::Gid>>,
}

impl FileRights {
    /// Takes ids on; without `groups` the other groups stay this process's.
    pub fn take(uid: u32, gid: u32, groups: Option<&[u32]>) -> rustix::io::Result<FileRights> {
        let mut before = FileRights { uid: 0, gid: 0, groups: None };
        if let Some(groups) = groups {
            before.groups = Some(rustix::process::getgroups()?);
            let groups: Vec<_> =
                groups.iter().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
            rustix::thread::set_thread_groups(&groups)?;
        }
        before.gid = set_file_gid(gid);
        before.uid = set_file_uid(uid);
        // The calls tell no failure; what is no id changes nothing and tells what is.
        if (set_file_uid(u32::MAX), set_file_gid(u32::MAX)) != (uid, gid) {
            return Err(Errno::PERM);
        }
        Ok(before)
    }
}

impl Drop for FileRights {
    fn drop(&mut self) {
        // The user first: root's capabilities come back with it.
        set_file_uid(self.uid);
        set_file_gid(self.gid);
        if let Some(groups) = &self.groups {
            // It could be done a moment ago.
            let _ = rustix::thread::set_thread_groups(groups);
        }
    }
}

fn set_file_uid(uid: u32) -> u32 {
    // SAFETY: no memory is involved.
    unsafe { libc::setfsuid(uid) as u32 }
}

fn set_file_gid(gid: u32) -> u32 {
    // SAFETY: no memory is involved.
    unsafe { libc::setfsgid(gid) as u32 }
}

/// A structure that the kernel fills in a caller's memory.
pub trait KernelStructure {
    /// Its bytes, as the kernel lays them out.
    fn bytes(&self) -> &[u8];
}

macro_rules! kernel_structures {
    ($($name:ty),*) => {$(
        impl KernelStructure for $name {
            fn bytes(&self) -> &[u8] {
                let start = std::ptr::from_ref(self).cast();
                // SAFETY: the kernel's structures consist of integers whose padding has names, so all bytes are
                // initialised, and they live as long as `self`.
                unsafe { std::slice::from_raw_parts(start, size_of::<Self>()) }
            }
        }
    )*};
}

kernel_structures!(rustix::fs::Stat, rustix::fs::Statx, rustix::fs::StatFs);

/// Sends a signal to a child that has not been waited for yet.
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) };
}

/// Signals blocked in this thread and readable from a descriptor instead.
pub struct SignalFd {
    fd: OwnedFd,
    before: libc::sigset_t,
}

/// A signal as it came.
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// True if the kernel sent it, as a terminal does to its whole foreground group.
    pub from_kernel: bool,
}

impl SignalFd {
    /// Blocks `signals`.
    pub fn new(signals: &[i32]) -> rustix::io::Result<SignalFd> {
        // SAFETY: both sets are initialised by the calls before they are read; they live across the calls.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
            }
            check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut before))?;
            let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC))? as i32;
            Ok(SignalFd { fd: OwnedFd::from_raw_fd(fd), before })
        }
    }

    /// Waits for the next signal.
    pub fn next(&self) -> rustix::io::Result<Received> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        loop {
            match rustix::io::read(&self.fd, &mut info) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
                Ok(_) => break,
            }
        }
        // SAFETY: the kernel wrote a whole record of integers, for which any bytes are valid; alignment is not assumed.
        let info: libc::signalfd_siginfo =
            unsafe { std::ptr::read_unaligned(info.as_ptr().cast()) };
        Ok(Received {
            signal: info.ssi_signo as i32,
            from_kernel: info.ssi_code == libc::SI_KERNEL,
        })
    }

    /// Undoes the blocking.
    pub fn restore(&self) {
        // SAFETY: `before` was filled by `new`.
        unsafe {
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut())
        };
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Blocks every signal that can be blocked, besides those that are.
pub fn block_signals() -> rustix::io::Result<()> {
    // SAFETY: the set is initialised by the call before it is read, and lives across both.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()))?;
    }
    Ok(())
}

/// Gives every signal its default meaning and blocks none: what a job ignores, its containers do not.
pub fn reset_signals() {
    // SAFETY: installs no handlers; for SIGKILL, SIGSTOP and libc's own the call fails without effect.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Gives a signal its default meaning and sends it to this process, to end as a child of it has ended.
pub fn die_of(signal: i32) {
    // SAFETY: as in `reset_signals`.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::kill(libc::getpid(), signal);
    }
}

/// Becomes another program. Returns only when that failed.
pub fn execute(program: &CString, args: &[CString], env: &[CString]) -> Errno {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and hold terminated strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    last_errno()
}

/// Becomes another program with this process's environment. Returns only when that failed.
pub fn execute_here(program: &CString, args: &[CString]) -> Errno {
    let pointers: Vec<_> =
        args.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: as in `execute`.
    unsafe { libc::execv(program.as_ptr(), pointers.as_ptr()) };
    last_errno()
}

/// Sets one resource limit of this process.
pub fn set_limit(resource: u32, soft: i64, hard: i64) -> rustix::io::Result<()> {
    // −1 is RLIM_INFINITY as it stands.
    let limit = libc::rlimit { rlim_cur: soft as libc::rlim_t, rlim_max: hard as libc::rlim_t };
    // SAFETY: `limit` lives across the call.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null::<u8>())
    })
    .map(drop)
}

/// Starts a session keyring of its own: the job's keys are not the container's. Kernels without keys have none to hide.
pub fn leave_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
}

/// Switches the loopback interface of this network namespace on.
pub fn loopback_up() -> rustix::io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain data, for which zero is valid; the name stays terminated; the requests read and write
    // the flags alone.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request))?;
    }
    Ok(())
}

/// The number of a loop device that is free.
pub fn free_loop_device() -> rustix::io::Result<i64> {
    use rustix::fs::{Mode, OFlags, open};
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
    let control = open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) })
}

/// Loads a device program and attaches it to a cgroup.
pub fn attach_device_program(cgroup: impl AsFd, instructions: &[u64]) -> rustix::io::Result<()> {
    const BPF_PROG_LOAD: i32 = 5;
    const BPF_PROG_ATTACH: i32 = 8;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    const BPF_CGROUP_DEVICE: u32 = 6;

    /// The head of `union bpf_attr` for loading; the kernel takes what is missing for zero.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }

    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the structure is laid out as the kernel's, its size is passed, and what it points to lives on.
    let program = check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>())
    })?;
    // SAFETY: the kernel just made this descriptor for us.
    let program = unsafe { OwnedFd::from_raw_fd(program as i32) };
    let attach = Attach {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: 0,
    };
    // SAFETY: as above.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>())
    })
    .map(drop)
}
