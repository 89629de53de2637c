//! Credentials of registries that come with a request.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hyper::HeaderMap;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

use crate::ApiError;

/// A secret; hidden from debug output.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct RegistryToken(String);

impl RegistryToken {
    /// The secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True if it has no characters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for RegistryToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegistryToken(…)")
    }
}

/// Credentials for one registry (`AuthConfig` in the API's definition).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Login {
    /// The user.
    #[serde(deserialize_with = "text_or_null")]
    pub username: String,
    /// The password.
    #[serde(deserialize_with = "text_or_null")]
    pub password: RegistryToken,
    /// User and password with a colon between them, in base64, as docker's file has them.
    #[serde(deserialize_with = "text_or_null")]
    pub auth: RegistryToken,
    /// A token to be exchanged for others.
    #[serde(deserialize_with = "text_or_null")]
    pub identitytoken: RegistryToken,
    /// A token that is sent as it is.
    #[serde(deserialize_with = "text_or_null")]
    pub registrytoken: RegistryToken,
    /// The registry.
    #[serde(deserialize_with = "text_or_null")]
    pub serveraddress: String,
}

/// Reads a text, or null as Go reads it: bollard sends all fields.
fn text_or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Login {
    /// True if it holds no credentials: clients without a login send an empty object.
    pub fn is_empty(&self) -> bool {
        self.username.is_empty()
            && [&self.password, &self.auth, &self.identitytoken, &self.registrytoken]
                .iter()
                .all(|token| token.is_empty())
    }

    /// User and password, from `auth` if they are only there.
    pub fn pair(&self) -> Option<(String, RegistryToken)> {
        if !self.username.is_empty() || self.auth.is_empty() {
            let is_given = !self.username.is_empty() && !self.password.is_empty();
            return is_given.then(|| (self.username.clone(), self.password.clone()));
        }
        let text = String::from_utf8(decode(self.auth.reveal())?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), RegistryToken(password.trim_end_matches('\0').to_owned())))
    }
}

/// Credentials by registry (`X-Registry-Config`).
pub type Logins = BTreeMap<String, Login>;

/// `X-Registry-Auth`: the credentials for the registry that a request is about.
pub(crate) fn registry_auth(headers: &HeaderMap) -> Result<Option<Login>, ApiError> {
    let login: Option<Login> = read(headers, "x-registry-auth")?;
    Ok(login.filter(|login| !login.is_empty()))
}

/// `X-Registry-Config`: the credentials of a build.
pub(crate) fn registry_config(headers: &HeaderMap) -> Result<Logins, ApiError> {
    let logins: Option<Logins> = read(headers, "x-registry-config")?;
    Ok(logins.into_iter().flatten().filter(|(_, login)| !login.is_empty()).collect())
}

fn read<T: for<'de> Deserialize<'de>>(
    headers: &HeaderMap,
    name: &str,
) -> Result<Option<T>, ApiError> {
    let Some(header) = headers.get(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    // No reason is given: the reader's messages can show the value.
    let wrong = || ApiError::BadRequest(format!("`{name}` is not JSON in base64"));
    let bytes = header.to_str().ok().and_then(decode).ok_or_else(wrong)?;
    serde_json::from_slice(&bytes).map_err(|_| wrong())
}

/// Base64 in either alphabet, with or without padding: clients differ.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ANY: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let text = text.trim();
    let url = GeneralPurpose::new(&URL_SAFE, ANY).decode(text);
    url.or_else(|_| GeneralPurpose::new(&STANDARD, ANY).decode(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, json: &str, engine: &impl base64::Engine) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, engine.encode(json).parse().unwrap());
        headers
    }

    #[test]
    fn both_alphabets_are_read_and_nothing_is_shown() {
        use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
        let json = r#"{"username":"u?~","password":"s3cret>?","serveraddress":"r:5000"}"#;
        let standard = headers("x-registry-auth", json, &STANDARD);
        for headers in [
            standard,
            headers("x-registry-auth", json, &URL_SAFE),
            headers("x-registry-auth", json, &URL_SAFE_NO_PAD),
        ] {
            let login = registry_auth(&headers).unwrap().unwrap();
            assert!(!format!("{login:?}").contains("s3cret"));
            let (user, password) = login.pair().unwrap();
            assert_eq!((user.as_str(), password.reveal()), ("u?~", "s3cret>?"));
        }
        for json in ["{}", r#"{"username":null,"password":null,"email":null}"#] {
            let none = headers("x-registry-auth", json, &STANDARD);
            assert_eq!(registry_auth(&none).unwrap(), None);
        }
        let wrong = headers("x-registry-auth", r#"{"username":{"s3cret":1}}"#, &STANDARD);
        assert!(!registry_auth(&wrong).unwrap_err().to_string().contains("s3cret"));
    }

    #[test]
    fn a_build_has_credentials_for_several_registries() {
        use base64::engine::general_purpose::URL_SAFE;
        let auth = base64::engine::general_purpose::STANDARD.encode("me:pass:word");
        let json = format!(r#"{{"a.example.com":{{"auth":"{auth}"}},"b":{{}}}}"#);
        let logins = registry_config(&headers("x-registry-config", &json, &URL_SAFE)).unwrap();
        assert_eq!(logins.len(), 1);
        let (user, password) = logins["a.example.com"].pair().unwrap();
        assert_eq!((user.as_str(), password.reveal()), ("me", "pass:word"));
    }
}
