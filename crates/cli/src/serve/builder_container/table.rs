//! All builder containers.

use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ::engine::{
    ApiError, AttachQuery, ContainerDetails, ContainerExit, ContainerId, ContainerIdentity,
    ContainerStreams, ContainerWait, EngineEvent, Events, ExecDetails, ExecId, LogLine, LogQuery,
    OutputPiece, RemoveContainer, Sizes, StateChange, WaitCondition,
};
use tokio::sync::{mpsc, watch};

use super::container::{BuilderContainer, Moment, RunningBuilder, no_exec};

/// The most builder containers.
const MOST: usize = 32;
/// Lines that wait for a client.
const LINES: usize = 64;

/// All builder containers.
pub(super) struct BuilderTable {
    containers: Mutex<Vec<BuilderContainer>>,
    events: Events,
}

impl BuilderTable {
    pub(super) fn new(events: Events) -> Self {
        Self { containers: Mutex::default(), events }
    }

    fn containers(&self) -> MutexGuard<'_, Vec<BuilderContainer>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container with a name, an ID, or the beginning of one.
    pub(super) fn find(&self, name: &str) -> Option<ContainerIdentity> {
        let name = name.trim_start_matches('/');
        let containers = self.containers();
        let exact = containers.iter().find(|one| one.name == name || one.id.0 == name);
        let mut begun =
            containers.iter().filter(|one| !name.is_empty() && one.id.0.starts_with(name));
        let only = || begun.next().filter(|_| begun.next().is_none());
        exact.or_else(only).map(BuilderContainer::identity)
    }

    pub(super) fn has(&self, id: &ContainerId) -> bool {
        self.containers().iter().any(|one| one.id == *id)
    }

    pub(super) fn has_exec(&self, id: &ExecId) -> bool {
        self.containers().iter().any(|one| one.exec(id).is_some())
    }

    /// Works on a container.
    ///
    /// # Errors
    /// Those of the work, and one if there is no such container.
    pub(super) fn with<T>(
        &self,
        id: &ContainerId,
        work: impl FnOnce(&mut BuilderContainer) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut containers = self.containers();
        let found = containers.iter_mut().find(|one| one.id == *id);
        work(found.ok_or_else(|| ApiError::NotFound(format!("No such container: {id}")))?)
    }

    /// Works on the container of a command.
    ///
    /// # Errors
    /// Those of the work, and one if there is no such command.
    pub(super) fn with_exec<T>(
        &self,
        id: &ExecId,
        work: impl FnOnce(&mut BuilderContainer) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut containers = self.containers();
        let found = containers.iter_mut().find(|one| one.exec(id).is_some());
        work(found.ok_or_else(|| no_exec(id))?)
    }

    /// Adds a container.
    ///
    /// # Errors
    /// If its name is taken, or there are too many.
    pub(super) fn add(&self, container: BuilderContainer) -> Result<(), ApiError> {
        let mut containers = self.containers();
        if let Some(other) = containers.iter().find(|one| one.name == container.name) {
            return Err(name_taken(&container.name, &other.id));
        }
        if containers.len() >= MOST {
            let message = format!("there are {MOST} builder containers; remove one");
            return Err(ApiError::Unavailable(message));
        }
        containers.push(container);
        Ok(())
    }

    pub(super) fn rename(&self, id: &ContainerId, name: &str) -> Result<(), ApiError> {
        if let Some(other) = self.find(name).filter(|other| other.id != *id && other.name == name) {
            return Err(name_taken(name, &other.id));
        }
        self.with(id, |container| {
            name.clone_into(&mut container.name);
            Ok(())
        })
    }

    pub(super) fn list(&self, sizes: Sizes) -> Vec<ContainerDetails> {
        self.containers().iter().map(|container| container.details(sizes)).collect()
    }

    /// Takes the result of a start.
    pub(super) fn started(
        &self,
        id: &ContainerId,
        running: Result<RunningBuilder, ApiError>,
    ) -> Result<StateChange, ApiError> {
        let identity = self.with(id, |container| {
            let running = running.inspect_err(|error| container.fail(error))?;
            if container.is_running() {
                return Ok(None);
            }
            container.begin(running);
            Ok(Some(container.identity()))
        })?;
        let Some(identity) = identity else { return Ok(StateChange::Unchanged) };
        self.events.send(EngineEvent::container("start", &identity, []));
        Ok(StateChange::Changed)
    }

    /// Ends a container, and removes it if it was to be removed then.
    pub(super) fn end(&self, id: &ContainerId, exit_code: i32) -> Result<StateChange, ApiError> {
        let (identity, removes) = self.with(id, |container| {
            let identity = container.end(exit_code).then(|| container.identity());
            Ok((identity, container.spec.host.auto_remove))
        })?;
        let Some(identity) = identity else { return Ok(StateChange::Unchanged) };
        let facts = [("exitCode", exit_code.to_string())];
        self.events.send(EngineEvent::container("die", &identity, facts));
        if removes {
            self.remove(id, RemoveContainer::default())?;
        }
        Ok(StateChange::Changed)
    }

    /// Removes a container.
    ///
    /// # Errors
    /// If it runs, without force.
    pub(super) fn remove(
        &self,
        id: &ContainerId,
        request: RemoveContainer,
    ) -> Result<(), ApiError> {
        let is_running = self.with(id, |container| Ok(container.is_running()))?;
        if is_running && !request.force {
            return Err(ApiError::Conflict(format!(
                "cannot remove container {id}: container is running: stop the container before removing or force remove"
            )));
        }
        if is_running {
            self.end(id, KILLED)?;
        }
        let removed = {
            let mut containers = self.containers();
            let place = containers.iter().position(|one| one.id == *id);
            place.map(|place| containers.remove(place))
        };
        // It was removed when it ended.
        let Some(removed) = removed else { return Ok(()) };
        self.events.send(EngineEvent::container("destroy", &removed.identity(), []));
        Ok(())
    }

    /// Waits for a moment.
    pub(super) fn wait(
        &self,
        id: &ContainerId,
        condition: WaitCondition,
    ) -> Result<ContainerWait, ApiError> {
        let mut moments = self.with(id, |container| Ok(container.moments()))?;
        let begun = moments.borrow().ends;
        Ok(Box::pin(async move {
            let is_over = |moment: &Moment| match condition {
                WaitCondition::NotRunning => !moment.is_running,
                WaitCondition::NextExit => moment.ends > begun,
                WaitCondition::Removed => false,
            };
            // An error says that it was removed.
            let _ = moments.wait_for(is_over).await;
            let code = moments.borrow().exit_code;
            Ok(ContainerExit { code, error: None })
        }))
    }

    /// The lines of a log.
    pub(super) fn logs(
        self: &Arc<Self>,
        id: &ContainerId,
        query: LogQuery,
    ) -> Result<mpsc::Receiver<LogLine>, ApiError> {
        let (moments, lines) =
            self.with(id, |container| Ok((container.moments(), container.lines_from(0).to_vec())))?;
        let first = lines.len();
        let wanted: Vec<LogLine> = lines.into_iter().filter(|line| query.wants(line)).collect();
        let tail = query.tail.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(usize::MAX);
        let skipped = wanted.len().saturating_sub(tail);
        let (sender, receiver) = mpsc::channel(LINES);
        let follower = Follower { table: self.clone(), id: id.clone(), moments, first };
        tokio::spawn(async move {
            for line in wanted.into_iter().skip(skipped) {
                if sender.send(line).await.is_err() {
                    return;
                }
            }
            let follow = follower.follow(
                |moment| !moment.is_running,
                |line| query.wants(&line).then_some(line),
                sender,
            );
            match query.until.map(|until| until.duration_since(SystemTime::now())) {
                _ if !query.follow => {}
                Some(left) => drop(tokio::time::timeout(left.unwrap_or_default(), follow).await),
                None => follow.await,
            }
        });
        Ok(receiver)
    }

    /// The output of a container until it ends, which is its log.
    pub(super) fn attach(
        self: &Arc<Self>,
        id: &ContainerId,
        query: AttachQuery,
    ) -> Result<ContainerStreams, ApiError> {
        let (moments, lines) =
            self.with(id, |container| Ok((container.moments(), container.lines_from(0).len())))?;
        let (begun, first) = (moments.borrow().ends, if query.logs { 0 } else { lines });
        let (sender, output) = mpsc::channel(LINES);
        let follower = Follower { table: self.clone(), id: id.clone(), moments, first };
        tokio::spawn(async move {
            let is_over = |moment: &Moment| !query.stream || moment.ends > begun;
            let piece = |line: LogLine| {
                query.stderr.then_some(OutputPiece { stream: line.stream, bytes: line.bytes })
            };
            follower.follow(is_over, piece, sender).await;
        });
        Ok(ContainerStreams { input: None, output, terminal: false })
    }

    pub(super) fn inspect_exec(&self, id: &ExecId) -> Result<ExecDetails, ApiError> {
        self.with_exec(id, |container| {
            let exec = container.exec(id).ok_or_else(|| no_exec(id))?;
            Ok(container.exec_details(exec))
        })
    }

    /// Takes the end of a command.
    pub(super) fn exec_ended(&self, id: &ExecId, exit_code: i32) {
        let identity = self.with_exec(id, |container| {
            container.end_exec(id, exit_code);
            Ok(container.identity())
        });
        // Its container may have been removed.
        let Ok(identity) = identity else { return };
        let facts = [("execID", id.to_string()), ("exitCode", exit_code.to_string())];
        self.events.send(EngineEvent::container("exec_die", &identity, facts));
    }
}

/// The exit code of what was killed.
pub(super) const KILLED: i32 = 137;

pub(super) fn name_taken(name: &str, id: &ContainerId) -> ApiError {
    ApiError::Conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    ))
}

/// Sends lines of a log as they come.
struct Follower {
    table: Arc<BuilderTable>,
    id: ContainerId,
    moments: watch::Receiver<Moment>,
    /// The first line that was not sent.
    first: usize,
}

impl Follower {
    async fn follow<T>(
        mut self,
        is_over: impl Fn(&Moment) -> bool,
        read: impl Fn(LogLine) -> Option<T>,
        sender: mpsc::Sender<T>,
    ) {
        loop {
            let moment = *self.moments.borrow_and_update();
            let lines = self
                .table
                .with(&self.id, |container| Ok(container.lines_from(self.first).to_vec()))
                .unwrap_or_default();
            self.first += lines.len();
            for line in lines.into_iter().filter_map(&read) {
                if sender.send(line).await.is_err() {
                    return;
                }
            }
            if is_over(&moment) {
                return;
            }
            tokio::select! {
                () = sender.closed() => return,
                changed = self.moments.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// An ID that cannot be guessed.
pub(super) fn fresh_id() -> Result<String, ApiError> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error: io::Error| ApiError::Server(format!("making an ID: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use ::engine::{BuildKit, Connection, ContainerSpec, ExecSpec, SessionHeaders};
    use async_trait::async_trait;

    use super::super::request::BuilderRequest;
    use super::*;

    struct NoBuildKit;

    #[async_trait]
    impl BuildKit for NoBuildKit {
        async fn serve(&self, _: Box<dyn Connection>) {}

        async fn session(&self, _: Box<dyn Connection>, _: SessionHeaders) {}
    }

    fn running() -> Result<RunningBuilder, ApiError> {
        Ok(RunningBuilder {
            buildkit: Arc::new(NoBuildKit),
            lines: vec!["begun".to_owned()],
            _folder: None,
            alive: watch::Sender::default(),
        })
    }

    /// A table with a container.
    fn table(change: impl FnOnce(&mut ContainerSpec)) -> (Arc<BuilderTable>, ContainerId) {
        let table = Arc::new(BuilderTable::new(Events::default()));
        let id = ContainerId(fresh_id().unwrap());
        table.add(container(&id, "one", change)).unwrap();
        (table, id)
    }

    fn container(
        id: &ContainerId,
        name: &str,
        change: impl FnOnce(&mut ContainerSpec),
    ) -> BuilderContainer {
        let mut spec = ContainerSpec::default();
        change(&mut spec);
        BuilderContainer::new(id.clone(), name.to_owned(), spec, BuilderRequest::default())
    }

    async fn text(mut pieces: mpsc::Receiver<OutputPiece>) -> String {
        let mut text = String::new();
        while let Some(piece) = pieces.recv().await {
            text.push_str(&String::from_utf8_lossy(&piece.bytes));
        }
        text
    }

    #[tokio::test]
    async fn a_life_is_told_to_those_who_wait() {
        let (table, id) = table(|_| {});
        let wait = |condition| table.wait(&id, condition).unwrap();
        let (next, removed) = (wait(WaitCondition::NextExit), wait(WaitCondition::Removed));
        assert_eq!(wait(WaitCondition::NotRunning).await.unwrap().code, 0);
        let query = AttachQuery { stderr: true, stream: true, ..AttachQuery::default() };
        let streams = table.attach(&id, query).unwrap();
        assert_eq!(table.started(&id, running()), Ok(StateChange::Changed));
        assert_eq!(table.started(&id, running()), Ok(StateChange::Unchanged));
        let query = LogQuery { follow: true, stderr: true, tail: Some(1), ..LogQuery::default() };
        let mut log = table.logs(&id, query).unwrap();
        assert_eq!(&log.recv().await.unwrap().bytes[..], b"begun\n");
        assert!(matches!(
            table.remove(&id, RemoveContainer::default()),
            Err(ApiError::Conflict(_))
        ));
        assert_eq!(table.end(&id, 3), Ok(StateChange::Changed));
        assert_eq!(table.end(&id, 4), Ok(StateChange::Unchanged));
        assert_eq!(next.await.unwrap().code, 3);
        assert_eq!(text(streams.output).await, "begun\n");
        assert!(log.recv().await.is_none());
        table.remove(&id, RemoveContainer::default()).unwrap();
        assert_eq!(removed.await.unwrap().code, 3);
        assert!(matches!(table.wait(&id, WaitCondition::Removed), Err(ApiError::NotFound(_))));
    }

    #[test]
    fn names_are_one_containers() {
        let (table, id) = table(|_| {});
        for name in ["one", "/one", id.0.as_str(), &id.0[..4]] {
            assert_eq!(table.find(name).unwrap().id, id, "{name}");
        }
        assert!(table.find("").is_none() && table.find("on").is_none());
        let other = ContainerId(fresh_id().unwrap());
        let taken = table.add(container(&other, "one", |_| {}));
        assert!(matches!(taken, Err(ApiError::Conflict(_))));
        table.add(container(&other, "two", |_| {})).unwrap();
        assert!(matches!(table.rename(&other, "one"), Err(ApiError::Conflict(_))));
        table.rename(&other, "three").unwrap();
        assert_eq!(table.find("three").unwrap().id, other);
        let mut number = 0;
        let full = loop {
            let id = ContainerId(fresh_id().unwrap());
            number += 1;
            if let Err(error) = table.add(container(&id, &format!("b{number}"), |_| {})) {
                break error;
            }
        };
        assert!(matches!(full, ApiError::Unavailable(_)) && number == MOST - 1, "{number}");
    }

    #[test]
    fn the_end_or_force_removes() {
        let (table, id) = table(|spec| spec.host.auto_remove = true);
        table.started(&id, running()).unwrap();
        table.end(&id, 0).unwrap();
        assert!(!table.has(&id));
        let (table, id) = self::table(|spec| spec.host.auto_remove = true);
        table.started(&id, running()).unwrap();
        table.remove(&id, RemoveContainer { force: true }).unwrap();
        assert!(!table.has(&id));
    }

    #[test]
    fn a_start_that_fails_leaves_its_reason() {
        let (table, id) = table(|_| {});
        let failed = Err(ApiError::BadRequest("no such file".into()));
        assert!(table.started(&id, failed).is_err());
        let state = table.list(Sizes::Left).remove(0).state;
        assert_eq!((state.error.as_str(), state.started), ("no such file", None));
    }

    #[test]
    fn commands_run_once_and_are_forgotten() {
        let (table, id) = table(|_| {});
        let add = |name: &str| {
            let exec = ExecId(name.to_owned());
            table.with(&id, |one| one.add_exec(exec.clone(), ExecSpec::default())).unwrap();
            exec
        };
        let first = add("first");
        table.with_exec(&first, |one| one.begin_exec(&first)).unwrap();
        let again = table.with_exec(&first, |one| one.begin_exec(&first));
        assert!(matches!(again, Err(ApiError::Conflict(_))));
        assert!(table.inspect_exec(&first).unwrap().running);
        table.exec_ended(&first, 7);
        assert_eq!(table.inspect_exec(&first).unwrap().exit_code, Some(7));
        for number in 0..100 {
            let exec = add(&number.to_string());
            table.with_exec(&exec, |one| one.begin_exec(&exec)).unwrap();
            table.exec_ended(&exec, 0);
        }
        assert!(matches!(table.inspect_exec(&first), Err(ApiError::NotFound(_))));
    }
}
