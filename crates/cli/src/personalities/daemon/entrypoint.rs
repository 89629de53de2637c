//! The script that the image `docker:dind` starts with: its words, its addresses and its certificates.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::certificates::{
    CertificateError, MachineNames, ReadyCertificates, prepare, subject_names,
};
use crate::render::Report;
use crate::settings::Environment;

/// The meaning of the script's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'w> {
    /// The daemon as usual, with flags that add to that.
    Usual,
    /// The daemon with these flags alone.
    Dockerd(&'w [String]),
    /// Another program.
    Program(&'w [String]),
}

/// Tells a daemon's flags from another program.
pub fn start(words: &[String]) -> Start<'_> {
    match words.split_first() {
        None => Start::Usual,
        Some((first, _)) if first.starts_with('-') => Start::Usual,
        Some((first, rest)) if first == "dockerd" => Start::Dockerd(rest),
        Some(_) => Start::Program(words),
    }
}

/// Becomes another program; returns only if that is not possible.
pub fn become_program(words: &[String]) -> Report {
    let Some((program, rest)) = words.split_first() else { return Report::default() };
    let error = std::process::Command::new(program).args(rest).exec();
    format!("starting `{program}`: {error}").into()
}

/// The certificates in `DOCKER_TLS_CERTDIR`, made where they are missing; none if that is empty.
///
/// # Errors
/// If they cannot be made.
pub fn certificates(
    environment: &Environment,
) -> Result<Option<ReadyCertificates>, CertificateError> {
    let Some(folder) = environment.get("DOCKER_TLS_CERTDIR") else { return Ok(None) };
    let more = environment.get("DOCKER_TLS_SAN").unwrap_or_default();
    let names = subject_names(&MachineNames::of_this(), more)?;
    prepare(Path::new(folder), &names, SystemTime::now()).map(Some)
}

/// The flags that the script puts before those it is given.
pub fn words(environment: &Environment, ready: Option<&ReadyCertificates>) -> Vec<String> {
    let mut words = Vec::new();
    words.extend(socket(environment).map(|socket| format!("--host={socket}")));
    let Some(ready) = ready else {
        words.push("--host=tcp://0.0.0.0:2375".to_owned());
        return words;
    };
    words.push("--host=tcp://0.0.0.0:2376".to_owned());
    words.push("--tlsverify".to_owned());
    for (flag, path) in
        [("tlscacert", &ready.authority), ("tlscert", &ready.certificate), ("tlskey", &ready.key)]
    {
        words.push(format!("--{flag}={}", path.display()));
    }
    words
}

/// The Unix socket: that of `DOCKER_HOST`, the usual one, or that of a user without root; none if no folder for it
/// can be written.
fn socket(environment: &Environment) -> Option<String> {
    let named = environment.get("DOCKER_HOST").filter(|host| host.starts_with("unix://"));
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let can_write =
        |folder: &Path| rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok();
    let own = environment.get("XDG_RUNTIME_DIR").map(PathBuf::from);
    let folders = [Some(PathBuf::from("/var/run")), own];
    let folder = folders.into_iter().flatten().find(|folder| can_write(folder))?;
    Some(format!("unix://{}", folder.join("docker.sock").display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn flags_add_to_the_usual_daemon_and_a_name_replaces_it() {
        assert_eq!(start(&[]), Start::Usual);
        assert_eq!(start(&owned(&["--mtu=1400"])), Start::Usual);
        let named = owned(&["dockerd", "--tls=false"]);
        assert_eq!(start(&named), Start::Dockerd(&named[1..]));
        let other = owned(&["sh", "-c", "dockerd"]);
        assert_eq!(start(&other), Start::Program(&other));
    }

    #[test]
    fn the_port_says_if_there_is_tls() {
        let host = ("DOCKER_HOST", "unix:///x.sock");
        let plain = Environment::of(&[host, ("DOCKER_TLS_CERTDIR", "")]);
        assert!(certificates(&plain).unwrap().is_none());
        assert_eq!(words(&plain, None), ["--host=unix:///x.sock", "--host=tcp://0.0.0.0:2375"]);
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("certs").display().to_string();
        let secure = Environment::of(&[host, ("DOCKER_TLS_CERTDIR", &folder)]);
        let ready = certificates(&secure).unwrap();
        let words = words(&secure, ready.as_ref());
        assert_eq!(words[1..3], ["--host=tcp://0.0.0.0:2376", "--tlsverify"]);
        assert_eq!(words[5], format!("--tlskey={folder}/server/key.pem"));
    }
}
