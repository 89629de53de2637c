//! A reference of a registry (interop reference, 1.2).

use oci::{Descriptor, Digest, Manifest, Reference};
use store::Place as BlobPlace;
use transfer::Target;

use super::{Documents, Stored};
use crate::Error;
use crate::import::{self, CONFIG_LIMIT, INLINE_IMAGES, Shape, parse};

/// A reference of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryPlace {
    /// Which.
    pub reference: Reference,
    /// Whether plain HTTP or a certificate that nobody vouches for is accepted.
    pub insecure: bool,
}

impl RegistryPlace {
    /// Where its layers go.
    pub(super) fn target(&self) -> Target {
        Target { repository: self.reference.repository().clone(), insecure: self.insecure }
    }

    pub(super) async fn read(&self, client: &registry::Client) -> Result<Stored, Error> {
        let repository = self.reference.repository();
        let client = client.for_host(repository.host(), self.insecure);
        let (descriptor, bytes) = client.manifest(&self.reference).await?;
        let place = BlobPlace::Registry { repository: repository.clone(), insecure: self.insecure };
        let blob = async |descriptor: &Descriptor| {
            client.blob_bytes(repository, descriptor, CONFIG_LIMIT).await.map_err(Error::from)
        };
        let manifest = async |descriptor: &Descriptor| {
            let pinned = Reference::new(repository.clone(), None, Some(descriptor.digest));
            client.manifest(&pinned).await.map(|(_, bytes)| bytes.to_vec()).map_err(Error::from)
        };
        let contents = match import::shape(&bytes)? {
            Shape::Cache { config, layers } => {
                import::cache(&blob(&config).await?, &layers, &place)?
            }
            Shape::Image(image) => {
                let config = blob(&image.config).await?.to_vec();
                import::inline(&[(*image, config)], &place, descriptor.digest)?
            }
            Shape::Images(children) => {
                let mut images = Vec::new();
                for child in children.iter().take(INLINE_IMAGES) {
                    let image: Manifest = parse(&manifest(child).await?, "manifest")?;
                    let config = blob(&image.config).await?.to_vec();
                    images.push((image, config));
                }
                import::inline(&images, &place, descriptor.digest)?
            }
        };
        Ok(Stored { contents, digest: descriptor.digest, bytes: bytes.to_vec() })
    }

    pub(super) async fn put(
        &self,
        client: &registry::Client,
        documents: &Documents,
    ) -> Result<(), Error> {
        self.put_config(client, documents).await?;
        let client = client.for_host(self.reference.repository().host(), self.insecure);
        if let Some((descriptor, bytes)) = &documents.manifest {
            let manifest = bytes.clone().into();
            client.put_manifest(&self.reference, &descriptor.media_type, manifest).await?;
        }
        Ok(())
    }

    /// Sends the config, unless it was sent before.
    pub(super) async fn put_config(
        &self,
        client: &registry::Client,
        documents: &Documents,
    ) -> Result<(), Error> {
        let repository = self.reference.repository();
        let client = client.for_host(repository.host(), self.insecure);
        let config = documents.config_descriptor();
        Ok(client.push_bytes(repository, &config, documents.config.clone().into()).await?)
    }

    /// What the reference names now.
    pub(super) async fn digest(&self, client: &registry::Client) -> Result<Digest, Error> {
        let client = client.for_host(self.reference.repository().host(), self.insecure);
        Ok(client.resolve(&self.reference).await?.digest)
    }
}
