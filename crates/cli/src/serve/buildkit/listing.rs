//! The use of the disk, in BuildKit's words: kiln's store, and the contexts of clients.

use std::time::{Duration, SystemTime};

use build::images::{self, DiskEntry, DiskFilter, DiskKind, Limits, PruneRequest};
use service::{Contexts, KeptContext, PruneOptions, SolveError, UsageFilter, UsageRecord};
use store::Store;

use super::failed;
use crate::args::disk_filter;

/// BuildKit's kind of a client's context.
const CONTEXT: &str = "source.local";

/// A selection of entries.
struct Selection {
    /// Of the store; none if only contexts are wanted.
    store: Option<DiskFilter>,
    /// True if contexts are wanted.
    contexts: bool,
    /// Only those unused for so long.
    unused_for: Option<Duration>,
}

impl Selection {
    fn read(filter: &UsageFilter) -> Result<Self, SolveError> {
        let is_context = |text: &&String| {
            text.strip_prefix("type=").is_some_and(|kind| kind.trim_start_matches('=') == CONTEXT)
        };
        let given = filter.filters.iter().filter(|text| !text.is_empty());
        let (contexts, others): (Vec<&String>, Vec<&String>) = given.partition(is_context);
        let others: Vec<String> = others.into_iter().cloned().collect();
        let mut store =
            disk_filter(&others).map_err(|error| SolveError::refused(error.to_string()))?;
        store.unused_for = filter.unused_for.or(store.unused_for);
        Ok(Self {
            contexts: store.kind.is_none(),
            unused_for: store.unused_for,
            store: contexts.is_empty().then_some(store),
        })
    }

    /// The contexts that fit.
    fn contexts(&self, contexts: &Contexts) -> Result<Vec<KeptContext>, SolveError> {
        if !self.contexts {
            return Ok(Vec::new());
        }
        let mut kept = contexts.list().map_err(failed)?;
        let is_old = |context: &KeptContext, age: Duration| {
            context.used.elapsed().is_ok_and(|unused| unused >= age)
        };
        kept.retain(|context| self.unused_for.is_none_or(|age| is_old(context, age)));
        Ok(kept)
    }
}

/// The entries that take room.
///
/// # Errors
/// If a filter is unknown, or the store cannot be read.
pub(super) fn usage(
    store: &Store,
    contexts: &Contexts,
    filter: &UsageFilter,
) -> Result<Vec<UsageRecord>, SolveError> {
    let selection = Selection::read(filter)?;
    let mut records = Vec::new();
    if let Some(filter) = &selection.store {
        let now = jiff::Timestamp::now().as_millisecond();
        let entries = images::usage(store).map_err(failed)?;
        records.extend(entries.iter().filter(|entry| filter.fits(entry, now)).map(record));
    }
    records.extend(selection.contexts(contexts)?.iter().map(context_record));
    Ok(records)
}

/// Removes what is not needed. Contexts have limits of their own: those of a request are the
/// store's.
///
/// # Errors
/// If a filter is unknown, or something cannot be removed.
pub(super) fn prune(
    store: &Store,
    contexts: &Contexts,
    options: &PruneOptions,
) -> Result<Vec<UsageRecord>, SolveError> {
    let selection = Selection::read(&options.filter)?;
    let limits = Limits {
        max_used: options.max_used,
        min_free: options.min_free,
        reserved: options.reserved,
    };
    let mut records = Vec::new();
    if limits == Limits::default() {
        for context in selection.contexts(contexts)? {
            if contexts.remove(&context).map_err(failed)? {
                records.push(context_record(&context));
            }
        }
    }
    if let Some(filter) = selection.store {
        let request = PruneRequest { all: options.all, limits, filter };
        records.extend(images::prune(store, request).map_err(failed)?.iter().map(record));
    }
    Ok(records)
}

fn record(entry: &DiskEntry) -> UsageRecord {
    let kind = match entry.kind {
        DiskKind::Blob | DiskKind::Layer => "regular",
        DiskKind::Index => "internal",
        DiskKind::CacheMount => "exec.cachemount",
    };
    let description = match entry.description.as_str() {
        "" => entry.kind.to_string(),
        description => format!("{} of {description}", entry.kind),
    };
    let since = Duration::from_millis(u64::try_from(entry.last_used).unwrap_or(0));
    UsageRecord {
        id: entry.id.clone(),
        kind: kind.into(),
        size: entry.size,
        is_mutable: entry.kind == DiskKind::CacheMount,
        is_in_use: !entry.reclaimable,
        last_used: SystemTime::UNIX_EPOCH + since,
        description,
    }
}

fn context_record(context: &KeptContext) -> UsageRecord {
    UsageRecord {
        id: context.id.clone(),
        kind: CONTEXT.into(),
        size: context.size,
        is_mutable: true,
        is_in_use: false,
        last_used: context.used,
        description: "context of a client".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(filters: &[&str]) -> Result<(bool, bool), String> {
        let filters = filters.iter().map(|text| (*text).to_owned()).collect();
        let read = Selection::read(&UsageFilter { filters, unused_for: None });
        read.map(|read| (read.store.is_some(), read.contexts)).map_err(|error| error.message)
    }

    #[test]
    fn filters_select_the_store_or_contexts() {
        assert_eq!(read(&[]), Ok((true, true)));
        assert_eq!(read(&[""]), Ok((true, true)));
        assert_eq!(read(&["until=24h"]), Ok((true, true)));
        assert_eq!(read(&["type==exec.cachemount"]), Ok((true, false)));
        assert_eq!(read(&["type==source.local"]), Ok((false, true)));
        assert!(read(&["shared=true"]).unwrap_err().contains("shared=true"));
    }
}
