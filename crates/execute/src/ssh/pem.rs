//! The armour of key files (RFC 7468, and what came before it).

use base64::Engine as _;

use super::error::KeyError;

/// A key file's kind, as `OPENSSH PRIVATE KEY`, and its bytes.
pub(super) struct Armoured {
    pub(super) kind: String,
    pub(super) bytes: Vec<u8>,
}

/// Reads the first armoured part of a text.
///
/// # Errors
/// If there is none, it is damaged, or a passphrase is needed for it.
pub(super) fn read(text: &[u8]) -> Result<Armoured, KeyError> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::trim);
    let kind = lines
        .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .ok_or(KeyError::NotArmoured)?;
    let end = format!("-----END {kind}-----");
    let mut digits = String::new();
    let mut ended = false;
    for line in lines {
        if line == end {
            ended = true;
            break;
        }
        match line.split_once(':') {
            Some(("Proc-Type", value)) if value.contains("ENCRYPTED") => {
                return Err(KeyError::Encrypted);
            }
            Some(_) => (),
            None => digits.push_str(line),
        }
    }
    if kind == "ENCRYPTED PRIVATE KEY" {
        return Err(KeyError::Encrypted);
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(digits);
    match (ended, bytes) {
        (true, Ok(bytes)) => Ok(Armoured { kind: kind.to_owned(), bytes }),
        _ => Err(KeyError::Damaged),
    }
}
