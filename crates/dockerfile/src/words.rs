//! Splits the text after a keyword into words.

use std::borrow::Cow;

use serde_json::Value;

use crate::error::Error;

/// The blanks that separate words; line ends are none.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// The text before and behind the first run of blanks.
pub(crate) fn cut(text: &str) -> Option<(&str, &str)> {
    let (first, rest) = text.split_once(is_blank)?;
    Some((first, rest.trim_start_matches(is_blank)))
}

/// Words between blanks; quotes mean nothing.
pub(crate) fn split(text: &str) -> Vec<String> {
    text.split(is_blank).filter(|word| !word.is_empty()).map(Into::into).collect()
}

/// Words between blanks outside of quotes. Quotes and escapes stay in them.
pub(crate) fn split_quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut in_word = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if in_word && !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                in_word = false;
                continue;
            }
            None => {
                in_word = true;
                if c == '\'' || c == '"' {
                    quote = Some(c);
                }
            }
            Some(open) if c == open => quote = None,
            Some(_) => {}
        }
        // Nothing is escaped between single quotes.
        if c == escape && quote != Some('\'') {
            if let Some(next) = chars.next() {
                word.extend([c, next]);
            }
            continue;
        }
        word.push(c);
    }
    if in_word && !word.is_empty() {
        words.push(word);
    }
    words
}

/// Leading `--flag` words with quotes and escapes resolved, and the rest of the text.
pub(crate) fn flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let (word, after) = flag(rest, escape);
        rest = after;
        match word.as_str() {
            "--" => return (flags, rest),
            _ => flags.push(word),
        }
    }
}

fn flag(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, &text[at..]),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => word.extend(chars.next().map(|(_, c)| c)),
            _ => word.push(c),
        }
    }
    (word, "")
}

/// A JSON array of texts; none where the text is something else.
pub(crate) fn json_array(text: &str) -> Result<Option<Vec<String>>, Error> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<Value>>(&whole_characters(text)) else {
        return Ok(None);
    };
    let words = values.into_iter().map(|value| match value {
        Value::String(text) => Ok(text),
        _ => Err(Error::new(
            "when using JSON array syntax, arrays must be comprised of strings only",
        )
        .word(text)
        .hint("put double quotes around every word of the array")),
    });
    words.collect::<Result<_, _>>().map(Some)
}

/// A JSON text whose halves of surrogate pairs that stand alone are U+FFFD, as Go reads them.
fn whole_characters(text: &str) -> Cow<'_, str> {
    const ESCAPE: usize = "\\uXXXX".len();
    let unit = |at: usize| {
        let digits = text.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = text[at..].find('\\') {
        at += found;
        at += match (unit(at), unit(at + ESCAPE)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 2 * ESCAPE,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str(&text[copied..at]);
                out.push('\u{fffd}');
                copied = at + ESCAPE;
                ESCAPE
            }
            // The backslash and what it escapes.
            _ => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    match copied {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned(out + &text[copied..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_stay_together() {
        assert_eq!(
            split_quoted(r#"a="b c" d='\ e' f\ g """#, '\\'),
            [r#"a="b c""#, r"d='\ e'", r"f\ g", r#""""#]
        );
        assert_eq!(split_quoted("a\\", '\\'), ["a"]);
    }

    #[test]
    fn flags_come_first() {
        assert_eq!(
            flags(r#"--a="b c" --d\ e rest --f"#, '\\'),
            (vec!["--a=b c".into(), "--d e".into()], "rest --f")
        );
        assert_eq!(flags("-- --a b", '\\'), (vec![], " --a b"));
        assert_eq!(flags("--a", '\\'), (vec!["--a".into()], ""));
    }

    #[test]
    fn arrays_hold_texts() {
        assert_eq!(json_array(r#" ["a", "b"] "#).unwrap(), Some(vec!["a".into(), "b".into()]));
        assert_eq!(json_array("['a']").unwrap(), None);
        assert_eq!(json_array(r#"["a"] b"#).unwrap(), None);
        assert_eq!(json_array("[]").unwrap(), Some(vec![]));
        assert!(json_array(r#"["a", 1]"#).is_err());
    }

    #[test]
    fn halves_of_characters_are_replaced() {
        for (text, word) in [
            (r#"["\ud83d\ude00é"]"#, "😀é"),
            (r#"["\ud800x\uDFFF"]"#, "\u{fffd}x\u{fffd}"),
            (r#"["\ud800\ud83d\ude00"]"#, "\u{fffd}😀"),
            (r#"["\\ud800\u0041"]"#, "\\ud800A"),
        ] {
            assert_eq!(json_array(text).unwrap(), Some(vec![word.into()]), "{text}");
        }
        assert_eq!(json_array(r#"["\ud8"]"#).unwrap(), None);
        assert_eq!(json_array("[\"\\").unwrap(), None);
    }
}
