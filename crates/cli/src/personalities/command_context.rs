//! The surroundings of another tool's command.

use crate::args::Command;
use crate::render::Report;
use crate::settings::{Environment, Settings};

/// Runs one of kiln's own commands, as `main` does it.
pub type Dispatch = fn(&Command, &Environment, &Settings) -> Result<(), Report>;

/// The surroundings of a command of docker.
pub struct CommandContext {
    /// The environment, with the changes that flags make.
    pub environment: Environment,
    /// The settings read from it.
    pub settings: Settings,
    /// Runs one of kiln's own commands.
    pub dispatch: Dispatch,
}
