//! Flags of a build that a client asks for: nothing of this machine is read for them, neither its environment nor its
//! files, which are not the client's.

use std::path::Path;

use crate::args::{BuildFlags, FlagContext, FlagError};
use crate::commands::build::{PlanInputs, plan};
use crate::commands::presentation::BuildPlan;
use crate::settings::{Environment, Proxies, Settings};

/// The folder of relative paths; a client names none.
const DIRECTORY: &str = "/";

/// The context in which a client's flags are read, with an empty environment.
pub(super) fn client_context(environment: &Environment) -> FlagContext<'_> {
    FlagContext { environment, directory: Path::new(DIRECTORY), stdout_is_terminal: false }
}

/// Makes a request of a client's flags.
///
/// # Errors
/// If the flags contradict each other.
pub(super) fn client_plan(flags: BuildFlags, settings: &Settings) -> Result<BuildPlan, FlagError> {
    plan(
        flags,
        PlanInputs {
            environment: &Environment::default(),
            settings,
            proxies: &Proxies::default(),
            directory: Path::new(DIRECTORY),
            stdin: &mut || Box::new(std::io::empty()),
        },
    )
}
