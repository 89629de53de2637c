//! The run of a container: from its start to its end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use runtime::{
    Container, ContainerInput, ContainerOutput, ContainerProcess, Finished, RunningContainer,
    Stream, Streams, TerminalSize,
};
use store::{MountPoints, Store};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use transfer::{Transfer, blocking};

use crate::attachment::StreamPiece;
use crate::containers::unpacked_layers;
use crate::live::{Ended, Live, LiveRun};
use crate::log::{LogWriter, MOST_BYTES};
use crate::record::{ContainerRecord, StartFailure};
use crate::state_folder::ContainerLock;
use crate::writable_root::WritableRoot;
use crate::{ContainerId, Containers, Error, LifeEvent};

/// SIGKILL.
const KILL: i32 = 9;
/// The exit code of a run whose end is not known.
const UNKNOWN_END: i32 = 137;
/// The size of a terminal whose client has given none.
pub(crate) const USUAL_SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };

/// The time that a container has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopTime {
    /// The container's own.
    Own,
    /// It is killed then.
    After(Duration),
    /// It is not killed.
    Forever,
}

impl Containers {
    /// Starts a container; returns once its command runs, and with false if it ran before. It goes on whatever becomes
    /// of the caller.
    ///
    /// # Errors
    /// If the command cannot be run, or a folder may not be bound.
    pub async fn start(&self, id: &ContainerId, size: Option<TerminalSize>) -> Result<bool, Error> {
        let (live, _) = self.live(id)?;
        let _gate = live.gate.lock().await;
        let mut record = self.get(id)?;
        if record.is_running() {
            return Ok(false);
        }
        let lock = self.lock(id).await?;
        let launched = self.launch(&live, &mut record, size.unwrap_or(USUAL_SIZE)).await;
        match launched {
            Ok(launched) => {
                self.go(live.clone(), record, lock, launched)?;
                Ok(true)
            }
            Err(error) => {
                let reason = oci::chain_text(&error);
                record.failure = Some(StartFailure { reason, code: error.exit_code() });
                self.inner.folder.write(&record)?;
                live.hub().end();
                live.phase.send_modify(|phase| {
                    phase.ended = Ended { code: record.exit_code(), error: None };
                });
                if record.host.auto_remove {
                    self.remove_ended(&live, record, lock).await?;
                }
                Err(error)
            }
        }
    }

    async fn launch(
        &self,
        live: &Live,
        record: &mut ContainerRecord,
        size: TerminalSize,
    ) -> Result<Launched, Error> {
        let runtime = self.inner.machine.runtime()?;
        let transfer = self.inner.machine.transfer()?;
        transfer.unpack(&unpacked_layers(&record.layers), None).await?;
        let (store, layers) = (transfer.store().clone(), record.layers.clone());
        let overlays = runtime.has_overlays();
        let root = blocking(move || WritableRoot::of(&store, &layers, overlays)).await?;
        let container = self.container(record, &root, transfer.store())?;
        let log = LogWriter::open(&self.inner.folder.of(&record.id), MOST_BYTES)?;
        let streams = if record.process.tty {
            Streams::Terminal { size }
        } else {
            Streams::Piped { stdin: record.process.open_stdin }
        };
        let running = runtime.start_container(container, streams).await?;
        let input = live.hub().take_input();
        Ok(Launched { transfer, root, log, running, input })
    }

    /// The container for the runtime.
    fn container(
        &self,
        record: &ContainerRecord,
        root: &WritableRoot,
        store: &Store,
    ) -> Result<Container, Error> {
        let ContainerRecord { id, process, host, .. } = record;
        let mut container = Container::new(root.source(store), process.args());
        container.aside = root.aside();
        container.env = process.environment(id);
        process.cwd().clone_into(&mut container.cwd);
        container.user = Some(process.user.clone()).filter(|user| !user.is_empty());
        container.hostname = process.host(id);
        container.extra_hosts.clone_from(&host.extra_hosts);
        if host.no_network {
            container.network = runtime::Network::None;
        }
        if host.privileged {
            container.security = runtime::Security::Insecure;
        }
        container.readonly_root = host.read_only;
        container.init = host.init;
        for limit in &host.ulimits {
            let (name, soft, hard) = (limit.name.clone(), limit.soft, limit.hard);
            container.ulimits.push(runtime::Ulimit { name, soft, hard });
        }
        for bind in &host.binds {
            let kind = self.inner.binds.mount(bind)?;
            container.mounts.push(runtime::Mount { target: bind.target.clone(), kind });
        }
        for tmpfs in &host.tmpfs {
            let kind = runtime::MountKind::Tmpfs { size: tmpfs.size, readonly: tmpfs.readonly };
            container.mounts.push(runtime::Mount { target: tmpfs.target.clone(), kind });
        }
        Ok(container)
    }

    /// Notes that a container runs, and has its output carried until it ends.
    fn go(
        &self,
        live: Arc<Live>,
        mut record: ContainerRecord,
        lock: ContainerLock,
        launched: Launched,
    ) -> Result<(), Error> {
        let Launched { transfer, root, log, running, input } = launched;
        let RunningContainer { stdin, output, process } = running;
        record.start(SystemTime::now());
        live.execs().clear();
        live.set_run(Some(LiveRun { process: process.clone(), log: log.ends() }));
        live.phase.send_modify(|phase| phase.is_running = true);
        if let Err(error) = self.inner.folder.write(&record) {
            // The container ends with its handles.
            live.set_run(None);
            live.hub().end();
            live.phase.send_modify(|phase| phase.is_running = false);
            return Err(error);
        }
        self.inner.machine.tell(&record, LifeEvent::Started);
        let input = stdin.map(|stdin| tokio::spawn(carry_input(input, stdin)));
        let run = Run {
            containers: self.clone(),
            live,
            record,
            lock,
            transfer,
            root,
            log,
            output,
            process,
            input,
        };
        tokio::spawn(run.carry());
        Ok(())
    }

    /// Stops a container: sends the signal, its own without one, waits, and kills. False if it did not run.
    ///
    /// # Errors
    /// [`Error::Elsewhere`].
    pub async fn stop(
        &self,
        id: &ContainerId,
        signal: Option<i32>,
        time: StopTime,
    ) -> Result<bool, Error> {
        let (live, record) = self.here(id)?;
        let Some(run) = live.run() else { return Ok(false) };
        let signal = signal.unwrap_or_else(|| record.process.stop_signal());
        let limit = match time {
            StopTime::Own => Some(record.process.stop_time()),
            StopTime::After(time) => Some(time),
            StopTime::Forever => None,
        };
        // One that has just ended needs no signal.
        let _ = run.process.signal(signal).await;
        match limit {
            None => live.stopped().await,
            Some(limit) => {
                if tokio::time::timeout(limit, live.stopped()).await.is_err() {
                    run.process.kill();
                    live.stopped().await;
                }
            }
        }
        Ok(true)
    }

    /// Sends a signal to the first process of a container.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Elsewhere`].
    pub async fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), Error> {
        let (live, _) = self.here(id)?;
        let run = live.run().ok_or_else(|| Error::NotRunning(id.clone()))?;
        if signal == KILL {
            run.process.kill();
            return Ok(());
        }
        Ok(run.process.signal(signal).await?)
    }

    /// Changes the size of a container's terminal.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Elsewhere`].
    pub async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<(), Error> {
        let (live, _) = self.here(id)?;
        let run = live.run().ok_or_else(|| Error::NotRunning(id.clone()))?;
        Ok(run.process.resize(size)?)
    }

    /// The first process of a container, as this process sees it.
    pub fn pid(&self, id: &ContainerId) -> Option<i32> {
        Some(self.live(id).ok()?.0.run()?.process.pid())
    }

    /// The processes of a container, as this process sees them.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Elsewhere`].
    pub fn processes(&self, id: &ContainerId) -> Result<Vec<i32>, Error> {
        let (live, _) = self.here(id)?;
        let run = live.run().ok_or_else(|| Error::NotRunning(id.clone()))?;
        Ok(run.process.processes())
    }

    /// Stops all containers that run in this process; what has not ended after `time` is killed.
    pub async fn shut_down(&self, time: Duration) {
        let mut stops = JoinSet::new();
        for (id, live) in self.all_live() {
            if live.run().is_some() {
                let containers = self.clone();
                stops.spawn(async move {
                    let stopped = containers.stop(&id, None, StopTime::After(time)).await;
                    if let Err(error) = stopped {
                        tracing::warn!(%id, error = oci::chain_text(&error), "it was not stopped");
                    }
                });
            }
        }
        while stops.join_next().await.is_some() {}
    }
}

/// A container whose command runs, before it is noted.
struct Launched {
    transfer: Transfer,
    root: WritableRoot,
    log: LogWriter,
    running: RunningContainer,
    input: mpsc::Receiver<Bytes>,
}

/// A container that runs, with all that must live as long.
struct Run {
    containers: Containers,
    live: Arc<Live>,
    record: ContainerRecord,
    lock: ContainerLock,
    /// Keeps its layers from being pruned, and its root's folder.
    transfer: Transfer,
    root: WritableRoot,
    log: LogWriter,
    output: ContainerOutput,
    process: ContainerProcess,
    input: Option<tokio::task::JoinHandle<()>>,
}

impl Run {
    /// Carries the output until the container ends, and notes its end.
    async fn carry(mut self) {
        while let Some((stream, bytes)) = self.output.next().await {
            self.take(stream, bytes).await;
        }
        let finished = self.process.wait().await;
        if let Err(error) = self.log.close() {
            self.complain(&error);
        }
        if let Some(input) = &self.input {
            input.abort();
        }
        self.end(finished).await;
    }

    /// Keeps a piece of output, and hands it to the clients.
    async fn take(&mut self, stream: Stream, bytes: Vec<u8>) {
        let listeners = {
            // A client that attaches meanwhile finds it in the log, or gets it.
            let hub = self.live.hub();
            if let Err(error) = self.log.write(stream, &bytes) {
                self.complain(&error);
            }
            hub.listeners()
        };
        let piece = StreamPiece { stream, bytes: bytes.into() };
        for listener in listeners {
            if !listener.send(&piece).await {
                self.live.hub().forget(&listener);
            }
        }
    }

    async fn end(self, finished: Result<Finished, runtime::Error>) {
        let Self { containers, live, record, lock, transfer, root, log, process, .. } = self;
        let id = record.id.clone();
        let (code, error, stubs) = match finished {
            Ok(Finished { exit, stubs, .. }) => (exit.code(), None, stubs),
            Err(error) => (UNKNOWN_END, Some(oci::chain_text(&error)), Vec::new()),
        };
        drop((log, process));
        live.set_run(None);
        live.hub().end();
        // A copy has the root mounted.
        drop(live.copies.write().await);
        let removes = record.host.auto_remove;
        let committed = blocking(move || {
            if removes {
                drop(root);
                return Ok(None);
            }
            root.commit(&mount_points(&stubs), Some(jiff::Timestamp::now().to_string())).map(Some)
        })
        .await;
        let _gate = live.gate.lock().await;
        // It may have another name by now.
        let mut record = containers.get(&id).unwrap_or(record);
        let mut lost = None;
        match committed {
            Ok(layer) => record.layers.extend(layer.map(|layer| layer.diff_id)),
            Err(error) => lost = Some(format!("its files are lost: {}", oci::chain_text(&error))),
        }
        record.end(SystemTime::now(), code, error.clone().or(lost));
        let kept = transfer.store().hold_layers(id.as_str(), &record.layers);
        let written =
            kept.map_err(Error::from).and_then(|()| containers.inner.folder.write(&record));
        if let Err(error) = written {
            tracing::warn!(%id, error = oci::chain_text(&error), "the end was not noted");
        }
        containers.inner.machine.tell(&record, LifeEvent::Died(code));
        live.phase.send_modify(|phase| {
            phase.is_running = false;
            phase.ends += 1;
            phase.ended = Ended { code, error };
        });
        if !removes {
            // Before the gate: who starts it next takes the lock.
            drop(lock);
            return;
        }
        if let Err(error) = containers.remove_ended(&live, record, lock).await {
            tracing::warn!(%id, error = oci::chain_text(&error), "it was not removed");
        }
    }

    fn complain(&self, error: &Error) {
        tracing::warn!(id = %self.record.id, error = oci::chain_text(error), "the log is not whole");
    }
}

/// Carries input to a process until there is no more.
pub(crate) async fn carry_input(mut input: mpsc::Receiver<Bytes>, mut stdin: ContainerInput) {
    while let Some(bytes) = input.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// The paths that were made for mounts; nothing else of them stays, as in docker.
fn mount_points(stubs: &[String]) -> MountPoints {
    let passing = stubs.iter().map(|stub| stub.trim_matches('/').as_bytes().into()).collect();
    MountPoints { passing, lasting: Vec::new() }
}
