//! Endpoints of containers.

use super::endpoint::{Action, Endpoint, Parameter, honoured, no_effect, refuse, refused, run};

const NO_FREEZE: &str =
    "kiln does not freeze containers: `POST /containers/{id}/kill` with SIGSTOP and SIGCONT does";
const NO_LIMITS: &str =
    "there is nothing to update: containers have the limits of the job that kiln runs in";
const NO_STATS: &str =
    "kiln counts nothing: containers are in the control group of the job that kiln runs in";
const NO_CHECKPOINTS: &str = "kiln keeps no processes: `docker commit` keeps files";
const NO_SOCKET: &str =
    "kiln speaks no WebSocket: `POST /containers/{id}/attach` with `Upgrade: tcp` does the same";
const KEYS: &str = "keys that leave a terminal running, such as `ctrl-p,ctrl-q`, the default";
const SIZE: [Parameter; 2] = [honoured("h", "lines"), honoured("w", "characters in a line")];

const STOP: &[Parameter] = &[
    honoured("t", "seconds until it is killed; -1 waits without end"),
    honoured("signal", "the signal; the container's by default"),
];

pub(super) const CONTAINERS: &[Endpoint] = &[
    run(
        "GET",
        "/containers/json",
        Action::ListContainers,
        "the containers of kiln's root",
        &[
            honoured("all", "those that do not run too"),
            honoured("limit", "the newest ones, running or not"),
            honoured("size", "counts their bytes"),
            honoured(
                "filters",
                "`id`, `name`, `label`, `status`, `ancestor`, `exited`, `before`, `since`, `network` and `volume`",
            ),
        ],
    ),
    run(
        "POST",
        "/containers/prune",
        Action::PruneContainers,
        "removes the containers that do not run",
        &[honoured("filters", "`until`, `label`, `label!`")],
    ),
    run(
        "POST",
        "/containers/create",
        Action::CreateContainer,
        "makes a container; the fields of its body are below",
        &[
            honoured("name", "its name"),
            honoured("platform", "the platform of its image; any that is there by default"),
        ],
    ),
    run(
        "GET",
        "/containers/{id}/json",
        Action::InspectContainer,
        "a container's properties and state",
        &[honoured("size", "counts its bytes")],
    ),
    run(
        "GET",
        "/containers/{id}/top",
        Action::TopContainer,
        "the processes of a container",
        &[honoured("ps_args", "`-ef` only")],
    ),
    run(
        "GET",
        "/containers/{id}/logs",
        Action::ContainerLogs,
        "the output of a container",
        &[
            honoured("follow", "what comes is sent until it ends"),
            honoured("stdout", "its output"),
            honoured("stderr", "its errors"),
            honoured("since", "from this time, in seconds since 1970"),
            honoured("until", "to this time, in seconds since 1970"),
            honoured("timestamps", "each line begins with its time"),
            honoured("tail", "the last lines, by their number"),
            no_effect("details", "lines have no other attributes"),
        ],
    ),
    run(
        "GET",
        "/containers/{id}/changes",
        Action::ContainerChanges,
        "the paths that differ from the image",
        &[],
    ),
    run(
        "GET",
        "/containers/{id}/export",
        Action::ExportContainer,
        "an archive of the whole file system",
        &[],
    ),
    refuse("GET", "/containers/{id}/stats", NO_STATS),
    run(
        "POST",
        "/containers/{id}/resize",
        Action::ResizeContainer,
        "changes the size of a terminal",
        &SIZE,
    ),
    run(
        "POST",
        "/containers/{id}/start",
        Action::StartContainer,
        "starts a container",
        &[
            no_effect("detachKeys", "nobody is attached by this request"),
            refused("checkpoint", NO_CHECKPOINTS),
            refused("checkpoint-dir", NO_CHECKPOINTS),
        ],
    ),
    run(
        "POST",
        "/containers/{id}/stop",
        Action::StopContainer,
        "sends a signal, waits, and kills",
        STOP,
    ),
    run(
        "POST",
        "/containers/{id}/restart",
        Action::RestartContainer,
        "stops a container and starts it",
        STOP,
    ),
    run(
        "POST",
        "/containers/{id}/kill",
        Action::KillContainer,
        "sends a signal to the first process",
        &[honoured("signal", "a name or a number; SIGKILL by default")],
    ),
    refuse("POST", "/containers/{id}/update", NO_LIMITS),
    run(
        "POST",
        "/containers/{id}/rename",
        Action::RenameContainer,
        "gives a container another name",
        &[honoured("name", "the name")],
    ),
    refuse("POST", "/containers/{id}/pause", NO_FREEZE),
    refuse("POST", "/containers/{id}/unpause", NO_FREEZE),
    run(
        "POST",
        "/containers/{id}/attach",
        Action::AttachContainer,
        "the streams of a container, by an upgrade to `tcp` or in the bodies of request and answer",
        &[
            honoured("stdin", "the input"),
            honoured("stdout", "the output"),
            honoured("stderr", "the errors"),
            honoured("logs", "output from before"),
            honoured("stream", "from now on"),
            honoured("detachKeys", KEYS),
        ],
    ),
    refuse("GET", "/containers/{id}/attach/ws", NO_SOCKET),
    run(
        "POST",
        "/containers/{id}/wait",
        Action::WaitContainer,
        "waits for the end of a container; the head of the answer comes at once",
        &[honoured("condition", "`not-running`, `next-exit` or `removed`")],
    ),
    run(
        "DELETE",
        "/containers/{id}",
        Action::RemoveContainer,
        "removes a container",
        &[
            honoured("force", "one that runs is killed"),
            no_effect("v", "volumes without a name are a part of the container"),
            refused("link", "there are no links"),
        ],
    ),
    run(
        "HEAD",
        "/containers/{id}/archive",
        Action::StatArchive,
        "facts about a path, in `X-Docker-Container-Path-Stat`",
        &[honoured("path", "the path")],
    ),
    run(
        "GET",
        "/containers/{id}/archive",
        Action::GetArchive,
        "an archive of a path",
        &[honoured("path", "the path")],
    ),
    run(
        "PUT",
        "/containers/{id}/archive",
        Action::PutArchive,
        "unpacks an archive in a folder",
        &[
            honoured("path", "the folder"),
            honoured("noOverwriteDirNonDir", "a file replaces no folder, and a folder no file"),
            honoured("copyUIDGID", "everything belongs to the container's user"),
        ],
    ),
    run(
        "POST",
        "/containers/{id}/exec",
        Action::CreateExec,
        "prepares a further command; the fields of its body are below",
        &[],
    ),
    run(
        "POST",
        "/exec/{id}/start",
        Action::StartExec,
        "starts a further command, with its streams as for `POST /containers/{id}/attach`",
        &[],
    ),
    run(
        "POST",
        "/exec/{id}/resize",
        Action::ResizeExec,
        "changes the size of a command's terminal",
        &SIZE,
    ),
    run("GET", "/exec/{id}/json", Action::InspectExec, "a further command and its state", &[]),
    run(
        "POST",
        "/commit",
        Action::Commit,
        "makes an image of a container; a config in the body is refused: `changes` does that",
        &[
            honoured("container", "the container"),
            honoured("repo", "the image's repository"),
            honoured("tag", "its tag"),
            honoured("comment", "a remark, for the history"),
            honoured("author", "the author"),
            honoured("changes", "instructions of a Dockerfile"),
            no_effect(
                "pause",
                "kiln does not freeze containers: of what is written meanwhile, the image may have a part",
            ),
        ],
    ),
    refuse("GET", "/containers/{id}/checkpoints", NO_CHECKPOINTS),
    refuse("POST", "/containers/{id}/checkpoints", NO_CHECKPOINTS),
];
