//! ONBUILD.

use crate::error::Error;
use crate::flags::Flags;
use crate::lexer::{self, Statement};
use crate::words;

/// The trigger's text, with the bodies of its here-documents.
pub(crate) fn onbuild(statement: &Statement, escape: char) -> Result<String, Error> {
    if statement.rest.is_empty() {
        return Err("ONBUILD requires at least one argument".into());
    }
    Flags::parse(&statement.flags, &[])?;
    let inner = lexer::split(&statement.rest, escape);
    match inner.keyword.to_uppercase().as_str() {
        "ONBUILD" => {
            return Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into());
        }
        keyword @ ("MAINTAINER" | "FROM") => {
            return Err(format!("{keyword} isn't allowed as an ONBUILD trigger").into());
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
