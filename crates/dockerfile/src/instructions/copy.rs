//! COPY and ADD.

use crate::error::Error;
use crate::flags::{FlagKind, Flags};
use crate::heredoc;
use crate::instruction::CopyInstruction;
use crate::lexer::Statement;
use crate::words;

pub(crate) fn add(statement: &Statement) -> Result<CopyInstruction, Error> {
    let (places, flags) = parts(
        statement,
        "ADD",
        &[
            ("chown", FlagKind::Text),
            ("chmod", FlagKind::Text),
            ("link", FlagKind::Bool),
            ("keep-git-dir", FlagKind::Bool),
            ("checksum", FlagKind::Text),
            ("unpack", FlagKind::Bool),
            ("exclude", FlagKind::List),
        ],
    )?;
    Ok(CopyInstruction {
        keep_git_dir: flags.bool("keep-git-dir"),
        checksum: flags.text("checksum"),
        unpack: flags.bool("unpack"),
        ..places
    })
}

pub(crate) fn copy(statement: &Statement) -> Result<CopyInstruction, Error> {
    let (places, flags) = parts(
        statement,
        "COPY",
        &[
            ("chown", FlagKind::Text),
            ("from", FlagKind::Text),
            ("chmod", FlagKind::Text),
            ("link", FlagKind::Bool),
            ("exclude", FlagKind::List),
            ("parents", FlagKind::Bool),
        ],
    )?;
    Ok(CopyInstruction {
        from: flags.optional("from").filter(|from| !from.is_empty()),
        parents: flags.bool("parents").unwrap_or_default(),
        ..places
    })
}

/// Sources, destination and the flags that both have.
fn parts(
    statement: &Statement,
    keyword: &str,
    known: &[(&'static str, FlagKind)],
) -> Result<(CopyInstruction, Flags), Error> {
    let mut words = match words::json_array(&statement.rest)? {
        Some(words) => words,
        None => words::split(&statement.rest),
    };
    if words.len() < 2 {
        return Err(Error::new(format!(
            "{keyword} requires at least two arguments, but only one was provided. \
             Destination could not be determined"
        ))
        .hint(format!("write {keyword} SOURCE DESTINATION, as in `{keyword} . /app/`")));
    }
    let flags = Flags::parse(&statement.flags, known)?;
    let destination = words.pop().unwrap_or_default();
    if heredoc::from_word(&destination).is_ok_and(|found| found.is_some()) {
        return Err(Error::new(format!("{keyword} cannot accept a heredoc as a destination"))
            .last_word(destination)
            .hint("the destination is the last word"));
    }
    let mut parts = CopyInstruction {
        destination,
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.bool("link").unwrap_or_default(),
        exclude: flags.list("exclude"),
        ..CopyInstruction::default()
    };
    for word in words {
        match heredoc::from_word(&word).ok().flatten() {
            Some(mut found) => {
                // The last one of a name counts.
                let bodies = statement.heredocs.iter().rev();
                if let Some(body) = bodies.into_iter().find(|body| body.name == found.name) {
                    found.content.clone_from(&body.content);
                }
                found.content = found.text();
                parts.inline.push(found);
            }
            None => parts.sources.push(word),
        }
    }
    Ok((parts, flags))
}
