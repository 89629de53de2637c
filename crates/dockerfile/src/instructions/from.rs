//! FROM.

use crate::error::Error;
use crate::flags::{FlagKind, Flags};
use crate::go;
use crate::instruction::FromInstruction;
use crate::lexer::Statement;
use crate::words;

pub(crate) fn from(statement: &Statement) -> Result<FromInstruction, Error> {
    let words = words::split(&statement.rest);
    let (base, name) = match &words[..] {
        [base] => (base, None),
        [base, word, name] if word.eq_ignore_ascii_case("as") => (base, Some(stage_name(name)?)),
        _ => {
            return Err(Error::new("FROM requires either one or three arguments")
                .word(&statement.rest)
                .hint("write FROM IMAGE or FROM IMAGE AS NAME"));
        }
    };
    let flags = Flags::parse(&statement.flags, &[("platform", FlagKind::Text)])?;
    let platform = flags.optional("platform").filter(|text| !text.is_empty());
    Ok(FromInstruction { base: base.clone(), name, platform })
}

fn stage_name(name: &str) -> Result<String, Error> {
    let lower = name.to_lowercase();
    let fits = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    match fits {
        true => Ok(lower),
        false => Err(Error::new(format!(
            "invalid name for build stage: {}, name can't start with a number or contain symbols",
            go::quote(name)
        ))
        .last_word(name)
        .hint("a name begins with a letter; letters, digits, `-`, `_` and `.` follow")),
    }
}
