//! ARG, ENV, LABEL.

use crate::error::Error;
use crate::flags::Flags;
use crate::go;
use crate::lexer::Statement;
use crate::words;

const NO_BLANKS: &str = "write NAME=VALUE without blanks around `=`";

pub(crate) fn arg(
    statement: &Statement,
    escape: char,
) -> Result<Vec<(String, Option<String>)>, Error> {
    Flags::parse(&statement.flags, &[])?;
    let words = words::split_quoted(&statement.rest, escape);
    if words.is_empty() {
        return Err(Error::new("ARG requires at least one argument")
            .hint("write ARG NAME or ARG NAME=DEFAULT"));
    }
    let arguments = words.into_iter().map(|word| match word.split_once('=') {
        Some(("", _)) => Err(Error::new("ARG names can not be blank").word(&word).hint(NO_BLANKS)),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((word, None)),
    });
    arguments.collect()
}

/// `name=value` words, or the old form `name rest of the line`.
pub(crate) fn pairs(
    statement: &Statement,
    keyword: &str,
    escape: char,
) -> Result<Vec<(String, String)>, Error> {
    Flags::parse(&statement.flags, &[])?;
    let words = words::split_quoted(&statement.rest, escape);
    let Some(first) = words.first() else {
        return Err(Error::new(format!("{keyword} requires at least one argument"))
            .hint(format!("write {keyword} NAME=VALUE")));
    };
    if !first.contains('=') {
        return match words::cut(&statement.rest) {
            Some((name, value)) => Ok(vec![(name.into(), value.into())]),
            None => Err(Error::new(format!("{keyword} must have two arguments"))
                .word(first)
                .hint(format!("write {keyword} {first}=VALUE"))),
        };
    }
    let pairs = words.iter().map(|word| match word.split_once('=') {
        Some(("", _)) => {
            Err(Error::new(format!("{keyword} names can not be blank")).word(word).hint(NO_BLANKS))
        }
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(Error::new(format!(
            "Syntax error - can't find = in {}. Must be of the form: name=value",
            go::quote(word)
        ))
        .word(word)
        .hint("put quotes around a value that has blanks")),
    });
    pairs.collect()
}
