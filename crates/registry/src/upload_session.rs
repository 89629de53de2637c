//! Uploads that a registry has opened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci::Repository;
use reqwest::Url;

use crate::endpoint::Endpoint;

/// An upload that a registry has opened.
pub(crate) struct UploadSession {
    /// The address to continue or cancel it at.
    pub url: Url,
    /// The smallest piece that the registry takes, in bytes.
    pub least: u64,
}

/// Uploads that were begun to see whether they may be, by repository; none where one was taken.
#[derive(Default)]
pub(crate) struct BegunUploads(Mutex<Uploads>);

/// Each upload with the endpoint that opened it.
pub(crate) type Uploads = HashMap<Repository, Option<(Arc<Endpoint>, UploadSession)>>;

impl BegunUploads {
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Uploads) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The upload that was begun to a repository, for the first blob that goes there.
    pub(crate) fn take(&self, repository: &Repository) -> Option<UploadSession> {
        self.with(|begun| begun.get_mut(repository)?.take()).map(|(_, session)| session)
    }
}
