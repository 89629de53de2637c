//! The query of a request.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ApiError;

/// The most parameters of a request.
const MOST: usize = 10_000;

/// Parameters in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let pairs = url::form_urlencoded::parse(text.as_bytes());
        let pairs: Vec<_> = pairs.take(MOST + 1).map(|(k, v)| (k.into(), v.into())).collect();
        if pairs.len() > MOST {
            return Err(ApiError::BadRequest(format!("it has more than {MOST} parameters")));
        }
        Ok(Self(pairs))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let named = self.0.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.clone()).collect()
    }

    /// The first value of a parameter, as Go's `Form.Get` reads it; none if it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let first = self.0.iter().find(|(known, _)| known == name);
        first.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A switch, as dockerd reads it.
    pub(crate) fn is_on(&self, name: &str, default: bool) -> bool {
        match self.get(name) {
            None if self.0.iter().any(|(known, _)| known == name) => false,
            None => default,
            Some(value) => is_set(value),
        }
    }

    /// A parameter that is JSON; none if it is empty or null.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        serde_json::from_str(text)
            .map_err(|error| ApiError::BadRequest(format!("`{name}`: wrong JSON: {error}")))
    }

    /// A number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| ApiError::BadRequest(format!("`{name}`: `{text}` is no number")))
    }

    /// The filters.
    pub(crate) fn filters(&self) -> Result<Filters, ApiError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            List(Vec<String>),
            Set(BTreeMap<String, bool>),
        }
        let all: Option<BTreeMap<String, Values>> = self.json("filters")?;
        let mut texts = Vec::new();
        for (name, values) in all.into_iter().flatten() {
            let values = match values {
                Values::List(list) => list,
                Values::Set(set) => {
                    set.into_iter().filter(|(_, is_on)| *is_on).map(|(value, _)| value).collect()
                }
            };
            texts.extend(values.into_iter().map(|value| (name.clone(), value)));
        }
        Ok(Filters(texts))
    }
}

/// True for a value that is no refusal: dockerd's `httputils.BoolValue`.
fn is_set(value: &str) -> bool {
    !matches!(value.trim().to_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

/// True for a value that asks for nothing: what clients send for options that were not given.
pub(crate) fn is_empty(value: &str) -> bool {
    matches!(value.trim(), "" | "0" | "null" | "{}" | "[]" | "false" | "False")
}

/// Names and values of `filters`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(pub Vec<(String, String)>);

impl Filters {
    /// Each as `name=value`; a label that an object must not have is `label!=value`.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// The values of a name.
    pub fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_have_two_forms() {
        let read = |text: &str| Query::parse(&format!("filters={text}")).unwrap().filters();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = Filters(vec![pair("label", "a=b"), pair("reference", "app")]);
        let map = r#"{"reference":{"app":true,"x":false},"label":{"a=b":true}}"#;
        assert_eq!(read(map).unwrap(), expected);
        assert_eq!(read(r#"{"reference":["app"],"label":["a=b"]}"#).unwrap(), expected);
        assert_eq!(Query::parse("").unwrap().filters().unwrap(), Filters::default());
        let deep = "[".repeat(1000);
        for wrong in ["x", "[]", r#"{"a":1}"#, &deep] {
            assert!(read(wrong).unwrap_err().to_string().contains("filters"), "{wrong}");
        }
    }

    #[test]
    fn switches_are_dockerds() {
        let query = Query::parse("a=1&b=False&c&d=none&e=true&t=x&t=y%3A1").unwrap();
        let on: Vec<bool> =
            ["a", "b", "c", "d", "e"].iter().map(|name| query.is_on(name, true)).collect();
        assert_eq!(on, [true, false, false, false, true]);
        assert!(query.is_on("absent", true) && !query.is_on("absent", false));
        assert_eq!(query.all("t"), ["x", "y:1"]);
        assert!(query.number::<i64>("t").is_err());
        let json = Query::parse("a=null&b=%5B1%5D&c=").unwrap();
        assert_eq!(json.json::<Vec<u8>>("a").unwrap(), None);
        assert_eq!(json.json::<Vec<u8>>("b").unwrap(), Some(vec![1]));
        assert_eq!(json.json::<Vec<u8>>("c").unwrap(), None);
    }
}
