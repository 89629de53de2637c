//! Credential helpers: `docker-credential-<name> get|store|erase`. What they are told goes through
//! standard input, never through arguments.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::response::tidy;
use crate::{Credentials, Error, Result, Secret};

/// A helper may ask the user; it must not hang a build for ever.
const PATIENCE: Duration = Duration::from_secs(120);
/// Credentials are small.
const MOST_OUTPUT: u64 = 1 << 20;
/// The helpers' message for an unknown server (docker-credential-helpers, `credentials/error.go`).
const UNKNOWN: &str = "credentials not found";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// A helper's credentials for a server.
///
/// # Errors
/// If it is missing, fails, or answers something else than credentials.
pub(crate) async fn get(
    helper: &str,
    server: &str,
    path: Option<&OsStr>,
) -> Result<Option<Credentials>> {
    let call = HelperCall { helper, action: "get", server };
    let output = call.run(server.as_bytes(), path).await?;
    if !output.status.success() {
        return match call.said(&output) {
            said if said.contains(UNKNOWN) => Ok(None),
            said => Err(call.failed(said)),
        };
    }
    let found: HelperAnswer = serde_json::from_slice(&output.stdout)
        .map_err(|_| call.failed("its answer is not JSON with `Username` and `Secret`"))?;
    let secret = Secret::new(found.secret);
    Ok(match found.username.as_str() {
        _ if secret.reveal().is_empty() => None,
        // The sign for an identity token (docker/cli, `config/credentials`).
        "<token>" => Some(Credentials::Identity { username: String::new(), token: secret }),
        _ => Some(Credentials::Password { username: found.username, password: secret }),
    })
}

/// Gives credentials to a helper to keep.
///
/// # Errors
/// If it is missing or fails.
pub(crate) async fn store(
    helper: &str,
    server: &str,
    credentials: &Credentials,
    path: Option<&OsStr>,
) -> Result<()> {
    let call = HelperCall { helper, action: "store", server };
    let (username, secret) = match credentials {
        Credentials::Password { username, password } => (username.as_str(), password),
        Credentials::Identity { token, .. } => ("<token>", token),
        Credentials::Registry(_) => return Err(call.failed("helpers keep no registry tokens")),
    };
    let input = serde_json::json!({
        "ServerURL": server, "Username": username, "Secret": secret.reveal(),
    });
    call.run_well(input.to_string().as_bytes(), path).await
}

/// Makes a helper forget a server.
///
/// # Errors
/// If it is missing or fails. That it does not know the server is no failure.
pub(crate) async fn erase(helper: &str, server: &str, path: Option<&OsStr>) -> Result<()> {
    let call = HelperCall { helper, action: "erase", server };
    let output = call.run(server.as_bytes(), path).await?;
    match call.said(&output) {
        said if !output.status.success() && !said.contains(UNKNOWN) => Err(call.failed(said)),
        _ => Ok(()),
    }
}

struct HelperCall<'a> {
    helper: &'a str,
    action: &'static str,
    server: &'a str,
}

impl HelperCall<'_> {
    fn failed(&self, reason: impl ToString) -> Error {
        Error::Helper {
            helper: format!("docker-credential-{}", self.helper),
            action: self.action,
            server: self.server.into(),
            reason: reason.to_string(),
        }
    }

    /// Helpers say what went wrong on standard output; some on standard error.
    fn said(&self, output: &Output) -> String {
        let said = [&output.stdout, &output.stderr].map(|bytes| tidy(bytes, 300));
        said.into_iter().find(|text| !text.is_empty()).unwrap_or_else(|| output.status.to_string())
    }

    async fn run_well(&self, input: &[u8], path: Option<&OsStr>) -> Result<()> {
        let output = self.run(input, path).await?;
        match output.status.success() {
            true => Ok(()),
            false => Err(self.failed(self.said(&output))),
        }
    }

    async fn run(&self, input: &[u8], path: Option<&OsStr>) -> Result<Output> {
        // The name is part of a path: it must not lead elsewhere.
        if self.helper.contains(['/', '\0']) {
            return Err(self.failed("its name is not that of a program"));
        }
        let program = self.find(path)?;
        let mut command = Command::new(program);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        command.arg(self.action).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| self.failed(error))?;
        match tokio::time::timeout(PATIENCE, converse(child, input)).await {
            Ok(output) => output.map_err(|error| self.failed(error)),
            Err(_) => Err(self.failed(format!("no answer in {} s", PATIENCE.as_secs()))),
        }
    }

    fn find(&self, path: Option<&OsStr>) -> Result<PathBuf> {
        let name = format!("docker-credential-{}", self.helper);
        let Some(path) = path else { return Ok(name.into()) };
        let is_program = |file: &PathBuf| {
            std::fs::metadata(file)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        std::env::split_paths(path)
            .map(|dir| dir.join(&name))
            .find(is_program)
            .ok_or_else(|| self.failed("there is no such program in `PATH`"))
    }
}

async fn converse(mut child: Child, input: &[u8]) -> std::io::Result<Output> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A helper that fails early does not read its input; its status says more.
            let _ = stdin.write_all(input).await;
        }
    };
    let read_out = async {
        let mut bytes = Vec::new();
        if let Some(stream) = stdout {
            stream.take(MOST_OUTPUT).read_to_end(&mut bytes).await?;
        }
        std::io::Result::Ok(bytes)
    };
    let read_err = async {
        let mut bytes = Vec::new();
        if let Some(stream) = stderr {
            stream.take(MOST_OUTPUT).read_to_end(&mut bytes).await?;
        }
        std::io::Result::Ok(bytes)
    };
    let ((), stdout, stderr) = tokio::join!(write, read_out, read_err);
    let status = child.wait().await?;
    Ok(Output { status, stdout: stdout?, stderr: stderr? })
}
