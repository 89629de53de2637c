//! Files of servers that are no registries: `ADD https://…`.

use base64::Engine as _;
use bytes::Bytes;
use oci::WebAddress;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Method, Url};

use crate::redirect::Downgrade;
use crate::response::Response;
use crate::transport::BareRequest;
use crate::{Client, Error, Result, Secret};

/// A request to a web server.
#[derive(Clone, Debug)]
pub struct WebRequest<'a> {
    /// The address, `http:` or `https:`.
    pub url: &'a str,
    /// The whole `Authorization` header, for the address's own host only.
    pub authorization: Option<Secret>,
    /// Entity tags of what is known already, as `If-None-Match` has them.
    pub known: Option<&'a str>,
}

/// A web server's answer; its body is read with [`chunk`](Self::chunk).
pub struct WebResponse {
    answer: Response,
}

impl Client {
    /// Downloads a file, following redirects. A registry's credentials are not used.
    ///
    /// # Errors
    /// If the address is invalid, there is no response, or redirects do not end. Every other status
    /// is a response.
    pub async fn web(&self, request: &WebRequest<'_>) -> Result<WebResponse> {
        let refused = |reason: &str| Error::Setting {
            setting: "address of a download".into(),
            reason: reason.into(),
        };
        let address = request.url.parse::<WebAddress>();
        let mut address = address.map_err(|error| refused(&error.to_string()))?;
        let basic = address.take_user().map(|pair| {
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            Secret::new(format!("Basic {encoded}"))
        });
        let mut headers = HeaderMap::new();
        // Go's client asks for gzip too: some servers compress in any case.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        if let Some(known) = request.known.and_then(|known| HeaderValue::from_str(known).ok()) {
            headers.insert(IF_NONE_MATCH, known);
        }
        let own = request.authorization.clone().or(basic);
        let authorization = match &own {
            Some(text) => {
                let mut header = HeaderValue::from_str(text.reveal())
                    .map_err(|_| refused("its credentials have characters that HTTP forbids"))?;
                header.set_sensitive(true);
                Some(header)
            }
            None => None,
        };
        let request = BareRequest {
            method: Method::GET,
            url: address.into(),
            headers,
            authorization,
            body: Bytes::new(),
            insecure: false,
            // Go's client follows them too. A download is checked by its digest, or not at all.
            downgrade: Downgrade::Allowed,
            what: "a download".into(),
        };
        self.transport().bare(&request, async |answer| Ok(WebResponse { answer })).await
    }
}

impl WebResponse {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.answer.status().as_u16()
    }

    /// `ETag`, without the mark of weak ones.
    pub fn etag(&self) -> Option<&str> {
        self.answer.header(ETAG).map(|tag| tag.strip_prefix("W/").unwrap_or(tag))
    }

    /// `Last-Modified`.
    pub fn last_modified(&self) -> Option<&str> {
        self.answer.header(LAST_MODIFIED)
    }

    /// True if the body is compressed for the transfer only.
    pub fn is_gzip(&self) -> bool {
        self.answer
            .header(CONTENT_ENCODING)
            .is_some_and(|encoding| encoding.eq_ignore_ascii_case("gzip"))
    }

    /// The body's length, if the server states it.
    pub fn length(&self) -> Option<u64> {
        self.answer.inner.content_length()
    }

    /// The address that answered, at the end of all redirects.
    pub fn url(&self) -> &Url {
        self.answer.inner.url()
    }

    /// True if no redirect left the origin, which means that the credentials reached the server
    /// that answered.
    pub fn is_of_origin(&self) -> bool {
        self.answer.own
    }

    /// The next bytes of the body; none at its end.
    ///
    /// # Errors
    /// If the connection breaks or stands still.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.answer.chunk().await
    }
}
