//! Functions of UUIDs.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::Value;

use crate::BakeError;
use crate::error::invalid;
use crate::value::text;

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
    Some(match (name, arguments) {
        ("uuidv4", []) => random_uuid().map(Value::from),
        ("uuidv5", [namespace, name]) => named_uuid(namespace, name).map(Value::from),
        ("uuidv4" | "uuidv5", _) => Err(invalid!("it does not take {} arguments", arguments.len())),
        _ => return None,
    })
}

fn random_uuid() -> Result<String, BakeError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| invalid!("there are no random numbers"))?;
    Ok(uuid(bytes, 4))
}

/// The namespaces of RFC 9562, which differ in one byte.
const NAMESPACES: [(&str, u8); 4] = [("dns", 0x10), ("url", 0x11), ("oid", 0x12), ("x500", 0x14)];

fn named_uuid(namespace: &Value, name: &Value) -> Result<String, BakeError> {
    let (namespace, name) = (text(namespace)?, text(name)?);
    let known = NAMESPACES.iter().find(|(known, _)| *known == namespace);
    let mut bytes = match known {
        Some((_, byte)) => {
            let mut bytes = 0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8_u128.to_be_bytes();
            bytes[3] = *byte;
            bytes
        }
        None => parse_uuid(&namespace)
            .ok_or_else(|| invalid!("`{namespace}` is neither dns, url, oid, x500 nor a UUID"))?,
    }
    .to_vec();
    bytes.extend(name.as_bytes());
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &bytes);
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_ref()[..16]);
    Ok(uuid(short, 5))
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    if groups != [8, 4, 4, 4, 12] {
        return None;
    }
    let digits = text.replace('-', "");
    let fits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)).flatten()
}

/// Bytes as a UUID of a version.
fn uuid(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = bytes[6] & 0x0f | version << 4;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let group = |from: usize, to: usize| &digits[from..to];
    [group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn called(name: &str, arguments: Value) -> Result<Value, BakeError> {
        super::call(name, arguments.as_array().unwrap()).unwrap()
    }

    #[test]
    fn ids_of_names_are_those_of_the_rfc() {
        for namespace in ["dns", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"] {
            let id = called("uuidv5", json!([namespace, "www.example.com"])).unwrap();
            assert_eq!(id, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
        }
        assert!(called("uuidv5", json!(["nope", "x"])).is_err());
        assert!(called("uuidv4", json!(["x"])).is_err());
    }

    #[test]
    fn random_ids_are_of_version_four() {
        let (one, other) = (called("uuidv4", json!([])), called("uuidv4", json!([])));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_ne!(one, other);
        let one = one.as_str().unwrap();
        assert!(one.len() == 36 && one.as_bytes()[14] == b'4', "{one}");
        assert!(matches!(one.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{one}");
    }
}
