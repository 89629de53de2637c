//! RUN: a command in a container, and the layer that it leaves.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graph::{Network, ProxyEnv, RunOp, Security, Step, StepId, TaskEvent};
use layer::{Chain, Layer};
use oci::Platform;
use runtime::{Container, Exit, Overlay, RootSource, Runtime, Writable};
use store::{FolderSnapshot, MountPoints, Privileges, WritableSnapshot};
use tracing::Instrument as _;
use transfer::blocking;

use crate::executor::Executor;
use crate::mounts::Mounts;
use crate::{Error, StepOutput};

impl Executor {
    /// Runs a command on its inputs, which can be mounted, and commits what it changed.
    ///
    /// If contents of a hollow layer cannot be had, it is ended and run again on whole layers.
    pub(crate) async fn run_command(
        &self,
        id: StepId,
        step: &Step,
        run: &RunOp,
        inputs: &[StepOutput],
    ) -> Result<StepOutput, Error> {
        let key = solve::step_key(step).digests.first().copied();
        let step = CommandStep { id, run, platform: &step.platform, inputs };
        if self.store().has_hollow_layers() {
            let layers = Self::layers_of(inputs);
            if self.transfer().lost_contents(&layers).is_none() {
                let work = async {
                    if let Some(key) = key {
                        self.fetch_read_set(key, &layers).await;
                    }
                    self.run_step(&step, self.transfer().loses_contents(&layers)).await
                };
                let ended = self.showing_brought(id, &layers, work).await;
                let Some(reason) = self.transfer().lost_contents(&layers) else {
                    if let (Some(key), Ok(_)) = (key, &ended) {
                        self.note_read_set(key, &layers);
                    }
                    return ended;
                };
                self.warn_of_rerun(id, &reason);
            }
            self.unpack_inputs(inputs, self.task(id)).await?;
        }
        self.run_step(&step, std::future::pending()).await
    }

    async fn run_step(
        &self,
        step: &CommandStep<'_>,
        cancel: impl Future<Output = ()>,
    ) -> Result<StepOutput, Error> {
        let CommandStep { run, platform, inputs, .. } = *step;
        let root = run.mounts.iter().find(|mount| mount.target == "/");
        let base = match root.and_then(|mount| mount.input) {
            Some(input) => self.chain(&inputs[input]).await?,
            None => Chain::new(),
        };
        let runtime = self.runtime_or_reason()?.clone();
        let snapshot = self.snapshot(&base, runtime.has_overlays()).await?;
        let mut mounts = Mounts::new(self, inputs, &runtime);
        if !runtime.has_mounts() {
            mounts.hold_in_order(&run.mounts).await?;
        }
        let userxattr = self.store().privileges() == Privileges::UserNamespace;
        let mut container = Container::new(snapshot.root(userxattr), run.args.clone());
        container.aside = snapshot.aside();
        container.env = self.environment(run).await?;
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
            if let Some(kind) = mounts.mount(mount).await? {
                // A secret's or agent's target is as it was written, also in the key.
                let target = Path::new(&run.cwd).join(&mount.target);
                let target = target.to_string_lossy().into_owned();
                container.mounts.push(runtime::Mount { target, kind });
            }
        }

        let finished = self
            .run_container(&runtime, step, &container, cancel)
            .await
            .map_err(|error| explained(error, platform))?;
        drop(mounts);
        let created = Some(self.now_text());
        let points = MountPoints { passing: finished, lasting: lasting(&container.mounts) };
        let layer: Layer = blocking(move || snapshot.commit(&points, created)).await?;
        Ok(StepOutput::Chain(base.with(layer)))
    }

    fn runtime_or_reason(&self) -> Result<&Arc<Runtime>, Error> {
        let runtime = self.runtime().as_ref();
        runtime.map_err(|source| Error::NoIsolation { source: source.clone() })
    }

    /// A chain to write to: layers to be mounted, or a folder.
    async fn snapshot(&self, chain: &Chain, overlays: bool) -> Result<Snapshot, Error> {
        let store = self.store().clone();
        let layers: Vec<_> = chain.layers().iter().map(|layer| layer.diff_id).collect();
        let made = move || {
            if overlays {
                store.snapshot(&layers).map(Snapshot::Overlay)
            } else {
                store.folder_snapshot(&layers).map(Snapshot::Folder)
            }
        };
        Ok(blocking(made).await?)
    }

    /// Runs the container; hands back what was made for mounts to stand on.
    async fn run_container(
        &self,
        runtime: &Runtime,
        step: &CommandStep<'_>,
        container: &Container,
        cancel: impl Future<Output = ()>,
    ) -> Result<Vec<Box<[u8]>>, Error> {
        let CommandStep { id, run, .. } = *step;
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
        let span = tracing::debug_span!("run", command, user = container.user, cwd = container.cwd);
        let finished = runtime
            .run(container, output, cancel)
            .instrument(span)
            .await
            .map_err(|source| Error::Container { command: command.clone(), source })?;
        tracing::debug!(exit = ?finished.exit, "command ended");
        match finished.exit {
            Exit::Code(0) => Ok(finished
                .stubs
                .iter()
                .map(|stub| stub.trim_matches('/').as_bytes().into())
                .collect()),
            Exit::Code(code) => {
                let refused_root = finished.refused_root;
                Err(Error::ExitCode { command, code, refused_root })
            }
            Exit::Signal(signal) => Err(Error::Signal { command, signal: signal_text(signal) }),
        }
    }

    /// The environment of the process: the step's, proxies of the caller, secrets.
    async fn environment(&self, run: &RunOp) -> Result<Vec<(String, String)>, Error> {
        let mut env = run.env.clone();
        for (name, value) in proxies(&run.proxy) {
            if !env.iter().any(|(known, _)| known == name) {
                env.push((name.into(), value.into()));
            }
        }
        for secret in &run.secret_env {
            let value = match self.credentials().secret(&secret.id).await? {
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

    /// The output as layers: files of a context become one.
    pub(crate) async fn chain(&self, output: &StepOutput) -> Result<Chain, Error> {
        match output {
            StepOutput::Chain(chain) => Ok(chain.clone()),
            StepOutput::Context(tree) => self.context_chain(tree).await,
        }
    }
}

/// A command, and what it runs on.
#[derive(Clone, Copy)]
struct CommandStep<'a> {
    id: StepId,
    run: &'a RunOp,
    platform: &'a Platform,
    inputs: &'a [StepOutput],
}

/// A command's writable root.
enum Snapshot {
    Overlay(WritableSnapshot),
    Folder(FolderSnapshot),
}

impl Snapshot {
    fn root(&self, userxattr: bool) -> RootSource {
        match self {
            Snapshot::Overlay(snapshot) => RootSource::Overlay(Overlay {
                lowers: snapshot.lowers.clone(),
                writable: Some(Writable {
                    upper: snapshot.upper.clone(),
                    work: snapshot.work.clone(),
                }),
                userxattr,
            }),
            Snapshot::Folder(snapshot) => RootSource::Directory(snapshot.root.clone()),
        }
    }

    fn aside(&self) -> Option<PathBuf> {
        match self {
            Snapshot::Overlay(_) => None,
            Snapshot::Folder(snapshot) => Some(snapshot.aside.clone()),
        }
    }

    fn commit(self, points: &MountPoints, created: Option<String>) -> store::Result<Layer> {
        match self {
            Snapshot::Overlay(snapshot) => snapshot.commit(points, created),
            Snapshot::Folder(snapshot) => snapshot.commit(points, created),
        }
    }
}

/// Mount points of the kernel's file systems. A command leaves these folders in its layer if the
/// root had none, unless one of its own mounts is there or below, as in BuildKit.
fn lasting(mounts: &[runtime::Mount]) -> Vec<&'static str> {
    let tops: Vec<String> = mounts
        .iter()
        .map(|mount| graph::clean_path(&format!("/{}", mount.target)))
        .filter_map(|path| path.split('/').nth(1).map(str::to_owned))
        .collect();
    let is_free = |name: &&str| !tops.iter().any(|top| top == name);
    ["dev", "proc", "sys"].into_iter().filter(is_free).collect()
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

/// Says what to do where the kernel does not know a program's format and it is for another
/// processor. Whether there is a handler shows when the program is executed: what is listed in
/// `/proc` may be hidden, and a step of a foreign platform can have a program for this one.
fn explained(error: Error, platform: &Platform) -> Error {
    let host = Platform::host();
    match error {
        Error::Container { command, source: runtime::Error::Execute { source, .. } }
            if source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error())
                && (&platform.os, &platform.architecture) != (&host.os, &host.architecture) =>
        {
            Error::ForeignProgram { command, platform: platform.clone(), host }
        }
        other => other,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_of_the_kernel_last_unless_a_mount_is_below() {
        let mount = |target: &str| runtime::Mount {
            target: target.into(),
            kind: runtime::MountKind::Tmpfs { size: None, readonly: false },
        };
        assert_eq!(lasting(&[mount("/etc/dev"), mount("/run")]), ["dev", "proc", "sys"]);
        assert_eq!(lasting(&[mount("/dev/pipes/x"), mount("//sys/../sys")]), ["proc"]);
    }
}
