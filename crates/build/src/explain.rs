//! Explains what a build would run, without building.

use std::collections::BTreeSet;

use cache::{Caches, LocalRecords, Sidecar};
use execute::Executor;
use graph::{Events, StepId};
use layer::Chain;
use solve::{Solver, StepFacts};

use crate::executor::executor;
use crate::frontend::bases::Bases;
use crate::pipeline::{Planned, plan};
use crate::reason::Explained;
use crate::session::Build;
use crate::solving::explaining::{Explaining, known};
use crate::solving::{self, trust};
use crate::{Error, Request, Session};

/// Looks a build up in its caches without building: the steps that would run, and why. Of what
/// they stand on, only the user's files are looked at.
///
/// # Errors
/// If the request or the Dockerfile is wrong, or the files cannot be read.
pub async fn explain(
    session: &Session,
    request: &Request,
    events: &Events,
) -> Result<Vec<Explained>, Error> {
    let build = &Build::new(session, request, events);
    let Planned { bases, imported } = plan(build).await?;
    let (executor, tasks) = executor(build, &bases.parts(BTreeSet::new()));
    let records = imported.iter().map(|source| source.records.clone()).collect();
    let local = LocalRecords::open(executor.transfer().store())?;
    let local = local.naming(trust::named(build, &trust::Distrusted::default()));
    let caches = Caches::new(local, records);
    let parallelism = Executor::parallelism();
    let solver = Solver::new(&bases.graph, &executor, &caches, &tasks, parallelism);
    let surveyed = solver.survey(&bases.results()).await;
    drop(solver);
    let steps = surveyed.map_err(|error| solving::failed(&bases, error))?;
    let sidecars: Vec<Sidecar> =
        imported.iter().filter_map(|source| source.sidecar.clone()).collect();
    let explaining =
        Explaining { graph: &bases.graph, steps: &steps, executor: &executor, sidecars: &sidecars };
    let missed = missed(&bases, &steps);
    let explained =
        explaining.explained(&explaining.facts(), &known(build, &sidecars).await, &missed);
    executor.finish();
    Ok(explained)
}

/// The steps that would run: those that are not cached, and that a result or another such step
/// needs.
fn missed(bases: &Bases, steps: &[StepFacts<Chain>]) -> BTreeSet<StepId> {
    let mut missed = BTreeSet::new();
    let mut open = bases.results();
    while let Some(id) = open.pop() {
        let is_found = steps.iter().any(|step| step.id == id && step.cached.is_some());
        let inputs = &bases.graph.step(id).inputs;
        if !is_found && !inputs.is_empty() && missed.insert(id) {
            open.extend(inputs);
        }
    }
    missed
}
