//! What object store a cache is in, and how it is spoken to: BuildKit's options (reference, 2.2).

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};
use oci::Digest;
use registry::Client;

use super::super::secret::Credentials;
use super::super::wire::Wire;

/// Which service, and what only it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3, or what speaks its language.
    S3 {
        /// The region that requests are signed for.
        region: String,
        /// Where it is, if not at Amazon.
        endpoint: Option<String>,
        /// Whether the bucket is in the path of a URL, not in its host. Counts with an endpoint.
        path_style: bool,
    },
    /// Azure Blob Storage; the bucket is its container.
    Azure {
        /// The account's address, as `https://account.blob.core.windows.net`.
        account_url: String,
        /// The account's name.
        account: String,
    },
    /// Google Cloud Storage.
    Google {
        /// Where it is, if not at Google.
        endpoint: Option<String>,
    },
}

/// A cache in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketSettings {
    /// Which service.
    pub service: Service,
    /// The bucket, or Azure's container.
    pub bucket: String,
    /// Before all names. As BuildKit: S3 puts names together as they are, Azure as paths.
    pub prefix: String,
    /// Before the names of layers.
    pub blobs_prefix: String,
    /// Before the names of caches.
    pub manifests_prefix: String,
    /// Names of the cache: all are written, the first is read.
    pub names: Vec<String>,
    /// A layer that nobody wrote for so long is touched when a cache names it, so that rules of
    /// the bucket that remove what is old leave it.
    pub touch_refresh: Duration,
    /// How many layers go at the same time.
    pub parallelism: usize,
    /// How often a request is sent at most.
    pub attempts: usize,
    /// Keys, tokens and where to get them, by the names of the services' environment variables.
    pub credentials: Credentials,
}

impl BucketSettings {
    /// How it is called, without anything secret.
    pub fn name(&self) -> String {
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

    pub(super) fn blob(&self, digest: Digest) -> Result<Path, String> {
        self.path(&self.blobs_prefix, &digest.to_string())
    }

    pub(super) fn manifest(&self, name: &str) -> Result<Path, String> {
        self.path(&self.manifests_prefix, name)
    }

    fn path(&self, prefix: &str, name: &str) -> Result<Path, String> {
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
        // What BuildKit would look for has to be what is written.
        let path = Path::parse(&joined).ok().filter(|path| path.as_ref() == joined);
        path.ok_or_else(|| {
            format!("the object name `{joined}` begins with `/`, has an empty part, or a character that object stores advise against")
        })
    }

    /// A client of the object store.
    pub(super) fn open(&self, client: &Client) -> Result<Opened, String> {
        self.blob(Digest::of(""))?;
        for name in &self.names {
            self.manifest(name)?;
        }
        let retry = RetryConfig {
            max_retries: self.attempts.saturating_sub(1),
            retry_timeout: Duration::from_secs(120),
            ..RetryConfig::default()
        };
        let wire = Wire(client.clone());
        let failed = |error: object_store::Error| self.credentials.hide(&error.to_string());
        match &self.service {
            Service::S3 { region, endpoint, path_style } => {
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(&self.bucket)
                    .with_region(region)
                    .with_retry(retry)
                    .with_http_connector(wire);
                for (name, value) in self.credentials.iter() {
                    if let Ok(key) = name.to_lowercase().parse::<AmazonS3ConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                let is_virtual = match endpoint {
                    Some(_) => !path_style,
                    // A certificate for `*.s3…` does not serve a bucket with a dot.
                    None => !self.bucket.contains('.'),
                };
                if let Some(endpoint) = endpoint {
                    let address = match is_virtual {
                        true => with_bucket(endpoint, &self.bucket)?,
                        false => endpoint.trim_end_matches('/').to_owned(),
                    };
                    builder = builder
                        .with_allow_http(endpoint.starts_with("http://"))
                        .with_endpoint(address);
                }
                let builder = builder.with_virtual_hosted_style_request(is_virtual);
                let store = Arc::new(builder.build().map_err(failed)?);
                Ok(Opened { store: store.clone(), s3: Some(store), azure: None })
            }
            Service::Azure { account_url, account } => {
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_account(account)
                    .with_endpoint(account_url.trim_end_matches('/').to_owned())
                    .with_allow_http(account_url.starts_with("http://"))
                    .with_container_name(&self.bucket)
                    .with_retry(retry)
                    .with_http_connector(wire);
                for (name, value) in self.credentials.iter() {
                    if let Ok(key) = name.to_lowercase().parse::<AzureConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                let store = Arc::new(builder.build().map_err(failed)?);
                Ok(Opened { store: store.clone(), s3: None, azure: Some(store) })
            }
            Service::Google { endpoint } => {
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_bucket_name(&self.bucket)
                    .with_retry(retry)
                    .with_http_connector(wire);
                for (name, value) in self.credentials.iter() {
                    if let Ok(key) = name.to_lowercase().parse::<GoogleConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                if let Some(endpoint) = endpoint {
                    builder = builder.with_base_url(endpoint.trim_end_matches('/'));
                }
                let store = builder.build().map_err(failed)?;
                Ok(Opened { store: Arc::new(store), s3: None, azure: None })
            }
        }
    }
}

/// A client of an object store; apart, where it is of S3 or Azure, for what the library has no word
/// for.
pub(super) struct Opened {
    pub store: Arc<dyn ObjectStore>,
    pub s3: Option<Arc<object_store::aws::AmazonS3>>,
    pub azure: Option<Arc<object_store::azure::MicrosoftAzure>>,
}

fn with_bucket(endpoint: &str, bucket: &str) -> Result<String, String> {
    let mut url = reqwest::Url::parse(endpoint).map_err(|error| format!("its address: {error}"))?;
    let host = url.host_str().ok_or("its address has no host")?;
    if host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() {
        return Err("an address without a name needs `use_path_style=true`".into());
    }
    let host = format!("{bucket}.{host}");
    url.set_host(Some(&host)).map_err(|error| format!("its address: {error}"))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// An address without a name and a password in it, and without a query.
fn without_user(address: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(address) else { return "…".into() };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.as_str().trim_end_matches('/').to_owned()
}
