//! The part of a build that stands on nothing but what was read here: other caches get no more.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use layer::{Assumption, Assumptions, Chain, Layer};
use oci::Digest;
use solve::StepFacts;
use store::Store;

use crate::session::Build;
use crate::solving::{SolvedGraph, trust};

/// Reads the layers whose index a cache lent, if another cache is to hold what was made with it, or
/// if no cache is trusted.
pub(crate) async fn read_for_exports(build: &Build<'_>, solved: &SolvedGraph<'_>) {
    if trust::reads_all(build) {
        let layers: Vec<Layer> = solved.chains.iter().flat_map(Chain::layers).collect();
        let read = layers.iter().filter(|layer| layer.blob.is_some());
        // One that cannot be had is found missing by the export that needs it.
        drop(join_all(read.map(|layer| solved.transfer.fetch_blob(layer, None))).await);
    }
    let targets: Vec<Option<String>> =
        build.request.cache_to.iter().map(|to| trust::target_identity(&to.target)).collect();
    let is_foreign = |assumption: &Assumption| {
        targets.iter().any(|name| name.as_deref() != Some(&*assumption.cache))
    };
    let foreign = all_assumptions(solved).filtered(is_foreign);
    if foreign.is_empty() {
        return;
    }
    let wanted: BTreeSet<Digest> = foreign.iter().map(|assumption| assumption.diff_id).collect();
    let read = chains_of(solved, wanted);
    let read = read.iter().map(|chain| solved.transfer.unpack_at(chain, chain.len() - 1, None));
    // A layer that cannot be read stays unproved, and is not exported.
    drop(join_all(read).await);
}

/// Layers, each on top of those below it, as far as the build knows where they are.
fn chains_of(solved: &SolvedGraph<'_>, mut wanted: BTreeSet<Digest>) -> Vec<Vec<Layer>> {
    let lent = solved.transfer.store().lent_chains().into_iter().map(|chain| chain.to_vec());
    let outputs = solved.steps.iter().filter_map(|step| Some(step.output.as_ref()?.layers()));
    let mut found = Vec::new();
    for chain in lent.chain(outputs) {
        for at in 0..chain.len() {
            if wanted.remove(&chain[at].diff_id) {
                found.push(chain[..=at].to_vec());
            }
        }
    }
    found
}

/// All that the steps of a build stand on and nothing proves by now.
fn all_assumptions(solved: &SolvedGraph<'_>) -> Assumptions {
    let store = solved.transfer.store();
    let none = Assumptions::default();
    let all = solved.steps.iter().fold(none, |all, step| all.and(&assumptions(store, step)));
    store.unproved(&all)
}

fn assumptions(store: &Store, step: &StepFacts<Chain>) -> Assumptions {
    let output = step.output.as_ref().map(|output| output.assumed().clone());
    let contents = step.inputs.iter().flat_map(|input| &input.contents);
    contents.fold(output.unwrap_or_default(), |all, content| {
        all.and(&store.content_assumptions(content))
    })
}

/// The steps that a cache is to hold: those that rest on nothing but what was read here, and on
/// that cache's own claims. Also returns the number of steps of which something is left out.
pub(crate) fn steps_for(solved: &SolvedGraph<'_>, cache: &str) -> (Vec<StepFacts<Chain>>, usize) {
    let store = solved.transfer.store();
    let stands = |assumptions: &Assumptions| {
        let unproved = store.unproved(assumptions);
        unproved
            .iter()
            .all(|assumption| &*assumption.cache == cache && store.proof(assumption) != Some(false))
    };
    let mut left_out = 0;
    let steps = solved.steps.iter().map(|step| {
        if stands(&assumptions(store, step)) {
            return step.clone();
        }
        left_out += 1;
        let mut step = step.clone();
        step.output = step.output.filter(|output| stands(output.assumed()));
        for input in &mut step.inputs {
            input.contents.retain(|content| stands(&store.content_assumptions(content)));
        }
        step
    });
    (steps.collect(), left_out)
}
