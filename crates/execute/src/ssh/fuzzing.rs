//! Doors for the fuzzer: key files, and requests to kiln's own agent.

use super::key::PrivateKey;
use super::keyring::Keyring;
use super::wire::Fields;
use super::{der, pem};

/// Reads a private key, in its armour and without it.
pub fn private_key(bytes: &[u8]) {
    if let Ok(armoured) = pem::read(bytes) {
        der::rsa_public(&armoured.bytes);
    }
    der::rsa_public(bytes);
    let mut fields = Fields(bytes);
    while fields.string().is_some() {}
    if let Ok(key) = PrivateKey::parse(bytes) {
        let keyring = Keyring::new(vec![key]);
        assert!(!keyring.answer(&[11]).is_empty());
    }
}

/// Answers a request that asks for one of the keys of a file.
pub fn agent_request(key: &[u8], message: &[u8]) {
    let keys = PrivateKey::parse(key).into_iter().collect();
    assert!(!Keyring::new(keys).answer(message).is_empty());
}
