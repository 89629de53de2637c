//! `.env` files, as docker compose reads them.

use std::collections::BTreeMap;

use super::substitute::{Lookup, SubstituteError, Unset, substitute};

/// A larger text is no `.env` file.
pub const LARGEST: u64 = 4 << 20;

/// A file that cannot be read. What it holds is not shown: it can be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DotenvError {
    /// A name with something else in it.
    #[error("line {line}: `{found}` is in the name of a variable")]
    Name {
        /// Where.
        line: usize,
        /// What is in it.
        found: char,
    },
    /// A name of several words.
    #[error("line {line}: the name of a variable has a blank in it")]
    Blank {
        /// Where.
        line: usize,
    },
    /// A quote without an end.
    #[error("line {line}: a quote does not end")]
    Quote {
        /// Where.
        line: usize,
    },
    /// A value that other variables cannot be put in.
    #[error("line {line}: {source}")]
    Variable {
        /// Where.
        line: usize,
        /// Why.
        source: SubstituteError,
    },
}

/// Reads a file into variables. Variables that are put into others are those of `outer` first, then
/// those of the file so far; a name without `=` has the value that `outer` has for it.
///
/// # Errors
/// What is wrong with the file, with its line.
pub fn read(
    text: &str,
    outer: &dyn Lookup,
    variables: &mut BTreeMap<String, String>,
    unset: &Unset,
) -> Result<(), DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Lines { text, counted: 0, line: 1 };
    let mut rest = text;
    loop {
        rest = start_of_statement(rest);
        if rest.is_empty() {
            return Ok(());
        }
        let line = lines.at(rest);
        let name = name(rest, line)?;
        if name.key.contains(' ') {
            return Err(DotenvError::Blank { line });
        }
        if name.is_inherited {
            if let Some(value) = outer.value(name.key) {
                variables.insert(name.key.to_owned(), value);
            }
            rest = name.rest;
            continue;
        }
        let value = value(name.rest).ok_or(DotenvError::Quote { line })?;
        let known = |name: &str| outer.value(name).or_else(|| variables.get(name).cloned());
        let put = |text: &str| {
            let put = substitute(text, &known, unset);
            put.map_err(|source| DotenvError::Variable { line, source })
        };
        let text = match value.form {
            Form::Bare => put(value.text.as_str())?,
            Form::Double => put(&unescaped(&value.text))?,
            Form::Single => value.text,
        };
        variables.insert(name.key.to_owned(), text);
        rest = value.rest;
    }
}

/// Counts lines as far as a text is read.
struct Lines<'t> {
    text: &'t str,
    counted: usize,
    line: usize,
}

impl Lines<'_> {
    /// The line at which a rest of the text begins.
    fn at(&mut self, rest: &str) -> usize {
        let at = self.text.len() - rest.len();
        self.line += self.text[self.counted..at].matches('\n').count();
        self.counted = at;
        self.line
    }
}

/// Blanks within a line.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

/// Skips blanks, empty lines and comments.
fn start_of_statement(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        if !text.starts_with('#') {
            return text;
        }
        match text.find('\n') {
            Some(end) => text = &text[end..],
            None => return "",
        }
    }
}

struct Name<'t> {
    key: &'t str,
    rest: &'t str,
    is_inherited: bool,
}

/// The name at the start of a statement: up to `=`, `:` or the end of the line.
fn name(text: &str, line: usize) -> Result<Name<'_>, DotenvError> {
    let text = match text.strip_prefix("export") {
        Some(after) if after.starts_with(char::is_whitespace) => after.trim_start_matches(is_blank),
        _ => text,
    };
    for (at, c) in text.char_indices().filter(|(_, c)| !is_blank(*c)) {
        match c {
            '=' | ':' | '\n' => {
                return Ok(Name {
                    key: text[..at].trim_end(),
                    rest: text[at + 1..].trim_start_matches(is_blank),
                    is_inherited: c == '\n',
                });
            }
            '_' | '.' | '-' | '[' | ']' => {}
            c if c.is_alphanumeric() => {}
            found => return Err(DotenvError::Name { line, found }),
        }
    }
    Ok(Name { key: text.trim_end(), rest: "", is_inherited: true })
}

enum Form {
    Bare,
    Single,
    Double,
}

struct Content<'t> {
    text: String,
    form: Form,
    rest: &'t str,
}

/// The value behind a name; none if its quote does not end.
fn value(text: &str) -> Option<Content<'_>> {
    let (quote, form) = match text.chars().next() {
        Some('"') => ('"', Form::Double),
        Some('\'') => ('\'', Form::Single),
        _ => {
            let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
            let line = line.split_once(" #").map_or(line, |(before, _)| before);
            return Some(Content { text: line.trim_end().to_owned(), form: Form::Bare, rest });
        }
    };
    let (mut content, mut is_escaped) = (String::new(), false);
    for (at, c) in text.char_indices().skip(1) {
        match c {
            c if c == quote && !is_escaped => {
                return Some(Content { text: content, form, rest: &text[at + 1..] });
            }
            '\\' if !is_escaped => {
                is_escaped = true;
                continue;
            }
            c if c == quote => content.push(c),
            c => {
                // What is no quote keeps its backslash: it is read afterwards.
                content.extend(is_escaped.then_some('\\'));
                content.push(c);
            }
        }
        is_escaped = false;
    }
    None
}

/// Backslashes in double quotes: those of C, octal numbers behind `\0`, and `\$` for a dollar sign.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let Some(first) = after.chars().next() else {
            out.push('\\');
            return out;
        };
        rest = &after[first.len_utf8()..];
        match first {
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{b}'),
            '"' => out.push('"'),
            '\\' => out.push('\\'),
            '$' => out.push_str("$$"),
            '0' => {
                let digits = rest.bytes().take(3).take_while(u8::is_ascii_digit).count();
                let (digits, after) = rest.split_at(digits);
                let number = Some(digits).filter(|digits| digits.len() == 3);
                let number = number.and_then(|digits| u8::from_str_radix(digits, 8).ok());
                match number {
                    Some(byte) => out.push(char::from(byte)),
                    None => {
                        out.push('\\');
                        out.push_str(digits);
                    }
                }
                rest = after;
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(text: &str) -> Result<BTreeMap<String, String>, DotenvError> {
        let outer = |name: &str| match name {
            "OUT" => Some("o".to_owned()),
            "SET" => Some("outside".to_owned()),
            _ => None,
        };
        let mut variables = BTreeMap::new();
        read(text, &outer, &mut variables, &Unset::default()).map(|()| variables)
    }

    #[test]
    fn values_are_those_of_compose() {
        for (text, expected) in [
            ("A=${SYS:-dd}-x", "dd-x"),
            ("A=\"a${SYS:-1}b\"", "a1b"),
            ("A=\"l1\nl2\"", "l1\nl2"),
            ("A=\"a\\nb\\\"\\\\\\x\\$OUT\"", "a\nb\"\\\\x$OUT"),
            ("A='a\\nb $OUT \\' # x'", "a\\nb $OUT ' # x"),
            ("A=$OUT-$$OUT", "o-$OUT"),
            ("B=b\nA=${B}${OUT}", "bo"),
            ("SET=own\nA=$SET", "outside"),
            ("export A = x y  # comment", "x y"),
            ("export\tA=x#y", "x#y"),
            ("A: x", "x"),
            ("A=", ""),
            ("A=\nB=c", ""),
            ("A= #x", "#x"),
            ("A=\"x\" # comment\nB='y'", "x"),
            ("A=\"\\0101\\01\\0\"", "A\\1\\"),
            ("\u{feff}# first\n\n  A=x\r\n", "x"),
            ("A=x\nA=y", "y"),
            ("A=\"${SYS:-a\\tb}\"", "a\tb"),
        ] {
            let all = variables(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(all["A"], expected, "{text}");
        }
        let inherited = variables("OUT\nNONE\nexport SET\n").unwrap();
        assert_eq!(
            inherited.into_iter().collect::<Vec<_>>(),
            [("OUT".to_owned(), "o".to_owned()), ("SET".to_owned(), "outside".to_owned())]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_not_shown() {
        for (text, word) in [
            ("A=1\n\nB C=secret", "line 3: the name of a variable has a blank"),
            ("A=1\nB*=secret", "line 2: `*` is in the name"),
            ("A=\"x\n\n'secret", "line 1: a quote does not end"),
            ("# c\nA=\"\\n\nx\"\nB=${secret", "line 4: a `${`"),
            ("A=${NONE:?is needed}", "line 1: variable `NONE`: is needed"),
        ] {
            let error = variables(text).unwrap_err().to_string();
            assert!(error.starts_with(word) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
