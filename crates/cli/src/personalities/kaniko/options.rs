//! Flags that `executor` and `warmer` share, and the options of `--git`.

use crate::args::FlagError;
use crate::personalities::flags::{ParsedFlags, Verdict};
use crate::progress::ProgressMode;

/// The form of the progress, by `--log-format` and `--verbosity`.
pub fn progress(given: &ParsedFlags) -> Result<ProgressMode, FlagError> {
    let format = match given.last("log-format") {
        None | Some("color") => ProgressMode::Auto,
        Some("text") => ProgressMode::Plain,
        Some("json") => ProgressMode::RawJson,
        Some(other) => {
            let flag = format!("--log-format={other}");
            return Err(FlagError::bad(flag, "there are text, color and json"));
        }
    };
    match given.last("verbosity") {
        None | Some("trace" | "debug" | "info" | "warn" | "warning") => Ok(format),
        Some("error" | "fatal" | "panic") => Ok(ProgressMode::None),
        Some(other) => Err(FlagError::bad(
            format!("--verbosity={other}"),
            "there are trace, debug, info, warn, error, fatal and panic",
        )),
    }
}

/// The handling of `--git`.
pub fn git_option(text: &str) -> Verdict {
    for option in text.split(',') {
        match option.split('=').next().unwrap_or_default() {
            "branch" | "single-branch" | "recurse-submodules" | "depth" => {}
            "insecure-skip-tls" if option.ends_with("=false") => {}
            "insecure-skip-tls" => {
                return Verdict::Refuse(
                    "a repository's certificate is always checked: add its authority to SSL_CERT_FILE",
                );
            }
            _ => {
                return Verdict::Refuse(
                    "there are branch, single-branch, recurse-submodules and depth",
                );
            }
        }
    }
    Verdict::Take
}
