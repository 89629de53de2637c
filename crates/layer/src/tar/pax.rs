//! PAX extended headers: records of the form `LENGTH KEY=VALUE\n`. Values are binary: they end
//! after the given length, not at a newline.

use std::collections::BTreeMap;

use crate::Time;

/// Prefix of extended attributes (star's, also GNU tar's and Go's).
pub const XATTR: &[u8] = b"SCHILY.xattr.";

/// The values of one entry's records.
#[derive(Default)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link_path: Option<Vec<u8>>,
    pub size: Option<i64>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub mtime: Option<Time>,
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    pub sparse: PaxSparse,
}

/// GNU tar's sparse files, in its formats 0.0, 0.1 and 1.0.
#[derive(Default)]
pub struct PaxSparse {
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<i64>,
    /// Offsets and lengths, alternating.
    pub map: Vec<i64>,
}

/// The fault of a PAX header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaxError {
    /// A record is not `LENGTH KEY=VALUE\n`.
    #[error("malformed PAX record")]
    Malformed,
    /// The name of an extended attribute is empty, too long, or has a zero byte.
    #[error("PAX record with an impossible attribute name")]
    AttributeName,
    /// A number is not decimal, or too large.
    #[error("PAX record with a bad number")]
    Number,
    /// A time is not decimal.
    #[error("PAX record with a bad time")]
    Time,
    /// A sparse map is not a list of numbers.
    #[error("PAX record with a bad sparse map")]
    SparseMap,
    /// A path has a zero byte.
    #[error("PAX path with a zero byte")]
    ZeroByte,
}

impl Pax {
    /// Reads all records of a header. With an empty value, the header's own field counts.
    pub fn parse(mut data: &[u8]) -> Result<Self, PaxError> {
        let mut pax = Self::default();
        while !data.is_empty() {
            let (key, value, rest) = record(data).ok_or(PaxError::Malformed)?;
            pax.set(key, value)?;
            data = rest;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), PaxError> {
        if let Some(name) = key.strip_prefix(XATTR) {
            // The kernel takes no longer names (xattr(7)).
            if name.is_empty() || name.len() > 255 || name.contains(&0) {
                return Err(PaxError::AttributeName);
            }
            self.xattrs.insert(name.into(), value.into());
            return Ok(());
        }
        let number = || parse_decimal(value).map(Some).ok_or(PaxError::Number);
        match key {
            _ if value.is_empty() => {}
            b"path" => self.path = Some(text(value)?),
            b"linkpath" => self.link_path = Some(text(value)?),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => {
                self.mtime = Some(parse_time(value).ok_or(PaxError::Time)?);
            }
            b"GNU.sparse.major" => self.sparse.major = number()?,
            b"GNU.sparse.minor" => self.sparse.minor = number()?,
            b"GNU.sparse.name" => self.sparse.name = Some(text(value)?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = number()?,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.map.extend(number()?),
            b"GNU.sparse.map" => {
                self.sparse.map = value
                    .split(|byte| *byte == b',')
                    .map(parse_decimal)
                    .collect::<Option<_>>()
                    .ok_or(PaxError::SparseMap)?;
            }
            // Names of users, comments, other times, character sets and vendors' keys are no part
            // of an entry; Go's reader ignores them too.
            _ => {}
        }
        Ok(())
    }
}

/// Takes the first record: key, value, rest.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let digits = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(parse_decimal(&data[..digits])?).ok()?;
    let record = data.get(digits + 1..length)?;
    let (newline, record) = record.split_last()?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (*newline == b'\n' && !key.is_empty() && !key.contains(&0)).then_some((
        key,
        value,
        &data[length..],
    ))
}

fn text(value: &[u8]) -> Result<Vec<u8>, PaxError> {
    if value.contains(&0) { Err(PaxError::ZeroByte) } else { Ok(value.to_vec()) }
}

/// Parses digits only, if the number fits. A minus, which only owners and times could have, is not
/// accepted.
pub fn parse_decimal(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Parses a time of PAX: an optional minus, seconds, and an optional fraction, of which nanoseconds
/// are kept.
fn parse_time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = parse_decimal(parts.next()?)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().map(|digit| u32::from(digit - b'0'));
    let nanos = digits.chain(std::iter::repeat(0)).take(9).fold(0, |sum, digit| sum * 10 + digit);
    Some(match (negative, nanos) {
        (false, nanos) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos: 0 },
        (true, nanos) => Time { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// Formats a time as Go's archive/tar writes it into a record.
pub fn format_time(time: Time) -> String {
    if time.nanos == 0 {
        return time.seconds.to_string();
    }
    let (sign, seconds, nanos) = if time.seconds < 0 {
        ("-", -(time.seconds + 1), 1_000_000_000 - time.nanos)
    } else {
        ("", time.seconds, time.nanos)
    };
    format!("{sign}{seconds}.{nanos:09}").trim_end_matches('0').to_owned()
}

/// Adds a record. Its length includes the digits of the length itself.
pub fn put_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |number: usize| number.to_string().len();
    let mut length = rest + digits(rest);
    if rest + digits(length) != length {
        length = rest + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_binary_values() {
        let value = b"\x01\0\0\x02\x0a\x0a=7\n\0";
        let mut data = Vec::new();
        put_record(&mut data, b"SCHILY.xattr.security.capability", value);
        put_record(&mut data, b"path", "ö".as_bytes());
        let pax = Pax::parse(&data).unwrap();
        assert_eq!(&**pax.xattrs.get(&b"security.capability"[..]).unwrap(), value);
        assert_eq!(pax.path.as_deref(), Some("ö".as_bytes()));
    }

    #[test]
    fn the_length_counts_itself() {
        for size in 0..1200 {
            let mut data = Vec::new();
            put_record(&mut data, b"k", &vec![b'v'; size]);
            let text = String::from_utf8(data.clone()).unwrap();
            assert_eq!(text.split(' ').next().unwrap(), data.len().to_string());
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for data in [
            &b"5 a=b"[..],
            b"6 a=b",
            b"6 ab\n",
            b"7 =bc\n",
            b"99999999999999999999 a=b\n",
            b"x a=b\n",
            b"2 a=b\n",
            b"0 \n",
            b"12 path=a\0b\n",
            b"11 mtime=x\n",
        ] {
            assert!(Pax::parse(data).is_err(), "{}", data.escape_ascii());
        }
    }

    #[test]
    fn times_read_as_they_write() {
        for (text, time) in [
            ("1", Time { seconds: 1, nanos: 0 }),
            ("1.5", Time { seconds: 1, nanos: 500_000_000 }),
            ("-1.5", Time { seconds: -2, nanos: 500_000_000 }),
            ("-0.000000001", Time { seconds: -1, nanos: 999_999_999 }),
            ("-3", Time { seconds: -3, nanos: 0 }),
        ] {
            assert_eq!(parse_time(text.as_bytes()), Some(time), "{text}");
            assert_eq!(format_time(time), text);
        }
        assert_eq!(parse_time(b"1.1234567899").unwrap().nanos, 123_456_789);
        assert!(parse_time(b"1.x").is_none() && parse_time(b"--1").is_none());
    }
}
