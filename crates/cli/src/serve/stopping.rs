//! The end of a service: signals, idleness, connections that still work.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The time between two returns of memory: builds that follow each other use the same pages.
const MEMORY_PAUSE: Duration = Duration::from_secs(10);

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn watch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one of them.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }
}

/// The number of connections, and their end. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    count: Arc<watch::Sender<usize>>,
    draining: Arc<watch::Sender<bool>>,
    ending: Arc<watch::Sender<bool>>,
}

impl Default for Activity {
    fn default() -> Self {
        let flag = || Arc::new(watch::Sender::new(false));
        Self { count: Arc::new(watch::Sender::new(0)), draining: flag(), ending: flag() }
    }
}

impl Activity {
    /// Counts a connection as long as the guard lives.
    pub(super) fn begin(&self) -> ActivityGuard {
        self.count.send_modify(|count| *count += 1);
        ActivityGuard(self.count.clone())
    }

    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Has each connection end after the request that it serves.
    pub(super) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Has each connection end.
    pub(super) fn give_up(&self) {
        self.ending.send_replace(true);
    }

    /// Becomes true when connections end after the request that they serve.
    pub(super) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Completes when all connections are given up.
    pub(super) async fn given_up(&self) {
        drop(self.ending.subscribe().wait_for(|ending| *ending).await);
    }

    /// Completes when there is no connection.
    pub(super) async fn ended(&self) {
        drop(self.count.subscribe().wait_for(|count| *count == 0).await);
    }

    /// Returns memory that connections no longer use to the kernel, some time after one begins or ends. Never
    /// completes.
    pub(super) async fn keep_memory_small(&self) {
        let mut count = self.count.subscribe();
        while count.changed().await.is_ok() {
            tokio::time::sleep(MEMORY_PAUSE).await;
            count.mark_unchanged();
            // It ends with the process.
            let _ = tokio::task::spawn_blocking(runtime::return_free_memory).await;
        }
    }

    /// Completes when there was no connection for so long; never without a time.
    pub(super) async fn is_idle_for(&self, time: Option<Duration>) {
        let Some(time) = time else { return pending().await };
        let mut count = self.count.subscribe();
        loop {
            drop(count.wait_for(|count| *count == 0).await);
            let busy = count.wait_for(|count| *count > 0);
            if tokio::time::timeout(time, busy).await.is_err() {
                return;
            }
        }
    }
}

/// A connection that counts.
#[derive(Debug)]
pub(super) struct ActivityGuard(Arc<watch::Sender<usize>>);

impl Drop for ActivityGuard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_is_idle_when_no_connection_is_left() {
        let activity = Activity::default();
        let guard = activity.begin();
        let idle = activity.clone();
        let task =
            tokio::spawn(async move { idle.is_idle_for(Some(Duration::from_millis(50))).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!task.is_finished());
        drop(guard);
        tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
        let never = activity.is_idle_for(None);
        assert!(tokio::time::timeout(Duration::from_millis(50), never).await.is_err());
    }
}
