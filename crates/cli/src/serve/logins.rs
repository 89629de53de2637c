//! The credentials of requests in the terms of the client for registries.

use ::engine::Login;
use oci::Reference;
use registry::{Credentials, Secret};

/// The credentials of a request; none if it has none.
pub(super) fn credentials(login: &Login) -> Option<Credentials> {
    let secret = |token: &::engine::RegistryToken| Secret::new(token.reveal());
    if !login.registrytoken.is_empty() {
        return Some(Credentials::Registry(secret(&login.registrytoken)));
    }
    if !login.identitytoken.is_empty() {
        let (username, token) = (login.username.clone(), secret(&login.identitytoken));
        return Some(Credentials::Identity { username, token });
    }
    let (username, password) = login.pair()?;
    Some(Credentials::Password { username, password: secret(&password) })
}

/// The credentials for the registry of a name: a request has them for one registry.
pub(super) fn logins_for(name: &Reference, login: Option<&Login>) -> Vec<(String, Credentials)> {
    let credentials = login.and_then(credentials);
    credentials.map(|known| (name.repository().host().to_owned(), known)).into_iter().collect()
}
