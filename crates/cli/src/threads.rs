//! Work that waits for the network and for programs, and can be interrupted.

use std::future::Future;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::render::Report;

/// Runs a future to its end; none if the user ended it before.
///
/// # Errors
/// If there are no threads for it.
pub fn finish<T>(work: impl Future<Output = T>) -> Result<Option<T>, Report> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(4 << 20)
        .enable_all()
        .build()
        .map_err(|error| format!("starting threads: {error}"))?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = work => Some(result),
            () = interrupted() => None,
        }
    });
    runtime.shutdown_background();
    Ok(result)
}

/// The end of work that the user ended.
pub fn canceled() -> Report {
    Report { interrupted: true, ..Report::from("canceled".to_owned()) }
}

/// Ctrl-C, or the end of the job.
async fn interrupted() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => (),
        () = wait(SignalKind::terminate()) => (),
    }
}
