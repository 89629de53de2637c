//! Percent signs in addresses (RFC 3986, section 2.1).

/// Resolves `%41` and the like. Percent signs without two digits stay.
pub fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(code) if byte == b'%' => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

/// Encodes all but unreserved characters (RFC 3986, section 2.3) and those of `kept`.
pub(crate) fn encode(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let is_unreserved =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        if is_unreserved || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Encodes a value of a query, as Go's `url.QueryEscape`.
pub fn query_escape(text: &str) -> String {
    encode(text, b" ").replace(' ', "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_encoded_and_decoded() {
        assert_eq!(query_escape("a b+c~é/%"), "a+b%2Bc~%C3%A9%2F%25");
        assert_eq!(encode("a b:c", b":"), "a%20b:c");
        assert_eq!(decode("%41b%2f%zz%4"), b"Ab/%zz%4");
    }
}
