//! The records of a build, in the shape of a cache.

use std::collections::{BTreeSet, HashMap, HashSet};

use graph::StepId;
use layer::Chain;
use oci::{Descriptor, Digest};
use solve::StepFacts;

use super::plan::{CachePlan, Day, RecordDraft, RecordInputs};
use super::{CacheContents, order};

/// The outputs that a cache keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// The layers of the result; records of all steps.
    #[default]
    Min,
    /// The layers of all steps.
    Max,
}

/// The records of a build, ready to be written.
#[derive(Clone, Debug)]
pub struct Export {
    plan: CachePlan,
    /// Indexes into the plan's records, each after those that it links to.
    order: Vec<usize>,
    /// Chain IDs of the layers that this build made, or did not find where a cache promised them.
    remade: HashSet<Digest>,
    /// The day of the build, counted from 1970.
    today: Option<Day>,
}

impl Export {
    /// Makes a record of each step whose inputs are all known: its inputs by each of their keys, and
    /// its output if the mode keeps it. A build has a result for each platform.
    pub fn new(steps: &[StepFacts<Chain>], results: &[Chain], mode: CacheMode) -> Self {
        let kept = KeptOutputs::new(results, mode);
        let mut plan = CachePlan::default();
        let mut of_step: HashMap<StepId, Vec<usize>> = HashMap::new();
        let nothing_known =
            |digest| RecordDraft { digest, inputs: Vec::new(), output: None, used: None };
        for step in steps {
            let inputs: RecordInputs = step
                .inputs
                .iter()
                .map(|input| {
                    let by_record = of_step.get(&input.step).into_iter().flatten();
                    let mut links: BTreeSet<_> =
                        by_record.map(|record| (input.selector, *record)).collect();
                    let contents = input.contents.iter();
                    links.extend(
                        contents.map(|content| (None, plan.insert(nothing_known(*content)))),
                    );
                    links
                })
                .collect();
            if inputs.iter().any(BTreeSet::is_empty) {
                continue;
            }
            // A source is found by its key alone; a cache of its layers would serve nothing.
            let output =
                step.output.as_ref().filter(|output| !step.inputs.is_empty() && kept.keeps(output));
            let output = output.filter(|output| !output.is_empty()).map(|output| {
                let created = output.top().and_then(|layer| layer.created.clone());
                (output, created.unwrap_or_default())
            });
            for digest in &step.digests {
                let (inputs, output) = (inputs.clone(), output.clone());
                let record =
                    plan.insert(RecordDraft { digest: *digest, inputs, output, used: None });
                of_step.entry(step.id).or_default().push(record);
            }
        }
        let made =
            steps.iter().filter(|step| step.ran).filter_map(|step| step.output.as_ref()?.id());
        let remade = made.chain(steps.iter().flat_map(renewed)).collect();
        Self { order: plan.order(), remade, plan, today: None }
    }

    /// The records of another cache.
    pub(crate) fn of_plan(plan: CachePlan) -> Self {
        Self { order: plan.order(), plan, remade: HashSet::new(), today: None }
    }

    /// Marks the records as used on a day, counted from 1970, by which unused ones are pruned.
    #[must_use]
    pub fn used_on(mut self, day: u32) -> Self {
        self.today = Some(day);
        self
    }

    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.plan.records.is_empty()
    }

    /// The contents of a cache with these records alone; `blob` gives the blob of a chain's top layer.
    pub(crate) fn contents(&self, blob: impl Fn(&Chain) -> Descriptor) -> CacheContents {
        let chains = self.plan.chains();
        let blobs = chains.iter().filter_map(|chain| Some((chain.id()?, blob(chain)))).collect();
        order::contents(&self.plan, &blobs)
    }

    /// The chain IDs of the layers that replace those that are there: at the first attempt all that this build made or
    /// renewed, for what is known of them may be wrong, and those whose blobs are missing at every attempt.
    pub(crate) fn replaced(
        &self,
        there: &CachePlan,
        is_first: bool,
        missing: &BTreeSet<Digest>,
    ) -> HashSet<Digest> {
        let mut replaced = if is_first { self.remade.clone() } else { HashSet::new() };
        // Nearly never: layers are missing only where a registry has refused a manifest.
        if !missing.is_empty() {
            let is_missing = |id: &Digest| {
                let blob = there.layer(*id).and_then(|layer| layer.blob.as_ref());
                blob.is_some_and(|blob| missing.contains(&blob.digest))
            };
            let own = self.plan.chains();
            replaced.extend(own.iter().filter_map(Chain::id).filter(is_missing));
        }
        replaced
    }

    /// Adds the records to those that are there, and replaces these layers. The plan knows what changed.
    pub(crate) fn add_to(&self, there: &mut CachePlan, replaced: &HashSet<Digest>) {
        let mut at = vec![0; self.plan.records.len()];
        for chain in self.plan.chains() {
            there.keep_chain(&chain, replaced);
        }
        let chains: HashMap<Digest, Chain> =
            self.plan.chains().into_iter().filter_map(|chain| Some((chain.id()?, chain))).collect();
        for index in self.order.iter().copied() {
            let record = &self.plan.records[index];
            let inputs = record
                .inputs
                .iter()
                .map(|links| links.iter().map(|(selector, to)| (*selector, at[*to])).collect());
            let output = record.output.as_ref();
            at[index] = there.insert(RecordDraft {
                digest: record.digest,
                inputs: inputs.collect(),
                output: output.and_then(|(id, created)| Some((chains.get(id)?, created.clone()))),
                used: self.today.or(record.used),
            });
        }
    }

    /// True if this build describes a layer; descriptions of others stay unchanged.
    pub(crate) fn has_chain(&self, id: Digest) -> bool {
        self.plan.layer(id).is_some()
    }

    pub(crate) fn today(&self) -> Option<Day> {
        self.today
    }
}

/// The chain IDs of a step's layers that were not where a record promised them.
fn renewed(step: &StepFacts<Chain>) -> Vec<Digest> {
    let mut found = Vec::new();
    let mut at = step.output.as_ref().filter(|_| !step.renewed.is_empty());
    while let Some(chain) = at
        && let Some(top) = chain.top()
    {
        found.extend(chain.id().filter(|_| step.renewed.contains(&top.diff_id)));
        at = chain.below();
    }
    found
}

/// The outputs that a mode keeps.
enum KeptOutputs {
    All,
    Chains(BTreeSet<Digest>),
}

impl KeptOutputs {
    fn new(results: &[Chain], mode: CacheMode) -> Self {
        if mode == CacheMode::Max {
            return Self::All;
        }
        let mut ids = BTreeSet::new();
        for result in results {
            let mut at = Some(result);
            while let Some(chain) = at {
                ids.extend(chain.id());
                at = chain.below();
            }
        }
        Self::Chains(ids)
    }

    fn keeps(&self, chain: &Chain) -> bool {
        match self {
            Self::All => true,
            Self::Chains(ids) => chain.id().is_some_and(|id| ids.contains(&id)),
        }
    }
}
