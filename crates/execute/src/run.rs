//! RUN: a command in a container, and the layer that it leaves.

use std::net::IpAddr;
use std::path::Path;

use graph::{Mount, MountKind, Network, ProxyEnv, RunOp, Security, StepId, TaskEvent};
use runtime::{Container, Exit, FileContent, Overlay, RootSource, Writable};
use store::{Chain, Layer, Privileges, WritableSnapshot};

use crate::cache_mount::CacheMount;
use crate::executor::{Executor, blocking};
use crate::{Error, Output};

/// What must live as long as the command runs.
struct Held {
    cache_mounts: Vec<CacheMount>,
    snapshots: Vec<WritableSnapshot>,
}

impl Executor {
    /// Runs a command on its inputs, which are unpacked, and commits what it changed.
    pub(crate) async fn run_command(
        &self,
        id: StepId,
        run: &RunOp,
        inputs: &[Output],
    ) -> Result<Output, Error> {
        let root = run.mounts.iter().find(|mount| mount.target == "/");
        let base = match root.and_then(|mount| mount.input) {
            Some(input) => self.chain(&inputs[input]).await?,
            None => Chain::new(),
        };
        let store = self.store().clone();
        let below: Vec<_> = base.layers().iter().map(|layer| layer.diff_id).collect();
        let snapshot = blocking(move || store.snapshot(&below)).await?;

        let mut held = Held { cache_mounts: Vec::new(), snapshots: Vec::new() };
        let overlay = Overlay {
            lowers: snapshot.lowers.clone(),
            writable: Some(Writable { upper: snapshot.upper.clone(), work: snapshot.work.clone() }),
            userxattr: self.store().privileges() == Privileges::UserNamespace,
        };
        let mut container = Container::new(RootSource::Overlay(overlay), run.args.clone());
        container.env = self.environment(run)?;
        container.cwd.clone_from(&run.cwd);
        container.user = Some(run.user.clone()).filter(|user| !user.is_empty());
        if !run.hostname.is_empty() {
            container.hostname.clone_from(&run.hostname);
        }
        container.extra_hosts = extra_hosts(run)?;
        container.network = match run.network {
            Network::Default | Network::Host => runtime::Network::Host,
            Network::None => runtime::Network::None,
        };
        container.security = match run.security {
            Security::Sandbox => runtime::Security::Sandbox,
            Security::Insecure => runtime::Security::Insecure,
        };
        container.ulimits = run
            .ulimits
            .iter()
            .map(|limit| runtime::Ulimit {
                name: limit.name.clone(),
                soft: limit.soft,
                hard: limit.hard,
            })
            .collect();
        for mount in run.mounts.iter().filter(|mount| mount.target != "/") {
            if let Some(kind) = self.mount(mount, inputs, &mut held).await? {
                container.mounts.push(runtime::Mount { target: mount.target.clone(), kind });
            }
        }

        let finished = self.run_container(id, run, &container).await?;
        drop(held);
        let created = Some(self.now_text());
        let layer: Layer = blocking(move || snapshot.commit(&finished, created)).await?;
        Ok(Output::Chain(base.with(layer)))
    }

    /// Runs the container; hands back what was made for mounts to stand on.
    async fn run_container(
        &self,
        id: StepId,
        run: &RunOp,
        container: &Container,
    ) -> Result<Vec<Box<[u8]>>, Error> {
        let runtime = self
            .runtime()
            .as_ref()
            .map_err(|reason| Error::NoIsolation { reason: reason.clone() })?;
        let task = self.task(id);
        let events = self.events().clone();
        let output = move |stream: runtime::Stream, bytes: &[u8]| {
            if let Some(task) = task {
                let stream = match stream {
                    runtime::Stream::Stdout => graph::Stream::Out,
                    runtime::Stream::Stderr => graph::Stream::Err,
                };
                events.send(task, TaskEvent::Log(stream, bytes.into()));
            }
        };
        let command = command_text(&run.args);
        let finished = runtime
            .run(container, output, std::future::pending())
            .await
            .map_err(|source| Error::Container { command: command.clone(), source })?;
        match finished.exit {
            Exit::Code(0) => Ok(finished
                .stubs
                .iter()
                .map(|stub| stub.trim_matches('/').as_bytes().into())
                .collect()),
            Exit::Code(code) => Err(Error::ExitCode { command, code }),
            Exit::Signal(signal) => Err(Error::Signal { command, signal: signal_text(signal) }),
        }
    }

    /// The environment of the process: the step's, proxies of the caller, secrets.
    fn environment(&self, run: &RunOp) -> Result<Vec<(String, String)>, Error> {
        let mut env = run.env.clone();
        for (name, value) in proxies(&run.proxy) {
            if !env.iter().any(|(known, _)| known == name) {
                env.push((name.into(), value.into()));
            }
        }
        for secret in &run.secret_env {
            let value = match self.lent().secrets.get(&secret.id) {
                Some(value) => String::from_utf8(value.to_vec())
                    .ok()
                    .filter(|text| !text.contains('\0'))
                    .ok_or_else(|| Error::SecretNotText { id: secret.id.clone() })?,
                None if secret.optional => String::new(),
                None => return Err(Error::NoSecret { id: secret.id.clone() }),
            };
            env.retain(|(name, _)| *name != secret.name);
            env.push((secret.name.clone(), value));
        }
        Ok(env)
    }

    /// What a mount shows; nothing for an optional one that was not given.
    async fn mount(
        &self,
        mount: &Mount,
        inputs: &[Output],
        held: &mut Held,
    ) -> Result<Option<runtime::MountKind>, Error> {
        let kind = match &mount.kind {
            MountKind::Bind => self.bind(mount, inputs, held).await?,
            MountKind::Cache { id, sharing } => {
                self.cache_mount(mount, id, *sharing, inputs, held).await?
            }
            MountKind::Tmpfs { size } => runtime::MountKind::Tmpfs {
                size: u64::try_from(*size).ok().filter(|size| *size > 0),
                readonly: mount.readonly,
            },
            MountKind::Secret { id, uid, gid, mode, optional } => match self.lent().secrets.get(id)
            {
                Some(value) => runtime::MountKind::File {
                    content: FileContent::new(value.to_vec()),
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                },
                None if *optional => return Ok(None),
                None => return Err(Error::NoSecret { id: id.clone() }),
            },
            MountKind::Ssh { id, optional, .. } => match self.lent().ssh.get(id) {
                Some(socket) => runtime::MountKind::Bind {
                    source: socket.clone(),
                    subpath: String::new(),
                    readonly: false,
                },
                None if *optional => return Ok(None),
                None => return Err(Error::NoAgent { id: id.clone() }),
            },
        };
        Ok(Some(kind))
    }

    /// Layers of another step; what is written to them is thrown away.
    async fn bind(
        &self,
        mount: &Mount,
        inputs: &[Output],
        held: &mut Held,
    ) -> Result<runtime::MountKind, Error> {
        let subpath = mount.selector.trim_matches('/').to_owned();
        let Some(input) = mount.input else {
            return Ok(runtime::MountKind::Tmpfs { size: None, readonly: mount.readonly });
        };
        let chain = self.chain(&inputs[input]).await?;
        let overlay = self.view(&chain, !mount.readonly, held).await?;
        Ok(runtime::MountKind::Overlay { overlay, subpath, readonly: mount.readonly })
    }

    /// A view of a chain, with a place for writes that is thrown away where they are allowed.
    async fn view(&self, chain: &Chain, writable: bool, held: &mut Held) -> Result<Overlay, Error> {
        let store = self.store().clone();
        let layers: Vec<_> = chain.layers().iter().map(|layer| layer.diff_id).collect();
        let snapshot = blocking(move || store.snapshot(&layers)).await?;
        let overlay = Overlay {
            lowers: snapshot.lowers.clone(),
            writable: writable
                .then(|| Writable { upper: snapshot.upper.clone(), work: snapshot.work.clone() }),
            userxattr: self.store().privileges() == Privileges::UserNamespace,
        };
        held.snapshots.push(snapshot);
        Ok(overlay)
    }

    /// A folder that outlives builds. A fresh one begins with what its input shows.
    async fn cache_mount(
        &self,
        mount: &Mount,
        id: &str,
        sharing: graph::Sharing,
        inputs: &[Output],
        held: &mut Held,
    ) -> Result<runtime::MountKind, Error> {
        let failed = |source| Error::CacheMount { id: id.to_owned(), source };
        let seed = match mount.input {
            Some(input) => Some(self.chain(&inputs[input]).await?),
            None => None,
        };
        // A cache mount that begins with other files is another one, as in BuildKit.
        let name = match seed.as_ref().and_then(Chain::id) {
            Some(seed) => format!("{id}\0{seed}"),
            None => id.to_owned(),
        };
        let mounts = self.cache_mounts().clone();
        let cache_mount = blocking(move || mounts.hold(&name, sharing)).await.map_err(failed)?;
        if cache_mount.fresh
            && let Some(chain) = seed
        {
            let (store, target) = (self.store().clone(), cache_mount.path.clone());
            let layers: Vec<_> = chain.layers().iter().map(|layer| layer.diff_id).collect();
            blocking(move || store.checkout(&layers, &target)).await?;
        }
        let subpath = mount.selector.trim_matches('/').to_owned();
        let source = cache_mount.path.clone();
        let readonly = mount.readonly;
        held.cache_mounts.push(cache_mount);
        make_subpath(&source, &subpath).map_err(failed)?;
        Ok(runtime::MountKind::Bind { source, subpath, readonly })
    }

    /// The output as layers: files of a context become one.
    pub(crate) async fn chain(&self, output: &Output) -> Result<Chain, Error> {
        match output {
            Output::Chain(chain) => Ok(chain.clone()),
            Output::Context(tree) => self.context_chain(tree).await,
        }
    }
}

/// The folder of a cache mount that is mounted: made where it was never used.
fn make_subpath(folder: &Path, subpath: &str) -> std::io::Result<()> {
    if subpath.is_empty() || subpath.split('/').any(|part| part == "..") {
        return Ok(());
    }
    let path = folder.join(subpath);
    match path.symlink_metadata() {
        Ok(_) => Ok(()),
        Err(_) => std::fs::create_dir_all(path),
    }
}

fn extra_hosts(run: &RunOp) -> Result<Vec<(String, IpAddr)>, Error> {
    let host = |(name, address): &(String, String)| {
        let address = address.trim_matches(['[', ']']).parse().map_err(|_| {
            Error::Unsupported(format!("`{address}` is no address for host `{name}`"))
        })?;
        Ok((name.clone(), address))
    };
    run.extra_hosts.iter().map(host).collect()
}

fn proxies(proxy: &ProxyEnv) -> impl Iterator<Item = (&'static str, &str)> {
    [
        ("HTTP_PROXY", "http_proxy", &proxy.http),
        ("HTTPS_PROXY", "https_proxy", &proxy.https),
        ("FTP_PROXY", "ftp_proxy", &proxy.ftp),
        ("NO_PROXY", "no_proxy", &proxy.no),
        ("ALL_PROXY", "all_proxy", &proxy.all),
    ]
    .into_iter()
    .filter(|(_, _, value)| !value.is_empty())
    .flat_map(|(upper, lower, value)| [(upper, value.as_str()), (lower, value.as_str())])
}

/// A command in one line, as BuildKit shows it.
fn command_text(args: &[String]) -> String {
    args.join(" ")
}

fn signal_text(signal: i32) -> String {
    match signal {
        9 => "killed (signal 9)".into(),
        11 => "segmentation fault (signal 11)".into(),
        15 => "terminated (signal 15)".into(),
        other => format!("signal {other}"),
    }
}
