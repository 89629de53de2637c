//! Azure's container, made where it is missing, as BuildKit does it. The library of object stores has
//! no word for that, but it signs.

use object_store::azure::{AzureAuthorizer, MicrosoftAzure};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService};
use reqwest::{Method, StatusCode};
use transfer::RemoteError;

use super::super::wire::Wire;
use super::{BucketSettings, Service};

pub(super) struct Container<'a> {
    pub azure: &'a MicrosoftAzure,
    pub settings: &'a BucketSettings,
    pub client: &'a registry::Client,
}

impl Container<'_> {
    /// Makes it where the server says that it is not there. Whoever may not ask, may write all the
    /// same.
    pub async fn ensure(&self) -> Result<(), RemoteError> {
        if self.ask(Method::GET).await? != StatusCode::NOT_FOUND {
            return Ok(());
        }
        match self.ask(Method::PUT).await? {
            // Another build made it.
            StatusCode::CONFLICT => Ok(()),
            status if status.is_success() => Ok(()),
            status => Err(format!(
                "there is no container `{}`, and to make it the server answered {status}",
                self.settings.bucket
            )
            .into()),
        }
    }

    async fn ask(&self, method: Method) -> Result<StatusCode, RemoteError> {
        let Service::Azure { account_url, account } = &self.settings.service else {
            return Ok(StatusCode::OK);
        };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        let url = format!("{}/{}", account_url.trim_end_matches('/'), self.settings.bucket);
        *request.uri_mut() = format!("{url}?restype=container").parse()?;
        let hide = |text: String| self.settings.credentials.hide(&text);
        let credential = self.azure.credentials().get_credential().await;
        let credential = credential.map_err(|error| hide(graph::chain_text(&error)))?;
        AzureAuthorizer::new(&credential, account)
            .try_authorize(&mut request)
            .map_err(|error| hide(graph::chain_text(&error)))?;
        let answer = Wire(self.client.clone()).call(request).await;
        let answer = answer.map_err(|error| hide(graph::chain_text(&error)))?;
        Ok(answer.status())
    }
}
