//! A cgroup that keeps containers from the host's devices.
//!
//! A container's root user may make device files (packages and `debootstrap` do), and one for the host's disk is the
//! host. So containers run in a cgroup with a program that lets them open the harmless ones only, as runc does it.
//! Where there is no writable cgroup v2, device files in a container do not work at all (`nodev`).

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use crate::sys;

/// Folders of dead runs have this in front of the process id.
const PREFIX: &str = "kiln-containers-";

/// Character devices that a container may open, as runc's: major and minor number, none for any (terminals of
/// `/dev/pts`). Making device files is not restricted.
const ALLOWED: [(i32, Option<i32>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// The cgroup, for as long as this lives.
#[derive(Debug)]
pub struct DeviceGuard {
    path: PathBuf,
}

impl DeviceGuard {
    /// Makes the cgroup below this process's own, or gives none where that is not possible.
    pub fn new() -> Option<DeviceGuard> {
        let parent = own_cgroup()?;
        remove_dead(&parent);
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{}-{count}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let guard = DeviceGuard { path };
        let fd =
            open(guard.path(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .ok()?;
        sys::attach_device_program(&fd, &device_program()).ok()?;
        guard.accepts_processes().then_some(guard)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Below a cgroup that shares its resources out by thread there may be only such ones, which take no processes.
    fn accepts_processes(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.type")).is_ok_and(|kind| kind.trim() == "domain")
    }
}

impl Drop for DeviceGuard {
    fn drop(&mut self) {
        // Stays when a container still ends in it; the next kiln here removes it.
        let _ = fs::remove_dir(&self.path);
    }
}

/// The folder of this process's cgroup in the v2 hierarchy.
fn own_cgroup() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(Path::new)
        .into_iter()
        .find(|mount| {
            mount.join("cgroup.procs").exists() && mount.join("cgroup.controllers").exists()
        })
        .map(|mount| mount.join(path))
        .filter(|folder| folder.is_dir())
}

fn remove_dead(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Only an empty cgroup can be removed.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// One instruction of eBPF.
const fn instruction(code: u8, target: u8, source: u8, offset: i16, value: i32) -> u64 {
    (code as u64)
        | ((target as u64) << 8)
        | ((source as u64) << 12)
        | ((offset as u16 as u64) << 16)
        | ((value as u32 as u64) << 32)
}

/// The program: 1 allows, 0 refuses. Its argument points to `struct bpf_cgroup_dev_ctx`.
fn device_program() -> Vec<u64> {
    const LOAD_WORD: u8 = 0x61;
    const AND: u8 = 0x54;
    const RIGHT: u8 = 0x74;
    const MOVE: u8 = 0xb4;
    const COPY: u8 = 0xbc;
    const JUMP_UNLESS: u8 = 0x56;
    const EXIT: u8 = 0x95;
    const MAKE: i32 = 1;
    const CHARACTER: i32 = 2;
    let give = |value| [instruction(MOVE, 0, 0, 0, value), instruction(EXIT, 0, 0, 0, 0)];

    let mut program = vec![
        // r2: kind of device; r3: wanted access; r4, r5: the numbers.
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(COPY, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
        // Making a device file is harmless.
        instruction(JUMP_UNLESS, 3, 0, 2, MAKE),
    ];
    program.extend(give(1));
    // Its distance is known once the body is there.
    program.push(0);
    let body_start = program.len();
    for (major, minor) in ALLOWED {
        let minor = minor.map(|minor| instruction(JUMP_UNLESS, 5, 0, 2, minor));
        program.push(instruction(JUMP_UNLESS, 4, 0, 2 + minor.is_some() as i16, major));
        program.extend(minor);
        program.extend(give(1));
    }
    let body = (program.len() - body_start) as i16;
    program[body_start - 1] = instruction(JUMP_UNLESS, 2, 0, body, CHARACTER);
    program.extend(give(0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_stay_inside_and_the_end_refuses() {
        let program = device_program();
        for (index, word) in program.iter().enumerate() {
            if word & 0xff == 0x56 {
                let target = index as i64 + 1 + i64::from((word >> 16) as u16 as i16);
                assert!((target as usize) < program.len(), "instruction {index}");
            }
        }
        assert_eq!(
            program[program.len() - 2..],
            [instruction(0xb4, 0, 0, 0, 0), instruction(0x95, 0, 0, 0, 0)]
        );
    }
}
