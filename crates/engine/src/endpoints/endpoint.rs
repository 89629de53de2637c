//! An endpoint of the API: its parameters and its effect.

use crate::ApiError;
use crate::query::{Query, is_empty};

/// An endpoint of the API.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The HTTP method.
    pub method: &'static str,
    /// The path without its version. `{name}` stands for an image's name, slashes included, and `{id}` for
    /// one segment.
    pub path: &'static str,
    /// Its effect.
    pub about: &'static str,
    /// Its parameters.
    pub parameters: &'static [Parameter],
    pub(crate) does: Does,
}

/// A parameter in the query of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its handling.
    pub handling: Handling,
}

/// The handling of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// It does what the text says.
    Honoured(&'static str),
    /// It has no effect, since what it asks for is the case anyway. The text gives the reason.
    NoEffect(&'static str),
    /// It has no effect, which the client is told. The text gives the reason.
    Noted(&'static str),
    /// It is refused unless it is empty. The text gives the reason.
    Refused(&'static str),
}

/// The effect of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Work of this crate.
    Run(Action),
    /// An answer that is always the same.
    Answer(&'static str),
    /// The answer that there is no such object of a kind.
    Missing(&'static str),
    /// The answer that kiln does not do that. The text is the rest of a sentence that begins with the
    /// endpoint.
    Refuse(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Ping,
    Version,
    Info,
    Events,
    Auth,
    DiskUsage,
    ListImages,
    CreateImage,
    InspectImage,
    ImageHistory,
    PushImage,
    TagImage,
    RemoveImage,
    PruneImages,
    SaveImage,
    SaveImages,
    LoadImages,
    Distribution,
    Build,
    CancelBuild,
    PruneBuild,
    Grpc,
    Session,
    ListContainers,
    PruneContainers,
    CreateContainer,
    InspectContainer,
    TopContainer,
    ContainerLogs,
    ContainerChanges,
    ExportContainer,
    ResizeContainer,
    StartContainer,
    StopContainer,
    RestartContainer,
    KillContainer,
    RenameContainer,
    AttachContainer,
    WaitContainer,
    RemoveContainer,
    StatArchive,
    GetArchive,
    PutArchive,
    CreateExec,
    StartExec,
    ResizeExec,
    InspectExec,
    Commit,
    ListNetworks,
    InspectNetwork,
}

impl Endpoint {
    /// Its effect, or its refusal.
    pub fn outcome(&self) -> String {
        match self.does {
            Does::Run(_) | Does::Answer(_) => self.about.to_owned(),
            Does::Missing(kind) => format!("404: there is no such {kind}"),
            Does::Refuse(why) => format!("refused: {why}"),
        }
    }

    /// Checks the parameters of a request; returns sentences about those without effect.
    pub(crate) fn judge(&self, query: &Query) -> Result<Vec<String>, ApiError> {
        let mut notes = Vec::new();
        for (name, value) in query.names().filter(|(_, value)| !is_empty(value)) {
            let parameter = self.parameters.iter().find(|parameter| parameter.name == name);
            match parameter.map(|parameter| parameter.handling) {
                Some(Handling::Honoured(_) | Handling::NoEffect(_)) => {}
                Some(Handling::Noted(why)) => notes.push(format!("`{name}`: {why}")),
                Some(Handling::Refused(why)) => {
                    return Err(ApiError::NotImplemented(format!("`{name}={value}`: {why}")));
                }
                None => {
                    let endpoint = format!("{} {}", self.method, self.path);
                    let message = format!("`{name}` is no parameter of `{endpoint}`");
                    return Err(ApiError::BadRequest(message));
                }
            }
        }
        Ok(notes)
    }
}

pub(super) const fn run(
    method: &'static str,
    path: &'static str,
    action: Action,
    about: &'static str,
    parameters: &'static [Parameter],
) -> Endpoint {
    Endpoint { method, path, about, parameters, does: Does::Run(action) }
}

pub(super) const fn answer(
    method: &'static str,
    path: &'static str,
    about: &'static str,
    json: &'static str,
    parameters: &'static [Parameter],
) -> Endpoint {
    Endpoint { method, path, about, parameters, does: Does::Answer(json) }
}

pub(super) const fn missing(
    method: &'static str,
    path: &'static str,
    kind: &'static str,
) -> Endpoint {
    Endpoint { method, path, about: "", parameters: &[], does: Does::Missing(kind) }
}

pub(super) const fn refuse(
    method: &'static str,
    path: &'static str,
    why: &'static str,
) -> Endpoint {
    Endpoint { method, path, about: "", parameters: &[], does: Does::Refuse(why) }
}

pub(super) const fn honoured(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, handling: Handling::Honoured(about) }
}

pub(super) const fn no_effect(name: &'static str, why: &'static str) -> Parameter {
    Parameter { name, handling: Handling::NoEffect(why) }
}

pub(super) const fn noted(name: &'static str, why: &'static str) -> Parameter {
    Parameter { name, handling: Handling::Noted(why) }
}

pub(super) const fn refused(name: &'static str, why: &'static str) -> Parameter {
    Parameter { name, handling: Handling::Refused(why) }
}
