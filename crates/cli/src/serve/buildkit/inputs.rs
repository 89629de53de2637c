//! Contexts that are results of other solves (bake's linked targets): images that are made once,
//! and kept as long as a build reads them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use build::{ImageOutput, Output};
use graph::Events;
use oci::{Reference, Repository};
use service::{Solve, SolveError, SolveInput};
use store::Store;

use super::LocalBuilder;
use crate::serve::blocking::on_thread;

/// A host that no registry has.
const HOST: &str = "made.kiln.invalid";

/// The images that were made for other builds. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Inputs(Arc<Mutex<HashMap<String, InputCell>>>);

/// Held while an image is made, so that it is made once.
type InputCell = Arc<tokio::sync::Mutex<Weak<MadeImage>>>;

/// An image that one build makes for another; its name goes with this.
pub(super) struct MadeImage {
    name: Reference,
    store: Store,
}

impl MadeImage {
    /// The name.
    pub(super) fn name(&self) -> &Reference {
        &self.name
    }
}

impl Drop for MadeImage {
    fn drop(&mut self) {
        // A name that is left is removed by `prune`.
        let _ = self.store.db().remove_image(&self.name.to_string());
    }
}

impl Inputs {
    fn cell(&self, handle: &str) -> InputCell {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cells.retain(|known, cell| known == handle || Arc::strong_count(cell) > 1 || is_used(cell));
        cells.entry(handle.to_owned()).or_default().clone()
    }
}

fn is_used(cell: &InputCell) -> bool {
    cell.try_lock().is_ok_and(|made| made.strong_count() > 0)
}

impl LocalBuilder {
    /// The image of another solve.
    pub(super) async fn made(
        &self,
        input: &SolveInput,
        events: &Events,
    ) -> Result<Arc<MadeImage>, SolveError> {
        let cell = self.inputs.cell(&input.handle);
        let mut known = cell.lock().await;
        if let Some(made) = known.upgrade() {
            return Ok(made);
        }
        let (builder, solve) = (self.clone(), input.solve.clone());
        let repository = Repository::new(HOST, format!("service/{}", input.handle));
        let name = Reference::new(repository, Some("latest".into()), None);
        let events = events.clone();
        let made = on_thread(move || builder.make(solve, name, events)).await?;
        *known = Arc::downgrade(&made);
        Ok(made)
    }

    async fn make(
        self,
        solve: Arc<Solve>,
        name: Reference,
        events: Events,
    ) -> Result<Arc<MadeImage>, SolveError> {
        let mut prepared = self.prepare_result(&solve, &events).await?;
        prepared.request.outputs = vec![Output::Image(ImageOutput::kept(vec![name.clone()]))];
        prepared.build(&events).await?;
        Ok(Arc::new(MadeImage { name, store: prepared.session.store().clone() }))
    }
}
