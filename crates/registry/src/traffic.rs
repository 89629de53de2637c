//! Requests and bytes, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a client and its clones, which add to them at the same time.
#[derive(Default)]
pub(crate) struct Counters {
    pub requests: AtomicU64,
    pub bytes_down: AtomicU64,
    pub bytes_up: AtomicU64,
}

/// Requests and bytes of a client and its clones so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests sent, those for tokens and repeated ones included.
    pub requests: u64,
    /// Bytes of bodies received.
    pub bytes_down: u64,
    /// Bytes of bodies sent.
    pub bytes_up: u64,
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            requests: self.requests.load(Ordering::Relaxed),
            bytes_down: self.bytes_down.load(Ordering::Relaxed),
            bytes_up: self.bytes_up.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn add(&self, traffic: Stats) {
        self.requests.fetch_add(traffic.requests, Ordering::Relaxed);
        self.bytes_down.fetch_add(traffic.bytes_down, Ordering::Relaxed);
        self.bytes_up.fetch_add(traffic.bytes_up, Ordering::Relaxed);
    }
}
