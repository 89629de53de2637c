//! The units of the guide: the command of `ExecStart`, with a socket as systemd passes it (sd_listen_fds(3)).

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use fixtures::guide;

use crate::kiln;

/// The values of a key in a unit, in order.
fn values<'u>(unit: &'u str, section: &str, key: &str) -> Vec<&'u str> {
    let mut is_here = false;
    let mut found = Vec::new();
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            is_here = line == format!("[{section}]");
        } else {
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("`{line}`"));
            found.extend((is_here && name == key).then_some(value));
        }
    }
    found
}

/// A process that is ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_service_starts_when_a_client_comes() {
    let socket = guide::file("systemd.md", "kiln.socket");
    assert_eq!(values(&socket, "Socket", "ListenStream"), ["%t/kiln/kiln.sock"]);
    let service = guide::file("systemd.md", "kiln.service");
    assert_eq!(values(&service, "Unit", "Requires"), ["kiln.socket"]);
    let command = values(&service, "Service", "ExecStart").remove(0);
    let words = command.strip_prefix("/usr/local/bin/kiln ").unwrap();

    let folder = tempfile::Builder::new().prefix("ks-").tempdir_in("/tmp").unwrap();
    let path = folder.path().join("kiln.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // The client is there before the service.
    let mut client = UnixStream::connect(&path).unwrap();
    let kiln = kiln();
    let own = kiln.command(words.split(' '));
    let mut started = Command::new("sh");
    started
        .args(["-c", "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 0< /dev/null", "sh"])
        .arg(own.get_program())
        .args(own.get_args())
        .env_clear()
        .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let running = Running(started.spawn().unwrap());
    client.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("OK"), "{answer}");
    drop(running);
}
