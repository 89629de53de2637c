//! Indexes of images that registries have (`docker manifest`, `docker buildx imagetools`).

use oci::{
    Annotations, Descriptor, ImageConfig, Index, Manifest, Reference, Repository, media_type,
};
use store::{Compression, Place};
use transfer::{LayerFormat, Target, Transfer, Upload};

use super::{ImageError, Porter};

/// A larger config is none.
const CONFIG_LIMIT: u64 = 8 << 20;

/// An image that an index lists, and the repository that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub repository: Repository,
    /// What its manifest is, and for which platform.
    pub descriptor: Descriptor,
}

impl Porter {
    /// The manifest or index of a name, as its registry has it.
    ///
    /// # Errors
    /// If the registry does not give it.
    pub async fn look(&self, name: &Reference) -> Result<(Descriptor, Vec<u8>), ImageError> {
        let (descriptor, bytes) = self.client.manifest(name).await.map_err(failed(name))?;
        Ok((descriptor, bytes.to_vec()))
    }

    /// The images that a name stands for: those of its index, or the one image.
    ///
    /// # Errors
    /// If the registry does not give it, or it makes no sense.
    pub async fn members(&self, name: &Reference) -> Result<Vec<Member>, ImageError> {
        let (mut descriptor, bytes) = self.look(name).await?;
        let repository = name.repository().clone();
        if media_type::is_index(&descriptor.media_type) {
            let index: Index = serde_json::from_slice(&bytes).map_err(unread(name))?;
            let member = |descriptor| Member { repository: repository.clone(), descriptor };
            return Ok(index.manifests.into_iter().map(member).collect());
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(unread(name))?;
        let config = self.client.blob_bytes(&repository, &manifest.config, CONFIG_LIMIT).await;
        let config: ImageConfig =
            serde_json::from_slice(&config.map_err(failed(name))?).map_err(unread(name))?;
        descriptor.platform = Some(config.platform());
        Ok(vec![Member { repository, descriptor }])
    }

    /// Makes an index of images, and puts it under names; layers that a name's registry lacks go
    /// there first. Hands back what the index is.
    ///
    /// # Errors
    /// If an image cannot be read, or a registry refuses.
    pub async fn publish(
        &self,
        members: &[Member],
        names: &[Reference],
    ) -> Result<Descriptor, ImageError> {
        let bytes = index_bytes(members);
        let descriptor = Descriptor::of(media_type::OCI_INDEX, &bytes);
        for name in names {
            self.shown(format!("pushing {name}"), async |_| {
                for member in members {
                    self.bring(member, name.repository()).await?;
                }
                let kind = &descriptor.media_type;
                let put = self.client.put_manifest(name, kind, bytes.clone().into()).await;
                put.map(drop).map_err(failed(name))
            })
            .await?;
        }
        Ok(descriptor)
    }

    /// Makes sure that a repository has an image, with its layers.
    async fn bring(&self, member: &Member, to: &Repository) -> Result<(), ImageError> {
        if member.repository == *to {
            return Ok(());
        }
        let digest = member.descriptor.digest;
        let name = Reference::new(member.repository.clone(), None, Some(digest));
        let (_, bytes) = self.look(&name).await?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(unread(&name))?;
        let config = self.client.blob_bytes(name.repository(), &manifest.config, CONFIG_LIMIT);
        let config_bytes = config.await.map_err(failed(&name))?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes).map_err(unread(&name))?;
        let place = Place::Registry { repository: member.repository.clone(), insecure: false };
        let layers = execute::layers(&manifest, &config, Some(&place))
            .map_err(|what| ImageError::Archive(format!("{name}: {what}")))?;
        let transfer = Transfer::new(self.store.clone(), self.client.clone(), self.events.clone());
        let target = Target { repository: to.clone(), insecure: false };
        let format = LayerFormat { compression: Compression::Gzip(None), force: false };
        for index in 0..layers.len() {
            let to = Upload { target: &target, task: None };
            transfer
                .upload(&layers, index, format, to)
                .await
                .map_err(|error| ImageError::Layer(Box::new(error)))?;
        }
        self.client.push_bytes(to, &manifest.config, config_bytes).await.map_err(failed(&name))?;
        let there = Reference::new(to.clone(), None, Some(digest));
        let kind = &member.descriptor.media_type;
        let put = self.client.put_manifest(&there, kind, bytes.into()).await;
        put.map(drop).map_err(failed(&there))
    }
}

/// The text of an index.
pub fn index_bytes(members: &[Member]) -> Vec<u8> {
    let mut manifests: Vec<Descriptor> = Vec::new();
    for member in members {
        if !manifests.iter().any(|known| known.digest == member.descriptor.digest) {
            manifests.push(member.descriptor.clone());
        }
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.into()),
        manifests,
        annotations: Annotations::new(),
    };
    serde_json::to_vec_pretty(&index).expect("keys are texts")
}

fn failed(name: &Reference) -> impl Fn(registry::Error) -> ImageError + use<> {
    let name = name.clone();
    move |error| ImageError::Archive(format!("{name}: {}", transfer::chain_text(&error)))
}

fn unread(name: &Reference) -> impl Fn(serde_json::Error) -> ImageError + use<> {
    let name = name.clone();
    move |error| ImageError::Archive(format!("{name}: its manifest cannot be read: {error}"))
}
