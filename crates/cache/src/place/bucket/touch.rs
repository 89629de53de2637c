//! Making an object of S3 new: a copy onto itself with other metadata, as BuildKit does it. The
//! library of object stores has no word for that, but it signs.

use std::time::SystemTime;

use object_store::ObjectMeta;
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService};
use object_store::path::Path;
use object_store::signer::Signer;
use transfer::RemoteError;

use super::super::wire::Wire;
use super::BucketSettings;

/// S3 copies no more at once; what is larger stays as old as it is.
const LARGEST: u64 = 5 << 30;

pub(super) struct Touch<'a> {
    pub s3: &'a AmazonS3,
    pub region: &'a str,
    pub settings: &'a BucketSettings,
    pub meta: &'a ObjectMeta,
}

impl Touch<'_> {
    pub async fn send(&self, client: &registry::Client, path: &Path) -> Result<(), RemoteError> {
        if self.meta.size >= LARGEST {
            return Ok(());
        }
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = reqwest::Method::PUT;
        *request.uri_mut() = self.address(path).await?.parse()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        for (name, value) in [
            ("x-amz-copy-source", format!("{}/{path}", self.settings.bucket)),
            ("x-amz-metadata-directive", "REPLACE".into()),
            ("x-amz-meta-updated-at", now.to_string()),
        ] {
            request.headers_mut().insert(name, value.parse()?);
        }
        let hide = |text: String| self.settings.credentials.hide(&text);
        let credential = self.s3.credentials().get_credential().await;
        let credential = credential.map_err(|error| hide(graph::chain_text(&error)))?;
        AwsAuthorizer::new(&credential, "s3", self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| hide(graph::chain_text(&error)))?;
        let answer = Wire(client.clone()).call(request).await;
        let answer = answer.map_err(|error| hide(graph::chain_text(&error)))?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(format!("touch `{path}`: the server answered {}", answer.status()).into()),
        }
    }

    /// The URL of an object, from one that the library signed for something else.
    async fn address(&self, path: &Path) -> Result<String, RemoteError> {
        let minute = std::time::Duration::from_secs(60);
        let url = self.s3.signed_url(reqwest::Method::PUT, path, minute).await;
        let mut url =
            url.map_err(|error| self.settings.credentials.hide(&graph::chain_text(&error)))?;
        url.set_query(None);
        Ok(url.into())
    }
}
