//! A sidecar in a registry, under a tag derived from the cache's.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use layer::Place;
use oci::{Descriptor, Digest, Reference, media_type};
use registry::{Client, Expect};

use super::catalogue::{EMPTY, empty_config};
use super::{BlobContent, SidecarStore};
use crate::Error;

/// The suffix of a sidecar's tag.
const SUFFIX: &str = ".kiln";
/// The longest tag (distribution-spec).
const LONGEST_TAG: usize = 128;
/// The largest blob that is sent without asking for it first, in bytes.
const SEND_UNASKED: u64 = 256 << 10;

/// The sidecar of a cache in a registry.
pub struct RegistrySidecar {
    client: Client,
    reference: Reference,
    insecure: bool,
}

impl RegistrySidecar {
    /// The sidecar of a cache; none if its reference has no tag.
    pub fn new(client: &Client, cache: &Reference, insecure: bool) -> Option<Self> {
        let repository = cache.repository().clone();
        let tag = sidecar_tag(cache.tag()?);
        let client = client.for_host(repository.host(), insecure);
        let reference = Reference::new(repository, Some(tag), None);
        Some(Self { client, reference, insecure })
    }
}

/// The sidecar's tag for a cache's tag. A long one is cut and made unique by its digest.
pub(super) fn sidecar_tag(tag: &str) -> String {
    if tag.len() + SUFFIX.len() <= LONGEST_TAG {
        return format!("{tag}{SUFFIX}");
    }
    // Tags are ASCII.
    let digest = Digest::of(tag).hex();
    format!("{}.{}{SUFFIX}", &tag[..80], &digest[..32])
}

impl SidecarStore for RegistrySidecar {
    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn read(&self) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Box::pin(async {
            match self.client.manifest(&self.reference).await {
                Ok((_, bytes)) => Ok(Some(bytes)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn manifest(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Box::pin(async move {
            let repository = self.reference.repository().clone();
            let pinned = Reference::new(repository, None, Some(digest));
            match self.client.manifest(&pinned).await {
                Ok((_, bytes)) => Ok(Some(bytes)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn write(&self, manifest: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let repository = self.reference.repository();
            let empty = empty_config();
            self.client.push_bytes(repository, &empty, Bytes::from_static(EMPTY)).await?;
            self.client.put_manifest(&self.reference, media_type::OCI_MANIFEST, manifest).await?;
            Ok(())
        })
    }

    fn blob<'a>(&'a self, blob: &'a Descriptor, max: u64) -> BoxFuture<'a, Result<Bytes, Error>> {
        Box::pin(async move {
            Ok(self.client.blob_bytes(self.reference.repository(), blob, max).await?)
        })
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        content: BlobContent,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let expect = if blob.size <= SEND_UNASKED { Expect::New } else { Expect::Unknown };
            let repository = self.reference.repository();
            self.client.push_blob(repository, blob, &content, &[], expect).await?;
            Ok(())
        })
    }

    fn place(&self) -> Option<Place> {
        let repository = self.reference.repository().clone();
        Some(Place::Registry { repository, insecure: self.insecure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stay_tags() {
        assert_eq!(sidecar_tag("cache"), "cache.kiln");
        let (a, b) = (format!("{}a", "x".repeat(127)), format!("{}b", "x".repeat(127)));
        for tag in [&a, &b, &"y".repeat(123), &"z".repeat(124)] {
            let sidecar = sidecar_tag(tag);
            assert!(sidecar.len() <= LONGEST_TAG && sidecar.ends_with(".kiln"), "{sidecar}");
            let reference: Result<Reference, _> = format!("host/app:{sidecar}").parse();
            assert!(reference.is_ok(), "{sidecar}");
        }
        assert_ne!(sidecar_tag(&a), sidecar_tag(&b));
    }
}
