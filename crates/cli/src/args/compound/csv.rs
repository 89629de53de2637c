//! Comma-separated fields by the rules of Go's `encoding/csv`, which buildx reads flags with.

use super::OptionError;

/// A quote that Go's `encoding/csv` refuses. The text may hold a secret, so it is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// A field that is not quoted has a quote in it.
    #[error("a quote inside a field: quote the whole field, as \"name=a,b\"")]
    BareQuote,
    /// A quoted field has no end.
    #[error("a quote that does not end")]
    Unterminated,
    /// Something other than a comma follows a quoted field.
    #[error("text after a quoted field")]
    AfterQuote,
}

/// Cuts a value at its commas. A field that begins with a double quote goes on to the next one
/// that is not doubled; a quote elsewhere is an error.
///
/// # Errors
/// If a quote is misplaced.
pub fn fields(text: &str) -> Result<Vec<String>, CsvError> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let after = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (field, after) = quoted_field(quoted).ok_or(CsvError::Unterminated)?;
                fields.push(field);
                match after.strip_prefix(',') {
                    None if !after.is_empty() => return Err(CsvError::AfterQuote),
                    after => after,
                }
            }
            None => {
                let (field, after) = match rest.split_once(',') {
                    Some((field, after)) => (field, Some(after)),
                    None => (rest, None),
                };
                if field.contains('"') {
                    return Err(CsvError::BareQuote);
                }
                fields.push(field.to_owned());
                after
            }
        };
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
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

/// The `key=value` fields of a value.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `key=value` fields; keys are trimmed and in lower case. The last value of a key wins.
    ///
    /// # Errors
    /// If a field has no `=`.
    pub fn of(parts: &[String]) -> Result<Self, OptionError> {
        let pair = |part: &String| {
            let pair = part.split_once('=').ok_or_else(|| OptionError::NotAPair(part.clone()))?;
            Ok((pair.0.to_owned(), pair.1.to_owned()))
        };
        Ok(Self::of_pairs(parts.iter().map(pair).collect::<Result<Vec<_>, OptionError>>()?))
    }

    /// Fields that were never a text. Their keys are read as those of [`Self::of`].
    pub fn of_pairs(given: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (key, value) in given {
            let key = key.trim().to_lowercase();
            pairs.retain(|(known, _)| *known != key);
            pairs.push((key, value));
        }
        Self(pairs)
    }

    /// The fields as a value has them: `key=value`.
    pub fn parts(&self) -> Vec<String> {
        self.0.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// Removes a key and returns its value.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(index).1)
    }
}

impl IntoIterator for Fields {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A truth value as Go's `strconv.ParseBool` reads it.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_go() {
        for (text, parts) in [
            ("", &[""][..]),
            ("a,b", &["a", "b"]),
            ("type=image,\"name=a,b\",push=true", &["type=image", "name=a,b", "push=true"]),
            ("\"a\"\"b\",", &["a\"b", ""]),
        ] {
            assert_eq!(fields(text).unwrap(), parts, "{text}");
        }
        for (text, word) in [("a\"b", "inside"), ("\"a", "end"), ("\"a\"b", "after")] {
            assert!(fields(text).unwrap_err().to_string().contains(word), "{text}");
        }
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let mut fields = Fields::of(&["A=1".into(), " b =x=y".into(), "a=2".into()]).unwrap();
        assert_eq!(fields.take("a").as_deref(), Some("2"));
        assert_eq!(fields.into_iter().collect::<Vec<_>>(), [("b".into(), "x=y".into())]);
        assert!(Fields::of(&["x".into()]).is_err());
    }
}
