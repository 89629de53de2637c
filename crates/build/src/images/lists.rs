//! Indexes of images that registries have (`docker manifest`, `docker buildx imagetools`).

use oci::{
    Annotations, Descriptor, ImageConfig, Index, Manifest, Platform, Reference, Repository,
    media_type,
};
use serde_json::Value;

use super::{ImageError, Porter};

/// A larger config is none.
const CONFIG_LIMIT: u64 = 8 << 20;
/// A larger attestation is not read.
const ATTESTATION_LIMIT: u64 = 256 << 20;
/// The deepest nesting of indexes that is read.
const DEEPEST: u32 = 8;
/// BuildKit's annotation of an attestation's manifest in an index.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// An image that an index lists, or an index, and the repository that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its repository.
    pub repository: Repository,
    /// The descriptor of its manifest, with its platform.
    pub descriptor: Descriptor,
}

/// The tool whose layout of the JSON is used: the same list has another digest from each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// The layout of `docker buildx imagetools create`.
    #[default]
    Buildx,
    /// The layout of `docker manifest push`.
    Docker,
}

/// The content of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexContent {
    /// The layout of its JSON.
    pub style: Style,
    /// The images that it lists; a second one with the same digest is left out.
    pub members: Vec<Member>,
    /// Annotations of the index itself.
    pub annotations: Annotations,
}

/// An image in a registry: its config, and its attestations by predicate type.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The image's platform.
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

    /// Puts an image or an index under other names, byte for byte; layers that a name's registry lacks go there
    /// first.
    ///
    /// # Errors
    /// The same as [`Porter::publish`].
    pub async fn copy(&self, member: &Member, names: &[Reference]) -> Result<(), ImageError> {
        let digest = member.descriptor.digest;
        let source = Reference::new(member.repository.clone(), None, Some(digest));
        let (descriptor, bytes) = self.look(&source).await?;
        for name in names {
            self.shown(format!("pushing {name}"), async |_| {
                self.bring(member, name.repository(), 0).await?;
                self.put(name, &descriptor, &bytes).await
            })
            .await?;
        }
        Ok(())
    }

    async fn put(
        &self,
        name: &Reference,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<(), ImageError> {
        let kind = &descriptor.media_type;
        let put = self.client.put_manifest(name, kind, bytes.to_vec().into()).await;
        put.map(drop).map_err(failed(name))
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

    /// The manifest or index of a name, as a member of an index.
    ///
    /// # Errors
    /// If the registry does not give it.
    pub async fn whole(&self, name: &Reference) -> Result<Member, ImageError> {
        let (descriptor, _) = self.look(name).await?;
        Ok(Member { repository: name.repository().clone(), descriptor })
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
        let descriptor = Descriptor::of(index.media_type(), &bytes);
        for name in names {
            self.shown(format!("pushing {name}"), async |_| {
                for member in &index.members {
                    self.bring(member, name.repository(), 0).await?;
                }
                self.put(name, &descriptor, &bytes).await
            })
            .await?;
        }
        Ok(descriptor)
    }

    /// Makes sure that a repository has an image or an index as it is, with all that it names.
    async fn bring(&self, member: &Member, to: &Repository, depth: u32) -> Result<(), ImageError> {
        if member.repository == *to {
            return Ok(());
        }
        let digest = member.descriptor.digest;
        let name = Reference::new(member.repository.clone(), None, Some(digest));
        let (descriptor, bytes) = self.look(&name).await?;
        if media_type::is_index(&descriptor.media_type) {
            if depth == DEEPEST {
                return Err(ImageError::Archive(format!(
                    "{name}: its indexes are nested too deep"
                )));
            }
            let index: Index = serde_json::from_slice(&bytes).map_err(unread(&name))?;
            for descriptor in index.manifests {
                let inner = Member { repository: member.repository.clone(), descriptor };
                Box::pin(self.bring(&inner, to, depth + 1)).await?;
            }
        } else {
            let manifest: Manifest = serde_json::from_slice(&bytes).map_err(unread(&name))?;
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                let copied = self.client.copy_blob(&member.repository, to, blob).await;
                copied.map_err(failed(&name))?;
            }
        }
        let there = Reference::new(to.clone(), None, Some(digest));
        let put = self.client.put_manifest(&there, &descriptor.media_type, bytes.into()).await;
        put.map(drop).map_err(failed(&there))
    }
}

impl IndexContent {
    /// Its type: Docker's where all that it lists is Docker's, which has no annotations (buildx,
    /// `util/imagetools`).
    pub fn media_type(&self) -> &'static str {
        let is_dockers = |member: &Member| {
            let Descriptor { media_type, annotations, .. } = &member.descriptor;
            media_type == media_type::DOCKER_MANIFEST && annotations.is_empty()
        };
        match self.annotations.is_empty() && self.members.iter().all(is_dockers) {
            true => media_type::DOCKER_MANIFEST_LIST,
            false => media_type::OCI_INDEX,
        }
    }

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
            media_type: Some(self.media_type().into()),
            manifests,
            annotations: self.annotations.clone(),
        };
        match self.style {
            Style::Buildx => serde_json::to_vec_pretty(&index).expect("keys are texts"),
            Style::Docker => dockers_text(&index),
        }
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

/// An index as `docker manifest push` writes it: with three spaces, and an entry's size before its
/// digest (distribution 2.8, `manifestlist`).
fn dockers_text(index: &Index) -> Vec<u8> {
    let mut value = serde_json::to_value(index).expect("keys are texts");
    for entry in value["manifests"].as_array_mut().into_iter().flatten() {
        let Some(fields) = entry.as_object_mut() else { continue };
        let size = fields.keys().position(|key| key == "size");
        if let (Some(size), Some(digest)) = (size, fields.shift_remove("digest")) {
            // The digest was removed before it, and the size moved up by one.
            fields.shift_insert(size, "digest".into(), digest);
        }
    }
    let mut text = Vec::new();
    let spaces = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, spaces);
    serde::Serialize::serialize(&value, &mut writer).expect("a vector takes all bytes");
    text
}

fn failed(name: &Reference) -> impl Fn(registry::Error) -> ImageError + use<> {
    let name = name.clone();
    move |source| ImageError::Registry { name: name.clone(), source: Box::new(source) }
}

fn unread(name: &Reference) -> impl Fn(serde_json::Error) -> ImageError + use<> {
    let name = name.clone();
    move |error| ImageError::Archive(format!("{name}: its manifest cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use oci::Digest;

    use super::*;

    fn content(kinds: &[&str], style: Style) -> IndexContent {
        let member = |kind: &&str| {
            let platform = Some(Platform::new("linux", "amd64", ""));
            let descriptor =
                Descriptor { platform, ..Descriptor::new(*kind, Digest::of(kind.as_bytes()), 439) };
            Member { repository: Repository::new("r.io", "a"), descriptor }
        };
        let members = kinds.iter().map(member).collect();
        IndexContent { style, members, ..IndexContent::default() }
    }

    #[test]
    fn lists_of_dockers_images_are_dockers() {
        use media_type::{DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST};
        for (kinds, expected) in [
            (&[DOCKER_MANIFEST][..], DOCKER_MANIFEST_LIST),
            (&[DOCKER_MANIFEST, OCI_MANIFEST], OCI_INDEX),
            (&[OCI_MANIFEST], OCI_INDEX),
        ] {
            let mut content = content(kinds, Style::Buildx);
            assert_eq!(content.media_type(), expected);
            // Docker's lists have none.
            content.annotations.insert("a".into(), "b".into());
            assert_eq!(content.media_type(), OCI_INDEX);
        }
    }

    #[test]
    fn dockers_text_is_its_own() {
        let text = content(&[media_type::DOCKER_MANIFEST], Style::Docker).bytes();
        let digest = Digest::of(media_type::DOCKER_MANIFEST.as_bytes());
        let expected = format!(
            r#"{{
   "schemaVersion": 2,
   "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
   "manifests": [
      {{
         "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
         "size": 439,
         "digest": "{digest}",
         "platform": {{
            "architecture": "amd64",
            "os": "linux"
         }}
      }}
   ]
}}"#
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
