//! A line of comma-separated fields by the rules of Go's `encoding/csv`, which buildx reads compound
//! values with.

/// A quote that Go's `encoding/csv` refuses. The text may hold a secret, so it is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// A quote in a field that is not quoted.
    #[error("a quote inside a field: quote the whole field, as \"name=a,b\"")]
    BareQuote,
    /// A quoted field without an end.
    #[error("a quote that does not end")]
    Unterminated,
    /// Text between a quoted field and the next comma.
    #[error("text after a quoted field")]
    AfterQuote,
}

/// Splits a line at its commas. A field that begins with a double quote ends at the next one that
/// is not doubled.
///
/// # Errors
/// If a quote is misplaced.
pub fn fields(text: &str) -> Result<Vec<String>, CsvError> {
    let mut fields = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        let (field, after) = match text.strip_prefix('"') {
            Some(quoted) => {
                let (field, after) = quoted_field(quoted).ok_or(CsvError::Unterminated)?;
                match after.strip_prefix(',') {
                    None if !after.is_empty() => return Err(CsvError::AfterQuote),
                    after => (field, after),
                }
            }
            None => match text.split_once(',') {
                Some((field, after)) => (field.to_owned(), Some(after)),
                None => (text.to_owned(), None),
            },
        };
        if !text.starts_with('"') && field.contains('"') {
            return Err(CsvError::BareQuote);
        }
        fields.push(field);
        rest = after;
    }
    Ok(fields)
}

fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Some((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quoted_fields_are_read_as_they_were(parts in prop::collection::vec("[a,\" ]{0,6}", 1..5)) {
            let quoted = |part: &String| format!("\"{}\"", part.replace('"', "\"\""));
            let line = parts.iter().map(quoted).collect::<Vec<_>>().join(",");
            prop_assert_eq!(fields(&line), Ok(parts));
        }
    }

    #[test]
    fn misplaced_quotes_are_refused() {
        assert_eq!(fields("a,b").unwrap(), ["a", "b"]);
        assert_eq!(fields("").unwrap(), [""]);
        assert_eq!(fields("\"a\"\"b\",").unwrap(), ["a\"b", ""]);
        let line = "type=image,\"name=a,b\",push=true";
        assert_eq!(fields(line).unwrap(), ["type=image", "name=a,b", "push=true"]);
        assert_eq!(fields("a\"b"), Err(CsvError::BareQuote));
        assert_eq!(fields("\"a"), Err(CsvError::Unterminated));
        assert_eq!(fields("\"a\"b"), Err(CsvError::AfterQuote));
    }
}
