//! Google Cloud Storage.

use async_trait::async_trait;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use registry::Client;
use transfer::RemoteError;

use super::super::wire::Wire;
use super::{BucketSettings, ObjectError, ObjectService};
use crate::error::SettingsFault;

pub(super) struct Google {
    store: GoogleCloudStorage,
    settings: BucketSettings,
}

impl Google {
    pub fn open(
        settings: &BucketSettings,
        endpoint: Option<&str>,
        client: &Client,
    ) -> Result<Self, SettingsFault> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&settings.bucket)
            .with_retry(settings.retry())
            .with_http_connector(Wire(client.clone()));
        for (name, value) in settings.credentials.iter() {
            if let Ok(key) = name.to_lowercase().parse::<GoogleConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(endpoint) = endpoint {
            builder = builder.with_base_url(endpoint.trim_end_matches('/'));
        }
        let store = builder.build().map_err(|error| settings.refused(&error))?;
        Ok(Self { store, settings: settings.clone() })
    }
}

#[async_trait]
impl ObjectService for Google {
    fn store(&self) -> &dyn ObjectStore {
        &self.store
    }

    fn export_name(&self) -> &'static str {
        "exporting cache to Google Cloud Storage"
    }

    /// Copies the object onto itself, which makes it a new one.
    async fn touch(&self, path: &Path, _meta: &ObjectMeta) -> Result<(), RemoteError> {
        let copied = self.store.copy(path, path).await;
        Ok(copied.map_err(|error| ObjectError::Store(self.settings.credentials.redact(&error)))?)
    }
}
