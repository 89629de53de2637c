//! All records as one cache for the solver.

use std::sync::{Arc, Mutex};

use layer::Chain;
use oci::Digest;
use solve::{Cache, FoundOutput, NewRecord, RecordId};

use crate::{LocalRecords, RecordSet};

/// The records of this machine and of imported caches.
pub struct Caches {
    local: LocalRecords,
    imported: Vec<Arc<RecordSet>>,
    /// The first fault of the local tables.
    fault: Mutex<Option<String>>,
}

impl Caches {
    /// Takes local records and imported ones, the latter in the order in which they are asked.
    pub fn new(local: LocalRecords, imported: Vec<Arc<RecordSet>>) -> Self {
        Self { local, imported, fault: Mutex::default() }
    }

    /// The first fault of the local tables, if there was one. The build went on without them.
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn here<T: Default>(&self, result: Result<T, store::Error>) -> T {
        result.unwrap_or_else(|error| {
            self.fault
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .get_or_insert_with(|| error.to_string());
            T::default()
        })
    }

    fn set(&self, record: RecordId) -> Option<(&RecordSet, usize)> {
        let set = self.imported.get(usize::from(record.source).checked_sub(1)?)?;
        Some((set, usize::try_from(record.number).ok()?))
    }

    fn ids(source: usize, numbers: &[usize]) -> impl Iterator<Item = RecordId> {
        // Sources are values of a command line, records are entries of a bounded document.
        let source = u16::try_from(source + 1).unwrap_or(u16::MAX);
        numbers.iter().filter_map(move |number| {
            Some(RecordId { source, number: i64::try_from(*number).ok()? })
        })
    }
}

impl Cache for Caches {
    type Chain = Chain;

    fn roots(&self, digest: Digest) -> Vec<RecordId> {
        let local = self.here(self.local.root(digest)).map(|number| RecordId { source: 0, number });
        let imported = self
            .imported
            .iter()
            .enumerate()
            .flat_map(|(source, set)| Self::ids(source, set.roots(digest)));
        local.into_iter().chain(imported).collect()
    }

    fn linked(
        &self,
        parent: RecordId,
        digest: Digest,
        input: usize,
        selector: Option<Digest>,
    ) -> Vec<RecordId> {
        if parent.is_local() {
            let numbers = self.here(self.local.linked(parent.number, digest, input, selector));
            return numbers.into_iter().map(|number| RecordId { source: 0, number }).collect();
        }
        match self.set(parent) {
            Some((set, number)) => Self::ids(
                usize::from(parent.source) - 1,
                set.linked(number, digest, input, selector),
            )
            .collect(),
            None => Vec::new(),
        }
    }

    fn results(&self, record: RecordId) -> Vec<FoundOutput<Chain>> {
        match (record.is_local(), self.set(record)) {
            (true, _) => self.here(self.local.results(record.number)),
            (false, Some((set, number))) => set.results(number),
            (false, None) => Vec::new(),
        }
    }

    fn content_links(&self, record: RecordId, input: usize) -> Vec<Digest> {
        match (record.is_local(), self.set(record)) {
            (true, _) => self.here(self.local.content_links(record.number, input)),
            (false, Some((set, number))) => set.content_links(number, input),
            (false, None) => Vec::new(),
        }
    }

    fn save(&self, record: NewRecord<Chain>) -> RecordId {
        RecordId { source: 0, number: self.here(self.local.save(&record)) }
    }
}
