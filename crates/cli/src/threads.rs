//! Work that waits for the network and for programs, and can be interrupted.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::render::{CommandError, INTERRUPTED, Report};
use crate::terminal;

/// The time that interrupted work has to stop. After it, work that waits for a disk, a pipe or a
/// program that does not answer is abandoned: init processes end with kiln and put back what they
/// have moved, and the next build removes unfinished files in the root.
const GRACE: Duration = Duration::from_millis(1500);

/// Runs a future to its end; none if the user interrupted it.
///
/// # Errors
/// If threads cannot be started, or signals cannot be caught.
pub fn finish<T>(work: impl Future<Output = T>) -> Result<Option<T>, Report> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(4 << 20)
        .enable_all()
        .build()
        .map_err(|error| format!("starting threads: {error}"))?;
    watch_signals()?;
    let interrupted = interruption();
    let result = runtime.block_on(async {
        tokio::select! {
            result = work => Some(result),
            () = interrupted => None,
        }
    });
    // Threads may still read from the network for abandoned work, and a shutdown would make them
    // panic. They end with the process.
    std::mem::forget(runtime);
    Ok(result)
}

/// The report of interrupted work.
pub fn canceled() -> Report {
    Report { interrupted: true, ..Report::from("canceled".to_owned()) }
}

/// The channel to the current work, which is told of a signal.
static WORK: Mutex<Option<oneshot::Sender<()>>> = Mutex::new(None);

fn work() -> std::sync::MutexGuard<'static, Option<oneshot::Sender<()>>> {
    WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Completes when the user interrupts the work that begins now.
fn interruption() -> impl Future<Output = ()> {
    let (sender, receiver) = oneshot::channel();
    *work() = Some(sender);
    async {
        if receiver.await.is_err() {
            // Other work has begun.
            std::future::pending().await
        }
    }
}

/// Signals cannot be watched.
#[derive(Clone, Debug, thiserror::Error)]
#[error("watching for signals: {0}")]
struct SignalError(#[source] Arc<std::io::Error>);

impl CommandError for SignalError {}

/// Starts to watch for SIGINT and SIGTERM, once. The current work is told of a signal and has a
/// moment to stop; the process ends after that, at a second signal, or at once if there is no work.
/// A thread of its own watches, since reading and cleaning up can block. Also needed as process 1
/// of a container, which the kernel does not end by a signal that it does not catch.
///
/// # Errors
/// If the thread cannot be started, or signals cannot be caught.
pub fn watch_signals() -> Result<(), Report> {
    static WATCH: OnceLock<Result<(), SignalError>> = OnceLock::new();
    let watch = WATCH.get_or_init(|| start_watch().map_err(|error| SignalError(Arc::new(error))));
    Ok(watch.clone()?)
}

fn start_watch() -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let (mut interrupt, mut terminate) = {
        let _guard = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let watch = async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
            }
        };
        next().await;
        let told = work().take().is_some_and(|work| work.send(()).is_ok());
        if told {
            tokio::select! {
                () = next() => (),
                () = tokio::time::sleep(GRACE) => (),
            }
        }
        // A line of progress may be half written, and the cursor hidden.
        terminal::say(if terminal::stderr_is_terminal() { "\x1b[?25h\n" } else { "\n" });
        terminal::say("ERROR: canceled\n");
        std::process::exit(INTERRUPTED.into());
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(watch))
        .map(drop)
}
