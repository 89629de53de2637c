//! The destinations of outputs: files, folders and standard output.

use std::path::{Path, PathBuf};

use build::{Destination, Output};

use super::OptionError;

/// The context in which outputs are read.
#[derive(Clone, Copy, Debug)]
pub struct OutputContext<'a> {
    /// The folder that relative paths are resolved against.
    pub directory: &'a Path,
    /// True if standard output is a terminal, to which no archive is written.
    pub stdout_is_terminal: bool,
}

/// A folder that is made if it is missing.
///
/// # Errors
/// If it is a file.
pub(super) fn local(path: &str, context: OutputContext<'_>) -> Result<PathBuf, OptionError> {
    let path = context.directory.join(path);
    match path.metadata() {
        Ok(metadata) if !metadata.is_dir() => {
            Err(OptionError::malformed(path.display().to_string(), "a folder"))
        }
        _ => Ok(path),
    }
}

/// The file of an archive; standard output without one.
///
/// # Errors
/// If it is a folder or a terminal.
pub(super) fn archive_destination(
    dest: Option<String>,
    of: &str,
    context: OutputContext<'_>,
) -> Result<Destination, OptionError> {
    match dest.as_deref() {
        None | Some("-") => stdout(context).map_err(|_| {
            OptionError::missing(of, "dest", ", a file: an archive is not written to a terminal")
        }),
        Some(path) => {
            let path = context.directory.join(path);
            if path.is_dir() {
                let reason = format!("it is a folder; `{of}` writes a file");
                Err(OptionError::refused(path.display().to_string(), reason))
            } else {
                Ok(Destination::Path(path))
            }
        }
    }
}

/// The file that an archive is written to; `-` is standard output.
///
/// # Errors
/// If it is a folder or a terminal.
pub fn file(path: &str, context: OutputContext<'_>) -> Result<Destination, OptionError> {
    archive_destination(Some(path.to_owned()), "an archive", context)
}

/// The folder that a layout is written to.
///
/// # Errors
/// If it is a file, or standard output.
pub fn folder(path: &str, context: OutputContext<'_>) -> Result<Destination, OptionError> {
    if path == "-" {
        let reason = "a layout is a folder, which standard output is not";
        return Err(OptionError::Unusable(reason.into()));
    }
    Ok(Destination::Path(local(path, context)?))
}

/// Standard output.
///
/// # Errors
/// If it is a terminal.
pub(super) fn stdout(context: OutputContext<'_>) -> Result<Destination, OptionError> {
    if context.stdout_is_terminal {
        return Err(OptionError::Unusable("an archive is not written to a terminal".into()));
    }
    Ok(Destination::Stdout)
}

/// True if an output goes to standard output.
pub fn writes_stdout(output: &Output) -> bool {
    let destination = match output {
        Output::Tar(tar) => Some(&tar.destination),
        Output::Oci(archive) | Output::Docker(archive) => archive.destination.as_ref(),
        _ => None,
    };
    destination == Some(&Destination::Stdout)
}
