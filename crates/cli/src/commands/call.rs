//! `kiln build --call`: questions about a Dockerfile, answered without a build.

use ::build::{Request, Session};
use graph::{Events, SourceFile};
use runtime::WantedIsolation;

use super::failure::report;
use super::presentation::{BuildPlan, DisplayedBuild};
use crate::args::{Call, CallKind};
use crate::machine;
use crate::render::{self, Excerpt, Look, Report};
use crate::settings::{self, Environment, Settings};
use crate::terminal;
use crate::threads;

/// Answers a question about a planned build.
///
/// # Errors
/// If the Dockerfile is wrong. The report has no text if rules are violated.
pub fn ask(
    plan: BuildPlan,
    call: Call,
    environment: &Environment,
    settings: &Settings,
) -> Result<(), Report> {
    let standing = machine::rise(settings);
    let shown = DisplayedBuild::begin(plan.presentation, &settings.style)?;
    let session = machine::session(settings, environment, &standing, WantedIsolation::None);
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            shown.fail();
            return Err(error.into());
        }
    };
    let look = settings::look(environment, terminal::stdout_is_terminal());
    let events = shown.events();
    let question = Question { session: &session, events: &events, request: &plan.request, call };
    let answer = question.answer(look);
    shown.fail();
    let (text, failure) = answer?;
    terminal::print(&text)?;
    match failure {
        Some(failure) if !call.ignores_status => Err(failure),
        _ => Ok(()),
    }
}

struct Question<'a> {
    session: &'a Session,
    events: &'a Events,
    request: &'a Request,
    call: Call,
}

impl Question<'_> {
    /// The answer's text, and the failure that the call ends with in spite of it.
    fn answer(&self, look: Look) -> Result<(String, Option<Report>), Report> {
        let Self { session, events, request, call } = *self;
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
}

fn failure(error: dockerfile::Error, file: SourceFile) -> Report {
    let span = error.span;
    let excerpt = error.lines.map(|lines| Excerpt { source: file, lines, span });
    Report { excerpt, hint: error.hint, ..Report::from(error.message) }
}
