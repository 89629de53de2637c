//! The bodies of `POST /containers/{id}/exec` and `POST /exec/{id}/start`.

use serde_json::Value;

use super::create::{CommandWords, console_size, variables};
use super::fields::{BodyField, check_texts, honoured, judge, no_effect, object, take, wrong};
use crate::{ApiError, ConsoleSize, ExecSpec};

pub(super) const EXEC_FIELDS: &[BodyField] = &[
    honoured("Cmd", "the program and its arguments"),
    honoured("Env", "variables beside the container's"),
    honoured("WorkingDir", "the folder in which the command starts"),
    honoured("User", "the user and, after a colon, the group"),
    honoured("Tty", "the command has a terminal"),
    honoured("AttachStdin", "the command has an input"),
    honoured("AttachStdout", "its output is sent"),
    honoured("AttachStderr", "its errors are sent"),
    honoured("DetachKeys", "keys that leave a terminal running"),
    honoured("ConsoleSize", "the size of the terminal at the start"),
    honoured("Privileged", "the rights of a container that is privileged; refused in others"),
    no_effect("Detach", "`POST /exec/{id}/start` says it"),
    no_effect("Container", "the path has it"),
];

pub(super) const EXEC_START_FIELDS: &[BodyField] = &[
    honoured("Detach", "the answer comes at once, without streams"),
    no_effect("Tty", "it is the command's own"),
    honoured("ConsoleSize", "the size of the terminal at the start"),
    no_effect("OutputCapacity", "a setting of bollard's own, which it sends along"),
];

/// Reads a further command.
pub(crate) fn read_exec(body: Value) -> Result<ExecSpec, ApiError> {
    check_texts(&body)?;
    let mut fields = object(body)?;
    judge(&mut fields, EXEC_FIELDS)?;
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let spec = ExecSpec {
        args: take::<Option<CommandWords>>(&mut fields, "Cmd")?.map(Vec::from).unwrap_or_default(),
        env: variables(take(&mut fields, "Env")?)?,
        working_dir: text(take(&mut fields, "WorkingDir")?),
        user: text(take(&mut fields, "User")?),
        terminal: take(&mut fields, "Tty")?,
        console_size: console_size(take(&mut fields, "ConsoleSize")?)?,
        stdin: take(&mut fields, "AttachStdin")?,
        stdout: take(&mut fields, "AttachStdout")?,
        stderr: take(&mut fields, "AttachStderr")?,
        privileged: take(&mut fields, "Privileged")?,
        detach_keys: text(take(&mut fields, "DetachKeys")?),
    };
    if spec.args.is_empty() {
        return Err(wrong("Cmd", "No exec command specified"));
    }
    Ok(spec)
}

/// The way to start a further command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExecStart {
    pub(crate) detach: bool,
    pub(crate) console_size: Option<ConsoleSize>,
}

/// Reads the body of a start; null is an empty one.
pub(crate) fn read_exec_start(body: Value) -> Result<ExecStart, ApiError> {
    if body.is_null() {
        return Ok(ExecStart::default());
    }
    let mut fields = object(body)?;
    judge(&mut fields, EXEC_START_FIELDS)?;
    Ok(ExecStart {
        detach: take(&mut fields, "Detach")?,
        console_size: console_size(take(&mut fields, "ConsoleSize")?)?,
    })
}
