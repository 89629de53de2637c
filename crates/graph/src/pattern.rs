//! Path patterns as Docker's tools read them: Go's `path.Match` for the wildcards of a source,
//! and moby's `patternmatcher` for `.dockerignore`, `--exclude` and `--parents`.
//!
//! The second one turns a pattern into a regular expression; some of its results only make sense
//! that way (`[!a]` is a class of two, `[*]` is no star). So it is done here too, for the small
//! part of the language that such expressions have.

use std::borrow::Cow;
use std::fmt;

/// A pattern that no path can be compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    pattern: String,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a valid pattern: syntax error in pattern", self.pattern)
    }
}

impl std::error::Error for PatternError {}

/// Go's `path.Clean`: the shortest name of the same path, without looking at a disk.
pub fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => {
                names.pop();
            }
            ".." if rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// True if a name has an unescaped wildcard of `path.Match`.
pub fn has_wildcard(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    false
}

/// Splits a path before its first component with a wildcard. The second part is empty where
/// there is none.
pub fn split_wildcards(path: &str) -> (String, String) {
    let path = clean_path(path);
    let rooted = path.starts_with('/');
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let first = names.iter().position(|name| has_wildcard(name)).unwrap_or(names.len());
    let fixed = names[..first].join("/");
    let fixed = if rooted { format!("/{fixed}") } else { fixed };
    (fixed, names[first..].join("/"))
}

/// A pattern of Go's `path.Match`: `*` and `?` do not cross `/`, `[a-z]` and `[^a-z]` do,
/// `\` escapes.
#[derive(Clone, Debug)]
pub struct Glob {
    chunks: Vec<Chunk>,
}

/// The tokens between two stars.
#[derive(Clone, Debug)]
struct Chunk {
    after_star: bool,
    tokens: Vec<PatternToken>,
}

#[derive(Clone, Debug)]
enum PatternToken {
    Char(char),
    AnyButSlash,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// If it ends in an escape or has an unfinished class.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        parse_glob(pattern).ok_or_else(|| PatternError { pattern: pattern.into() })
    }

    /// True if the whole name matches.
    pub fn matches(&self, mut name: &[u8]) -> bool {
        'chunks: for (index, chunk) in self.chunks.iter().enumerate() {
            let last = index + 1 == self.chunks.len();
            if chunk.after_star && chunk.tokens.is_empty() {
                return !name.contains(&b'/');
            }
            // A chunk takes the first place where it fits, as in Go; earlier stars are not retried.
            match match_chunk(&chunk.tokens, name) {
                Some(rest) if rest.is_empty() || !last => {
                    name = rest;
                    continue;
                }
                _ if !chunk.after_star => return false,
                _ => {}
            }
            let segment = name.iter().position(|byte| *byte == b'/').unwrap_or(name.len());
            for skipped in 0..segment {
                match match_chunk(&chunk.tokens, &name[skipped + 1..]) {
                    Some(rest) if rest.is_empty() || !last => {
                        name = rest;
                        continue 'chunks;
                    }
                    _ => {}
                }
            }
            return false;
        }
        name.is_empty()
    }
}

fn parse_glob(pattern: &str) -> Option<Glob> {
    let mut chunks = Vec::new();
    let mut chunk = Chunk { after_star: false, tokens: Vec::new() };
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '*' => {
                if chunk.after_star || !chunk.tokens.is_empty() {
                    if !chunk.tokens.is_empty() {
                        chunks.push(chunk);
                    }
                    chunk = Chunk { after_star: true, tokens: Vec::new() };
                }
                chunk.after_star = true;
            }
            '?' => chunk.tokens.push(PatternToken::AnyButSlash),
            '\\' => chunk.tokens.push(PatternToken::Char(chars.next()?)),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
                    let low = class_char(&mut chars)?;
                    let high = match chars.next_if_eq(&'-') {
                        Some(_) => class_char(&mut chars)?,
                        None => low,
                    };
                    chars.peek()?;
                    ranges.push((low, high));
                }
                chunk.tokens.push(PatternToken::Class { negated, ranges });
            }
            char => chunk.tokens.push(PatternToken::Char(char)),
        }
    }
    if chunk.after_star || !chunk.tokens.is_empty() {
        chunks.push(chunk);
    }
    Some(Glob { chunks })
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        char => Some(char),
    }
}

/// The rest of the name after the tokens.
fn match_chunk<'a>(tokens: &[PatternToken], mut name: &'a [u8]) -> Option<&'a [u8]> {
    for token in tokens {
        let (char, length) = next_char(name)?;
        let fits = match token {
            PatternToken::Char(expected) => *expected == char,
            PatternToken::AnyButSlash => char != '/',
            PatternToken::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&&char)) != *negated
            }
        };
        if !fits {
            return None;
        }
        name = &name[length..];
    }
    Some(name)
}

/// The next character; a byte that is no UTF-8 counts as U+FFFD, as in Go.
fn next_char(bytes: &[u8]) -> Option<(char, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((char::from(first), 1));
    }
    let whole = bytes.get(..bytes.len().min(4))?;
    let valid = match std::str::from_utf8(whole) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&whole[..error.valid_up_to()]).unwrap_or(""),
    };
    Some(valid.chars().next().map_or(('\u{fffd}', 1), |char| (char, char.len_utf8())))
}

/// A list of patterns where the last one that matches decides, and `!` takes back. Also what is
/// in a directory that matches, matches.
#[derive(Clone, Debug, Default)]
pub struct PatternMatcher {
    patterns: Vec<Pattern>,
    exclusions: bool,
}

/// The patterns that matched a directory, so that its entries are not compared with them again.
#[derive(Clone, Debug, Default)]
pub struct MatchInfo {
    matched: Box<[bool]>,
}

/// One pattern of a [`PatternMatcher`].
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    exclusion: bool,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Exact,
    /// The text without its final `**` begins the path.
    Prefix,
    /// The text without its first `**` ends the path.
    Suffix,
    Expression(Expression),
}

impl PatternMatcher {
    /// Reads patterns: white space around them and empty ones are dropped, each is cleaned as a
    /// path, a first `!` takes back what matches.
    ///
    /// # Errors
    /// If one is not a pattern of `path.Match`, is a lone `!`, or moby's expression for it is
    /// none.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, PatternError> {
        let mut matcher = Self::default();
        for original in patterns {
            let text = original.as_ref().trim();
            if text.is_empty() {
                continue;
            }
            let error = || PatternError { pattern: text.into() };
            let cleaned = clean_path(text);
            let (text, exclusion) = match cleaned.strip_prefix('!') {
                Some("") => return Err(error()),
                Some(rest) => (rest.to_owned(), true),
                None => (cleaned, false),
            };
            Glob::new(&text)?;
            let how = compile(&text).ok_or_else(error)?;
            matcher.exclusions |= exclusion;
            matcher.patterns.push(Pattern { text, exclusion, how });
        }
        Ok(matcher)
    }

    /// True if there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// True if a pattern begins with `!`.
    pub fn has_exclusions(&self) -> bool {
        self.exclusions
    }

    /// The patterns.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// True if a path, relative and with `/`, or one of its parent directories matches.
    pub fn matches_or_parent_matches(&self, path: &[u8]) -> bool {
        self.evaluate(path, &MatchInfo::default(), None)
    }

    /// The same for a path whose parent's result is known, with the result for what is in it.
    /// A default [`MatchInfo`] says that nothing is known of the parents.
    pub fn matches_using_parent_results(
        &self,
        path: &[u8],
        parent: &MatchInfo,
    ) -> (bool, MatchInfo) {
        let mut info = vec![false; self.patterns.len()].into_boxed_slice();
        let matched = self.evaluate(path, parent, Some(&mut info));
        (matched, MatchInfo { matched: info })
    }

    /// The same for a path that has nothing in it.
    pub fn matches_leaf(&self, path: &[u8], parent: &MatchInfo) -> bool {
        self.evaluate(path, parent, None)
    }

    fn evaluate(&self, path: &[u8], parent: &MatchInfo, mut info: Option<&mut [bool]>) -> bool {
        let mut matched = false;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let mut hit = parent.matched.get(index).copied().unwrap_or(false);
            if !hit {
                if pattern.exclusion != matched {
                    continue;
                }
                hit = pattern.matches(path);
                if !hit && parent.matched.is_empty() {
                    hit = path
                        .iter()
                        .enumerate()
                        .filter(|(_, byte)| **byte == b'/')
                        .any(|(end, _)| pattern.matches(&path[..end]));
                }
            }
            if let Some(info) = &mut info {
                info[index] = hit;
            }
            if hit {
                matched = !pattern.exclusion;
            }
        }
        matched
    }
}

impl Pattern {
    /// The pattern without its `!`, cleaned.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True if it begins with `!`.
    pub fn is_exclusion(&self) -> bool {
        self.exclusion
    }

    fn matches(&self, path: &[u8]) -> bool {
        let text = self.text.as_bytes();
        match &self.how {
            How::Exact => path == text,
            How::Prefix => path.starts_with(&text[..text.len() - 2]),
            How::Suffix => {
                let suffix = &text[2..];
                path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path)
            }
            How::Expression(expression) => expression.matches(path),
        }
    }
}

/// Chooses a pattern's method of comparison as moby does, with the expression that it compiles.
fn compile(pattern: &str) -> Option<How> {
    let mut text = String::new();
    let mut how = How::Exact;
    let expression = || How::Expression(Expression::default());
    let mut chars = pattern.chars().peekable();
    let mut first = true;
    while let Some(char) = chars.next() {
        match char {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_some() {
                    text.push_str("(.*/)?");
                    how = expression();
                } else if matches!(how, How::Exact) {
                    how = How::Prefix;
                } else {
                    text.push_str(".*");
                    how = expression();
                }
                if first {
                    how = How::Suffix;
                }
            }
            '*' => {
                text.push_str("[^/]*");
                how = expression();
            }
            '?' => {
                text.push_str("[^/]");
                how = expression();
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => text.extend(['\\', char]),
            '\\' => match chars.next() {
                Some(escaped) => {
                    text.extend(['\\', escaped]);
                    how = expression();
                }
                None => text.push_str("\\\\"),
            },
            '[' | ']' => {
                text.push(char);
                how = expression();
            }
            char => text.push(char),
        }
        first = false;
    }
    match how {
        How::Expression(_) => Expression::new(&text).map(How::Expression),
        how => Some(how),
    }
}

/// A regular expression of the kind that [`compile`] writes, anchored at both ends.
#[derive(Clone, Debug, Default)]
struct Expression {
    items: Vec<ExpressionItem>,
    /// Characters that every match begins and ends with; not among the items.
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

#[derive(Clone, Debug)]
enum ExpressionItem {
    One(Atom),
    Many(Atom),
    /// `(.*/)?`
    Directories,
    /// `^`, which moby does not escape, and `\A`.
    Start,
    /// `\z`
    End,
    /// `\b`, between a letter, digit or `_` and something else, or with `false` `\B`: not there.
    Boundary(bool),
}

/// The characters on both sides of a position in a path.
#[derive(Clone, Copy)]
struct AdjacentChars {
    start: bool,
    before: Option<char>,
    after: Option<char>,
}

impl AdjacentChars {
    fn is_boundary(self) -> bool {
        let is_word = |char: Option<char>| char.is_some_and(|char| WORD.fits(char));
        is_word(self.before) != is_word(self.after)
    }
}

#[derive(Clone, Debug)]
enum Atom {
    Char(char),
    /// `.`: all but a line feed.
    Any,
    Class {
        negated: bool,
        ranges: Cow<'static, [(char, char)]>,
    },
}

const WORD: Atom = ascii_class(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')], false);

const fn ascii_class(ranges: &'static [(char, char)], negated: bool) -> Atom {
    Atom::Class { negated, ranges: Cow::Borrowed(ranges) }
}

impl Atom {
    fn fits(&self, char: char) -> bool {
        match self {
            Self::Char(expected) => *expected == char,
            Self::Any => char != '\n',
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&&char)) != *negated
            }
        }
    }
}

/// The meaning of a character after a backslash. Letters are classes of Go's expression language,
/// which moby passes through: `bin\Debug` is `bin`, a character that is not a digit, and `ebug`.
fn escaped_item(escaped: char) -> Option<ExpressionItem> {
    const DIGIT: &[(char, char)] = &[('0', '9')];
    const SPACE: &[(char, char)] = &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')];
    Some(ExpressionItem::One(match escaped {
        'A' => return Some(ExpressionItem::Start),
        'z' => return Some(ExpressionItem::End),
        'b' | 'B' => return Some(ExpressionItem::Boundary(escaped == 'b')),
        'd' | 'D' => ascii_class(DIGIT, escaped == 'D'),
        's' | 'S' => ascii_class(SPACE, escaped == 'S'),
        'w' => WORD,
        'W' => match WORD {
            Atom::Class { ranges, .. } => Atom::Class { negated: true, ranges },
            atom => atom,
        },
        'a' => Atom::Char('\x07'),
        'f' => Atom::Char('\x0c'),
        't' => Atom::Char('\t'),
        'n' => Atom::Char('\n'),
        'r' => Atom::Char('\r'),
        'v' => Atom::Char('\x0b'),
        // `\p{…}`, `\Q…\E` and numbers do not occur in path patterns.
        _ if escaped.is_ascii_alphanumeric() || !escaped.is_ascii() => return None,
        escaped => Atom::Char(escaped),
    }))
}

impl Expression {
    fn new(text: &str) -> Option<Self> {
        let mut items = Vec::new();
        let mut rest = text;
        while let Some(char) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("(.*/)?") {
                items.push(ExpressionItem::Directories);
                rest = after;
                continue;
            }
            rest = &rest[char.len_utf8()..];
            let atom = match char {
                '.' => Atom::Any,
                '^' => {
                    items.push(ExpressionItem::Start);
                    continue;
                }
                '\\' => {
                    let escaped = rest.chars().next()?;
                    rest = &rest[escaped.len_utf8()..];
                    match escaped_item(escaped)? {
                        ExpressionItem::One(atom) => atom,
                        item => {
                            items.push(item);
                            continue;
                        }
                    }
                }
                '[' => {
                    let (class, after) = parse_class(rest)?;
                    rest = after;
                    class
                }
                char => Atom::Char(char),
            };
            match rest.strip_prefix('*') {
                Some(after) => {
                    rest = after;
                    items.push(ExpressionItem::Many(atom));
                }
                None => items.push(ExpressionItem::One(atom)),
            }
        }
        Some(Self::with_literal_ends(items))
    }

    /// Takes the fixed beginning and end out of the items: most paths already differ there.
    fn with_literal_ends(mut items: Vec<ExpressionItem>) -> Self {
        // These depend on the neighbouring characters.
        if items
            .iter()
            .any(|item| matches!(item, ExpressionItem::Boundary(_) | ExpressionItem::End))
        {
            return Self { items, ..Self::default() };
        }
        let literal = |item: &ExpressionItem| match item {
            ExpressionItem::One(Atom::Char(char)) if *char != '\u{fffd}' => Some(*char),
            _ => None,
        };
        let prefix: String = items.iter().map_while(literal).collect();
        items.drain(..prefix.chars().count());
        let suffix: String = items.iter().rev().map_while(literal).collect();
        items.truncate(items.len() - suffix.chars().count());
        let suffix: String = suffix.chars().rev().collect();
        Self { items, prefix: prefix.into(), suffix: suffix.into() }
    }

    fn matches(&self, path: &[u8]) -> bool {
        let Some(middle) = path.strip_prefix(self.prefix.as_slice()) else { return false };
        let Some(middle) = middle.strip_suffix(self.suffix.as_slice()) else { return false };
        self.matches_middle(middle)
    }

    /// All states at once, so that no pattern is slow: state `n` stands before item `n`.
    fn matches_middle(&self, mut text: &[u8]) -> bool {
        let mut states = vec![false; self.items.len() + 1];
        let mut next = states.clone();
        let first = next_char(text).map(|(char, _)| char);
        let start = AdjacentChars { start: self.prefix.is_empty(), before: None, after: first };
        self.enter(&mut states, 0, start);
        while let Some((char, length)) = next_char(text) {
            text = &text[length..];
            let after = next_char(text).map(|(char, _)| char);
            let place = AdjacentChars { start: false, before: Some(char), after };
            next.fill(false);
            let mut alive = false;
            for (state, item) in self.items.iter().enumerate() {
                if !states[state] {
                    continue;
                }
                match item {
                    ExpressionItem::One(atom) if atom.fits(char) => {
                        self.enter(&mut next, state + 1, place)
                    }
                    ExpressionItem::Many(atom) if atom.fits(char) => {
                        self.enter(&mut next, state, place)
                    }
                    ExpressionItem::Directories if char != '\n' => {
                        next[state] = true;
                        if char == '/' {
                            self.enter(&mut next, state + 1, place);
                        }
                    }
                    _ => continue,
                }
                alive = true;
            }
            if !alive {
                return false;
            }
            std::mem::swap(&mut states, &mut next);
        }
        states[self.items.len()]
    }

    /// Marks a state, and those that are reached from it without a character.
    fn enter(&self, states: &mut [bool], mut state: usize, place: AdjacentChars) {
        loop {
            states[state] = true;
            match self.items.get(state) {
                Some(ExpressionItem::Many(_) | ExpressionItem::Directories) => {}
                Some(ExpressionItem::Start) if place.start => {}
                Some(ExpressionItem::End) if place.after.is_none() => {}
                Some(ExpressionItem::Boundary(wanted)) if place.is_boundary() == *wanted => {}
                _ => return,
            }
            state += 1;
        }
    }
}

/// A class after its `[`, as regular expressions read it, and what follows it.
fn parse_class(text: &str) -> Option<(Atom, &str)> {
    let negated = text.starts_with('^');
    let mut chars = text[usize::from(negated)..].chars();
    let mut ranges = Vec::new();
    let mut first = true;
    loop {
        if chars.as_str().starts_with("[:") {
            // Named classes do not occur in path patterns.
            return None;
        }
        let low = match chars.next()? {
            ']' if !first => {
                return Some((Atom::Class { negated, ranges: ranges.into() }, chars.as_str()));
            }
            '\\' => escaped_in_class(&mut chars)?,
            char => char,
        };
        first = false;
        let mut ahead = chars.clone();
        let high = if ahead.next() == Some('-') && !ahead.as_str().starts_with(']') {
            chars = ahead;
            match chars.next()? {
                '\\' => escaped_in_class(&mut chars)?,
                char => char,
            }
        } else {
            low
        };
        if high < low {
            return None;
        }
        ranges.push((low, high));
    }
}

fn escaped_in_class(chars: &mut std::str::Chars<'_>) -> Option<char> {
    chars.next().filter(|char| char.is_ascii() && !char.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests;
