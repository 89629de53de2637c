//! Running of cargo and other programs in the source tree.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

/// The cargo that runs this program, in the source tree.
pub fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(fixtures::source_tree());
    command
}

/// Runs a command with its output shown.
pub fn run(command: &mut Command) -> Result<()> {
    let name = describe(command);
    let status = command.status().with_context(|| format!("`{name}`"))?;
    if status.success() { Ok(()) } else { Err(anyhow!("`{name}` ended with {status}")) }
}

/// Runs a command and returns its standard output. Its standard error is shown.
pub fn output(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("`{name}`"))?;
    if !output.status.success() {
        bail!("`{name}` ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command and shows its output only if it fails.
pub fn quietly(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("`{name}`"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(anyhow!("`{name}` ended with {}\n{stdout}{stderr}", output.status))
}

/// A command as text.
pub fn describe(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let mut words = vec![program.file_name().unwrap_or_default().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Builds kiln in release mode, and returns its path.
pub fn release_binary() -> Result<PathBuf> {
    binary(&["--release"])
}

/// Builds kiln for the demo, and returns its path.
pub fn demo_binary() -> Result<PathBuf> {
    binary(&["--profile", "demo"])
}

/// Builds kiln as tests run it, and returns its path.
pub fn debug_binary() -> Result<PathBuf> {
    binary(&[])
}

fn binary(profile: &[&str]) -> Result<PathBuf> {
    let args = ["build", "--package", "kiln", "--bin", "kiln"];
    let format = ["--message-format", "json-render-diagnostics"];
    let messages = output(&mut cargo([&args, profile, &format].concat()))?;
    let found = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let wanted = message["target"]["name"] == "kiln" && message["target"]["kind"][0] == "bin";
        wanted.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    found.context("cargo built no `kiln`")
}

/// Removes a flag and its value from the arguments, and returns the value.
pub fn take_value(args: &mut Vec<String>, flag: &str) -> Result<Option<String>> {
    let Some(at) = args.iter().position(|arg| arg == flag) else { return Ok(None) };
    if at + 1 == args.len() {
        bail!("`{flag}` needs a value");
    }
    args.remove(at);
    Ok(Some(args.remove(at)))
}

/// Removes a flag from the arguments, and returns true if it was there.
pub fn take_flag(args: &mut Vec<String>, flag: &str) -> bool {
    let before = args.len();
    args.retain(|arg| arg != flag);
    args.len() < before
}
