//! Names of runs, to share one between steps that do the same to the same.

use graph::StepId;
use oci::{Digest, Hasher};

use super::Solver;
use crate::{Cache, Executor};

impl<E, C> Solver<'_, E, C>
where
    E: Executor,
    C: Cache<Chain = E::Chain>,
{
    /// Names a run: steps with equal signatures do the same to the same. Asked for only when all
    /// that counts by content is known.
    pub(super) fn signature(&self, id: StepId) -> Digest {
        let mut open = vec![id];
        while let Some(&at) = open.last() {
            let unnamed = |input: &&StepId| self.cells(**input).signature().is_none();
            let missing: Vec<StepId> =
                self.graph.step(at).inputs.iter().filter(unnamed).copied().collect();
            if missing.is_empty() {
                self.cells(at).set_signature(self.signature_of(at));
                open.pop();
            }
            open.extend(missing);
        }
        self.cells(id).signature().unwrap_or_else(|| self.signature_of(id))
    }

    fn signature_of(&self, id: StepId) -> Digest {
        let step = self.graph.step(id);
        let cells = self.cells(id);
        let mut hasher = Hasher::new();
        for digest in cells.digests() {
            hasher.update(digest.as_bytes());
        }
        if cells.digests().is_empty() {
            hasher.update(format!("step {}", id.0));
        }
        // A run on an old output does not serve.
        if cells.repeats() > 0 {
            hasher.update(format!("again {}", cells.repeats()));
        }
        for (index, (input, key)) in step.inputs.iter().zip(&cells.key.inputs).enumerate() {
            match (&key.content, cells.content(index)) {
                (Some(_), Some(content)) => hasher.update(content.as_bytes()),
                _ => {
                    let input = self.cells(*input).signature();
                    hasher.update(format!("{input:?} {:?}", key.selector));
                }
            }
            hasher.update(";");
        }
        hasher.finish()
    }
}
