//! The endpoints' work.

pub(crate) mod build;
mod containers;
mod images;
mod networks;
mod streams;
mod system;
mod upgrade;

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response};

use crate::answers::HandOver;
use crate::body::Body;
use crate::endpoints::Action;
use crate::half_close::HalfCloseGuard;
use crate::query::Query;
use crate::route::Version;
use crate::{ApiError, EngineServer};

/// A request to an endpoint.
pub(crate) struct EndpointCall {
    /// The object in the path.
    pub(crate) name: String,
    /// The version that the client speaks.
    pub(crate) version: Version,
    /// Its parameters.
    pub(crate) query: Query,
    /// Sentences about parameters without effect.
    pub(crate) notes: Vec<String>,
    /// The rest.
    pub(crate) request: Request<Incoming>,
    /// Takes the connection after an upgrade.
    pub(crate) hand_over: HandOver,
    /// Lets the client end its side of the connection, for requests that become streams.
    pub(crate) half_close: Option<HalfCloseGuard>,
}

impl EndpointCall {
    fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// A parameter that must be there.
    fn needed(&self, name: &str) -> Result<String, ApiError> {
        let value = self.query.get(name).map(str::to_owned);
        value.ok_or_else(|| ApiError::BadRequest(format!("`{name}` is missing")))
    }
}

pub(crate) async fn run(
    engine: Arc<EngineServer>,
    action: Action,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    match action {
        Action::Ping => system::ping(),
        Action::Version => system::version(&engine),
        Action::Info => system::info(&engine).await,
        Action::Events => system::events(&engine, &call),
        Action::Auth => system::auth(&engine, call).await,
        Action::DiskUsage => system::disk_usage(&engine).await,
        Action::ListImages => images::list(&engine, &call).await,
        Action::InspectImage => images::inspect(&engine, call).await,
        Action::ImageHistory => images::history(&engine, call).await,
        Action::TagImage => images::tag(&engine, &call).await,
        Action::RemoveImage => images::remove(&engine, call).await,
        Action::PruneImages => images::prune(&engine, &call).await,
        Action::Distribution => images::distribution(&engine, call).await,
        Action::CreateImage => images::pull(engine, &call).await,
        Action::PushImage => images::push(engine, &call).await,
        Action::SaveImage => images::save(engine, vec![call.name]).await,
        Action::SaveImages => images::save(engine, call.query.all("names")).await,
        Action::LoadImages => images::load(engine, call).await,
        Action::Build => build::build(engine, call).await,
        Action::CancelBuild => build::cancel(&engine, &call),
        Action::PruneBuild => build::prune(&engine, &call).await,
        Action::Grpc => upgrade::grpc(&engine, call),
        Action::Session => upgrade::session(&engine, call),
        Action::ListNetworks => networks::list(&call),
        Action::InspectNetwork => networks::inspect(&engine, &call).await,
        Action::ListContainers => containers::list(&engine, &call).await,
        Action::PruneContainers => containers::prune(&engine, &call).await,
        Action::CreateContainer => containers::create(&engine, call).await,
        Action::InspectContainer => containers::inspect(&engine, &call).await,
        Action::TopContainer => containers::top(&engine, &call).await,
        Action::ContainerLogs => containers::logs(&engine, &call).await,
        Action::ContainerChanges => containers::changes(&engine, &call).await,
        Action::ExportContainer => containers::export(engine, &call).await,
        Action::ResizeContainer => containers::resize(&engine, &call).await,
        Action::StartContainer => containers::start(&engine, call).await,
        Action::StopContainer => containers::stop(&engine, &call).await,
        Action::RestartContainer => containers::restart(&engine, &call).await,
        Action::KillContainer => containers::kill(&engine, &call).await,
        Action::RenameContainer => containers::rename(&engine, &call).await,
        Action::AttachContainer => containers::attach(&engine, call).await,
        Action::WaitContainer => containers::wait(&engine, &call).await,
        Action::RemoveContainer => containers::remove(&engine, &call).await,
        Action::StatArchive => containers::stat_path(&engine, &call).await,
        Action::GetArchive => containers::copy_out(engine, &call).await,
        Action::PutArchive => containers::copy_in(&engine, call).await,
        Action::CreateExec => containers::create_exec(&engine, call).await,
        Action::StartExec => containers::start_exec(&engine, call).await,
        Action::ResizeExec => containers::resize_exec(&engine, &call).await,
        Action::InspectExec => containers::inspect_exec(&engine, &call).await,
        Action::Commit => containers::commit(&engine, call).await,
    }
}
