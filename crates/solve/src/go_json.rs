//! JSON as Go's `encoding/json` writes it: no white space, and `<`, `>`, `&`, U+2028 and U+2029 as
//! `\u` escapes. Cache keys are digests of such texts.

use std::io;

use serde::Serialize;

/// A value as Go writes it.
pub(crate) fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, GoFormatter);
    value
        .serialize(&mut serializer)
        .expect("writing to memory does not fail, and all map keys are texts");
    out
}

struct GoFormatter;

impl serde_json::ser::Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let special = rest[at..].chars().next().expect("`find` found a character here");
            write!(writer, "\\u{:04x}", u32::from(special))?;
            rest = &rest[at + special.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn special_characters_are_escaped_as_in_go() {
        let text = super::to_vec(&"a<b>&\u{2028}\"\\\n\t\u{8}\u{1}\u{7f}é");
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "\"a\\u003cb\\u003e\\u0026\\u2028\\\"\\\\\\n\\t\\b\\u0001\u{7f}é\""
        );
    }
}
