//! Fakes for tests: a client whose services are functions, a builder that notes what it is asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use graph::{Events, TaskEvent};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use oci::Digest;
use tokio::io::DuplexStream;

use crate::builder::{
    Answer, Builder, Built, PruneOptions, ResultFolder, Solve, SolveError, UsageFilter,
    UsageRecord, WorkerInfo,
};
use crate::grpc::{Channel, HttpRequest, HttpResponse, Served};
use crate::session::{ClientSession, SessionHeaders};
use crate::{Daemon, DaemonSettings};

/// A connection, both ends.
pub(crate) fn connection() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(64 << 10)
}

/// Serves methods on a connection, as a client of kiln does.
pub(crate) fn serve_methods<F>(
    io: DuplexStream,
    methods: impl Fn(HttpRequest) -> F + Send + Sync + 'static,
) where
    F: Future<Output = HttpResponse> + Send + 'static,
{
    let methods = Arc::new(methods);
    let route = service_fn(move |request| {
        let methods = methods.clone();
        async move { Served::Ok(methods(request).await) }
    });
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(io), route),
    );
}

/// A session of a client that serves these methods.
pub(crate) async fn session_with<F>(
    shared_key: &str,
    names: &[&str],
    methods: impl Fn(HttpRequest) -> F + Send + Sync + 'static,
) -> Arc<ClientSession>
where
    F: Future<Output = HttpResponse> + Send + 'static,
{
    let (near, far) = connection();
    serve_methods(far, methods);
    let headers = SessionHeaders::new("s", shared_key, names.iter().copied()).unwrap();
    let (session, end) = ClientSession::over(near, headers).await.unwrap();
    tokio::spawn(end);
    session
}

/// A builder that notes what it is asked.
#[derive(Default)]
pub(crate) struct FakeBuilder {
    pub(crate) solves: Mutex<Vec<Arc<Solve>>>,
    /// Builds that run.
    pub(crate) running: Arc<AtomicUsize>,
    /// True if builds never end.
    pub(crate) is_endless: bool,
}

struct RunningBuild(Arc<AtomicUsize>);

impl Drop for RunningBuild {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Builder for FakeBuilder {
    fn build(&self, solve: Arc<Solve>, events: Events) -> BoxFuture<'_, Result<Built, SolveError>> {
        Box::pin(async move {
            self.running.fetch_add(1, Ordering::SeqCst);
            let _running = RunningBuild(self.running.clone());
            let target = solve.frontend.attributes.get("target").cloned().unwrap_or_default();
            self.solves.lock().unwrap_or_else(PoisonError::into_inner).push(solve);
            let task = events.task("[1/1] RUN x", Vec::new());
            events.send(task, TaskEvent::Started);
            if self.is_endless {
                std::future::pending::<()>().await;
            }
            if target == "broken" {
                return Err(SolveError::new("it is broken"));
            }
            events.send(task, TaskEvent::Done);
            let response = [("containerimage.digest".to_owned(), Digest::of("x").to_string())];
            Ok(Built { response: BTreeMap::from(response), ..Built::default() })
        })
    }

    fn ask(
        &self,
        solve: Arc<Solve>,
        _: Events,
    ) -> BoxFuture<'_, Result<Option<Answer>, SolveError>> {
        let question = solve.frontend.attributes.get("requestid").cloned();
        Box::pin(async move {
            let answer = |question: String| {
                let metadata = [("result.txt".to_owned(), question.into_bytes())];
                Answer { metadata: BTreeMap::from(metadata) }
            };
            Ok(question.map(answer))
        })
    }

    fn files(&self, _: Arc<Solve>, _: Events) -> BoxFuture<'_, Result<ResultFolder, SolveError>> {
        Box::pin(async {
            let folder = tempfile::tempdir().map_err(|error| SolveError::new(error.to_string()))?;
            let path = folder.path().to_owned();
            std::fs::create_dir(path.join("d")).unwrap();
            std::fs::write(path.join("d/a.txt"), "hello").unwrap();
            std::os::unix::fs::symlink("/etc", path.join("out")).unwrap();
            std::os::unix::fs::symlink("/d", path.join("in")).unwrap();
            Ok(ResultFolder { path, hold: Arc::new(folder) })
        })
    }

    fn worker(&self) -> WorkerInfo {
        WorkerInfo { id: "fake".into(), version: "v1".into(), ..WorkerInfo::default() }
    }

    fn usage(&self, _: UsageFilter) -> BoxFuture<'_, Result<Vec<UsageRecord>, SolveError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn prune(&self, _: PruneOptions) -> BoxFuture<'_, Result<Vec<UsageRecord>, SolveError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn blob(&self, _: &Digest) -> Option<std::fs::File> {
        None
    }
}

/// A daemon, and a connection to it.
pub(crate) async fn daemon(builder: Arc<FakeBuilder>) -> (Arc<Daemon>, Channel, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let settings = DaemonSettings { history: folder.path().join("history") };
    let daemon = Arc::new(Daemon::new(builder, &settings).unwrap());
    let channel = connect(&daemon).await;
    (daemon, channel, folder)
}

/// Another connection to a daemon. It ends when the channel and its calls go.
pub(crate) async fn connect(daemon: &Arc<Daemon>) -> Channel {
    let (near, far) = connection();
    tokio::spawn(crate::serve(far, daemon.clone()));
    let (send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near))
            .await
            .unwrap();
    tokio::spawn(connection);
    Channel::new(send)
}
