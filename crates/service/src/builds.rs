//! The builds that run, by the names that their clients gave them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, SetOnce};
use tonic::{Request, Status};

use crate::builder::{Kept, ResultFolder, Solve};
use crate::change_signal::ChangeSignal;
use crate::progress::BuildProgress;
use crate::proto::control;
use crate::proto::gateway::ReturnRequest;

/// The metadata that names a build in calls of the gateway.
const BUILD_ID: &str = "buildkit-controlapi-buildid";
/// The time for which a call waits for its build, which can come after it (BuildKit has 3 s for the
/// gateway and 6 s for the status).
const PATIENCE: Duration = Duration::from_secs(6);
/// The time for which the progress of a build that has ended can be read.
const READABLE: Duration = Duration::from_secs(10);
/// The most builds that are known at once.
const MOST_BUILDS: usize = 4096;
/// The longest name of a build: it becomes the name of a file.
const LONGEST_NAME: usize = 128;

/// A build that runs, or has just ended.
pub(crate) struct Build {
    /// Its name.
    pub(crate) reference: String,
    /// The request.
    pub(crate) request: control::SolveRequest,
    /// Its progress.
    pub(crate) progress: BuildProgress,
    /// The files of results that its client has read, by their ids.
    pub(crate) files: Mutex<HashMap<String, Arc<OnceCell<ResultFolder>>>>,
    /// Things that stay until it ends.
    pub(crate) kept: Kept,
    /// The solves of its gateway, by the ids of their results.
    solves: Mutex<HashMap<String, Arc<Solve>>>,
    /// The result that its client chose of them.
    pub(crate) returned: SetOnce<ReturnRequest>,
}

impl Build {
    /// Remembers a solve.
    pub(crate) fn keep_solve(&self, id: String, solve: Arc<Solve>) {
        self.solves.lock().unwrap_or_else(PoisonError::into_inner).insert(id, solve);
    }

    /// The solve of a result.
    pub(crate) fn solve(&self, id: &str) -> Option<Arc<Solve>> {
        self.solves.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The ids of its results.
    fn ids(&self) -> Vec<String> {
        self.solves.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// The builds that run. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Builds(Arc<SharedBuilds>);

#[derive(Default)]
struct SharedBuilds {
    known: Mutex<HashMap<String, Arc<Build>>>,
    running: Mutex<usize>,
    changes: ChangeSignal,
}

/// A build that runs until this is dropped.
pub(crate) struct RunningBuild {
    builds: Builds,
    pub(crate) build: Arc<Build>,
    results: crate::handle::Results,
}

impl Drop for RunningBuild {
    fn drop(&mut self) {
        self.build.progress.end();
        self.build.kept.clear();
        self.build.files.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for id in self.build.ids() {
            self.results.forget(&id);
        }
        *self.builds.running_count() -= 1;
        let (builds, build) = (self.builds.clone(), self.build.clone());
        // Without a runtime the process is at its end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(READABLE).await;
                builds.known().remove(&build.reference);
            });
        }
    }
}

impl Builds {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Build>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running_count(&self) -> MutexGuard<'_, usize> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of builds that run.
    pub(crate) fn running(&self) -> usize {
        *self.running_count()
    }

    /// Begins a build.
    ///
    /// # Errors
    /// If its name is none, or is taken.
    pub(crate) fn begin(
        &self,
        request: control::SolveRequest,
        results: &crate::handle::Results,
    ) -> Result<RunningBuild, Status> {
        let reference = request.r#ref.clone();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if reference.is_empty() || reference.len() > LONGEST_NAME || !reference.bytes().all(is_name)
        {
            let message = format!("`{}` is no name for a build", reference.escape_debug());
            return Err(Status::invalid_argument(message));
        }
        let build = Arc::new(Build {
            progress: BuildProgress::new(&reference),
            reference: reference.clone(),
            request,
            files: Mutex::default(),
            kept: Kept::default(),
            solves: Mutex::default(),
            returned: SetOnce::new(),
        });
        {
            let mut known = self.known();
            if known.len() >= MOST_BUILDS {
                return Err(Status::resource_exhausted("too many builds run at once"));
            }
            if known.contains_key(&reference) {
                return Err(Status::already_exists(format!("build `{reference}` exists")));
            }
            known.insert(reference, build.clone());
        }
        *self.running_count() += 1;
        self.0.changes.note();
        Ok(RunningBuild { builds: self.clone(), build, results: results.clone() })
    }

    /// The build of a name, if it runs or has just ended.
    pub(crate) fn get(&self, reference: &str) -> Option<Arc<Build>> {
        self.known().get(reference).cloned()
    }

    /// The build of a name, for which this waits a little.
    pub(crate) async fn wait(&self, reference: &str) -> Option<Arc<Build>> {
        self.0.changes.wait_for(PATIENCE, || self.get(reference)).await
    }

    /// The build that a call of the gateway belongs to.
    ///
    /// # Errors
    /// If it names none, or that does not come.
    pub(crate) async fn of_call<T>(&self, request: &Request<T>) -> Result<Arc<Build>, Status> {
        let id = request.metadata().get(BUILD_ID).and_then(|id| id.to_str().ok());
        let id = id.ok_or_else(|| {
            Status::invalid_argument(format!(
                "a call of the gateway needs the metadata `{BUILD_ID}`"
            ))
        })?;
        let missing = || Status::not_found(format!("no such job {}", id.escape_debug()));
        self.wait(id).await.ok_or_else(missing)
    }
}
