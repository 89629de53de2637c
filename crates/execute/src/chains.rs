//! Chains of layers: their trees, indexes, files and contents, brought here where a step needs them.

use std::sync::Arc;

use graph::{ContentQuery, FilesOp, StepId, TaskId};
use layer::{Assumptions, Chain, Compression, Layer, Time};
use oci::Digest;
use solve::Fetch;
use tokio::sync::OnceCell;
use transfer::blocking;
use tree::{LayerPaths, Tree};

use crate::executor::{Executor, LayerStamp};
use crate::files::{self, Times, Unread};
use crate::{Error, StepOutput};

impl Executor {
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
        let (base, tree) = (self.trees().tree(below)?, self.trees().tree(chain)?);
        self.fetch_files(chain, &files::fold_needed(&base, &tree), task).await?;
        let created = chain.top().and_then(|layer| layer.created.clone());
        let work = move |runner: &files::FilesRunner<'_>| runner.fold(&base, &tree);
        let stamp = LayerStamp { now: Time::default(), created };
        self.run_files(work, stamp, &[chain], task).await
    }

    /// The tree of a chain whose indexes are all here.
    pub(crate) fn tree(&self, chain: &Chain) -> Result<Arc<Tree>, Error> {
        self.trees().tree(chain)
    }

    /// The tree of an output.
    pub(crate) async fn tree_of(&self, output: &StepOutput) -> Result<Arc<Tree>, Error> {
        match output {
            StepOutput::Context(tree) => Ok(tree.clone()),
            StepOutput::Chain(chain) => {
                self.fetch_indexes(chain, None).await?;
                self.trees().tree(chain)
            }
        }
    }

    /// Brings here what a step of files needs of an input.
    pub(crate) async fn fetch_copied(
        &self,
        fetch: &Fetch<'_, StepOutput>,
        op: &FilesOp,
        chain: &Chain,
    ) -> Result<(), Error> {
        let task = self.task(fetch.shown_by);
        self.fetch_indexes(chain, task).await?;
        // Copied files are fetched here, so that a missing layer costs a rerun of its step and not
        // the build.
        let read = fetch.content.filter(|_| !op.actions.is_empty());
        let Some(query) = read else { return Ok(()) };
        let wanted = tree::content_files(&*self.trees().tree(chain)?, query)?;
        self.fetch_files(chain, &wanted, task).await
    }

    /// Digest of the content that a query selects of a chain. Known ones need no bytes.
    pub(crate) async fn content_of(
        &self,
        id: StepId,
        chain: &Chain,
        query: ContentQuery,
    ) -> Result<Digest, Error> {
        let store = self.store().clone();
        let id_of_chain = chain.id().unwrap_or_else(|| Digest::of(""));
        if let Some(known) = tree::known_content_digest(&id_of_chain, &query, store.db()) {
            return Ok(known);
        }
        self.fetch_indexes(chain, self.task(id)).await?;
        let tree = self.trees().tree(chain)?;
        let wanted = tree::content_files(&tree, &query)?;
        self.fetch_files(chain, &wanted, self.task(id)).await?;
        // Content found through an unverified index is not remembered for other builds.
        let is_lent = chain.layers().iter().any(|layer| store.was_lent(&layer.diff_id));
        let digest = move || {
            if is_lent {
                return tree::content_digest(&tree, &query, &store);
            }
            tree::memoised_content_digest(&tree, &id_of_chain, &query, &store, store.db())
        };
        Ok(blocking(digest).await?)
    }

    /// The assumptions behind the inputs of a step, and those made by reading them.
    pub(crate) fn assumptions(&self, inputs: &[StepOutput]) -> Assumptions {
        let of = |output: &StepOutput| match output {
            StepOutput::Chain(chain) => {
                chain.assumed().and(&self.store().assumptions(&chain.layers()))
            }
            StepOutput::Context(_) => Assumptions::default(),
        };
        inputs.iter().map(of).fold(Assumptions::default(), |all, more| all.and(&more))
    }

    /// Reads the layers of which a cache has said something; true if there were any. An error found with
    /// the help of that counts only if it is found again.
    pub(crate) async fn read_lent(&self, inputs: &[StepOutput]) -> bool {
        let chains = inputs.iter().filter_map(|output| match output {
            StepOutput::Chain(chain) => Some(chain.layers()),
            StepOutput::Context(_) => None,
        });
        let mut were_any = false;
        for layers in chains {
            for (at, layer) in layers.iter().enumerate() {
                if self.store().was_lent(&layer.diff_id) {
                    let read = self.transfer().unpack_at(&layers, at, None).await;
                    were_any |= read.is_ok();
                }
            }
        }
        were_any
    }

    /// Fetches the indexes of a chain, on their own where a cache has them, otherwise with the
    /// layers.
    pub(crate) async fn fetch_indexes(
        &self,
        chain: &Chain,
        task: Option<TaskId>,
    ) -> Result<(), Error> {
        if self.trees().without_tree(chain).iter().all(|diff_id| self.store().has_index(diff_id)) {
            return Ok(());
        }
        Ok(self.transfer().indexes(&chain.layers(), task).await?)
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
        Ok(self.transfer().fetch_files(&chain.layers(), wanted, task).await?)
    }

    /// Files of a context as one layer, unpacked: for commands that mount them.
    pub(crate) async fn context_chain(&self, tree: &Arc<Tree>) -> Result<Chain, Error> {
        let cell = {
            let mut chains = self.context_chains();
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
            self.transfer().unpack(&chain.layers(), None).await?;
            Ok::<_, Error>(chain)
        };
        cell.get_or_try_init(make).await.cloned()
    }
}

/// COPY of a whole context onto nothing.
fn copy_of_all() -> FilesOp {
    let copy = graph::CopyAction {
        from: graph::ActionInput::Input(0),
        source: "/".into(),
        destination: "/".into(),
        copy_dir_contents: true,
        create_destination: true,
        ..graph::CopyAction::default()
    };
    FilesOp {
        actions: vec![graph::Action {
            base: graph::ActionInput::Scratch,
            kind: graph::ActionKind::Copy(Box::new(copy)),
        }],
    }
}
