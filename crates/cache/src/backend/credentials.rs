//! Secrets of back ends. They reach no message and no `Debug` output.

use std::collections::BTreeMap;

/// Secrets of a back end, by name. `Debug` shows the names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BackendCredentials(BTreeMap<String, String>);

impl BackendCredentials {
    /// Takes names and values; empty values are ignored.
    pub fn new(values: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(values.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The text of an error and its causes, without any of the values.
    pub(super) fn redact(&self, error: &(dyn std::error::Error + 'static)) -> String {
        self.hide(&graph::chain_text(error))
    }

    /// A text without any of the values, which servers and libraries may repeat in their errors.
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

impl std::fmt::Debug for BackendCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hidden() {
        let credentials = BackendCredentials::new([
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
