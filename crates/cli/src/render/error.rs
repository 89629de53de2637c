//! Failures as users see them: the lines at fault, one sentence, and a hint.

use super::{Excerpt, Look};
use crate::progress::sanitize;

/// A failure to be printed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The failure as a sentence in lower case; empty if it has been printed already.
    pub message: String,
    /// The failed actions, from the outside in: `failed to build`, `failed to solve`.
    pub doing: &'static [&'static str],
    /// The lines at fault.
    pub excerpt: Option<Excerpt>,
    /// A hint for the user.
    pub hint: Option<String>,
    /// True if the user ended the command.
    pub interrupted: bool,
    /// True if colours are off, whatever standard error is.
    pub plain: bool,
    /// The exit code, if another tool has one of its own for this failure.
    pub code: Option<u8>,
}

/// The exit code after Ctrl-C: 128 and SIGINT.
pub const INTERRUPTED: u8 = 130;

/// An error that ends a command. Its text is a whole sentence, which has its causes.
pub trait CommandError: std::error::Error {
    /// A hint for the user.
    fn hint(&self) -> Option<String> {
        None
    }
}

impl<E: CommandError> From<E> for Report {
    fn from(error: E) -> Self {
        Self { message: error.to_string(), hint: error.hint(), ..Self::default() }
    }
}

impl From<String> for Report {
    fn from(message: String) -> Self {
        Self { message, ..Self::default() }
    }
}

impl Report {
    /// The words before a failed step's message, as in buildx.
    pub const SOLVING: &'static [&'static str] = &["failed to build", "failed to solve"];

    /// 130 if the user ended the command, else its own code, or 1.
    pub fn exit_code(&self) -> u8 {
        if self.interrupted { INTERRUPTED } else { self.code.unwrap_or(1) }
    }

    /// The sentence, and the hint on a line of its own, for clients of an API.
    pub fn message_and_hint(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        format!("{}{hint}", self.message)
    }

    /// The text for standard error, without control characters (which can come from a registry or a
    /// Dockerfile) and without secrets of addresses.
    pub fn text(&self, look: Look) -> String {
        if self.message.is_empty() && !self.interrupted {
            return String::new();
        }
        let mut text = String::new();
        if let Some(excerpt) = &self.excerpt {
            text.push_str(&excerpt.text(look));
        }
        text.push_str(&look.strong("ERROR: "));
        for doing in self.doing {
            text.push_str(doing);
            text.push_str(": ");
        }
        let message =
            if self.interrupted && self.message.is_empty() { "canceled" } else { &self.message };
        push_lines(&mut text, message);
        if let Some(hint) = &self.hint {
            text.push_str(&look.faint("hint: "));
            push_lines(&mut text, hint);
        }
        text
    }
}

fn push_lines(text: &mut String, message: &str) {
    for line in message.trim_end().lines() {
        text.push_str(&sanitize(&oci::shown_text(line)));
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use graph::{LineRange, SourceFile};

    use super::*;

    #[test]
    fn a_failed_step_is_shown_as_buildx_does() {
        let report = Report {
            message: "process \"/bin/sh -c false\" did not complete successfully: exit code: 1"
                .into(),
            doing: Report::SOLVING,
            excerpt: Some(Excerpt {
                source: SourceFile {
                    name: "Dockerfile".into(),
                    text: "FROM a\nWORKDIR /x\nCOPY . .\nRUN false\nCMD x\n".into(),
                },
                lines: LineRange { first: 4, last: 4 },
                span: None,
            }),
            hint: Some("look at the output above".into()),
            ..Report::default()
        };
        assert_eq!(
            report.text(Look::Plain),
            "Dockerfile:4\n--------------------\n\
             2 | WORKDIR /x\n3 | COPY . .\n4 | RUN false\n  | ^^^^^^^^^\n5 | CMD x\n\
             --------------------\n\
             ERROR: failed to build: failed to solve: process \"/bin/sh -c false\" did not complete \
             successfully: exit code: 1\nhint: look at the output above\n"
        );
        assert_eq!(report.exit_code(), 1);
    }

    #[test]
    fn nothing_from_outside_moves_the_cursor() {
        let report = Report::from("registry said: \x1b[2Jgone\x08".to_owned());
        assert_eq!(report.text(Look::Plain), "ERROR: registry said: gone\n");
        let interrupted = Report { interrupted: true, ..Report::default() };
        assert_eq!(
            (interrupted.text(Look::Plain).as_str(), interrupted.exit_code()),
            ("ERROR: canceled\n", 130)
        );
    }
}
