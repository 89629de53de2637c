//! Names of containers.

use std::fmt;
use std::fs::File;
use std::io::Read as _;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The digits of an ID.
const DIGITS: usize = 64;
/// The digits that are shown.
const SHORT: usize = 12;
/// The longest name: a folder's.
const LONGEST_NAME: usize = 255;

/// A container's ID, also an exec's: 64 hexadecimal digits, drawn by chance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Draws an ID.
    ///
    /// # Errors
    /// If there are no random numbers.
    pub fn draw() -> Result<Self, Error> {
        let mut bytes = [0_u8; DIGITS / 2];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut bytes))
            .map_err(Error::file("read", "/dev/urandom"))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Reads a whole ID.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == DIGITS && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    /// All digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, which are shown.
    pub fn short(&self) -> &str {
        &self.0[..SHORT]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an ID has 64 hexadecimal digits")
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

/// The name that a user gives a container, or the first digits of its ID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

impl ContainerName {
    /// Reads a name by docker's rule: a letter or digit, then letters, digits, `_`, `.` and `-`.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let name = text.strip_prefix('/').unwrap_or(text);
        let mut letters = name.bytes();
        let begins = letters.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let goes_on =
            letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        // Docker wants two letters at least.
        if begins && goes_on && (2..=LONGEST_NAME).contains(&name.len()) {
            return Ok(Self(name.to_owned()));
        }
        Err(Error::Name(text.to_owned()))
    }

    /// The name of a container that was given none.
    pub fn of_id(id: &ContainerId) -> Self {
        Self(id.short().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for ContainerName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for text in ["ab", "/web", "a_b.c-1", "0x"] {
            let name = ContainerName::parse(text).unwrap();
            assert_eq!(name.as_str(), text.trim_start_matches('/'));
        }
        for text in ["", "a", "-ab", "a/b", "ä1", "a b", "..", &"x".repeat(256)] {
            assert!(matches!(ContainerName::parse(text), Err(Error::Name(_))), "{text}");
        }
    }

    #[test]
    fn ids_differ_and_are_read_whole() {
        let (one, other) = (ContainerId::draw().unwrap(), ContainerId::draw().unwrap());
        assert_ne!(one, other);
        assert_eq!(ContainerId::parse(one.as_str()), Some(one.clone()));
        assert_eq!((one.as_str().len(), one.short().len()), (64, 12));
        assert_eq!(ContainerId::parse(one.short()), None);
        assert_eq!(ContainerId::parse(&one.as_str().to_uppercase().replace('A', "G")), None);
        assert_eq!(ContainerName::of_id(&one).as_str(), one.short());
    }
}
