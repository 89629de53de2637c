//! Several builds at once, each with a solver of its own, on the records of one machine.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use graph::{ContentQuery, Event, Events, Graph, Step, StepId};
use oci::Digest;
use proptest::prelude::*;
use tokio::sync::OwnedMutexGuard;

use super::properties::{Recipe, graph_of};
use super::toys::{Memory, ToyError, Toys, copy, image, run};
use super::{build, line};
use crate::{Blame, Executor, Fetch, Solver, StepTurn, Tasks};

/// The turns of a machine.
#[derive(Default)]
struct ToyTurns(Mutex<HashMap<Digest, Arc<Piece>>>);

#[derive(Default)]
struct Piece {
    lock: Arc<tokio::sync::Mutex<()>>,
    ends: AtomicUsize,
}

struct ToyTurn {
    piece: Arc<Piece>,
    _held: OwnedMutexGuard<()>,
}

impl StepTurn for ToyTurn {
    fn end(self: Box<Self>, _: bool) {
        self.piece.ends.fetch_add(1, Ordering::SeqCst);
    }
}

/// Toys that share what they make with other builds.
struct Sharing<'a> {
    toys: Toys,
    turns: &'a ToyTurns,
    /// Runs by the name and inputs of the step.
    runs: &'a Mutex<BTreeMap<(String, Vec<String>), usize>>,
}

impl Executor for Sharing<'_> {
    type Output = String;
    type Chain = String;
    type Error = ToyError;

    async fn run(&self, id: StepId, step: &Step, inputs: Vec<String>) -> Result<String, ToyError> {
        *self.runs.lock().unwrap().entry((step.name.clone(), inputs.clone())).or_default() += 1;
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.toys.run(id, step, inputs).await
    }

    async fn turn(
        &self,
        _: StepId,
        name: Digest,
        waits: impl FnOnce() + Send,
    ) -> Option<Box<dyn StepTurn>> {
        let piece = self.turns.0.lock().unwrap().entry(name).or_default().clone();
        let ends = piece.ends.load(Ordering::SeqCst);
        let held = match piece.lock.clone().try_lock_owned() {
            Ok(held) => held,
            Err(_) => {
                waits();
                piece.lock.clone().lock_owned().await
            }
        };
        let is_over = piece.ends.load(Ordering::SeqCst) > ends;
        (!is_over).then(|| Box::new(ToyTurn { piece, _held: held }) as Box<dyn StepTurn>)
    }

    async fn fetch(&self, fetch: Fetch<'_, String>) -> Result<(), ToyError> {
        self.toys.fetch(fetch).await
    }

    async fn content(
        &self,
        id: StepId,
        output: &String,
        query: &ContentQuery,
    ) -> Result<Digest, ToyError> {
        self.toys.content(id, output, query).await
    }

    fn blame(&self, error: &ToyError) -> Option<Blame> {
        self.toys.blame(error)
    }

    fn chain_of(&self, output: &String) -> Option<String> {
        Some(output.clone())
    }

    fn restore(&self, chain: String) -> String {
        chain
    }

    fn layers(&self, chain: &String) -> Vec<Digest> {
        vec![Digest::of(chain)]
    }

    fn at_hand(&self, _: Digest) -> Option<String> {
        Some(String::new())
    }
}

/// A machine on which builds run.
#[derive(Default)]
struct Machine {
    cache: Memory,
    turns: ToyTurns,
    runs: Mutex<BTreeMap<(String, Vec<String>), usize>>,
}

impl Machine {
    fn executor(&self, toys: Toys) -> Sharing<'_> {
        Sharing { toys, turns: &self.turns, runs: &self.runs }
    }

    /// Runs of steps that stand on others.
    fn runs(&self) -> BTreeMap<(String, Vec<String>), usize> {
        let runs = self.runs.lock().unwrap().clone().into_iter();
        runs.filter(|((_, inputs), _)| !inputs.is_empty()).collect()
    }

    fn count(&self, step: &str) -> usize {
        self.runs.lock().unwrap().iter().filter(|((name, _), _)| name == step).map(|(_, n)| n).sum()
    }
}

fn untold(graph: &Graph) -> Tasks {
    Tasks { events: Events::none(), of_step: vec![None; graph.len()] }
}

/// Builds graphs at the same time, each on a thread of its own.
fn build_at_once(machine: &Machine, graphs: &[(Graph, StepId)], toys: fn() -> Toys) -> Vec<String> {
    let build = |(graph, target): &(Graph, StepId)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (tasks, executor) = (untold(graph), machine.executor(toys()));
        let solver = Solver::new(graph, &executor, &machine.cache, &tasks, 2);
        let solving =
            async { tokio::time::timeout(Duration::from_secs(60), solver.solve(*target)).await };
        runtime.block_on(solving).expect("builds wait for each other").unwrap().output
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = graphs.iter().map(|graph| scope.spawn(|| build(graph))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn toys_with_files() -> Toys {
    Toys { values: [("context".to_owned(), "files".to_owned())].into(), ..Toys::default() }
}

fn recipes() -> impl Strategy<Value = Vec<Recipe>> {
    prop::collection::vec(any::<Recipe>(), 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn the_same_build_many_times_at_once_runs_each_step_once(recipes in recipes()) {
        let (alone, machine) = (Machine::default(), Machine::default());
        let once = build_at_once(&alone, &[graph_of(&recipes)], toys_with_files);
        let graphs: Vec<_> = (0..4).map(|_| graph_of(&recipes)).collect();
        let outputs = build_at_once(&machine, &graphs, toys_with_files);
        prop_assert!(outputs.iter().all(|output| *output == once[0]));
        let (alone, all) = (alone.runs(), machine.runs());
        // A merge makes nothing, and is not waited for.
        for (step, times) in all.iter().filter(|((name, _), _)| name != "merge") {
            prop_assert!(alone.get(step).is_some_and(|once| times <= once), "{step:?}: {times}");
        }
    }

    #[test]
    fn builds_that_overlap_have_the_answers_of_builds_alone(
        shared in recipes(),
        own in prop::collection::vec(recipes(), 4),
        uncached in any::<usize>(),
    ) {
        let machine = Machine::default();
        let graphs: Vec<_> = own.iter().enumerate().map(|(number, own)| {
            let (mut graph, target) = graph_of(&[shared.clone(), own.clone()].concat());
            // One of them ignores the cache at some step.
            if number == 0 {
                graph.step_mut(StepId((uncached % graph.len()) as u32)).ignore_cache = true;
            }
            (graph, target)
        }).collect();
        let outputs = build_at_once(&machine, &graphs, toys_with_files);
        for ((graph, target), output) in graphs.iter().zip(outputs) {
            let plain = build(graph, *target, &toys_with_files(), &Memory::default());
            prop_assert_eq!(&*output, plain.output());
        }
    }
}

/// Polls a build until it waits for another, or ends.
fn poll<T>(building: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> Option<T> {
    (0..1000).find_map(|_| building.as_mut().now_or_never())
}

#[test]
fn a_build_that_waited_says_so_and_what_it_got_is_cached() {
    let (machine, (graph, target)) = (Machine::default(), line());
    let log: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = log.clone();
    let events = Events::new(move |event| sink.lock().unwrap().push(event));
    let of_step = graph.steps().map(|(_, step)| Some(events.task(step.name.as_str(), Vec::new())));
    let tasks = Tasks { of_step: of_step.collect(), events: events.clone() };
    let endless = Toys { endless: ["a".to_owned()].into(), ..Toys::default() };
    let (first, second) = (machine.executor(endless), machine.executor(Toys::default()));
    let untold = untold(&graph);
    let other = Solver::new(&graph, &first, &machine.cache, &untold, 2);
    let mut running = Box::pin(other.solve(target));
    assert!(poll(&mut running).is_none());
    let solver = Solver::new(&graph, &second, &machine.cache, &tasks, 2);
    let mut waiting = Box::pin(solver.solve(target));
    assert!(poll(&mut waiting).is_none());
    assert_eq!(machine.count("a"), 1);
    // The one that runs is given up: the one that waits runs the step itself.
    drop(running);
    let solved = poll(&mut waiting).unwrap().unwrap();
    assert_eq!((machine.count("a"), machine.count("b")), (2, 1));
    assert!(solved.steps.iter().all(|step| step.ran == (step.id.0 > 0)));
    let of_a = |event: &Event| (event.task.0 == 1).then(|| format!("{:?}", event.what));
    let said: Vec<_> = log.lock().unwrap().iter().filter_map(of_a).skip(1).collect();
    assert_eq!(said, ["Started", "Done"]);

    let third = machine.executor(Toys::default());
    let again = Solver::new(&graph, &third, &machine.cache, &tasks, 2);
    assert!(poll(&mut Box::pin(again.solve(target))).unwrap().is_ok());
    assert_eq!(machine.count("a"), 2);
}

/// Polls two builds in turn, so that one waits for the other.
fn both<T>(
    one: &mut std::pin::Pin<Box<impl Future<Output = T>>>,
    other: &mut std::pin::Pin<Box<impl Future<Output = T>>>,
) -> (T, T) {
    let (mut first, mut second) = (None, None);
    for _ in 0..1000 {
        first = first.or_else(|| one.as_mut().now_or_never());
        second = second.or_else(|| other.as_mut().now_or_never());
        if first.is_some() && second.is_some() {
            break;
        }
    }
    (first.expect("the first waits for ever"), second.expect("the second waits for ever"))
}

#[test]
fn what_another_build_made_meanwhile_is_found() {
    let (machine, (graph, target)) = (Machine::default(), line());
    let (one, two) = (machine.executor(Toys::default()), machine.executor(Toys::default()));
    let tasks = untold(&graph);
    let first = Solver::new(&graph, &one, &machine.cache, &tasks, 2);
    let second = Solver::new(&graph, &two, &machine.cache, &tasks, 2);
    let (one, two) = both(&mut Box::pin(first.solve(target)), &mut Box::pin(second.solve(target)));
    assert_eq!(one.unwrap().output, two.as_ref().unwrap().output);
    assert_eq!((machine.count("a"), machine.count("b")), (1, 1));
    assert!(two.unwrap().steps.iter().all(|step| !step.ran));
}

#[test]
fn a_step_that_fails_fails_for_each_build() {
    let (machine, (graph, target)) = (Machine::default(), line());
    let failing = || Toys { failing: ["a".to_owned()].into(), ..Toys::default() };
    let (one, two) = (machine.executor(failing()), machine.executor(failing()));
    let tasks = untold(&graph);
    let first = Solver::new(&graph, &one, &machine.cache, &tasks, 2);
    let second = Solver::new(&graph, &two, &machine.cache, &tasks, 2);
    let (one, two) = both(&mut Box::pin(first.solve(target)), &mut Box::pin(second.solve(target)));
    assert!(one.is_err() && two.is_err());
    assert_eq!(machine.count("a"), 2);
}

/// Steps that ignore the cache, and those that stand on them by key, are each build's own.
#[test]
fn builds_without_a_cache_share_nothing() {
    for (uncached, shared) in [(1, &[][..]), (2, &["a"][..])] {
        let (machine, (mut graph, target)) = (Machine::default(), line());
        let above = run(&mut graph, "c", target);
        graph.step_mut(StepId(uncached)).ignore_cache = true;
        let (one, two) = (machine.executor(Toys::default()), machine.executor(Toys::default()));
        let tasks = untold(&graph);
        let first = Solver::new(&graph, &one, &machine.cache, &tasks, 2);
        let second = Solver::new(&graph, &two, &machine.cache, &tasks, 2);
        let (one, two) =
            both(&mut Box::pin(first.solve(above)), &mut Box::pin(second.solve(above)));
        assert_eq!(one.unwrap().output, two.unwrap().output);
        for step in ["a", "b", "c"] {
            let expected = if shared.contains(&step) { 1 } else { 2 };
            assert_eq!(machine.count(step), expected, "{step}, uncached {uncached}");
        }
    }
}

/// A copy counts by content, whatever was done to make it.
#[test]
fn copies_of_the_same_files_are_made_once() {
    let machine = Machine::default();
    let graph = |command: &str| {
        let mut graph = Graph::new();
        let (base, tools) = (image(&mut graph, "base"), image(&mut graph, "tools"));
        let made = run(&mut graph, command, tools);
        let target = copy(&mut graph, "/out", Some(base), made);
        (graph, target)
    };
    let values = || Toys {
        values: ["make", "make -j2"].map(|name| (name.to_owned(), "program".to_owned())).into(),
        ..Toys::default()
    };
    build_at_once(&machine, &[graph("make"), graph("make -j2")], values);
    assert_eq!(machine.count("copy /out"), 1);
}

/// A secret is asked for of the build's own client, so no build waits for another's.
#[test]
fn commands_that_ask_a_client_are_not_waited_for() {
    let machine = Machine::default();
    let mut graph = Graph::new();
    let base = image(&mut graph, "base");
    let target = run(&mut graph, "a", base);
    if let graph::Operation::Run(run) = &mut graph.step_mut(target).operation {
        run.secret_env.push(graph::SecretEnv {
            id: "token".into(),
            name: "TOKEN".into(),
            optional: false,
        });
    }
    let endless = Toys { endless: ["a".to_owned()].into(), ..Toys::default() };
    let (first, second) = (machine.executor(endless), machine.executor(Toys::default()));
    let tasks = untold(&graph);
    let other = Solver::new(&graph, &first, &machine.cache, &tasks, 2);
    let mut running = Box::pin(other.solve(target));
    assert!(poll(&mut running).is_none());
    let solver = Solver::new(&graph, &second, &machine.cache, &tasks, 2);
    assert!(poll(&mut Box::pin(solver.solve(target))).unwrap().is_ok());
}
