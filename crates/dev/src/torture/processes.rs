//! Processes of the machine, found by their ancestors or by a mark in their environment. They are killed through a
//! pidfd, so that a reused process id kills no other process.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that marks all processes of a torture.
pub const MARK: &str = "KILN_TORTURE";
/// The name of kiln's init processes.
const INIT: &str = "kiln-init";

/// A snapshot of a process. Two are equal if they are of the same process: a child that is looked at while it calls
/// `execve` still has the arguments of its parent.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: i32,
    parent: i32,
    /// Start time in ticks since boot. With the process id, it identifies the process.
    started: u64,
    is_zombie: bool,
    pub arguments: String,
}

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}

impl Eq for Process {}

impl Process {
    /// The process that has this id now.
    pub fn read(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name may contain blanks and parentheses.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            is_zombie: *fields.first()? == "Z",
            arguments: String::from_utf8_lossy(&arguments).replace('\0', " ").trim().to_owned(),
        })
    }

    /// True if it is an init process of kiln.
    pub fn is_init(&self) -> bool {
        self.arguments == INIT
    }

    /// True if it still runs.
    pub fn lives(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started && !now.is_zombie)
    }

    /// Kills it, and returns true if it was still running.
    pub fn kill(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
        self.lives() && pidfd_send_signal(&descriptor, Signal::KILL).is_ok()
    }

    fn has_mark(&self, mark: &str) -> bool {
        let wanted = format!("{MARK}={mark}");
        std::fs::read(format!("/proc/{}/environ", self.pid))
            .is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|line| line == wanted.as_bytes()))
    }

    /// Its PID namespace.
    fn namespace(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/ns/pid", self.pid)).ok()
    }
}

/// All processes.
fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(Process::read).collect()
}

/// The descendants of a process.
pub fn below(pid: i32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.pid);
            found.push(process.clone());
        }
    }
    found
}

/// The processes with a mark.
pub fn marked(mark: &str) -> Vec<Process> {
    all().into_iter().filter(|process| !process.is_zombie && process.has_mark(mark)).collect()
}

/// The processes of a container except its first.
pub fn inside(container: i32) -> Vec<Process> {
    let Some(namespace) = Process::read(container).and_then(|first| first.namespace()) else {
        return Vec::new();
    };
    let others = all().into_iter().filter(|process| process.pid != container);
    others
        .filter(|process| !process.is_zombie && process.namespace().as_ref() == Some(&namespace))
        .collect()
}

/// Polls until there is an answer, or for `patience`.
pub fn wait_for<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        match ask() {
            Some(answer) => return Some(answer),
            None if Instant::now() > deadline => return None,
            None => std::thread::sleep(Duration::from_millis(3)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_child_is_found_and_killed() {
        let mut command = std::process::Command::new("sleep");
        let mark = format!("test-{}", std::process::id());
        let mut child = command.arg("1000").env(MARK, &mark).spawn().unwrap();
        let own = std::process::id() as i32;
        // Between fork and exec, it has the environment of this process.
        let found = wait_for(Duration::from_secs(20), || marked(&mark).pop()).unwrap();
        assert_eq!(found.pid, child.id() as i32);
        assert!(below(own).contains(&found) && found.lives() && !found.is_init());
        assert!(found.kill());
        child.wait().unwrap();
        assert!(!found.lives() && !found.kill() && marked(&mark).is_empty());
    }
}
