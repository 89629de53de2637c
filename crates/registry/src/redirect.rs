//! Redirects: where they lead, and who is still told who asks.

use reqwest::header::LOCATION;
use reqwest::{Method, Url};

use crate::response::Response;

/// As many as Go's client follows, and with it BuildKit.
const MOST: u32 = 10;

/// Whether a redirect may lead from TLS to plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Downgrade {
    Refused,
    Allowed,
}

/// The way of a request from redirect to redirect.
pub(crate) struct Way {
    url: Url,
    downgrade: Downgrade,
    /// Whether all of it was within one origin. Once it is left, credentials do not come back, also
    /// where the way does: who it led to chose what is asked there.
    home: bool,
    steps: u32,
}

impl Way {
    pub(crate) fn from(url: Url, downgrade: Downgrade) -> Self {
        Self { url, downgrade, home: true, steps: 0 }
    }

    /// Where the request goes now.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Whether what is for the first address alone may go along.
    pub(crate) fn is_home(&self) -> bool {
        self.home
    }

    /// Goes where an answer leads. False if it is no redirect.
    ///
    /// # Errors
    /// What is wrong with the redirect, to follow "the registry answered against the protocol".
    pub(crate) fn follow(
        &mut self,
        answer: &Response,
        method: &Method,
    ) -> Result<bool, &'static str> {
        let status = answer.status().as_u16();
        let Some(location) =
            answer.header(LOCATION).filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308))
        else {
            return Ok(false);
        };
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        if !is_read && !matches!(status, 307 | 308) {
            return Err("it redirects what is sent with another status than 307 and 308, \
                        which says to send nothing");
        }
        let mut next = self.url.join(location).map_err(|_| "it redirects to no address")?;
        if !matches!(next.scheme(), "http" | "https") {
            return Err("it redirects to what is neither http: nor https:");
        }
        let worse = self.url.scheme() == "https" && next.scheme() != "https";
        if worse && self.downgrade == Downgrade::Refused {
            return Err("it redirects from TLS to plain HTTP");
        }
        self.steps += 1;
        if self.steps > MOST {
            return Err("it redirects for ever");
        }
        // Who the server would have us be is nobody's wish here.
        let _ = (next.set_username(""), next.set_password(None));
        self.home &= next.origin() == self.url.origin();
        self.url = next;
        Ok(true)
    }
}
