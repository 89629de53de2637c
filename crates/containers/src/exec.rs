//! Further commands in containers that run.

use std::collections::VecDeque;

use bytes::Bytes;
use runtime::{ContainerProcess, ExecCommand, RunningContainer, Streams, TerminalSize};
use tokio::sync::mpsc;

use crate::attachment::{AttachSelection, Attachment, Listener, StreamPiece};
use crate::live::Live;
use crate::run::{USUAL_SIZE, carry_input};
use crate::settings::put_variables;
use crate::{ContainerId, Containers, Error, LifeEvent};

/// Commands of a container that are remembered.
const MOST: usize = 256;
/// The exit code of a command whose end is not known.
const UNKNOWN_END: i32 = 137;
/// Pieces of input that wait for the process.
const PIECES: usize = 32;

/// A further command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSettings {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Variables beyond the container's, `NAME=value`.
    pub env: Vec<String>,
    /// The folder; the container's if unset.
    pub working_dir: Option<String>,
    /// The user; the container's if unset.
    pub user: Option<String>,
    /// True for a terminal.
    pub tty: bool,
    /// The streams that it has.
    pub streams: AttachSelection,
}

/// The place in a command's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecState {
    /// It was not started.
    Created,
    /// It runs; with its process, as this one sees it.
    Running(Option<i32>),
    /// It has ended, with this exit code.
    Ended(i32),
}

/// A further command, as a caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRecord {
    /// Its ID.
    pub id: ContainerId,
    /// Its container.
    pub container: ContainerId,
    /// The command.
    pub settings: ExecSettings,
    /// Its state.
    pub state: ExecState,
}

/// The commands of a container, the oldest first.
#[derive(Default)]
pub(crate) struct Execs(VecDeque<KnownExec>);

struct KnownExec {
    record: ExecRecord,
    process: Option<ContainerProcess>,
}

impl Execs {
    /// Forgets those of an earlier run.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn ids(&self) -> Vec<ContainerId> {
        self.0.iter().map(|known| known.record.id.clone()).collect()
    }

    fn add(&mut self, record: ExecRecord) -> Result<(), Error> {
        if self.0.len() >= MOST {
            let is_over = |known: &KnownExec| matches!(known.record.state, ExecState::Ended(_));
            let place = self.0.iter().position(is_over).ok_or(Error::TooManyExecs(MOST))?;
            self.0.remove(place);
        }
        self.0.push_back(KnownExec { record, process: None });
        Ok(())
    }

    fn get(&mut self, id: &ContainerId) -> Option<&mut KnownExec> {
        self.0.iter_mut().find(|known| known.record.id == *id)
    }
}

impl Containers {
    /// Prepares a further command.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Elsewhere`].
    pub fn create_exec(
        &self,
        container: &ContainerId,
        settings: ExecSettings,
    ) -> Result<ContainerId, Error> {
        let (live, _) = self.here(container)?;
        live.run().ok_or_else(|| Error::NotRunning(container.clone()))?;
        if settings.args.is_empty() {
            return Err(Error::NoCommand);
        }
        let id = ContainerId::draw()?;
        let (container, state) = (container.clone(), ExecState::Created);
        live.execs().add(ExecRecord { id: id.clone(), container, settings, state })?;
        Ok(id)
    }

    /// Starts a command, once. It goes on when its streams are dropped.
    ///
    /// # Errors
    /// [`Error::NoExec`], [`Error::NotRunning`], and if the command cannot be run.
    pub async fn start_exec(
        &self,
        id: &ContainerId,
        size: Option<TerminalSize>,
    ) -> Result<Attachment, Error> {
        let (live, mut record) = self.find_exec(id)?;
        let (_, container) = self.here(&record.container)?;
        let run = live.run().ok_or_else(|| Error::NotRunning(container.id.clone()))?;
        {
            let mut execs = live.execs();
            let known = execs.get(id).ok_or_else(|| Error::NoExec(id.to_string()))?;
            if known.record.state != ExecState::Created {
                return Err(Error::ExecStarted(id.clone()));
            }
            known.record.state = ExecState::Running(None);
        }
        let settings = std::mem::take(&mut record.settings);
        let mut env = container.process.environment(&container.id);
        put_variables(&mut env, &settings.env);
        let cwd = settings.working_dir.filter(|folder| !folder.is_empty());
        let user = settings.user.filter(|user| !user.is_empty());
        let own_user = Some(container.process.user.clone()).filter(|user| !user.is_empty());
        let command = ExecCommand {
            args: settings.args,
            env,
            cwd: cwd.unwrap_or_else(|| container.process.cwd().to_owned()),
            user: user.or(own_user),
        };
        let streams = if settings.tty {
            Streams::Terminal { size: size.unwrap_or(USUAL_SIZE) }
        } else {
            Streams::Piped { stdin: settings.streams.stdin }
        };
        let running = match run.process.exec(command, streams).await {
            Ok(running) => running,
            Err(error) => {
                let error = Error::from(error);
                set_state(&live, id, ExecState::Ended(error.exit_code()), None);
                return Err(error);
            }
        };
        let RunningContainer { stdin, output: mut pieces, process } = running;
        set_state(&live, id, ExecState::Running(Some(process.pid())), Some(process.clone()));
        let (input_sender, input_receiver) = mpsc::channel::<Bytes>(PIECES);
        let input = stdin.map(|stdin| tokio::spawn(carry_input(input_receiver, stdin)));
        let has_input = input.is_some();
        let (listener, output) = Listener::new(settings.streams);
        let (containers, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let mut is_heard = true;
            while let Some((stream, bytes)) = pieces.next().await {
                let piece = StreamPiece { stream, bytes: bytes.into() };
                is_heard = is_heard && listener.send(&piece).await;
            }
            let code = match process.wait().await {
                Ok(finished) => finished.exit.code(),
                Err(_) => UNKNOWN_END,
            };
            if let Some(input) = input {
                input.abort();
            }
            // Before the streams end: clients ask for the exit code then.
            set_state(&live, &id, ExecState::Ended(code), None);
            containers.inner.machine.tell(&container, LifeEvent::ExecDied(id, code));
            drop(listener);
        });
        Ok(Attachment { input: has_input.then_some(input_sender), output })
    }

    /// A further command.
    ///
    /// # Errors
    /// [`Error::NoExec`].
    pub fn exec(&self, id: &ContainerId) -> Result<ExecRecord, Error> {
        self.find_exec(id).map(|(_, record)| record)
    }

    /// The further commands of a container that are remembered.
    pub fn execs(&self, container: &ContainerId) -> Vec<ContainerId> {
        self.live(container).map(|(live, _)| live.execs().ids()).unwrap_or_default()
    }

    /// Changes the size of a command's terminal.
    ///
    /// # Errors
    /// [`Error::NoExec`], [`Error::NotRunning`].
    pub async fn resize_exec(&self, id: &ContainerId, size: TerminalSize) -> Result<(), Error> {
        let (live, record) = self.find_exec(id)?;
        let process = live.execs().get(id).and_then(|known| known.process.clone());
        let process = process.ok_or_else(|| Error::NotRunning(record.container.clone()))?;
        Ok(process.resize(size)?)
    }

    fn find_exec(&self, id: &ContainerId) -> Result<(std::sync::Arc<Live>, ExecRecord), Error> {
        self.all_live()
            .into_iter()
            .find_map(|(_, live)| {
                let record = live.execs().get(id).map(|known| known.record.clone())?;
                Some((live, record))
            })
            .ok_or_else(|| Error::NoExec(id.to_string()))
    }
}

fn set_state(live: &Live, id: &ContainerId, state: ExecState, process: Option<ContainerProcess>) {
    if let Some(known) = live.execs().get(id) {
        known.record.state = state;
        known.process = process;
    }
}
