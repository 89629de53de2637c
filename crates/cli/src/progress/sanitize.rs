//! Text that cannot move the cursor: for lines that are drawn over each other.

use std::collections::VecDeque;

/// Removes escape sequences and control characters; a tab is a blank.
pub fn sanitize(text: &str) -> String {
    let mut filter = Filter::default();
    text.chars().filter_map(|character| filter.pass(character)).collect()
}

/// The characters that [`sanitize`] leaves of a text, with where they are in it.
pub fn sanitized(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut filter = Filter::default();
    text.char_indices().filter_map(move |(at, character)| Some((at, filter.pass(character)?)))
}

/// Where in an escape sequence (ECMA-48) a stream of characters is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Filter {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In `ESC [ …`, until a final byte.
    Control,
    /// In `ESC ] …`, `ESC P …`, `ESC ^ …`, `ESC _ …`, until BEL or ESC.
    String,
}

impl Filter {
    fn pass(&mut self, character: char) -> Option<char> {
        let (next, passed) = match (*self, character) {
            (_, '\x1b') => (Filter::Escape, None),
            (Filter::Text, '\u{9b}') => (Filter::Control, None),
            (Filter::Text, '\t') => (Filter::Text, Some(' ')),
            (Filter::Text, c) if is_invisible(c) => (Filter::Text, None),
            (Filter::Text, c) => (Filter::Text, Some(c)),
            (Filter::Escape, '[') => (Filter::Control, None),
            (Filter::Escape, ']' | 'P' | '^' | '_' | 'X') => (Filter::String, None),
            // Intermediate bytes: one more byte follows, as in `ESC ( B`.
            (Filter::Escape, ' '..='/') => (Filter::Escape, None),
            (Filter::Escape, _) => (Filter::Text, None),
            (Filter::Control, '@'..='~') => (Filter::Text, None),
            (Filter::Control, c) if c.is_control() => (Filter::Text, None),
            (Filter::Control, _) => (Filter::Control, None),
            (Filter::String, '\x07' | '\n' | '\u{9c}') => (Filter::Text, None),
            (Filter::String, _) => (Filter::String, None),
        };
        *self = next;
        passed
    }
}

/// Controls, and marks that change the direction of what follows or take no column.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A longer line is cut: no terminal shows it.
const LONGEST: usize = 1024;

/// The last lines of a stream as a terminal would show them.
pub(super) struct Window {
    lines: VecDeque<String>,
    height: usize,
    filter: Filter,
    /// A carriage return came: the next character begins the line anew.
    rewind: bool,
    /// Bytes of a character whose rest is yet to come.
    partial: Vec<u8>,
    /// Bytes that came in all.
    pub(super) bytes: usize,
}

impl Window {
    pub(super) fn new(height: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            height,
            filter: Filter::Text,
            rewind: false,
            partial: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn write(&mut self, data: &[u8]) {
        self.bytes += data.len();
        self.partial.extend_from_slice(data);
        let bytes = std::mem::take(&mut self.partial);
        let mut rest = bytes.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => return self.text(text),
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.text(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        Some(length) => {
                            self.text("\u{fffd}");
                            rest = &after[length..];
                        }
                        None => {
                            self.partial = after.to_vec();
                            return;
                        }
                    }
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '\n' => {
                    self.filter.pass(character);
                    self.rewind = false;
                    if self.lines.back().is_some_and(|line| !line.trim().is_empty()) {
                        self.lines.push_back(String::new());
                        if self.lines.len() > self.height + 1 {
                            self.lines.pop_front();
                        }
                    }
                }
                '\r' => self.rewind = true,
                _ => {
                    if let Some(character) = self.filter.pass(character) {
                        self.put(character);
                    }
                }
            }
        }
    }

    fn put(&mut self, character: char) {
        if self.lines.is_empty() {
            self.lines.push_back(String::new());
        }
        if let Some(line) = self.lines.back_mut() {
            if std::mem::take(&mut self.rewind) {
                line.clear();
            }
            if line.len() < LONGEST {
                line.push(character);
            }
        }
    }

    /// The last lines that have something in them, at most `height`.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        let shown = self.lines.iter().filter(|line| !line.trim().is_empty());
        let skipped = shown.clone().count().saturating_sub(self.height);
        shown.skip(skipped).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        for (text, clean) in [
            ("\x1b[31mred\x1b[0m", "red"),
            ("a\tb", "a b"),
            ("\x1b]0;title\x07x", "x"),
            ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b(Bx\x1bcy", "xy"),
            ("a\u{202e}b\x08c", "abc"),
            ("\u{9b}2Jx", "x"),
        ] {
            assert_eq!(sanitize(text), clean, "{text:?}");
        }
    }

    #[test]
    fn a_window_keeps_the_last_lines() {
        let mut window = Window::new(2);
        window.write(b"one\ntwo\n\nthr");
        window.write(b"ee\n");
        assert_eq!(window.lines().collect::<Vec<_>>(), ["two", "three"]);
        window.write(b" 10%\r 20%\r 30%");
        assert_eq!(window.lines().collect::<Vec<_>>(), ["three", " 30%"]);
    }

    #[test]
    fn characters_and_escapes_may_come_in_pieces() {
        let mut window = Window::new(2);
        for byte in "é\x1b[1;31m→".as_bytes() {
            window.write(&[*byte]);
        }
        window.write(b"\xff!");
        assert_eq!(window.lines().collect::<Vec<_>>(), ["é→\u{fffd}!"]);
    }
}
