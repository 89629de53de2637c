//! Keys by which a client leaves a terminal while the process goes on.

use crate::ApiError;

/// The most keys of a sequence.
const MOST: usize = 16;

/// Looks for a sequence of keys in the input of a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// The keys that have come, and were held back.
    matched: usize,
}

/// Input after the search.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Searched {
    /// The sequence did not come. The bytes go on to the process.
    Input(Vec<u8>),
    /// The sequence came after the bytes.
    Detached(Vec<u8>),
}

impl Default for DetachKeys {
    /// ctrl-p and ctrl-q.
    fn default() -> Self {
        Self { keys: vec![0x10, 0x11], matched: 0 }
    }
}

impl DetachKeys {
    /// Reads keys with commas between them: a character, or `ctrl-` with a letter or one of `@[\]^_`.
    ///
    /// # Errors
    /// If a key is none of these.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let keys: Option<Vec<u8>> = text.split(',').take(MOST + 1).map(key).collect();
        match keys.filter(|keys| keys.len() <= MOST) {
            Some(keys) => Ok(Self { keys, matched: 0 }),
            None => {
                let text: String = text.chars().take(100).collect();
                Err(ApiError::BadRequest(format!("Invalid detach keys ({text}) provided")))
            }
        }
    }

    /// Searches in further input.
    pub(crate) fn search(&mut self, input: &[u8]) -> Searched {
        let mut passed = Vec::with_capacity(input.len() + self.matched);
        for byte in input {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return Searched::Detached(passed);
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(*byte == self.keys[0]);
            if self.matched == 0 {
                passed.push(*byte);
            }
        }
        Searched::Input(passed)
    }
}

fn key(text: &str) -> Option<u8> {
    let single = |text: &str| match text.as_bytes() {
        [byte] if byte.is_ascii() => Some(*byte),
        _ => None,
    };
    match text.strip_prefix("ctrl-") {
        Some(rest) => match single(rest)? {
            letter @ b'a'..=b'z' => Some(letter - b'a' + 1),
            b'@' => Some(0),
            sign @ b'['..=b'_' => Some(sign - b'[' + 27),
            _ => None,
        },
        None => single(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: &[u8]) -> Searched {
        Searched::Input(bytes.to_vec())
    }

    #[test]
    fn keys_are_found_across_pieces_and_nothing_is_lost() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.search(b"ls\n"), input(b"ls\n"));
        assert_eq!(keys.search(b"a\x10"), input(b"a"));
        assert_eq!(keys.search(b"b"), input(b"\x10b"));
        assert_eq!(keys.search(b"\x10\x10"), input(b"\x10"));
        assert_eq!(keys.search(b"\x11rest"), Searched::Detached(Vec::new()));
    }

    #[test]
    fn keys_have_names() {
        let keys = |text: &str| DetachKeys::parse(text).map(|keys| keys.keys);
        assert_eq!(keys("ctrl-p,ctrl-q"), Ok(vec![0x10, 0x11]));
        assert_eq!(keys("ctrl-@,a,ctrl-[,ctrl-_"), Ok(vec![0, b'a', 27, 31]));
        let many = "a,".repeat(20);
        for wrong in ["", "ctrl-", "ctrl-A", "ab", "a,,b", "é", &many] {
            assert!(keys(wrong).is_err(), "{wrong}");
        }
        let mut one = DetachKeys::parse("q").unwrap();
        assert_eq!(one.search(b"abq"), Searched::Detached(b"ab".to_vec()));
    }
}
