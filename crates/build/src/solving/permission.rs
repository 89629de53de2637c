//! A check for permission to push, made when the first command begins: no hour of RUN steps
//! ends in a refusal.
//!
//! A build in which every step is cached asks nothing: its push comes at once, and says the same.

use std::collections::BTreeSet;
use std::future;

use cache::BackendSettings;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use graph::{Failure, TaskEvent};
use oci::Repository;
use tokio::sync::SetOnce;

use crate::request::{CacheTarget, Output};
use crate::session::Build;
use crate::{Error, Request};

/// The question, and where it goes.
pub(crate) struct Permission<'a> {
    build: &'a Build<'a>,
    /// Each with whether its registry may be insecure.
    repositories: BTreeSet<(Repository, bool)>,
    begun: SetOnce<()>,
}

impl<'a> Permission<'a> {
    /// Asks for all places that have to take what a request makes.
    pub(crate) fn new(build: &'a Build<'a>) -> Self {
        let request = build.request;
        let repositories = if request.push_check { targets(request) } else { BTreeSet::new() };
        Self { build, repositories, begun: SetOnce::new() }
    }

    /// Lets the question go out.
    pub(crate) fn ask(&self) {
        // A second command finds it asked.
        drop(self.begun.set(()));
    }

    /// The first refusal; never comes where there is none. What fails in another way may have
    /// passed when the push comes.
    pub(crate) async fn refused(&self) -> Error {
        self.begun.wait().await;
        let questions = self.repositories.iter().map(async |(repository, insecure)| {
            let client = self.build.session.client().for_host(repository.host(), *insecure);
            (repository, client.may_push(repository).await)
        });
        let mut answers: FuturesUnordered<_> = questions.collect();
        while let Some((repository, answer)) = answers.next().await {
            if let Err(source) = answer
                && source.is_unauthorized()
            {
                let error = Error::NoPush { repository: repository.to_string(), source };
                self.show(&error);
                return error;
            }
        }
        future::pending().await
    }

    fn show(&self, error: &Error) {
        let events = self.build.events;
        let task = events.task("[internal] asking for leave to push", Vec::new());
        events.send(task, TaskEvent::Started);
        let text = transfer::chain_text(error);
        events.send(task, TaskEvent::Failed(Failure::Error(text.into())));
    }
}

/// The repositories whose refusal would fail a build.
fn targets(request: &Request) -> BTreeSet<(Repository, bool)> {
    let mut repositories = BTreeSet::new();
    for output in &request.outputs {
        if let Output::Image(image) = output
            && image.push
        {
            let names = if image.names.is_empty() { &request.tags } else { &image.names };
            let names = names.iter().map(|name| (name.repository().clone(), image.insecure));
            repositories.extend(names);
        }
    }
    for cache in request.cache_to.iter().filter(|cache| !cache.ignore_error) {
        if let CacheTarget::Backend(BackendSettings::Registry(settings)) = &cache.target {
            repositories.insert((settings.reference.repository().clone(), settings.insecure));
        }
    }
    repositories
}
