//! `kiln serve`: Docker's and BuildKit's APIs on sockets.
//!
//! [`listener`] accepts connections, [`connection`] tells HTTP/1.1 from HTTP/2 by the first bytes and hands
//! each on: to the crate `engine`, or to BuildKit's API. [`engine`] is what `engine` builds and moves images
//! with: the code behind kiln's own commands, on a store that each request opens for itself, so that what
//! one request used can be pruned once it has ended.

mod address;
mod api_error;
mod blocking;
mod build_request;
mod builder_container;
mod buildkit;
mod classic_context;
mod client_flags;
mod connection;
pub mod containers;
#[cfg(test)]
mod docs;
mod engine;
mod error;
mod inherited;
mod listener;
mod logins;
mod messages;
mod resources;
mod session_build;
mod stopping;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::engine::{EngineServer, Events};
use build::images::CollectPolicy;
use runtime::WantedIsolation;
use rustls::ServerConfig;

use crate::args::isolation_or_setting;
use crate::machine;
use crate::render::Report;
use crate::settings::{Environment, Settings};
use crate::terminal::say;

pub use address::Address;
pub use error::ServeError;
pub use tls::TlsFiles;

use builder_container::{BuilderContainers, BuilderHost};
use containers::{Grants, LocalContainers};
use listener::Listener;
use resources::Resources;
use stopping::Activity;

/// The collection of old build cache after builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// By kiln's configuration.
    AsConfigured,
    /// Never.
    Never,
    /// By a policy.
    By(CollectPolicy),
}

/// The builder that docker's clients take where they have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsualBuilder {
    /// BuildKit's way.
    BuildKit,
    /// The classic way.
    Classic,
}

/// The options of a service.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The addresses; the usual one, or the sockets of systemd, if empty.
    pub addresses: Vec<Address>,
    /// TLS for TCP.
    pub tls: Option<Arc<ServerConfig>>,
    /// The group that may use Unix sockets.
    pub group: Option<String>,
    /// The isolation of a RUN; the settings' if unset.
    pub isolation: Option<WantedIsolation>,
    /// Time without a connection after which the service ends.
    pub idle_timeout: Option<Duration>,
    /// Time that running builds have to end after SIGTERM.
    pub shutdown_timeout: Duration,
    /// A file for the process's ID.
    pub pidfile: Option<PathBuf>,
    /// True if clients may have `security.insecure`.
    pub allows_insecure: bool,
    /// The collection of old build cache.
    pub collection: Collection,
    /// The builder that clients are told to take.
    pub usual_builder: UsualBuilder,
    /// Folders whose content clients may bind into containers.
    pub bindable: Vec<PathBuf>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            tls: None,
            group: None,
            isolation: None,
            idle_timeout: None,
            shutdown_timeout: SHUTDOWN_TIME,
            pidfile: None,
            allows_insecure: false,
            collection: Collection::AsConfigured,
            usual_builder: UsualBuilder::BuildKit,
            bindable: Vec::new(),
        }
    }
}

/// Less than the ten seconds after which `docker stop` kills.
pub const SHUTDOWN_TIME: Duration = Duration::from_secs(8);
/// The time that abandoned work has to clean up.
const GRACE: Duration = Duration::from_millis(1500);

/// Serves until a signal, or until it was idle for long enough.
///
/// # Errors
/// If an option is wrong, the root cannot be used, or an address cannot be listened on.
pub fn run(
    options: &ServeOptions,
    environment: &Environment,
    settings: &Settings,
) -> Result<(), Report> {
    let isolation = isolation_or_setting(options.isolation, settings)?;
    let privilege = machine::rise_for(settings, isolation);
    for warning in &settings.warnings {
        say(&format!("WARNING: {warning}\n"));
    }
    let inherited = inherited::sockets(environment, &privilege)?;
    let addresses = match (options.addresses.is_empty(), inherited.is_empty()) {
        (true, true) => vec![Address::usual(environment, settings, &privilege)],
        _ => options.addresses.clone(),
    };
    let mut resources = Resources::open(settings, environment, &privilege, isolation)?;
    resources.allows_insecure = options.allows_insecure;
    match options.collection {
        Collection::AsConfigured => {}
        Collection::Never => resources.policy = None,
        Collection::By(policy) => resources.policy = Some(policy),
    }
    if let Some(line) = resources.isolation_line(isolation) {
        say(&line);
    }
    if let Some(path) = &options.pidfile {
        std::fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|source| ServeError::File { path: path.clone(), source })?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(4 << 20)
        .enable_all()
        .build()
        .map_err(ServeError::Threads)?;
    let result = runtime.block_on(async {
        // Before the first connection can come: who sees the socket may end the service.
        let signals = stopping::Signals::watch().map_err(ServeError::Signals)?;
        let mut listeners = Vec::new();
        for address in &addresses {
            let tls = options.tls.clone();
            listeners.push(Listener::bind(address, options.group.as_deref(), tls)?);
        }
        for socket in inherited {
            listeners.push(Listener::of_descriptor(socket, options.tls.clone())?);
        }
        serve(options, listeners, signals, Arc::new(resources)).await
    });
    if let Some(path) = &options.pidfile {
        let _ = std::fs::remove_file(path);
    }
    // Threads may still work for abandoned builds, and a shutdown would make them panic. They end
    // with the process.
    std::mem::forget(runtime);
    Ok(result?)
}

async fn serve(
    options: &ServeOptions,
    listeners: Vec<Listener>,
    mut signals: stopping::Signals,
    resources: Arc<Resources>,
) -> Result<(), ServeError> {
    let (activity, events) = (Activity::default(), Events::default());
    let grants = Grants::Service(options.bindable.clone());
    let opened =
        LocalContainers::open(resources.clone(), &grants, events.clone(), activity.clone());
    let containers = Arc::new(opened?);
    let buildkit = Arc::new(buildkit::Bridge::open(resources.clone())?);
    let builders = BuilderHost {
        resources: resources.clone(),
        bridge: buildkit.clone(),
        events: events.clone(),
    };
    let builders = Arc::new(BuilderContainers::new(builders, containers.clone()));
    let docker = Arc::new(engine::LocalEngine::new(resources, buildkit.daemon()));
    let engine = EngineServer::new(docker, Some(builders), Some(buildkit)).with_events(events);
    let engine = Arc::new(match options.usual_builder {
        UsualBuilder::BuildKit => engine,
        UsualBuilder::Classic => engine.preferring_classic_builds(),
    });
    for listener in &listeners {
        say(&format!("API listen on {}\n", listener.address()));
        if listener.is_open_to_all() {
            say(&format!(
                "WARNING: {} has no TLS: anyone who reaches it can build here, with the rights of kiln; \
                 `--tlsverify` asks for certificates\n",
                listener.address()
            ));
        }
    }
    let sockets: Vec<PathBuf> = listeners.iter().filter_map(Listener::socket).collect();
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(listener.accept(engine.clone(), activity.clone())))
        .collect();
    tokio::select! {
        () = signals.next() => {}
        () = activity.is_idle_for(options.idle_timeout) => {}
        () = activity.keep_memory_small() => {}
    }
    accepting.iter().for_each(tokio::task::JoinHandle::abort);
    for socket in sockets {
        let _ = std::fs::remove_file(socket);
    }
    activity.drain();
    if activity.count() > 0 {
        // Containers are killed before the time is over, so that what they changed is kept.
        let stopped = containers.shut_down(options.shutdown_timeout / 4 * 3);
        tokio::select! {
            () = signals.next() => {}
            ((), ()) = async { tokio::join!(activity.ended(), stopped) } => {}
            () = tokio::time::sleep(options.shutdown_timeout) => {}
        }
    }
    activity.give_up();
    let _ = tokio::time::timeout(GRACE, activity.ended()).await;
    Ok(())
}
