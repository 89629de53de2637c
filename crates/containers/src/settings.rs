//! The settings of a container: what the image and the caller say of its process, and what of the machine it sees.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use oci::Config;
use serde::{Deserialize, Serialize};

use crate::{BindMount, ContainerId, Error};

/// The PATH of a container whose image has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// SIGTERM.
const STOP_SIGNAL: i32 = 15;
/// The time between the stop signal and the end.
const STOP_TIME: Duration = Duration::from_secs(10);

/// The settings of the process. What a caller leaves empty is the image's: [`ProcessSettings::over`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSettings {
    /// The command before the arguments; an empty list is none, not even the image's.
    pub entrypoint: Option<Vec<String>>,
    /// The arguments.
    pub cmd: Option<Vec<String>>,
    /// `NAME=value`; a name alone takes the variable away.
    pub env: Vec<String>,
    /// User and group, by name or number; root if empty.
    pub user: String,
    /// Working directory.
    pub working_dir: String,
    /// The name of the machine; the first digits of the ID if empty.
    pub hostname: String,
    /// The signal that ends it; SIGTERM if unset.
    pub stop_signal: Option<i32>,
    /// The time between that signal and the end; ten seconds if unset.
    pub stop_timeout: Option<Duration>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Folders that hold data: plain folders of the container.
    pub volumes: BTreeSet<String>,
    /// Ports, as `80/tcp`.
    pub exposed_ports: BTreeSet<String>,
    /// True for a terminal.
    pub tty: bool,
    /// True if there is standard input.
    pub open_stdin: bool,
    /// True if standard input ends with the first client that has it.
    pub stdin_once: bool,
}

impl ProcessSettings {
    /// Takes from the image what was not given, as dockerd does (`daemon/commit.go`, `merge`): an entrypoint that was
    /// given takes the image's arguments away. The image's stop signal is a text, which the caller reads.
    ///
    /// # Errors
    /// If no command is left, or the working directory is not absolute.
    pub fn over(mut self, image: &Config) -> Result<Self, Error> {
        if self.user.is_empty() {
            self.user.clone_from(&image.user);
        }
        if self.working_dir.is_empty() {
            self.working_dir.clone_from(&image.working_dir);
        }
        if self.entrypoint.is_none() {
            self.entrypoint.clone_from(&image.entrypoint);
            if self.cmd.is_none() {
                self.cmd.clone_from(&image.cmd);
            }
        }
        for variable in &image.env {
            let name = name_of(variable);
            if !self.env.iter().any(|own| name_of(own) == name) {
                self.env.push(variable.clone());
            }
        }
        for (name, value) in &image.labels {
            self.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self.volumes.extend(image.volumes.keys().cloned());
        self.exposed_ports.extend(image.exposed_ports.keys().cloned());
        if self.args().is_empty() {
            return Err(Error::NoCommand);
        }
        if !self.working_dir.is_empty() && !self.working_dir.starts_with('/') {
            return Err(Error::Setting(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                self.working_dir
            )));
        }
        Ok(self)
    }

    /// The program and its arguments.
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).flatten().cloned().collect()
    }

    /// The working directory.
    pub fn cwd(&self) -> &str {
        if self.working_dir.is_empty() { "/" } else { &self.working_dir }
    }

    /// The number of the signal that ends it.
    pub fn stop_signal(&self) -> i32 {
        self.stop_signal.unwrap_or(STOP_SIGNAL)
    }

    /// The time between that signal and the end.
    pub fn stop_time(&self) -> Duration {
        self.stop_timeout.unwrap_or(STOP_TIME)
    }

    /// The name of the machine.
    pub fn host(&self, id: &ContainerId) -> String {
        if self.hostname.is_empty() { id.short().to_owned() } else { self.hostname.clone() }
    }

    /// The environment of the process: docker's own variables, over which the settings' go.
    pub fn environment(&self, id: &ContainerId) -> Vec<(String, String)> {
        let mut env =
            vec![("PATH".to_owned(), PATH.to_owned()), ("HOSTNAME".to_owned(), self.host(id))];
        if self.tty {
            env.push(("TERM".to_owned(), "xterm".to_owned()));
        }
        put_variables(&mut env, &self.env);
        env
    }
}

/// Puts `NAME=value` texts over variables; a name alone takes the variable away.
pub(crate) fn put_variables(env: &mut Vec<(String, String)>, texts: &[String]) {
    for text in texts {
        let Some((name, value)) = text.split_once('=') else {
            env.retain(|(known, _)| known != text);
            continue;
        };
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => env.push((name.to_owned(), value.to_owned())),
        }
    }
}

fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

/// The parts of the machine that a container sees, and the way in which it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSettings {
    /// Folders and files of the machine.
    pub binds: Vec<BindMount>,
    /// Folders in memory.
    pub tmpfs: Vec<TmpfsMount>,
    /// Lines for `/etc/hosts`.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// True for no network at all; the machine's otherwise.
    pub no_network: bool,
    /// True for all rights of this process.
    pub privileged: bool,
    /// True if the root cannot be written.
    pub read_only: bool,
    /// True if the first process is one that reaps and passes signals on.
    pub init: bool,
    /// Limits.
    pub ulimits: Vec<UlimitSetting>,
    /// True if the container is removed when it has ended.
    pub auto_remove: bool,
}

/// A folder in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Its place in the container.
    pub target: String,
    /// Most bytes that it holds.
    pub size: Option<u64>,
    /// True if it cannot be written.
    pub readonly: bool,
}

/// A limit of `--ulimit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UlimitSetting {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// Soft limit; -1 is unlimited.
    pub soft: i64,
    /// Hard limit; -1 is unlimited.
    pub hard: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image(entrypoint: Option<&str>, cmd: Option<&str>) -> Config {
        Config { entrypoint: entrypoint.map(words), cmd: cmd.map(words), ..Config::default() }
    }

    fn args(entrypoint: Option<&[&str]>, cmd: &str, image: &Config) -> Result<Vec<String>, Error> {
        let entrypoint =
            entrypoint.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
        let cmd = Some(words(cmd)).filter(|words| !words.is_empty());
        let settings = ProcessSettings { entrypoint, cmd, ..Default::default() };
        settings.over(image).map(|merged| merged.args())
    }

    #[test]
    fn commands_are_merged_as_docker_does() {
        let both = image(Some("/entry e"), Some("c d"));
        let only_cmd = image(None, Some("sh -c x"));
        for (entrypoint, cmd, image, expected) in [
            (None, "", &both, "/entry e c d"),
            (None, "x", &both, "/entry e x"),
            (Some(&["/own"][..]), "", &both, "/own"),
            (Some(&["/own"][..]), "x y", &both, "/own x y"),
            (Some(&[][..]), "x", &both, "x"),
            (None, "", &only_cmd, "sh -c x"),
            (None, "true", &only_cmd, "true"),
        ] {
            let merged = args(entrypoint, cmd, image).unwrap();
            assert_eq!(merged, words(expected), "{entrypoint:?} {cmd}");
        }
        assert!(matches!(args(None, "", &image(None, None)), Err(Error::NoCommand)));
        assert!(matches!(args(Some(&[]), "", &both), Err(Error::NoCommand)));
    }

    #[test]
    fn what_is_given_goes_over_the_image() {
        let image = Config {
            env: words("A=image B=image"),
            user: "u".into(),
            working_dir: "/image".into(),
            labels: BTreeMap::from([("l".into(), "image".into()), ("m".into(), "image".into())]),
            cmd: Some(words("x")),
            ..Config::default()
        };
        let given = ProcessSettings {
            env: words("B=own C"),
            working_dir: "/own".into(),
            labels: BTreeMap::from([("l".into(), "own".into())]),
            ..Default::default()
        };
        let merged = given.over(&image).unwrap();
        assert_eq!(merged.env, words("B=own C A=image"));
        assert_eq!((merged.user.as_str(), merged.cwd()), ("u", "/own"));
        assert_eq!((merged.stop_signal(), merged.stop_time()), (15, STOP_TIME));
        assert_eq!(merged.labels["l"], "own");
        assert_eq!(merged.labels["m"], "image");
        let id = ContainerId::draw().unwrap();
        let env = merged.environment(&id);
        let value = |name: &str| {
            env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        assert_eq!((value("A"), value("B"), value("C")), (Some("image"), Some("own"), None));
        assert_eq!((value("PATH"), value("TERM")), (Some(PATH), None));
        assert_eq!(value("HOSTNAME"), Some(id.short()));
    }

    #[test]
    fn wrong_settings_are_named() {
        let image = image(None, Some("x"));
        let folder = ProcessSettings { working_dir: "a".into(), ..Default::default() };
        assert!(folder.over(&image).unwrap_err().to_string().contains("absolute"));
    }
}
