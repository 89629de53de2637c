//! Waiting for an entry that another task adds.

use std::time::Duration;

use tokio::sync::watch;

/// A count of changes, for tasks that wait for one.
#[derive(Debug)]
pub(crate) struct ChangeSignal(watch::Sender<u64>);

impl Default for ChangeSignal {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl ChangeSignal {
    /// Wakes the tasks that wait.
    pub(crate) fn note(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// Looks for an entry now and after each change; none if the time is over before it comes.
    pub(crate) async fn wait_for<T>(
        &self,
        time: Duration,
        find: impl Fn() -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.0.subscribe();
        let found = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = find() {
                    return Some(found);
                }
                if changes.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(time, found).await.ok().flatten()
    }
}
