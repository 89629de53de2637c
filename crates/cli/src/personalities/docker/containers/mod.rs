//! Containers without a service: `docker run`, `create`, `cp`, `rm` and the like, in this process.
//!
//! Flags become the body that docker's client sends ([`body`]), which the engine's own reader judges, so that a service
//! and this command take and refuse the same. State is kept in kiln's root. What a container needs while it runs is this
//! process, so nothing runs behind it: that takes `kiln serve`.

mod body;
mod copy;
mod lists;
mod local_archive;
mod rows;
mod run;
mod state;
mod terminal_mode;

use std::future::Future;

use ::engine::ApiError;

use crate::personalities::command_context::CommandContext;
use crate::render::Report;
use crate::serve::containers::{LocalContainers, of_user};

pub use lists::inspect_any;
pub use rows::CONTAINER_COMMANDS;

/// The exit code of docker's commands for containers that fail before the container does.
const FAILED: u8 = 125;

/// Does some work with the containers of the root.
fn with_containers<T, F: Future<Output = Result<T, Report>>>(
    context: &CommandContext,
    work: impl FnOnce(LocalContainers) -> F,
) -> Result<T, Report> {
    let containers = of_user(&context.settings, &context.environment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(4 << 20)
        .enable_all()
        .build()
        .map_err(|error| format!("starting threads: {error}"))?;
    let result = runtime.block_on(work(containers));
    // A thread may still read standard input.
    runtime.shutdown_background();
    result
}

/// The report of an error about a container.
fn report(error: ApiError) -> Report {
    Report::from(error.to_string())
}
