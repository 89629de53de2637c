//! The solver's executor: one operation, one way to run it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use graph::{ContentQuery, Events, FilesOp, Operation, Step, StepId, TaskId};
use oci::Digest;
use runtime::Runtime;
use solve::{Blame, Fetch, Tasks};
use store::{
    Assumptions, Chain, Compression, ContextMemo, DigestError, Layer, LayerPaths, ListedFile,
    Store, Time, Tree,
};
use tokio::sync::OnceCell;
use transfer::Transfer;
pub(crate) use transfer::blocking;

use crate::cache_mount::{CacheMounts, MountSource, UsedMount};
use crate::files::{self, FilesError, Times, Unread};
use crate::image::Images;
use crate::local::{self, Folders, Modes};
use crate::sources::Sources;
use crate::ssh::SshAgent;
use crate::trees::Trees;
use crate::{Error, Output};

/// The caller's secrets, agents and host keys, for commands and sources.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Secrets by id.
    pub secrets: BTreeMap<String, Arc<[u8]>>,
    /// SSH agents by id.
    pub ssh: BTreeMap<String, SshAgent>,
    /// Host keys that the caller knows, for git over ssh.
    pub known_hosts: Option<PathBuf>,
}

/// An executor's settings.
pub struct ExecutorSettings {
    /// Moves layers.
    pub transfer: Transfer,
    /// Images that were resolved.
    pub images: Arc<Images>,
    /// Runs containers; else why it is not possible.
    pub runtime: Result<Arc<Runtime>, String>,
    /// Secrets and agents.
    pub credentials: Credentials,
    /// Folders by the names of contexts.
    pub folders: BTreeMap<String, PathBuf>,
    /// The task that shows each step.
    pub tasks: Tasks,
    /// The compression of layers of files.
    pub compression: Compression,
    /// The time that new files and layers get.
    pub now: Time,
    /// The largest file that is downloaded, in bytes.
    pub download_limit: u64,
    /// The permission bits of a context's files.
    pub modes: Modes,
    /// Steps that must be found, and are not run.
    pub required: BTreeSet<StepId>,
    /// Sources fetched earlier in this build; new ones are added.
    pub sources: Arc<Sources>,
}

/// Runs the steps of one graph.
pub struct Executor {
    settings: ExecutorSettings,
    folders: Folders,
    trees: Arc<Trees>,
    cache_mounts: CacheMounts,
    mount_source: OnceLock<Arc<dyn MountSource>>,
    used_mounts: Mutex<BTreeSet<UsedMount>>,
    /// Contexts as layers, for commands that mount them, by the tree's address.
    context_chains: Mutex<Vec<ContextChain>>,
    /// Facts about contexts' files, saved when the build ends.
    memos: Mutex<Vec<(Arc<Tree>, ContextMemo)>>,
    /// Contexts that were walked.
    contexts: Mutex<HashMap<StepId, Arc<Tree>>>,
}

/// A context, and the layer that it becomes.
type ContextChain = (Arc<Tree>, Arc<OnceCell<Chain>>);

impl Executor {
    /// An executor.
    pub fn new(mut settings: ExecutorSettings) -> Self {
        let folders = Folders(std::mem::take(&mut settings.folders));
        let store = settings.transfer.store();
        Self {
            trees: Arc::new(Trees::new(store.clone())),
            cache_mounts: CacheMounts::new(store.cache_mounts_folder()),
            mount_source: OnceLock::new(),
            used_mounts: Mutex::default(),
            folders,
            context_chains: Mutex::default(),
            memos: Mutex::default(),
            contexts: Mutex::default(),
            settings,
        }
    }

    /// Keeps what was learnt of contexts' files, so that the next build does not read them again.
    pub fn finish(&self) {
        let mut memos = self.memos.lock().unwrap_or_else(PoisonError::into_inner);
        for (tree, memo) in memos.drain(..) {
            memo.save(&tree, self.settings.transfer.store().db());
        }
    }

    /// Moves its layers.
    pub fn transfer(&self) -> &Transfer {
        &self.settings.transfer
    }

    /// The files that a query reads of a context, where it was walked; without those of anything
    /// else.
    pub fn listing(&self, context: StepId, query: &ContentQuery) -> Vec<ListedFile> {
        let tree =
            self.contexts.lock().unwrap_or_else(PoisonError::into_inner).get(&context).cloned();
        tree.and_then(|tree| store::content_listing(&tree, query).ok()).unwrap_or_default()
    }

    pub(crate) fn store(&self) -> &Store {
        self.settings.transfer.store()
    }

    pub(crate) fn runtime(&self) -> &Result<Arc<Runtime>, String> {
        &self.settings.runtime
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.settings.credentials
    }

    pub(crate) fn client(&self) -> &registry::Client {
        self.settings.transfer.client()
    }

    pub(crate) fn download_limit(&self) -> u64 {
        self.settings.download_limit
    }

    pub(crate) fn sources(&self) -> &Sources {
        &self.settings.sources
    }

    pub(crate) fn now(&self) -> Time {
        self.settings.now
    }

    /// Lets cache mounts that are not here come from elsewhere. The first source stays.
    pub fn bring_mounts_from(&self, source: Arc<dyn MountSource>) {
        let _ = self.mount_source.set(source);
    }

    /// The cache mounts that commands have used so far.
    pub fn used_mounts(&self) -> Vec<UsedMount> {
        self.used_mounts.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(crate) fn note_mount(&self, mount: UsedMount) {
        self.used_mounts.lock().unwrap_or_else(PoisonError::into_inner).insert(mount);
    }

    pub(crate) fn mount_source(&self) -> Option<&Arc<dyn MountSource>> {
        self.mount_source.get()
    }

    pub(crate) fn cache_mounts(&self) -> &CacheMounts {
        &self.cache_mounts
    }

    pub(crate) fn events(&self) -> &Events {
        &self.settings.tasks.events
    }

    pub(crate) fn task(&self, id: StepId) -> Option<TaskId> {
        self.settings.tasks.task(id)
    }

    /// The time that a layer gets which is made now, RFC 3339.
    pub(crate) fn now_text(&self) -> String {
        jiff::Timestamp::now().to_string()
    }

    async fn walk(&self, id: StepId, source: &graph::LocalSource) -> Result<Output, Error> {
        let (folders, store, source) = (self.folders.clone(), self.store().clone(), source.clone());
        let modes = self.settings.modes;
        let walked = blocking(move || folders.walk(&source, &store, modes)).await?;
        self.contexts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, walked.tree.clone());
        local::tell(self.events(), self.task(id), &walked.tree);
        if let Some(memo) = walked.memo {
            self.memos
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((walked.tree.clone(), memo));
        }
        Ok(Output::Context(walked.tree))
    }

    async fn change_files(&self, op: &FilesOp, inputs: &[Output]) -> Result<Output, Error> {
        let mut changed = self.change_files_once(op, inputs).await;
        if changed.is_err() && self.read_lent(inputs).await {
            changed = self.change_files_once(op, inputs).await;
        }
        match changed? {
            Output::Chain(chain) => Ok(Output::Chain(chain.assuming(&self.assumptions(inputs)))),
            output => Ok(output),
        }
    }

    async fn change_files_once(&self, op: &FilesOp, inputs: &[Output]) -> Result<Output, Error> {
        let trees = self.input_trees(inputs)?;
        let wanted = files::contents_needed(op, &trees)?;
        let chains: Vec<&Chain> = inputs.iter().filter_map(Output::chain).collect();
        for chain in &chains {
            self.fetch_files(chain, &wanted, None).await?;
        }
        let (op, trees) = (op.clone(), Arc::new(trees));
        let work = move |runner: &files::FilesRunner<'_>| runner.run(&op, &trees);
        let created = Some(self.now_text());
        let made = self.run_files(work, (self.settings.now, created), (&chains, None)).await?;
        let base = match made.base {
            Some(input) => self.chain(&inputs[input]).await?,
            None => Chain::new(),
        };
        Ok(Output::Chain(base.with(made.layer)))
    }

    /// Changes files, and brings what they are to be compared with if it must. Where that cannot be
    /// had, more is written than is needed.
    async fn run_files<T: Send + 'static>(
        &self,
        work: impl Fn(&files::FilesRunner<'_>) -> Result<T, FilesError> + Clone + Send + 'static,
        (now, created): (Time, Option<String>),
        (chains, task): (&[&Chain], Option<TaskId>),
    ) -> Result<T, Error> {
        let run = |unread| {
            let (store, work, created) = (self.store().clone(), work.clone(), created.clone());
            let (compression, times) = (self.settings.compression, Times::Seconds);
            blocking(move || {
                let store = &store;
                work(&files::FilesRunner { store, now, times, compression, created, unread })
            })
        };
        let compared = match run(Unread::Ask).await {
            Err(FilesError::Unread(compared)) => compared,
            other => return Ok(other?),
        };
        for chain in chains {
            let _ = self.fetch_files(chain, &compared, task).await;
        }
        Ok(run(Unread::Write).await?)
    }

    /// Merges the layers that one chain has above another into a single layer.
    ///
    /// # Errors
    /// If a layer cannot be found, or the new one cannot be written.
    pub async fn fold(
        &self,
        below: &Chain,
        chain: &Chain,
        task: Option<TaskId>,
    ) -> Result<Layer, Error> {
        self.fetch_indexes(chain, task).await?;
        let (base, tree) = (self.trees.tree(below)?, self.trees.tree(chain)?);
        self.fetch_files(chain, &files::fold_needed(&base, &tree), task).await?;
        let created = chain.top().and_then(|layer| layer.created.clone());
        let work = move |runner: &files::FilesRunner<'_>| runner.fold(&base, &tree);
        self.run_files(work, (Time::default(), created), (&[chain], task)).await
    }

    /// The tree of a chain whose indexes are all here.
    pub(crate) fn tree(&self, chain: &Chain) -> Result<Arc<Tree>, Error> {
        self.trees.tree(chain)
    }

    fn input_trees(&self, inputs: &[Output]) -> Result<Vec<Tree>, Error> {
        let tree = |output: &Output| match output {
            Output::Context(tree) => Ok(Tree::clone(tree)),
            Output::Chain(chain) => self.trees.tree(chain).map(|tree| Tree::clone(&tree)),
        };
        inputs.iter().map(tree).collect()
    }

    /// The tree of an output.
    pub(crate) async fn tree_of(&self, output: &Output) -> Result<Arc<Tree>, Error> {
        match output {
            Output::Context(tree) => Ok(tree.clone()),
            Output::Chain(chain) => {
                self.fetch_indexes(chain, None).await?;
                self.trees.tree(chain)
            }
        }
    }

    /// Brings here what a step of files needs of an input.
    async fn fetch_copied(
        &self,
        fetch: &Fetch<'_, Output>,
        (op, chain): (&FilesOp, &Chain),
    ) -> Result<(), Error> {
        let task = self.task(fetch.shown_by);
        self.fetch_indexes(chain, task).await?;
        // Copied files are fetched here, so that a missing layer costs a rerun of its step and not
        // the build.
        let read = fetch.content.filter(|_| !op.actions.is_empty());
        let Some(query) = read else { return Ok(()) };
        let wanted = store::content_files(&*self.trees.tree(chain)?, query)?;
        self.fetch_files(chain, &wanted, task).await
    }

    async fn content_of(
        &self,
        id: StepId,
        chain: &Chain,
        query: ContentQuery,
    ) -> Result<Digest, Error> {
        let store = self.store().clone();
        let id_of_chain = chain.id().unwrap_or_else(|| Digest::of(""));
        if let Some(known) = store::known_content_digest(&id_of_chain, &query, store.db()) {
            return Ok(known);
        }
        self.fetch_indexes(chain, self.task(id)).await?;
        let tree = self.trees.tree(chain)?;
        let wanted = store::content_files(&tree, &query)?;
        self.fetch_files(chain, &wanted, self.task(id)).await?;
        // Content found through an unverified index is not remembered for other builds.
        let is_lent = chain.layers().iter().any(|layer| store.was_lent(&layer.diff_id));
        Ok(blocking(move || match is_lent {
            true => store::content_digest(&tree, &query, &store),
            false => {
                let memo = store.db();
                store::memoised_content_digest(&tree, &id_of_chain, &query, &store, memo)
            }
        })
        .await?)
    }

    /// The assumptions behind the inputs of a step, and those made by reading them.
    pub(crate) fn assumptions(&self, inputs: &[Output]) -> Assumptions {
        let of = |output: &Output| match output {
            Output::Chain(chain) => chain.assumed().and(&self.store().assumptions(&chain.layers())),
            Output::Context(_) => Assumptions::default(),
        };
        inputs.iter().map(of).fold(Assumptions::default(), |all, more| all.and(&more))
    }

    /// Reads the layers of which a cache has said something; whether there were any. An error that was
    /// found with the help of that is not believed before, and found again if it is true.
    async fn read_lent(&self, inputs: &[Output]) -> bool {
        let chains = inputs.iter().filter_map(|output| match output {
            Output::Chain(chain) => Some(chain.layers()),
            Output::Context(_) => None,
        });
        let mut were_any = false;
        for layers in chains {
            for (at, layer) in layers.iter().enumerate() {
                if self.store().was_lent(&layer.diff_id) {
                    let read = self.settings.transfer.unpack_at(&layers, at, None).await;
                    were_any |= read.is_ok();
                }
            }
        }
        were_any
    }

    /// Fetches the indexes of a chain, on their own where a cache has them, otherwise with the
    /// layers.
    async fn fetch_indexes(&self, chain: &Chain, task: Option<TaskId>) -> Result<(), Error> {
        if self.trees.without_tree(chain).iter().all(|diff_id| self.store().has_index(diff_id)) {
            return Ok(());
        }
        Ok(self.settings.transfer.indexes(&chain.layers(), task).await?)
    }

    /// Brings files of a chain's layers here.
    pub(crate) async fn fetch_files(
        &self,
        chain: &Chain,
        wanted: &LayerPaths,
        task: Option<TaskId>,
    ) -> Result<(), Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        Ok(self.settings.transfer.fetch_files(&chain.layers(), wanted, task).await?)
    }

    /// Files of a context as one layer, unpacked: for commands that mount them.
    pub(crate) async fn context_chain(&self, tree: &Arc<Tree>) -> Result<Chain, Error> {
        let cell = {
            let mut chains = self.context_chains.lock().unwrap_or_else(PoisonError::into_inner);
            match chains.iter().find(|(known, _)| Arc::ptr_eq(known, tree)) {
                Some((_, cell)) => cell.clone(),
                None => {
                    let cell = Arc::new(OnceCell::new());
                    chains.push((tree.clone(), cell.clone()));
                    cell
                }
            }
        };
        let make = || async {
            let (store, tree) = (self.store().clone(), tree.clone());
            let runner = move || {
                let runner = files::FilesRunner {
                    store: &store,
                    now: Time::default(),
                    times: Times::Exact,
                    compression: Compression::None,
                    created: None,
                    unread: Unread::Write,
                };
                runner.run(&copy_of_all(), &[Tree::clone(&tree)])
            };
            let chain = Chain::new().with(blocking(runner).await?.layer);
            self.settings.transfer.unpack(&chain.layers(), None).await?;
            Ok::<_, Error>(chain)
        };
        cell.get_or_try_init(make).await.cloned()
    }
}

impl solve::Executor for Executor {
    type Output = Output;
    type Chain = Chain;
    type Error = Error;

    async fn run(&self, id: StepId, step: &Step, inputs: Vec<Output>) -> Result<Output, Error> {
        match &step.operation {
            Operation::Image(source) => {
                let layers = self.settings.images.layers(source);
                layers.map(|layers| Output::Chain(layers.into_iter().collect())).ok_or_else(|| {
                    Error::Unsupported(format!("image `{}` was never resolved", source.reference))
                })
            }
            Operation::Local(source) => self.walk(id, source).await,
            Operation::Run(run) => {
                let output = self.run_command(id, (run, &step.platform), &inputs).await?;
                Ok(match output {
                    Output::Chain(chain) => {
                        Output::Chain(chain.assuming(&self.assumptions(&inputs)))
                    }
                    output => output,
                })
            }
            Operation::Files(op) => self.change_files(op, &inputs).await,
            Operation::Merge => {
                let mut merged = Chain::new();
                for input in &inputs {
                    let chain = self.chain(input).await?;
                    let layers = chain.layers().into_iter();
                    merged = layers.fold(merged, |merged, layer| merged.with(layer));
                    merged = merged.assuming(chain.assumed());
                }
                Ok(Output::Chain(merged))
            }
            Operation::Http(source) => self.http_tree(id, source).await,
            Operation::Git(source) => self.git_tree(source).await,
        }
    }

    fn refuses(&self, id: StepId) -> Option<Error> {
        self.settings.required.contains(&id).then_some(Error::NotCached)
    }

    async fn fetch(&self, fetch: Fetch<'_, Output>) -> Result<(), Error> {
        let Output::Chain(chain) = fetch.output else { return Ok(()) };
        let task = self.task(fetch.shown_by);
        match &fetch.step.operation {
            Operation::Run(_) => Ok(self.settings.transfer.unpack(&chain.layers(), task).await?),
            Operation::Files(op) => {
                let mut fetched = self.fetch_copied(&fetch, (op, chain)).await;
                if fetched.is_err() && self.read_lent(std::slice::from_ref(fetch.output)).await {
                    fetched = self.fetch_copied(&fetch, (op, chain)).await;
                }
                fetched
            }
            _ => Ok(()),
        }
    }

    async fn source_digests(&self, id: StepId, step: &Step) -> Result<Vec<Digest>, Error> {
        match &step.operation {
            Operation::Http(source) => self.http_digests(id, source).await,
            Operation::Git(source) => self.git_digests(source).await,
            _ => Ok(solve::step_key(step).digests),
        }
    }

    async fn content(
        &self,
        id: StepId,
        output: &Output,
        query: &ContentQuery,
    ) -> Result<Digest, Error> {
        let query = query.clone();
        match output {
            Output::Context(tree) => {
                let tree = tree.clone();
                Ok(blocking(move || store::content_digest(&tree, &query, &())).await?)
            }
            Output::Chain(chain) => {
                let mut found = self.content_of(id, chain, query.clone()).await;
                if found.is_err() && self.read_lent(std::slice::from_ref(output)).await {
                    found = self.content_of(id, chain, query).await;
                }
                let digest = found?;
                let assumed = self.assumptions(std::slice::from_ref(output));
                self.store().note_content(solve::content_record(digest), &assumed);
                Ok(digest)
            }
        }
    }

    fn blame(&self, error: &Error) -> Option<Blame> {
        let lost = error.lost_layers();
        if !lost.is_empty() {
            return Some(Blame::Layers(lost));
        }
        let is_of_output = match error {
            Error::Layer(_) | Error::Store(_) | Error::Tree(_) => true,
            Error::Content(error) => matches!(error, DigestError::Read { .. }),
            _ => false,
        };
        is_of_output.then_some(Blame::Output)
    }

    fn chain_of(&self, output: &Output) -> Option<Chain> {
        match output {
            Output::Chain(chain) => Some(chain.clone()),
            Output::Context(_) => None,
        }
    }

    fn restore(&self, chain: Chain) -> Output {
        Output::Chain(chain)
    }

    fn layers(&self, chain: &Chain) -> Vec<Digest> {
        chain.layers().iter().map(|layer| layer.diff_id).collect()
    }

    fn at_hand(&self, layer: Digest) -> Option<Chain> {
        let blob = self.store().stored_blob(&layer).ok().flatten();
        let is_here = blob.is_some() || self.store().is_unpacked(&layer).unwrap_or(false);
        let here = Layer { diff_id: layer, blob, created: None, places: Vec::new() };
        is_here.then(|| Chain::new().with(here))
    }

    fn renewed(&self, chain: Chain, donors: &BTreeMap<Digest, Chain>) -> Chain {
        let renew = |layer: Layer| {
            let donor = donors.get(&layer.diff_id);
            let layers = donor.map(Chain::layers).unwrap_or_default();
            match layers.into_iter().find(|donated| donated.diff_id == layer.diff_id) {
                Some(donated) => Layer { created: donated.created.or(layer.created), ..donated },
                None => layer,
            }
        };
        chain.layers().into_iter().map(renew).collect()
    }
}

/// COPY of a whole context onto nothing.
fn copy_of_all() -> FilesOp {
    let copy = graph::CopyAction {
        from: graph::Node::Input(0),
        source: "/".into(),
        destination: "/".into(),
        copy_dir_contents: true,
        create_destination: true,
        ..graph::CopyAction::default()
    };
    FilesOp {
        actions: vec![graph::Action {
            base: graph::Node::Scratch,
            kind: graph::ActionKind::Copy(Box::new(copy)),
        }],
    }
}

impl Executor {
    /// One per processor, and two at least: commands wait for disks and networks.
    pub fn parallelism() -> usize {
        std::thread::available_parallelism().map_or(2, NonZero::get).max(2)
    }
}
