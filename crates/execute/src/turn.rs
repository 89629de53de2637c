//! Steps that builds on one root run once.

use graph::StepId;
use oci::Digest;
use solve::StepTurn;
use store::{Turn, TurnEnd};
use transfer::{SharedWork, Waited};

use crate::executor::Executor;

/// A turn of a root's.
struct RootTurn(Turn);

impl StepTurn for RootTurn {
    fn end(self: Box<Self>, has_made: bool) {
        self.0.end(if has_made { TurnEnd::Made } else { TurnEnd::Failed });
    }
}

impl Executor {
    /// Waits while another build runs a step. Where that ended, whether well or badly, this build
    /// does not wait for others that want the step too.
    pub(crate) async fn step_turn(
        &self,
        id: StepId,
        name: Digest,
        waits: impl FnOnce() + Send,
    ) -> Option<Box<dyn StepTurn>> {
        let work = SharedWork {
            name: format!("step {name}"),
            shown: "that runs this step".into(),
            task: self.task(id),
        };
        match self.transfer().turn(&work, waits).await {
            Waited::Own(turn) => Some(Box::new(RootTurn(turn))),
            Waited::Over(_) | Waited::Alone => None,
        }
    }
}
