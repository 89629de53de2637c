//! Becoming the command.

use std::ffi::CString;

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

use crate::container::Container;
use crate::sys;
use crate::wire::{Failure, FailureKind};

/// The strings for execve, made while an error can still be told well.
pub struct Command {
    program: String,
    path: Option<String>,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Command {
    /// Takes the command line and environment of `container`; `home` is for an environment without `HOME`.
    pub fn new(container: &Container, home: &str) -> Result<Command, Failure> {
        let string = |text: String| {
            CString::new(text).map_err(|_| {
                Failure::plain(FailureKind::Refused, "a zero byte in an argument or variable")
            })
        };
        let Some(program) = container.args.first().filter(|program| !program.is_empty()) else {
            return Err(Failure::plain(FailureKind::Refused, "an empty command"));
        };
        // The last of several values counts, at the place of the first.
        let mut variables: Vec<(&str, &str)> = Vec::with_capacity(container.env.len() + 1);
        for (name, value) in &container.env {
            match variables.iter_mut().find(|(known, _)| known == name) {
                Some(variable) => variable.1 = value,
                None => variables.push((name, value)),
            }
        }
        match variables.iter_mut().find(|(name, _)| *name == "HOME") {
            Some((_, value)) if value.is_empty() => *value = home,
            Some(_) => {}
            None => variables.push(("HOME", home)),
        }
        let path = variables
            .iter()
            .find(|(name, _)| *name == "PATH")
            .map(|(_, value)| (*value).to_owned());
        Ok(Command {
            program: program.clone(),
            path,
            args: container.args.iter().cloned().map(string).collect::<Result<_, _>>()?,
            env: variables
                .into_iter()
                .map(|(name, value)| string(format!("{name}={value}")))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Becomes the command. Returns only what kept it from that.
    pub fn execute(self) -> Failure {
        let file = match self.file() {
            Ok(file) => file,
            Err(failure) => return failure,
        };
        let Ok(file) = CString::new(file) else {
            return Failure::plain(FailureKind::ProgramNotFound, self.program);
        };
        match sys::execute(&file, &self.args, &self.env) {
            Errno::ACCESS | Errno::PERM => Failure::plain(FailureKind::ProgramDenied, self.program),
            // The interpreter of a script, or the loader of a program, is missing.
            errno => Failure::new(FailureKind::Execute, self.program, errno),
        }
    }

    /// The program's file: the first in `PATH` that this user may execute. There is no default path, as in runc.
    fn file(&self) -> Result<String, Failure> {
        let program = &self.program;
        if program.contains('/') {
            return match executable(program) {
                Ok(()) => Ok(program.clone()),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
                    Err(Failure::plain(FailureKind::ProgramNotFound, program.as_str()))
                }
                Err(_) => Err(Failure::plain(FailureKind::ProgramDenied, program.as_str())),
            };
        }
        let mut denied = false;
        // A relative folder in PATH is not searched: Go's look-up, which runc uses, refuses what it finds there.
        for folder in self
            .path
            .as_deref()
            .unwrap_or_default()
            .split(':')
            .filter(|folder| folder.starts_with('/'))
        {
            let file = format!("{folder}/{program}");
            match executable(&file) {
                Ok(()) => return Ok(file),
                Err(Errno::ACCESS) => denied = true,
                Err(_) => {}
            }
        }
        let kind = if denied { FailureKind::ProgramDenied } else { FailureKind::ProgramNotFound };
        Err(Failure::plain(kind, program.as_str()))
    }
}

fn executable(file: &str) -> rustix::io::Result<()> {
    let found = stat(file)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        return Err(Errno::ACCESS);
    }
    accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS)
}
