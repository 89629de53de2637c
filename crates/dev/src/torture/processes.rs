//! Processes of the machine: found by who started them and by a mark in their environment, and killed by a descriptor,
//! so that a number that somebody else has by now is nobody's end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that marks all that a torture starts.
pub const MARK: &str = "KILN_TORTURE";
/// The name of kiln's init processes.
const INIT: &str = "kiln-init";

/// A process as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    parent: i32,
    /// When it began, in ticks since the machine did: with the number, it is one process for good.
    started: u64,
    is_zombie: bool,
    pub arguments: String,
}

impl Process {
    /// The process that has a number now.
    pub fn read(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // A name may have blanks and parentheses in it.
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

    /// Tells kiln's init processes from others.
    pub fn is_init(&self) -> bool {
        self.arguments == INIT
    }

    /// Looks whether it still runs.
    pub fn lives(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started && !now.is_zombie)
    }

    /// Kills it; whether there was something to kill.
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

    /// The namespace of its process ids.
    fn namespace(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/ns/pid", self.pid)).ok()
    }
}

/// All that there are.
fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(Process::read).collect()
}

/// Those that a process has started, and those that these have.
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

/// Those that have a mark.
pub fn marked(mark: &str) -> Vec<Process> {
    all().into_iter().filter(|process| !process.is_zombie && process.has_mark(mark)).collect()
}

/// Those of a container but its first.
pub fn inside(container: i32) -> Vec<Process> {
    let Some(namespace) = Process::read(container).and_then(|first| first.namespace()) else {
        return Vec::new();
    };
    let others = all().into_iter().filter(|process| process.pid != container);
    others
        .filter(|process| !process.is_zombie && process.namespace().as_ref() == Some(&namespace))
        .collect()
}

/// Asks until there is an answer, or for `patience`.
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
        // Between fork and exec it has the environment of this process.
        let found = wait_for(Duration::from_secs(20), || marked(&mark).pop()).unwrap();
        assert_eq!(found.pid, child.id() as i32);
        assert!(below(own).contains(&found) && found.lives() && !found.is_init());
        assert!(found.kill());
        child.wait().unwrap();
        assert!(!found.lives() && !found.kill() && marked(&mark).is_empty());
    }
}
