//! A registry, and machines that build small graphs with real layers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache::{
    Backend, BackendSettings, CacheMode, Caches, Export, Exported, Form, ImportedCache,
    LocalRecords, RegistrySettings, WriteRequest,
};
use graph::{
    Action, ActionInput, ActionKind, ContentQuery, CopyAction, Events, FilesOp, Graph, ImageSource,
    Mount, MountKind, Operation, RunOp, Step, StepId,
};
use layer::{Chain, Compression, Entry, EntryKind, Layer, Place, Time};
use oci::{Descriptor, Digest, Platform, Reference, Repository, media_type};
use registry::{Client, RetryPolicy, Settings};
use solve::{Executor, Fetch, Solved, Solver, Tasks};
use store::{OpenOptions, Privileges, Store};
use testing::FakeRegistry;
use transfer::{LayerFormat, Transfer};

/// A machine with its own store.
pub struct Machine {
    pub transfer: Transfer,
    base: Chain,
    pub runs: Mutex<Vec<String>>,
    _folder: tempfile::TempDir,
}

pub fn reference(registry: &FakeRegistry, name: &str) -> Reference {
    format!("{}/{name}", registry.host()).parse().unwrap()
}

/// The settings of a cache in a registry.
pub fn in_registry(reference: &Reference) -> BackendSettings {
    BackendSettings::Registry(RegistrySettings { reference: reference.clone(), insecure: false })
}

fn step(name: &str, operation: Operation, inputs: &[StepId]) -> Step {
    Step {
        operation,
        inputs: inputs.to_vec(),
        platform: Platform::new("linux", "amd64", ""),
        name: name.into(),
        lines: None,
        ignore_cache: false,
        shown_as: None,
    }
}

fn run(graph: &mut Graph, command: &str, root: StepId) -> StepId {
    let mount = Mount {
        target: "/".into(),
        input: Some(0),
        selector: String::new(),
        readonly: false,
        output: true,
        kind: MountKind::Bind,
    };
    let run = RunOp { args: vec![command.into()], mounts: vec![mount], ..RunOp::default() };
    graph.add(step(command, Operation::Run(Box::new(run)), &[root]))
}

/// FROM base AS tools; RUN make; FROM base; RUN install; COPY --from=tools; RUN finish.
pub fn graph() -> (Graph, StepId) {
    graph_with("finish")
}

/// The same graph with another last command.
pub fn graph_with(last: &str) -> (Graph, StepId) {
    let mut graph = Graph::new();
    let base = Operation::Image(ImageSource {
        reference: "example.com/base".parse().unwrap(),
        platform: Platform::new("linux", "amd64", ""),
        manifest: Digest::of("base"),
        diff_ids: vec![Digest::of("base layer")],
    });
    let base = graph.add(step("base", base, &[]));
    let tools = run(&mut graph, "make", base);
    let install = run(&mut graph, "install", base);
    let copy = CopyAction {
        from: ActionInput::Input(1),
        source: "/out".into(),
        destination: "/".into(),
        ..CopyAction::default()
    };
    let kind = ActionKind::Copy(Box::new(copy));
    let copy = FilesOp { actions: vec![Action { base: ActionInput::Input(0), kind }] };
    let copy = graph.add(step("copy", Operation::Files(copy), &[install, tools]));
    let last = run(&mut graph, last, copy);
    (graph, last)
}

impl Machine {
    pub fn new(registry: &FakeRegistry) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions::new(Privileges::None);
        let store = Store::open(&folder.path().join("root"), options).unwrap();
        let retry = RetryPolicy {
            attempts: 2,
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(1),
        };
        let client = Client::new(Settings { retry, ..Settings::default() }).unwrap();
        registry.put_blob("base", "base layer");
        let repository = Repository::new(registry.host(), "base");
        let base = Layer {
            diff_id: Digest::of("base layer"),
            blob: Some(Descriptor::of(media_type::OCI_LAYER, b"base layer")),
            created: Some("2026-01-01T00:00:00Z".into()),
            places: vec![Place::Registry { repository, insecure: false }],
        };
        Self {
            transfer: Transfer::new(store, client, Events::none()),
            base: Chain::new().with(base),
            runs: Mutex::default(),
            _folder: folder,
        }
    }

    pub async fn build(&self, imported: Vec<ImportedCache>) -> Solved<Chain, Chain> {
        self.build_graph(graph(), imported).await
    }

    pub async fn build_graph(
        &self,
        (graph, target): (Graph, StepId),
        imported: Vec<ImportedCache>,
    ) -> Solved<Chain, Chain> {
        let records = LocalRecords::open(self.transfer.store()).unwrap();
        let sets = imported.into_iter().map(|imported| imported.records).collect();
        let caches = Caches::new(records, sets);
        let tasks = Tasks { events: Events::none(), of_step: vec![None; graph.len()] };
        let solved = Solver::new(&graph, self, &caches, &tasks, 2).solve(target).await.unwrap();
        assert_eq!(caches.fault(), None);
        solved
    }

    pub fn ran(&self) -> Vec<String> {
        let mut runs = std::mem::take(&mut *self.runs.lock().unwrap());
        runs.retain(|name| name != "base");
        runs.sort();
        runs
    }

    pub async fn push(
        &self,
        solved: &Solved<Chain, Chain>,
        to: &Reference,
        mode: CacheMode,
        request: &WriteRequest,
    ) -> Exported {
        let export = Export::new(&solved.steps, std::slice::from_ref(&solved.output), mode);
        cache::write(&export, &self.transfer, &*self.open(&in_registry(to)), request).await.unwrap()
    }

    pub fn open(&self, settings: &BackendSettings) -> Arc<dyn Backend> {
        settings.open(self.transfer.client()).unwrap()
    }

    pub async fn import(&self, from: &Reference) -> Result<ImportedCache, cache::Error> {
        self.open(&in_registry(from)).import().await
    }
}

pub fn request(form: Form) -> WriteRequest {
    WriteRequest {
        format: LayerFormat { compression: Compression::Gzip(None), force: false },
        form,
        known: None,
        sidecar: None,
        task: None,
    }
}

impl Executor for Machine {
    type Output = Chain;
    type Chain = Chain;
    type Error = transfer::Error;

    async fn run(
        &self,
        _: StepId,
        step: &Step,
        inputs: Vec<Chain>,
    ) -> Result<Chain, transfer::Error> {
        self.runs.lock().unwrap().push(step.name.clone());
        let Some(below) = inputs.first() else { return Ok(self.base.clone()) };
        let mut writer = self.transfer.store().layer_writer(Compression::Gzip(None)).unwrap();
        let entry = Entry {
            path: step.name.as_bytes().into(),
            kind: EntryKind::File { size: 0 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        writer.append(&entry, Some(&mut std::io::empty())).unwrap();
        let layer = writer.finish().unwrap();
        // A fixed time, because which of two concurrent layers is younger would depend on chance.
        let created = Some(format!("2026-01-02T00:00:{:02}Z", step.name.len()));
        Ok(below.with(Layer { created, ..layer }))
    }

    async fn fetch(&self, fetch: Fetch<'_, Chain>) -> Result<(), transfer::Error> {
        for layer in fetch.output.layers() {
            if layer.diff_id != Digest::of("base layer") {
                self.transfer.fetch_blob(&layer, None).await?;
            }
        }
        Ok(())
    }

    async fn content(
        &self,
        _: StepId,
        output: &Chain,
        _: &ContentQuery,
    ) -> Result<Digest, transfer::Error> {
        Ok(output.top().unwrap().diff_id)
    }

    fn blame(&self, _: &transfer::Error) -> Option<solve::Blame> {
        Some(solve::Blame::Output)
    }

    fn chain_of(&self, output: &Chain) -> Option<Chain> {
        Some(output.clone())
    }

    fn restore(&self, chain: Chain) -> Chain {
        chain
    }
}
