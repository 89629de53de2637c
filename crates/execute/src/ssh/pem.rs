//! The armour of key files (RFC 7468, and what came before it).

use base64::Engine as _;

/// A key file's kind, as `OPENSSH PRIVATE KEY`, and its bytes.
pub(super) struct Armoured {
    pub(super) kind: String,
    pub(super) bytes: Vec<u8>,
}

/// Reads the first armoured part of a text.
///
/// # Errors
/// A sentence, if there is none or a passphrase is needed for it.
pub(super) fn read(text: &[u8]) -> Result<Armoured, String> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::trim);
    let kind = lines
        .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .ok_or("it is neither an agent's socket nor a private key")?;
    let end = format!("-----END {kind}-----");
    let mut digits = String::new();
    let mut ended = false;
    for line in lines {
        if line == end {
            ended = true;
            break;
        }
        match line.split_once(':') {
            Some(("Proc-Type", value)) if value.contains("ENCRYPTED") => return Err(encrypted()),
            Some(_) => (),
            None => digits.push_str(line),
        }
    }
    if kind == "ENCRYPTED PRIVATE KEY" {
        return Err(encrypted());
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(digits);
    match (ended, bytes) {
        (true, Ok(bytes)) => Ok(Armoured { kind: kind.to_owned(), bytes }),
        _ => Err("the private key is damaged".into()),
    }
}

/// The message for a key with a passphrase.
pub(super) fn encrypted() -> String {
    "the private key has a passphrase, and kiln asks for none; add it to an agent (ssh-add) and \
     give the agent's socket"
        .into()
}
