//! The attempts of a hostile command: a separate program without libraries, so that other tests can compile it too.
//!
//! `attack OUTER INODE PID` tries to reach the file `OUTER` (a path of the host, with its inode) and the process `PID`,
//! both of which must be out of its reach. Each attempt prints one line, `held: WHAT` or `BROKEN: WHAT: HOW`.

use std::ffi::CString;
use std::io::Error;

/// Numbers of system calls (x86_64).
#[rustfmt::skip]
mod call {
    pub const OPEN: usize = 2;
    pub const STAT: usize = 4;
    pub const FSTAT: usize = 5;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const SENDMSG: usize = 46;
    pub const RECVMSG: usize = 47;
    pub const BIND: usize = 49;
    pub const EXECVE: usize = 59;
    pub const CHDIR: usize = 80;
    pub const FCHDIR: usize = 81;
    pub const RENAME: usize = 82;
    pub const MKDIR: usize = 83;
    pub const LINK: usize = 86;
    pub const UNLINK: usize = 87;
    pub const CHMOD: usize = 90;
    pub const CHOWN: usize = 92;
    pub const PTRACE: usize = 101;
    pub const UTIME: usize = 132;
    pub const MKNOD: usize = 133;
    pub const PIVOT_ROOT: usize = 155;
    pub const CHROOT: usize = 161;
    pub const MOUNT: usize = 165;
    pub const SETXATTR: usize = 188;
    pub const OPENAT: usize = 257;
    pub const UNLINKAT: usize = 263;
    pub const LINKAT: usize = 265;
    pub const UNSHARE: usize = 272;
    pub const UTIMENSAT: usize = 280;
    pub const NAME_TO_HANDLE: usize = 303;
    pub const OPEN_BY_HANDLE: usize = 304;
    pub const SETNS: usize = 308;
    pub const PROCESS_VM_READV: usize = 310;
    pub const KCMP: usize = 312;
    pub const EXECVEAT: usize = 322;
    pub const IO_URING_SETUP: usize = 425;
    pub const IO_URING_ENTER: usize = 426;
    pub const IO_URING_REGISTER: usize = 427;
    pub const OPEN_TREE: usize = 428;
    pub const PIDFD_OPEN: usize = 434;
    pub const PIDFD_GETFD: usize = 438;
}

const HERE: usize = -100_isize as usize;
const O_PATH: usize = 0o10_000_000;
const O_DIRECTORY: usize = 0o200_000;
const O_RDWR: usize = 2;

unsafe extern "C" {
    fn syscall(number: usize, ...) -> isize;
}

/// Makes a system call.
fn sys(number: usize, args: &[usize]) -> Result<usize, i32> {
    let at = |index: usize| args.get(index).copied().unwrap_or(0);
    // SAFETY: all addresses are those of live buffers of the caller, of the size that the call requires.
    let result = unsafe { syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    if result < 0 {
        return Err(Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    Ok(result as usize)
}

/// A string for the kernel.
fn text(text: &str) -> CString {
    CString::new(text).expect("no zero in it")
}

fn at(text: &CString) -> usize {
    text.as_ptr() as usize
}

fn report(what: &str, broken: Option<String>) {
    match broken {
        None => println!("held: {what}"),
        Some(how) => println!("BROKEN: {what}: {how}"),
    }
}

/// The targets of the attacks.
struct Prey {
    /// The path, without its leading slash.
    path: String,
    inode: u64,
    pid: usize,
}

impl Prey {
    /// Tries all operations on a path, and returns the first that succeeds.
    fn try_all(&self, path: &str) -> Option<String> {
        let name = text(path);
        let beside = text(&format!("{path}-made"));
        let (stolen, attribute) = (text("/stolen"), text("user.x"));
        let mut stat = [0_u64; 18];
        if sys(call::STAT, &[at(&name), stat.as_mut_ptr() as usize]).is_ok() {
            return (stat[1] == self.inode).then(|| format!("stat of `{path}`"));
        }
        let times = [0_u64; 4];
        let attempts: [(&str, usize, &[usize]); 14] = [
            ("open", call::OPEN, &[at(&name), 0]),
            ("O_PATH", call::OPEN, &[at(&name), O_PATH]),
            ("write", call::OPEN, &[at(&name), O_RDWR]),
            ("chmod", call::CHMOD, &[at(&name), 0o666]),
            ("chown", call::CHOWN, &[at(&name), 1, 1]),
            ("utime", call::UTIME, &[at(&name), 0]),
            ("utimensat", call::UTIMENSAT, &[HERE, at(&name), times.as_ptr() as usize, 0]),
            ("setxattr", call::SETXATTR, &[at(&name), at(&attribute), at(&name), 1, 0]),
            ("link", call::LINK, &[at(&name), at(&stolen)]),
            ("rename", call::RENAME, &[at(&name), at(&stolen)]),
            ("mkdir", call::MKDIR, &[at(&beside), 0o755]),
            ("mknod", call::MKNOD, &[at(&beside), 0o010_644, 0]),
            ("unlink", call::UNLINK, &[at(&name)]),
            ("exec", call::EXECVE, &[at(&name), 0, 0]),
        ];
        for (what, number, args) in attempts {
            if sys(number, args).is_ok() {
                return Some(format!("{what} of `{path}`"));
            }
        }
        connects(&format!("{path}.sock")).then(|| format!("connect to `{path}.sock`"))
    }

    /// Tries all operations on the path relative to the working directory and its ancestors.
    fn climb(&self) -> Option<String> {
        (0..12).find_map(|steps| self.try_all(&format!("{}{}", "../".repeat(steps), self.path)))
    }
}

/// True if a socket at a path accepts connections.
fn connects(path: &str) -> bool {
    let Ok(socket) = sys(call::SOCKET, &[1, 1, 0]) else { return false };
    let address = address(path.as_bytes());
    sys(call::CONNECT, &[socket, address.as_ptr() as usize, address.len()]).is_ok()
}

fn address(name: &[u8]) -> Vec<u8> {
    let mut address = vec![1, 0];
    address.extend_from_slice(&name[..name.len().min(107)]);
    if name.first() != Some(&0) {
        address.push(0);
    }
    address
}

fn open(path: &str, flags: usize) -> Result<usize, i32> {
    sys(call::OPEN, &[at(&text(path)), flags])
}

fn go(path: &str) -> Result<usize, i32> {
    sys(call::CHDIR, &[at(&text(path))])
}

/// Tries to leave a chroot through a folder that was opened before it.
fn second_root(prey: &Prey) -> Option<String> {
    let root = open("/", O_PATH | O_DIRECTORY).ok()?;
    let _ = sys(call::MKDIR, &[at(&text("/second")), 0o755]);
    let entered = sys(call::CHROOT, &[at(&text("/second"))]);
    let _ = sys(call::FCHDIR, &[root]);
    let found = prey.climb();
    if entered.is_ok() {
        let _ = sys(call::CHROOT, &[at(&text("."))]);
    }
    let _ = go("/");
    // In namespaces there is nothing above the root.
    found.map(|how| format!("{how} (chroot: {entered:?})"))
}

/// The same with the system call of 32-bit programs.
#[cfg(target_arch = "x86_64")]
fn second_root_in_32_bits(prey: &Prey) -> Option<String> {
    const MMAP: usize = 9;
    let root = open("/", O_PATH | O_DIRECTORY).ok()?;
    let _ = sys(call::MKDIR, &[at(&text("/second")), 0o755]);
    // MAP_PRIVATE, MAP_ANONYMOUS, MAP_32BIT: an address within 32 bits.
    let low = sys(MMAP, &[0, 4096, 3, 0x62, usize::MAX, 0]).ok()?;
    let mut result: isize;
    // SAFETY: the page was just mapped for writing; the call reads a string from it and changes no memory.
    unsafe {
        std::ptr::copy_nonoverlapping(c"/second".to_bytes_with_nul().as_ptr(), low as *mut u8, 8);
        std::arch::asm!(
            "push rbx", "mov ebx, edi", "int 0x80", "pop rbx",
            inlateout("rax") 61_isize => result, in("rdi") low,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    let _ = sys(call::FCHDIR, &[root]);
    let found = prey.climb();
    if result == 0 {
        let _ = sys(call::CHROOT, &[at(&text("."))]);
    }
    let _ = go("/");
    found.map(|how| format!("{how} (chroot: {result})"))
}

#[cfg(not(target_arch = "x86_64"))]
fn second_root_in_32_bits(_: &Prey) -> Option<String> {
    None
}

/// Folders whose `..` may be the host's.
const KERNELS: [&str; 14] = [
    "/proc",
    "/proc/self",
    "/proc/self/fd",
    "/proc/self/task",
    "/proc/self/net",
    "/proc/self/ns",
    "/proc/1",
    "/proc/sys/kernel",
    "/sys",
    "/sys/kernel",
    "/sys/fs/cgroup",
    "/dev/pts",
    "/dev/fd",
    "/dev",
];

/// Tries to leave through a descriptor of a kernel folder.
fn kernels_folders(prey: &Prey) -> Option<String> {
    let found = KERNELS.iter().find_map(|path| {
        for flags in [O_DIRECTORY, O_PATH | O_DIRECTORY] {
            let Ok(folder) = open(path, flags) else { continue };
            let _ = sys(call::FCHDIR, &[folder]);
            if let Some(how) = prey.climb() {
                return Some(format!("{how} from `{path}`"));
            }
            for steps in 1..12 {
                let outer = format!("{}{}", "../".repeat(steps), prey.path);
                let outer = text(&outer);
                let stolen = text("/stolen");
                if sys(call::LINKAT, &[folder, at(&outer), HERE, at(&stolen), 0]).is_ok()
                    || sys(call::UNLINKAT, &[folder, at(&outer), 0]).is_ok()
                    || sys(call::OPENAT, &[folder, at(&outer), O_PATH]).is_ok()
                    || sys(call::EXECVEAT, &[folder, at(&outer), 0, 0, 0]).is_ok()
                {
                    return Some(format!("a call relative to `{path}`"));
                }
            }
        }
        None
    });
    let _ = go("/");
    found
}

/// Tries to leave a kernel folder by a path that another thread changes during the check.
fn a_path_that_changes(prey: &Prey) -> Option<String> {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let over = AtomicBool::new(false);
    // Eight bytes, stored at once: `fd`, and `../..`.
    let (good, bad) = (*b"fd\0\0\0\0\0\0", *b"../../.\0");
    let path = AtomicU64::new(u64::from_ne_bytes(good));
    let mut found = None;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                path.store(u64::from_ne_bytes(bad), Ordering::Relaxed);
                path.store(u64::from_ne_bytes(good), Ordering::Relaxed);
            }
        });
        for _ in 0..300 {
            let _ = go("/proc/self");
            let _ = sys(call::CHDIR, &[path.as_ptr() as usize]);
            for steps in 0..3 {
                let path = format!("{}{}", "../".repeat(steps), prey.path);
                found = found.take().or_else(|| prey.try_all(&path));
            }
            if let Ok(folder) = open("/proc/self", O_DIRECTORY) {
                if let Ok(opened) = sys(call::OPENAT, &[folder, path.as_ptr() as usize, O_PATH]) {
                    let _ = sys(call::FCHDIR, &[opened]);
                    found = found.take().or_else(|| prey.try_all(&prey.path));
                    let _ = sys(3, &[opened]);
                }
                let _ = sys(3, &[folder]);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let _ = go("/");
    found
}

/// Tries the links of processes: its own, the first, the parent and the target.
fn links_of_processes(prey: &Prey) -> Option<String> {
    let parent = std::os::unix::process::parent_id();
    let pids =
        ["self", "thread-self", "1", &parent.to_string(), &prey.pid.to_string()].map(String::from);
    pids.iter().find_map(|pid| {
        ["root", "cwd", "root/..", "cwd/..", "root/../../..", "task/../../..", "fd/..", "exe/.."]
            .iter()
            .find_map(|link| prey.try_all(&format!("/proc/{pid}/{link}/{}", prey.path)))
    })
}

/// Tries to access a process of the job.
fn another_process(prey: &Prey) -> Option<String> {
    const ATTACH: usize = 16;
    const SEIZE: usize = 0x4206;
    let pid = prey.pid;
    for name in ["environ", "mem", "maps", "fd/0", "cwd", "root", "exe"] {
        let path = format!("/proc/{pid}/{name}");
        if let Ok(file) = open(&path, 0)
            && sys(0, &[file, [0_u8; 64].as_mut_ptr() as usize, 64]).is_ok_and(|read| read > 0)
        {
            return Some(format!("read `{path}`"));
        }
    }
    let mut bytes = [0_u8; 8];
    let own = [bytes.as_mut_ptr() as usize, 8];
    let theirs = [0x40_0000_usize, 8];
    let reads = [pid, own.as_ptr() as usize, 1, theirs.as_ptr() as usize, 1, 0];
    // ESRCH if there is no such process here, EFAULT if its memory could be read.
    let attempts = [
        ("PTRACE_ATTACH", sys(call::PTRACE, &[ATTACH, pid])),
        ("PTRACE_SEIZE", sys(call::PTRACE, &[SEIZE, pid])),
        ("process_vm_readv", sys(call::PROCESS_VM_READV, &reads)),
        ("kcmp", sys(call::KCMP, &[pid, pid, 0, 0, 0])),
        (
            "pidfd_getfd",
            sys(call::PIDFD_OPEN, &[pid, 0]).and_then(|fd| sys(call::PIDFD_GETFD, &[fd, 0, 0])),
        ),
    ];
    let got = attempts.iter().find(|(_, result)| matches!(result, Ok(_) | Err(14)));
    got.map(|(what, result)| format!("{what}: {result:?}"))
}

/// Tries calls that are refused in every sandbox.
fn refused_calls(_: &Prey) -> Option<String> {
    let root = text("/");
    let kind = text("tmpfs");
    let mut parameters = [0_u32; 32];
    let mut handle = [0_u32; 40];
    handle[0] = 128;
    let mut id = [0_u32];
    let (handle, id) = (handle.as_mut_ptr() as usize, id.as_mut_ptr() as usize);
    let own = open("/proc/self/ns/mnt", 0).unwrap_or(usize::MAX);
    let attempts = [
        ("unshare of a user namespace", sys(call::UNSHARE, &[0x1000_0000])),
        ("unshare of the folders", sys(call::UNSHARE, &[0x200])),
        ("setns", sys(call::SETNS, &[own, 0])),
        ("mount", sys(call::MOUNT, &[at(&kind), at(&root), at(&kind), 0, 0])),
        ("pivot_root", sys(call::PIVOT_ROOT, &[at(&root), at(&root)])),
        ("open_tree", sys(call::OPEN_TREE, &[HERE, at(&root), 1])),
        ("name_to_handle_at", sys(call::NAME_TO_HANDLE, &[HERE, at(&root), handle, id, 0])),
        ("open_by_handle_at", sys(call::OPEN_BY_HANDLE, &[HERE, handle, 0])),
        ("io_uring_setup", sys(call::IO_URING_SETUP, &[1, parameters.as_mut_ptr() as usize])),
        ("io_uring_enter", sys(call::IO_URING_ENTER, &[0])),
        ("io_uring_register", sys(call::IO_URING_REGISTER, &[0])),
    ];
    let got = attempts.iter().find(|(_, result)| !matches!(result, Err(1 | 38)));
    got.map(|(what, result)| format!("{what}: {result:?}"))
}

/// Tries kernel files that change the machine.
fn machines_files(_: &Prey) -> Option<String> {
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/1/oom_score_adj",
        "/sys/power/state",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ]
    .iter()
    // The command may be process 1 itself.
    .filter(|path| !(path.starts_with("/proc/1/") && is_first()))
    .find_map(|path| {
        let mode = sys(call::CHMOD, &[at(&text(path)), 0o666]);
        let opened = open(path, 1);
        (opened.is_ok() || mode.is_ok()).then(|| format!("`{path}`: {opened:?}, chmod {mode:?}"))
    })
}

/// True if `/proc/1` is a process of the command itself.
fn is_first() -> bool {
    let environment = std::fs::read("/proc/1/environ").unwrap_or_default();
    environment.windows(7).any(|word| word == b"ATTACK=")
}

/// Looks for descriptors that were left open.
fn inherited(_: &Prey) -> Option<String> {
    let mut stat = [0_u64; 18];
    let open = (3..256).find(|fd| sys(call::FSTAT, &[*fd, stat.as_mut_ptr() as usize]).is_ok());
    open.map(|fd| format!("descriptor {fd}"))
}

/// Sends a folder of another root through an abstract socket: one process receives, the other sends.
fn another_root(prey: &Prey) -> Option<String> {
    let address = address(format!("\0kiln-attack-{}", prey.inode).as_bytes());
    let socket = sys(call::SOCKET, &[1, 2, 0]).ok()?;
    let root = open("/", O_PATH | O_DIRECTORY).ok()?;
    let bound = sys(call::BIND, &[socket, address.as_ptr() as usize, address.len()]);
    let mut byte = [0_u8];
    let part = [byte.as_mut_ptr() as usize, 1];
    // A header with one descriptor: its length, SOL_SOCKET, SCM_RIGHTS, the descriptor.
    let mut rights = [20_usize, 0x1_0000_0001, root];
    let control = rights.as_mut_ptr() as usize;
    let name = (address.as_ptr() as usize, address.len());
    for _ in 0..200 {
        if bound.is_ok() {
            let message = [0, 0, part.as_ptr() as usize, 1, control, 24, 0];
            const DONT_WAIT: usize = 0x40;
            if sys(call::RECVMSG, &[socket, message.as_ptr() as usize, DONT_WAIT]).is_ok() {
                let _ = sys(call::FCHDIR, &[rights[2] & 0xffff_ffff]);
                let found = prey.climb();
                let _ = go("/");
                return found.map(|how| format!("{how} from a folder that was sent"));
            }
        } else {
            let message = [name.0, name.1, part.as_ptr() as usize, 1, control, 20, 0];
            let _ = sys(call::SENDMSG, &[socket, message.as_ptr() as usize, 0]);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    None
}

/// A chroot to its own root must be allowed, because package managers do it.
fn own_root(_: &Prey) -> Option<String> {
    let _ = go("/");
    let asked = ["/", ".", "//", "/proc/.."].map(|path| sys(call::CHROOT, &[at(&text(path))]));
    asked.iter().any(Result::is_err).then(|| format!("{asked:?}"))
}

type Attack = (&'static str, fn(&Prey) -> Option<String>);

const ATTACKS: &[Attack] = &[
    ("inherited descriptors", inherited),
    ("a second root", second_root),
    ("a second root in 32 bits", second_root_in_32_bits),
    ("the kernel's folders", kernels_folders),
    ("a path that changes", a_path_that_changes),
    ("links of processes", links_of_processes),
    ("another process", another_process),
    ("refused calls", refused_calls),
    ("the machine's files", machines_files),
    ("its own root again", own_root),
];

/// Runs all attacks, or the named one.
pub fn main() {
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [.., outer, inode, pid] = args[..] else { panic!("attack OUTER INODE PID") };
    let prey = Prey {
        path: outer.trim_start_matches('/').to_owned(),
        inode: inode.parse().expect("an inode"),
        pid: pid.parse().expect("a process"),
    };
    if args.contains(&"--together") {
        return report("another root", another_root(&prey));
    }
    for (name, attack) in ATTACKS {
        report(name, attack(&prey));
    }
    println!("all {} tried", ATTACKS.len());
}
