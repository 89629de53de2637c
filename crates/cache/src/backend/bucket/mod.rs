//! Object stores: S3, Azure Blob Storage, Google Cloud Storage. A layer is an object named by its
//! digest; the config is an object in which each layer is described (BuildKit
//! `cache/remotecache/{s3,azblob}`). What is particular to a service is in its file.

mod azblob;
mod gcs;
mod s3;
mod settings;

use std::fmt;
use std::ops::Range;
use std::path::Path as File;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, try_join_all};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use oci::Descriptor;
use registry::{Client, Stats};
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use transfer::{Remote, RemoteError, RemoteStream};

pub use settings::{BucketSettings, Service};

use super::config_service::{ConfigBackend, ConfigService};
use super::wire::watched;
use super::{Backend, OpenBackend};
use crate::Error;
use crate::error::SettingsFault;
use crate::format::DOCUMENT_LIMIT;

/// The largest object that is sent at once, in bytes; larger layers are sent in parts.
const PART: u64 = 16 << 20;
/// S3 takes 10,000 parts.
const MAX_PARTS: u64 = 9000;
/// Parts of a layer that are sent at the same time.
const PARTS_AT_ONCE: usize = 4;

/// An object store, with the requests for which the library of object stores has no method.
#[async_trait]
trait ObjectService: Send + Sync {
    fn store(&self) -> &dyn ObjectStore;

    /// See [`Backend::export_name`].
    fn export_name(&self) -> &'static str;

    /// The names of the cache that are read. All are written.
    fn read_names<'a>(&self, names: &'a [String]) -> &'a [String] {
        &names[..names.len().min(1)]
    }

    /// Gives an object a new modification time, if the service can.
    async fn touch(&self, _path: &Path, _meta: &ObjectMeta) -> Result<(), RemoteError> {
        Ok(())
    }

    /// Creates the bucket if it is missing, where BuildKit does.
    async fn ensure_bucket(&self) -> Result<(), RemoteError> {
        Ok(())
    }
}

/// A failed request to an object store.
#[derive(Debug, thiserror::Error)]
enum ObjectError {
    /// The library's error, without secrets.
    #[error("{0}")]
    Store(String),
    #[error("`{path}` has {found} bytes, not {expected}")]
    OtherSize { path: Path, found: u64, expected: u64 },
    #[error("there is no container `{container}`, and creating it was answered {status}")]
    NoContainer { container: String, status: StatusCode },
    #[error("touch `{path}`: the server answered {status}")]
    Touch { path: Path, status: StatusCode },
}

impl OpenBackend for BucketSettings {
    fn name(&self) -> String {
        self.display_name()
    }

    fn identity(&self) -> String {
        format!("{} ({})", self.display_name(), self.names.join(", "))
    }

    fn open(&self, client: &Client) -> Result<Arc<dyn Backend>, Error> {
        let bucket = Bucket::open(self, client)?;
        Ok(Arc::new(ConfigBackend::new(bucket)))
    }
}

/// Writes an object of an object store into a file.
///
/// # Errors
/// If there is no such object, or the file cannot be written.
pub async fn fetch_object(
    settings: &BucketSettings,
    key: &str,
    file: &mut tokio::fs::File,
    client: &Client,
) -> Result<(), Error> {
    Bucket::open(settings, client)?.fetch(key, file).await
}

struct Bucket {
    settings: BucketSettings,
    name: String,
    client: Client,
    service: Box<dyn ObjectService>,
    /// Bounds the layers that are sent at the same time.
    uploads: Semaphore,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.settings).finish()
    }
}

impl Bucket {
    fn open(settings: &BucketSettings, client: &Client) -> Result<Self, Error> {
        let name = settings.display_name();
        let service = settings
            .open_service(client)
            .map_err(|fault| Error::Settings { backend: name.clone(), fault })?;
        Ok(Self {
            name,
            client: client.clone(),
            service,
            uploads: Semaphore::new(settings.parallelism.max(1)),
            settings: settings.clone(),
        })
    }

    fn store(&self) -> &dyn ObjectStore {
        self.service.store()
    }

    async fn fetch(&self, key: &str, file: &mut tokio::fs::File) -> Result<(), Error> {
        let path = Path::parse(key)
            .map_err(|error| self.settings_error(SettingsFault::Refused(error.to_string())))?;
        let failed = |error| self.failed("read", &path, &error);
        let unwritten = |error: std::io::Error| Error::Backend {
            backend: self.name.clone(),
            what: format!("write `{path}` into a file: {error}"),
        };
        let mut stream = self.store().get(&path).await.map_err(failed)?.into_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(failed)?;
            self.count_down(chunk.len());
            file.write_all(&chunk).await.map_err(unwritten)?;
        }
        file.flush().await.map_err(unwritten)
    }

    fn settings_error(&self, fault: SettingsFault) -> Error {
        Error::Settings { backend: self.name.clone(), fault }
    }

    fn config_path(&self, name: &str) -> Result<Path, Error> {
        self.settings.config_path(name).map_err(|fault| self.settings_error(fault))
    }

    fn failed(&self, action: &str, path: &Path, error: &object_store::Error) -> Error {
        let text = self.settings.credentials.redact(error);
        Error::Backend { backend: self.name.clone(), what: format!("{action} `{path}`: {text}") }
    }

    /// The error without secrets.
    fn store_error(&self, error: &object_store::Error) -> ObjectError {
        ObjectError::Store(self.settings.credentials.redact(error))
    }

    fn count_down(&self, bytes: usize) {
        self.client.count(Stats { bytes_down: bytes as u64, ..Stats::default() });
    }

    /// A config of the cache, if it exists.
    async fn config(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let path = self.config_path(name)?;
        let failed = |error| self.failed("read", &path, &error);
        let found = match self.store().get(&path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if found.meta.size > DOCUMENT_LIMIT {
            return Err(Error::Damaged(format!(
                "`{path}` is larger than {} MiB",
                DOCUMENT_LIMIT >> 20
            )));
        }
        let bytes = found.bytes().await.map_err(failed)?;
        self.count_down(bytes.len());
        Ok(Some(bytes))
    }

    async fn find(&self, path: &Path) -> Result<Option<ObjectMeta>, ObjectError> {
        match self.store().head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.store_error(&error)),
        }
    }

    fn is_old(&self, meta: &ObjectMeta) -> bool {
        let age = SystemTime::now().duration_since(meta.last_modified.into());
        age.is_ok_and(|age| age > self.settings.touch_refresh)
    }

    async fn put_small(&self, path: &Path, file: &File) -> Result<(), RemoteError> {
        let bytes = tokio::fs::read(file).await?;
        let put = self.store().put(path, PutPayload::from(bytes)).await;
        put.map_err(|error| self.store_error(&error))?;
        Ok(())
    }

    async fn put_parts(&self, path: &Path, file: &File, size: u64) -> Result<(), RemoteError> {
        let part = PART.max(size.div_ceil(MAX_PARTS));
        let part = usize::try_from(part)?;
        let store_error = |error| self.store_error(&error);
        let mut file = tokio::fs::File::open(file).await?;
        let upload = self.store().put_multipart(path).await.map_err(store_error)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
        let sent: Result<(), RemoteError> = async {
            loop {
                upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(store_error)?;
                let mut bytes = bytes::BytesMut::with_capacity(1 << 20);
                if file.read_buf(&mut bytes).await? == 0 {
                    return Ok(());
                }
                upload.put(bytes.freeze());
            }
        }
        .await;
        if let Err(error) = sent {
            // Parts of an unfinished upload cost money. The first error is the one to report.
            let _ = upload.abort().await;
            return Err(error);
        }
        upload.finish().await.map_err(store_error)?;
        Ok(())
    }
}

#[async_trait]
impl ConfigService for Bucket {
    fn identity(&self) -> String {
        OpenBackend::identity(&self.settings)
    }

    fn export_name(&self) -> &'static str {
        self.service.export_name()
    }

    async fn configs(&self) -> Result<Vec<Bytes>, Error> {
        let names = self.service.read_names(&self.settings.names).iter();
        let configs = try_join_all(names.map(|name| self.config(name))).await?;
        Ok(configs.into_iter().flatten().collect())
    }

    async fn put_config(&self, config: Bytes) -> Result<(), Error> {
        let ready = self.service.ensure_bucket().await;
        ready.map_err(|error| Error::Backend {
            backend: self.name.clone(),
            what: error.to_string(),
        })?;
        for name in &self.settings.names {
            let path = self.config_path(name)?;
            let put = self.store().put(&path, PutPayload::from_bytes(config.clone())).await;
            put.map_err(|error| self.failed("write", &path, &error))?;
        }
        Ok(())
    }
}

impl Remote for Bucket {
    fn name(&self) -> &str {
        &self.name
    }

    fn open<'a>(
        &'a self,
        blob: &'a Descriptor,
    ) -> BoxFuture<'a, Result<RemoteStream, RemoteError>> {
        Box::pin(async {
            let path = self.settings.blob_path(blob.digest)?;
            let found = self.store().get(&path).await.map_err(|error| self.store_error(&error))?;
            let (found_size, expected) = (found.meta.size, blob.size);
            if found_size != expected {
                return Err(ObjectError::OtherSize { path, found: found_size, expected }.into());
            }
            let credentials = self.settings.credentials.clone();
            let stream = found
                .into_stream()
                .map(move |chunk| chunk.map_err(|error| credentials.redact(&error)));
            Ok(Box::pin(watched(self.client.clone(), stream)) as RemoteStream)
        })
    }

    fn part<'a>(
        &'a self,
        blob: &'a Descriptor,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, RemoteError>> {
        Box::pin(async {
            let path = self.settings.blob_path(blob.digest)?;
            let part = self.store().get_range(&path, range).await;
            let part = part.map_err(|error| self.store_error(&error))?;
            self.count_down(part.len());
            Ok(part)
        })
    }

    fn has<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<bool, RemoteError>> {
        Box::pin(async {
            let path = self.settings.blob_path(blob.digest)?;
            let Some(meta) = self.find(&path).await? else { return Ok(false) };
            // A truncated object is to be written again.
            if meta.size != blob.size {
                return Ok(false);
            }
            if self.is_old(&meta) {
                self.service.touch(&path, &meta).await?;
            }
            Ok(true)
        })
    }

    fn put<'a>(
        &'a self,
        blob: &'a Descriptor,
        file: &'a File,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            let _upload = self.uploads.acquire().await?;
            let path = self.settings.blob_path(blob.digest)?;
            self.service.ensure_bucket().await?;
            if blob.size <= PART {
                self.put_small(&path, file).await
            } else {
                self.put_parts(&path, file, blob.size).await
            }
        })
    }
}
