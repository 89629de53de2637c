//! A connection, and the table of methods.

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Request;

use crate::daemon::Daemon;
use crate::grpc::{self, HttpRequest, HttpResponse, Served, server_streaming, streaming, unary};
use crate::proto::Empty;
use crate::proto::session::{HealthCheckRequest, HealthCheckResponse};
use crate::{content, control, files, gateway};

/// Larger windows than HTTP/2's own: sessions come over one stream.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Calls of one client at once.
const MOST_CALLS: u32 = 1024;
/// A client whose machine has gone is found out by a ping.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection that speaks HTTP/2 from its first byte, until it ends.
///
/// # Errors
/// If the other end breaks HTTP/2's rules or breaks off.
pub async fn serve(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    daemon: Arc<Daemon>,
) -> Result<(), hyper::Error> {
    let route = service_fn(move |request| {
        let daemon = daemon.clone();
        async move { Served::Ok(route(daemon, request).await) }
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MOST_CALLS)
        .serve_connection(TokioIo::new(io), route)
        .await
}

/// The table of methods.
async fn route(daemon: Arc<Daemon>, request: HttpRequest) -> HttpResponse {
    macro_rules! method {
        ($shape:ident, $method:path) => {
            $shape(request, move |request| $method(daemon.clone(), request)).await
        };
    }
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/moby.buildkit.v1.Control/Solve" => method!(unary, control::solve),
        "/moby.buildkit.v1.Control/Status" => method!(server_streaming, control::status),
        "/moby.buildkit.v1.Control/Session" => {
            let headers = request.headers().clone();
            streaming(request, move |request| {
                control::session(daemon.clone(), headers.clone(), request)
            })
            .await
        }
        "/moby.buildkit.v1.Control/ListWorkers" => method!(unary, control::list_workers),
        "/moby.buildkit.v1.Control/Info" => method!(unary, control::info),
        "/moby.buildkit.v1.Control/DiskUsage" => method!(unary, control::disk_usage),
        "/moby.buildkit.v1.Control/Prune" => method!(server_streaming, control::prune),
        "/moby.buildkit.v1.Control/ListenBuildHistory" => {
            method!(server_streaming, control::listen_build_history)
        }
        "/moby.buildkit.v1.Control/UpdateBuildHistory" => {
            method!(unary, control::update_build_history)
        }
        "/moby.buildkit.v1.frontend.LLBBridge/Ping" => method!(unary, gateway::ping),
        "/moby.buildkit.v1.frontend.LLBBridge/Solve" => method!(unary, gateway::solve),
        "/moby.buildkit.v1.frontend.LLBBridge/Return" => method!(unary, gateway::give_back),
        "/moby.buildkit.v1.frontend.LLBBridge/Evaluate" => method!(unary, gateway::evaluate),
        "/moby.buildkit.v1.frontend.LLBBridge/Inputs" => method!(unary, gateway::inputs),
        "/moby.buildkit.v1.frontend.LLBBridge/Warn" => method!(unary, gateway::warn),
        "/moby.buildkit.v1.frontend.LLBBridge/StatFile" => method!(unary, files::stat_file),
        "/moby.buildkit.v1.frontend.LLBBridge/ReadFile" => method!(unary, files::read_file),
        "/moby.buildkit.v1.frontend.LLBBridge/ReadDir" => method!(unary, files::read_dir),
        "/containerd.services.content.v1.Content/Info" => method!(unary, content::info),
        "/containerd.services.content.v1.Content/Read" => {
            method!(server_streaming, content::read)
        }
        "/grpc.health.v1.Health/Check" => unary(request, health).await,
        // Spans of clients have no use here; a refusal would be an error in each of their logs.
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
            unary(request, async |_: Request<Empty>| Ok(Empty {})).await
        }
        _ => grpc::unimplemented(&path),
    }
}

async fn health(_: Request<HealthCheckRequest>) -> Result<HealthCheckResponse, tonic::Status> {
    Ok(HealthCheckResponse { status: 1 })
}
