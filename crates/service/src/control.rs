//! `Control`: builds, sessions, workers, the disk, records of builds.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use tonic::{Request, Status, Streaming};

use crate::builder::{
    Built, FrontendRequest, PruneOptions, Solve, UploadedContexts, UsageFilter, UsageRecord,
    WorkerInfo,
};
use crate::builds::{Build, RunningBuild};
use crate::daemon::Daemon;
use crate::grpc::{Messages, received};
use crate::proto::control::{
    self as wire, BuildHistoryEvent, BuildHistoryRecord, BuildHistoryRequest, BuildResultInfo,
    BuildkitVersion, Descriptor, DiskUsageRequest, DiskUsageResponse, InfoResponse,
    ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveResponse, StatusRequest,
    StatusResponse, UpdateBuildHistoryRequest, WorkerRecord,
};
use crate::proto::gateway::{Refs, ReturnRequest};
use crate::proto::{BytesMessage, Empty};
use crate::session::{ClientSession, SessionHeaders, tunnel};
use crate::solve::{canceled, modernize, refuse_unknown, rpc_status, sorted, typed};

/// The package that clients read as the name of the daemon.
const PACKAGE: &str = "github.com/moby/buildkit";

/// `Control.Solve`: a whole build, from the client's first wish to its last output.
pub(crate) async fn solve(
    daemon: Arc<Daemon>,
    request: Request<wire::SolveRequest>,
) -> Result<SolveResponse, Status> {
    let mut request = request.into_inner();
    modernize(&mut request);
    refuse_unknown(&request)?;
    let running = daemon.builds.begin(request, &daemon.results)?;
    let build = running.build.clone();
    let session = daemon.session_of(&build).await?;
    let gone = async {
        match &session {
            Some(session) => session.closed().await,
            None => std::future::pending().await,
        }
    };
    let work = async {
        let Some(solve) = daemon.wanted(&build).await? else {
            return Ok(SolveResponse::default());
        };
        daemon.recorded(&running, solve).await
    };
    tokio::select! {
        result = work => result,
        () = gone => Err(canceled()),
    }
}

impl Daemon {
    /// The session of a build; none if it names none.
    ///
    /// # Errors
    /// If the client does not open it.
    pub(crate) async fn session_of(
        &self,
        build: &Build,
    ) -> Result<Option<Arc<ClientSession>>, Status> {
        self.session_named(&build.request.session).await
    }

    async fn session_named(&self, id: &str) -> Result<Option<Arc<ClientSession>>, Status> {
        match id {
            "" => Ok(None),
            id => {
                let found = self.sessions.get(id).await;
                found.map(Some).map_err(|error| Status::not_found(error.to_string()))
            }
        }
    }

    /// The solve that a build is to export; none if it exports nothing.
    async fn wanted(&self, build: &Build) -> Result<Option<Arc<Solve>>, Status> {
        let request = &build.request;
        if let Some(definition) = &request.definition
            && !definition.def.is_empty()
        {
            return Err(Status::unimplemented(
                "kiln builds Dockerfiles and takes no LLB: `--frontend dockerfile.v0`",
            ));
        }
        if !request.frontend.is_empty() {
            let frontend = FrontendRequest {
                frontend: request.frontend.clone(),
                attributes: sorted(&request.frontend_attrs),
                inputs: self.inputs(&request.frontend_inputs)?,
                source: None,
            };
            return Ok(Some(Arc::new(self.solve_request(build, frontend).await?)));
        }
        // The client drives the frontend through the gateway, and says at the end what it wants.
        let ReturnRequest { result, error } = build.returned.wait().await;
        if let Some(error) = error {
            let code = tonic::Code::from(error.code);
            return Err(Status::new(code, error.message.clone()));
        }
        let refs = result.as_ref().and_then(|result| result.refs.as_ref());
        let ids: Vec<&str> = match refs {
            None => Vec::new(),
            Some(Refs::RefDeprecated(id)) => vec![id],
            Some(Refs::RefsDeprecated(map)) => map.refs.values().map(String::as_str).collect(),
            Some(Refs::Ref(one)) => vec![&one.id],
            Some(Refs::Refs(map)) => map.refs.values().map(|one| one.id.as_str()).collect(),
        };
        let mut ids: Vec<&str> = ids.into_iter().filter(|id| !id.is_empty()).collect();
        ids.sort_unstable();
        ids.dedup();
        match ids.as_slice() {
            [] => Ok(None),
            [id] => {
                let missing = || Status::not_found(format!("no such reference {id}"));
                build.solve(id).map(Some).ok_or_else(missing)
            }
            _ => Err(Status::unimplemented(
                "a build exports the result of one solve; the client returned several",
            )),
        }
    }

    /// The whole request of a build with this frontend.
    pub(crate) async fn solve_request(
        &self,
        build: &Build,
        frontend: FrontendRequest,
    ) -> Result<Solve, Status> {
        let request = &build.request;
        let cache = request.cache.as_ref();
        Ok(Solve {
            reference: build.reference.clone(),
            session: self.session_of(build).await?,
            sessions: self.sessions.clone(),
            frontend,
            exporters: typed(&request.exporters),
            cache_imports: cache.map(|cache| typed(&cache.imports)).unwrap_or_default(),
            cache_exports: cache.map(|cache| typed(&cache.exports)).unwrap_or_default(),
            entitlements: request.entitlements.clone(),
            policy: self.session_named(&request.source_policy_session).await?,
            kept: build.kept.clone(),
            uploads: UploadedContexts::default(),
        })
    }

    /// Builds, and leaves a record.
    async fn recorded(
        self: &Arc<Self>,
        running: &RunningBuild,
        solve: Arc<Solve>,
    ) -> Result<SolveResponse, Status> {
        let build = &running.build;
        let mut record = Record::begin(self, build, &solve);
        let result = self.builder.build(solve, build.progress.events()).await;
        let result = result.map_err(Status::from);
        record.end(&result);
        let built = result?;
        Ok(SolveResponse { exporter_response: built.response.into_iter().collect() })
    }
}

/// The record of a build that runs. One that is dropped before its end was canceled.
struct Record {
    daemon: Arc<Daemon>,
    build: Arc<Build>,
    record: Option<BuildHistoryRecord>,
}

impl Record {
    fn begin(daemon: &Arc<Daemon>, build: &Arc<Build>, solve: &Solve) -> Self {
        let request = &build.request;
        let record = (!request.internal).then(|| BuildHistoryRecord {
            r#ref: build.reference.clone(),
            frontend: solve.frontend.frontend.clone(),
            frontend_attrs: solve.frontend.attributes.clone().into_iter().collect(),
            exporters: request.exporters.clone(),
            created_at: Some(SystemTime::now().into()),
            ..BuildHistoryRecord::default()
        });
        if let Some(record) = &record {
            daemon.history.begin(record.clone());
        }
        Self { daemon: daemon.clone(), build: build.clone(), record }
    }

    fn end(&mut self, result: &Result<Built, Status>) {
        let Some(mut record) = self.record.take() else { return };
        self.build.progress.end();
        let counts = self.build.progress.counts();
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        record.completed_at = Some(SystemTime::now().into());
        record.num_total_steps = number(counts.total);
        record.num_cached_steps = number(counts.cached);
        record.num_completed_steps = number(counts.completed);
        record.num_warnings = number(counts.warnings);
        record.generation = 1;
        match result {
            Ok(built) => {
                record.exporter_response = built.response.clone().into_iter().collect();
                let results = built.images.iter().map(|(place, (digest, size, media_type))| {
                    let descriptor = Descriptor {
                        media_type: media_type.clone(),
                        digest: digest.to_string(),
                        size: size.cast_signed(),
                        ..Descriptor::default()
                    };
                    (*place as i64, descriptor)
                });
                record.result = Some(BuildResultInfo {
                    results: results.collect(),
                    ..BuildResultInfo::default()
                });
            }
            Err(status) => record.error = Some(rpc_status(status)),
        }
        let (daemon, progress) = (self.daemon.clone(), self.build.progress.all());
        let write = move || daemon.history.finish(record, &progress);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(write)),
            Err(_) => write(),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.record.is_some() {
            self.end(&Err(canceled()));
        }
        self.daemon.history.give_up(&self.build.reference);
    }
}

/// `Control.Status`: the progress of a build.
pub(crate) async fn status(
    daemon: Arc<Daemon>,
    request: Request<StatusRequest>,
) -> Result<Messages<StatusResponse>, Status> {
    let reference = request.into_inner().r#ref;
    if let Some(build) = daemon.builds.get(&reference) {
        return Ok(build.progress.messages());
    }
    let (asked, name) = (daemon.clone(), reference.clone());
    let kept = tokio::task::spawn_blocking(move || asked.history.progress(&name)).await;
    if let Ok(Ok(Some(messages))) = kept {
        return Ok(Box::pin(futures_util::stream::iter(messages.into_iter().map(Ok))));
    }
    let build = daemon.builds.wait(&reference).await;
    let missing = || Status::not_found(format!("no such job {}", reference.escape_debug()));
    Ok(build.ok_or_else(missing)?.progress.messages())
}

/// `Control.Session`: a connection in a stream, over which the client serves.
pub(crate) async fn session(
    daemon: Arc<Daemon>,
    headers: http::HeaderMap,
    request: Request<Streaming<BytesMessage>>,
) -> Result<Messages<BytesMessage>, Status> {
    let invalid = |error: crate::SessionError| Status::invalid_argument(error.to_string());
    let headers = SessionHeaders::of(&headers).map_err(invalid)?;
    let (io, outgoing) = tunnel(request.into_inner());
    // The client waits for the headers of the answer before it says anything.
    tokio::spawn(async move {
        if let Err(error) = daemon.sessions.serve(io, headers).await {
            tracing::debug!(%error, "a session was refused");
        }
    });
    Ok(Box::pin(received(outgoing)))
}

fn version(worker: &WorkerInfo) -> BuildkitVersion {
    BuildkitVersion {
        package: PACKAGE.into(),
        version: worker.version.clone(),
        revision: worker.revision.clone(),
        ..BuildkitVersion::default()
    }
}

/// The worker as clients see it.
pub(crate) fn worker_record(worker: &WorkerInfo) -> WorkerRecord {
    WorkerRecord {
        id: worker.id.clone(),
        labels: worker.labels.clone().into_iter().collect(),
        platforms: worker.platforms.iter().map(Into::into).collect(),
        gc_policy: Vec::new(),
        buildkit_version: Some(version(worker)),
    }
}

/// `Control.ListWorkers`. Its filters select among workers, and there is one.
pub(crate) async fn list_workers(
    daemon: Arc<Daemon>,
    _: Request<ListWorkersRequest>,
) -> Result<ListWorkersResponse, Status> {
    Ok(ListWorkersResponse { record: vec![worker_record(&daemon.builder.worker())] })
}

/// `Control.Info`.
pub(crate) async fn info(daemon: Arc<Daemon>, _: Request<Empty>) -> Result<InfoResponse, Status> {
    Ok(InfoResponse { buildkit_version: Some(version(&daemon.builder.worker())) })
}

fn usage_record(record: UsageRecord) -> wire::UsageRecord {
    wire::UsageRecord {
        id: record.id,
        mutable: record.is_mutable,
        in_use: record.is_in_use,
        size: record.size.cast_signed(),
        last_used_at: Some(record.last_used.into()),
        created_at: Some(record.last_used.into()),
        usage_count: 1,
        description: record.description,
        record_type: record.kind,
        shared: false,
    }
}

/// A duration of Go, in nanoseconds; none where it is 0.
fn duration(nanos: i64) -> Option<Duration> {
    u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
}

/// `Control.DiskUsage`.
pub(crate) async fn disk_usage(
    daemon: Arc<Daemon>,
    request: Request<DiskUsageRequest>,
) -> Result<DiskUsageResponse, Status> {
    let request = request.into_inner();
    let filter = UsageFilter { filters: request.filter, unused_for: duration(request.age_limit) };
    let records = daemon.builder.usage(filter).await?;
    Ok(DiskUsageResponse { record: records.into_iter().map(usage_record).collect() })
}

/// `Control.Prune`.
pub(crate) async fn prune(
    daemon: Arc<Daemon>,
    request: Request<PruneRequest>,
) -> Result<Messages<wire::UsageRecord>, Status> {
    let request = request.into_inner();
    let bytes = |number: i64| u64::try_from(number).ok().filter(|bytes| *bytes > 0);
    let options = PruneOptions {
        all: request.all,
        filter: UsageFilter {
            filters: request.filter,
            unused_for: duration(request.keep_duration),
        },
        reserved: bytes(request.reserved_space),
        max_used: bytes(request.max_used_space),
        min_free: bytes(request.min_free_space),
    };
    let removed = daemon.builder.prune(options).await?;
    let removed = removed.into_iter().map(|record| Ok(usage_record(record)));
    Ok(futures_util::stream::iter(removed).boxed())
}

/// `Control.ListenBuildHistory`.
pub(crate) async fn listen_build_history(
    daemon: Arc<Daemon>,
    request: Request<BuildHistoryRequest>,
) -> Result<Messages<BuildHistoryEvent>, Status> {
    let request = request.into_inner();
    if let Some(filter) = request.filter.first() {
        let message = format!("`{}`: records are not filtered here", filter.escape_debug());
        return Err(Status::unimplemented(message));
    }
    Ok(daemon.history.listen(&request))
}

/// `Control.UpdateBuildHistory`.
pub(crate) async fn update_build_history(
    daemon: Arc<Daemon>,
    request: Request<UpdateBuildHistoryRequest>,
) -> Result<Empty, Status> {
    let request = request.into_inner();
    let done = tokio::task::spawn_blocking(move || daemon.history.update(&request)).await;
    done.map_err(|error| Status::internal(error.to_string()))??;
    Ok(Empty {})
}
