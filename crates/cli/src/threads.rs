//! Work that waits for the network and for programs, and can be interrupted.

use std::future::Future;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::render::{INTERRUPTED, Report};

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
    let interrupted = watch_signals()?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = work => Some(result),
            () = interrupted => None,
        }
    });
    // Threads may still read from the network for work that was given up: shutting down would make
    // them panic. They end with the process.
    std::mem::forget(runtime);
    Ok(result)
}

/// The end of work that the user ended.
pub fn canceled() -> Report {
    Report { interrupted: true, ..Report::from("canceled".to_owned()) }
}

/// Ctrl-C, or the end of the job: ready at the first. The second ends the process where it stands,
/// as does the first once the work is over. A thread of its own watches: cleaning up can block.
///
/// # Errors
/// If there is no thread for it, or signals cannot be caught.
fn watch_signals() -> Result<impl Future<Output = ()>, Report> {
    let failed = |error: std::io::Error| format!("watching for signals: {error}");
    let runtime = Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _guard = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(failed)?,
            signal(SignalKind::terminate()).map_err(failed)?,
        )
    };
    let (sender, receiver) = oneshot::channel();
    let watch = async move {
        let mut sender = Some(sender);
        loop {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
            }
            if sender.take().is_none_or(|sender| sender.send(()).is_err()) {
                std::process::exit(INTERRUPTED.into());
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(watch))
        .map_err(failed)?;
    Ok(async {
        if receiver.await.is_err() {
            // The watch never ends before the process.
            std::future::pending().await
        }
    })
}
