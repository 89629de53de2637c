//! `kiln check` and `kiln build --call`: questions about a Dockerfile, answered without a build.

use graph::{Events, SourceFile};

use super::build::{self as single, Shown, prepare, report};
use crate::args::{BuildArgs, BuildPlan, Call, CallKind, Engine, Isolation};
use crate::machine;
use crate::render::{self, Excerpt, Look, Report};
use crate::settings::{self, Environment, Settings};
use crate::terminal;
use crate::threads;

/// Answers a question on standard output.
///
/// # Errors
/// If a flag or the Dockerfile is wrong. The report has no text if rules are violated.
pub fn run(args: &BuildArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    machine::rise(settings);
    let flags = single::read(args, Engine::Docker, environment, settings)?;
    // `kiln check --call check,format=json` also sets the form of the answer.
    let call = flags.call.unwrap_or(Call::CHECK);
    ask(prepare(flags, environment, settings)?, call, environment, settings)
}

/// Answers a question about a planned build.
///
/// # Errors
/// The errors of [`run`].
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

/// The answer's text, and the failure that the call ends with in spite of it.
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
