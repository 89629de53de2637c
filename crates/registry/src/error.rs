//! Errors of requests to a registry.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use oci::Digest;

use crate::certificate;

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a registry did not give or take something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection, or it broke too often.
    #[error("cannot reach `{host}`")]
    Reach {
        /// The host that could not be reached.
        host: String,
        /// Why.
        source: reqwest::Error,
    },
    /// A server of another protocol than HTTP does not begin TLS.
    #[error("cannot begin TLS with `{host}`")]
    Tls {
        /// The server, as `host:port`.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The host's certificate is not one that is trusted here.
    #[error("the certificate of `{host}` {reason}")]
    Untrusted {
        /// The host with the untrusted certificate.
        host: String,
        /// The fault and its remedy.
        reason: String,
    },
    /// Nothing moved for too long.
    #[error("`{host}` did not answer in {seconds} s")]
    Silent {
        /// The silent host.
        host: String,
        /// The time waited, in seconds.
        seconds: u64,
    },
    /// The registry or its token service does not let this user in. Some registries say so of
    /// repositories that do not exist.
    #[error(
        "`{host}` does not let {} in for {what}{}{}",
        who(.user), said(.message), advice(.user, .registry)
    )]
    Unauthorized {
        /// The host that refused.
        host: String,
        /// The registry whose credentials were wanted, by its name in references.
        registry: String,
        /// The refused user; none without credentials.
        user: Option<String>,
        /// The thing that was asked for.
        what: String,
        /// The registry's own words.
        message: String,
    },
    /// The user is known and may not do this.
    #[error("`{host}` forbids {what}{}", said(.message))]
    Denied {
        /// The host that refused.
        host: String,
        /// The thing that was asked for.
        what: String,
        /// The registry's own words.
        message: String,
    },
    /// The registry has no such thing.
    #[error("`{host}` has no {what}{}", said(.message))]
    NotFound {
        /// The host that was asked.
        host: String,
        /// The thing that was asked for.
        what: String,
        /// The registry's own words.
        message: String,
    },
    /// Another refusal.
    #[error("`{host}` answered {status} for {what}{}", said(.message))]
    Refused {
        /// The host that refused.
        host: String,
        /// HTTP status.
        status: u16,
        /// The thing that was asked for.
        what: String,
        /// The registry's own words.
        message: String,
    },
    /// The token service of a registry fails.
    #[error("cannot get a token for `{host}`")]
    Token {
        /// The registry.
        host: String,
        /// Why.
        source: Box<Error>,
    },
    /// An answer that the protocol does not allow.
    #[error("`{host}` answered against the protocol for {what}: {reason}")]
    Protocol {
        /// The host that answered.
        host: String,
        /// The thing that was asked for.
        what: String,
        /// The fault in the response.
        reason: String,
    },
    /// A document or blob is larger than its reader takes.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The thing that is too large.
        what: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Bytes that are not those that were asked for.
    #[error("`{host}` sent other bytes for {expected}: they are {actual}")]
    Corrupt {
        /// The host that sent the bytes.
        host: String,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of the received bytes.
        actual: Digest,
    },
    /// A blob that is longer or shorter than its descriptor says.
    #[error("`{host}` sent {actual} bytes for {digest} of {expected} bytes")]
    Size {
        /// The host that sent the bytes.
        host: String,
        /// The digest that was asked for.
        digest: Digest,
        /// Bytes by its descriptor.
        expected: u64,
        /// Bytes by the registry.
        actual: u64,
    },
    /// A manifest that is pushed under a digest that is not its own.
    #[error("a manifest that is {actual} cannot be pushed as {expected}")]
    OtherManifest {
        /// The digest in the name.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// The bytes to push cannot be read.
    #[error("cannot read {digest} to push it")]
    Source {
        /// The blob's digest.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// A credential helper failed.
    #[error("credential helper `{helper}` failed to {action} for `{server}`: {reason}")]
    Helper {
        /// Its program.
        helper: String,
        /// `get`, `store` or `erase`.
        action: &'static str,
        /// The server it was asked about.
        server: String,
        /// The helper's message.
        reason: String,
    },
    /// A config or certificate file cannot be used.
    #[error("cannot use `{}`: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A setting makes no sense.
    #[error("cannot use {setting}: {reason}")]
    Setting {
        /// The setting.
        setting: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// True if the registry reports that the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }

    /// True if other credentials could help.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Error::Unauthorized { .. } | Error::Denied { .. })
    }

    /// True if the received bytes are not the ones asked for. Another attempt or another source may
    /// give the right ones.
    pub fn is_garbled(&self) -> bool {
        matches!(self, Error::Corrupt { .. } | Error::Size { .. } | Error::Protocol { .. })
    }

    /// True if the host could not be reached over a trusted connection.
    pub fn is_about_the_way(&self) -> bool {
        matches!(
            self,
            Error::Reach { .. }
                | Error::Tls { .. }
                | Error::Untrusted { .. }
                | Error::Silent { .. }
        )
    }

    /// True if another attempt may succeed.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Error::Silent { .. } => true,
            Error::Reach { source, .. } => !source.is_builder() && !is_final(source),
            _ => false,
        }
    }

    /// Addresses of reqwest's errors can hold signatures: they are taken out.
    pub(crate) fn reach(host: &str, source: reqwest::Error) -> Self {
        match tls_fault(&source).and_then(|fault| certificate::refusal(fault, host)) {
            Some(reason) => Self::Untrusted { host: host.into(), reason },
            None => Self::Reach { host: host.into(), source: source.without_url() },
        }
    }

    /// The error of a TLS handshake, without HTTP.
    pub(crate) fn handshake(host: &str, source: io::Error) -> Self {
        let fault = source.get_ref().and_then(|inner| inner.downcast_ref());
        match fault.and_then(|fault| certificate::refusal(fault, host)) {
            Some(reason) => Self::Untrusted { host: host.into(), reason },
            None => Self::Tls { host: host.into(), source },
        }
    }

    pub(crate) fn silent(host: &str, waited: Duration) -> Self {
        Self::Silent { host: host.into(), seconds: waited.as_secs() }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }
}

/// True for connection faults that persist: a refused connection, or TLS that fails.
pub(crate) fn is_final(error: &reqwest::Error) -> bool {
    let refused = |error: &(dyn std::error::Error + 'static)| {
        let io = error.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused).then_some(())
    };
    tls_fault(error).is_some() || find_cause(error, refused).is_some()
}

/// The TLS error behind a failed connection.
fn tls_fault(error: &reqwest::Error) -> Option<&rustls::Error> {
    find_cause(error, |error| error.downcast_ref())
}

fn find_cause<'e, T>(
    error: &'e reqwest::Error,
    find: impl Fn(&'e (dyn std::error::Error + 'static)) -> Option<T>,
) -> Option<T> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(found) = find(error) {
            return Some(found);
        }
        cause = match error.downcast_ref::<io::Error>() {
            // An `io::Error` skips what it wraps when asked for its source.
            Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn who(user: &Option<String>) -> String {
    match user {
        Some(user) => format!("user `{user}`"),
        None => "anonymous users".into(),
    }
}

fn advice(user: &Option<String>, registry: &str) -> String {
    match user {
        Some(_) => String::new(),
        None => format!(": log in with `kiln login {registry}`"),
    }
}

fn said(message: &str) -> String {
    match message {
        "" => String::new(),
        message => format!(": {message}"),
    }
}
