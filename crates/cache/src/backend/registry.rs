//! A registry: a reference names the cache's manifest, or an image with an inline cache.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use layer::Place;
use oci::{Descriptor, Digest, Manifest, Reference};
use registry::Client;
use store::Store;
use transfer::PushTarget;

use super::{Backend, LayerUpload, OpenBackend, StoredCache};
use crate::Error;
use crate::format::inline::read_inline;
use crate::format::manifest::{ManifestKind, parse_manifest};
use crate::format::{CacheContents, CacheDocuments, DOCUMENT_LIMIT, Form, SidecarRef, parse};
use crate::sidecar::Sidecar;

/// The images of an index whose inline caches are read. No image has more platforms.
const INLINE_IMAGES: usize = 16;

/// A cache in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySettings {
    /// The reference of the cache.
    pub reference: Reference,
    /// True if plain HTTP or an untrusted certificate is accepted.
    pub insecure: bool,
}

impl OpenBackend for RegistrySettings {
    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn open(&self, client: &Client) -> Result<Arc<dyn Backend>, Error> {
        let host = client.for_host(self.reference.repository().host(), self.insecure);
        Ok(Arc::new(RegistryBackend { settings: self.clone(), client: client.clone(), host }))
    }
}

struct RegistryBackend {
    settings: RegistrySettings,
    client: Client,
    /// The client of the reference's host.
    host: Client,
}

impl fmt::Debug for RegistryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegistryBackend").field(&self.settings).finish()
    }
}

impl RegistryBackend {
    fn target(&self) -> PushTarget {
        let repository = self.settings.reference.repository().clone();
        PushTarget { repository, insecure: self.settings.insecure }
    }

    fn place(&self) -> Place {
        let PushTarget { repository, insecure } = self.target();
        Place::Registry { repository, insecure }
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let repository = self.settings.reference.repository();
        let bytes = self.host.blob_bytes(repository, descriptor, DOCUMENT_LIMIT).await?;
        Ok(bytes.to_vec())
    }

    /// An image of an index, with its config.
    async fn image(&self, descriptor: &Descriptor) -> Result<(Manifest, Vec<u8>), Error> {
        let repository = self.settings.reference.repository().clone();
        let pinned = Reference::new(repository, None, Some(descriptor.digest));
        let (_, bytes) = self.host.manifest(&pinned).await?;
        let image: Manifest = parse(&bytes, "manifest")?;
        let config = self.blob(&image.config).await?;
        Ok((image, config))
    }
}

#[async_trait]
impl Backend for RegistryBackend {
    fn name(&self) -> String {
        self.settings.name()
    }

    fn export_name(&self) -> &'static str {
        "exporting cache to registry"
    }

    fn layer_place(&self) -> Option<Place> {
        Some(self.place())
    }

    fn sidecar(&self, named: SidecarRef) -> Option<Sidecar> {
        let RegistrySettings { reference, insecure } = &self.settings;
        Sidecar::of_registry(&self.client, (reference, *insecure), named)
    }

    async fn read(&self) -> Result<StoredCache, Error> {
        let (descriptor, bytes) = self.host.manifest(&self.settings.reference).await?;
        let place = self.place();
        let contents = match parse_manifest(&bytes)? {
            ManifestKind::Cache { config, layers } => {
                CacheContents::described(&self.blob(&config).await?, &layers, &place)?
            }
            ManifestKind::Image(image) => {
                let config = self.blob(&image.config).await?;
                read_inline(&[(*image, config)], &place, descriptor.digest)?
            }
            ManifestKind::Images(children) => {
                let mut images = Vec::new();
                for child in children.iter().take(INLINE_IMAGES) {
                    images.push(self.image(child).await?);
                }
                read_inline(&images, &place, descriptor.digest)?
            }
        };
        Ok(StoredCache { contents, digest: descriptor.digest, bytes: bytes.to_vec() })
    }

    async fn digest(&self) -> Result<Digest, Error> {
        Ok(self.host.resolve(&self.settings.reference).await?.digest)
    }

    fn documents(&self, contents: &CacheContents, form: Form) -> Result<CacheDocuments, Error> {
        CacheDocuments::with_manifest(contents, form)
    }

    async fn send_layer(&self, upload: LayerUpload<'_>) -> Result<(), transfer::Error> {
        upload.to_registry(&self.target()).await
    }

    async fn missing(&self, contents: &CacheContents) -> Result<BTreeSet<Digest>, Error> {
        let blobs = contents.config.layers.iter().map(|layer| layer.blob);
        Ok(self.host.missing(self.settings.reference.repository(), blobs).await?)
    }

    /// Sends the config, unless this process has sent it before.
    async fn prepare(&self, documents: &CacheDocuments) -> Result<(), Error> {
        let repository = self.settings.reference.repository();
        let config = documents.config_descriptor();
        Ok(self.host.push_bytes(repository, &config, documents.config.clone().into()).await?)
    }

    async fn put(
        &self,
        _store: &Store,
        _contents: &CacheContents,
        documents: &CacheDocuments,
    ) -> Result<(), Error> {
        self.prepare(documents).await?;
        if let Some((descriptor, bytes)) = &documents.manifest {
            let manifest = bytes.clone().into();
            let reference = &self.settings.reference;
            self.host.put_manifest(reference, &descriptor.media_type, manifest).await?;
        }
        Ok(())
    }
}
