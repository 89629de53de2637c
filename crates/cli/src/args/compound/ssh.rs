//! `--ssh`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use build::{Context, SshAgent};

use super::OptionError;
use crate::settings::Environment;

/// Reads all values of `--ssh`: an id, and its agent's socket or the files of its keys. Without
/// either, it is the agent of `SSH_AUTH_SOCK`.
///
/// # Errors
/// If there is no agent, a file is neither a socket nor a usable key, or an id is given twice.
pub fn agents(
    texts: &[String],
    directory: &Path,
    environment: &Environment,
) -> Result<BTreeMap<String, SshAgent>, OptionError> {
    let pairs = texts.iter().map(|text| text.split_once('=').unwrap_or((text, "")));
    agents_of(pairs, directory, environment)
}

/// Reads agents by their ids, and sockets or files with commas between them, which may be empty.
///
/// # Errors
/// The errors of [`agents`].
pub fn agents_of<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    directory: &Path,
    environment: &Environment,
) -> Result<BTreeMap<String, SshAgent>, OptionError> {
    let mut agents = BTreeMap::new();
    for (id, paths) in pairs {
        let id = if id.is_empty() { "default" } else { id };
        let agent =
            agent(paths, directory, environment).map_err(|error| error.within(id.to_owned()))?;
        if agents.insert(id.to_owned(), agent).is_some() {
            return Err(OptionError::refused(id, "it is given twice"));
        }
    }
    Ok(agents)
}

/// Adds the agent that git uses for a context over ssh if `--ssh` names none: that of
/// `SSH_AUTH_SOCK`, if there is one, as with buildx.
pub fn for_context(
    mut agents: BTreeMap<String, SshAgent>,
    context: &Context,
    environment: &Environment,
) -> BTreeMap<String, SshAgent> {
    if matches!(context, Context::Git(git) if git.is_over_ssh())
        && !agents.contains_key("default")
        && let Some(agent) = usual(environment)
    {
        agents.insert("default".into(), agent);
    }
    agents
}

fn usual(environment: &Environment) -> Option<SshAgent> {
    agent("", Path::new("/"), environment).ok()
}

fn agent(
    paths: &str,
    directory: &Path,
    environment: &Environment,
) -> Result<SshAgent, OptionError> {
    if let Some(option) = paths.split(',').find(|part| part.starts_with("raw=")) {
        return Err(OptionError::refused(
            option,
            "a step gets a socket that passes on an agent's requests, never any socket",
        ));
    }
    let paths: Vec<PathBuf> = match paths {
        "" => match environment.get("SSH_AUTH_SOCK") {
            Some(socket) => vec![socket.into()],
            None => {
                let reason = "there is no agent: SSH_AUTH_SOCK is not set";
                return Err(OptionError::Unusable(reason.into()));
            }
        },
        paths => paths.split(',').map(|path| directory.join(path)).collect(),
    };
    SshAgent::open(&paths).map_err(|error| OptionError::Agent(error.to_string()))
}

/// The user's `known_hosts` file, if there is one.
pub fn known_hosts(environment: &Environment) -> Option<PathBuf> {
    let home = environment.get("HOME").filter(|home| !home.is_empty())?;
    Some(Path::new(&home).join(".ssh/known_hosts")).filter(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_sockets_or_keys() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(folder.path().join("key"), "no key").unwrap();
        let environment = Environment::of(&[("SSH_AUTH_SOCK", socket.to_str().unwrap())]);
        let read = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            agents(&texts, folder.path(), &environment)
        };
        let found = read(&["default", "git=sock"]).unwrap();
        assert_eq!(found.len(), 2);
        for agent in found.values() {
            assert!(matches!(agent, SshAgent::Socket(path) if *path == socket));
        }
        for (texts, word) in [
            (&["git=key"][..], "neither an agent's socket nor a private key"),
            (&["git=none"], "none"),
            (&["git=sock,sock"], "alone"),
            (&["git=sock", "git=sock"], "`git`: it is given twice"),
            (&["git=sock,raw=true"], "raw=true"),
        ] {
            let error = read(texts).unwrap_err().to_string();
            assert!(error.contains(word), "{texts:?}: {error}");
        }
        let nothing = Environment::default();
        let error = agents(&["default".into()], folder.path(), &nothing).unwrap_err().to_string();
        assert!(error.contains("SSH_AUTH_SOCK"), "{error}");
        assert!(usual(&nothing).is_none());
    }
}
