//! Questions about a Dockerfile that need no build: broken rules, the outline of a target, the
//! targets. Images that it stands on are looked up, nothing is fetched of them.

use dockerfile::{Checked, Checking, Outline, Outlining, TargetStage};
use graph::{Events, SourceFile};

use crate::context::{ParsedContext, prepare};
use crate::frontend::bases::Asking;
use crate::session::Build;
use crate::{Error, Request, Session};

/// Looks for broken rules; the file is the one that their lines are in. An error that keeps the
/// Dockerfile from being built is part of the result.
///
/// # Errors
/// If the request is wrong, or the Dockerfile cannot be read.
pub async fn check(
    session: &Session,
    request: &Request,
    events: &Events,
) -> Result<(Checked, SourceFile), Error> {
    let build = &Build::new(session, request, events);
    let ParsedContext { opened, parsed } = prepare(build).await?;
    let file = opened.dockerfile.clone();
    let dockerfile = match parsed {
        Ok(dockerfile) => dockerfile,
        Err(error) => return Ok((Checked { error: Some(error), ..Checked::default() }, file)),
    };
    let mut asking = Asking::new(build, &opened)?;
    loop {
        match dockerfile.check(&asking.asked, &asking.resolved) {
            Checking::Done(checked) => return Ok((checked, file)),
            Checking::Needs(needs) => asking.look_up(&needs).await,
        }
    }
}

/// The arguments, secrets and agents that the target can be given.
///
/// # Errors
/// If the request or the Dockerfile is wrong.
pub async fn outline(
    session: &Session,
    request: &Request,
    events: &Events,
) -> Result<(Outline, SourceFile), Error> {
    let build = &Build::new(session, request, events);
    let prepared = prepare(build).await?;
    let (file, dockerfile) = (&prepared.opened.dockerfile, prepared.dockerfile()?);
    let mut asking = Asking::new(build, &prepared.opened)?;
    loop {
        let outlining = dockerfile.outline(&asking.asked, &asking.resolved);
        match outlining.map_err(|error| Error::in_dockerfile(error, file))? {
            Outlining::Done(outline) => return Ok((outline, file.clone())),
            Outlining::Needs(needs) => asking.look_up(&needs).await,
        }
    }
}

/// The stages that can be built.
///
/// # Errors
/// If the Dockerfile is wrong or cannot be read.
pub async fn targets(
    session: &Session,
    request: &Request,
    events: &Events,
) -> Result<(Vec<TargetStage>, SourceFile), Error> {
    let build = &Build::new(session, request, events);
    let prepared = prepare(build).await?;
    let targets = prepared.dockerfile()?.targets();
    Ok((targets, prepared.opened.dockerfile))
}
