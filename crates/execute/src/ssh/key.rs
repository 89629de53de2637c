//! A private key from a file.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};

use super::der::{self, RsaNumbers};
use super::error::KeyError;
use super::pem;
use super::wire::{Fields, push_number, push_string, without_zeros};

/// `SSH_AGENT_RSA_SHA2_256`
const RSA_SHA2_256: u32 = 2;
/// `SSH_AGENT_RSA_SHA2_512`
const RSA_SHA2_512: u32 = 4;

/// A private key, and its public half as SSH writes it.
pub(super) struct PrivateKey {
    pub(super) public: Vec<u8>,
    pub(super) comment: Vec<u8>,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(&'static Curve, EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A curve of ECDSA.
struct Curve {
    name: &'static str,
    /// Bytes of a number.
    size: usize,
    algorithm: &'static EcdsaSigningAlgorithm,
}

static CURVES: [Curve; 3] = [
    Curve { name: "nistp256", size: 32, algorithm: &ECDSA_P256_SHA256_FIXED_SIGNING },
    Curve { name: "nistp384", size: 48, algorithm: &ECDSA_P384_SHA384_FIXED_SIGNING },
    Curve { name: "nistp521", size: 66, algorithm: &ECDSA_P521_SHA512_FIXED_SIGNING },
];

impl PrivateKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// If it is none, has a passphrase, is damaged or of a kind that is not known.
    pub(super) fn parse(text: &[u8]) -> Result<Self, KeyError> {
        let armoured = pem::read(text)?;
        let bytes = armoured.bytes.as_slice();
        let pair = match armoured.kind.as_str() {
            "OPENSSH PRIVATE KEY" => return openssh(bytes),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(bytes).map(Pair::Rsa).ok(),
            "EC PRIVATE KEY" => ecdsa(bytes),
            "PRIVATE KEY" => Ed25519KeyPair::from_pkcs8(bytes)
                .map(Pair::Ed25519)
                .ok()
                .or_else(|| RsaKeyPair::from_pkcs8(bytes).map(Pair::Rsa).ok())
                .or_else(|| ecdsa(bytes)),
            other => return Err(KeyError::UnknownKind(other.into())),
        };
        let pair = pair.ok_or(KeyError::DamagedOrUnknown)?;
        let public = pair.public().ok_or(KeyError::PublicHalf)?;
        Ok(Self { public, comment: Vec::new(), pair })
    }

    /// A signature with its algorithm's name, as SSH writes it; none where the flags ask for an
    /// algorithm that is not safe any more (RSA with SHA-1).
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let (name, signature) = match &self.pair {
            Pair::Ed25519(pair) => ("ssh-ed25519".to_owned(), pair.sign(data).as_ref().to_vec()),
            Pair::Ecdsa(curve, pair) => {
                let signature = pair.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = signature.as_ref().split_at_checked(curve.size)?;
                let mut numbers = Vec::new();
                push_number(&mut numbers, r);
                push_number(&mut numbers, s);
                (format!("ecdsa-sha2-{}", curve.name), numbers)
            }
            Pair::Rsa(pair) => {
                let (name, encoding): (&str, &'static dyn RsaEncoding) = match flags {
                    flags if flags & RSA_SHA2_512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & RSA_SHA2_256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), data, &mut signature).ok()?;
                (name.to_owned(), signature)
            }
        };
        let mut out = Vec::new();
        push_string(&mut out, name.as_bytes());
        push_string(&mut out, &signature);
        Some(out)
    }
}

impl Pair {
    /// The public half as SSH writes it.
    fn public(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match self {
            Self::Ed25519(pair) => {
                push_string(&mut out, b"ssh-ed25519");
                push_string(&mut out, pair.public_key().as_ref());
            }
            Self::Ecdsa(curve, pair) => {
                push_string(&mut out, format!("ecdsa-sha2-{}", curve.name).as_bytes());
                push_string(&mut out, curve.name.as_bytes());
                push_string(&mut out, pair.public_key().as_ref());
            }
            Self::Rsa(pair) => {
                let (modulus, exponent) = der::rsa_public(pair.public_key().as_ref())?;
                push_string(&mut out, b"ssh-rsa");
                push_number(&mut out, exponent);
                push_number(&mut out, modulus);
            }
        }
        Some(out)
    }
}

fn ecdsa(der: &[u8]) -> Option<Pair> {
    let pair = |curve: &'static Curve| {
        let pair = EcdsaKeyPair::from_private_key_der(curve.algorithm, der).ok()?;
        Some(Pair::Ecdsa(curve, pair))
    };
    CURVES.iter().find_map(pair)
}

/// OpenSSH's own format (`PROTOCOL.key`).
fn openssh(bytes: &[u8]) -> Result<PrivateKey, KeyError> {
    let mut fields = Fields(bytes.strip_prefix(b"openssh-key-v1\0").ok_or(KeyError::Damaged)?);
    let mut next = || fields.string().ok_or(KeyError::Damaged);
    let (cipher, _kdf, _options) = (next()?, next()?, next()?);
    if cipher != b"none" {
        return Err(KeyError::Encrypted);
    }
    if fields.number() != Some(1) {
        return Err(KeyError::NotOneKey);
    }
    fields.string().ok_or(KeyError::Damaged)?;
    let mut fields = Fields(fields.string().ok_or(KeyError::Damaged)?);
    if fields.number().ok_or(KeyError::Damaged)? != fields.number().ok_or(KeyError::Damaged)? {
        return Err(KeyError::Damaged);
    }
    let kind = fields.string().ok_or(KeyError::Damaged)?;
    let pair = match kind {
        b"ssh-ed25519" => openssh_ed25519(&mut fields),
        b"ssh-rsa" => openssh_rsa(&mut fields),
        _ if kind.starts_with(b"ecdsa-sha2-") => openssh_ecdsa(&mut fields),
        _ => return Err(KeyError::UnknownKind(String::from_utf8_lossy(kind).into_owned())),
    };
    let pair = pair.ok_or(KeyError::Damaged)?;
    let comment = fields.string().unwrap_or_default().to_vec();
    Ok(PrivateKey { public: pair.public().ok_or(KeyError::Damaged)?, comment, pair })
}

fn openssh_ed25519(fields: &mut Fields<'_>) -> Option<Pair> {
    let public = fields.string()?;
    let seed = fields.string()?.get(..32)?;
    Ed25519KeyPair::from_seed_and_public_key(seed, public).map(Pair::Ed25519).ok()
}

fn openssh_ecdsa(fields: &mut Fields<'_>) -> Option<Pair> {
    let name = fields.string()?;
    let curve = CURVES.iter().find(|curve| curve.name.as_bytes() == name)?;
    let public = fields.string()?;
    let digits = without_zeros(fields.string()?);
    let mut private = vec![0; curve.size.checked_sub(digits.len())?];
    private.extend_from_slice(digits);
    let algorithm = curve.algorithm;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, public).ok()?;
    Some(Pair::Ecdsa(curve, pair))
}

fn openssh_rsa(fields: &mut Fields<'_>) -> Option<Pair> {
    let mut next = || fields.string();
    let (modulus, public, private, inverse) = (next()?, next()?, next()?, next()?);
    let numbers = RsaNumbers { modulus, public, private, inverse, primes: [next()?, next()?] };
    RsaKeyPair::from_der(&numbers.to_der()?).map(Pair::Rsa).ok()
}
