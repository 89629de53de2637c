//! The tasks of a build as BuildKit's clients know them: vertexes, each with its latest state.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use oci::Digest;

use crate::{Event, Failure, TaskEvent, TaskId};

/// The latest state of a task (BuildKit's `client.Vertex`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vertex {
    /// A name for programs.
    pub digest: Digest,
    /// The vertexes whose outputs it reads.
    pub inputs: Vec<Digest>,
    /// The text that is shown.
    pub name: Arc<str>,
    /// When it began last.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub completed: Option<SystemTime>,
    /// True if its output was found.
    pub cached: bool,
    /// Why it ended badly; empty if it did not. `context canceled` is what clients show as
    /// CANCELED.
    pub error: Arc<str>,
}

/// The vertexes of a build.
#[derive(Clone, Debug, Default)]
pub struct Vertexes {
    /// A build's own name, so that clients that show several builds tell their vertexes apart.
    build: String,
    known: HashMap<TaskId, Vertex>,
}

impl Vertexes {
    /// The vertexes of a build of this name.
    pub fn of_build(build: impl Into<String>) -> Self {
        Self { build: build.into(), known: HashMap::new() }
    }

    /// The digest of a task; tasks themselves have numbers.
    pub fn digest(&self, id: TaskId) -> Digest {
        Digest::of(format!("{}task {}", self.build, id.0))
    }

    /// The vertexes so far.
    pub fn iter(&self) -> impl Iterator<Item = &Vertex> {
        self.known.values()
    }

    /// Takes an event; the vertex, if the event changes its state.
    pub fn take(&mut self, event: &Event) -> Option<&Vertex> {
        let at = event.at;
        match &event.what {
            TaskEvent::Transfer(_) | TaskEvent::Log(..) | TaskEvent::Warning(_) => return None,
            TaskEvent::Known(task) => {
                let inputs = task.inputs.iter().map(|input| self.digest(*input)).collect();
                let vertex = self.vertex(event.task);
                vertex.name = task.name.clone();
                vertex.inputs = inputs;
            }
            TaskEvent::Started => {
                let vertex = self.vertex(event.task);
                (vertex.started, vertex.completed, vertex.cached) = (Some(at), None, false);
            }
            TaskEvent::Cached(_) => {
                let vertex = self.vertex(event.task);
                vertex.started.get_or_insert(at);
                (vertex.completed, vertex.cached) = (Some(at), true);
            }
            TaskEvent::Done => {
                let vertex = self.vertex(event.task);
                vertex.started.get_or_insert(at);
                vertex.completed.get_or_insert(at);
            }
            TaskEvent::Failed(failure) => {
                let vertex = self.vertex(event.task);
                vertex.started.get_or_insert(at);
                vertex.completed = Some(at);
                vertex.error = match failure {
                    Failure::Canceled => "context canceled".into(),
                    Failure::Error(text) => text.clone(),
                };
            }
        }
        self.known.get(&event.task)
    }

    fn vertex(&mut self, id: TaskId) -> &mut Vertex {
        let digest = self.digest(id);
        self.known.entry(id).or_insert_with(|| Vertex {
            digest,
            inputs: Vec::new(),
            name: "".into(),
            started: None,
            completed: None,
            cached: false,
            error: "".into(),
        })
    }
}
