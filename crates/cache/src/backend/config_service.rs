//! Services that keep blobs and a config, but no manifest: object stores and GitHub's cache. Their
//! config describes its layers itself, and transfers reach the layers by [`Remote`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use layer::Place;
use oci::Digest;
use store::Store;
use transfer::Remote;

use super::{Backend, LayerUpload, StoredCache};
use crate::Error;
use crate::format::{CacheContents, CacheDocuments, Form};

/// A service that keeps blobs and configs.
#[async_trait]
pub(super) trait ConfigService: Remote + fmt::Debug {
    /// See [`Backend::identity`].
    fn identity(&self) -> String;

    /// See [`Backend::export_name`].
    fn export_name(&self) -> &'static str;

    /// The configs that make up the current cache, the most important first.
    async fn configs(&self) -> Result<Vec<Bytes>, Error>;

    /// Publishes a config.
    async fn put_config(&self, config: Bytes) -> Result<(), Error>;
}

/// A cache in such a service.
#[derive(Debug)]
pub(super) struct ConfigBackend<S>(Arc<S>);

impl<S: ConfigService> ConfigBackend<S> {
    pub(super) fn new(service: S) -> Self {
        Self(Arc::new(service))
    }
}

#[async_trait]
impl<S: ConfigService + 'static> Backend for ConfigBackend<S> {
    fn name(&self) -> String {
        Remote::name(&*self.0).to_owned()
    }

    fn identity(&self) -> String {
        self.0.identity()
    }

    fn export_name(&self) -> &'static str {
        self.0.export_name()
    }

    fn expires(&self) -> bool {
        true
    }

    fn remote(&self) -> Option<Arc<dyn Remote>> {
        Some(self.0.clone())
    }

    async fn read(&self) -> Result<StoredCache, Error> {
        let configs = self.0.configs().await?;
        let Some(first) = configs.first() else {
            return Err(Error::Absent { backend: self.name() });
        };
        let place = Place::Remote(self.name().into());
        let mut contents = CacheContents::default();
        for config in &configs {
            contents.append(CacheContents::annotated(config, &place)?);
        }
        Ok(StoredCache { contents, digest: Digest::of(first), bytes: first.to_vec() })
    }

    fn documents(&self, contents: &CacheContents, _form: Form) -> Result<CacheDocuments, Error> {
        Ok(CacheDocuments::config(contents.annotated_config()?))
    }

    async fn send_layer(&self, upload: LayerUpload<'_>) -> Result<(), transfer::Error> {
        upload.to_remote(&*self.0).await
    }

    async fn put(
        &self,
        _store: &Store,
        _contents: &CacheContents,
        documents: &CacheDocuments,
    ) -> Result<(), Error> {
        self.0.put_config(documents.config.clone().into()).await
    }
}
