//! Keys of certificates: of any kind that TLS knows, since other programs made some of them.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rcgen::{
    Error, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    PublicKeyData, SignatureAlgorithm,
};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;

/// The ways to sign certificates, in rustls's words and in rcgen's.
static SCHEMES: [(SignatureScheme, &SignatureAlgorithm); 4] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, &PKCS_ECDSA_P256_SHA256),
    (SignatureScheme::ECDSA_NISTP384_SHA384, &PKCS_ECDSA_P384_SHA384),
    (SignatureScheme::RSA_PKCS1_SHA256, &PKCS_RSA_SHA256),
    (SignatureScheme::ED25519, &PKCS_ED25519),
];

/// A key that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no key that can sign certificates")]
pub(super) struct NoSigningKey;

/// A key and its public half.
pub(super) struct CertificateKey {
    key: Arc<dyn SigningKey>,
    scheme: SignatureScheme,
    algorithm: &'static SignatureAlgorithm,
    /// The public key with its algorithm (RFC 5280, `SubjectPublicKeyInfo`).
    info: Vec<u8>,
    /// The public key alone.
    bits: Vec<u8>,
}

impl CertificateKey {
    /// A new key, in PKCS #8. P-256 is what every client knows, and it is made in no time.
    pub(super) fn generate() -> Result<Vec<u8>, NoSigningKey> {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new());
        document.map(|document| document.as_ref().to_vec()).map_err(|_| NoSigningKey)
    }

    /// Reads a key in PKCS #8.
    pub(super) fn of_pkcs8(der: Vec<u8>) -> Result<Self, NoSigningKey> {
        Self::read(&PrivatePkcs8KeyDer::from(der).into())
    }

    /// Reads a key.
    pub(super) fn read(der: &PrivateKeyDer<'_>) -> Result<Self, NoSigningKey> {
        let key = any_supported_type(der).map_err(|_| NoSigningKey)?;
        let usable = SCHEMES.iter().find(|(scheme, _)| key.choose_scheme(&[*scheme]).is_some());
        let (scheme, algorithm) = *usable.ok_or(NoSigningKey)?;
        let info = key.public_key().ok_or(NoSigningKey)?.as_ref().to_vec();
        let bits = public_key(&info).ok_or(NoSigningKey)?.to_vec();
        Ok(Self { key, scheme, algorithm, info, bits })
    }

    /// The public key with its algorithm.
    pub(super) fn info(&self) -> &[u8] {
        &self.info
    }
}

impl PublicKeyData for CertificateKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl rcgen::SigningKey for CertificateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signer = self.key.choose_scheme(&[self.scheme]).ok_or(Error::RemoteKeyError)?;
        signer.sign(message).map_err(|_| Error::RemoteKeyError)
    }
}

impl fmt::Debug for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CertificateKey").field(&self.scheme).finish()
    }
}

/// The bits of the public key in a `SubjectPublicKeyInfo`: the second element of a sequence, after the algorithm.
fn public_key(info: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const BIT_STRING: u8 = 0x03;
    let (content, _) = element(info, SEQUENCE)?;
    let (_, rest) = element(content, SEQUENCE)?;
    let (bits, _) = element(rest, BIT_STRING)?;
    // The number of unused bits comes first.
    bits.strip_prefix(&[0])
}

/// The content of the first element, which has this tag, and what follows it (DER, X.690).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..0x80 => (usize::from(first), rest),
        _ => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                length.iter().try_fold(0, |sum: usize, byte| {
                    sum.checked_mul(256)?.checked_add(usize::from(*byte))
                })?,
                rest,
            )
        }
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_the_end_of_its_description() {
        let key = CertificateKey::of_pkcs8(CertificateKey::generate().unwrap()).unwrap();
        // An uncompressed point of P-256.
        assert_eq!((key.der_bytes().len(), key.der_bytes()[0]), (65, 4));
        assert!(key.info().ends_with(key.der_bytes()));
        assert_eq!(key.subject_public_key_info(), key.info());
        for wrong in [&[0x30][..], &[0x30, 5, 1], &[0x30, 0x89, 1], &[3, 1, 0], b""] {
            assert_eq!(public_key(wrong), None, "{wrong:?}");
        }
        let long = [&[0x30, 0x82, 0x01, 0x02][..], &[7; 258], &[9]].concat();
        assert_eq!(element(&long, 0x30), Some((&[7; 258][..], &[9][..])));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(CertificateKey::of_pkcs8(vec![0x30, 0]).unwrap_err(), NoSigningKey);
    }
}
