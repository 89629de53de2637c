//! RUN.

use graph::{Network, Security};

use crate::error::Error;
use crate::flags::{FlagKind, Flags};
use crate::go;
use crate::instruction::RunInstruction;
use crate::instructions::{command, mount};
use crate::lexer::Statement;

const FLAGS: [(&str, FlagKind); 3] =
    [("mount", FlagKind::List), ("network", FlagKind::Text), ("security", FlagKind::Text)];

const DEVICES: &str = "devices are of BuildKit's labs syntax, and steps get none: \
     do what needs one outside of the build";

pub(crate) fn run(statement: &Statement) -> Result<RunInstruction, Error> {
    let flags = Flags::parse(&statement.flags, &FLAGS).map_err(|error| {
        match error.message == "unknown flag: --device" {
            true => error.hint(DEVICES),
            false => error,
        }
    })?;
    let command = command::line(&statement.rest)?;
    if !statement.heredocs.is_empty() && command.words.len() != 1 {
        return Err(
            Error::new("RUN takes a heredoc only in its shell form").hint("leave the brackets out")
        );
    }
    let mounts = flags.list("mount").iter().map(|text| mount::read(text)).collect::<Result<_, _>>();
    let network = match flags.optional("network").as_deref() {
        None | Some("default") => Network::Default,
        Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => {
            return Err(Error::new(format!("invalid network mode {}", go::quote(other)))
                .suggest(other, ["default", "none", "host"])
                .word(other)
                .or_hint(|| "it is default, none or host".into()));
        }
    };
    let security = match flags.optional("security").as_deref() {
        None | Some("sandbox") => Security::Sandbox,
        Some("insecure") => Security::Insecure,
        Some(other) => {
            return Err(Error::new(format!("security {} is not valid", go::quote(other)))
                .suggest(other, ["sandbox", "insecure"])
                .word(other)
                .or_hint(|| "it is sandbox or insecure".into()));
        }
    };
    Ok(RunInstruction {
        command,
        heredocs: statement.heredocs.clone(),
        mounts: mounts?,
        network,
        security,
    })
}
