//! The API as its clients use it, over connections in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use oci::Digest;
use tonic::{Code, Request, Status, Streaming};

use crate::daemon::Daemon;
use crate::grpc::Channel;
use crate::proto::control::{
    BuildHistoryEvent, BuildHistoryRecord, BuildHistoryRequest, InfoResponse, ListWorkersResponse,
    SolveRequest, SolveResponse, StatusRequest, StatusResponse,
};
use crate::proto::gateway::{self as bridge, PongResponse, Refs, ReturnRequest};
use crate::proto::pb::Definition;
use crate::proto::{Empty, RpcStatus, StringMap};
use crate::testing::{FakeBuilder, connect, daemon};

const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";
const PING: &str = "/moby.buildkit.v1.frontend.LLBBridge/Ping";
const BRIDGE_SOLVE: &str = "/moby.buildkit.v1.frontend.LLBBridge/Solve";
const RETURN: &str = "/moby.buildkit.v1.frontend.LLBBridge/Return";

fn of_build<T>(build: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("buildkit-controlapi-buildid", build.parse().unwrap());
    request
}

fn attributes(pairs: &[(&str, &str)]) -> StringMap {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn solve(build: &str) -> SolveRequest {
    SolveRequest { r#ref: build.into(), ..SolveRequest::default() }
}

async fn begin(
    channel: &Channel,
    request: SolveRequest,
) -> tokio::task::JoinHandle<Result<SolveResponse, Status>> {
    let channel = channel.clone();
    tokio::spawn(async move { channel.unary(SOLVE, Request::new(request)).await })
}

async fn bridge_solve(
    channel: &Channel,
    build: &str,
    options: &[(&str, &str)],
    inputs: &[(&str, Definition)],
) -> Result<bridge::SolveResult, Status> {
    let inputs = inputs.iter().map(|(name, input)| ((*name).to_owned(), input.clone()));
    let request = bridge::SolveRequest {
        frontend: "dockerfile.v0".into(),
        frontend_opt: attributes(options),
        frontend_inputs: inputs.collect(),
        ..bridge::SolveRequest::default()
    };
    let answer: bridge::SolveResponse =
        channel.unary(BRIDGE_SOLVE, of_build(build, request)).await?;
    Ok(answer.result.unwrap())
}

async fn give_back(channel: &Channel, build: &str, result: bridge::SolveResult) {
    let request = ReturnRequest { result: Some(result), error: None };
    channel.unary::<_, Empty>(RETURN, of_build(build, request)).await.unwrap();
}

/// The record of the last build, once it has ended.
///
/// # Panics
/// If it has not ended after ten seconds.
async fn ended(daemon: &Daemon) -> BuildHistoryRecord {
    for _ in 0..1000 {
        let request = BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() };
        let events: Vec<_> = daemon.history.listen(&request).collect().await;
        let record = events.into_iter().next().and_then(|event| event.unwrap().record);
        if let Some(record) = record.filter(|record| record.completed_at.is_some()) {
            return record;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no build has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_drives_its_build_through_the_gateway() {
    let builder = Arc::new(FakeBuilder::default());
    let (daemon, channel, _folder) = daemon(builder.clone()).await;
    let workers: ListWorkersResponse = channel
        .unary("/moby.buildkit.v1.Control/ListWorkers", Request::new(Empty {}))
        .await
        .unwrap();
    assert_eq!(workers.record[0].id, "fake");
    let info: InfoResponse =
        channel.unary("/moby.buildkit.v1.Control/Info", Request::new(Empty {})).await.unwrap();
    assert_eq!(info.buildkit_version.unwrap().package, "github.com/moby/buildkit");

    // The gateway's calls can come before the build.
    let early = channel.clone();
    let ping = tokio::spawn(async move {
        early.unary::<_, PongResponse>(PING, of_build("b1", Empty {})).await
    });
    let mut request = solve("b1");
    request.exporter_deprecated = "image".into();
    request.exporter_attrs_deprecated = attributes(&[("name", "a")]);
    let solving = begin(&channel, request).await;
    let pong = ping.await.unwrap().unwrap();
    assert!(pong.frontend_api_caps.iter().any(|cap| cap.id == "return" && cap.enabled));
    let result = bridge_solve(&channel, "b1", &[("target", "app")], &[]).await.unwrap();
    assert!(builder.solves.lock().unwrap().is_empty(), "nothing is built before it is wanted");
    give_back(&channel, "b1", result).await;
    let answer = solving.await.unwrap().unwrap();
    assert_eq!(answer.exporter_response["containerimage.digest"], Digest::of("x").to_string());
    {
        let solves = builder.solves.lock().unwrap();
        assert_eq!(solves[0].frontend.attributes["target"], "app");
        assert_eq!(solves[0].exporters[0].attributes["name"], "a");
    }

    // Its progress and its record can be read afterwards.
    let request = Request::new(futures_util::stream::iter([StatusRequest { r#ref: "b1".into() }]));
    let status: Streaming<StatusResponse> =
        channel.streaming("/moby.buildkit.v1.Control/Status", request).await.unwrap();
    let status: Vec<_> = status.collect().await;
    let vertex = status.last().unwrap().as_ref().unwrap().vertexes.last().unwrap().clone();
    assert!(vertex.name == "[1/1] RUN x" && vertex.completed.is_some());
    ended(&daemon).await;
    let request = BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() };
    let request = Request::new(futures_util::stream::iter([request]));
    let records: Streaming<BuildHistoryEvent> =
        channel.streaming("/moby.buildkit.v1.Control/ListenBuildHistory", request).await.unwrap();
    let records: Vec<_> = records.collect().await;
    let record = records[0].as_ref().unwrap().record.clone().unwrap();
    assert_eq!((record.r#ref.as_str(), record.num_completed_steps), ("b1", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_and_a_question_build_nothing() {
    let builder = Arc::new(FakeBuilder::default());
    let (daemon, channel, _folder) = daemon(builder.clone()).await;
    let solving = begin(&channel, SolveRequest { internal: true, ..solve("probe") }).await;
    let empty = Refs::Ref(bridge::Ref::default());
    let result = bridge::SolveResult { refs: Some(empty), ..bridge::SolveResult::default() };
    give_back(&channel, "probe", result).await;
    assert!(solving.await.unwrap().unwrap().exporter_response.is_empty());
    let solving = begin(&channel, solve("q")).await;
    let asked = [("requestid", "frontend.outline")];
    let result = bridge_solve(&channel, "q", &asked, &[]).await.unwrap();
    assert_eq!(result.metadata["result.txt"], b"frontend.outline");
    give_back(&channel, "q", result).await;
    solving.await.unwrap().unwrap();
    assert!(builder.solves.lock().unwrap().is_empty());
    assert_eq!(daemon.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_the_context_of_another_build() {
    let builder = Arc::new(FakeBuilder::default());
    let (_daemon, channel, _folder) = daemon(builder.clone()).await;
    let parent = begin(&channel, solve("parent")).await;
    let base = bridge_solve(&channel, "parent", &[("target", "base")], &[]).await.unwrap();
    let Some(Refs::Ref(made)) = &base.refs else { panic!("one result") };
    let child = begin(&channel, solve("child")).await;
    let inputs = [("base", made.def.clone().unwrap())];
    let result = bridge_solve(&channel, "child", &[], &inputs).await.unwrap();
    give_back(&channel, "child", result).await;
    child.await.unwrap().unwrap();
    {
        let solves = builder.solves.lock().unwrap();
        let input = &solves[0].frontend.inputs["base"];
        assert_eq!(input.solve.frontend.attributes["target"], "base");
    }
    give_back(&channel, "parent", base.clone()).await;
    parent.await.unwrap().unwrap();
    // Its build has ended, and nothing stands for it any more.
    let late = begin(&channel, solve("late")).await;
    let error = bridge_solve(&channel, "late", &[], &inputs).await.unwrap_err();
    assert_eq!((error.code(), error.message().contains("has ended")), (Code::NotFound, true));
    late.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_built_is_refused_by_name() {
    let (_daemon, channel, _folder) = daemon(Arc::default()).await;
    let llb = Definition { def: vec![b"\x1a\x00".to_vec()], ..Definition::default() };
    let request = SolveRequest { definition: Some(llb.clone()), ..solve("llb") };
    let error = begin(&channel, request).await.await.unwrap().unwrap_err();
    assert!(error.message().contains("takes no LLB"), "{error}");
    let waiting = begin(&channel, solve("inputs")).await;
    let error = bridge_solve(&channel, "inputs", &[], &[("a", llb)]).await.unwrap_err();
    assert!(error.message().contains("takes no LLB"), "{error}");
    let error = begin(&channel, solve("inputs")).await.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists);
    let failed = ReturnRequest {
        error: Some(RpcStatus { code: 2, message: "client says no".into(), details: Vec::new() }),
        ..ReturnRequest::default()
    };
    channel.unary::<_, Empty>(RETURN, of_build("inputs", failed)).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().message(), "client says no");
    for name in ["", "../x", "a b", &"x".repeat(200)] {
        let error = begin(&channel, solve(name)).await.await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{name}");
    }
    let request = SolveRequest { session: "none".into(), ..solve("sessionless") };
    let error = begin(&channel, request).await.await.unwrap().unwrap_err();
    assert!(error.message().contains("no active session for `none`"), "{error}");
    let error = channel
        .unary::<_, Empty>(
            "/moby.buildkit.v1.frontend.LLBBridge/NewContainer",
            Request::new(Empty {}),
        )
        .await
        .unwrap_err();
    assert!(error.code() == Code::Unimplemented && error.message().contains("NewContainer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_ends_its_build() {
    let builder = Arc::new(FakeBuilder { is_endless: true, ..FakeBuilder::default() });
    let (daemon, channel, _folder) = daemon(builder.clone()).await;
    let request = SolveRequest { frontend: "dockerfile.v0".into(), ..solve("b") };
    let other = connect(&daemon).await;
    let solving = begin(&other, request).await;
    drop(other);
    let running = async |count: usize| {
        for _ in 0..100 {
            if (builder.running.load(Ordering::SeqCst), daemon.running()) == (count, count) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    };
    assert!(running(1).await);
    solving.abort();
    assert!(running(0).await, "the build goes on");
    // The daemon goes on, and remembers how it ended.
    let info =
        channel.unary::<_, InfoResponse>("/moby.buildkit.v1.Control/Info", Request::new(Empty {}));
    info.await.unwrap();
    let record = ended(&daemon).await;
    assert_eq!(record.error.unwrap().message, "context canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_result_are_read_inside_of_it() {
    let (_daemon, channel, _folder) = daemon(Arc::default()).await;
    let waiting = begin(&channel, solve("files")).await;
    let result = bridge_solve(&channel, "files", &[], &[]).await.unwrap();
    let Some(Refs::Ref(made)) = result.refs else { panic!("one result") };
    let read = async |path: &str| {
        let request = bridge::ReadFileRequest {
            r#ref: made.id.clone(),
            file_path: path.into(),
            ..bridge::ReadFileRequest::default()
        };
        let path = "/moby.buildkit.v1.frontend.LLBBridge/ReadFile";
        let answer = channel.unary::<_, bridge::ReadFileResponse>(path, of_build("files", request));
        answer.await.map(|answer| String::from_utf8(answer.data).unwrap())
    };
    assert_eq!(read("/in/a.txt").await.unwrap(), "hello");
    for path in ["out/passwd", "../../../../etc/passwd", "/etc/passwd"] {
        assert_eq!(read(path).await.unwrap_err().code(), Code::NotFound, "{path}");
    }
    assert!(read("d").await.unwrap_err().message().contains("no file"));
    let request = bridge::ReadDirRequest {
        r#ref: made.id.clone(),
        dir_path: "/".into(),
        include_pattern: "i*".into(),
    };
    let path = "/moby.buildkit.v1.frontend.LLBBridge/ReadDir";
    let listed: bridge::ReadDirResponse =
        channel.unary(path, of_build("files", request)).await.unwrap();
    assert_eq!((listed.entries.len(), listed.entries[0].linkname.as_str()), (1, "/d"));
    let request = bridge::StatFileRequest { r#ref: made.id.clone(), path: "d/a.txt".into() };
    let path = "/moby.buildkit.v1.frontend.LLBBridge/StatFile";
    let stat: bridge::StatFileResponse =
        channel.unary(path, of_build("files", request)).await.unwrap();
    let stat = stat.stat.unwrap();
    assert_eq!((stat.path.as_str(), stat.size), ("a.txt", 5));
    waiting.abort();
}
