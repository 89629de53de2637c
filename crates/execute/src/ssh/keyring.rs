//! kiln as an agent: the answers that it gives for keys of its own.

use super::key::PrivateKey;
use super::wire::{
    FAILURE, Fields, IDENTITIES_ANSWER, REQUEST_IDENTITIES, SIGN_REQUEST, SIGN_RESPONSE,
    push_string,
};

/// Keys.
pub(super) struct Keyring(Vec<PrivateKey>);

impl Keyring {
    pub(super) fn new(keys: Vec<PrivateKey>) -> Self {
        Self(keys)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The answer to a message, both without their length.
    pub(super) fn answer(&self, message: &[u8]) -> Vec<u8> {
        self.answer_known(message).unwrap_or_else(|| vec![FAILURE])
    }

    fn answer_known(&self, message: &[u8]) -> Option<Vec<u8>> {
        let (&kind, rest) = message.split_first()?;
        match kind {
            REQUEST_IDENTITIES => {
                let mut out = vec![IDENTITIES_ANSWER];
                out.extend_from_slice(&u32::try_from(self.0.len()).ok()?.to_be_bytes());
                for key in &self.0 {
                    push_string(&mut out, &key.public);
                    push_string(&mut out, &key.comment);
                }
                Some(out)
            }
            SIGN_REQUEST => {
                let mut fields = Fields(rest);
                let (public, data, flags) = (fields.string()?, fields.string()?, fields.number()?);
                let key = self.0.iter().find(|key| key.public == public)?;
                let mut out = vec![SIGN_RESPONSE];
                push_string(&mut out, &key.sign(data, flags)?);
                Some(out)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
    use base64::Engine as _;

    use super::super::error::KeyError;
    use super::*;

    /// An Ed25519 key in OpenSSH's format, as bytes and as a file.
    fn openssh() -> (Vec<u8>, String) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut private = vec![1, 2, 3, 4, 1, 2, 3, 4];
        let seed_and_public = [&[7; 32], pair.public_key().as_ref()].concat();
        push_string(&mut private, b"ssh-ed25519");
        push_string(&mut private, pair.public_key().as_ref());
        push_string(&mut private, &seed_and_public);
        push_string(&mut private, b"comment");
        let mut bytes = b"openssh-key-v1\0".to_vec();
        for text in ["none", "none", ""] {
            push_string(&mut bytes, text.as_bytes());
        }
        bytes.extend_from_slice(&1_u32.to_be_bytes());
        push_string(&mut bytes, b"public");
        push_string(&mut bytes, &private);
        let file = file(&bytes);
        (bytes, file)
    }

    fn file(bytes: &[u8]) -> String {
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        let kind = "OPENSSH PRIVATE KEY";
        format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
    }

    #[test]
    fn it_lists_and_signs_and_no_more() {
        let key = PrivateKey::parse(openssh().1.as_bytes()).unwrap();
        let public = key.public.clone();
        let keyring = Keyring::new(vec![key]);
        let list = keyring.answer(&[REQUEST_IDENTITIES]);
        let mut fields = Fields(&list[1..]);
        assert_eq!((list[0], fields.number()), (IDENTITIES_ANSWER, Some(1)));
        assert_eq!((fields.string(), fields.string()), (Some(&public[..]), Some(&b"comment"[..])));

        let request = |public: &[u8]| {
            let mut request = vec![SIGN_REQUEST];
            push_string(&mut request, public);
            push_string(&mut request, b"data");
            request.extend_from_slice(&[0; 4]);
            request
        };
        let signed = keyring.answer(&request(&public));
        let mut fields = Fields(&signed[1..]);
        let mut signature = Fields(fields.string().unwrap());
        assert_eq!((signed[0], signature.string()), (SIGN_RESPONSE, Some(&b"ssh-ed25519"[..])));
        let verifier = UnparsedPublicKey::new(&ED25519, &public[public.len() - 32..]);
        verifier.verify(b"data", signature.string().unwrap()).unwrap();

        assert_eq!(keyring.answer(&request(b"another key")), [FAILURE]);
        let whole = request(&public);
        for length in 0..whole.len() {
            assert_eq!(keyring.answer(&whole[..length]), [FAILURE], "{length} bytes");
        }
        for kind in (0..=u8::MAX).filter(|kind| *kind != REQUEST_IDENTITIES) {
            assert_eq!(keyring.answer(&[kind]), [FAILURE], "request {kind}");
        }
    }

    #[test]
    fn damaged_keys_are_refused() {
        let (bytes, whole) = openssh();
        // The cut removes a part of the final comment, which may be missing.
        for length in 0..bytes.len() - 11 {
            assert!(
                PrivateKey::parse(file(&bytes[..length]).as_bytes()).is_err(),
                "{length} bytes"
            );
        }
        for (text, word) in [
            (whole[..whole.len() - 10].to_owned(), "damaged"),
            (whole.replace("OPENSSH", "DSA"), "DSA PRIVATE KEY"),
            (whole.replace("OPENSSH", "ENCRYPTED"), "passphrase"),
            ("ssh-ed25519 AAAA".to_owned(), "neither"),
        ] {
            let error = PrivateKey::parse(text.as_bytes()).err().unwrap();
            assert!(error.to_string().contains(word), "{error}");
        }
        let locked = whole.replacen("OPENSSH", "RSA", 2).replacen(
            "-----\n",
            "-----\nProc-Type: 4,ENCRYPTED\n\n",
            1,
        );
        let error = PrivateKey::parse(locked.as_bytes()).err().unwrap();
        assert!(matches!(error, KeyError::Encrypted), "{error}");
    }
}
