//! Failures as users see them: the lines that are to blame, one sentence, and what to do next.

use graph::{LineRange, SourceFile};

use crate::progress::sanitize;

/// A failure to be printed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What happened, as a sentence in lower case; empty where it has been said already.
    pub message: String,
    /// What was being done, from the outside in: `failed to build`, `failed to solve`.
    pub doing: &'static [&'static str],
    /// The lines that asked for it.
    pub excerpt: Option<Excerpt>,
    /// What to do next.
    pub hint: Option<String>,
    /// The user ended it.
    pub interrupted: bool,
}

/// Lines of a source file.
#[derive(Clone, Debug)]
pub struct Excerpt {
    /// The file.
    pub source: SourceFile,
    /// The lines to blame.
    pub lines: LineRange,
}

/// The exit code of what Ctrl-C ended: 128 and SIGINT.
pub const INTERRUPTED: u8 = 130;

impl From<String> for Report {
    fn from(message: String) -> Self {
        Self { message, ..Self::default() }
    }
}

impl Report {
    /// What buildx puts before a failed step's message.
    pub const SOLVING: &'static [&'static str] = &["failed to build", "failed to solve"];

    /// 130 if the user ended it, else 1.
    pub fn exit_code(&self) -> u8 {
        match self.interrupted {
            true => INTERRUPTED,
            false => 1,
        }
    }

    /// The text for standard error. Control characters, which can come from a registry or a
    /// Dockerfile, are left out.
    pub fn text(&self) -> String {
        if self.message.is_empty() && !self.interrupted {
            return String::new();
        }
        let mut text = String::new();
        if let Some(excerpt) = &self.excerpt {
            text.push_str(&excerpt.text());
        }
        text.push_str("ERROR: ");
        for doing in self.doing {
            text.push_str(doing);
            text.push_str(": ");
        }
        let message =
            if self.interrupted && self.message.is_empty() { "canceled" } else { &self.message };
        push_lines(&mut text, message);
        if let Some(hint) = &self.hint {
            text.push_str("hint: ");
            push_lines(&mut text, hint);
        }
        text
    }
}

fn push_lines(text: &mut String, message: &str) {
    for line in message.trim_end().lines() {
        text.push_str(&sanitize(line));
        text.push('\n');
    }
}

/// Lines around the ones to blame, both sides together.
const AROUND: u32 = 4;
const RULE: &str = "--------------------";

impl Excerpt {
    /// BuildKit's form (`solver/errdefs/source.go`): up to two lines before and after.
    pub(super) fn text(&self) -> String {
        let lines: Vec<&str> = self.source.text.split('\n').collect();
        let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let (first, last) = (self.lines.first, self.lines.last.max(self.lines.first).min(count));
        if first < 1 || first > count {
            return String::new();
        }
        let around = if first == last { AROUND } else { AROUND / 2 };
        let (mut from, mut to, mut added) = (first, last, 0);
        // The third count is BuildKit's: each round uses up one more.
        while added < around {
            if from > 1 {
                from -= 1;
                added += 1;
            }
            if to != count {
                to += 1;
                added += 1;
            }
            added += 1;
        }
        let mut text = format!("{}:{first}\n{RULE}\n", sanitize(&self.source.name));
        for number in from..=to {
            let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
            let line = sanitize(lines[number as usize - 1].trim_end_matches('\r'));
            text.push_str(&format!(" {number:3} | {mark} {line}\n"));
        }
        text.push_str(RULE);
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, first: u32, last: u32) -> Excerpt {
        let source = SourceFile { name: "Dockerfile".into(), text: text.into() };
        Excerpt { source, lines: LineRange { first, last } }
    }

    #[test]
    fn a_failed_step_is_shown_as_buildx_does() {
        let report = Report {
            message: "process \"/bin/sh -c false\" did not complete successfully: exit code: 1"
                .into(),
            doing: Report::SOLVING,
            excerpt: Some(excerpt("FROM a\nWORKDIR /x\nCOPY . .\nRUN false\nCMD x\n", 4, 4)),
            hint: Some("look at the output above".into()),
            interrupted: false,
        };
        assert_eq!(
            report.text(),
            "Dockerfile:4\n--------------------\n\
             \u{20}  2 |     WORKDIR /x\n   3 |     COPY . .\n   4 | >>> RUN false\n   5 |     CMD x\n   6 |     \n\
             --------------------\n\
             ERROR: failed to build: failed to solve: process \"/bin/sh -c false\" did not complete \
             successfully: exit code: 1\nhint: look at the output above\n"
        );
        assert_eq!(report.exit_code(), 1);
    }

    #[test]
    fn excerpts_stay_in_the_file() {
        assert_eq!(
            excerpt("FROM a\nRUN x \\\n y", 2, 3).text(),
            "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUN x \\\n   3 | >>>  y\n--------------------\n"
        );
        assert_eq!(excerpt("FROM a", 9, 9).text(), "");
        assert_eq!(
            excerpt("x", 1, 9).text(),
            "Dockerfile:1\n--------------------\n   1 | >>> x\n--------------------\n"
        );
    }

    #[test]
    fn nothing_from_outside_moves_the_cursor() {
        let report = Report::from("registry said: \x1b[2Jgone\x08".to_owned());
        assert_eq!(report.text(), "ERROR: registry said: gone\n");
        let interrupted = Report { interrupted: true, ..Report::default() };
        assert_eq!(
            (interrupted.text().as_str(), interrupted.exit_code()),
            ("ERROR: canceled\n", 130)
        );
    }
}
