//! Positions in a Dockerfile.

use std::ops::Range;
use std::sync::Arc;

/// A text that steps come from.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The name that users know, as `Dockerfile`.
    pub name: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
}

/// Lines of a source file, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineRange {
    /// The first line.
    pub first: u32,
    /// The last line.
    pub last: u32,
}

/// Words of a source file: bytes of its text, the end excluded. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

impl SourceFile {
    /// The bytes of some lines, without the last one's end; empty where there are no such lines.
    pub fn bytes_of(&self, lines: LineRange) -> Range<usize> {
        self.line_table().bytes_of(lines)
    }

    /// A table of line beginnings, for repeated look-ups.
    pub fn line_table(&self) -> LineTable<'_> {
        let behind = self.text.match_indices('\n').map(|(at, _)| at + 1);
        LineTable { file: self, starts: std::iter::once(0).chain(behind).collect() }
    }

    /// Finds a word in some lines: see [`LineTable::find`].
    pub fn find(&self, lines: LineRange, word: &str, last: bool) -> Option<Span> {
        self.line_table().find(lines, word, last)
    }

    fn stands_alone(&self, span: Span) -> bool {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        let before = self.text[..span.start].chars().next_back();
        let behind = self.text[span.end..].chars().next();
        !before.is_some_and(is_part) && !behind.is_some_and(is_part)
    }
}
/// A source file with the places where its lines begin.
#[derive(Clone, Debug)]
pub struct LineTable<'a> {
    file: &'a SourceFile,
    starts: Vec<usize>,
}

impl LineTable<'_> {
    /// Like [`SourceFile::bytes_of`].
    pub fn bytes_of(&self, lines: LineRange) -> Range<usize> {
        let text = &self.file.text;
        let first = lines.first.max(1);
        let last = lines.last.max(first);
        let Some(&start) = self.starts.get(first as usize - 1) else {
            return text.len()..text.len();
        };
        let end = self.starts.get(last as usize).copied().unwrap_or(text.len());
        start..start + text[start..end].trim_end_matches(['\r', '\n']).len()
    }

    /// Finds a word in some lines. Behind the first line, lines that are comments are passed over;
    /// a place where the word stands alone is better than one inside of a longer word. `last`
    /// asks for the last such place instead of the first.
    pub fn find(&self, lines: LineRange, word: &str, last: bool) -> Option<Span> {
        let text = &self.file.text;
        let word = word.trim();
        let range = self.bytes_of(lines);
        if word.is_empty() || range.is_empty() {
            return None;
        }
        let mut alone = None;
        let mut inside = None;
        let keep = |slot: &mut Option<Span>, span| {
            if slot.is_none() || last {
                *slot = Some(span);
            }
        };
        let mut start = range.start;
        for line in text[range.clone()].split_inclusive('\n') {
            // A word of several lines (a here-document) begins in one of them.
            let is_comment = start > range.start && line.trim_start().starts_with('#');
            let searched = match word.contains('\n') {
                true => &text[start..range.end],
                false => line,
            };
            let found = searched.match_indices(word).take_while(|(at, _)| *at < line.len());
            for (at, _) in found.filter(|_| !is_comment) {
                let span = Span { start: start + at, end: start + at + word.len() };
                match self.file.stands_alone(span) {
                    true => keep(&mut alone, span),
                    false => keep(&mut inside, span),
                }
            }
            start += line.len();
        }
        alone.or(inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SourceFile {
        SourceFile { name: "Dockerfile".into(), text: text.into() }
    }

    #[test]
    fn lines_have_bytes() {
        let file = file("one\r\ntwo\nthree");
        let of = |first, last| &file.text[file.bytes_of(LineRange { first, last })];
        assert_eq!((of(1, 1), of(2, 2), of(3, 3)), ("one", "two", "three"));
        assert_eq!((of(1, 2), of(2, 9), of(4, 4)), ("one\r\ntwo", "two\nthree", ""));
        assert_eq!(of(0, 0), "one");
    }

    #[test]
    fn words_are_found() {
        let file = file("FROM x\nRUN --a=aa \\\n # aa b\n b a\n");
        let find = |word: &str, last| {
            file.find(LineRange { first: 2, last: 4 }, word, last)
                .map(|span| (span.start, &file.text[span.start..span.end]))
        };
        assert_eq!(find("a", false), Some((31, "a")));
        assert_eq!(find("--a", true), Some((11, "--a")));
        assert_eq!(find("b", false), Some((29, "b")));
        assert_eq!(find("x", false), None);
        assert_eq!(find(" ", false), None);
        assert_eq!(find("UN", false), Some((8, "UN")));
    }
}
