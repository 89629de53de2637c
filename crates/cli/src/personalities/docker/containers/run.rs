//! `docker run`, `docker create` and `docker start`.

use std::io::{Read as _, Write as _};

use ::engine::{
    AttachQuery, ContainerEngine as _, ContainerId, ContainerStreams, CreateContainer,
    OutputStream, RemoveContainer, SignalNumber, WaitCondition,
};
use build::images::{self, Porter, PullRequest};
use oci::{Platform, Reference};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::terminal_mode::{RawTerminal, size};
use super::{FAILED, body, report, with_containers};
use crate::args::FlagError;
use crate::commands::transfer::pull_status;
use crate::machine;
use crate::personalities::command_context::CommandContext;
use crate::personalities::docker::lists::carry;
use crate::personalities::flags::ParsedFlags;
use crate::personalities::say_notes;
use crate::render::Report;
use crate::serve::containers::LocalContainers;
use crate::terminal::{self, say};

/// Signals of this kind after which a container is killed, as docker's client gives up.
const MOST_SIGNALS: usize = 3;
/// Bytes of input that are passed on at once.
const CHUNK: usize = 16 << 10;

/// `docker run`.
///
/// # Errors
/// If the container cannot be run; with its exit code if it fails.
pub(super) fn run(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let created = prepared(given, context, true)?;
    let proxies = given.is_on("sig-proxy", true);
    let removes = created.spec.host.auto_remove;
    given.done()?;
    let has_input = created.spec.open_stdin;
    let condition = if removes { WaitCondition::Removed } else { WaitCondition::NextExit };
    let cidfile = given.last("cidfile").map(str::to_owned);
    with_containers(context, async |containers| {
        let id = make(&containers, created, cidfile.as_deref()).await?;
        let run = Foreground { has_input, proxies, condition };
        run.carry(&containers, &id).await
    })
}

/// `docker create`.
///
/// # Errors
/// If the container cannot be made.
pub(super) fn create(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let created = prepared(given, context, false)?;
    given.is_on("sig-proxy", true);
    given.done()?;
    let cidfile = given.last("cidfile").map(str::to_owned);
    with_containers(context, async |containers| {
        let id = make(&containers, created, cidfile.as_deref()).await?;
        terminal::print(&format!("{id}\n"))
    })
}

/// `docker start`.
///
/// # Errors
/// If the container cannot be run; with its exit code if it fails.
pub(super) fn start(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let name = crate::personalities::one(given, "one container")?.to_owned();
    let is_interactive = given.is_on("interactive", false);
    if !given.is_on("attach", false) && !is_interactive {
        return Err("`docker start` without `--attach` needs something that outlives this command: start `kiln \
                    serve` and set DOCKER_HOST, and docker's own client does it"
            .to_owned()
            .into());
    }
    let proxies = given.is_on("sig-proxy", true);
    with_containers(context, async |containers| {
        let found = containers.find(&name).await.map_err(report)?;
        let inspected = containers.inspect(&found.id, ::engine::Sizes::Left).await;
        let removes = inspected.map_err(report)?.spec.host.auto_remove;
        let condition = if removes { WaitCondition::Removed } else { WaitCondition::NextExit };
        let run = Foreground { has_input: is_interactive, proxies, condition };
        run.carry(&containers, &found.id).await
    })
}

/// Reads the flags, and pulls the image where it is missing.
fn prepared(
    given: &ParsedFlags,
    context: &CommandContext,
    attached: bool,
) -> Result<CreateContainer, Report> {
    let folder =
        std::env::current_dir().map_err(|error| format!("finding the current folder: {error}"))?;
    let with_code = |error: FlagError| Report { code: Some(FAILED), ..error.into() };
    let body = body::of(given, &context.environment, &folder, attached).map_err(with_code)?;
    let (mut spec, notes) = ::engine::read_create(body)
        .map_err(|error| Report { code: Some(FAILED), ..report(error) })?;
    say_notes(&notes);
    if spec.terminal {
        spec.console_size = size();
    }
    let platform = given.last("platform").map(str::to_owned);
    let pull = given.last("pull").unwrap_or("missing");
    ensure_image(context, &spec.image, platform.as_deref(), (pull, given.is_on("quiet", false)))
        .map_err(|error| Report { code: Some(FAILED), ..error })?;
    let name = given.last("name").map(str::to_owned);
    Ok(CreateContainer { name, platform, spec })
}

/// Pulls an image if it is missing, or always, or never.
fn ensure_image(
    context: &CommandContext,
    name: &str,
    platform: Option<&str>,
    (pull, is_quiet): (&str, bool),
) -> Result<(), Report> {
    let store = machine::open_store(&context.settings, &machine::rise(&context.settings))?;
    let is_here = images::look_up(&store, name).is_ok();
    drop(store);
    if pull == "never" || (is_here && pull != "always") {
        return Ok(());
    }
    let reference: Reference = name.parse().map_err(|error| format!("`{name}`: {error}"))?;
    let platform = platform.map(str::parse::<Platform>).transpose();
    let platform = platform.map_err(|error| format!("`--platform`: {error}"))?;
    if !is_here && !is_quiet {
        say(&format!("Unable to find image '{name}' locally\n"));
    }
    let request = PullRequest {
        name: reference.clone(),
        platform: platform.or_else(|| context.settings.default_platforms.first().cloned()),
        insecure: false,
    };
    let pulled = carry(context, false, async |porter: &Porter| porter.pull(&request).await)?;
    if !is_quiet {
        say(&format!("Digest: {}\n", pulled.root.digest));
        say(&format!("{}\n", pull_status(&reference, pulled.is_new)));
    }
    Ok(())
}

async fn make(
    containers: &LocalContainers,
    request: CreateContainer,
    cidfile: Option<&str>,
) -> Result<ContainerId, Report> {
    let failed = |error| Report { code: Some(FAILED), ..report(error) };
    if let Some(file) = cidfile
        && std::path::Path::new(file).exists()
    {
        let message = format!(
            "container ID file found, make sure the other container isn't running or delete {file}"
        );
        return Err(Report { code: Some(FAILED), ..message.into() });
    }
    let created = containers.create(request).await.map_err(failed)?;
    if let Some(file) = cidfile {
        std::fs::write(file, &created.id.0)
            .map_err(|error| format!("`--cidfile`: {file}: {error}"))?;
    }
    Ok(created.id)
}

/// A container that runs as long as this command.
struct Foreground {
    has_input: bool,
    /// True if signals are passed on.
    proxies: bool,
    condition: WaitCondition,
}

impl Foreground {
    async fn carry(self, containers: &LocalContainers, id: &ContainerId) -> Result<(), Report> {
        let failed = |error: ::engine::ApiError| {
            // The exit codes of docker's client, by the words of the error.
            let text = error.to_string();
            let code = match () {
                () if text.contains("executable file not found") => 127,
                () if text.contains("permission denied") => 126,
                () => FAILED,
            };
            Report { code: Some(code), ..Report::from(text) }
        };
        let query = AttachQuery {
            stdin: self.has_input,
            stdout: true,
            stderr: true,
            logs: false,
            stream: true,
        };
        let streams = containers.attach(id, query).await.map_err(failed)?;
        let waited = containers.wait(id, self.condition).await.map_err(failed)?;
        let mut signals = Signals::watch()?;
        containers.start(id).await.map_err(failed)?;
        let _raw = (streams.terminal && self.has_input).then(RawTerminal::take);
        let carried = carry_streams(streams);
        let ended = async {
            carried.await;
            waited.await
        };
        let mut ended = std::pin::pin!(ended);
        let mut count = 0;
        let exit = loop {
            tokio::select! {
                exit = &mut ended => break exit.map_err(failed)?,
                number = signals.next(), if self.proxies => {
                    count += 1;
                    pass(containers, id, number, count).await;
                }
            }
        };
        if let Some(error) = exit.error {
            return Err(Report { code: Some(FAILED), ..error.into() });
        }
        match exit.code {
            0 => Ok(()),
            // The command itself has said why.
            code => {
                let code = u8::try_from(code & 0xff).unwrap_or(FAILED);
                Err(Report { code: Some(code), ..Report::default() })
            }
        }
    }
}

/// Passes a signal on. After several, the container is killed.
async fn pass(containers: &LocalContainers, id: &ContainerId, number: i32, count: usize) {
    let sent = match SignalNumber::parse(&number.to_string()) {
        Ok(signal) if count < MOST_SIGNALS => containers.kill(id, signal).await,
        _ => containers.remove(id, RemoveContainer { force: true }).await,
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "a signal was not passed on");
    }
}

/// Carries output, and input if there is some, until the output ends.
async fn carry_streams(streams: ContainerStreams) {
    let ContainerStreams { input, mut output, .. } = streams;
    if let Some(input) = input {
        // A thread of its own: a read from a terminal cannot be given up.
        std::thread::spawn(move || {
            let mut buffer = vec![0; CHUNK];
            while let Ok(count) = std::io::stdin().read(&mut buffer) {
                if count == 0 || input.blocking_send(buffer[..count].to_vec().into()).is_err() {
                    return;
                }
            }
        });
    }
    while let Some(piece) = output.recv().await {
        // A reader that has gone does not end the container.
        let _ = match piece.stream {
            OutputStream::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(&piece.bytes).and_then(|()| stdout.flush())
            }
            OutputStream::Stderr => std::io::stderr().write_all(&piece.bytes),
        };
    }
}

/// The signals that are passed on.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    quit: Signal,
}

impl Signals {
    fn watch() -> Result<Self, Report> {
        let watch = |kind| signal(kind).map_err(|error| format!("watching for signals: {error}"));
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hang_up: watch(SignalKind::hangup())?,
            quit: watch(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => SignalKind::hangup(),
            _ = self.quit.recv() => SignalKind::quit(),
        }
        .as_raw_value()
    }
}
