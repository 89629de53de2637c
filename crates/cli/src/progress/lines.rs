//! Log output cut into lines, each with the seconds since its task began.

use std::collections::VecDeque;

use super::sanitize::{OutputToken, Printed};

/// The longest line that is kept, in bytes; longer ones are printed as they arrive.
const LONGEST_KEPT: usize = 64 << 10;

/// The unprinted lines of one task, and the last ones that were printed.
#[derive(Default)]
pub(super) struct OutputLines {
    printed: Printed,
    cut: Cut,
}

/// Output cut into lines.
#[derive(Default)]
struct Cut {
    pending: Vec<OutputLine>,
    /// True if the last pending line has no end yet.
    open: bool,
    /// True after a carriage return: the next character begins the line again.
    returned: bool,
    /// The colours in effect, as escape sequences. They end with each line and are set again on the
    /// next one, so that no other step's line has them.
    style: String,
    /// True if the last printed text does not end a line.
    is_within: bool,
    tail: VecDeque<Vec<u8>>,
}

#[derive(Clone, Default)]
struct OutputLine {
    text: Vec<u8>,
    /// The length of the time at the start of the text, in bytes.
    prefix: usize,
    /// The printed part of the text, in bytes; 0 before the line's number is printed.
    printed: usize,
    /// True if the next line is written over this one, as programs do with their progress.
    is_overwritten: bool,
}

/// The number of lines of a failed task that are shown again.
const TAIL: usize = 10;
/// The escape sequence that ends all colours.
pub(super) const PLAIN: &str = "\x1b[0m";
/// The longest sequence of colours that is kept; longer ones are cut to the last colour.
const LONGEST_STYLE: usize = 128;

impl OutputLines {
    /// Adds a piece of output that arrived `seconds` after the task began.
    pub(super) fn push(&mut self, data: &[u8], seconds: f64) {
        let Self { printed, cut } = self;
        printed.read(data, |shown| cut.take(shown, seconds));
    }

    /// Writes the pending lines, each after `#number `.
    pub(super) fn print(&mut self, number: usize, out: &mut Vec<u8>) {
        self.cut.print(number, out);
    }

    /// Ends a partly printed line, since other output follows. If the line goes on later, its text
    /// is printed from the start again.
    pub(super) fn interrupt(&mut self, out: &mut Vec<u8>) {
        let cut = &mut self.cut;
        if std::mem::take(&mut cut.is_within) {
            if !cut.style.is_empty() {
                out.extend_from_slice(PLAIN.as_bytes());
            }
            out.push(b'\n');
        }
        if let Some(line) = cut.pending.first_mut() {
            line.printed = 0;
        }
    }

    /// The last lines, the open one included.
    pub(super) fn tail(&self) -> impl Iterator<Item = &[u8]> {
        let Cut { pending, open, tail, .. } = &self.cut;
        let open = pending.last().filter(|_| *open).map(|line| line.text.as_slice());
        let skipped = usize::from(open.is_some() && tail.len() == TAIL);
        tail.iter().skip(skipped).map(Vec::as_slice).chain(open)
    }
}

impl Cut {
    fn take(&mut self, shown: OutputToken, seconds: f64) {
        match shown {
            OutputToken::Return => self.returned = true,
            OutputToken::End => {
                self.returned = false;
                self.line(seconds);
                self.end(false);
            }
            OutputToken::Character(character) => {
                self.begin_anew();
                let mut bytes = [0; 4];
                let bytes = character.encode_utf8(&mut bytes).as_bytes();
                self.line(seconds).text.extend_from_slice(bytes);
            }
            OutputToken::Style(parameters) => {
                self.begin_anew();
                let sequence = format!("\x1b[{parameters}m");
                self.line(seconds).text.extend_from_slice(sequence.as_bytes());
                let is_whole = self.style.len() + sequence.len() > LONGEST_STYLE
                    || parameters.trim_start_matches('0').starts_with(';');
                if parameters.trim_matches('0').is_empty() {
                    self.style.clear();
                } else if is_whole {
                    self.style = sequence;
                } else {
                    self.style.push_str(&sequence);
                }
            }
        }
    }

    /// Ends a line that is about to be overwritten. A command's output cannot go back before its
    /// own number and time: they are printed again.
    fn begin_anew(&mut self) {
        if std::mem::take(&mut self.returned) && self.open {
            self.end(true);
        }
    }

    /// The open line, or a new one.
    fn line(&mut self, seconds: f64) -> &mut OutputLine {
        if !std::mem::replace(&mut self.open, true) {
            let mut text = prefix(seconds).into_bytes();
            let prefix = text.len();
            text.extend_from_slice(self.style.as_bytes());
            self.pending.push(OutputLine { text, prefix, ..OutputLine::default() });
        }
        self.pending.last_mut().expect("an open line is pending")
    }

    fn end(&mut self, is_overwritten: bool) {
        self.open = false;
        let is_styled = !self.style.is_empty();
        let Some(line) = self.pending.last_mut() else { return };
        line.is_overwritten = is_overwritten;
        if is_styled {
            line.text.extend_from_slice(PLAIN.as_bytes());
        }
        if !is_overwritten {
            let mut text = line.text.clone();
            text.truncate(LONGEST_KEPT);
            self.keep(text);
        }
    }

    fn keep(&mut self, text: Vec<u8>) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(text);
    }

    fn print(&mut self, number: usize, out: &mut Vec<u8>) {
        let count = self.pending.len();
        for (index, line) in self.pending.iter_mut().enumerate() {
            if line.printed == 0 {
                out.extend_from_slice(format!("#{number} ").as_bytes());
            }
            out.extend_from_slice(&line.text[line.printed..]);
            line.printed = line.text.len();
            let has_ended = index + 1 < count || !self.open;
            if has_ended {
                out.push(if line.is_overwritten { b'\r' } else { b'\n' });
            }
            self.is_within = !has_ended || line.is_overwritten;
        }
        match (self.open, self.pending.pop()) {
            (true, Some(mut line)) => {
                if line.text.len() > LONGEST_KEPT {
                    line.text.truncate(line.prefix);
                    line.printed = line.prefix;
                }
                self.pending = vec![line];
            }
            _ => self.pending.clear(),
        }
    }
}

/// The time at the start of a line: `0.214 `, `12.34 `, `123.4 `.
pub(super) fn prefix(seconds: f64) -> String {
    let precision = match seconds {
        s if s < 10.0 => 3,
        s if s < 100.0 => 2,
        _ => 1,
    };
    format!("{seconds:.precision$} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(lines: &mut OutputLines) -> String {
        let mut out = Vec::new();
        lines.print(3, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_split_line_gets_its_prefix_once() {
        let mut lines = OutputLines::default();
        lines.push(b"one\ntw", 0.5);
        assert_eq!(printed(&mut lines), "#3 0.500 one\n#3 0.500 tw");
        lines.push(b"o\n", 12.0);
        assert_eq!(printed(&mut lines), "o\n");
        lines.push(b"three\n", 123.0);
        assert_eq!(printed(&mut lines), "#3 123.0 three\n");
        assert_eq!(printed(&mut lines), "");
        let tail: Vec<_> = lines.tail().map(String::from_utf8_lossy).collect();
        assert_eq!(tail, ["0.500 one", "0.500 two", "123.0 three"]);
    }

    #[test]
    fn an_open_line_begins_anew_after_another_task() {
        let mut lines = OutputLines::default();
        lines.push(b"ab", 1.0);
        printed(&mut lines);
        let mut out = Vec::new();
        lines.interrupt(&mut out);
        assert_eq!(out, b"\n");
        lines.push(b"cd", 2.0);
        assert_eq!(printed(&mut lines), "#3 1.000 abcd");
    }

    #[test]
    fn what_goes_back_in_the_line_stays_behind_its_number() {
        let mut lines = OutputLines::default();
        lines.push(b"5%\r", 1.0);
        lines.push(b"10%\r\r", 2.0);
        lines.push(b"done\r\nnext\r", 3.0);
        assert_eq!(printed(&mut lines), "#3 1.000 5%\r#3 2.000 10%\r#3 3.000 done\n#3 3.000 next");
        lines.push(b"\n", 4.0);
        assert_eq!(printed(&mut lines), "\n");
        let tail: Vec<_> = lines.tail().map(String::from_utf8_lossy).collect();
        assert_eq!(tail, ["3.000 done", "3.000 next"]);
        lines.push(b"over\rx", 5.0);
        printed(&mut lines);
        let mut out = Vec::new();
        lines.interrupt(&mut out);
        assert_eq!(out, b"\n");
    }

    #[test]
    fn colours_end_with_the_line_and_go_on_with_the_next() {
        let mut lines = OutputLines::default();
        lines.push(b"\x1b[31ma\nb\x1b[1m", 1.0);
        assert_eq!(printed(&mut lines), "#3 1.000 \x1b[31ma\x1b[0m\n#3 1.000 \x1b[31mb\x1b[1m");
        let mut out = Vec::new();
        lines.interrupt(&mut out);
        assert_eq!(out, b"\x1b[0m\n");
        lines.push(b"c\x1b[0;32md\x1b[0m\ne\n", 1.0);
        assert_eq!(
            printed(&mut lines),
            "#3 1.000 \x1b[31mb\x1b[1mc\x1b[0;32md\x1b[0m\n#3 1.000 e\n"
        );
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut lines = OutputLines::default();
        for _ in 0..10 {
            lines.push(&[b'x'; LONGEST_KEPT], 1.0);
            printed(&mut lines);
        }
        assert!(lines.cut.pending[0].text.len() <= LONGEST_KEPT);
    }
}
