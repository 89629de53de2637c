//! Errors of certificates that cannot be made or used.

use std::io;
use std::path::PathBuf;

use crate::render::CommandError;

/// Certificates that cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file that cannot be read.
    #[error("reading `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file or folder that cannot be written or locked.
    #[error("writing `{}`: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file that holds neither a certificate nor a key.
    #[error("`{}`: {reason}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// An authority whose key is elsewhere, and no certificate of the server.
    #[error("`{}` is missing, and so are certificates that it has signed", .0.display())]
    NoAuthorityKey(PathBuf),
    /// Certificates that cannot be signed.
    #[error("making certificates: {0}")]
    Issue(#[source] rcgen::Error),
    /// A part of `DOCKER_TLS_SAN` that is no name.
    #[error("DOCKER_TLS_SAN: `{text}` is {fault}")]
    Name {
        /// The part.
        text: String,
        /// The end of the sentence.
        fault: &'static str,
    },
}

impl CertificateError {
    pub(super) fn wrong(path: PathBuf, reason: &dyn std::fmt::Display) -> Self {
        Self::Wrong { path, reason: reason.to_string() }
    }
}

impl CommandError for CertificateError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Write { .. } => {
                "mount a volume there, or set DOCKER_TLS_CERTDIR to an empty text for no TLS".into()
            }
            Self::NoAuthorityKey(_) => {
                "put server/{ca,cert,key}.pem beside it, or remove ca/cert.pem for a new authority"
                    .into()
            }
            _ => return None,
        })
    }
}
