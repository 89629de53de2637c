//! History entries.

use graph::StepId;
use oci::History;

use super::Lowerer;
use crate::go;

const COMMENT: &str = "buildkit.dockerfile.v0";

impl Lowerer<'_> {
    /// Adds a history entry; with a step it has a layer.
    pub(super) fn record(&mut self, stage: usize, text: String, step: Option<StepId>) {
        let state = &mut self.states[stage];
        state.config.history.push(History {
            created: self.epoch.map(go::rfc3339),
            created_by: text,
            author: String::new(),
            comment: COMMENT.into(),
            empty_layer: step.is_none(),
        });
        state.layers.push(step);
    }
}
