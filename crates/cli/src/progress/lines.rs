//! Log output cut into lines, each with the seconds since its task began.

use std::collections::VecDeque;

/// A line longer than this is printed as it comes and not kept.
const LONGEST_KEPT: usize = 64 << 10;

/// Lines of one task that are not printed yet, and the last ones that were.
#[derive(Default)]
pub(super) struct Lines {
    pending: Vec<Line>,
    /// Whether the last pending line has no end yet.
    open: bool,
    tail: VecDeque<Vec<u8>>,
}

#[derive(Clone, Default)]
struct Line {
    text: Vec<u8>,
    /// How much of the text is the time.
    prefix: usize,
    /// How much of the text was printed; 0 before the line's number was.
    printed: usize,
}

/// How many lines of a failed task are shown again.
const TAIL: usize = 10;

impl Lines {
    /// Takes in a piece of output that came `seconds` after the task began.
    pub(super) fn push(&mut self, data: &[u8], seconds: f64) {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let (piece, ends) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            match self.pending.last_mut() {
                Some(line) if self.open => line.text.extend_from_slice(piece),
                _ => {
                    let mut text = prefix(seconds).into_bytes();
                    let prefix = text.len();
                    text.extend_from_slice(piece);
                    self.pending.push(Line { text, prefix, printed: 0 });
                }
            }
            self.open = !ends;
            if ends && let Some(line) = self.pending.last() {
                let mut text = line.text.clone();
                text.truncate(LONGEST_KEPT);
                self.keep(text);
            }
        }
    }

    fn keep(&mut self, text: Vec<u8>) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(text);
    }

    /// Writes what is pending, each line after `#number `.
    pub(super) fn print(&mut self, number: usize, out: &mut Vec<u8>) {
        let count = self.pending.len();
        for (index, line) in self.pending.iter_mut().enumerate() {
            if line.printed == 0 {
                out.extend_from_slice(format!("#{number} ").as_bytes());
            }
            out.extend_from_slice(&line.text[line.printed..]);
            line.printed = line.text.len();
            if index + 1 < count || !self.open {
                out.push(b'\n');
            }
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

    /// Whether a line was begun and has no end yet.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Makes the open line be printed from its start again, as another task comes in between.
    pub(super) fn reprint(&mut self) {
        if let Some(line) = self.pending.first_mut() {
            line.printed = 0;
        }
    }

    /// The last lines, the open one included.
    pub(super) fn tail(&self) -> impl Iterator<Item = &[u8]> {
        let open = self.pending.last().filter(|_| self.open).map(|line| line.text.as_slice());
        let skipped = usize::from(open.is_some() && self.tail.len() == TAIL);
        self.tail.iter().skip(skipped).map(Vec::as_slice).chain(open)
    }
}

/// `0.214 `, `12.34 `, `123.4 `.
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

    fn printed(lines: &mut Lines) -> String {
        let mut out = Vec::new();
        lines.print(3, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_split_line_gets_its_prefix_once() {
        let mut lines = Lines::default();
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
        let mut lines = Lines::default();
        lines.push(b"ab", 1.0);
        printed(&mut lines);
        lines.reprint();
        lines.push(b"cd", 2.0);
        assert_eq!(printed(&mut lines), "#3 1.000 abcd");
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut lines = Lines::default();
        for _ in 0..10 {
            lines.push(&[b'x'; LONGEST_KEPT], 1.0);
            printed(&mut lines);
        }
        assert!(lines.pending[0].text.len() <= LONGEST_KEPT);
    }
}
