//! Parallel execution of independent stages.

use std::convert::Infallible;

use futures_util::FutureExt as _;
use graph::{
    Action, ActionInput, ActionKind, ContentQuery, CopyAction, Events, FilesOp, Graph, ImageSource,
    Mount, MountKind, Operation, RunOp, Step, StepId,
};
use oci::{Digest, Platform};
use solve::{Blame, Cache, Executor, Fetch, FoundOutput, NewRecord, RecordId, Solver, Tasks};
use tokio::sync::Barrier;

/// A cache that finds nothing and stores nothing.
struct NoCache;

impl Cache for NoCache {
    type Chain = ();

    fn roots(&self, _: Digest) -> Vec<RecordId> {
        Vec::new()
    }

    fn linked(&self, _: RecordId, _: Digest, _: usize, _: Option<Digest>) -> Vec<RecordId> {
        Vec::new()
    }

    fn results(&self, _: RecordId) -> Vec<FoundOutput<()>> {
        Vec::new()
    }

    fn content_links(&self, _: RecordId, _: usize) -> Vec<Digest> {
        Vec::new()
    }

    fn save(&self, _: NewRecord<()>) -> RecordId {
        RecordId { source: 0, number: 0 }
    }
}

/// An executor whose commands end only after all of them have begun.
struct Together(Barrier);

impl Executor for Together {
    type Output = ();
    type Chain = ();
    type Error = Infallible;

    async fn run(&self, _: StepId, step: &Step, _: Vec<()>) -> Result<(), Infallible> {
        if matches!(step.operation, Operation::Run(_)) {
            self.0.wait().await;
        }
        Ok(())
    }

    async fn fetch(&self, _: Fetch<'_, ()>) -> Result<(), Infallible> {
        Ok(())
    }

    async fn content(&self, id: StepId, (): &(), _: &ContentQuery) -> Result<Digest, Infallible> {
        Ok(Digest::of(id.0.to_be_bytes()))
    }

    fn blame(&self, _: &Infallible) -> Option<Blame> {
        None
    }

    fn chain_of(&self, (): &()) -> Option<()> {
        Some(())
    }

    fn restore(&self, (): ()) {}
}

fn step(operation: Operation, inputs: &[StepId]) -> Step {
    Step {
        operation,
        inputs: inputs.to_vec(),
        platform: Platform::new("linux", "amd64", ""),
        name: String::new(),
        lines: None,
        ignore_cache: false,
        shown_as: None,
    }
}

fn image() -> Operation {
    Operation::Image(ImageSource {
        reference: "example.com/base".parse().expect("a name"),
        platform: Platform::new("linux", "amd64", ""),
        manifest: Digest::of(b"manifest"),
        diff_ids: vec![Digest::of(b"layer")],
    })
}

fn run(command: &str) -> Operation {
    let root = Mount {
        target: "/".into(),
        input: Some(0),
        selector: String::new(),
        readonly: false,
        output: true,
        kind: MountKind::Bind,
    };
    Operation::Run(Box::new(RunOp {
        args: vec![command.into()],
        mounts: vec![root],
        ..RunOp::default()
    }))
}

fn copy_from_stage() -> Operation {
    let copy = CopyAction {
        from: ActionInput::Input(1),
        source: "/out".into(),
        destination: "/".into(),
        ..CopyAction::default()
    };
    let kind = ActionKind::Copy(Box::new(copy));
    Operation::Files(FilesOp { actions: vec![Action { base: ActionInput::Input(0), kind }] })
}

/// `COPY --from=a` and then `COPY --from=b`: the key of the second depends on the first's, and both
/// need the outputs of their stages.
#[test]
fn stages_that_are_copied_one_after_the_other_run_together() {
    let mut graph = Graph::new();
    let base = graph.add(step(image(), &[]));
    let mut top = base;
    for command in ["make a", "make b", "make c"] {
        let stage = graph.add(step(run(command), &[base]));
        top = graph.add(step(copy_from_stage(), &[top, stage]));
    }
    let tasks = Tasks { events: Events::new(|_| ()), of_step: vec![None; graph.len()] };
    let executor = Together(Barrier::new(3));
    let solver = Solver::new(&graph, &executor, &NoCache, &tasks, 3);
    let mut solving = std::pin::pin!(solver.solve(top));
    // Everything is in memory: a solve that needs more polls waits forever.
    let solved = (0..100).find_map(|_| solving.as_mut().now_or_never());
    let solved = solved.expect("the stages wait for each other");
    assert_eq!(solved.unwrap().steps.iter().filter(|step| step.ran).count(), 6);
}
