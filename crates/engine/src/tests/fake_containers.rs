//! Containers that echo their input.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::*;

/// Containers, and what was asked of them. The command of a container sends its input back; when that has ended it
/// says `end` on its errors, and ends.
pub(super) struct FakeContainers {
    asked: Mutex<Vec<String>>,
    all: watch::Sender<Vec<ContainerDetails>>,
    execs: Mutex<BTreeMap<String, ExecDetails>>,
    events: Events,
}

impl FakeContainers {
    pub(super) fn new(events: Events) -> Self {
        Self {
            asked: Mutex::default(),
            all: watch::channel(Vec::new()).0,
            execs: Mutex::default(),
            events,
        }
    }

    fn note(&self, text: impl std::fmt::Debug) {
        self.asked.lock().unwrap().push(format!("{text:?}"));
    }

    pub(super) fn asked(&self) -> String {
        self.asked.lock().unwrap().join("\n")
    }

    fn details(&self, id: &ContainerId) -> Result<ContainerDetails, ApiError> {
        let all = self.all.borrow();
        let found = all.iter().find(|container| container.id == *id).cloned();
        found.ok_or_else(|| ApiError::NotFound(format!("No such container: {id}")))
    }

    fn change(&self, id: &ContainerId, change: impl FnOnce(&mut ContainerDetails)) {
        self.all.send_modify(|all| {
            if let Some(container) = all.iter_mut().find(|container| container.id == *id) {
                change(container);
            }
        });
    }

    fn end(&self, id: &ContainerId, code: i32) {
        self.change(id, |container| {
            container.state.status = ContainerStatus::Exited;
            container.state.exit_code = code;
        });
    }

    fn must_run(&self, id: &ContainerId) -> Result<(), ApiError> {
        match self.details(id)?.state.status {
            ContainerStatus::Running => Ok(()),
            _ => Err(ApiError::Conflict(format!("container {id} is not running"))),
        }
    }
}

fn identity(container: &ContainerDetails) -> ContainerIdentity {
    ContainerIdentity {
        id: container.id.clone(),
        name: container.name.clone(),
        image: container.spec.image.clone(),
        labels: container.spec.labels.clone(),
    }
}

/// A process that sends its input back.
fn echo(stdin: bool, terminal: bool) -> ContainerStreams {
    let (input, mut received) = mpsc::channel::<Bytes>(4);
    let (sender, output) = mpsc::channel(4);
    tokio::spawn(async move {
        let piece = |stream, bytes| OutputPiece { stream, bytes };
        while let Some(bytes) = received.recv().await {
            if sender.send(piece(OutputStream::Stdout, bytes)).await.is_err() {
                return;
            }
        }
        let _ = sender.send(piece(OutputStream::Stderr, Bytes::from_static(b"end\n"))).await;
    });
    ContainerStreams { input: stdin.then_some(input), output, terminal }
}

#[async_trait]
impl ContainerEngine for FakeContainers {
    async fn find(&self, name: &str) -> Result<ContainerIdentity, ApiError> {
        let all = self.all.borrow();
        let found =
            all.iter().find(|container| container.name == name || container.id.0.starts_with(name));
        found.map(identity).ok_or_else(|| ApiError::NotFound(format!("No such container: {name}")))
    }

    async fn create(&self, request: CreateContainer) -> Result<CreatedContainer, ApiError> {
        self.note(&request);
        if request.spec.image == "absent" {
            return Err(ApiError::NotFound("No such image: absent".into()));
        }
        let number = self.all.borrow().len() + 1;
        let id = ContainerId(format!("{number:x}").repeat(64));
        let details = ContainerDetails {
            id: id.clone(),
            name: request.name.unwrap_or_else(|| format!("box{number}")),
            image_id: "sha256:a".into(),
            created: UNIX_EPOCH + Duration::from_secs(number as u64),
            spec: request.spec,
            state: ContainerState {
                status: ContainerStatus::Created,
                exit_code: 0,
                error: String::new(),
                pid: None,
                started: None,
                finished: None,
            },
            execs: Vec::new(),
            size: None,
        };
        self.all.send_modify(|all| all.push(details));
        Ok(CreatedContainer { id, warnings: vec!["slow".into()] })
    }

    async fn list(&self, sizes: Sizes) -> Result<Vec<ContainerDetails>, ApiError> {
        let mut all = self.all.borrow().clone();
        for container in &mut all {
            let size = ContainerSize { changed: 5, whole: 50 };
            container.size = (sizes == Sizes::Counted).then_some(size);
        }
        Ok(all)
    }

    async fn inspect(&self, id: &ContainerId, _: Sizes) -> Result<ContainerDetails, ApiError> {
        self.details(id)
    }

    async fn start(&self, id: &ContainerId) -> Result<StateChange, ApiError> {
        let details = self.details(id)?;
        if details.state.status == ContainerStatus::Running {
            return Ok(StateChange::Unchanged);
        }
        self.change(id, |container| container.state.status = ContainerStatus::Running);
        self.events.send(EngineEvent::container("start", &identity(&details), []));
        Ok(StateChange::Changed)
    }

    async fn stop(&self, id: &ContainerId, request: StopRequest) -> Result<StateChange, ApiError> {
        self.note(request);
        if self.must_run(id).is_err() {
            return Ok(StateChange::Unchanged);
        }
        self.end(id, 143);
        Ok(StateChange::Changed)
    }

    async fn restart(&self, id: &ContainerId, request: StopRequest) -> Result<(), ApiError> {
        self.note(("restart", id, request));
        Ok(())
    }

    async fn kill(&self, id: &ContainerId, signal: SignalNumber) -> Result<(), ApiError> {
        self.must_run(id)?;
        self.end(id, 128 + signal.number());
        Ok(())
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<(), ApiError> {
        self.change(id, |container| container.name = name.to_owned());
        Ok(())
    }

    async fn remove(&self, id: &ContainerId, request: RemoveContainer) -> Result<(), ApiError> {
        if !request.force && self.must_run(id).is_ok() {
            return Err(ApiError::Conflict(format!("container {id} is running")));
        }
        self.all.send_modify(|all| all.retain(|container| container.id != *id));
        Ok(())
    }

    async fn wait(
        &self,
        id: &ContainerId,
        condition: WaitCondition,
    ) -> Result<ContainerWait, ApiError> {
        let mut all = self.all.subscribe();
        let id = id.clone();
        let mut last = self.details(&id)?.state;
        let mut has_run = false;
        Ok(Box::pin(async move {
            loop {
                let found = all.borrow_and_update().iter().find(|other| other.id == id).cloned();
                let is_over = match (condition, found) {
                    (_, None) => true,
                    (WaitCondition::Removed, Some(container)) => {
                        last = container.state;
                        false
                    }
                    (_, Some(container)) => {
                        last = container.state;
                        let runs = last.status == ContainerStatus::Running;
                        has_run |= runs || condition == WaitCondition::NotRunning;
                        has_run && !runs
                    }
                };
                if is_over {
                    return Ok(ContainerExit { code: last.exit_code, error: None });
                }
                let gone = |_| ApiError::Server("gone".into());
                all.changed().await.map_err(gone)?;
            }
        }))
    }

    async fn attach(
        &self,
        id: &ContainerId,
        query: AttachQuery,
    ) -> Result<ContainerStreams, ApiError> {
        self.note(query);
        let details = self.details(id)?;
        Ok(echo(query.stdin, details.spec.terminal))
    }

    async fn logs(
        &self,
        _: &ContainerId,
        query: LogQuery,
    ) -> Result<mpsc::Receiver<LogLine>, ApiError> {
        self.note(query);
        let (sender, lines) = mpsc::channel(4);
        let line = |stream, text: &'static str| LogLine {
            time: UNIX_EPOCH + Duration::from_secs(1),
            stream,
            bytes: Bytes::from_static(text.as_bytes()),
        };
        sender.try_send(line(OutputStream::Stdout, "out\n")).unwrap();
        sender.try_send(line(OutputStream::Stderr, "err\n")).unwrap();
        Ok(lines)
    }

    async fn processes(&self, id: &ContainerId) -> Result<Vec<ProcessRow>, ApiError> {
        self.must_run(id)?;
        let (user, command) = ("root".to_owned(), "sleep 5".to_owned());
        Ok(vec![ProcessRow { user, pid: 7, parent: 1, command, ..ProcessRow::default() }])
    }

    async fn changes(&self, _: &ContainerId) -> Result<Vec<PathChange>, ApiError> {
        let change = |path: &str, kind| PathChange { path: path.into(), kind };
        Ok(vec![
            change("/etc", PathChangeKind::Modified),
            change("/etc/a", PathChangeKind::Added),
            change("/b", PathChangeKind::Deleted),
        ])
    }

    async fn export(&self, _: &ContainerId, mut out: ArchiveWriter) -> Result<(), ApiError> {
        let write = move || out.write_all(b"whole").and_then(|()| out.flush());
        tokio::task::spawn_blocking(write).await.unwrap().unwrap();
        Ok(())
    }

    async fn stat_path(&self, id: &ContainerId, path: &str) -> Result<PathStat, ApiError> {
        if path.ends_with("absent") {
            let message = format!("Could not find the file {path} in container {id}");
            return Err(ApiError::NotFound(message));
        }
        Ok(PathStat {
            name: path.rsplit('/').next().unwrap_or_default().into(),
            size: 5,
            mode: 0o100_644,
            modified: UNIX_EPOCH,
            link_target: String::new(),
        })
    }

    async fn copy_out(
        &self,
        _: &ContainerId,
        path: &str,
        mut out: ArchiveWriter,
    ) -> Result<(), ApiError> {
        let text = format!("archive of {path}");
        let write = move || out.write_all(text.as_bytes()).and_then(|()| out.flush());
        tokio::task::spawn_blocking(write).await.unwrap().unwrap();
        Ok(())
    }

    async fn copy_in(
        &self,
        _: &ContainerId,
        request: CopyIn,
        mut archive: Upload,
    ) -> Result<(), ApiError> {
        let read = move || {
            let mut bytes = Vec::new();
            archive.read_to_end(&mut bytes).map(|_| bytes.len())
        };
        let length = tokio::task::spawn_blocking(read).await.unwrap().unwrap();
        self.note((request, length));
        Ok(())
    }

    async fn resize(&self, _: &ContainerId, size: ConsoleSize) -> Result<(), ApiError> {
        self.note(size);
        Ok(())
    }

    async fn create_exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<ExecId, ApiError> {
        self.must_run(id)?;
        self.note(&spec);
        let mut execs = self.execs.lock().unwrap();
        let exec = ExecId(format!("exec{}", execs.len()));
        let details = ExecDetails {
            id: exec.clone(),
            container: id.clone(),
            spec,
            running: false,
            exit_code: None,
            pid: None,
        };
        execs.insert(exec.0.clone(), details);
        Ok(exec)
    }

    async fn start_exec(
        &self,
        exec: &ExecId,
        size: Option<ConsoleSize>,
    ) -> Result<ContainerStreams, ApiError> {
        self.note(("start", exec, size));
        let mut execs = self.execs.lock().unwrap();
        let details = execs.get_mut(&exec.0).unwrap();
        if details.running {
            return Err(ApiError::Conflict(format!("exec {exec} runs")));
        }
        details.running = true;
        Ok(echo(details.spec.stdin, details.spec.terminal))
    }

    async fn inspect_exec(&self, exec: &ExecId) -> Result<ExecDetails, ApiError> {
        let found = self.execs.lock().unwrap().get(&exec.0).cloned();
        found.ok_or_else(|| ApiError::NotFound(format!("No such exec instance: {exec}")))
    }

    async fn resize_exec(&self, exec: &ExecId, size: ConsoleSize) -> Result<(), ApiError> {
        self.note((exec, size));
        Ok(())
    }
}

/// An engine with these containers.
pub(super) fn engine() -> (Arc<EngineServer>, Arc<FakeContainers>) {
    let events = Events::default();
    let containers = Arc::new(FakeContainers::new(events.clone()));
    let docker = Arc::<super::Fake>::default();
    let engine = EngineServer::new(docker, Some(containers.clone()), None).with_events(events);
    (Arc::new(engine), containers)
}
