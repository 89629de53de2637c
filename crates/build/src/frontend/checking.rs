//! What can be said of a Dockerfile without building it: broken rules, the outline of a target,
//! the targets. Images that it stands on are looked up, nothing is fetched of them.

use dockerfile::{Checked, Checking, Dockerfile, Outline, Outlining, Target};
use graph::SourceFile;

use crate::frontend::bases::Asking;
use crate::{Error, Host, Request, context};

/// Looks for broken rules; the file is what their lines are of. What keeps the Dockerfile from
/// being built is part of the result.
///
/// # Errors
/// If the request is wrong, or the Dockerfile cannot be read.
pub async fn check(host: &Host, request: &Request) -> Result<(Checked, SourceFile), Error> {
    let opened = context::open(host, request).await?;
    let file = opened.dockerfile.clone();
    let dockerfile = match Dockerfile::parse(file.clone()) {
        Ok(dockerfile) => dockerfile,
        Err(error) => return Ok((Checked { error: Some(error), ..Checked::default() }, file)),
    };
    let mut asking = Asking::new(host, request, &opened)?;
    loop {
        match dockerfile.check(&asking.asked, &asking.resolved) {
            Checking::Done(checked) => return Ok((checked, file)),
            Checking::Needs(needs) => asking.look_up(&needs).await,
        }
    }
}

/// What the target can be given.
///
/// # Errors
/// If the request or the Dockerfile is wrong.
pub async fn outline(host: &Host, request: &Request) -> Result<(Outline, SourceFile), Error> {
    let opened = context::open(host, request).await?;
    let file = opened.dockerfile.clone();
    let wrong = |error| Error::in_dockerfile(error, &file);
    let dockerfile = Dockerfile::parse(file.clone()).map_err(wrong)?;
    let mut asking = Asking::new(host, request, &opened)?;
    loop {
        match dockerfile.outline(&asking.asked, &asking.resolved).map_err(wrong)? {
            Outlining::Done(outline) => return Ok((outline, file)),
            Outlining::Needs(needs) => asking.look_up(&needs).await,
        }
    }
}

/// The stages that can be built.
///
/// # Errors
/// If the Dockerfile is wrong or cannot be read.
pub async fn targets(host: &Host, request: &Request) -> Result<(Vec<Target>, SourceFile), Error> {
    let opened = context::open(host, request).await?;
    let file = opened.dockerfile;
    let dockerfile =
        Dockerfile::parse(file.clone()).map_err(|error| Error::in_dockerfile(error, &file))?;
    Ok((dockerfile.targets(), file))
}
