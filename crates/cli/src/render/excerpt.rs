//! Lines of a Dockerfile with the words at fault underlined.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use graph::{LineRange, SourceFile, Span};

use crate::progress::{sanitize, sanitized};

/// The look of a text: plain, or for a terminal that shows colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// Plain text.
    #[default]
    Plain,
    /// With the escape sequences of a terminal.
    Colored,
}

impl Look {
    /// `text` as the beginning of an error.
    pub(super) fn strong(self, text: &str) -> String {
        self.painted(text, "1;31")
    }

    /// `text` as the beginning of a hint.
    pub(super) fn faint(self, text: &str) -> String {
        self.painted(text, "36")
    }

    fn painted(self, text: &str, code: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colored => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// Lines of a source file.
#[derive(Clone, Debug)]
pub struct Excerpt {
    /// The file.
    pub source: SourceFile,
    /// The lines at fault.
    pub lines: LineRange,
    /// The words at fault; none if only the lines are known.
    pub span: Option<Span>,
}

/// The number of lines shown around those at fault, both sides together.
const AROUND: u32 = 4;
/// The longest statement, in lines, that is shown whole; of a longer one, only the underlined lines
/// are.
const LONGEST: u32 = 24;
/// The columns of an excerpt; a longer line is cut to the part around the underlined words.
const WIDTH: usize = 160;
const RULE: &str = "--------------------";

impl Excerpt {
    /// A line `FILE:LINE`, which tools look for, and the excerpt between two rules.
    pub fn text(&self, look: Look) -> String {
        let count = u32::try_from(self.source.text.split('\n').count()).unwrap_or(u32::MAX);
        let (first, last) = (self.lines.first, self.lines.last.max(self.lines.first).min(count));
        if first < 1 || first > count {
            return String::new();
        }
        let lines = LineRange { first, last };
        let around = self.around(lines, count);
        let shown = self.source.bytes_of(around);
        let blamed = self.blamed(lines);
        // Masking keeps the offset of each byte.
        let masked = oci::masked_text(&self.source.text);
        let (text, blamed) = clean(&masked, shown, blamed);
        let snippet = Snippet::source(text)
            .line_start(around.first as usize)
            .fold(last - first >= LONGEST)
            .annotation(AnnotationKind::Primary.span(blamed));
        let renderer = match look {
            Look::Plain => Renderer::plain(),
            Look::Colored => Renderer::styled(),
        };
        let group = Group::with_level(Level::ERROR).element(snippet);
        let body = renderer.term_width(WIDTH).render(&[group]);
        // The library leaves an empty line where others have a title, and may end in one.
        let lines = body.lines().filter(|line| !is_frame(line));
        let body: String = lines.map(|line| format!("{}\n", line.trim_end())).collect();
        let name = oci::shown_text(&self.source.name);
        format!("{}:{first}\n{RULE}\n{body}{RULE}\n", sanitize(&name))
    }

    /// The lines that are shown: BuildKit's (`solver/errdefs/source.go`), up to two before and
    /// after.
    fn around(&self, lines: LineRange, count: u32) -> LineRange {
        let around = if lines.first == lines.last { AROUND } else { AROUND / 2 };
        let (mut first, mut last, mut added) = (lines.first, lines.last, 0);
        // The third count is BuildKit's: each round counts as one more.
        while added < around {
            if first > 1 {
                first -= 1;
                added += 1;
            }
            if last != count {
                last += 1;
                added += 1;
            }
            added += 1;
        }
        LineRange { first, last }
    }

    /// The bytes to underline: the words, else all of the lines without the blanks around them.
    fn blamed(&self, lines: LineRange) -> Range<usize> {
        let whole = self.source.bytes_of(lines);
        match self.span {
            Some(span) if whole.start <= span.start && span.end <= whole.end => {
                span.start..span.end
            }
            _ => {
                let text = &self.source.text[whole.clone()];
                let start = whole.start + (text.len() - text.trim_start().len());
                start..(start + text.trim().len()).max(start)
            }
        }
    }
}

/// True if a line has only the library's frame.
fn is_frame(line: &str) -> bool {
    let plain = sanitize(line);
    matches!(plain.trim(), "" | "|")
}

/// A part of a text without control characters, and the range of `blamed` in it.
fn clean(text: &str, shown: Range<usize>, blamed: Range<usize>) -> (String, Range<usize>) {
    let mut out = String::new();
    let (mut start, mut end) = (None, None);
    let mut line_start = shown.start;
    for line in text[shown].split('\n') {
        for (at, c) in sanitized(line) {
            if line_start + at >= blamed.start {
                start.get_or_insert(out.len());
            }
            if line_start + at >= blamed.end {
                end.get_or_insert(out.len());
            }
            out.push(c);
        }
        line_start += line.len() + 1;
        out.push('\n');
    }
    out.pop();
    let start = start.unwrap_or(out.len());
    let end = end.unwrap_or(out.len()).max(start);
    // Up to the end of the last line at fault, not to the beginning of the next one.
    let end = start + out[start..end].trim_end().len();
    (out, start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, lines: (u32, u32), word: &str) -> String {
        let source = SourceFile { name: "Dockerfile".into(), text: text.into() };
        let lines = LineRange { first: lines.0, last: lines.1 };
        let span = source.find(lines, word, false);
        Excerpt { source, lines, span }.text(Look::Plain)
    }

    #[test]
    fn words_are_underlined() {
        assert_eq!(
            excerpt("FROM a\nRUN --netwrk=none x\n", (2, 2), "--netwrk"),
            "Dockerfile:2\n--------------------\n\
             1 | FROM a\n2 | RUN --netwrk=none x\n  |     ^^^^^^^^\n\
             --------------------\n"
        );
        assert_eq!(
            excerpt("FROM a\nRUN é\t\u{7}\u{1b}[2J ü x\n", (2, 2), "x"),
            "Dockerfile:2\n--------------------\n\
             1 | FROM a\n2 | RUN é  ü x\n  |          ^\n\
             --------------------\n"
        );
    }

    #[test]
    fn a_terminal_gets_colours() {
        let source = SourceFile { name: "Dockerfile".into(), text: "FROM a\nRUN x".into() };
        let excerpt = Excerpt { source, lines: LineRange { first: 2, last: 2 }, span: None };
        let colored = excerpt.text(Look::Colored);
        assert!(colored.contains("\u{1b}["), "{colored:?}");
        assert_eq!(sanitize_lines(&colored), excerpt.text(Look::Plain));
    }

    fn sanitize_lines(text: &str) -> String {
        text.lines().map(|line| format!("{}\n", sanitize(line).trim_end())).collect()
    }

    #[test]
    fn excerpts_stay_in_the_file() {
        assert_eq!(excerpt("FROM a", (9, 9), ""), "");
        assert_eq!(
            excerpt("x", (1, 9), ""),
            "Dockerfile:1\n--------------------\n1 | x\n  | ^\n--------------------\n"
        );
        for text in ["", "\n", "\n\n\n", " \r\n x", "\u{7}"] {
            for first in 0..5 {
                for last in 0..5 {
                    excerpt(text, (first, last), "x");
                }
            }
        }
    }

    #[test]
    fn long_statements_and_lines_are_shortened() {
        let text = format!("FROM a\nRUN <<EOF\n{}EOF\nCMD x\n", "line\n".repeat(100));
        assert!(excerpt(&text, (2, 103), "<<EOF").lines().count() < 20);
        let text = format!("FROM a\nRUN {} --x {}\n", "y".repeat(5000), "z".repeat(5000));
        let shown = excerpt(&text, (2, 2), "--x");
        assert!(shown.len() < 1000 && shown.contains("--x"), "{shown}");
    }
}
