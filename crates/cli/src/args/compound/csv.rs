//! The `key=value` fields of a compound value, whose commas are read as in bake's definitions.

pub use bake::csv::fields;

use super::OptionError;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_keys_counts() {
        let mut fields = Fields::of(&["A=1".into(), " b =x=y".into(), "a=2".into()]).unwrap();
        assert_eq!(fields.take("a").as_deref(), Some("2"));
        assert_eq!(fields.into_iter().collect::<Vec<_>>(), [("b".into(), "x=y".into())]);
        assert!(Fields::of(&["x".into()]).is_err());
    }
}
