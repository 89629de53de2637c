//! Several builds side by side, as `bake` asks for them: what they have in common is made once.

use std::sync::Arc;

use futures_util::future;
use graph::Events;
use oci::{Reference, Repository};
use tokio::sync::SetOnce;

use crate::pipeline;
use crate::request::{ImageOutput, NamedContext, Output};
use crate::session::{Build, Work};
use crate::{BuiltImage, Error, Outcome, Request, Session};

/// A host that no registry has: images that one build makes for another.
const HOST: &str = "made.kiln.invalid";

/// One of several builds.
#[derive(Clone, Debug)]
pub struct BuildJob {
    /// Its name, which progress puts before its steps.
    pub name: String,
    /// The request.
    pub request: Request,
    /// Named contexts that are the images of other jobs, by their place in the list.
    pub contexts: Vec<(String, usize)>,
}

/// A build that failed, and with it the others.
#[derive(Debug)]
pub struct JobError {
    /// The name of the job.
    pub name: String,
    /// Why.
    pub error: Error,
}

/// Builds all jobs, each as soon as those are done whose images it names.
///
/// # Errors
/// The first that fails; the others are given up. Jobs that wait for each other fail.
pub async fn build_all(
    session: &Session,
    jobs: &[BuildJob],
    events: &Events,
) -> Result<Vec<Outcome>, JobError> {
    for job in jobs {
        if let Some(circle) = circle(jobs, job) {
            let message = format!("targets wait for each other: {circle}");
            return Err(JobError { name: job.name.clone(), error: Error::Request(message) });
        }
    }
    let work: Vec<Work> = works(jobs);
    let done: Vec<SetOnce<()>> = jobs.iter().map(|_| SetOnce::new()).collect();
    let built = jobs.iter().enumerate().map(async |(place, job)| {
        future::join_all(job.contexts.iter().map(|(_, other)| done[*other].wait())).await;
        let name: Arc<str> = job.name.as_str().into();
        let events = events.renamed(move |task| prefixed(&name, task));
        let request = request(jobs, place);
        let own = Build { session, request: &request, events: &events, work: Some(&work[place]) };
        match pipeline::run(&own).await {
            Ok(mut outcome) => {
                drop(done[place].set(()));
                outcome.image = outcome.image.and_then(|image| asked_for(image, job, place));
                Ok(outcome)
            }
            Err(error) => Err(JobError { name: job.name.clone(), error }),
        }
    });
    let result = future::try_join_all(built).await;
    for place in 0..jobs.len() {
        // A name that is left is removed by the next call that has as many jobs, or by `prune`.
        drop(session.store().db().remove_image(&made(place).to_string()));
    }
    result
}

/// The steps that each job shares: with jobs that read the same caches, because a step can rest
/// on what a cache says.
fn works(jobs: &[BuildJob]) -> Vec<Work> {
    let trusts = |job: &BuildJob| (job.request.cache_from.clone(), job.request.verify_indexes);
    let mut works: Vec<Work> = Vec::with_capacity(jobs.len());
    for (place, job) in jobs.iter().enumerate() {
        let same = jobs[..place].iter().position(|other| trusts(other) == trusts(job));
        works.push(same.map_or_else(Work::default, |same| works[same].clone()));
    }
    works
}

/// The name of the image that a job makes for others.
fn made(place: usize) -> Reference {
    let path = format!("{}/{place}", std::process::id());
    Reference::new(Repository::new(HOST, path), Some("latest".into()), None)
}

/// A job's request, with what it takes from others and leaves for them.
fn request(jobs: &[BuildJob], place: usize) -> Request {
    let mut request = jobs[place].request.clone();
    for (name, other) in &jobs[place].contexts {
        request.named_contexts.insert(name.clone(), NamedContext::Kept(made(*other)));
    }
    let is_needed = jobs.iter().any(|job| job.contexts.iter().any(|(_, other)| *other == place));
    if is_needed {
        request.outputs.push(Output::Image(ImageOutput::kept(vec![made(place)])));
    }
    request
}

/// The image that a job was asked for; none where it made one for others alone.
fn asked_for(mut image: BuiltImage, job: &BuildJob, place: usize) -> Option<BuiltImage> {
    let made = made(place).to_string();
    image.names.retain(|name| *name != made);
    let outputs = &job.request.outputs;
    let is_for_others =
        !outputs.is_empty() && outputs.iter().all(|output| matches!(output, Output::CacheOnly));
    (!is_for_others).then_some(image)
}

/// The names of jobs that wait for each other, if this one is among them.
fn circle(jobs: &[BuildJob], job: &BuildJob) -> Option<String> {
    fn walk<'j>(jobs: &'j [BuildJob], job: &'j BuildJob, path: &mut Vec<&'j str>) -> bool {
        if path.contains(&job.name.as_str()) {
            path.push(&job.name);
            return true;
        }
        path.push(&job.name);
        let found = job.contexts.iter().any(|(_, other)| walk(jobs, &jobs[*other], path));
        if !found {
            path.pop();
        }
        found
    }
    let mut path = Vec::new();
    walk(jobs, job, &mut path).then(|| path.join(" → "))
}

/// BuildKit's form: `[app 2/3] RUN make`, `[app] exporting to image`.
fn prefixed(job: &str, task: &str) -> String {
    match task.strip_prefix('[') {
        Some(rest) => format!("[{job} {rest}"),
        None => format!("[{job}] {task}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_have_the_name_of_their_job() {
        assert_eq!(prefixed("app", "[2/3] RUN x"), "[app 2/3] RUN x");
        assert_eq!(prefixed("app", "exporting to image"), "[app] exporting to image");
    }
}
