//! JSON documents of the format.

use serde::Deserialize;

use crate::Error;

/// Reads a document, which errors name as `what`.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Damaged(format!("its {what} cannot be read: {error}")))
}
