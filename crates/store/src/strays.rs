//! Processes of a command that ran in a plain folder, left behind when kiln and its supervisors
//! were killed at once.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// Kills all processes whose root is at or below a folder, which a dead process has left and no
/// live one uses.
///
/// A process of another user can be seen by root with all capabilities only.
pub fn end(folder: &Path) {
    let Ok(folder) = folder.canonicalize() else { return };
    // A process that is started meanwhile is found by the next look.
    while end_once(&folder) > 0 {}
}

fn end_once(folder: &Path) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let inside = numbers.filter(|number| {
        fs::read_link(format!("/proc/{number}/root")).is_ok_and(|root| root.starts_with(folder))
    });
    let killed = inside.filter(|number| {
        Pid::from_raw(*number).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
    });
    killed.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_its_root_in_a_folder_is_ended() {
        use std::os::unix::fs::PermissionsExt as _;
        if !rustix::process::geteuid().is_root() {
            return fixtures::skip("strays", "it needs root");
        }
        let Some(busybox) = fixtures::program("busybox") else {
            return fixtures::skip("strays", "no busybox: `apt-get install busybox-static`");
        };
        let folder = tempfile::tempdir().unwrap();
        fs::copy(busybox, folder.path().join("busybox")).unwrap();
        fs::set_permissions(folder.path().join("busybox"), fs::Permissions::from_mode(0o755))
            .unwrap();
        let mut child = std::process::Command::new("chroot")
            .arg(folder.path())
            .args(["/busybox", "sh", "-c", "echo in; exec /busybox sleep 1000"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        end(tempfile::tempdir().unwrap().path());
        assert!(child.try_wait().unwrap().is_none(), "another folder's are left alone");
        // A killed process is found until it has been waited for.
        let folder = folder.path().to_owned();
        let ender = std::thread::spawn(move || end(&folder));
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        ender.join().unwrap();
    }
}
