//! Redirects: where they lead, and who is still told who asks.

use reqwest::header::LOCATION;
use reqwest::{Method, Url};

use crate::response::Response;

/// The limit of Go's client, and with it BuildKit's.
const MOST: u32 = 10;

/// The policy for redirects from TLS to plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Downgrade {
    Refused,
    Allowed,
}

/// The fault of a redirect, to follow "the registry answered against the protocol".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RedirectError {
    #[error(
        "it redirects what is sent with another status than 307 and 308, which says to send nothing"
    )]
    SendsNothing,
    #[error("it redirects to no address")]
    NoAddress,
    #[error("it redirects to what is neither http: nor https:")]
    OtherScheme,
    #[error("it redirects from TLS to plain HTTP")]
    Downgrade,
    #[error("it redirects for ever")]
    Endless,
    #[error("it redirects credentials to another host")]
    Credentials,
}

/// The way of a request from redirect to redirect.
pub(crate) struct Way {
    url: Url,
    downgrade: Downgrade,
    /// True while every hop stayed within one origin. Credentials are not sent again after it is
    /// left, even where a redirect leads back: the other host chose that address.
    home: bool,
    steps: u32,
}

impl Way {
    pub(crate) fn from(url: Url, downgrade: Downgrade) -> Self {
        Self { url, downgrade, home: true, steps: 0 }
    }

    /// The request's current address.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// True if data meant for the first address alone may be sent.
    pub(crate) fn is_home(&self) -> bool {
        self.home
    }

    /// Goes where an answer leads. False if it is no redirect.
    ///
    /// # Errors
    /// If the redirect is not to be followed.
    pub(crate) fn follow(
        &mut self,
        answer: &Response,
        method: &Method,
    ) -> Result<bool, RedirectError> {
        let status = answer.status().as_u16();
        let Some(location) =
            answer.header(LOCATION).filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308))
        else {
            return Ok(false);
        };
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        if !is_read && !matches!(status, 307 | 308) {
            return Err(RedirectError::SendsNothing);
        }
        let mut next = self.url.join(location).map_err(|_| RedirectError::NoAddress)?;
        if !matches!(next.scheme(), "http" | "https") {
            return Err(RedirectError::OtherScheme);
        }
        let worse = self.url.scheme() == "https" && next.scheme() != "https";
        if worse && self.downgrade == Downgrade::Refused {
            return Err(RedirectError::Downgrade);
        }
        self.steps += 1;
        if self.steps > MOST {
            return Err(RedirectError::Endless);
        }
        // User and password in a redirect's address are the server's choice, and dropped.
        let _ = (next.set_username(""), next.set_password(None));
        self.home &= next.origin() == self.url.origin();
        self.url = next;
        Ok(true)
    }
}
