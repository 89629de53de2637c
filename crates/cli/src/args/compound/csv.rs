//! Comma-separated fields by the rules of Go's `encoding/csv`, which buildx reads flags with.

/// Cuts a value at its commas. A field that begins with a double quote goes on to the next one
/// that is not doubled; a quote elsewhere is an error.
///
/// # Errors
/// A sentence that says which quote is wrong.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        match rest.strip_prefix('"') {
            None => {
                let (field, after) = match rest.split_once(',') {
                    Some((field, after)) => (field, Some(after)),
                    None => (rest, None),
                };
                if field.contains('"') {
                    return Err(format!(
                        "`{text}` has a quote inside a field: quote the whole field, as \"name=a,b\""
                    ));
                }
                fields.push(field.to_owned());
                match after {
                    Some(after) => rest = after,
                    None => return Ok(fields),
                }
            }
            Some(quoted) => {
                let (field, after) = quoted_field(quoted)
                    .ok_or_else(|| format!("`{text}` has a quote that does not end"))?;
                fields.push(field);
                match after.strip_prefix(',') {
                    Some(after) => rest = after,
                    None if after.is_empty() => return Ok(fields),
                    None => return Err(format!("`{text}` has text after a quoted field")),
                }
            }
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

/// `key=value` fields of a value, taken out one by one so that what is left is what nobody knows.
#[derive(Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `key=value` fields; keys are trimmed and in lower case. The last of equal keys
    /// counts.
    ///
    /// # Errors
    /// A sentence that names the field that has no `=`.
    pub fn of(parts: &[String]) -> Result<Self, String> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in parts {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` is not `key=value`"))?;
            let key = key.trim().to_lowercase();
            pairs.retain(|(known, _)| *known != key);
            pairs.push((key, value.to_owned()));
        }
        Ok(Self(pairs))
    }

    /// Takes a value out.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(index).1)
    }

    /// The keys that begin with a word, in their order.
    pub fn names_with(&self, start: &str) -> Vec<String> {
        let keys = self.0.iter().map(|(key, _)| key);
        keys.filter(|key| key.starts_with(start)).cloned().collect()
    }

    /// Takes all values out whose keys begin so, with the rest of their keys.
    pub fn take_all(&mut self, prefix: &str) -> Vec<(String, String)> {
        let (taken, left) =
            std::mem::take(&mut self.0).into_iter().partition(|(key, _)| key.starts_with(prefix));
        self.0 = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(key, value)| (key[prefix.len()..].to_owned(), value)).collect()
    }

    /// Takes a truth value out.
    ///
    /// # Errors
    /// A sentence if it is none.
    pub fn take_boolean(&mut self, key: &str, default: bool) -> Result<bool, String> {
        match self.take(key) {
            Some(text) => {
                boolean(&text).ok_or_else(|| format!("`{key}={text}` is neither true nor false"))
            }
            None => Ok(default),
        }
    }

    /// Refuses an option of BuildKit that is not there yet, unless it is given its off value.
    ///
    /// # Errors
    /// A sentence that names it.
    pub fn not_yet(&mut self, key: &str, off: &[&str]) -> Result<(), String> {
        match self.take(key) {
            Some(value) if !off.contains(&value.as_str()) => {
                Err(format!("`{key}={value}` is not there yet"))
            }
            _ => Ok(()),
        }
    }

    /// Says that nothing may be left.
    ///
    /// # Errors
    /// A sentence that names what is left and what would be known.
    pub fn nothing_left(&self, of: &str, known: &[&str]) -> Result<(), String> {
        let Some((key, _)) = self.0.first() else { return Ok(()) };
        Err(format!("`{key}` is not an option of {of}; it has {}", known.join(", ")))
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
            assert!(fields(text).unwrap_err().contains(word), "{text}");
        }
    }

    #[test]
    fn what_is_left_is_named() {
        let mut fields = Fields::of(&["A=1".into(), " b =x=y".into(), "a=2".into()]).unwrap();
        assert_eq!(fields.take("a").as_deref(), Some("2"));
        let error = fields.nothing_left("type=tar", &["dest"]).unwrap_err();
        assert_eq!(error, "`b` is not an option of type=tar; it has dest");
        assert_eq!(fields.take("b").as_deref(), Some("x=y"));
        assert!(fields.nothing_left("", &[]).is_ok());
        assert!(Fields::of(&["x".into()]).is_err());
    }
}
