//! Text that cannot control a terminal: for lines that are drawn over each other, and for logs in
//! which no line may pass for another step's.

use std::collections::VecDeque;

/// Escapes characters that control the terminal, break the line or change the direction of text:
/// `\n`, `\u{1b}`, `\u{202e}`. For names, which are to be seen as they are.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match is_invisible(character) && character != '\t' {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// Removes escape sequences and control characters; a tab becomes a blank.
pub fn sanitize(text: &str) -> String {
    let mut filter = Filter::default();
    text.chars().filter_map(|character| filter.pass(character)).collect()
}

/// The characters that [`sanitize`] keeps of a text, with their byte offsets.
pub fn sanitized(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut filter = Filter::default();
    text.char_indices().filter_map(move |(at, character)| Some((at, filter.pass(character)?)))
}

/// The state of a stream of characters: text, or a part of an escape sequence (ECMA-48).
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

/// Control characters, and marks that change the direction of text or take no column.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A decoder of UTF-8 that arrives in pieces. Invalid bytes become U+FFFD.
#[derive(Default)]
struct Characters {
    /// The first bytes of a character whose rest has not arrived yet.
    partial: Vec<u8>,
}

impl Characters {
    fn read(&mut self, data: &[u8], mut take: impl FnMut(char)) {
        self.partial.extend_from_slice(data);
        let bytes = std::mem::take(&mut self.partial);
        for chunk in bytes.utf8_chunks() {
            chunk.valid().chars().for_each(&mut take);
            let rest = chunk.invalid();
            let is_last = rest.as_ptr_range().end == bytes.as_ptr_range().end;
            match std::str::from_utf8(rest) {
                // A character that may continue in the next piece.
                Err(error) if is_last && error.error_len().is_none() => {
                    self.partial = rest.to_vec();
                }
                Err(_) => take('\u{fffd}'),
                Ok(_) => {}
            }
        }
    }
}

/// A unit of a command's output, as a log may show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OutputToken {
    /// A character that is only text.
    Character(char),
    /// Colours and similar styles: the parameters of `ESC [ … m`.
    Style(String),
    /// Back to the beginning of the line.
    Return,
    /// The end of the line.
    End,
}

/// The longest parameters that count as colours, in bytes.
const LONGEST_STYLE: usize = 32;

/// A command's output that arrives in pieces. Colours stay; anything else that controls the
/// terminal is removed.
#[derive(Default)]
pub(super) struct Printed {
    characters: Characters,
    filter: Filter,
    parameters: String,
}

impl Printed {
    pub(super) fn read(&mut self, data: &[u8], mut take: impl FnMut(OutputToken)) {
        let Self { characters, filter, parameters } = self;
        characters.read(data, |character| {
            let before = *filter;
            let passed = filter.pass(character);
            match (before, character) {
                (_, '\n') => take(OutputToken::End),
                (Filter::Text, '\r') => take(OutputToken::Return),
                (Filter::Text, '\t') => take(OutputToken::Character('\t')),
                (Filter::Control, 'm') if is_style(parameters) => {
                    take(OutputToken::Style(std::mem::take(parameters)));
                }
                (Filter::Control, _) if parameters.len() <= LONGEST_STYLE => {
                    parameters.push(character);
                }
                (Filter::Control, _) => {}
                _ => {
                    parameters.clear();
                    if let Some(character) = passed {
                        take(OutputToken::Character(character));
                    }
                }
            }
        });
    }
}

/// True if the parameters of `ESC [ … m` are those of colours, and not of another sequence with the
/// same end (`ESC [ > 4 m` changes the keyboard).
fn is_style(parameters: &str) -> bool {
    parameters.len() <= LONGEST_STYLE
        && parameters.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'))
}

/// The longest line that is kept, in bytes: no terminal shows more.
const LONGEST: usize = 1024;

/// The last lines of a stream as a terminal would show them.
pub(super) struct Window {
    lines: VecDeque<String>,
    height: usize,
    filter: Filter,
    /// True after a carriage return: the next character begins the line again.
    rewind: bool,
    characters: Characters,
    /// The number of bytes that arrived.
    pub(super) bytes: usize,
}

impl Window {
    pub(super) fn new(height: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            height,
            filter: Filter::Text,
            rewind: false,
            characters: Characters::default(),
            bytes: 0,
        }
    }

    pub(super) fn write(&mut self, data: &[u8]) {
        self.bytes += data.len();
        let mut characters = std::mem::take(&mut self.characters);
        characters.read(data, |character| self.take(character));
        self.characters = characters;
    }

    fn take(&mut self, character: char) {
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

    /// The last lines that are not blank, at most `height`.
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
    fn names_are_seen_as_they_are() {
        for (text, shown) in [
            ("[2/3] RUN make", "[2/3] RUN make"),
            ("COPY a\n#4 DONE", "COPY a\\n#4 DONE"),
            ("a\tb\u{e9}", "a\tb\u{e9}"),
            ("\x1b[2J\r\u{85}", "\\u{1b}[2J\\r\\u{85}"),
            ("\u{202e}gpj\u{2066}\u{2028}", "\\u{202e}gpj\\u{2066}\\u{2028}"),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
        }
    }

    #[test]
    fn of_what_is_printed_colours_stay() {
        let read = |pieces: &[&[u8]]| {
            let (mut printed, mut text) = (Printed::default(), String::new());
            for piece in pieces {
                printed.read(piece, |shown| match shown {
                    OutputToken::Character(character) => text.push(character),
                    OutputToken::Style(parameters) => text.push_str(&format!("<{parameters}>")),
                    OutputToken::Return => text.push_str("<CR>"),
                    OutputToken::End => text.push_str("<LF>"),
                });
            }
            text
        };
        for (bytes, shown) in [
            (&b"\x1b[1;31mred\x1b[0m\tx"[..], "<1;31>red<0>\tx"),
            (b"\x1b[38:5:9mx\x1b[mx", "<38:5:9>x<>x"),
            (b"\x1b[2J\x1b[H\x1b[10A\x1b[?25l\x1b[>4;2mx", "x"),
            (b"\x1b]0;title\x07\x1b]8;;http://a\x1b\\y\x1bPq\x1b\\\x1bc\x1b7z", "yz"),
            (b"a\rb\x08\x0b\x0c\x07\x00c\r\n", "a<CR>bc<CR><LF>"),
            ("\u{9b}2J\u{202e}\u{85}\u{2029}x".as_bytes(), "x"),
            // A sequence without an end takes the line's end with it, and no more.
            (b"\x1b[31\nx\x1b]0;t\nx\x1b\nx", "<LF>x<LF>x<LF>x"),
            (b"\x1b[111111111111111111111111111111111mx", "x"),
            (b"\xff\xc3\x28\x9bx", "\u{fffd}\u{fffd}(\u{fffd}x"),
        ] {
            assert_eq!(read(&[bytes]), shown, "{bytes:?}");
            let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(&pieces), shown, "{bytes:?} in pieces");
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
