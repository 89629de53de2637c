//! Steps of the graph, each added once.

use graph::{ImageSource, LineRange, Operation, Step, StepId};
use oci::Platform;

use super::Lowerer;

/// The facts about a step that do not come from its operation.
#[derive(Clone)]
pub(super) struct StepRequest {
    pub(super) platform: Platform,
    pub(super) name: String,
    pub(super) lines: Option<LineRange>,
    pub(super) ignore_cache: bool,
}

impl StepRequest {
    /// By no line and with the cache.
    pub(super) fn by_itself(platform: Platform, name: impl Into<String>) -> Self {
        Self { platform, name: name.into(), lines: None, ignore_cache: false }
    }
}

impl Lowerer<'_> {
    /// Adds a step that is the same wherever its operation is asked for.
    pub(super) fn share(&mut self, operation: Operation, asked: StepRequest) -> StepId {
        self.share_on(operation, Vec::new(), asked)
    }

    pub(super) fn share_on(
        &mut self,
        operation: Operation,
        inputs: Vec<StepId>,
        asked: StepRequest,
    ) -> StepId {
        let is_same = |(known, step): &&(Operation, StepId)| {
            *known == operation && self.graph.step(*step).inputs == inputs
        };
        if let Some((_, step)) = self.shared.iter().find(is_same) {
            return *step;
        }
        let step = self.add(operation.clone(), inputs, asked);
        self.shared.push((operation, step));
        step
    }

    pub(super) fn share_image(
        &mut self,
        source: ImageSource,
        name: String,
        lines: Option<LineRange>,
    ) -> StepId {
        let asked =
            StepRequest { platform: source.platform.clone(), name, lines, ignore_cache: false };
        self.share(Operation::Image(source), asked)
    }

    pub(super) fn add(
        &mut self,
        operation: Operation,
        inputs: Vec<StepId>,
        asked: StepRequest,
    ) -> StepId {
        self.graph.add(Step {
            operation,
            inputs,
            platform: asked.platform,
            name: asked.name,
            lines: asked.lines,
            ignore_cache: asked.ignore_cache,
            shown_as: None,
        })
    }

    pub(super) fn platform_of(&self, stage: usize) -> Platform {
        self.states[stage].platform.clone().unwrap_or_else(|| self.request.platform.clone())
    }
}
