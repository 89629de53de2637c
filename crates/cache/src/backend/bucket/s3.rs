//! Amazon S3, or a server that speaks its protocol.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ObjectMeta, ObjectStore};
use registry::Client;
use reqwest::{Method, Url};
use transfer::RemoteError;

use super::super::wire::Wire;
use super::{BucketSettings, ObjectError, ObjectService};
use crate::error::SettingsFault;

/// S3 copies no larger object in one request. Such objects are not touched.
const LARGEST_COPY: u64 = 5 << 30;

/// Settings of S3 alone.
pub(super) struct S3Settings<'a> {
    pub region: &'a str,
    pub endpoint: Option<&'a str>,
    pub path_style: bool,
}

pub(super) struct S3 {
    store: AmazonS3,
    region: String,
    settings: BucketSettings,
    client: Client,
}

impl S3 {
    pub fn open(
        settings: &BucketSettings,
        own: &S3Settings<'_>,
        client: &Client,
    ) -> Result<Self, SettingsFault> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(own.region)
            .with_retry(settings.retry())
            .with_http_connector(Wire(client.clone()));
        for (name, value) in settings.credentials.iter() {
            if let Ok(key) = name.to_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let is_virtual = match own.endpoint {
            Some(_) => !own.path_style,
            // A certificate for `*.s3…` does not cover a bucket with a dot.
            None => !settings.bucket.contains('.'),
        };
        if let Some(endpoint) = own.endpoint {
            let address = if is_virtual {
                with_bucket(endpoint, &settings.bucket)?
            } else {
                endpoint.trim_end_matches('/').to_owned()
            };
            builder =
                builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(address);
        }
        let builder = builder.with_virtual_hosted_style_request(is_virtual);
        Ok(Self {
            store: builder.build().map_err(|error| settings.refused(&error))?,
            region: own.region.to_owned(),
            settings: settings.clone(),
            client: client.clone(),
        })
    }

    fn redact(&self, error: &(dyn std::error::Error + 'static)) -> ObjectError {
        ObjectError::Store(self.settings.credentials.redact(error))
    }

    /// The URL of an object. The library makes one only for a signed request.
    async fn address(&self, path: &Path) -> Result<String, RemoteError> {
        let signed = self.store.signed_url(Method::PUT, path, Duration::from_secs(60)).await;
        let mut url = signed.map_err(|error| self.redact(&error))?;
        url.set_query(None);
        Ok(url.into())
    }
}

#[async_trait]
impl ObjectService for S3 {
    fn store(&self) -> &dyn ObjectStore {
        &self.store
    }

    fn export_name(&self) -> &'static str {
        "exporting cache to Amazon S3"
    }

    /// Copies the object onto itself with other metadata, like BuildKit. The library cannot set
    /// metadata in a copy, but it signs.
    async fn touch(&self, path: &Path, meta: &ObjectMeta) -> Result<(), RemoteError> {
        if meta.size >= LARGEST_COPY {
            return Ok(());
        }
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = self.address(path).await?.parse()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        for (name, value) in [
            ("x-amz-copy-source", format!("{}/{path}", self.settings.bucket)),
            ("x-amz-metadata-directive", "REPLACE".into()),
            ("x-amz-meta-updated-at", now.to_string()),
        ] {
            request.headers_mut().insert(name, value.parse()?);
        }
        let credential = self.store.credentials().get_credential().await;
        let credential = credential.map_err(|error| self.redact(&error))?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| self.redact(&error))?;
        let response = Wire(self.client.clone()).call(request).await;
        let status = response.map_err(|error| self.redact(&error))?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(ObjectError::Touch { path: path.clone(), status }.into())
        }
    }
}

/// The address of a bucket whose name is a part of the host.
fn with_bucket(endpoint: &str, bucket: &str) -> Result<String, SettingsFault> {
    let mut url = Url::parse(endpoint).map_err(|_| SettingsFault::Address)?;
    let host = url.host_str().ok_or(SettingsFault::NoHost)?;
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(SettingsFault::NeedsPathStyle);
    }
    let host = format!("{bucket}.{host}");
    url.set_host(Some(&host)).map_err(|_| SettingsFault::Address)?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
