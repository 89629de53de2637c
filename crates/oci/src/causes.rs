//! The text of an error with its causes.

use std::error::Error;
use std::fmt::Write as _;

/// An error with its causes, in one line. A cause that a message ends with is not said again.
pub fn chain_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}
