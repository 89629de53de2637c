//! The records of a build, as a cache is to hold them.

use std::collections::{BTreeSet, HashMap, HashSet};

use graph::StepId;
use oci::{Descriptor, Digest};
use solve::StepFacts;
use store::Chain;

use crate::order;
use crate::place::Contents;
use crate::plan::{Day, Inputs, NewRecord, Plan};
use crate::prune::Pruned;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The layers of the result; records of all steps.
    Min,
    /// The layers of all steps.
    Max,
}

/// The records of a build, ready to be written.
#[derive(Clone, Debug)]
pub struct Export {
    plan: Plan,
    /// Records of the build, each after those that it links to.
    order: Vec<usize>,
    /// Chain IDs of the layers that this build made, or did not find where a cache promised them.
    remade: HashSet<Digest>,
    /// The day of the build, counted from 1970.
    today: Option<Day>,
}

/// A cache that was written.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Its manifest; its config where the place has no manifest.
    pub descriptor: Descriptor,
    /// What the user should know.
    pub notes: Vec<String>,
    /// How many records it has.
    pub records: usize,
    /// What went to make room.
    pub pruned: Option<Pruned>,
}

impl Export {
    /// One record for each step that records can have: its inputs by every key that is known of
    /// them, its output where the mode keeps it. A build for several platforms has as many results.
    pub fn new(steps: &[StepFacts<Chain>], results: &[Chain], mode: Mode) -> Self {
        let kept = Kept::new(results, mode);
        let mut plan = Plan::default();
        let mut of_step: HashMap<StepId, Vec<usize>> = HashMap::new();
        let nothing_known =
            |digest| NewRecord { digest, inputs: Vec::new(), output: None, used: None };
        for step in steps {
            let inputs: Inputs = step
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
            // A source is found again by its key alone, so its layers are not kept for it.
            let output =
                step.output.as_ref().filter(|output| !step.inputs.is_empty() && kept.keeps(output));
            let output = output.filter(|output| !output.is_empty()).map(|output| {
                let created = output.top().and_then(|layer| layer.created.clone());
                (output, created.unwrap_or_default())
            });
            for digest in &step.digests {
                let (inputs, output) = (inputs.clone(), output.clone());
                let record = plan.insert(NewRecord { digest: *digest, inputs, output, used: None });
                of_step.entry(step.id).or_default().push(record);
            }
        }
        let made =
            steps.iter().filter(|step| step.ran).filter_map(|step| step.output.as_ref()?.id());
        let remade = made.chain(steps.iter().flat_map(renewed)).collect();
        Self { order: plan.order(), remade, plan, today: None }
    }

    /// Records that another cache has.
    pub(crate) fn of_plan(plan: Plan) -> Self {
        Self { order: plan.order(), plan, remade: HashSet::new(), today: None }
    }

    /// The same, as used on a day, counted from 1970: records that are never used make room.
    #[must_use]
    pub fn used_on(mut self, day: u32) -> Self {
        self.today = Some(day);
        self
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.plan.records.is_empty()
    }

    /// The records alone, and layers as `blob` describes the highest one of a chain.
    pub(crate) fn contents(&self, blob: impl Fn(&Chain) -> Descriptor) -> Contents {
        let chains = self.plan.chains();
        let blobs = chains.iter().filter_map(|chain| Some((chain.id()?, blob(chain)))).collect();
        order::contents(&self.plan, &blobs)
    }

    /// The chain IDs of the layers that replace those that are there: at the first attempt all that this build made or
    /// renewed, for what is known of them may be wrong, and those whose blobs are missing at every attempt.
    pub(crate) fn replaced(
        &self,
        there: &Plan,
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
    pub(crate) fn add_to(&self, there: &mut Plan, replaced: &HashSet<Digest>) {
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
            at[index] = there.insert(NewRecord {
                digest: record.digest,
                inputs: inputs.collect(),
                output: output.and_then(|(id, created)| Some((chains.get(id)?, created.clone()))),
                used: self.today.or(record.used),
            });
        }
    }

    /// Whether a layer is this build's to describe; others stay as they are.
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

/// Which outputs a mode keeps.
enum Kept {
    All,
    Chains(BTreeSet<Digest>),
}

impl Kept {
    fn new(results: &[Chain], mode: Mode) -> Self {
        if mode == Mode::Max {
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
