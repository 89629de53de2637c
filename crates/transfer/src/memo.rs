//! Computes each value once; later callers wait for the first.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

/// Values by key. Failures are not kept: the next caller tries again.
pub(crate) struct Memo<K, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq, V: Clone> Memo<K, V> {
    /// The value of `key`, computed by `make` if there is none yet.
    pub(crate) async fn get<E, F: Future<Output = Result<V, E>>>(
        &self,
        key: K,
        make: impl FnOnce() -> F,
    ) -> Result<V, E> {
        let cell =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
        // Boxed to keep the nesting of future types within the compiler's limits.
        cell.get_or_try_init(|| Box::pin(make())).await.cloned()
    }
}
