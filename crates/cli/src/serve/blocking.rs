//! Threads for work that may block.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinError;

/// The error of work that did not come to its end. Each API has its own words for it.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkError {
    /// It panicked.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Its caller gave up.
    #[error("canceled")]
    Canceled,
}

/// Runs work that may block.
///
/// # Errors
/// Those of the work, and one if it panics.
pub(super) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<WorkError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(WorkError::Join)?
}

/// Runs a future on a thread of its own, where it may block, and drops it when the caller gives up.
///
/// # Errors
/// Those of [`blocking`].
pub(super) async fn on_thread<T, E, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<WorkError> + Send + 'static,
    F: Future<Output = Result<T, E>>,
{
    // Dropped with this future.
    let (_guard, given_up) = oneshot::channel::<()>();
    let threads = Handle::current();
    let run = move || {
        threads.block_on(async {
            tokio::select! {
                result = work() => result,
                _ = given_up => Err(WorkError::Canceled.into()),
            }
        })
    };
    blocking(run).await
}
