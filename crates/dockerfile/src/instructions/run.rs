//! RUN.

use graph::{Network, Security};

use crate::error::Error;
use crate::flags::{Flags, Kind};
use crate::go;
use crate::instruction::RunInstruction;
use crate::instructions::{command, mount};
use crate::lexer::Statement;

const FLAGS: [(&str, Kind); 3] =
    [("mount", Kind::List), ("network", Kind::Text), ("security", Kind::Text)];

pub(crate) fn run(statement: &Statement) -> Result<RunInstruction, Error> {
    let flags = Flags::parse(&statement.flags, &FLAGS)?;
    let command = command::line(&statement.rest)?;
    if !statement.heredocs.is_empty() && command.words.len() != 1 {
        return Err("RUN takes a heredoc only in its shell form".into());
    }
    let mounts = flags.list("mount").iter().map(|text| mount::read(text)).collect::<Result<_, _>>();
    let network = match flags.optional("network").as_deref() {
        None | Some("default") => Network::Default,
        Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => {
            return Err(Error::new(format!("invalid network mode {}", go::quote(other)))
                .suggest(other, ["default", "none", "host"]));
        }
    };
    let security = match flags.optional("security").as_deref() {
        None | Some("sandbox") => Security::Sandbox,
        Some("insecure") => Security::Insecure,
        Some(other) => {
            return Err(Error::new(format!("security {} is not valid", go::quote(other)))
                .suggest(other, ["sandbox", "insecure"]));
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
