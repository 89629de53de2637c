//! Azure Blob Storage. The bucket is a container, which is created if it is missing.

use async_trait::async_trait;
use object_store::ObjectStore;
use object_store::azure::{AzureAuthorizer, AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService};
use registry::Client;
use reqwest::{Method, StatusCode};
use tokio::sync::OnceCell;
use transfer::RemoteError;

use super::super::wire::Wire;
use super::{BucketSettings, ObjectError, ObjectService};
use crate::error::SettingsFault;

pub(super) struct Azure {
    store: MicrosoftAzure,
    account_url: String,
    account: String,
    settings: BucketSettings,
    client: Client,
    /// Set once the container exists.
    container: OnceCell<()>,
}

impl Azure {
    pub fn open(
        settings: &BucketSettings,
        account_url: &str,
        account: &str,
        client: &Client,
    ) -> Result<Self, SettingsFault> {
        let account_url = account_url.trim_end_matches('/').to_owned();
        let mut builder = MicrosoftAzureBuilder::new()
            .with_account(account)
            .with_endpoint(account_url.clone())
            .with_allow_http(account_url.starts_with("http://"))
            .with_container_name(&settings.bucket)
            .with_retry(settings.retry())
            .with_http_connector(Wire(client.clone()));
        for (name, value) in settings.credentials.iter() {
            if let Ok(key) = name.to_lowercase().parse::<AzureConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        Ok(Self {
            store: builder.build().map_err(|error| settings.refused(&error))?,
            account_url,
            account: account.to_owned(),
            settings: settings.clone(),
            client: client.clone(),
            container: OnceCell::new(),
        })
    }

    /// Creates the container if the server says that there is none. Any other answer is ignored: the
    /// right to write objects does not imply the right to ask for the container.
    async fn create_container(&self) -> Result<(), RemoteError> {
        if self.request_container(Method::GET).await? != StatusCode::NOT_FOUND {
            return Ok(());
        }
        let status = self.request_container(Method::PUT).await?;
        // A conflict means that another build has created it.
        if status.is_success() || status == StatusCode::CONFLICT {
            return Ok(());
        }
        let container = self.settings.bucket.clone();
        Err(ObjectError::NoContainer { container, status }.into())
    }

    /// Sends a request for the container. The library has none, but it signs.
    async fn request_container(&self, method: Method) -> Result<StatusCode, RemoteError> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        let url = format!("{}/{}", self.account_url, self.settings.bucket);
        *request.uri_mut() = format!("{url}?restype=container").parse()?;
        let redact = |error: &(dyn std::error::Error + 'static)| {
            ObjectError::Store(self.settings.credentials.redact(error))
        };
        let credential = self.store.credentials().get_credential().await;
        let credential = credential.map_err(|error| redact(&error))?;
        AzureAuthorizer::new(&credential, &self.account)
            .try_authorize(&mut request)
            .map_err(|error| redact(&error))?;
        let response = Wire(self.client.clone()).call(request).await;
        Ok(response.map_err(|error| redact(&error))?.status())
    }
}

#[async_trait]
impl ObjectService for Azure {
    fn store(&self) -> &dyn ObjectStore {
        &self.store
    }

    fn export_name(&self) -> &'static str {
        "exporting cache to Azure Blob Storage"
    }

    /// All names, like BuildKit.
    fn read_names<'a>(&self, names: &'a [String]) -> &'a [String] {
        names
    }

    async fn ensure_bucket(&self) -> Result<(), RemoteError> {
        self.container.get_or_try_init(|| self.create_container()).await?;
        Ok(())
    }
}
