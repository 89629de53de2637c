//! A server's response.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::StatusCode;
use reqwest::header::{AsHeaderName, HeaderMap};
use serde::Deserialize;

use crate::traffic::Counters;
use crate::{Error, Result};

/// Most of an error's text that is read, in bytes.
const MOST_SAID: u64 = 64 << 10;
/// Most of an error's text that is shown, in characters.
const MOST_SHOWN: usize = 400;

/// The registry that was asked, and the user in whose name.
#[derive(Clone)]
pub(crate) struct Requester {
    pub registry: String,
    pub user: Option<String>,
}

/// An answer whose body is still to be read.
pub(crate) struct Response {
    pub inner: reqwest::Response,
    /// Host and port of who answered.
    pub host: String,
    /// True if the host that was asked answered, and not one that it redirected to.
    pub own: bool,
    pub idle: Duration,
    pub counters: Arc<Counters>,
}

impl Response {
    pub(crate) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// A header's text.
    pub(crate) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The next bytes of the body; none at its end.
    ///
    /// # Errors
    /// If the connection breaks or stands still.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let chunk = match tokio::time::timeout(self.idle, self.inner.chunk()).await {
            Ok(chunk) => chunk.map_err(|source| Error::reach(&self.host, source))?,
            Err(_) => return Err(Error::silent(&self.host, self.idle)),
        };
        if let Some(bytes) = &chunk {
            self.counters.bytes_down.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(chunk)
    }

    /// The whole body.
    ///
    /// # Errors
    /// If it is longer than `limit`, or the connection breaks.
    pub(crate) async fn bytes(mut self, limit: u64, what: &str) -> Result<Bytes> {
        let too_large = || Error::TooLarge { what: what.into(), limit };
        if self.inner.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Reads what is left, so that the connection can be used again.
    pub(crate) async fn drain(self) {
        let _ = self.bytes(MOST_SAID, "").await;
    }

    /// The error that this answer is.
    pub(crate) async fn refusal(self, what: &str, asked: Requester) -> Error {
        let (status, host, what) = (self.status(), self.host.clone(), what.to_owned());
        let body = self.bytes(MOST_SAID, "").await.unwrap_or_default();
        let message = message(&body);
        match status {
            StatusCode::UNAUTHORIZED => {
                let Requester { registry, user } = asked;
                Error::Unauthorized { host, registry, user, what, message }
            }
            StatusCode::FORBIDDEN => Error::Denied { host, what, message },
            StatusCode::NOT_FOUND => Error::NotFound { host, what, message },
            _ => Error::Refused { host, status: status.as_u16(), what, message },
        }
    }
}

/// The error document of registries (distribution-spec, error codes) and of token services.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorDocument {
    errors: Vec<SaidError>,
    error: Option<serde_json::Value>,
    error_description: Option<String>,
    message: Option<String>,
    details: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SaidError {
    code: Option<serde_json::Value>,
    message: Option<String>,
}

fn message(body: &[u8]) -> String {
    let Ok(said) = serde_json::from_slice::<ErrorDocument>(body) else {
        // Pages of proxies say little and are long.
        let is_page = body.trim_ascii_start().first() == Some(&b'<');
        return if is_page { String::new() } else { tidy(body, MOST_SHOWN) };
    };
    let code = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let errors = said.errors.iter().map(|error| {
        let parts = [error.code.as_ref().map(code), error.message.clone()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
    });
    let other = [
        said.error.as_ref().filter(|error| error.is_string()).map(code),
        said.error_description,
        said.message,
        said.details,
    ];
    let all: Vec<String> =
        errors.chain(other.into_iter().flatten()).filter(|text| !text.is_empty()).collect();
    tidy(all.join("; ").as_bytes(), MOST_SHOWN)
}

/// Text of outsiders, fit for one line of a log: no control characters, at most `most` characters.
pub(crate) fn tidy(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_are_kept_short_and_harmless() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no\u001b[31m access","detail":[1]}]}"#,
                "DENIED: no [31m access",
            ),
            (r#"{"errors":[{"code":7},{"message":"b"}]}"#, "7; b"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            (r#"{"error":"invalid_grant","error_description":"old"}"#, "invalid_grant; old"),
            ("<html><body>Bad gateway", ""),
            ("too\nmany   requests", "too many requests"),
            ("", ""),
        ] {
            assert_eq!(message(body.as_bytes()), expected);
        }
        assert_eq!(tidy("é".repeat(9).as_bytes(), 3), "ééé…");
    }
}
