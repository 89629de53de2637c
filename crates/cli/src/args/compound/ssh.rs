//! `--ssh`.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::settings::Environment;

/// Reads a value of `--ssh`: an id and its agent's socket. Without a socket, it is
/// `SSH_AUTH_SOCK`'s.
///
/// # Errors
/// A sentence if there is no agent, or what is given is a key.
pub fn agent(
    text: &str,
    directory: &Path,
    environment: &Environment,
) -> Result<(String, PathBuf), String> {
    let (id, paths) = match text.split_once('=') {
        Some((id, paths)) => (id, paths),
        None => (text, ""),
    };
    let id = if id.is_empty() { "default" } else { id };
    if let Some(option) = paths.split(',').find(|part| part.starts_with("raw=")) {
        return Err(format!("`{option}` is not there yet"));
    }
    let path = match paths {
        "" => environment
            .get("SSH_AUTH_SOCK")
            .ok_or_else(|| format!("`{id}`: there is no agent: SSH_AUTH_SOCK is not set"))?,
        paths if paths.contains(',') => return Err(keys(id)),
        path => path,
    };
    let path = directory.join(path);
    let metadata = path
        .metadata()
        .map_err(|error| format!("`{id}`: the agent's socket `{}`: {error}", path.display()))?;
    match metadata.file_type().is_socket() {
        true => Ok((id.to_owned(), path)),
        false => Err(keys(id)),
    }
}

fn keys(id: &str) -> String {
    format!(
        "`{id}`: key files are not there yet; add the key to an agent (ssh-add) and give its socket"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(folder.path().join("key"), "").unwrap();
        let environment = Environment::of(&[("SSH_AUTH_SOCK", socket.to_str().unwrap())]);
        let read = |text: &str| agent(text, folder.path(), &environment);
        assert_eq!(read("default").unwrap(), ("default".into(), socket.clone()));
        assert_eq!(read("git=sock").unwrap(), ("git".into(), socket.clone()));
        assert!(read("git=key").unwrap_err().contains("key files are not there yet"));
        assert!(read("git=none").unwrap_err().contains("none"));
        let nothing = Environment::default();
        assert!(agent("default", folder.path(), &nothing).unwrap_err().contains("SSH_AUTH_SOCK"));
    }
}
