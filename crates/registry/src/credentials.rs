//! A user's credentials for a registry.

use crate::Secret;

/// A user's credentials for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Password {
        /// The user's name.
        username: String,
        /// The password, or what a registry takes for one.
        password: Secret,
    },
    /// A refresh token, to be exchanged for tokens (`identitytoken`).
    Identity {
        /// The user's name, often empty.
        username: String,
        /// The token.
        token: Secret,
    },
    /// A bearer token that the registry takes as it is (`registrytoken`).
    Registry(Secret),
}

impl Credentials {
    /// The user's name, where there is one.
    pub fn username(&self) -> Option<&str> {
        match self {
            Credentials::Password { username, .. } | Credentials::Identity { username, .. } => {
                Some(username.as_str()).filter(|name| !name.is_empty())
            }
            Credentials::Registry(_) => None,
        }
    }
}
