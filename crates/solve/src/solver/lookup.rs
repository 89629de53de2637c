//! Lookups for a step: its records, their outputs, the contents that it reads.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use graph::{Operation, StepId};
use jiff::Timestamp;
use oci::Digest;
use tokio::sync::OnceCell;

use super::{Job, Result, SolveError, Solver};
use crate::{
    Cache, Executor, FoundOutput, InputFacts, Link, NewRecord, RecordId, StepKey, content_record,
};

/// The answer to "what is your key?".
pub(super) struct Known<C> {
    /// Records that match.
    pub(super) records: BTreeSet<RecordId>,
    /// Their outputs, newest first.
    pub(super) found: Vec<(RecordId, FoundOutput<C>)>,
}

/// Why keys find no record of a step.
enum NoLink<F> {
    /// None leads there from one of its inputs.
    None,
    /// A file of the user's cannot be read.
    Failed(F),
}

impl<E, C> Solver<'_, E, C>
where
    E: Executor,
    C: Cache<Chain = E::Chain>,
{
    /// The records that match a step.
    pub(super) async fn known(&self, id: StepId) -> Arc<Known<E::Chain>> {
        self.ask(Job::LookUp(id));
        self.cells(id).known.wait().await.clone()
    }

    /// The records that match a step without anything being made.
    async fn keyed(&self, id: StepId) -> Arc<Known<E::Chain>> {
        self.ask(Job::LookUpKeys(id));
        self.cells(id).keyed.wait().await.clone()
    }

    /// The records that match by keys alone. A record without a result leads on to those above it,
    /// so that a result reachable by keys is found before any content is computed.
    pub(super) async fn look_up_keys(&self, id: StepId) -> Result<Arc<Known<E::Chain>>, E> {
        let step = self.graph.step(id);
        if step.inputs.is_empty() {
            return self.look_up_source(id).await.map(Arc::new);
        }
        let linked = (0..step.inputs.len()).map(|index| self.linked_by_key(id, index));
        let known = match try_join_all(linked).await {
            Ok(linked) => {
                let records = intersection(&linked);
                let found = self.found(&records);
                Known { records, found }
            }
            Err(NoLink::None) => Known { records: BTreeSet::new(), found: Vec::new() },
            Err(NoLink::Failed(error)) => return Err(error),
        };
        if !known.records.is_empty() {
            self.keep(id, &known);
        }
        self.log(id, &known, "looked up by keys");
        Ok(Arc::new(known))
    }

    async fn linked_by_key(
        &self,
        id: StepId,
        index: usize,
    ) -> std::result::Result<BTreeSet<RecordId>, NoLink<SolveError<E::Error>>> {
        let (input, key) = (self.graph.step(id).inputs[index], &self.cells(id).key);
        let mut linked = BTreeSet::new();
        if self.offers_keys(input) {
            let parents = self.keyed(input).await;
            let parents = parents.records.iter().copied();
            linked = self.links(key, index, parents, key.inputs[index].selector);
        }
        if linked.is_empty() && self.is_at_hand(input) {
            self.learn_content(id, index).await.map_err(NoLink::Failed)?;
            linked = self.linked_by_content(id, index);
        }
        // The other inputs do not matter: no record can match.
        if linked.is_empty() { Err(NoLink::None) } else { Ok(linked) }
    }

    async fn look_up_source(&self, id: StepId) -> Result<Known<E::Chain>, E> {
        self.ask_source(id).await?;
        let digests = self.cells(id).digests();
        let mut records: BTreeSet<RecordId> =
            digests.iter().flat_map(|digest| self.cache.roots(*digest)).collect();
        // Roots are made when they are asked for: others link to them.
        for digest in digests {
            records.insert(self.cache.save(NewRecord {
                digest: *digest,
                inputs: Vec::new(),
                output: None,
            }));
        }
        Ok(Known { records, found: Vec::new() })
    }

    pub(super) async fn look_up(&self, id: StepId) -> Result<Arc<Known<E::Chain>>, E> {
        let step = self.graph.step(id);
        let key = &self.cells(id).key;
        let keyed = self.keyed(id).await;
        if step.inputs.is_empty() || !keyed.found.is_empty() && !step.ignore_cache {
            return Ok(keyed);
        }
        let learned = OnceCell::new();
        let linked_of = async |index: usize| {
            let input = step.inputs[index];
            let known = self.known(input).await;
            let is_offered = self.offers_keys(input);
            let parents = known.records.iter().copied().filter(|_| is_offered);
            let linked = self.links(key, index, parents, key.inputs[index].selector);
            if linked.is_empty() || step.ignore_cache {
                // No record can match by keys alone. The contents are needed, and what makes them
                // does not wait for the keys of other inputs: stages build side by side.
                learned.get_or_try_init(|| self.learn_contents(id)).await?;
            }
            Ok(linked)
        };
        let mut linked = try_join_all((0..step.inputs.len()).map(linked_of)).await?;
        let mut records = intersection(&linked);
        let mut found = self.found(&records);
        if found.is_empty() || step.ignore_cache {
            self.learn_contents(id).await?;
            for (index, linked) in linked.iter_mut().enumerate() {
                linked.extend(self.linked_by_content(id, index));
            }
            records = intersection(&linked);
            found = self.found(&records);
        }
        let known = Known { records, found };
        self.keep(id, &known);
        self.log(id, &known, "looked up by contents");
        Ok(Arc::new(known))
    }

    fn log(&self, id: StepId, known: &Known<E::Chain>, message: &str) {
        let (name, key) = (&self.graph.step(id).name, self.cells(id).digests().first());
        let (records, outputs) = (known.records.len(), known.found.len());
        tracing::debug!(
            id = id.0,
            name,
            key = key.map(tracing::field::display),
            records,
            outputs,
            "{message}"
        );
    }

    /// A step above one that runs again may not use old records: its key depends on the new output
    /// (BuildKit, `solver/edge.go`: an edge that ignores the cache offers no keys).
    pub(super) fn offers_keys(&self, id: StepId) -> bool {
        !self.graph.step(id).ignore_cache
    }

    /// Files that the user gives: nothing has to be made or moved to read them.
    fn is_at_hand(&self, id: StepId) -> bool {
        matches!(self.graph.step(id).operation, Operation::Local(_))
    }

    /// Records that an input's content leads to, if that is known.
    pub(super) fn linked_by_content(&self, id: StepId, index: usize) -> BTreeSet<RecordId> {
        let cells = self.cells(id);
        let roots = cells.content(index).map(|content| self.cache.roots(content));
        self.links(&cells.key, index, roots.into_iter().flatten(), None)
    }

    pub(super) fn links(
        &self,
        key: &StepKey,
        input: usize,
        parents: impl Iterator<Item = RecordId>,
        selector: Option<Digest>,
    ) -> BTreeSet<RecordId> {
        let parents: Vec<RecordId> = parents.collect();
        let pairs = key
            .digests
            .iter()
            .flat_map(|digest| parents.iter().map(move |parent| (*digest, *parent)));
        let today =
            pairs.flat_map(|(digest, parent)| self.cache.linked(parent, digest, input, selector));
        // Records of this machine are stored under the current digest.
        let elsewhere = parents.iter().filter(|parent| !parent.is_local());
        let old = key.old.into_iter().flat_map(|digest| {
            let linked = move |parent: RecordId| {
                let part = selector.map(|_| self.cache.linked(parent, digest, input, selector));
                let whole = self.cache.linked(parent, digest, input, None);
                whole.into_iter().chain(part.unwrap_or_default())
            };
            elsewhere.clone().flat_map(move |parent| linked(*parent))
        });
        today.chain(old).collect()
    }

    pub(super) fn found(
        &self,
        records: &BTreeSet<RecordId>,
    ) -> Vec<(RecordId, FoundOutput<E::Chain>)> {
        // This machine's records come first in the set, so they win a tie.
        let outputs = |record: &RecordId| {
            let record = *record;
            self.cache.results(record).into_iter().map(move |found| (record, found))
        };
        let mut found: Vec<_> = records.iter().flat_map(outputs).collect();
        found.sort_by_cached_key(|(_, found)| Reverse(found.created.parse::<Timestamp>().ok()));
        found
    }

    /// Says that a step was found, and keeps what other sources know of it: its output, or at
    /// least the record, which leads to those of the steps above.
    fn keep(&self, id: StepId, known: &Known<E::Chain>) {
        let newest = known.found.first().map(|(_, found)| found);
        if let Some(found) = newest
            && !self.graph.step(id).ignore_cache
        {
            self.tell_cached(id, &found.source);
        }
        let is_here = match newest {
            Some(_) => known.found.iter().any(|(record, _)| record.is_local()),
            None => known.records.iter().all(|record| record.is_local()),
        };
        if !is_here || self.has_new_links(id) {
            let output = newest.map(|found| found.chain.clone());
            self.save(id, output, Some(&self.informants(id, known, newest)));
        }
    }

    /// The records that can say what was read for an output: those that have it. A record with
    /// another one may have read something else. Without an output, those that say the same.
    pub(super) fn informants(
        &self,
        id: StepId,
        known: &Known<E::Chain>,
        used: Option<&FoundOutput<E::Chain>>,
    ) -> BTreeSet<RecordId> {
        let Some(used) = used else {
            let inputs = self.graph.step(id).inputs.len();
            let said = |record: &RecordId| -> Vec<Vec<Digest>> {
                (0..inputs).map(|input| self.cache.content_links(*record, input)).collect()
            };
            let mut said = known.records.iter().map(said).filter(|said| !said.concat().is_empty());
            let first = said.next();
            return match said.all(|other| Some(other) == first) {
                true => known.records.clone(),
                false => BTreeSet::new(),
            };
        };
        let same = known.found.iter().filter(|(_, found)| found.created == used.created);
        same.map(|(record, _)| *record).collect()
    }

    /// True if contents were computed of inputs that have records: a link from those records saves
    /// the computation next time.
    fn has_new_links(&self, id: StepId) -> bool {
        let cells = self.cells(id);
        self.graph.step(id).inputs.iter().enumerate().any(|(index, input)| {
            cells.content(index).is_some() && !self.local_records(*input).is_empty()
        })
    }

    /// Computes the contents that count for a step's key.
    pub(super) async fn learn_contents(&self, id: StepId) -> Result<(), E> {
        let inputs =
            self.cells(id).key.inputs.iter().enumerate().filter(|(_, key)| key.content.is_some());
        try_join_all(inputs.map(|(index, _)| self.learn_content(id, index))).await.map(drop)
    }

    async fn learn_content(&self, id: StepId, index: usize) -> Result<(), E> {
        let step = self.graph.step(id);
        let cells = self.cells(id);
        let Some(query) = &cells.key.inputs[index].content else { return Ok(()) };
        let input = step.inputs[index];
        if self.surveys.load(Ordering::Relaxed) && !self.is_at_hand(input) {
            return Ok(());
        }
        let content = |output: E::Output| {
            async move { self.executor.content(input, &output, query).await }.boxed()
        };
        let compute = || async {
            let (_, content) = self.with_bytes(input, id, content).await?;
            Ok(content_record(content))
        };
        cells.content_cell(index).get_or_try_init(compute).await.map(drop)
    }

    /// Keeps a record of a step on this machine. `records` are those that match the step.
    pub(super) fn save(
        &self,
        id: StepId,
        output: Option<E::Chain>,
        records: Option<&BTreeSet<RecordId>>,
    ) {
        let cells = self.cells(id);
        let inputs: Vec<Vec<Link>> = self
            .input_facts(id, records)
            .into_iter()
            .map(|input| self.local_links(&input))
            .collect();
        // A record with an input that nothing leads to would never match.
        if inputs.iter().any(Vec::is_empty) {
            return;
        }
        for digest in cells.digests() {
            let record = self.cache.save(NewRecord {
                digest: *digest,
                inputs: inputs.clone(),
                output: output.clone(),
            });
            cells.saved.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        }
    }

    fn local_links(&self, input: &InputFacts) -> Vec<Link> {
        let records = self.local_records(input.step).into_iter();
        let records = records.map(|record| Link::Record { record, selector: input.selector });
        records.chain(input.contents.iter().copied().map(Link::Content)).collect()
    }

    /// Records of a step that this machine has, found or made.
    pub(super) fn local_records(&self, id: StepId) -> BTreeSet<RecordId> {
        let cells = self.cells(id);
        let known = cells.best_known().into_iter().flat_map(|known| known.records.iter().copied());
        let saved = cells.saved.lock().unwrap_or_else(PoisonError::into_inner);
        known.chain(saved.iter().copied()).filter(|record| record.is_local()).collect()
    }

    /// The known keys of a step's inputs. Contents that were not computed are taken from `records`,
    /// which match the step.
    pub(super) fn input_facts(
        &self,
        id: StepId,
        records: Option<&BTreeSet<RecordId>>,
    ) -> Vec<InputFacts> {
        let step = self.graph.step(id);
        let cells = self.cells(id);
        let facts = |(index, input): (usize, &StepId)| {
            let key = &cells.key.inputs[index];
            let mut contents: BTreeSet<Digest> = cells.read_content(index).into_iter().collect();
            if key.content.is_some()
                && contents.is_empty()
                && let Some(records) = records
            {
                let links = |record: &RecordId| self.cache.content_links(*record, index);
                contents.extend(records.iter().flat_map(links));
            }
            InputFacts {
                step: *input,
                selector: key.selector,
                content: key.content.clone(),
                contents: contents.into_iter().collect(),
            }
        };
        step.inputs.iter().enumerate().map(facts).collect()
    }
}

/// Records that are in all sets.
pub(super) fn intersection(sets: &[BTreeSet<RecordId>]) -> BTreeSet<RecordId> {
    let Some((first, rest)) = sets.split_first() else { return BTreeSet::new() };
    first.iter().filter(|record| rest.iter().all(|set| set.contains(record))).copied().collect()
}
