//! `$NAME` and `${NAME:-word}` in compose files and `.env`, as docker compose has them.

use std::cell::RefCell;
use std::collections::BTreeSet;

/// Words of defaults are put in other words only so deep.
const DEEPEST: usize = 32;

/// What names stand for.
pub trait Lookup {
    /// The value of a variable.
    fn value(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Lookup for F {
    fn value(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// Names that had no value where one was put in.
pub type Unset = RefCell<BTreeSet<String>>;

/// A text in which nothing can be put.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// `${` that does not go on as it should.
    #[error(
        "a `${{` is not followed by a name, an operator and `}}`: write `$$` for a dollar sign"
    )]
    Form,
    /// `${NAME:?message}` without a value.
    #[error("variable `{name}`: {message}")]
    Missing {
        /// The variable.
        name: String,
        /// What the file says about it.
        message: String,
    },
    /// Words in words in words.
    #[error("variables are nested too deep")]
    Deep,
}

/// Puts variables in. A dollar sign before anything else stays.
///
/// # Errors
/// If a `${` is not as it should be, or a variable is needed and has no value.
pub fn substitute(
    text: &str,
    lookup: &dyn Lookup,
    unset: &Unset,
) -> Result<String, SubstituteError> {
    Substitution { lookup, unset }.all(text, 0)
}

struct Substitution<'a> {
    lookup: &'a dyn Lookup,
    unset: &'a Unset,
}

/// The end of a line, and the last `}` in it: as far as an operator's word can go.
#[derive(Clone, Copy, Default)]
struct Line {
    end: usize,
    last: Option<usize>,
}

impl Line {
    fn at(text: &str, start: usize) -> Self {
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        Self { end, last: text[start..end].rfind('}').map(|at| start + at) }
    }
}

impl Substitution<'_> {
    fn all(&self, text: &str, depth: usize) -> Result<String, SubstituteError> {
        if depth > DEEPEST {
            return Err(SubstituteError::Deep);
        }
        let (mut out, mut at, mut line) = (String::new(), 0, Line::default());
        while let Some(dollar) = text[at..].find('$').map(|found| at + found) {
            out.push_str(&text[at..dollar]);
            if dollar >= line.end {
                line = Line::at(text, dollar);
            }
            let after = &text[dollar + 1..];
            at = dollar + 1;
            match after.as_bytes().first() {
                Some(b'$') => {
                    out.push('$');
                    at += 1;
                }
                Some(b'{') => at = self.braced(text, dollar, line, (&mut out, depth))?,
                Some(first) if is_start(*first) => {
                    let name = name_of(after);
                    out.push_str(&self.plain(name));
                    at += name.len();
                }
                _ => out.push('$'),
            }
        }
        out.push_str(&text[at..]);
        Ok(out)
    }

    /// Puts in what `${…}` stands for; hands back where the text goes on.
    fn braced(
        &self,
        text: &str,
        dollar: usize,
        line: Line,
        (out, depth): (&mut String, usize),
    ) -> Result<usize, SubstituteError> {
        let inside = dollar + 2;
        let name = name_of(&text[inside..]);
        if !name.bytes().next().is_some_and(is_start) {
            return Err(SubstituteError::Form);
        }
        let start = inside + name.len();
        if text[start..].starts_with('}') {
            out.push_str(&self.plain(name));
            return Ok(start + 1);
        }
        let counts_empty = !text[start..].starts_with(':');
        let sign_at = start + usize::from(!counts_empty);
        let sign = text.as_bytes().get(sign_at).copied();
        let word = sign_at + 1;
        let last = line.last.filter(|last| *last >= word).ok_or(SubstituteError::Form)?;
        // Braces that do not pair off belong to the word.
        let end = closing_brace(&text[dollar..=last]).map_or(last, |at| dollar + at);
        if end < word {
            return Err(SubstituteError::Form);
        }
        let word = &text[word..end];
        let raw = self.lookup.value(name);
        let found = raw.filter(|value| counts_empty || !value.is_empty());
        match (sign, found) {
            (Some(b'-'), None) | (Some(b'+'), Some(_)) => out.push_str(&self.all(word, depth + 1)?),
            (Some(b'-' | b'?'), Some(value)) => out.push_str(&value),
            (Some(b'+'), None) => {}
            (Some(b'?'), None) => {
                let message = match self.all(word, depth + 1)? {
                    message if message.is_empty() => "it has no value".into(),
                    message => message,
                };
                return Err(SubstituteError::Missing { name: name.into(), message });
            }
            _ => return Err(SubstituteError::Form),
        }
        Ok(end + 1)
    }

    /// The value of a variable without an operator; nothing where there is none, which is noted.
    fn plain(&self, name: &str) -> String {
        self.lookup.value(name).unwrap_or_else(|| {
            self.unset.borrow_mut().insert(name.to_owned());
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

/// Where the first brace of a text is closed. As compose counts, what comes right behind an
/// opening brace is no brace.
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
        substitute(text, &lookup, &Unset::default())
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
        assert_eq!(put(&deep), Err(SubstituteError::Deep));
        // A long line takes no longer than its length.
        assert!(put(&"${N:-}".repeat(200_000)).is_ok());
    }

    #[test]
    fn names_without_a_value_are_noted() {
        let (unset, nothing) = (Unset::default(), |_: &str| None);
        substitute("$A ${B} ${C:-$D} ${E-} $A", &nothing, &unset).unwrap();
        assert_eq!(unset.into_inner().into_iter().collect::<Vec<_>>(), ["A", "B", "D"]);
    }
}
