//! ONBUILD.

use crate::error::Error;
use crate::flags::Flags;
use crate::lexer::{self, Statement};
use crate::words;

/// The trigger's text, with the bodies of its here-documents.
pub(crate) fn onbuild(statement: &Statement, escape: char) -> Result<String, Error> {
    if statement.rest.is_empty() {
        return Err(
            Error::new("ONBUILD requires at least one argument").hint("as in ONBUILD RUN make")
        );
    }
    Flags::parse(&statement.flags, &[])?;
    let inner = lexer::split(&statement.rest, escape);
    match inner.keyword.to_uppercase().as_str() {
        "ONBUILD" => {
            return Err(Error::new("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
                .last_word(inner.keyword)
                .hint("triggers run in images built on this one, and not in those built on them"));
        }
        keyword @ ("MAINTAINER" | "FROM") => {
            return Err(Error::new(format!("{keyword} isn't allowed as an ONBUILD trigger"))
                .word(inner.keyword.clone())
                .hint("all other instructions are"));
        }
        "ENV" | "LABEL" => {
            super::variables::pairs(&inner, &inner.keyword.to_uppercase(), escape)?;
        }
        "ADD" | "CMD" | "COPY" | "ENTRYPOINT" | "RUN" | "SHELL" | "VOLUME" => {
            words::json_array(&inner.rest)?;
        }
        _ => {}
    }
    let (_, text) = words::cut(&statement.text).unwrap_or_default();
    let mut text = text.to_owned();
    for heredoc in &statement.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(text)
}
