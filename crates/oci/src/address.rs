//! Web addresses, and their parts that may be shown.
//!
//! An address can hold a user, a password, and in its query a signature. It is split by the parser
//! of the library that connects to it, never by hand: the host of `http://127.0.0.1\@example.com/`
//! is 127.0.0.1.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use url::Url;

use crate::percent;

/// An address of `http:` or `https:`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WebAddress(Url);

/// A text that is no [`WebAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no address of http: or https:")]
pub struct NoWebAddress;

impl FromStr for WebAddress {
    type Err = NoWebAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: Url = text.parse().map_err(|_| NoWebAddress)?;
        match matches!(url.scheme(), "http" | "https") && url.has_host() {
            true => Ok(Self(url)),
            false => Err(NoWebAddress),
        }
    }
}

impl WebAddress {
    /// The host's name, or its address without brackets.
    pub fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// Host and port, without the usual port of the scheme.
    pub fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.into(),
        }
    }

    /// Host and port, whichever port it is.
    pub fn authority_with_port(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        format!("{host}:{}", self.0.port_or_known_default().unwrap_or_default())
    }

    /// The address of its server: scheme, host and port, and `/`.
    pub fn origin(&self) -> String {
        format!("{}/", self.0.origin().ascii_serialization())
    }

    /// True if both have the same scheme, host and port.
    pub fn is_of_origin(&self, other: &Self) -> bool {
        self.0.origin() == other.0.origin()
    }

    /// The path, percent-encoded as it is.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// Takes user and password out of it, if it has any: `user:password`, decoded.
    pub fn take_user(&mut self) -> Option<Vec<u8>> {
        if self.0.username().is_empty() && self.0.password().is_none() {
            return None;
        }
        let mut pair = percent::decode(self.0.username());
        pair.push(b':');
        pair.extend(percent::decode(self.0.password().unwrap_or_default()));
        // Addresses with a host can always lose their user.
        let _ = (self.0.set_username(""), self.0.set_password(None));
        Some(pair)
    }

    /// The whole address, secrets included.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The parsed address.
    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

impl From<WebAddress> for Url {
    fn from(address: WebAddress) -> Self {
        address.0
    }
}

impl fmt::Debug for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebAddress").field(&shown_text(self.as_str())).finish()
    }
}

/// The replacement for a hidden value.
const HIDDEN: &str = "xxxxx";

/// A text, or an address, with its addresses as they may be shown: without their users, and
/// without the values of their queries. All that is shown, kept for people or handed on goes
/// through here.
pub fn shown_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for SecretSpan { range, kind } in secrets(text) {
        shown.push_str(&text[from..range.start]);
        if kind == SecretKind::Value {
            shown.push_str(HIDDEN);
        }
        from = range.end;
    }
    shown.push_str(&text[from..]);
    shown
}

/// Like [`shown_text`], but every byte keeps its position: hidden ones become `x`.
pub fn masked_text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut from = 0;
    for SecretSpan { range, .. } in secrets(text) {
        masked.push_str(&text[from..range.start]);
        masked.extend(std::iter::repeat_n('x', range.len()));
        from = range.end;
    }
    masked.push_str(&text[from..]);
    masked
}

/// A part of a text that is not shown.
struct SecretSpan {
    range: Range<usize>,
    kind: SecretKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SecretKind {
    /// With what separates it from the host: nothing stands for it.
    User,
    Value,
}

/// The hidden parts of a text, in order and without overlap.
fn secrets(text: &str) -> Vec<SecretSpan> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("://").map(|at| from + at) {
        from = secrets_of(text, at, &mut found);
    }
    found
}

/// The hidden parts of the address whose `://` is at `colon`. Returns the position to continue at.
fn secrets_of(text: &str, colon: usize, found: &mut Vec<SecretSpan>) -> usize {
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let scheme = text[..colon].trim_end_matches(in_scheme).len()..colon;
    let begin = colon + 3;
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '`' | '<' | '>');
    let end = text[begin..].find(ends).map_or(text.len(), |at| begin + at);
    let find = |from: usize, to: usize, chars: &[char]| {
        text[from..to].find(chars).map_or(to, |at| from + at)
    };

    let parsed = Url::parse(&text[scheme.start..end]).is_ok();
    let mut authority_end = find(begin, end, &['/', '?', '#']);
    let backslash = find(begin, authority_end, &['\\']);
    if parsed && matches!(&text[scheme.clone()], "http" | "https") {
        // Such a one is as good as a slash there.
        authority_end = backslash;
    }
    // Of what is no address, who knows what it was to be: a password can have any sign.
    let user_end = if parsed { authority_end } else { end };
    let mut host = begin;
    if let Some(at) = text[begin..user_end].rfind('@').map(|at| begin + at) {
        host = at + 1;
        // A user of ssh is no secret, and needed.
        let is_ssh = text[scheme].ends_with("ssh");
        let user = if is_ssh { find(begin, at, &[':']) } else { begin };
        let (end, kind) = if is_ssh { (at, SecretKind::User) } else { (host, SecretKind::User) };
        if user < end {
            found.push(SecretSpan { range: user..end, kind });
        }
    }

    let fragment = find(host, end, &['#']);
    let query = find(host, fragment, &['?']);
    if query < fragment {
        values(text, query + 1..fragment, found);
    }
    let tells =
        fragment < end && ["=", "://"].iter().any(|sign| text[fragment..end].contains(sign));
    if tells {
        values(text, fragment + 1..end, found);
    }
    match tells || query < fragment {
        true => end,
        // A path can have another address in it.
        false => host,
    }
}

/// The values of a query. What has no name is all value.
fn values(text: &str, query: Range<usize>, found: &mut Vec<SecretSpan>) {
    let mut start = query.start;
    for pair in text[query].split('&') {
        let value = pair.find('=').map_or(0, |at| at + 1);
        if value < pair.len() {
            let range = start + value..start + pair.len();
            found.push(SecretSpan { range, kind: SecretKind::Value });
        }
        start += pair.len() + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        for (text, shown) in [
            ("https://u:p@h.io:8443/a/b?sig=1#x", "https://h.io:8443/a/b?sig=xxxxx#x"),
            ("https://u@h/x?a=1&b=&c", "https://h/x?a=xxxxx&b=&xxxxx"),
            ("http://[::1]:80/f", "http://[::1]:80/f"),
            ("https://h", "https://h"),
            ("https://h/@scope/pkg", "https://h/@scope/pkg"),
            ("https://h/#token=1", "https://h/#token=xxxxx"),
            ("ssh://git:pw@h/r", "ssh://git@h/r"),
            ("git@h:r#v1", "git@h:r#v1"),
            // An invalid address hides more.
            ("https://u:p/w@h/x?y@z", "https://z"),
            ("https://u:p?w@h/x", "https://h/x"),
            ("https://${HOST}/x?t=${T}", "https://${HOST}/x?t=xxxxx"),
            ("https://$USER:$PW@h/x", "https://h/x"),
            // The host of an address is where its parser sees it.
            ("http://127.0.0.1:7701\\@example.com/x", "http://127.0.0.1:7701\\@example.com/x"),
            ("ssh://u:p\\@h/x", "ssh://u@h/x"),
            // Several, and in a text.
            (
                "ADD [\"https://u:p@a/x?s=1\", 'https://b/?s=2', \"/f\"]",
                "ADD [\"https://a/x?s=xxxxx\", 'https://b/?s=xxxxx \"/f\"]",
            ),
            ("git://https://u:p@h/r.git#main", "git://https://h/r.git#main"),
            ("https://a/web/https://u:p@h/x", "https://a/web/https://h/x"),
            ("a=http://b,http://u:p@c", "a=http://b,http://c"),
            ("://@", "://"),
            ("no address", "no address"),
        ] {
            assert_eq!(shown_text(text), shown, "{text}");
            assert_eq!(shown_text(shown), shown, "twice: {text}");
            let masked = masked_text(text);
            assert_eq!(masked.len(), text.len());
            assert_eq!(masked_text(&masked), masked);
        }
        assert_eq!(masked_text("https://ü:p@h/?s=é"), "https://xxxxxh/?s=xx");
    }

    #[test]
    fn who_is_meant() {
        for (text, host, authority) in [
            ("https://u:p@H.io:8443/a/b?sig=1#x", "h.io", "h.io:8443"),
            ("http://[::1]:80/f", "::1", "[::1]"),
            ("http://127.0.0.1:7701\\@trusted.example/x", "127.0.0.1", "127.0.0.1:7701"),
            ("http://trusted.example@127.0.0.1:7701/x", "127.0.0.1", "127.0.0.1:7701"),
            ("http://127.0.0.1:7701#@trusted.example/", "127.0.0.1", "127.0.0.1:7701"),
            ("http:\\\\127.0.0.1\\x", "127.0.0.1", "127.0.0.1"),
            ("http://trusted\t.example/", "trusted.example", "trusted.example"),
        ] {
            let address: WebAddress = text.parse().unwrap();
            assert_eq!((address.host(), address.authority().as_str()), (host, authority), "{text}");
        }
        for text in ["ftp://h/", "h/x", "http://", "https://u:pw\\@h/"] {
            assert!(text.parse::<WebAddress>().is_err(), "{text}");
        }
        let mut address: WebAddress = "https://a%40b:p%3Aw@h/x".parse().unwrap();
        assert!(!format!("{address:?}").contains("p%3A"));
        assert_eq!(address.take_user().unwrap(), b"a@b:p:w");
        assert_eq!(address.take_user(), None);
        assert_eq!(address.as_str(), "https://h/x");
        assert_eq!((address.origin().as_str(), address.path()), ("https://h/", "/x"));
        assert_eq!(address.authority_with_port(), "h:443");
        let other = |text: &str| text.parse::<WebAddress>().unwrap();
        assert!(address.is_of_origin(&other("https://h:443/y")));
        assert!(!address.is_of_origin(&other("http://h/x")));
    }
}
