//! `.env` files, as docker compose reads them.

use std::collections::BTreeMap;

use crate::substitute::{Lookup, SubstituteError, Tally, substitute};

/// A file with an error. Its values are not shown, since they can be secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DotenvError {
    /// A character that no name has.
    #[error("line {line}: `{found}` is in the name of a variable")]
    Name {
        /// The line, from one.
        line: usize,
        /// The character.
        found: char,
    },
    /// A name of several words.
    #[error("line {line}: the name of a variable has a blank in it")]
    Blank {
        /// The line, from one.
        line: usize,
    },
    /// A quote without an end.
    #[error("line {line}: a quote does not end")]
    Quote {
        /// The line, from one.
        line: usize,
    },
    /// A value whose variables cannot be substituted.
    #[error("line {line}: {source}")]
    Variable {
        /// The line, from one.
        line: usize,
        /// The cause.
        source: SubstituteError,
    },
}

/// Reads a file into variables. Values can use variables of `outer` and, after those, earlier ones
/// of the file; a name without `=` takes its value from `outer`.
///
/// # Errors
/// If the file is malformed, with the line.
pub fn read(
    text: &str,
    outer: &dyn Lookup,
    variables: &mut BTreeMap<String, String>,
    tally: &Tally,
) -> Result<(), DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Many services can name one file.
    tally.charge(text.len()).map_err(|source| DotenvError::Variable { line: 1, source })?;
    let mut lines = DotenvLines { text, counted: 0, line: 1 };
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
        let substituted = |text: &str| {
            substitute(text, &known, tally).map_err(|source| DotenvError::Variable { line, source })
        };
        let text = match value.quotes {
            Quotes::None => substituted(&value.text)?,
            Quotes::Double => substituted(&unescaped(&value.text))?,
            Quotes::Single => value.text,
        };
        variables.insert(name.key.to_owned(), text);
        rest = value.rest;
    }
}

/// Counts the lines of a text while it is read.
struct DotenvLines<'t> {
    text: &'t str,
    counted: usize,
    line: usize,
}

impl DotenvLines<'_> {
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

struct DotenvName<'t> {
    key: &'t str,
    rest: &'t str,
    is_inherited: bool,
}

/// The name at the start of a statement: up to `=`, `:` or the end of the line.
fn name(text: &str, line: usize) -> Result<DotenvName<'_>, DotenvError> {
    let text = match text.strip_prefix("export") {
        Some(after) if after.starts_with(char::is_whitespace) => after.trim_start_matches(is_blank),
        _ => text,
    };
    for (at, c) in text.char_indices().filter(|(_, c)| !is_blank(*c)) {
        match c {
            '=' | ':' | '\n' => {
                return Ok(DotenvName {
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
    Ok(DotenvName { key: text.trim_end(), rest: "", is_inherited: true })
}

enum Quotes {
    None,
    Single,
    Double,
}

struct DotenvValue<'t> {
    text: String,
    quotes: Quotes,
    rest: &'t str,
}

/// The value behind a name; `None` if its quote does not end.
fn value(text: &str) -> Option<DotenvValue<'_>> {
    let (quote, quotes) = match text.chars().next() {
        Some('"') => ('"', Quotes::Double),
        Some('\'') => ('\'', Quotes::Single),
        _ => {
            let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
            let line = line.split_once(" #").map_or(line, |(before, _)| before);
            return Some(DotenvValue {
                text: line.trim_end().to_owned(),
                quotes: Quotes::None,
                rest,
            });
        }
    };
    let (mut content, mut is_escaped) = (String::new(), false);
    for (at, c) in text.char_indices().skip(1) {
        match c {
            c if c == quote && !is_escaped => {
                return Some(DotenvValue { text: content, quotes, rest: &text[at + 1..] });
            }
            '\\' if !is_escaped => {
                is_escaped = true;
                continue;
            }
            c if c == quote => content.push(c),
            c => {
                // Other escapes keep their backslash; `unescaped` reads them.
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
        read(text, &outer, &mut variables, &Tally::default()).map(|()| variables)
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

    #[test]
    fn variables_do_not_grow_without_end() {
        let mut text = "A0=xxxxxxxxxxxxxxxx\n".to_owned();
        for at in 1..64 {
            text.push_str(&format!("A{at}=$A{0}$A{0}\n", at - 1));
        }
        let error = variables(&text).unwrap_err().to_string();
        assert!(error.contains("too much text"), "{error}");
    }
}
