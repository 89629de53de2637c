//! What must not be seen.

use std::collections::BTreeMap;

/// Names and values that open a place. Their values are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, String>);

impl Credentials {
    /// Names and values; empty values are none.
    pub fn new(values: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(values.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// A value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A text without any of the values: servers and libraries repeat what they were given.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in self.0.values().filter(|value| value.len() > 3) {
            text = text.replace(value.as_str(), "…");
            let encoded: String = reqwest::Url::parse_with_params("http://x", [("", value)])
                .map_or_else(
                    |_| String::new(),
                    |url| url.query().unwrap_or_default().trim_start_matches('=').to_owned(),
                );
            if !encoded.is_empty() {
                text = text.replace(&encoded, "…");
            }
        }
        text
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hidden() {
        let credentials = Credentials::new([
            ("key".to_owned(), "se/cr+et".to_owned()),
            ("none".to_owned(), String::new()),
        ]);
        assert_eq!(format!("{credentials:?}"), "{\"key\"}");
        assert_eq!(
            credentials.hide("se/cr+et is wrong: https://h/?sig=se%2Fcr%2Bet&x=1"),
            "… is wrong: https://h/?sig=…&x=1"
        );
        assert_eq!(credentials.get("none"), None);
    }
}
