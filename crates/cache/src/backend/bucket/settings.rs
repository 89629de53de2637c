//! Settings of a cache in an object store, with BuildKit's options and names of objects.

use std::time::Duration;

use object_store::RetryConfig;
use object_store::path::Path;
use oci::Digest;
use registry::Client;
use reqwest::Url;

use super::super::credentials::BackendCredentials;
use super::ObjectService;
use super::azblob::Azure;
use super::gcs::Google;
use super::s3::{S3, S3Settings};
use crate::error::SettingsFault;

/// The service, with the settings that it alone needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3, or a server that speaks its protocol.
    S3 {
        /// The region that requests are signed for.
        region: String,
        /// The server's address, if it is not Amazon's.
        endpoint: Option<String>,
        /// True if the bucket is in the path of a URL, not in its host. Only with an endpoint.
        path_style: bool,
    },
    /// Azure Blob Storage; the bucket is its container.
    Azure {
        /// The account's address, such as `https://account.blob.core.windows.net`.
        account_url: String,
        /// The account's name.
        account: String,
    },
    /// Google Cloud Storage.
    Google {
        /// The server's address, if it is not Google's.
        endpoint: Option<String>,
    },
}

/// A cache in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketSettings {
    /// The service.
    pub service: Service,
    /// The bucket, or Azure's container.
    pub bucket: String,
    /// The prefix of all names. Like BuildKit's: S3 concatenates names, Azure joins them as paths.
    pub prefix: String,
    /// The prefix of layers' names.
    pub blobs_prefix: String,
    /// The prefix of caches' names.
    pub manifests_prefix: String,
    /// Names of the cache: all are written, the first is read.
    pub names: Vec<String>,
    /// The age from which a layer that a cache names is touched, so that a bucket's expiry rules
    /// keep it.
    pub touch_refresh: Duration,
    /// Layers that are sent at the same time.
    pub parallelism: usize,
    /// Attempts for a request.
    pub attempts: usize,
    /// Keys, tokens and their sources, by the names of the services' environment variables.
    pub credentials: BackendCredentials,
}

impl BucketSettings {
    /// The name in messages, without anything secret.
    pub(super) fn display_name(&self) -> String {
        let bucket = format!("{}/{}", self.bucket, self.prefix);
        let bucket = bucket.trim_end_matches('/');
        match &self.service {
            Service::S3 { endpoint: Some(endpoint), .. } => {
                format!("s3://{bucket} at {}", without_user(endpoint))
            }
            Service::S3 { .. } => format!("s3://{bucket}"),
            Service::Azure { account_url, .. } => {
                format!("{}/{bucket}", without_user(account_url).trim_end_matches('/'))
            }
            Service::Google { .. } => format!("gs://{bucket}"),
        }
    }

    /// The object of a layer.
    pub(super) fn blob_path(&self, digest: Digest) -> Result<Path, SettingsFault> {
        self.path(&self.blobs_prefix, &digest.to_string())
    }

    /// The object of a cache's config.
    pub(super) fn config_path(&self, name: &str) -> Result<Path, SettingsFault> {
        self.path(&self.manifests_prefix, name)
    }

    fn path(&self, prefix: &str, name: &str) -> Result<Path, SettingsFault> {
        let joined = match self.service {
            Service::Azure { .. } => {
                let parts = [self.prefix.as_str(), prefix, name];
                let parts: Vec<&str> = parts
                    .iter()
                    .flat_map(|part| part.split('/'))
                    .filter(|part| !matches!(*part, "" | "."))
                    .collect();
                parts.join("/")
            }
            Service::S3 { .. } | Service::Google { .. } => format!("{}{prefix}{name}", self.prefix),
        };
        // The library normalizes names, and BuildKit would look for the original.
        let path = Path::parse(&joined).ok().filter(|path| path.as_ref() == joined);
        path.ok_or(SettingsFault::ObjectName(joined))
    }

    pub(super) fn retry(&self) -> RetryConfig {
        RetryConfig {
            max_retries: self.attempts.saturating_sub(1),
            retry_timeout: Duration::from_secs(120),
            ..RetryConfig::default()
        }
    }

    /// The library's refusal, without secrets.
    pub(super) fn refused(&self, error: &object_store::Error) -> SettingsFault {
        SettingsFault::Refused(self.credentials.hide(&error.to_string()))
    }

    /// Opens the service.
    pub(super) fn open_service(
        &self,
        client: &Client,
    ) -> Result<Box<dyn ObjectService>, SettingsFault> {
        self.blob_path(Digest::of(""))?;
        for name in &self.names {
            self.config_path(name)?;
        }
        Ok(match &self.service {
            Service::S3 { region, endpoint, path_style } => {
                let endpoint = endpoint.as_deref();
                let own = S3Settings { region, endpoint, path_style: *path_style };
                Box::new(S3::open(self, &own, client)?)
            }
            Service::Azure { account_url, account } => {
                Box::new(Azure::open(self, account_url, account, client)?)
            }
            Service::Google { endpoint } => {
                Box::new(Google::open(self, endpoint.as_deref(), client)?)
            }
        })
    }
}

/// An address without user, password and query.
fn without_user(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else { return "…".into() };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.as_str().trim_end_matches('/').to_owned()
}
