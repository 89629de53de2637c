//! The solver's executor: one operation, one way to run it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use graph::{ContentQuery, Events, FilesOp, LocalSource, Operation, Step, StepId, TaskId};
use layer::{Chain, Compression, Layer, Time};
use oci::Digest;
use runtime::Runtime;
use runtime::ladder::Unavailable;
use solve::{Blame, Fetch, StepTurn, Tasks};
use store::Store;
use tokio::sync::OnceCell;
use transfer::{Lazy, Transfer, blocking};
use tree::{ContextMemo, DigestError, ListedFile, Tree};

use crate::cache_mount::{CacheMounts, MountSource, UsedMount};
use crate::client::ContextFolder;
use crate::credentials::BuildCredentials;
use crate::files::{self, FilesError, Times, Unread};
use crate::image::Images;
use crate::lazy::Filling;
use crate::local::{self, Folders, Modes};
use crate::source_fetcher::SourceFetcher;
use crate::sources::Sources;
use crate::trees::Trees;
use crate::{Error, StepOutput};

/// An executor's settings.
pub struct ExecutorSettings {
    /// Moves layers.
    pub transfer: Transfer,
    /// Images that were resolved.
    pub images: Arc<Images>,
    /// Runs containers; else the reason why that is not possible.
    pub runtime: Result<Arc<Runtime>, Unavailable>,
    /// Secrets and agents.
    pub credentials: BuildCredentials,
    /// Folders by the names of contexts.
    pub folders: BTreeMap<String, ContextFolder>,
    /// The task that shows each step.
    pub tasks: Tasks,
    /// The compression of layers of files.
    pub compression: Compression,
    /// The time that new files and layers get.
    pub now: Time,
    /// The largest file that is downloaded, in bytes.
    pub download_limit: u64,
    /// The roots that are filled when their files are opened.
    pub lazy: Lazy,
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
    trees: Trees,
    cache_mounts: CacheMounts,
    mount_source: OnceLock<Arc<dyn MountSource>>,
    used_mounts: Mutex<BTreeSet<UsedMount>>,
    /// Contexts as layers, for commands that mount them, by the tree's address.
    context_chains: Mutex<Vec<ContextChain>>,
    /// Facts about contexts' files, saved when the build ends.
    memos: Mutex<Vec<(Arc<Tree>, ContextMemo)>>,
    /// Contexts that were walked.
    contexts: Mutex<HashMap<StepId, Arc<Tree>>>,
    filling: Filling,
}

/// The times of a layer that is made of files.
pub(crate) struct LayerStamp {
    /// The time of new files.
    pub now: Time,
    /// The time of the layer, RFC 3339.
    pub created: Option<String>,
}

/// A context, and the layer that it becomes.
pub(crate) type ContextChain = (Arc<Tree>, Arc<OnceCell<Chain>>);

impl Executor {
    /// An executor.
    pub fn new(mut settings: ExecutorSettings) -> Self {
        let folders = Folders(std::mem::take(&mut settings.folders));
        let store = settings.transfer.store();
        Self {
            trees: Trees::new(store.clone()),
            cache_mounts: CacheMounts::new(store.cache_mounts_folder()),
            mount_source: OnceLock::new(),
            used_mounts: Mutex::default(),
            folders,
            context_chains: Mutex::default(),
            memos: Mutex::default(),
            contexts: Mutex::default(),
            filling: Filling::default(),
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

    /// The setting for roots that fill, and what is known of them.
    pub(crate) fn filling(&self) -> (Lazy, &Filling) {
        (self.settings.lazy, &self.filling)
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
        tree.and_then(|tree| tree::content_listing(&tree, query).ok()).unwrap_or_default()
    }

    pub(crate) fn store(&self) -> &Store {
        self.settings.transfer.store()
    }

    pub(crate) fn runtime(&self) -> &Result<Arc<Runtime>, Unavailable> {
        &self.settings.runtime
    }

    pub(crate) fn credentials(&self) -> &BuildCredentials {
        &self.settings.credentials
    }

    fn sources(&self) -> &Sources {
        &self.settings.sources
    }

    fn source_fetcher(&self) -> SourceFetcher<'_> {
        SourceFetcher {
            transfer: self.transfer(),
            credentials: self.credentials(),
            cache_mounts: &self.cache_mounts,
            tasks: &self.settings.tasks,
            download_limit: self.settings.download_limit,
            now: self.settings.now,
        }
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

    /// The trees of chains whose indexes are here.
    pub(crate) fn trees(&self) -> &Trees {
        &self.trees
    }

    pub(crate) fn context_chains(&self) -> MutexGuard<'_, Vec<ContextChain>> {
        self.context_chains.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Walks the folder of a context. Its files are read later, by those who need their content.
    async fn walk(&self, id: StepId, source: &LocalSource) -> Result<StepOutput, Error> {
        let (folder, sent) = self.folders.folder(source, self.sources()).await?;
        let (store, modes, source) = (self.store().clone(), self.settings.modes, source.clone());
        let walked = blocking(move || local::walk(&folder, &source, &store, modes)).await?;
        self.contexts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, walked.tree.clone());
        local::tell(self.events(), self.task(id), &walked.tree, sent);
        if let Some(memo) = walked.memo {
            let mut memos = self.memos.lock().unwrap_or_else(PoisonError::into_inner);
            memos.push((walked.tree.clone(), memo));
        }
        Ok(StepOutput::Context(walked.tree))
    }

    async fn change_files(&self, op: &FilesOp, inputs: &[StepOutput]) -> Result<StepOutput, Error> {
        let mut changed = self.change_files_once(op, inputs).await;
        if changed.is_err() && self.read_lent(inputs).await {
            changed = self.change_files_once(op, inputs).await;
        }
        match changed? {
            StepOutput::Chain(chain) => {
                Ok(StepOutput::Chain(chain.assuming(&self.assumptions(inputs))))
            }
            output => Ok(output),
        }
    }

    async fn change_files_once(
        &self,
        op: &FilesOp,
        inputs: &[StepOutput],
    ) -> Result<StepOutput, Error> {
        let trees = self.input_trees(inputs)?;
        let wanted = files::contents_needed(op, &trees)?;
        let chains: Vec<&Chain> = inputs.iter().filter_map(StepOutput::chain).collect();
        for chain in &chains {
            self.fetch_files(chain, &wanted, None).await?;
        }
        let (op, trees) = (op.clone(), Arc::new(trees));
        let work = move |runner: &files::FilesRunner<'_>| runner.run(&op, &trees);
        let stamp = LayerStamp { now: self.settings.now, created: Some(self.now_text()) };
        let made = self.run_files(work, stamp, &chains, None).await?;
        let base = match made.base {
            Some(input) => self.chain(&inputs[input]).await?,
            None => Chain::new(),
        };
        Ok(StepOutput::Chain(base.with(made.layer)))
    }

    /// Changes files, and brings what they are to be compared with if it must. Where that cannot be
    /// had, more is written than is needed.
    pub(crate) async fn run_files<T: Send + 'static>(
        &self,
        work: impl Fn(&files::FilesRunner<'_>) -> Result<T, FilesError> + Clone + Send + 'static,
        LayerStamp { now, created }: LayerStamp,
        chains: &[&Chain],
        task: Option<TaskId>,
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

    fn input_trees(&self, inputs: &[StepOutput]) -> Result<Vec<Tree>, Error> {
        let tree = |output: &StepOutput| match output {
            StepOutput::Context(tree) => Ok(Tree::clone(tree)),
            StepOutput::Chain(chain) => self.trees.tree(chain).map(|tree| Tree::clone(&tree)),
        };
        inputs.iter().map(tree).collect()
    }
}

impl solve::Executor for Executor {
    type Output = StepOutput;
    type Chain = Chain;
    type Error = Error;

    async fn run(
        &self,
        id: StepId,
        step: &Step,
        inputs: Vec<StepOutput>,
    ) -> Result<StepOutput, Error> {
        match &step.operation {
            Operation::Image(source) => {
                let layers = self.settings.images.layers(source);
                layers.map(|layers| StepOutput::Chain(layers.into_iter().collect())).ok_or_else(
                    || {
                        Error::Unsupported(format!(
                            "image `{}` was never resolved",
                            source.reference
                        ))
                    },
                )
            }
            Operation::Local(source) => self.walk(id, source).await,
            Operation::Run(run) => {
                let output = self.run_command(id, step, run, &inputs).await?;
                Ok(match output {
                    StepOutput::Chain(chain) => {
                        StepOutput::Chain(chain.assuming(&self.assumptions(&inputs)))
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
                Ok(StepOutput::Chain(merged))
            }
            Operation::Http(source) => {
                self.sources().http_tree(&self.source_fetcher(), id, source).await
            }
            Operation::Git(source) => self.sources().git_tree(&self.source_fetcher(), source).await,
        }
    }

    fn refuses(&self, id: StepId) -> Option<Error> {
        self.settings.required.contains(&id).then_some(Error::NotCached)
    }

    async fn turn(
        &self,
        id: StepId,
        name: Digest,
        waits: impl FnOnce() + Send,
    ) -> Option<Box<dyn StepTurn>> {
        self.step_turn(id, name, waits).await
    }

    async fn fetch(&self, fetch: Fetch<'_, StepOutput>) -> Result<(), Error> {
        let StepOutput::Chain(chain) = fetch.output else { return Ok(()) };
        let task = self.task(fetch.shown_by);
        match &fetch.step.operation {
            Operation::Run(_) => self.fetch_root(chain, task).await,
            Operation::Files(op) => {
                let mut fetched = self.fetch_copied(&fetch, op, chain).await;
                if fetched.is_err() && self.read_lent(std::slice::from_ref(fetch.output)).await {
                    fetched = self.fetch_copied(&fetch, op, chain).await;
                }
                fetched
            }
            _ => Ok(()),
        }
    }

    async fn source_digests(&self, id: StepId, step: &Step) -> Result<Vec<Digest>, Error> {
        match &step.operation {
            Operation::Http(source) => {
                self.sources().http_digests(&self.source_fetcher(), id, source).await
            }
            Operation::Git(source) => {
                self.sources().git_digests(&self.source_fetcher(), source).await
            }
            _ => Ok(solve::step_key(step).digests),
        }
    }

    async fn content(
        &self,
        id: StepId,
        output: &StepOutput,
        query: &ContentQuery,
    ) -> Result<Digest, Error> {
        let query = query.clone();
        match output {
            StepOutput::Context(tree) => {
                let tree = tree.clone();
                Ok(blocking(move || tree::content_digest(&tree, &query, &())).await?)
            }
            StepOutput::Chain(chain) => {
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

    fn chain_of(&self, output: &StepOutput) -> Option<Chain> {
        match output {
            StepOutput::Chain(chain) => Some(chain.clone()),
            StepOutput::Context(_) => None,
        }
    }

    fn restore(&self, chain: Chain) -> StepOutput {
        StepOutput::Chain(chain)
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

impl Executor {
    /// One per processor, and two at least: commands wait for disks and networks.
    pub fn parallelism() -> usize {
        std::thread::available_parallelism().map_or(2, NonZero::get).max(2)
    }
}
