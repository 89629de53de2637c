//! Quotes, escapes and variables in the words of instructions.
//!
//! The rules are BuildKit's (`frontend/dockerfile/shell`), which are near a shell's but not the
//! same: unknown variables are empty, values are not split, patterns have no bracket classes.

mod error;

use std::sync::Arc;

use self::error::WordError;
use crate::error::Error;
use crate::glob::Pattern;
use crate::go;

/// Most bytes that a text may grow to: variables that hold each other twice would fill memory.
const MOST: usize = 8 << 20;

/// A source of variables.
pub(crate) trait Variables {
    /// The value of a variable, if it is set.
    fn get(&self, name: &str) -> Option<&str>;
}

/// No variable at all.
pub(crate) struct Nothing;

impl Variables for Nothing {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// Variables in order; one that is set again moves to the end, as in BuildKit's `EnvList`.
/// Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Env(Arc<Vec<(String, String)>>);

impl Env {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let list = Arc::make_mut(&mut self.0);
        list.retain(|(known, _)| known != name);
        list.push((name.into(), value.into()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        Arc::make_mut(&mut self.0).retain(|(known, _)| known != name);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn to_vec(&self) -> Vec<(String, String)> {
        self.0.to_vec()
    }
}

impl Variables for Env {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A text with its variables resolved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Word {
    pub text: String,
    /// Variables that were asked for and set, each once.
    pub set: Vec<String>,
    /// Variables that were asked for and not set, each once.
    pub unset: Vec<String>,
}

/// The rules for reading words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lex {
    /// The character that takes the meaning from the next one.
    pub escape: char,
    /// Quotes stay.
    pub raw_quotes: bool,
    /// Escapes stay.
    pub raw_escapes: bool,
    /// Quotes are characters like others.
    pub skip_quotes: bool,
    /// Variables that are not set stay as they are written.
    pub keep_unset: bool,
}

impl Lex {
    pub(crate) fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            skip_quotes: false,
            keep_unset: false,
        }
    }

    /// The text with quotes, escapes and variables resolved; blanks stay.
    pub(crate) fn word(&self, text: &str, variables: &dyn Variables) -> Result<String, Error> {
        self.resolve(text, variables).map(|word| word.text)
    }

    /// The same, with the names that were asked for.
    pub(crate) fn resolve(&self, text: &str, variables: &dyn Variables) -> Result<Word, Error> {
        if !text.contains(['$', '\'', '"', self.escape]) {
            return Ok(Word { text: text.into(), ..Word::default() });
        }
        let mut scan = Scan::new(*self, text, variables);
        match scan.until(None, self.raw_escapes) {
            Ok((text, _)) => Ok(Word { text, set: scan.set, unset: scan.unset }),
            Err(error) => Err(scan.failed(text, &error)),
        }
    }

    /// The same, split at blanks outside of quotes, those of variables' values included.
    pub(crate) fn words(
        &self,
        text: &str,
        variables: &dyn Variables,
    ) -> Result<Vec<String>, Error> {
        let mut scan = Scan::new(*self, text, variables);
        match scan.until(None, self.raw_escapes) {
            Ok((_, words)) => Ok(words),
            Err(error) => Err(scan.failed(text, &error)),
        }
    }
}

struct Scan<'a> {
    lex: Lex,
    chars: Vec<char>,
    position: usize,
    raw_escapes: bool,
    variables: &'a dyn Variables,
    set: Vec<String>,
    unset: Vec<String>,
    /// Bytes that variables added.
    grown: usize,
    /// The position of the innermost open `$`.
    dollar: Option<usize>,
}

/// Words while they grow.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.current.push(c);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

impl<'a> Scan<'a> {
    fn new(lex: Lex, text: &str, variables: &'a dyn Variables) -> Self {
        Self {
            lex,
            chars: text.chars().collect(),
            position: 0,
            raw_escapes: lex.raw_escapes,
            variables,
            set: Vec::new(),
            unset: Vec::new(),
            grown: 0,
            dollar: None,
        }
    }

    /// The error of a text, about the variable that is to blame where one is.
    fn failed(&self, text: &str, problem: &WordError) -> Error {
        let error = Error::new(format!("failed to process {}: {problem}", go::quote(text)));
        let error = match problem.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        };
        let Some(start) = self.dollar else { return error.word(text) };
        let rest = &self.chars[start..];
        let end = rest.iter().position(|c| *c == '}').map_or(rest.len(), |at| at + 1);
        error.word(rest[..end].iter().collect::<String>())
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.position).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.position += usize::from(c.is_some());
        c
    }

    /// Reads to `stop`, which is consumed, or to the end where there is none.
    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), WordError> {
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.until_stop(stop);
        self.raw_escapes = outer;
        result
    }

    fn until_stop(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), WordError> {
        let mut result = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.position += 1;
                return Ok((result, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.push(c));
                    result.push_str(&value);
                }
                '<' => {
                    let text = self.heredoc_mark();
                    words.current.push_str(&text);
                    result.push_str(&text);
                }
                '\'' | '"' if !self.lex.skip_quotes => {
                    let text = if c == '"' { self.double_quoted() } else { self.single_quoted() }?;
                    words.current.push_str(&text);
                    result.push_str(&text);
                }
                c if c == self.lex.escape => {
                    self.position += 1;
                    if self.raw_escapes {
                        words.current.push(c);
                        result.push(c);
                    }
                    let Some(c) = self.next() else { break };
                    words.current.push(c);
                    result.push(c);
                }
                c => {
                    self.position += 1;
                    words.push(c);
                    result.push(c);
                }
            }
        }
        match stop {
            Some(stop) => Err(WordError::Unfinished { stop }),
            None => Ok((result, words.finish())),
        }
    }

    fn single_quoted(&mut self) -> Result<String, WordError> {
        let mut result = String::new();
        if let (Some(c), true) = (self.next(), self.lex.raw_quotes) {
            result.push(c);
        }
        loop {
            match self.next() {
                None => return Err(WordError::OpenSingleQuote),
                Some('\'') => {
                    if self.lex.raw_quotes {
                        result.push('\'');
                    }
                    return Ok(result);
                }
                Some(c) => result.push(c),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, WordError> {
        let mut result = String::new();
        if let (Some(c), true) = (self.next(), self.lex.raw_quotes) {
            result.push(c);
        }
        loop {
            match self.peek() {
                None => return Err(WordError::OpenDoubleQuote),
                Some('"') => {
                    self.position += 1;
                    if self.lex.raw_quotes {
                        result.push('"');
                    }
                    return Ok(result);
                }
                Some('$') => result.push_str(&self.dollar()?),
                Some(c) => {
                    self.position += 1;
                    let mut c = c;
                    if c == self.lex.escape {
                        if self.raw_escapes {
                            result.push(c);
                        }
                        match self.peek() {
                            None => continue,
                            Some(next @ ('"' | '$')) => c = next,
                            Some(next) if next == self.lex.escape => c = next,
                            Some(_) => {
                                result.push(c);
                                continue;
                            }
                        }
                        self.position += 1;
                    }
                    result.push(c);
                }
            }
        }
    }

    /// `<<` keeps the blanks behind it, so that `<< EOF` is one word.
    fn heredoc_mark(&mut self) -> String {
        self.position += 1;
        if self.peek() != Some('<') {
            return "<".into();
        }
        self.position += 1;
        let mut text = String::from("<<");
        while let Some(c @ ('\t' | '\r' | ' ')) = self.peek() {
            text.push(c);
            self.position += 1;
        }
        text
    }

    fn dollar(&mut self) -> Result<String, WordError> {
        let outer = self.dollar.replace(self.position);
        let value = self.variable()?;
        self.dollar = outer;
        Ok(value)
    }

    fn variable(&mut self) -> Result<String, WordError> {
        self.position += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(match name.as_str() {
                "" => "$".into(),
                name => match self.get(name)? {
                    Some(value) => value.into(),
                    None if self.lex.keep_unset => format!("${name}"),
                    None => String::new(),
                },
            });
        }
        self.position += 1;
        match self.peek() {
            None => return Err(WordError::MissingBrace),
            Some('{' | '}' | ':') => return Err(WordError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(match self.get(&name)? {
                Some(value) => value.into(),
                None if self.lex.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some(':') => {
                let modifier = self.next();
                self.modified(&name, true, modifier)
            }
            modifier @ Some('+' | '-' | '?' | '#' | '%') => self.modified(&name, false, modifier),
            Some('/') => self.replaced(&name),
            other => Err(WordError::unsupported("", other)),
        }
    }

    /// `${name-word}` and its relatives.
    fn modified(
        &mut self,
        name: &str,
        null_is_unset: bool,
        modifier: Option<char>,
    ) -> Result<String, WordError> {
        let colon = if null_is_unset { ":" } else { "" };
        let strip = matches!(modifier, Some('#' | '%'));
        if null_is_unset && strip {
            return Err(WordError::unsupported(colon, modifier));
        }
        let word = self.inner('}', strip, WordError::MissingBrace)?;
        let value = self.get(name)?.map(str::to_owned);
        if self.lex.keep_unset && value.is_none() {
            let modifier = modifier.map(String::from).unwrap_or_default();
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let usable = value.as_ref().is_some_and(|value| !(null_is_unset && value.is_empty()));
        match modifier {
            Some('-') => Ok(if usable { value.unwrap_or_default() } else { word }),
            Some('+') => Ok(if usable { word } else { String::new() }),
            Some('?') if usable => Ok(value.unwrap_or_default()),
            Some('?') => Err(match (word.as_str(), value) {
                ("", None) => WordError::Unset { name: name.into() },
                ("", Some(_)) => WordError::Empty { name: name.into() },
                _ => WordError::Required { name: name.into(), message: word },
            }),
            Some(side @ ('#' | '%')) => {
                let (longest, pattern) = match word.strip_prefix(side) {
                    Some(rest) => (true, rest),
                    None => (false, word.as_str()),
                };
                let value = value.unwrap_or_default();
                let pattern = read_pattern(pattern)?;
                Ok(match side {
                    '#' => pattern.strip_prefix(&value, longest),
                    _ => pattern.strip_suffix(&value, longest),
                })
            }
            other => Err(WordError::unsupported(colon, other)),
        }
    }

    /// `${name/pattern/replacement}`.
    fn replaced(&mut self, name: &str) -> Result<String, WordError> {
        let all = self.peek() == Some('/');
        self.position += usize::from(all);
        let pattern = self.inner('/', true, WordError::MissingSlash)?;
        let replacement = self.inner('}', true, WordError::MissingBrace)?;
        let value = self.get(name)?.map(str::to_owned);
        if self.lex.keep_unset && value.is_none() {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        let pattern = read_pattern(&pattern)?;
        if all {
            pattern.replace_all(&value, &replacement, MOST).ok_or(WordError::TooLong)
        } else {
            Ok(pattern.replace_first(&value, &replacement))
        }
    }

    /// A part of `${}`; where the text ends too early, `missing` is the error.
    fn inner(
        &mut self,
        stop: char,
        raw_escapes: bool,
        missing: WordError,
    ) -> Result<String, WordError> {
        match self.until(Some(stop), raw_escapes) {
            Ok((word, _)) => Ok(word),
            Err(_) if self.peek().is_none() => Err(missing),
            Err(error) => Err(error),
        }
    }

    /// A variable's name: letters, digits and `_`; or digits; or one special character.
    fn name(&mut self) -> String {
        let start = self.position;
        match self.peek() {
            Some(c) if c.is_numeric() && c.is_ascii_digit() => {
                while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    self.position += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.position += 1,
            _ => {
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.position += 1;
                }
            }
        }
        self.chars[start..self.position].iter().collect()
    }

    fn get(&mut self, name: &str) -> Result<Option<&'a str>, WordError> {
        let value = self.variables.get(name);
        self.grown += value.map_or(0, str::len);
        if self.grown > MOST {
            return Err(WordError::TooLong);
        }
        let names = if value.is_some() { &mut self.set } else { &mut self.unset };
        if !names.iter().any(|known| known == name) {
            names.push(name.into());
        }
        Ok(value)
    }
}

fn read_pattern(text: &str) -> Result<Pattern, WordError> {
    Pattern::parse(text)
        .map_err(|source| WordError::InvalidPattern { pattern: text.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        let mut env = Env::default();
        for (name, value) in [("SET", "val"), ("EMPTY", ""), ("P", "/a/b.tar.gz"), ("W", "x  y")] {
            env.set(name, value);
        }
        env
    }

    #[test]
    fn words_are_resolved() {
        for (text, result) in [
            ("$SET", "val"),
            ("${SET}b", "valb"),
            ("$UNSET", ""),
            ("$", "$"),
            ("a$.x", "a$.x"),
            ("$10[$@]$$", "[]"),
            ("'$SET'", "$SET"),
            ("\"$SET\"", "val"),
            ("\\$SET", "$SET"),
            ("a\\b", "ab"),
            ("\"a\\b\\\"\\$\"", "a\\b\"$"),
            ("${EMPTY:-d}|${EMPTY-d}|${UNSET:-d}|${UNSET-d}|${SET:-d}", "d||d|d|val"),
            ("${EMPTY:+d}|${EMPTY+d}|${UNSET+d}|${SET:+d}", "|d||d"),
            ("${UNSET:-${SET}x}", "valx"),
            ("${SET:?no}", "val"),
            ("${P##*/}", "b.tar.gz"),
            ("${P%%.*}", "/a/b"),
            ("${P//\\//_}", "_a_b.tar.gz"),
            ("${P/a/}", "//b.tar.gz"),
            ("é$SET", "éval"),
        ] {
            assert_eq!(Lex::new('\\').word(text, &env()).unwrap(), result, "{text}");
        }
    }

    #[test]
    fn wrong_forms_are_refused() {
        for (text, message) in [
            ("${}", "syntax error: bad substitution"),
            ("${B", "unsupported modifier (\u{fffd}) in substitution"),
            ("${SET:*x}", "unsupported modifier (:*) in substitution"),
            ("${SET:#x}", "unsupported modifier (:#) in substitution"),
            ("${SET/x}", "syntax error: missing '/' in ${}"),
            ("${SET:-x", "syntax error: missing '}'"),
            ("${a.b}", "unsupported modifier (.) in substitution"),
            ("${U:?}", "U: is not allowed to be unset"),
            ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
            ("${EMPTY:?say}", "EMPTY: say"),
            ("\"open", "unexpected end of statement while looking for matching double-quote"),
            ("'open", "unexpected end of statement while looking for matching single-quote"),
            ("${SET#\\q}", "invalid pattern (\\q) in substitution: invalid escape '\\q'"),
        ] {
            let error = Lex::new('\\').word(text, &env()).unwrap_err();
            let whole = format!("failed to process {}: {message}", go::quote(text));
            assert_eq!(error.message, whole);
        }
    }

    #[test]
    fn texts_grow_to_a_limit() {
        let mut env = Env::default();
        env.set("A", "0123456789abcdef");
        let lex = Lex::new('\\');
        let grown = (0..30).try_for_each(|_| {
            let value = lex.word("$A$A", &env)?;
            env.set("A", &value);
            Ok::<_, Error>(())
        });
        assert!(grown.expect_err("too long").message.contains("8 MiB"));
    }

    #[test]
    fn words_are_split_after_variables() {
        let lex = Lex::new('\\');
        assert_eq!(lex.words("a $W \"b c\"d", &env()).unwrap(), ["a", "x", "y", "b cd"]);
        assert_eq!(lex.words("cat << EOF", &env()).unwrap(), ["cat", "<< EOF"]);
    }

    #[test]
    fn unset_variables_can_stay() {
        let lex = Lex { keep_unset: true, raw_quotes: true, ..Lex::new('`') };
        assert_eq!(
            lex.word("\"$SET\" ${U} $U ${U:-x} \\n", &env()).unwrap(),
            "\"val\" ${U} $U ${U:-x} \\n"
        );
    }

    #[test]
    fn setting_again_moves_to_the_end() {
        let mut env = env();
        env.set("SET", "new");
        assert_eq!(env.iter().last(), Some(("SET", "new")));
        assert_eq!(env.iter().count(), 4);
    }
}
