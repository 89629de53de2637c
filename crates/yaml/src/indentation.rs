//! Indentation inside brackets and quotes: YAML asks for some there, and go-yaml does not.
//!
//! ```yaml
//! test: [
//!     "CMD",
//! ]
//! ```
//!
//! Blanks before such a line have no meaning there, so a text that is refused for missing ones is
//! read again with some inserted. The scanner decides which lines these are.

use std::borrow::Cow;

use saphyr_parser::ScanError;

use crate::YamlError;

/// The blanks that a line gets at once.
const PAD: &str = "                                ";
/// The most text that is read again, since each such line costs another pass.
const MAX_READ: usize = 64 << 20;

/// Reads a text with free indentation inside of brackets and quotes.
///
/// # Errors
/// Those of `read`.
pub fn freely<T>(text: &str, read: impl Fn(&str) -> Result<T, YamlError>) -> Result<T, YamlError> {
    let mut text = Cow::Borrowed(text);
    let mut read_again = 0;
    loop {
        let error = match read(&text) {
            Err(YamlError::Syntax(error)) => error,
            other => return other,
        };
        read_again += text.len();
        match padded(&text, &error).filter(|_| read_again <= MAX_READ) {
            Some(padded) => text = Cow::Owned(padded),
            None => return Err(error.into()),
        }
    }
}

/// The text with blanks before the line that lacks them; `None` for other errors.
fn padded(text: &str, error: &ScanError) -> Option<String> {
    let mark = error.marker();
    let start = start_of_line(text, mark.line())?;
    match error.info() {
        "invalid indentation" | "invalid indentation in flow construct" => {
            Some([&text[..start], PAD, &text[start..]].concat())
        }
        // The marker is at the opening quote.
        "invalid indentation in quoted scalar" => {
            let quote = start + text[start..].char_indices().nth(mark.col())?.0;
            let end = quote + end_of_quoted(&text[quote..])?;
            let inside = text[quote..end].replace('\n', &format!("\n{PAD}"));
            Some([&text[..quote], &inside, &text[end..]].concat())
        }
        _ => None,
    }
}

/// The offset of a line; lines count from one.
fn start_of_line(text: &str, line: usize) -> Option<usize> {
    match line.checked_sub(2) {
        None => Some(0),
        Some(before) => text.match_indices('\n').nth(before).map(|(at, _)| at + 1),
    }
}

/// The length of a quoted scalar, its quotes included.
fn end_of_quoted(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let quote = *bytes.first().filter(|byte| matches!(byte, b'"' | b'\''))?;
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => at += 1,
            byte if byte == quote && quote == b'\'' && bytes.get(at + 1) == Some(&b'\'') => at += 1,
            byte if byte == quote => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{documents, parse};

    #[test]
    fn brackets_and_quotes_close_where_they_like() {
        for (text, expected) in [
            (
                "a:\n  b:\n    test: [\n        \"CMD\",\n    ]\n    c: 1\n",
                json!({"a": {"b": {"test": ["CMD"], "c": 1}}}),
            ),
            (
                "a:\n  b: [\nx, 'y',\n\n# a comment\n{k:\nv}\n]\n  c: {\n}\n",
                json!({"a": {"b": ["x", "y", {"k": "v"}], "c": {}}}),
            ),
            ("a:\n  - b: [\n]\n  - c\n", json!({"a": [{"b": []}, "c"]})),
            (
                "a:\n  b: \"x\ny \\\" ]\n\n  z\"\n  c: 'd\n''e'\n",
                json!({"a": {"b": "x y \" ]\nz", "c": "d 'e"}}),
            ),
            ("a:\r\n  b: [\r\n  ]\r\n", json!({"a": {"b": []}})),
            (
                "a:\n  b: |\n    [\n    ]\n  c: it's [\n",
                json!({"a": {"b": "[\n]\n", "c": "it's ["}}),
            ),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_elsewhere_stays_wrong() {
        for text in [
            "a:\n  b: 1\n c: 2\n",
            "a: [\n",
            "a: \"x\n",
            "a:\n  b: [\n---\n]\n",
            "a: 'x\n---\ny'\n",
        ] {
            assert!(documents(text).is_err(), "{text}");
        }
    }

    #[test]
    fn many_such_lines_are_read_in_time() {
        let few = format!("a:\n  b: [\n{}]\n", "x,\n".repeat(500));
        assert_eq!(parse(&few).unwrap()["a"]["b"].as_array().unwrap().len(), 500);
        let many = format!("a:\n  b: [\n{}]\n", "x,\n".repeat(500_000));
        assert!(documents(&many).unwrap_err().to_string().contains("indentation"));
    }
}
