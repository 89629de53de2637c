//! `kiln build`: flags, progress and files around a build.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use build::images::{CollectPolicy, collect};
use build::{Outcome, Session};
use graph::Events;

use crate::args::{
    BuildArgs, BuildFlags, BuildPlan, BuildPresentation, Engine, FlagContext, Inputs, Isolation,
    plan,
};
use crate::checkout;
use crate::progress::{Display, Mode, Style, renderer};
use crate::render::{self, Excerpt, Report};
use crate::settings::{Environment, Proxies, Settings, collect_policy, keep, read_proxies};
use crate::terminal::{self, say};
use crate::threads;
use crate::{human, machine};

/// Builds an image and shows the progress.
///
/// # Errors
/// If a flag or the Dockerfile is wrong, or a step fails; with an excerpt of the Dockerfile where
/// there is one.
pub fn run(args: &BuildArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    let flags = read(args, Engine::Docker, environment, settings)?;
    execute(flags, environment, settings).map(drop)
}

/// Becomes root of a user namespace if needed, for which kiln is executed again. Must be called
/// before secrets and standard input are read, since the second process could not read them again.
///
/// # Errors
/// If the environment names an unknown isolation, or signals cannot be caught.
pub fn begin(
    flag: Option<Isolation>,
    settings: &Settings,
) -> Result<(runtime::Privilege, Isolation), Report> {
    let wanted = Isolation::or_setting(flag, settings)?;
    let standing = machine::rise_for(settings, wanted);
    // Reading a secret or standard input can block forever.
    threads::watch_signals()?;
    Ok((standing, wanted))
}

/// Reads the flags of `kiln build`.
///
/// # Errors
/// If [`begin`] fails, or a value is wrong.
pub fn read(
    args: &BuildArgs,
    engine: Engine,
    environment: &Environment,
    settings: &Settings,
) -> Result<BuildFlags, Report> {
    // The answer to a question (`--call`) runs no RUN.
    let is_call = args.other.call()?.is_some();
    let isolation = Isolation::of_flag(args.isolation.as_deref())?.filter(|_| !is_call);
    begin(isolation, settings)?;
    let directory = directory()?;
    Ok(args.read(context(environment, &directory), engine)?)
}

/// The context in which flag values are read.
pub fn context<'a>(environment: &'a Environment, directory: &'a Path) -> FlagContext<'a> {
    let stdout_is_terminal = std::io::stdout().is_terminal();
    FlagContext { environment, directory, stdout_is_terminal }
}

/// The working directory.
///
/// # Errors
/// If it was removed.
pub fn directory() -> Result<PathBuf, Report> {
    std::env::current_dir()
        .map_err(|error| Report::from(format!("finding the working directory: {error}")))
}

/// Builds an image and returns the outcome; none if a question was answered instead.
///
/// # Errors
/// The errors of [`run`].
pub fn execute(
    flags: BuildFlags,
    environment: &Environment,
    settings: &Settings,
) -> Result<Option<Outcome>, Report> {
    let keep_storage = flags.keep_storage;
    if let Some(call) = flags.call {
        machine::rise(settings);
        let plan = prepare(flags, environment, settings)?;
        return super::check::ask(plan, call, environment, settings).map(|()| None);
    }
    let (standing, wanted) = begin(flags.isolation, settings)?;
    let plan = prepare(flags, environment, settings)?;
    for warning in &settings.warnings {
        say(&format!("WARNING: {warning}\n"));
    }
    let plain = !matches!(plan.presentation.progress, Mode::Auto | Mode::Tty);
    let policy = collect_policy(environment)?;
    let collect = keep_storage.map(|bytes| keep(bytes, policy)).or(policy);
    let shown = Shown::begin(plan.presentation, &settings.style)?;
    let session = match session(environment, settings, (&standing, wanted), &shown) {
        Ok(session) => session,
        Err(message) => {
            shown.fail();
            return Err(message.into());
        }
    };
    let events = shown.events();
    let result = threads::finish(build::build(&session, &plan.request, &events))?
        .unwrap_or(Err(build::Error::Canceled));
    let tidied = tidy(&session, collect);
    session.store().end();
    match result {
        Ok(outcome) => {
            let result = shown.succeed(&outcome);
            say(&tidied);
            result.map(|()| Some(outcome))
        }
        Err(error) => {
            shown.fail();
            Err(Report { plain, ..report(error) })
        }
    }
}

/// Collects unused cache by the policy and returns the line to print. An error is a warning and
/// does not change the result of the build.
fn tidy(session: &Session, policy: Option<CollectPolicy>) -> String {
    let Some(policy) = policy else { return String::new() };
    match collect(session.store(), &policy) {
        Ok(removed) if removed.is_empty() => String::new(),
        Ok(removed) => {
            let bytes = removed.iter().map(|entry| entry.size).sum();
            format!("removed {} that was not used for long\n", human::size(bytes))
        }
        Err(error) => {
            format!("WARNING: old build cache was not removed: {}\n", oci::chain_text(&error))
        }
    }
}

/// Opens the session of a build, and prints the isolation if it is not the usual one.
///
/// # Errors
/// If the session cannot be opened, or commands cannot be isolated as requested.
pub fn session(
    environment: &Environment,
    settings: &Settings,
    (standing, wanted): (&runtime::Privilege, Isolation),
    shown: &Shown,
) -> Result<Session, String> {
    let session = machine::session(settings, environment, standing, wanted)?;
    is_isolated(&session, wanted)?;
    if let Ok(runtime) = &session.host().runtime
        && let Some(line) = crate::isolation::line(runtime, wanted)
    {
        shown.note(&line);
    }
    Ok(session)
}

/// Checks that the requested isolation is possible.
fn is_isolated(session: &Session, wanted: Isolation) -> Result<(), String> {
    let name = match wanted {
        Isolation::Auto | Isolation::None => return Ok(()),
        Isolation::Namespaces => "namespaces",
        Isolation::Chroot => "chroot",
        Isolation::InPlace => "in-place",
    };
    match &session.host().runtime {
        Err(reason) => Err(format!("`--isolation={name}` is not possible here: {reason}")),
        Ok(_) => Ok(()),
    }
}

/// The report of a failed build.
pub fn report(error: build::Error) -> Report {
    if let build::Error::Explained { error, steps } = error {
        say(&render::explained(&steps, false));
        return report(*error);
    }
    let message = oci::chain_text(&error);
    let login = machine::login_hint(&error);
    let hint = login.clone().or_else(|| error.hint().map(str::to_owned));
    match error {
        build::Error::Canceled => threads::canceled(),
        build::Error::Dockerfile { message, place, hint } => Report {
            doing: Report::SOLVING,
            excerpt: place.map(|place| Excerpt {
                source: place.file,
                lines: place.lines,
                span: place.span,
            }),
            hint,
            ..Report::from(message)
        },
        build::Error::NoPush { .. } => Report { hint: login, ..Report::from(message) },
        build::Error::Policy { .. } => {
            let hint = "build without it by `--policy disabled=true`, or with buildx".to_owned();
            Report { doing: Report::SOLVING, hint: Some(hint), ..Report::from(message) }
        }
        _ => Report { doing: Report::SOLVING, hint, ..Report::from(message) },
    }
}

/// Makes a request from flags, this process's working directory and standard input.
///
/// # Errors
/// If a flag or file is wrong; the report names it.
pub fn prepare(
    flags: BuildFlags,
    environment: &Environment,
    settings: &Settings,
) -> Result<BuildPlan, Report> {
    let directory = directory()?;
    let proxies = match &settings.docker_config {
        Some(folder) => read_proxies(folder, settings.docker_host.as_deref())?,
        None => Proxies::default(),
    };
    let inputs = Inputs {
        environment,
        settings,
        proxies: &proxies,
        directory: &directory,
        stdin: &mut || Box::new(std::io::stdin()),
    };
    let mut plan = plan(flags, inputs)?;
    if let Err(error) = checkout::describe(&mut plan.request, environment) {
        plan.presentation.warnings.push(error);
    }
    Ok(plan)
}

/// A build that is being shown.
pub struct Shown {
    display: Display,
    presentation: BuildPresentation,
}

impl Shown {
    /// Prints warnings, removes the old `--iidfile`, and starts the display.
    ///
    /// # Errors
    /// If the old file cannot be removed, the display cannot start, or `--progress=tty` has no
    /// terminal.
    pub fn begin(presentation: BuildPresentation, style: &Style) -> Result<Self, Report> {
        let is_terminal = terminal::stderr_is_terminal();
        if presentation.progress == Mode::Tty && !is_terminal {
            return Err("`--progress=tty` needs a terminal, which standard error is not"
                .to_owned()
                .into());
        }
        for warning in &presentation.warnings {
            say(&format!("WARNING: {warning}\n"));
        }
        if let Some(path) = &presentation.iidfile {
            remove(path)?;
        }
        let renderer = renderer(presentation.progress, style, terminal::has_live_display());
        let display = Display::start(renderer, std::io::stderr(), terminal::stderr_size)
            .map_err(|error| Report::from(format!("starting the thread for progress: {error}")))?;
        Ok(Self { display, presentation })
    }

    /// The sink for the build's events.
    pub fn events(&self) -> Events {
        self.display.events()
    }

    /// Prints a line before the progress, in the modes that are text.
    pub fn note(&self, line: &str) {
        if matches!(self.presentation.progress, Mode::Auto | Mode::Plain | Mode::Tty) {
            say(line);
        }
    }

    /// Ends a successful build: warnings, summary, files, the image's ID.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn succeed(self, outcome: &Outcome) -> Result<(), Report> {
        let shown = self.display.finish();
        let presentation = self.presentation;
        if matches!(presentation.progress, Mode::Auto | Mode::Plain | Mode::Tty) {
            say(&render::warnings(&shown.warnings));
            for warning in &outcome.warnings {
                say(&format!("{warning}\n"));
            }
            say(&render::summary(outcome));
        }
        if let Some(explained) = &outcome.explained {
            say(&render::explained(explained, false));
        }
        if let Some(path) = &presentation.metadata_file {
            render::write_file(path, &render::metadata(outcome))?;
        }
        if let Some(id) = render::image_id(outcome) {
            if let Some(path) = &presentation.iidfile {
                render::write_file(path, &id)?;
            }
            if presentation.prints_id {
                terminal::print(&format!("{id}\n"))?;
            }
        }
        Ok(())
    }

    /// Ends several successful builds: a file with the metadata of each.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn succeed_all(
        self,
        outcomes: &[(&str, &Outcome)],
        metadata_file: Option<&Path>,
    ) -> Result<(), Report> {
        let shown = self.display.finish();
        if matches!(self.presentation.progress, Mode::Auto | Mode::Plain | Mode::Tty) {
            say(&render::warnings(&shown.warnings));
            for (name, outcome) in outcomes {
                for warning in &outcome.warnings {
                    say(&format!("{name}: {warning}\n"));
                }
                say(&format!("{name}: {}", render::summary(outcome)));
            }
        }
        if let Some(path) = metadata_file {
            let all = outcomes.iter().map(|(name, outcome)| {
                let metadata = serde_json::from_str(&render::metadata(outcome));
                ((*name).to_owned(), metadata.unwrap_or_default())
            });
            let all: serde_json::Map<String, serde_json::Value> = all.collect();
            let text = serde_json::to_string_pretty(&all).unwrap_or_default();
            render::write_file(path, &text)?;
        }
        Ok(())
    }

    /// Ends a failed build: the progress so far. The caller prints the report.
    pub fn fail(self) {
        self.display.abort();
    }
}

fn remove(path: &Path) -> Result<(), Report> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("removing `{}`: {error}", path.display()).into())
        }
        _ => Ok(()),
    }
}
