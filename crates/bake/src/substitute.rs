//! `$NAME` and `${NAME:-word}` in compose files and `.env`, as docker compose has them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

/// The deepest nesting of defaults in defaults.
const MAX_DEPTH: usize = 32;
/// The most text that all substitutions of a project make: variables in variables could otherwise
/// double it with each one.
const MAX_TEXT: usize = 64 << 20;

/// The values of variables.
pub trait Lookup {
    /// The value of a variable.
    fn value(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Lookup for F {
    fn value(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// The tally of substitutions, shared by all texts of a project.
#[derive(Debug, Default)]
pub struct Tally {
    /// Names that had no value.
    unset: RefCell<BTreeSet<String>>,
    /// The text that was made, in bytes.
    made: Cell<usize>,
}

impl Tally {
    /// Names that had no value where one was needed.
    pub fn unset(&self) -> Vec<String> {
        self.unset.borrow().iter().cloned().collect()
    }

    /// Counts text.
    pub(crate) fn charge(&self, length: usize) -> Result<(), SubstituteError> {
        let made = self.made.get().saturating_add(length);
        self.made.set(made);
        if made > MAX_TEXT { Err(SubstituteError::TooLarge) } else { Ok(()) }
    }
}

/// A text whose variables cannot be substituted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// A `${` without a name, an operator or its brace.
    #[error(
        "a `${{` is not followed by a name, an operator and `}}`: write `$$` for a dollar sign"
    )]
    Form,
    /// `${NAME:?message}` without a value.
    #[error("variable `{name}`: {message}")]
    Missing {
        /// The variable.
        name: String,
        /// The message in the file.
        message: String,
    },
    /// Defaults that are nested too deep.
    #[error("variables are nested too deep")]
    TooDeep,
    /// More text than a project has a reason for.
    #[error("variables make too much text")]
    TooLarge,
}

/// Substitutes variables. A dollar sign before anything else stays.
///
/// # Errors
/// If a `${` is malformed, a required variable has no value, or a limit is reached.
pub fn substitute(
    text: &str,
    lookup: &dyn Lookup,
    tally: &Tally,
) -> Result<String, SubstituteError> {
    Substitution { lookup, tally }.all(text, 0)
}

struct Substitution<'a> {
    lookup: &'a dyn Lookup,
    tally: &'a Tally,
}

/// The end of a line, and the last `}` in it, beyond which no default goes.
#[derive(Clone, Copy, Default)]
struct LineEnd {
    end: usize,
    last: Option<usize>,
}

impl LineEnd {
    fn at(text: &str, start: usize) -> Self {
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        Self { end, last: text[start..end].rfind('}').map(|at| start + at) }
    }
}

impl Substitution<'_> {
    fn all(&self, text: &str, depth: usize) -> Result<String, SubstituteError> {
        if depth > MAX_DEPTH {
            return Err(SubstituteError::TooDeep);
        }
        let (mut out, mut at, mut line) = (String::new(), 0, LineEnd::default());
        while let Some(dollar) = text[at..].find('$').map(|found| at + found) {
            out.push_str(&text[at..dollar]);
            if dollar >= line.end {
                line = LineEnd::at(text, dollar);
            }
            let after = &text[dollar + 1..];
            at = dollar + 1;
            match after.as_bytes().first() {
                Some(b'$') => {
                    out.push('$');
                    at += 1;
                }
                Some(b'{') => {
                    let (value, end) = self.braced(text, dollar, line, depth)?;
                    out.push_str(&value);
                    at = end;
                }
                Some(first) if is_start(*first) => {
                    let name = name_of(after);
                    out.push_str(&self.plain(name));
                    at += name.len();
                }
                _ => out.push('$'),
            }
            if out.len() > MAX_TEXT {
                return Err(SubstituteError::TooLarge);
            }
        }
        out.push_str(&text[at..]);
        self.tally.charge(out.len())?;
        Ok(out)
    }

    /// The value of a `${…}`, and the offset behind it.
    fn braced(
        &self,
        text: &str,
        dollar: usize,
        line: LineEnd,
        depth: usize,
    ) -> Result<(String, usize), SubstituteError> {
        let inside = dollar + 2;
        let name = name_of(&text[inside..]);
        if !name.bytes().next().is_some_and(is_start) {
            return Err(SubstituteError::Form);
        }
        let start = inside + name.len();
        if text[start..].starts_with('}') {
            return Ok((self.plain(name), start + 1));
        }
        let counts_empty = !text[start..].starts_with(':');
        let sign_at = start + usize::from(!counts_empty);
        let sign = text.as_bytes().get(sign_at).copied();
        let word = sign_at + 1;
        let last = line.last.filter(|last| *last >= word).ok_or(SubstituteError::Form)?;
        // Braces without a partner belong to the word.
        let end = closing_brace(&text[dollar..=last]).map_or(last, |at| dollar + at);
        if end < word {
            return Err(SubstituteError::Form);
        }
        let word = &text[word..end];
        let raw = self.lookup.value(name);
        let found = raw.filter(|value| counts_empty || !value.is_empty());
        let value = match (sign, found) {
            (Some(b'-'), None) | (Some(b'+'), Some(_)) => self.all(word, depth + 1)?,
            (Some(b'-' | b'?'), Some(value)) => value,
            (Some(b'+'), None) => String::new(),
            (Some(b'?'), None) => {
                let message = match self.all(word, depth + 1)? {
                    message if message.is_empty() => "it has no value".into(),
                    message => message,
                };
                return Err(SubstituteError::Missing { name: name.into(), message });
            }
            _ => return Err(SubstituteError::Form),
        };
        Ok((value, end + 1))
    }

    /// The value of a variable without an operator; empty if there is none, which is noted.
    fn plain(&self, name: &str) -> String {
        self.lookup.value(name).unwrap_or_else(|| {
            self.tally.unset.borrow_mut().insert(name.to_owned());
            String::new()
        })
    }
}

fn is_start(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphabetic()
}

fn name_of(text: &str) -> &str {
    let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    &text[..end.unwrap_or(text.len())]
}

/// The offset of the brace that closes the first one. As in compose, a brace directly behind an
/// opening one does not count.
fn closing_brace(text: &str) -> Option<usize> {
    let (bytes, mut open, mut at) = (text.as_bytes(), 0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'}' => {
                open = open.checked_sub(1)?;
                if open == 0 {
                    return Some(at);
                }
            }
            b'{' => {
                open += 1;
                at += 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(text: &str) -> Result<String, SubstituteError> {
        let lookup = |name: &str| match name {
            "A" => Some("x".to_owned()),
            "E" => Some(String::new()),
            _ => None,
        };
        substitute(text, &lookup, &Tally::default())
    }

    #[test]
    fn variables_are_put_in() {
        for (text, expected) in [
            ("$A-${A}$$A", "x-x$A"),
            ("${E:-d}${E-d}${N-${A}}", "dx"),
            ("${A:+y}${E:+n}${E+z}${N+n}", "yz"),
            ("${N:-a}-${N:-b}", "a-b"),
            ("${N:-${M:-${A}}}/${A:?gone}", "x/x"),
            ("${N:-{\"a\": {}}}", "{\"a\": {}}"),
            ("costs $5, or $", "costs $5, or $"),
            ("$N.${N}", "."),
            ("${N:-a:?b}", "a:?b"),
            ("${N:-$$A}", "$A"),
            ("a\n${N:-b}\n", "a\nb\n"),
        ] {
            assert_eq!(put(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in ["${", "${}", "${A", "${1}", "${A B}", "${A:-b\n}", "${A/b/c}", "${A:}"] {
            assert_eq!(put(text), Err(SubstituteError::Form), "{text}");
        }
        let error = put("${N:?is ${A} needed}").unwrap_err();
        assert_eq!(error.to_string(), "variable `N`: is x needed");
        assert!(put("${E:?}").is_err() && put("${E?}").is_ok());
        let deep = "${N:-".repeat(100) + &"}".repeat(100);
        assert_eq!(put(&deep), Err(SubstituteError::TooDeep));
        // A long line takes no longer than its length.
        assert!(put(&"${N:-}".repeat(200_000)).is_ok());
    }

    #[test]
    fn names_without_a_value_are_noted() {
        let (tally, nothing) = (Tally::default(), |_: &str| None);
        substitute("$A ${B} ${C:-$D} ${E-} $A", &nothing, &tally).unwrap();
        assert_eq!(tally.unset(), ["A", "B", "D"]);
    }
}
