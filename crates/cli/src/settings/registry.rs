//! The settings of single registries.

use std::path::PathBuf;

use super::hidden::Hidden;

/// The settings of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySetting {
    /// Its host.
    pub host: String,
    /// The authorities that its certificate may come from.
    pub authorities: Vec<PathBuf>,
    /// A client certificate and its key, which identify the caller.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// True if plain HTTP or an untrusted certificate is accepted.
    pub insecure: bool,
    /// True if plain HTTP is used; none if that is not set.
    pub plain_http: Option<bool>,
    /// User and password.
    pub login: Option<(String, Hidden)>,
}
