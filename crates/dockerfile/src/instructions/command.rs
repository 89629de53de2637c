//! CMD, ENTRYPOINT, SHELL.

use crate::error::Error;
use crate::flags::Flags;
use crate::instruction::CommandLine;
use crate::lexer::Statement;
use crate::words;

/// The shell form is one text, the exec form a JSON array.
pub(crate) fn line(text: &str) -> Result<CommandLine, Error> {
    Ok(match words::json_array(text)? {
        Some(words) => CommandLine { words, shell: false },
        None if text.is_empty() => CommandLine { words: Vec::new(), shell: true },
        None => CommandLine { words: vec![text.into()], shell: true },
    })
}

pub(crate) fn command(statement: &Statement) -> Result<CommandLine, Error> {
    Flags::parse(&statement.flags, &[])?;
    line(&statement.rest)
}

const SHELL_FORM: &str = "write SHELL [\"/bin/bash\", \"-c\"]: a JSON array of words";

pub(crate) fn shell(statement: &Statement) -> Result<Vec<String>, Error> {
    Flags::parse(&statement.flags, &[])?;
    let line = line(&statement.rest)?;
    match (line.words.is_empty(), line.shell) {
        (true, _) => Err(Error::new("SHELL requires at least one argument").hint(SHELL_FORM)),
        (false, true) => Err(Error::new("SHELL requires the arguments to be in JSON form")
            .word(&statement.rest)
            .hint(SHELL_FORM)),
        (false, false) => Ok(line.words),
    }
}
