//! `kiln check` and `kiln build --call`: what can be said of a Dockerfile without building it.

use graph::{Events, SourceFile};

use super::build::{self as single, Shown, prepare, report};
use crate::args::{BuildArgs, BuildPlan, Call, CallKind, Engine, Isolation};
use crate::machine;
use crate::render::{self, Excerpt, Look, Report};
use crate::settings::{self, Environment, Settings};
use crate::terminal;
use crate::threads;

/// Answers a call on standard output.
///
/// # Errors
/// What is wrong with a flag or the Dockerfile; a report without words where rules are broken.
pub fn run(args: &BuildArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    machine::rise(settings);
    let flags = single::read(args, Engine::Docker, environment, settings)?;
    // `--call check,format=json` says more of the same.
    let call = flags.call.unwrap_or(Call::CHECK);
    ask(prepare(flags, environment, settings)?, call, environment, settings)
}

/// The same for a build that was planned.
///
/// # Errors
/// As [`run`].
pub fn ask(
    plan: BuildPlan,
    call: Call,
    environment: &Environment,
    settings: &Settings,
) -> Result<(), Report> {
    let standing = machine::rise(settings);
    let shown = Shown::begin(plan.presentation, &settings.style)?;
    let session = machine::session(settings, environment, &standing, Isolation::None);
    let session = match session {
        Ok(session) => session,
        Err(message) => {
            shown.fail();
            return Err(message.into());
        }
    };
    let look = settings::look(environment, terminal::stdout_is_terminal());
    let answer = answer((&session, &shown.events()), &plan.request, call, look);
    shown.fail();
    let (text, failure) = answer?;
    terminal::print(&text)?;
    match failure {
        Some(failure) if !call.ignores_status => Err(failure),
        _ => Ok(()),
    }
}

/// The text, and what makes the call fail although there is one.
fn answer(
    (session, events): (&build::Session, &Events),
    request: &build::Request,
    call: Call,
    look: Look,
) -> Result<(String, Option<Report>), Report> {
    let json = call.is_json;
    match call.kind {
        CallKind::Check => {
            let (checked, file) = threads::finish(build::check(session, request, events))?
                .unwrap_or(Err(build::Error::Canceled))
                .map_err(report)?;
            let text = match json {
                true => render::checked_json(&checked, &file),
                false => render::checked(&checked, &file, look),
            };
            let failure = match checked.error {
                Some(_) if json => Some(Report::default()),
                Some(error) => Some(failure(error, file)),
                None => (!checked.findings.is_empty()).then(Report::default),
            };
            Ok((text, failure))
        }
        CallKind::Outline => {
            let (outline, file) = threads::finish(build::outline(session, request, events))?
                .unwrap_or(Err(build::Error::Canceled))
                .map_err(report)?;
            let text = match json {
                true => render::outline_json(&outline, &file),
                false => render::outline(&outline),
            };
            Ok((text, None))
        }
        CallKind::Targets => {
            let (targets, file) = threads::finish(build::targets(session, request, events))?
                .unwrap_or(Err(build::Error::Canceled))
                .map_err(report)?;
            let text = match json {
                true => render::targets_json(&targets, &file),
                false => render::targets(&targets),
            };
            Ok((text, None))
        }
    }
}

fn failure(error: dockerfile::Error, file: SourceFile) -> Report {
    let span = error.span;
    let excerpt = error.lines.map(|lines| Excerpt { source: file, lines, span });
    Report { excerpt, hint: error.hint, ..Report::from(error.message) }
}
