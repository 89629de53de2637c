//! The interface of a stage: the arguments, secrets and agents that it accepts.

use std::collections::BTreeSet;

use super::Lowerer;
use crate::check;

impl Lowerer<'_> {
    /// The arguments and secrets of a stage and of those that it needs.
    pub(super) fn outline(self, target: usize) -> check::Outline {
        let mut taken = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut todo = vec![target];
        let mut arguments = Vec::new();
        while let Some(index) = todo.pop() {
            if seen.insert(index) {
                let state = &self.states[index];
                arguments.extend(state.notes.take(&mut taken));
                todo.extend(state.dependencies.keys());
                // The base is looked at first: what it declares is where it declares it.
                todo.extend(state.base);
            }
        }
        arguments.sort_by_key(|argument| argument.lines.first);
        let stage = self.file.stages.get(target);
        // Of one ID, what the stage nearest to the target says counts.
        let (mut secrets, mut agents) = (self.secrets, self.agents);
        let mut ids = BTreeSet::new();
        secrets.reverse();
        secrets.retain(|secret| ids.insert(secret.id.clone()));
        secrets.reverse();
        secrets.sort_by_key(|secret| secret.lines.first);
        ids.clear();
        agents.reverse();
        agents.retain(|agent| ids.insert(agent.id.clone()));
        agents.reverse();
        agents.sort_by_key(|agent| agent.lines.first);
        check::Outline {
            name: stage.and_then(|stage| stage.name.clone()).unwrap_or_default(),
            description: stage.and_then(|stage| stage.description.clone()).unwrap_or_default(),
            arguments,
            secrets,
            agents,
        }
    }
}
