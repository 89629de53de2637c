//! Steps that other builds on this machine run at the same time.

use graph::{MountKind, Operation, RunOp, StepId};
use oci::{Digest, Hasher};

use super::Solver;
use super::lookup::intersection;
use crate::{Cache, Executor, FoundOutput};

impl<E, C> Solver<'_, E, C>
where
    E: Executor,
    C: Cache<Chain = E::Chain>,
{
    /// A name for a run of a step on its inputs, the same in every build; none for one that no
    /// other build's run can stand for.
    ///
    /// Unlike a signature, it does not depend on how this build came to know the inputs.
    pub(super) fn turn_name(&self, id: StepId, inputs: &[E::Output]) -> Option<Digest> {
        let (step, cells) = (self.graph.step(id), self.cells(id));
        let mut hasher = Hasher::new();
        let is_shared = match &step.operation {
            Operation::Run(run) => {
                // They are not in the key, and can make a command slow, or another one.
                hasher.update(format!("{:?} {:?};", run.proxy, run.extra_hosts));
                !asks_client(run)
            }
            Operation::Files(_) => true,
            // Sources know what they share, and a merge makes nothing.
            _ => false,
        };
        // After a loss, outputs are not what they were promised to be.
        let is_plain = self.losses.is_empty() && !cells.was_doubted() && cells.repeats() == 0;
        let has_key = !cells.digests().is_empty() && self.can_be_found(id);
        if !is_shared || !is_plain || !has_key {
            return None;
        }
        for digest in cells.digests() {
            hasher.update(digest.as_bytes());
        }
        for (index, output) in inputs.iter().enumerate() {
            match (cells.content(index), self.executor.chain_of(output)) {
                (Some(content), _) => hasher.update(format!("content {content};")),
                (None, Some(chain)) => {
                    hasher.update(format!("layers {:?};", self.executor.layers(&chain)));
                }
                // Only its files tell what it is.
                (None, None) => return None,
            }
        }
        Some(hasher.finish())
    }

    /// True if a build that began now could find the step once it has run: nothing that its key
    /// stands on ignores the cache.
    fn can_be_found(&self, id: StepId) -> bool {
        let (mut open, mut seen) = (vec![id], vec![false; self.cells.len()]);
        while let Some(id) = open.pop() {
            if std::mem::replace(&mut seen[id.0 as usize], true) {
                continue;
            }
            if self.graph.step(id).ignore_cache {
                return false;
            }
            let inputs = self.graph.step(id).inputs.iter().enumerate();
            let by_key = inputs.filter(|(index, _)| self.cells(id).content(*index).is_none());
            open.extend(by_key.map(|(_, input)| *input));
        }
        true
    }

    /// An output that another build has made since this one looked the step up. It stands on the
    /// layers that this build has, and its own layer is on this machine.
    pub(super) fn made_meanwhile(
        &self,
        id: StepId,
        inputs: &[E::Output],
    ) -> Option<FoundOutput<E::Chain>> {
        let key = &self.cells(id).key;
        let linked_to = |(index, input): (usize, &StepId)| {
            let parents = self.local_records(*input).into_iter();
            let parents = parents.filter(|_| self.offers_keys(*input));
            let mut linked = self.links(key, index, parents, key.inputs[index].selector);
            linked.extend(self.linked_by_content(id, index));
            linked.retain(|record| record.is_local());
            linked
        };
        let linked: Vec<_> = self.graph.step(id).inputs.iter().enumerate().map(linked_to).collect();
        let bases: Vec<Vec<Digest>> = inputs
            .iter()
            .filter_map(|input| self.executor.chain_of(input))
            .map(|chain| self.executor.layers(&chain))
            .collect();
        let is_here = |found: &FoundOutput<E::Chain>| {
            let layers = self.executor.layers(&found.chain);
            layers.split_last().is_some_and(|(own, below)| {
                (below.is_empty() || bases.iter().any(|base| base == below))
                    && self.executor.at_hand(*own).is_some()
            })
        };
        let found = self.found(&intersection(&linked)).into_iter();
        found.map(|(_, found)| found).find(is_here)
    }
}

/// True if a client is asked for something while a command runs. Another build would wait for an
/// answer of a client that is not its own.
fn asks_client(run: &RunOp) -> bool {
    let asks = |kind: &MountKind| matches!(kind, MountKind::Secret { .. } | MountKind::Ssh { .. });
    !run.secret_env.is_empty() || run.mounts.iter().any(|mount| asks(&mount.kind))
}
