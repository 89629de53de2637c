//! Outputs whose layers are partly lost: what made those runs, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use graph::{ContentQuery, Event, Events, Graph, Operation, Step, StepId, TaskEvent};
use oci::Digest;
use proptest::prelude::*;

use super::properties::{Recipe, graph_of};
use super::toys::{Memory, copy, image, merge, run, seen};
use crate::{Blame, Executor, Fetch, SolveError, Solved, Solver, Tasks};

/// Makes layers, written as `name@place` and joined by `+`. What is `here` can always be had.
#[derive(Default)]
struct Layers {
    runs: Mutex<Vec<String>>,
    /// Names of layers that the cache has lost.
    lost: BTreeSet<String>,
    /// True if the images' registry has lost them too, or even this machine.
    lost_everywhere: bool,
    /// Steps that make something else each time.
    fickle: BTreeSet<String>,
    /// The names that each layer was made on.
    made_on: Mutex<HashMap<String, BTreeSet<Vec<String>>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("{0:?} are gone")]
    Gone(Vec<String>),
}

/// Names of a chain's layers.
fn names(chain: &str) -> Vec<String> {
    let layers = chain.split('+').filter(|layer| !layer.is_empty());
    layers.map(|layer| layer.split('@').next().unwrap().to_owned()).collect()
}

impl Layers {
    /// Names of layers that cannot be had where the chain says that they are.
    fn missing(&self, chain: &str) -> Vec<String> {
        let is_lost = |layer: &&str| {
            let (name, place) = layer.split_once('@').unwrap_or((*layer, "here"));
            self.lost.contains(name) && (place == "cache" || self.lost_everywhere)
        };
        names(&chain.split('+').filter(is_lost).collect::<Vec<_>>().join("+"))
    }

    fn need(&self, chain: &str) -> Result<(), Fault> {
        let missing = self.missing(chain);
        if missing.is_empty() { Ok(()) } else { Err(Fault::Gone(missing)) }
    }

    fn make(&self, step: &Step, below: &str, read: &[String]) -> String {
        let below_names = names(below);
        let salt = match self.fickle.contains(&step.name) {
            true => self.runs.lock().unwrap().len() + 1000 * self.made_on.lock().unwrap().len(),
            false => 0,
        };
        let text = format!("{} {read:?} {salt}", step.name);
        let name =
            format!("{}.{}", step.name.replace(['/', ' '], ""), &Digest::of(text).hex()[..6]);
        self.made_on.lock().unwrap().entry(name.clone()).or_default().insert(below_names);
        if below.is_empty() { format!("{name}@here") } else { format!("{below}+{name}@here") }
    }
}

impl Executor for Layers {
    type Output = String;
    type Chain = String;
    type Error = Fault;

    async fn run(&self, _: StepId, step: &Step, inputs: Vec<String>) -> Result<String, Fault> {
        self.runs.lock().unwrap().push(step.name.clone());
        Ok(match &step.operation {
            Operation::Image(_) => format!("{0}-0@registry+{0}-1@registry", step.name),
            Operation::Local(_) => format!("{}@here", step.name),
            Operation::Merge => inputs.join("+"),
            Operation::Run(_) => self.make(step, &inputs[0], &[names(&inputs[0]).join("+")]),
            _ => {
                let (below, from) = match inputs.as_slice() {
                    [from] => ("", from),
                    inputs => (inputs[0].as_str(), &inputs[1]),
                };
                let query = crate::step_key(step).inputs.pop().unwrap().content.unwrap();
                self.make(step, below, &[seen(&names(from).join("+"), &query)])
            }
        })
    }

    async fn fetch(&self, fetch: Fetch<'_, String>) -> Result<(), Fault> {
        let is_read = match &fetch.step.operation {
            Operation::Run(_) => true,
            // A copy knows the tree of what it stands on.
            Operation::Files(_) => fetch.input + 1 == fetch.step.inputs.len(),
            _ => false,
        };
        if is_read { self.need(fetch.output) } else { Ok(()) }
    }

    async fn content(
        &self,
        _: StepId,
        output: &String,
        query: &ContentQuery,
    ) -> Result<Digest, Fault> {
        self.need(output)?;
        Ok(Digest::of(seen(&names(output).join("+"), query)))
    }

    fn blame(&self, Fault::Gone(names): &Fault) -> Option<Blame> {
        Some(Blame::Layers(names.iter().map(Digest::of).collect()))
    }

    fn chain_of(&self, output: &String) -> Option<String> {
        Some(output.clone())
    }

    fn restore(&self, chain: String) -> String {
        chain
    }

    fn layers(&self, chain: &String) -> Vec<Digest> {
        names(chain).iter().map(Digest::of).collect()
    }

    fn renewed(&self, chain: String, donors: &BTreeMap<Digest, String>) -> String {
        let renew = |layer: &str| {
            let name = names(layer).remove(0);
            let donor = donors.get(&Digest::of(&name)).map(String::as_str).unwrap_or_default();
            let mut found = donor.split('+').filter(|layer| names(layer) == [name.as_str()]);
            found.next().unwrap_or(layer).to_owned()
        };
        chain.split('+').map(renew).collect::<Vec<_>>().join("+")
    }
}

struct Built {
    result: Result<Solved<String, String>, SolveError<Fault>>,
    runs: Vec<String>,
    warnings: Vec<String>,
}

impl Built {
    fn names(&self) -> Vec<String> {
        names(&self.result.as_ref().unwrap().output)
    }
}

/// All is in memory: what does not end in some polls waits for ever.
fn poll<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    let value = (0..100_000).find_map(|_| future.as_mut().now_or_never());
    value.expect("the solver waits for itself")
}

/// Solves a graph, and brings all layers of the target, as an export does.
fn build(graph: &Graph, target: StepId, layers: &Layers, cache: &Memory) -> Built {
    let log: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = log.clone();
    let events = Events::new(move |event| sink.lock().unwrap().push(event));
    let of_step = graph.steps().map(|(_, step)| Some(events.task(step.name.as_str(), Vec::new())));
    let tasks = Tasks { of_step: of_step.collect(), events: events.clone() };
    layers.runs.lock().unwrap().clear();
    let solver = Solver::new(graph, layers, cache, &tasks, 2);
    let result = loop {
        let solved = match poll(solver.solve(target)) {
            Ok(solved) => solved,
            Err(error) => break Err(error),
        };
        let missing = layers.missing(&solved.output);
        if missing.is_empty() {
            break Ok(solved);
        }
        let lost: Vec<Digest> = missing.iter().map(Digest::of).collect();
        if !solver.lose(&lost, "the export found layers gone") {
            break Err(SolveError { step: target, source: Fault::Gone(missing) });
        }
    };
    let warning = |event: Event| match event.what {
        TaskEvent::Warning(text) => Some(text.to_string()),
        _ => None,
    };
    let warnings = log.lock().unwrap().drain(..).filter_map(warning).collect();
    Built { result, runs: layers.runs.lock().unwrap().clone(), warnings }
}

/// Turns this machine's records into another one's cache.
fn ship(cache: &Memory) {
    for record in cache.sources().iter_mut().flatten() {
        for (chain, _) in &mut record.results {
            *chain = chain.replace("@here", "@cache").replace("@registry", "@cache");
        }
    }
    cache.move_away();
}

/// A build's cache elsewhere, and the names of the layers of its target.
fn shipped(graph: &Graph, target: StepId) -> (Memory, Vec<String>) {
    let cache = Memory::default();
    let cold = build(graph, target, &Layers::default(), &cache);
    ship(&cache);
    (cache, cold.names())
}

fn without(lost: &[&String]) -> Layers {
    Layers { lost: lost.iter().map(|name| (*name).clone()).collect(), ..Layers::default() }
}

/// FROM base; RUN a; RUN b; RUN c.
fn line() -> (Graph, StepId) {
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let a = run(&mut graph, "a", base);
    let b = run(&mut graph, "b", a);
    let c = run(&mut graph, "c", b);
    (graph, c)
}

#[test]
fn of_a_line_the_step_runs_whose_layer_is_lost() {
    let (graph, target) = line();
    let (_, cold) = shipped(&graph, target);
    let made = ["base", "base", "a", "b", "c"];
    for lost in 0..cold.len() {
        let (cache, _) = shipped(&graph, target);
        let built = build(&graph, target, &without(&[&cold[lost]]), &cache);
        assert_eq!(built.names(), cold);
        // Layers of the image come from its own registry.
        let ran: Vec<_> = built.runs.iter().filter(|name| *name != "base").collect();
        let expected: Vec<_> = [made[lost]].into_iter().filter(|name| *name != "base").collect();
        assert_eq!(ran, expected);
        assert_eq!(built.warnings.len(), 1, "{:?}", built.warnings);
        assert!(built.warnings[0].contains("source 1"), "{:?}", built.warnings);
    }
}

#[test]
fn several_layers_are_lost_at_once_and_said_once() {
    let (mut graph, target) = line();
    let (cache, cold) = shipped(&graph, target);
    let changed = run(&mut graph, "changed", target);
    let built = build(&graph, changed, &without(&[&cold[0], &cold[2], &cold[4]]), &cache);
    assert_eq!(built.names()[..5], cold);
    assert_eq!(built.runs, ["base", "a", "c", "changed"]);
    assert_eq!(built.warnings.len(), 1, "{:?}", built.warnings);
}

#[test]
fn caches_need_not_keep_what_is_below_the_last_step() {
    let (graph, target) = line();
    let cache = Memory::default();
    let cold = build(&graph, target, &Layers::default(), &cache);
    cache.keep_only(&[&cold.result.as_ref().unwrap().output]);
    ship(&cache);
    let cold = cold.names();
    let built = build(&graph, target, &without(&[&cold[2]]), &cache);
    assert_eq!((built.names(), built.runs), (cold, vec!["base".into(), "a".into()]));
}

#[test]
fn the_source_of_a_copy_is_made_only_where_it_is_read() {
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let low = run(&mut graph, "low", base);
    let stage = run(&mut graph, "stage", low);
    let target = copy(&mut graph, "/out", Some(base), stage);
    let (cache, _) = shipped(&graph, target);
    let stage_layers = build(&graph, stage, &Layers::default(), &cache).names();
    let lost = without(&[&stage_layers[2], &stage_layers[3]]);
    let warm = build(&graph, target, &lost, &cache);
    assert!(warm.runs.is_empty() && warm.warnings.is_empty());
    let changed = copy(&mut graph, "/other", Some(base), stage);
    let plain = build(&graph, changed, &Layers::default(), &Memory::default());
    let built = build(&graph, changed, &lost, &cache);
    assert_eq!(built.names(), plain.names());
    assert_eq!(built.runs, ["base", "low", "stage", "copy /other"]);
}

#[test]
fn what_a_copy_stands_on_is_missed_by_the_export_alone() {
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let a = run(&mut graph, "a", base);
    let files = image(&mut graph, "files");
    let first = copy(&mut graph, "/first", Some(a), files);
    let (cache, cold) = shipped(&graph, first);
    let target = copy(&mut graph, "/second", Some(first), files);
    let built = build(&graph, target, &without(&[&cold[2]]), &cache);
    assert_eq!(built.names()[..4], cold);
    let runs: BTreeSet<_> = built.runs.iter().map(String::as_str).collect();
    assert_eq!(built.runs.len(), runs.len(), "{:?}", built.runs);
    assert_eq!(runs, BTreeSet::from(["base", "files", "copy /second", "a"]));
}

#[test]
fn what_stands_on_something_else_now_is_made_again() {
    let (mut graph, target) = line();
    let top = copy(&mut graph, "/x", Some(target), StepId(0));
    let cache = Memory::default();
    let fickle = || BTreeSet::from(["a".to_owned()]);
    let first = Layers { fickle: fickle(), ..Layers::default() };
    let cold = build(&graph, target, &first, &cache).names();
    ship(&cache);
    let layers = Layers {
        lost: [cold[2].clone()].into(),
        fickle: fickle(),
        made_on: first.made_on,
        ..Layers::default()
    };
    // The copy is new, and does not look at what it stands on.
    let built = build(&graph, top, &layers, &cache);
    assert_ne!(built.names()[2], cold[2]);
    assert_consistent(&layers, &built);
    let count = |name: &str| built.runs.iter().filter(|ran| *ran == name).count();
    assert_eq!((count("a"), count("b"), count("c")), (1, 1, 1));
    assert_eq!(count("copy /x"), 2, "once on what was promised, once on what there is");
}

#[test]
fn a_base_that_is_lost_everywhere_is_an_error_of_its_own() {
    let (mut graph, target) = line();
    let (cache, cold) = shipped(&graph, target);
    let lost = Layers { lost_everywhere: true, ..without(&[&cold[1]]) };
    let changed = run(&mut graph, "changed", target);
    let built = build(&graph, changed, &lost, &cache);
    let error = built.result.map(drop).unwrap_err();
    assert_eq!((error.step, error.source), (StepId(0), Fault::Gone(vec![cold[1].clone()])));
    // Layers that are lost as soon as they are made.
    let lost = Layers { lost_everywhere: true, ..without(&[&cold[2]]) };
    let built = build(&graph, changed, &lost, &cache);
    assert_eq!(built.result.map(drop).unwrap_err().step, StepId(1));
    assert_eq!(built.runs.iter().filter(|ran| *ran == "a").count(), 1);
}

#[test]
fn steps_that_no_target_needs_are_settled_too() {
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let stage = run(&mut graph, "stage", base);
    let target = copy(&mut graph, "/out", Some(base), stage);
    let (cache, _) = shipped(&graph, target);
    let of_stage = build(&graph, stage, &Layers::default(), &cache).names();
    let layers = without(&[&of_stage[2]]);
    let events = Events::none();
    let tasks = Tasks { of_step: vec![None; graph.len()], events };
    let solver = Solver::new(&graph, &layers, &cache, &tasks, 2);
    poll(solver.solve(target)).unwrap();
    // An export of a cache wants the layers of all steps.
    let twice = [Digest::of(&of_stage[2]), Digest::of(&of_stage[2])];
    assert!(solver.lose(&twice, "gone"));
    let solved = poll(solver.solve(target)).unwrap();
    let output = solved.steps.iter().find(|step| step.id == stage).unwrap().output.clone();
    assert!(output.unwrap().ends_with(&format!("{}@here", of_stage[2])));
    assert_eq!(*layers.runs.lock().unwrap(), ["base", "stage"]);
    assert!(!solver.lose(&[Digest::of(&of_stage[2])], "gone"), "it was made in this build");
    assert!(!solver.lose(&[], "something else"), "nothing was lost");
    let unknown = [Digest::of("of no step")];
    assert!(solver.lose(&unknown, "gone"));
    poll(solver.solve(target)).unwrap();
    assert!(!solver.lose(&unknown, "gone"), "nothing makes it");
}

#[test]
fn merged_outputs_lose_layers_of_one_input() {
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let (a, b) = (run(&mut graph, "a", base), run(&mut graph, "b", base));
    let link = copy(&mut graph, "/b", None, b);
    let target = merge(&mut graph, &[a, link]);
    let (cache, cold) = shipped(&graph, target);
    let built = build(&graph, target, &without(&[&cold[3]]), &cache);
    assert_eq!(built.names(), cold);
    assert_eq!(built.runs.iter().filter(|ran| *ran != "base").collect::<Vec<_>>(), ["copy /b"]);
}

/// Each layer of a build's target lies on layers that it was made on.
fn assert_consistent(layers: &Layers, built: &Built) {
    let names = built.names();
    let made_on = layers.made_on.lock().unwrap();
    for (at, name) in names.iter().enumerate() {
        if let Some(below) = made_on.get(name) {
            assert!(below.contains(&names[..at].to_vec()), "{name} of {names:?}: {below:?}");
        }
    }
    assert_eq!(layers.missing(&built.result.as_ref().unwrap().output), Vec::<String>::new());
}

/// All layers that records name, each once.
fn promised(cache: &Memory) -> Vec<String> {
    let sources = cache.sources();
    let chains = sources.iter().flatten().flat_map(|record| &record.results);
    let all: BTreeSet<String> = chains.flat_map(|(chain, _)| names(chain)).collect();
    all.into_iter().collect()
}

/// Those that are chosen by the bits of a number.
fn chosen(names: &[String], bits: u64) -> BTreeSet<String> {
    let is_chosen = |(at, _): &(usize, &String)| (bits >> (at % 64)) & 1 == 1;
    names.iter().enumerate().filter(is_chosen).map(|(_, name)| name.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn whatever_is_lost_the_answer_is_that_of_a_clean_build(
        recipes in prop::collection::vec(any::<Recipe>(), 1..9),
        bits in any::<u64>(),
        changes in any::<bool>(),
    ) {
        let (mut graph, mut target) = graph_of(&recipes);
        let (cache, _) = shipped(&graph, target);
        if changes {
            target = run(&mut graph, "changed", target);
        }
        let plain = build(&graph, target, &Layers::default(), &Memory::default());
        let lost = chosen(&promised(&cache), bits);
        let layers = Layers { lost: lost.clone(), ..Layers::default() };
        let built = build(&graph, target, &layers, &cache);
        prop_assert_eq!(built.names(), plain.names());
        prop_assert!(built.warnings.len() <= 1, "{:?}", built.warnings);
        // Steps that are equal run once, and none runs but for a layer of its own.
        let made_on = layers.made_on.lock().unwrap();
        for name in made_on.keys() {
            prop_assert!(lost.contains(name) || name.starts_with("changed."), "{name}");
        }
        let work = |name: &&String| !matches!(name.as_str(), "base" | "tools" | "context");
        let runs = built.runs.iter().filter(work).count();
        prop_assert!(runs <= lost.len() + usize::from(changes), "{:?}", built.runs);
    }

    #[test]
    fn what_is_made_otherwise_is_what_the_rest_stands_on(
        recipes in prop::collection::vec(any::<Recipe>(), 1..9),
        bits in any::<u64>(),
        fickle in 0..8_u8,
    ) {
        // The merged layers lie on others than they were made on.
        let recipes: Vec<Recipe> =
            recipes.into_iter().map(|(kind, text, a, b)| (kind % 5 % 4, text, a, b)).collect();
        let (graph, merged) = graph_of(&recipes);
        let target = *graph.step(merged).inputs.last().unwrap();
        let fickle: BTreeSet<String> = ["x", "y", "z"]
            .into_iter()
            .enumerate()
            .filter(|(at, _)| (fickle >> at) & 1 == 1)
            .map(|(_, name)| name.to_owned())
            .collect();
        let cache = Memory::default();
        let first = Layers { fickle: fickle.clone(), ..Layers::default() };
        build(&graph, target, &first, &cache);
        ship(&cache);
        let lost = chosen(&promised(&cache), bits);
        let layers =
            Layers { lost, fickle, made_on: first.made_on, ..Layers::default() };
        let built = build(&graph, target, &layers, &cache);
        assert_consistent(&layers, &built);
        prop_assert!(built.runs.len() <= graph.len() * graph.len(), "{:?}", built.runs);
    }
}
