//! Indexes of images that registries have (`docker manifest`, `docker buildx imagetools`).

use oci::{
    Annotations, Descriptor, ImageConfig, Index, Manifest, Platform, Reference, Repository,
    media_type,
};
use serde_json::Value;
use store::{Compression, Place};
use transfer::{LayerFormat, Target, Transfer, Upload};

use super::{ImageError, Porter};

/// A larger config is none.
const CONFIG_LIMIT: u64 = 8 << 20;
/// A larger attestation is not read.
const ATTESTATION_LIMIT: u64 = 256 << 20;
/// What BuildKit says of an attestation's manifest in an index.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// An image that an index lists, and the repository that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub repository: Repository,
    /// What its manifest is, and for which platform.
    pub descriptor: Descriptor,
}

/// What an index is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexContent {
    /// The images that it lists; a second one with the same digest is left out.
    pub members: Vec<Member>,
    /// Annotations of the index itself.
    pub annotations: Annotations,
}

/// What a registry has of an image: its config, and what attests to it, by predicate type.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// What the image is for.
    pub platform: Platform,
    /// Its config, as it is.
    pub config: Value,
    /// Predicate types with their predicates.
    pub attestations: Vec<(String, Value)>,
}

impl Porter {
    /// The configs of the images under a name, and, if wanted, what attests to them.
    ///
    /// # Errors
    /// If the registry does not give something, or it makes no sense.
    pub async fn describe(
        &self,
        name: &Reference,
        with_attestations: bool,
    ) -> Result<Vec<Described>, ImageError> {
        let members = self.members(name).await?;
        let mut images = Vec::new();
        for Member { descriptor, .. } in &members {
            if descriptor.annotations.contains_key(REFERENCE_TYPE) {
                continue;
            }
            let manifest = self.manifest(&name.with_digest(descriptor.digest)).await?;
            let config = self.document(name, &manifest.config, CONFIG_LIMIT).await?;
            let platform = match &descriptor.platform {
                Some(platform) => platform.clone(),
                None => serde_json::from_value::<ImageConfig>(config.clone())
                    .map_err(unread(name))?
                    .platform(),
            };
            let mut image = Described { platform, config, attestations: Vec::new() };
            let digest = descriptor.digest.to_string();
            let attests = |member: &&Member| {
                member.descriptor.annotations.get(REFERENCE_DIGEST) == Some(&digest)
            };
            for attesting in members.iter().filter(attests).filter(|_| with_attestations) {
                let digest = attesting.descriptor.digest;
                for layer in self.manifest(&name.with_digest(digest)).await?.layers {
                    let Some(kind) = layer.annotations.get(PREDICATE_TYPE) else { continue };
                    let mut statement = self.document(name, &layer, ATTESTATION_LIMIT).await?;
                    let predicate = statement["predicate"].take();
                    image.attestations.push((kind.clone(), predicate));
                }
            }
            images.push(image);
        }
        Ok(images)
    }

    async fn manifest(&self, name: &Reference) -> Result<Manifest, ImageError> {
        let (_, bytes) = self.look(name).await?;
        serde_json::from_slice(&bytes).map_err(unread(name))
    }

    async fn document(
        &self,
        name: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Value, ImageError> {
        let bytes = self.client.blob_bytes(name.repository(), descriptor, limit).await;
        serde_json::from_slice(&bytes.map_err(failed(name))?).map_err(unread(name))
    }

    /// Puts an image under other names as it is; layers that a name's registry lacks go there
    /// first.
    ///
    /// # Errors
    /// As [`Porter::publish`].
    pub async fn copy(&self, member: &Member, names: &[Reference]) -> Result<(), ImageError> {
        let digest = member.descriptor.digest;
        let source = Reference::new(member.repository.clone(), None, Some(digest));
        let (descriptor, bytes) = self.look(&source).await?;
        for name in names {
            self.shown(format!("pushing {name}"), async |_| {
                self.bring(member, name.repository()).await?;
                let kind = &descriptor.media_type;
                let put = self.client.put_manifest(name, kind, bytes.clone().into()).await;
                put.map(drop).map_err(failed(name))
            })
            .await?;
        }
        Ok(())
    }

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
        index: &IndexContent,
        names: &[Reference],
    ) -> Result<Descriptor, ImageError> {
        let bytes = index.bytes();
        let descriptor = Descriptor::of(media_type::OCI_INDEX, &bytes);
        for name in names {
            self.shown(format!("pushing {name}"), async |_| {
                for member in &index.members {
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

impl IndexContent {
    /// The text of the index.
    pub fn bytes(&self) -> Vec<u8> {
        let mut manifests: Vec<Descriptor> = Vec::new();
        for member in &self.members {
            if !manifests.iter().any(|known| known.digest == member.descriptor.digest) {
                manifests.push(member.descriptor.clone());
            }
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.into()),
            manifests,
            annotations: self.annotations.clone(),
        };
        serde_json::to_vec_pretty(&index).expect("keys are texts")
    }

    /// Leaves only images for these platforms, and what attests to them.
    pub fn keep(&mut self, platforms: &[Platform]) {
        let wanted = |have: &Platform| platforms.iter().any(|wanted| have.serves(wanted));
        let kept: Vec<String> = self
            .members
            .iter()
            .map(|member| &member.descriptor)
            .filter(|one| one.platform.as_ref().is_some_and(wanted))
            .map(|one| one.digest.to_string())
            .collect();
        self.members.retain(|member| {
            let digest = member.descriptor.digest.to_string();
            let about = member.descriptor.annotations.get(REFERENCE_DIGEST);
            kept.contains(about.unwrap_or(&digest))
        });
    }
}

fn failed(name: &Reference) -> impl Fn(registry::Error) -> ImageError + use<> {
    let name = name.clone();
    move |error| ImageError::Archive(format!("{name}: {}", transfer::chain_text(&error)))
}

fn unread(name: &Reference) -> impl Fn(serde_json::Error) -> ImageError + use<> {
    let name = name.clone();
    move |error| ImageError::Archive(format!("{name}: its manifest cannot be read: {error}"))
}
