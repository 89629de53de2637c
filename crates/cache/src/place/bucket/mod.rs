//! An object store: S3, Azure, Google. One object for each layer, by its digest, and one for the
//! config, in which each layer says what it is (BuildKit `cache/remotecache/{s3,azblob}`).

mod container;
mod settings;
mod touch;

use std::ops::Range;
use std::path::Path as File;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, try_join_all};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use oci::{Descriptor, Digest};
use store::Place as BlobPlace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OnceCell, Semaphore};
use transfer::{Remote, RemoteError, RemoteStream};

pub use settings::{BucketSettings, Service};

use super::contents::{annotated_config, contents_of};
use super::wire::watched;
use super::{Contents, Documents, Stored};
use crate::Error;
use crate::import::{CONFIG_LIMIT, parse};

/// What is sent at once; larger layers go in parts.
const PART: u64 = 16 << 20;
/// S3 takes 10,000 parts.
const MOST_PARTS: u64 = 9000;
/// How many parts of a layer go at the same time.
const PARTS_AT_ONCE: usize = 4;

/// A cache in an object store. Cheap to clone.
#[derive(Clone)]
pub struct BucketPlace(Arc<Bucket>);

struct Bucket {
    settings: BucketSettings,
    name: String,
    client: registry::Client,
    store: Arc<dyn ObjectStore>,
    s3: Option<Arc<object_store::aws::AmazonS3>>,
    azure: Option<Arc<object_store::azure::MicrosoftAzure>>,
    /// Whether the container is there to be written to; unset until asked.
    container: OnceCell<()>,
    /// How many layers go at the same time.
    lanes: Semaphore,
}

impl std::fmt::Debug for BucketPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BucketPlace").field(&self.0.settings).finish()
    }
}

impl BucketPlace {
    /// A cache in an object store. Nothing is asked yet.
    ///
    /// # Errors
    /// If the settings contradict themselves.
    pub fn new(settings: BucketSettings, client: &registry::Client) -> Result<Self, Error> {
        let name = settings.name();
        let opened =
            settings.open(client).map_err(|what| Error::Settings { place: name.clone(), what })?;
        Ok(Self(Arc::new(Bucket {
            name,
            client: client.clone(),
            store: opened.store,
            s3: opened.s3,
            azure: opened.azure,
            container: OnceCell::new(),
            lanes: Semaphore::new(settings.parallelism.max(1)),
            settings,
        })))
    }

    /// How people call it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn export_name(&self) -> &'static str {
        match self.0.settings.service {
            Service::S3 { .. } => "exporting cache to Amazon S3",
            Service::Azure { .. } => "exporting cache to Azure Blob Storage",
            Service::Google { .. } => "exporting cache to Google Cloud Storage",
        }
    }

    /// Fetches an object into a file.
    ///
    /// # Errors
    /// If it is not there, or cannot be written.
    pub async fn fetch(&self, key: &str, file: &mut tokio::fs::File) -> Result<(), Error> {
        let path = Path::parse(key).map_err(|error| Error::Settings {
            place: self.0.name.clone(),
            what: error.to_string(),
        })?;
        let failed = |error| self.0.failed(format!("read `{path}`"), &error);
        let mut stream = self.0.store.get(&path).await.map_err(failed)?.into_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(failed)?;
            let stats = registry::Stats { bytes_down: chunk.len() as u64, ..Default::default() };
            self.0.client.count(stats);
            file.write_all(&chunk).await.map_err(|error| self.0.unwritten(&error))?;
        }
        file.flush().await.map_err(|error| self.0.unwritten(&error))
    }

    /// Where its layers are.
    pub fn remote(&self) -> Arc<dyn Remote> {
        self.0.clone()
    }

    pub(super) async fn read(&self) -> Result<Stored, Error> {
        // BuildKit reads the first name, and of Azure all.
        let count = match self.0.settings.service {
            Service::Azure { .. } => self.0.settings.names.len(),
            Service::S3 { .. } | Service::Google { .. } => 1,
        };
        let names = self.0.settings.names.iter().take(count);
        let documents = try_join_all(names.map(|name| self.0.document(name))).await?;
        let documents: Vec<Bytes> = documents.into_iter().flatten().collect();
        let Some(first) = documents.first() else {
            return Err(Error::Absent { place: self.0.name.clone() });
        };
        let place = BlobPlace::Remote(self.0.name.as_str().into());
        let mut contents = Contents::default();
        for document in &documents {
            contents.append(contents_of(parse(document, "config")?, &place));
        }
        Ok(Stored { contents, digest: Digest::of(first), bytes: first.to_vec() })
    }

    pub(super) fn documents(&self, contents: &Contents) -> Result<Documents, Error> {
        Ok(Documents::config(annotated_config(contents)?))
    }

    pub(super) async fn put(&self, documents: &Documents) -> Result<(), Error> {
        let bytes = Bytes::from(documents.config.clone());
        let ready = self.0.make_container().await;
        ready.map_err(|error| Error::Place {
            place: self.0.name.clone(),
            what: error.to_string(),
        })?;
        for name in &self.0.settings.names {
            let path = self.0.manifest(name)?;
            let put = self.0.store.put(&path, PutPayload::from_bytes(bytes.clone())).await;
            put.map_err(|error| self.0.failed(format!("write `{path}`"), &error))?;
        }
        Ok(())
    }
}

impl Bucket {
    fn manifest(&self, name: &str) -> Result<Path, Error> {
        let path = self.settings.manifest(name);
        path.map_err(|what| Error::Settings { place: self.name.clone(), what })
    }

    fn unwritten(&self, error: &std::io::Error) -> Error {
        Error::Place { place: self.name.clone(), what: format!("write what came: {error}") }
    }

    fn failed(&self, what: String, error: &object_store::Error) -> Error {
        let text = self.settings.credentials.hide(&graph::chain_text(error));
        Error::Place { place: self.name.clone(), what: format!("{what}: {text}") }
    }

    /// A cache's config, if it is there.
    async fn document(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let path = self.manifest(name)?;
        let failed = |error| self.failed(format!("read `{path}`"), &error);
        let found = match self.store.get(&path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if found.meta.size > CONFIG_LIMIT {
            return Err(Error::Damaged(format!(
                "`{path}` is larger than {} MiB",
                CONFIG_LIMIT >> 20
            )));
        }
        let bytes = found.bytes().await.map_err(failed)?;
        let stats = registry::Stats { bytes_down: bytes.len() as u64, ..Default::default() };
        self.client.count(stats);
        Ok(Some(bytes))
    }

    fn told(&self, error: &object_store::Error) -> RemoteError {
        self.settings.credentials.hide(&graph::chain_text(error)).into()
    }

    fn blob(&self, blob: &Descriptor) -> Result<Path, RemoteError> {
        Ok(self.settings.blob(blob.digest)?)
    }

    async fn find(&self, path: &Path) -> Result<Option<ObjectMeta>, RemoteError> {
        match self.store.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.told(&error)),
        }
    }

    fn is_old(&self, meta: &ObjectMeta) -> bool {
        let age = SystemTime::now().duration_since(meta.last_modified.into());
        age.is_ok_and(|age| age > self.settings.touch_refresh)
    }

    async fn touch(&self, path: &Path, meta: &ObjectMeta) -> Result<(), RemoteError> {
        match (&self.s3, &self.settings.service) {
            (Some(s3), Service::S3 { region, .. }) => {
                let touch = touch::Touch { s3, region, settings: &self.settings, meta };
                touch.send(&self.client, path).await
            }
            // To Google a copy onto itself is a new object; BuildKit does not touch on Azure.
            (_, Service::Google { .. }) => {
                self.store.copy(path, path).await.map_err(|error| self.told(&error))
            }
            _ => Ok(()),
        }
    }

    async fn make_container(&self) -> Result<(), RemoteError> {
        let Some(azure) = &self.azure else { return Ok(()) };
        let (settings, client) = (&self.settings, &self.client);
        let container = container::Container { azure, settings, client };
        self.container.get_or_try_init(|| container.ensure()).await.map(drop)
    }

    async fn put_small(&self, path: &Path, file: &File) -> Result<(), RemoteError> {
        let bytes = tokio::fs::read(file).await?;
        let put = self.store.put(path, PutPayload::from(bytes)).await;
        put.map(drop).map_err(|error| self.told(&error))
    }

    async fn put_parts(&self, path: &Path, file: &File, size: u64) -> Result<(), RemoteError> {
        let part = PART.max(size.div_ceil(MOST_PARTS));
        let part = usize::try_from(part)?;
        let told = |error| self.told(&error);
        let mut file = tokio::fs::File::open(file).await?;
        let upload = self.store.put_multipart(path).await.map_err(told)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
        let sent: Result<(), RemoteError> = async {
            loop {
                upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(told)?;
                let mut bytes = bytes::BytesMut::with_capacity(1 << 20);
                if file.read_buf(&mut bytes).await? == 0 {
                    return Ok(());
                }
                upload.put(bytes.freeze());
            }
        }
        .await;
        if let Err(error) = sent {
            // Parts that nobody puts together cost money. What the server says now, nobody needs.
            let _ = upload.abort().await;
            return Err(error);
        }
        upload.finish().await.map(drop).map_err(told)
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
            let path = self.blob(blob)?;
            let found = self.store.get(&path).await.map_err(|error| self.told(&error))?;
            if found.meta.size != blob.size {
                return Err(
                    format!("`{path}` has {} bytes, not {}", found.meta.size, blob.size).into()
                );
            }
            let hidden = self.settings.credentials.clone();
            let stream = found
                .into_stream()
                .map(move |chunk| chunk.map_err(|error| hidden.hide(&graph::chain_text(&error))));
            Ok(Box::pin(watched(self.client.clone(), stream)) as RemoteStream)
        })
    }

    fn part<'a>(
        &'a self,
        blob: &'a Descriptor,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, RemoteError>> {
        Box::pin(async {
            let path = self.blob(blob)?;
            let part = self.store.get_range(&path, range).await;
            let part = part.map_err(|error| self.told(&error))?;
            let stats = registry::Stats { bytes_down: part.len() as u64, ..Default::default() };
            self.client.count(stats);
            Ok(part)
        })
    }

    fn has<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<bool, RemoteError>> {
        Box::pin(async {
            let path = self.blob(blob)?;
            let Some(meta) = self.find(&path).await? else { return Ok(false) };
            // Who writes again what is there cut short, mends it.
            if meta.size != blob.size {
                return Ok(false);
            }
            if self.is_old(&meta) {
                self.touch(&path, &meta).await?;
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
            let _lane = self.lanes.acquire().await?;
            let path = self.blob(blob)?;
            self.make_container().await?;
            match blob.size <= PART {
                true => self.put_small(&path, file).await,
                false => self.put_parts(&path, file, blob.size).await,
            }
        })
    }
}
