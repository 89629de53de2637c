//! Blobs that a repository has lost.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt as _};
use oci::{Digest, Repository};

use crate::auth::Scopes;
use crate::client::{Client, Presence};
use crate::{Error, Result};

/// Questions that are asked at the same time.
const AT_ONCE: usize = 16;

impl Client {
    /// Those of some blobs that a repository does not have, or does not say that it has. All are
    /// asked for at once, and whatever was known of them is forgotten.
    ///
    /// # Errors
    /// If the settings of the host are wrong.
    pub async fn missing(
        &self,
        repository: &Repository,
        blobs: impl IntoIterator<Item = Digest>,
    ) -> Result<BTreeSet<Digest>> {
        let endpoint = self.origin(repository.host())?;
        let blobs: BTreeSet<Digest> = blobs.into_iter().collect();
        let questions = blobs.into_iter().map(|digest| {
            let endpoint = &endpoint;
            async move {
                let scopes = Scopes::push(endpoint.path(repository));
                let cell = self.presence(repository, digest);
                let mut known = cell.lock().await;
                let answer = self.head_blob(endpoint, repository, digest, scopes).await;
                let (presence, is_missing) = match answer {
                    Ok(presence) => (Some(presence), presence == Presence::Absent),
                    // It does not answer such questions: nothing is known, as before.
                    Err(Error::Refused { status: 405 | 501, .. }) => (None, false),
                    // A question that fails once is not asked again.
                    Err(_) => (Some(Presence::Absent), true),
                };
                *known = presence;
                is_missing.then_some(digest)
            }
        });
        let asked: Vec<Option<Digest>> =
            stream::iter(questions).buffer_unordered(AT_ONCE).collect().await;
        Ok(asked.into_iter().flatten().collect())
    }
}
