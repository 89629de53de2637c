//! Manifests and indexes.

use bytes::Bytes;
use oci::{Descriptor, Digest, Reference, media_type};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::auth::Scopes;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::exchange::{ApiRequest, Target};
use crate::payload::Payload;
use crate::response::Response;
use crate::retry::{Retry, RetryPolicy};
use crate::{Error, Result};

/// The largest manifest that is read, in bytes; registries take no larger ones
/// (distribution-spec, pushing manifests).
const MOST_MANIFEST: u64 = 4 << 20;

/// All kinds that kiln reads, and any other so that it can say what it got.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*";

/// Manifests of Docker before 2016.
const OLD_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v1";

pub(crate) const CONTENT_DIGEST: &str = "docker-content-digest";

/// Refusals of a manifest because of a blob after which it is sent again. `registry` does not find a blob while
/// another client sends the same one, and a registry of several machines one that it took a moment ago.
const MOST_OVERLOOKED: u32 = 3;

/// The code of such a refusal (distribution-spec, error codes).
const BLOB_UNKNOWN: &str = "MANIFEST_BLOB_UNKNOWN";

impl Client {
    /// The descriptor behind a reference, without its content: a single HEAD, because Docker Hub
    /// counts a GET as a pull.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such image; others if there is no telling.
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        let host = reference.repository().host();
        self.first(host, async |endpoint| self.resolve_at(&endpoint, reference).await).await
    }

    /// The manifest or index that a reference names, with its descriptor. At most 4 MiB, checked
    /// against the reference's digest or, for a tag, the one that the registry states.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such image, [`Error::Corrupt`] if it is not what the
    /// digest names, [`Error::TooLarge`], and others if the registry does not give it.
    pub async fn manifest(&self, reference: &Reference) -> Result<(Descriptor, Bytes)> {
        let host = reference.repository().host();
        self.first(host, async |endpoint| self.manifest_at(&endpoint, reference).await).await
    }

    /// Puts a manifest or index under a tag, or, if the reference has none, under its digest.
    ///
    /// # Errors
    /// [`Error::OtherManifest`] if the reference's digest is not that of `bytes`; others if the
    /// registry does not take it.
    pub async fn put_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest> {
        let digest = Digest::of(&bytes);
        if let Some(expected) = reference.digest().filter(|expected| *expected != digest) {
            return Err(Error::OtherManifest { expected, actual: digest });
        }
        let endpoint = self.origin(reference.repository().host())?;
        let name = reference.tag().map_or_else(|| digest.to_string(), str::to_owned);
        let mut ask = ask(&endpoint, reference, Method::PUT, &name);
        ask.scopes = Scopes::push(endpoint.path(reference.repository()));
        let kind = HeaderValue::from_str(media_type).map_err(|_| Error::Setting {
            setting: "media type of a manifest".into(),
            reason: "it has characters that HTTP does not allow".into(),
        })?;
        ask.headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        let policy = self.settings().retry;
        let attempts = policy.attempts.min(MOST_OVERLOOKED + 1);
        let mut retry = Retry::new(RetryPolicy { attempts, ..policy });
        loop {
            match self.call_well(&ask, &Payload::Bytes(bytes.clone())).await {
                Ok(answer) => {
                    answer.drain().await;
                    return Ok(digest);
                }
                Err(error) if overlooks_blob(&error) && retry.pause(None).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn resolve_at(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Descriptor> {
        let ask = ask(endpoint, reference, Method::HEAD, &reference.target());
        let read = async |answer: Response| {
            let status = answer.status();
            let described = match status.is_success() {
                true => described(&answer, reference)?,
                false => None,
            };
            // Some proxies and registries do not know HEAD, or leave out what it is for.
            let unknown = matches!(
                status,
                StatusCode::BAD_REQUEST
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::NOT_IMPLEMENTED
            );
            match status.is_success() || unknown {
                true => Ok(described),
                false => Err(self.refusal(&ask, answer).await),
            }
        };
        match self.converse(&ask, &Payload::EMPTY, read).await? {
            Some(descriptor) => Ok(descriptor),
            None => Ok(self.manifest_at(endpoint, reference).await?.0),
        }
    }

    async fn manifest_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
    ) -> Result<(Descriptor, Bytes)> {
        let ask = ask(endpoint, reference, Method::GET, &reference.target());
        self.read(&ask, async |answer| {
            let host = answer.host.clone();
            let kind = kind(&answer);
            let expected = reference.digest().or_else(|| stated(&answer));
            let bytes = answer.bytes(MOST_MANIFEST, &ask.what).await?;
            let actual = Digest::of(&bytes);
            if let Some(expected) = expected.filter(|expected| *expected != actual) {
                return Err(Error::Corrupt { host, expected, actual });
            }
            let kind = kind_of(kind, &bytes).map_err(|error| ask.protocol(error.to_string()))?;
            Ok((Descriptor::new(kind, actual, bytes.len() as u64), bytes))
        })
        .await
    }
}

/// True if a manifest is refused because the registry does not find a blob.
fn overlooks_blob(error: &Error) -> bool {
    matches!(error, Error::Refused { message, .. } | Error::NotFound { message, .. } if message.contains(BLOB_UNKNOWN))
}

fn ask<'a>(
    endpoint: &'a Endpoint,
    reference: &'a Reference,
    method: Method,
    name: &str,
) -> ApiRequest<'a> {
    let path = endpoint.path(reference.repository());
    ApiRequest {
        endpoint,
        repository: reference.repository(),
        method,
        target: Target::Path(format!("{path}/manifests/{name}")),
        scopes: Scopes::pull(path),
        headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(ACCEPTED))]),
        what: format!("manifest `{reference}`"),
    }
}

/// The descriptor in a HEAD's headers; none if they are incomplete.
fn described(answer: &Response, reference: &Reference) -> Result<Option<Descriptor>> {
    let size = answer.header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let stated = stated(answer);
    if let (Some(expected), Some(actual)) = (reference.digest(), stated)
        && expected != actual
    {
        return Err(Error::Corrupt { host: answer.host.clone(), expected, actual });
    }
    let known = kind(answer).zip(reference.digest().or(stated)).zip(size);
    Ok(known.map(|((kind, digest), size)| Descriptor::new(kind, digest, size)))
}

fn stated(answer: &Response) -> Option<Digest> {
    answer.header(CONTENT_DIGEST)?.parse().ok()
}

/// The type by the header, if it says one.
fn kind(answer: &Response) -> Option<String> {
    let kind = answer.header(CONTENT_TYPE)?.split(';').next()?.trim();
    kind.starts_with("application/vnd.").then(|| kind.to_owned())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

/// A document that is no manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum DocumentError {
    #[error("the image is in Docker's format of before 2016, which nothing reads any more")]
    OldFormat,
    #[error("it is not JSON")]
    NotJson,
    #[error("it is neither a manifest nor an index")]
    OtherShape,
}

/// The type by the header, else by the document itself.
fn kind_of(header: Option<String>, bytes: &[u8]) -> Result<String, DocumentError> {
    if header.as_ref().is_some_and(|kind| kind.starts_with(OLD_MANIFEST)) {
        return Err(DocumentError::OldFormat);
    }
    if let Some(kind) = header {
        return match serde_json::from_slice(bytes) {
            Ok(serde::de::IgnoredAny) => Ok(kind),
            Err(_) => Err(DocumentError::NotJson),
        };
    }
    let shape: Shape = serde_json::from_slice(bytes).map_err(|_| DocumentError::NotJson)?;
    match (shape.media_type, shape.manifests, shape.layers) {
        (Some(kind), ..) => Ok(kind),
        (None, Some(_), _) => Ok(media_type::OCI_INDEX.into()),
        (None, None, Some(_)) => Ok(media_type::OCI_MANIFEST.into()),
        _ if shape.schema_version == Some(1) => Err(DocumentError::OldFormat),
        _ => Err(DocumentError::OtherShape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_documents_type_is_found() {
        let of =
            |header: Option<&str>, text: &str| kind_of(header.map(str::to_owned), text.as_bytes());
        assert_eq!(of(Some("application/vnd.x"), "{}").unwrap(), "application/vnd.x");
        assert!(of(Some("application/vnd.x"), "{\"a\":").is_err());
        assert_eq!(of(None, r#"{"mediaType": "m"}"#).unwrap(), "m");
        assert_eq!(of(None, r#"{"manifests": []}"#).unwrap(), media_type::OCI_INDEX);
        assert_eq!(of(None, r#"{"layers": []}"#).unwrap(), media_type::OCI_MANIFEST);
        let old = of(None, r#"{"schemaVersion": 1, "fsLayers": []}"#);
        assert_eq!(old, Err(DocumentError::OldFormat));
        assert!(of(None, "<html>").is_err());
        assert!(of(Some("application/vnd.docker.distribution.manifest.v1+prettyjws"), "").is_err());
    }
}
