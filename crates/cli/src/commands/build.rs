//! `kiln build`: what is around a build.

use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::Path;

use build::images::{CollectPolicy, collect};
use build::{Host, Outcome};
use graph::Events;

use crate::args::{BuildArgs, BuildPlan, BuildPresentation, Inputs, Isolation, isolation, plan};
use crate::checkout;
use crate::progress::{Display, Mode, Style, renderer};
use crate::render::{self, Excerpt, Report};
use crate::settings::{Environment, Proxies, Settings, collect_policy, keep, read_proxies};
use crate::terminal::{self, say};
use crate::threads;
use crate::{human, machine};

/// Builds, and shows it.
///
/// # Errors
/// What is wrong with a flag, the Dockerfile or a step, with an excerpt where there is one.
pub fn run(args: &BuildArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    execute(args, environment, settings).map(drop)
}

/// The same, for who wants to know what came of it: none, if a question was answered instead.
///
/// # Errors
/// As [`run`].
pub fn execute(
    args: &BuildArgs,
    environment: &Environment,
    settings: &Settings,
) -> Result<Option<Outcome>, Report> {
    if let Some(call) = args.other.call()? {
        return super::check::run(args, call, environment, settings).map(|()| None);
    }
    let wanted = isolation(args.isolation.as_deref(), settings)?;
    // First: what becomes another process must not have read standard input.
    let standing = machine::rise_for(settings, wanted);
    // Reading a secret or standard input can wait for ever.
    threads::watch_signals()?;
    let plan = prepare(args, environment, settings)?;
    for warning in &settings.warnings {
        say(&format!("WARNING: {warning}\n"));
    }
    let plain = !matches!(plan.presentation.progress, Mode::Auto | Mode::Tty);
    let policy = collect_policy(environment)?;
    let collect = args.keep_storage.map(|bytes| keep(bytes, policy)).or(policy);
    let shown = Shown::begin(plan.presentation, &settings.style)?;
    let host = match host(environment, settings, (&standing, wanted), &shown) {
        Ok(host) => host,
        Err(message) => {
            shown.fail();
            return Err(message.into());
        }
    };
    let result =
        threads::finish(build::build(&host, &plan.request))?.unwrap_or(Err(build::Error::Canceled));
    let tidied = tidy(&host, collect);
    host.store.end();
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

/// Removes what is not to stay; what is to be said of it. The build is what it is, whatever happens.
fn tidy(host: &Host, policy: Option<CollectPolicy>) -> String {
    let Some(policy) = policy else { return String::new() };
    match collect(&host.store, &policy) {
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

/// What builds need of this machine, with how commands are kept apart said once.
///
/// # Errors
/// A sentence that says what is wrong, or that commands cannot be kept apart as it is wanted.
pub fn host(
    environment: &Environment,
    settings: &Settings,
    (standing, wanted): (&runtime::Privilege, Isolation),
    shown: &Shown,
) -> Result<Host, String> {
    let host = machine::host(settings, environment, standing, wanted, shown.events())?;
    is_isolated(&host, wanted)?;
    if let Ok(runtime) = &host.runtime
        && let Some(line) = crate::isolation::line(runtime, wanted)
    {
        shown.note(&line);
    }
    Ok(host)
}

/// Whether commands can be kept apart as the user wants it.
fn is_isolated(host: &Host, wanted: Isolation) -> Result<(), String> {
    let name = match wanted {
        Isolation::Auto | Isolation::None => return Ok(()),
        Isolation::Namespaces => "namespaces",
        Isolation::Chroot => "chroot",
        Isolation::InPlace => "in-place",
    };
    match &host.runtime {
        Err(reason) => Err(format!("`--isolation={name}` is not possible here: {reason}")),
        Ok(_) => Ok(()),
    }
}

/// A failed build in words.
pub fn report(error: build::Error) -> Report {
    if let build::Error::Explained { error, steps } = error {
        say(&render::explained(&steps, false));
        return report(*error);
    }
    let message = oci::chain_text(&error);
    let login = machine::login_hint(&error);
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
        _ => Report { doing: Report::SOLVING, hint: login, ..Report::from(message) },
    }
}

/// Makes a request of flags, with this process's working directory and standard input.
///
/// # Errors
/// A sentence that names the flag or file that is wrong.
pub fn prepare(
    args: &BuildArgs,
    environment: &Environment,
    settings: &Settings,
) -> Result<BuildPlan, Report> {
    let directory = std::env::current_dir()
        .map_err(|error| format!("finding the working directory: {error}"))?;
    let proxies = match &settings.docker_config {
        Some(folder) => read_proxies(folder, settings.docker_host.as_deref())?,
        None => Proxies::default(),
    };
    let inputs = Inputs {
        environment,
        settings,
        proxies: &proxies,
        directory: &directory,
        stdin: &mut || input(settings),
        stdout_is_terminal: std::io::stdout().is_terminal(),
    };
    let mut plan = plan(args, inputs)?;
    if let Err(error) = checkout::describe(&mut plan.request, environment) {
        plan.presentation.warnings.push(error);
    }
    Ok(plan)
}

/// Standard input, or the file that is read instead.
fn input(settings: &Settings) -> Box<dyn Read + Send> {
    let Some(path) = &settings.input else { return Box::new(std::io::stdin()) };
    match File::open(path) {
        Ok(file) => Box::new(file),
        Err(error) => {
            let message = format!("`{}`: {error}", path.display());
            Box::new(Unreadable(std::io::Error::new(error.kind(), message)))
        }
    }
}

/// A file that could not be opened: reading it says why.
struct Unreadable(std::io::Error);

impl Read for Unreadable {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::new(self.0.kind(), self.0.to_string()))
    }
}

/// A build that is being shown.
pub struct Shown {
    display: Display,
    presentation: BuildPresentation,
}

impl Shown {
    /// Says what was given in vain, removes the old `--iidfile`, and begins to show.
    ///
    /// # Errors
    /// If the old file cannot be removed, or there is no thread.
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

    /// Where the build sends its events.
    pub fn events(&self) -> Events {
        self.display.events()
    }

    /// Says something before there is progress, to those who read it as text.
    pub fn note(&self, line: &str) {
        if matches!(self.presentation.progress, Mode::Auto | Mode::Plain | Mode::Tty) {
            say(line);
        }
    }

    /// The end of a build that ended well: warnings, summary, files, the image's ID.
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

    /// The end of several builds that ended well: a file with the metadata of each.
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

    /// The end of a build that did not: the progress up to there. The caller prints the report.
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
