//! The permission to push, checked before there is anything to push.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use oci::{Descriptor, Repository};
use reqwest::Method;
use reqwest::header::HeaderMap;

use crate::Result;
use crate::client::Client;
use crate::exchange::{ApiRequest, Payload, Target};
use crate::hosts::Endpoint;
use crate::upload::{Session, Upload};

/// Uploads that were begun to see whether they may be, by repository; none where one was taken.
#[derive(Default)]
pub(crate) struct Begun(Mutex<Uploads>);

type Uploads = HashMap<Repository, Option<(Arc<Endpoint>, Session)>>;

impl Begun {
    fn with<T>(&self, work: impl FnOnce(&mut Uploads) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The upload that was begun to a repository, for the first blob that goes there.
    pub(crate) fn take(&self, repository: &Repository) -> Option<Session> {
        self.with(|begun| begun.get_mut(repository)?.take()).map(|(_, session)| session)
    }
}

impl Client {
    /// Asks once whether this user may push to a repository, by beginning an upload. The first blob
    /// that is sent there goes on with it, so that the question costs nothing where there is one.
    ///
    /// # Errors
    /// If the registry does not begin it: [`Error::is_unauthorized`](crate::Error::is_unauthorized)
    /// tells a refusal from other faults.
    pub async fn may_push(&self, repository: &Repository) -> Result<()> {
        if self.begun().with(|begun| begun.contains_key(repository)) {
            return Ok(());
        }
        let endpoint = self.origin(repository.host())?;
        let nothing = Bytes::new();
        let descriptor = Descriptor::of("application/octet-stream", &nothing);
        let session = {
            let (endpoint, descriptor, source) = (&*endpoint, &descriptor, &nothing);
            let upload = Upload { client: self, endpoint, repository, descriptor, source };
            let ask = ApiRequest { what: format!("a push to `{repository}`"), ..upload.opening() };
            upload.open_by(&ask).await?
        };
        let begun = Some((endpoint, session));
        self.begun().with(|all| {
            all.entry(repository.clone()).or_insert(begun);
        });
        Ok(())
    }

    /// Gives up the uploads that [`Client::may_push`] began and nothing went on with. A registry
    /// that does not care forgets them by itself.
    pub async fn give_up_uploads(&self) {
        let left: Vec<_> = self.begun().with(|begun| {
            let left =
                begun.iter_mut().filter_map(|(name, left)| Some((name.clone(), left.take()?)));
            left.collect()
        });
        for (repository, (endpoint, session)) in left {
            let ask = ApiRequest {
                endpoint: &endpoint,
                repository: &repository,
                scopes: crate::auth::Scopes::push(endpoint.path(&repository)),
                method: Method::DELETE,
                target: Target::Url(session.into_url()),
                headers: HeaderMap::new(),
                what: format!("the end of an upload to `{repository}`"),
            };
            if let Ok(answer) = self.call(&ask, &Payload::EMPTY).await {
                answer.drain().await;
            }
        }
    }
}
