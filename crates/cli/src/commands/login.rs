//! `kiln login` and `kiln logout`: the user's credentials. The crate `registry` checks and keeps
//! them.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::path::PathBuf;

use registry::{Credentials, DockerConfig, Secret};

use crate::args::{FlagError, LoginArgs, LogoutArgs};
use crate::render::{CommandError, Report};
use crate::settings::{Environment, Hidden, Settings};
use crate::terminal::{self, AskError};
use crate::{machine, threads};

/// The warning about an unset variable without quotes.
const SWALLOWED: &str = "No registry is given, so this logs in to Docker Hub, and the password \
    looks like the name of a registry. If its variable is not set, `-p` takes the next word: write \
    it in quotes, -p \"$PASSWORD\", or use --password-stdin.";
/// The longest password on standard input, in bytes.
const LONGEST_PASSWORD: u64 = 64 << 10;

/// Credentials that cannot be had, checked, kept or removed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no folder for them.
    #[error("there is no place for credentials: HOME is not set; set DOCKER_CONFIG")]
    NoFolder,
    /// A text that is not the name of a registry.
    #[error("`{0}` is not the host of a registry, as registry.example.com")]
    NotAHost(String),
    /// Flags that cannot be used together.
    #[error(transparent)]
    Flags(#[from] FlagError),
    /// The user gave no answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The password on standard input cannot be read.
    #[error("reading standard input: {0}")]
    Stdin(#[source] io::Error),
    /// The password on standard input is not text.
    #[error("the password on standard input is not UTF-8")]
    NotUtf8,
    /// A name without characters.
    #[error("the user's name is empty")]
    EmptyUsername,
    /// A password without characters.
    #[error("the password is empty")]
    EmptyPassword,
    /// The registry refused them, or they cannot be kept.
    #[error("login attempt to `{host}` failed: {}", oci::chain_text(.source))]
    Attempt {
        /// The registry.
        host: String,
        /// The reason.
        source: Box<registry::Error>,
    },
    /// They cannot be removed.
    #[error("{}", oci::chain_text(.0))]
    Erase(#[source] Box<registry::Error>),
}

impl CommandError for LoginError {}

/// Logs in: checks the credentials with the registry, and keeps them if it accepts them.
///
/// # Errors
/// If flags conflict, the registry refuses, or the credentials cannot be kept.
pub fn run(args: &LoginArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    let file = config_file(settings)?;
    let login = login(
        args,
        Questions {
            stdin: &mut read_stdin,
            ask: &mut terminal::ask,
            ask_password: &mut terminal::ask_password,
        },
    )?;
    for warning in &login.warnings {
        terminal::say(&format!("WARNING! {warning}\n"));
    }
    let credentials = Credentials::Password {
        username: login.username.clone(),
        password: Secret::new(login.password.expose()),
    };
    let client =
        machine::client_as(settings, environment, Some((&login.host, credentials.clone())))?;
    let helpers = environment.get("PATH").map(OsStr::new);
    let work = async {
        client.ping(&login.host).await?;
        DockerConfig::store(&file, &login.host, &credentials, helpers).await
    };
    let helper = threads::finish(work)?.ok_or_else(threads::canceled)?.map_err(|source| {
        LoginError::Attempt { host: login.host.clone(), source: Box::new(source) }
    })?;
    if helper.is_none() {
        terminal::say(&format!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\n",
            file.display()
        ));
    }
    if settings.docker_auth_config.is_some() {
        terminal::say("WARNING! DOCKER_AUTH_CONFIG is set and takes precedence.\n");
    }
    terminal::print("Login Succeeded\n")
}

/// Removes the credentials for a registry.
///
/// # Errors
/// If the file or a helper cannot remove them.
pub fn run_logout(
    args: &LogoutArgs,
    environment: &Environment,
    settings: &Settings,
) -> Result<(), Report> {
    let file = config_file(settings)?;
    let host = host(args.server.as_deref())?;
    let helpers = environment.get("PATH").map(OsStr::new);
    let erased = threads::finish(DockerConfig::erase(&file, &host, helpers))?
        .ok_or_else(threads::canceled)?
        .map_err(|error| LoginError::Erase(Box::new(error)))?;
    terminal::print(&logged_out(&host, erased))
}

fn config_file(settings: &Settings) -> Result<PathBuf, LoginError> {
    let folder = settings.docker_config.as_ref().ok_or(LoginError::NoFolder)?;
    Ok(folder.join("config.json"))
}

fn read_stdin() -> io::Result<Vec<u8>> {
    if terminal::stdin_is_terminal() {
        terminal::say(
            "Type or paste the password, then press Enter and Ctrl-D; it shows. Without --password-stdin it does not.\n",
        );
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(LONGEST_PASSWORD + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_PASSWORD {
        return Err(io::Error::other("it is longer than a password can be"));
    }
    Ok(bytes)
}

/// A user's credentials for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The registry's host as in references; `docker.io` for Docker Hub.
    pub host: String,
    /// Name of the user.
    pub username: String,
    /// Password or token.
    pub password: Hidden,
    /// Warnings for the user.
    pub warnings: Vec<&'static str>,
}

/// The sources of values that flags leave open.
pub struct Questions<'a> {
    /// Reads standard input to its end.
    pub stdin: &'a mut dyn FnMut() -> io::Result<Vec<u8>>,
    /// Asks a question; the answer shows.
    pub ask: &'a mut dyn FnMut(&str) -> Result<String, AskError>,
    /// Asks a question; the answer does not show.
    pub ask_password: &'a mut dyn FnMut(&str) -> Result<Hidden, AskError>,
}

/// Determines the host and the credentials.
///
/// # Errors
/// If flags conflict, or there is no answer.
pub fn login(args: &LoginArgs, questions: Questions<'_>) -> Result<Login, LoginError> {
    let mut warnings = Vec::new();
    let host = host(args.server.as_deref())?;
    let given = match (&args.password, args.password_stdin) {
        (Some(_), true) => {
            return Err(FlagError::Together("--password".into(), "--password-stdin").into());
        }
        (Some(password), false) => {
            warnings.push("Using --password via the CLI is insecure. Use --password-stdin.");
            if args.server.is_none() && looks_like_host(password.0.expose()) {
                warnings.push(SWALLOWED);
            }
            Some(password.0.clone())
        }
        (None, true) if args.username.is_none() => {
            let flag = "--password-stdin".into();
            return Err(FlagError::Requires { flag, other: "--username", reason: "" }.into());
        }
        (None, true) => {
            let bytes = (questions.stdin)().map_err(LoginError::Stdin)?;
            let text = String::from_utf8(bytes).map_err(|_| LoginError::NotUtf8)?;
            Some(Hidden::new(text.trim_end_matches(['\r', '\n'])))
        }
        (None, false) => None,
    };
    let username = match &args.username {
        Some(name) => name.clone(),
        None => (questions.ask)("Username: ")?,
    };
    if username.trim().is_empty() {
        return Err(LoginError::EmptyUsername);
    }
    let password = match given {
        Some(password) => password,
        None => (questions.ask_password)("Password: ")?,
    };
    if password.expose().is_empty() {
        return Err(LoginError::EmptyPassword);
    }
    Ok(Login { host, username, password, warnings })
}

/// The host of a registry, which may be written as a URL.
///
/// # Errors
/// If it is not a host.
pub fn host(server: Option<&str>) -> Result<String, LoginError> {
    let text = server.unwrap_or("docker.io");
    let rest =
        text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let host = rest.split('/').next().unwrap_or_default();
    if let "docker.io" | "index.docker.io" | "registry-1.docker.io" = host {
        return Ok("docker.io".into());
    }
    // A reference with the host parses only if references can have it.
    let is_host = format!("{host}/x").parse::<oci::Reference>().is_ok();
    if !is_host || host.is_empty() {
        return Err(LoginError::NotAHost(text.to_owned()));
    }
    Ok(host.to_owned())
}

/// True if a text could be meant for the name of a registry: `registry.example.com:5000`.
fn looks_like_host(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:/".contains(c);
    let host = text.split(['/', ':']).next().unwrap_or_default();
    let ends_well = |end: &str| end.len() > 1 && end.chars().all(|c| c.is_ascii_alphanumeric());
    let has_domain = host.rsplit_once('.').is_some_and(|(_, end)| ends_well(end));
    let is_host = has_domain || (host == "localhost" && text.contains(':'));
    text.chars().all(is_name) && is_host && self::host(Some(text)).is_ok()
}

/// The output of `logout`.
pub fn logged_out(host: &str, was_logged_in: bool) -> String {
    if was_logged_in {
        format!("Removing login credentials for {host}\n")
    } else {
        format!("Not logged in to {host}\n")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn run(line: &[&str], input: &str) -> Result<Login, LoginError> {
        let words = ["kiln", "login"].iter().chain(line).copied();
        let Command::Login(args) = Cli::try_parse_from(words).unwrap().command else { panic!() };
        assert!(!format!("{args:?}").contains("s3cret"));
        login(
            &args,
            Questions {
                stdin: &mut || Ok(input.as_bytes().to_vec()),
                ask: &mut |_| Ok("asked".into()),
                ask_password: &mut |_| Ok(Hidden::new("hidden")),
            },
        )
    }

    #[test]
    fn who_the_user_is() {
        let login =
            run(&["-u", "me", "--password-stdin", "https://r.example.com/v2/"], "s3cret\r\n")
                .unwrap();
        assert_eq!((login.host.as_str(), login.username.as_str()), ("r.example.com", "me"));
        assert_eq!(login.password.expose(), "s3cret");
        assert!(!format!("{login:?}").contains("s3cret"));
        let login = run(&["-u", "me", "-p", "s3cret"], "").unwrap();
        assert_eq!((login.host.as_str(), login.warnings.len()), ("docker.io", 1));
        let login = run(&["localhost:5000"], "").unwrap();
        assert_eq!((login.username.as_str(), login.password.expose()), ("asked", "hidden"));
    }

    #[test]
    fn a_registry_that_was_taken_for_the_password() {
        for (password, server, warned) in [
            ("registry.example.com", None, true),
            ("registry.gitlab.com:5050", None, true),
            ("localhost:5000", None, true),
            ("registry.example.com", Some("registry.example.com"), false),
            ("hunter2", None, false),
            ("Some.Thing", None, false),
            ("dckr_pat_x.y", None, false),
            ("a.b", None, false),
        ] {
            let mut line = vec!["-u", "me", "-p", password];
            line.extend(server);
            let warnings = run(&line, "").unwrap().warnings;
            assert_eq!(warnings.contains(&SWALLOWED), warned, "{password}");
            assert!(!warnings.iter().any(|warning| warning.contains(password)));
        }
    }

    #[test]
    fn what_is_wrong() {
        for (line, word) in [
            (&["--password-stdin"][..], "needs `--username`"),
            (&["-u", "a", "-p", "b", "--password-stdin"], "together"),
            (&["-u", "a", "--password-stdin"], "empty"),
            (&["-u", "a", "-p", "b", "not a host"], "not the host"),
        ] {
            let error = run(line, "").unwrap_err().to_string();
            assert!(error.contains(word), "{line:?}: {error}");
        }
    }
}
