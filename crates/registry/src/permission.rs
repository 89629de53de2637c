//! The permission to log in or to push, checked before there is anything to push.

use bytes::Bytes;
use oci::{Descriptor, Repository};
use reqwest::Method;
use reqwest::header::HeaderMap;

use crate::Result;
use crate::auth::Scopes;
use crate::client::Client;
use crate::exchange::{ApiRequest, Target};
use crate::payload::Payload;
use crate::upload::Upload;

impl Client {
    /// Checks that a host is a registry that accepts the user, as `docker login` does.
    ///
    /// # Errors
    /// [`Error::Unauthorized`](crate::Error::Unauthorized) if the credentials are wrong or missing.
    pub async fn ping(&self, host: &str) -> Result<()> {
        let endpoint = self.origin(host)?;
        let ask = ApiRequest {
            endpoint: &endpoint,
            repository: &Repository::new(host, ""),
            scopes: Scopes::default(),
            method: Method::GET,
            target: Target::Path(String::new()),
            headers: HeaderMap::new(),
            what: "its API".into(),
        };
        self.call_well(&ask, &Payload::EMPTY).await?.drain().await;
        Ok(())
    }

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
                scopes: Scopes::push(endpoint.path(&repository)),
                method: Method::DELETE,
                target: Target::Url(session.url),
                headers: HeaderMap::new(),
                what: format!("the end of an upload to `{repository}`"),
            };
            if let Ok(answer) = self.call(&ask, &Payload::EMPTY).await {
                answer.drain().await;
            }
        }
    }
}
