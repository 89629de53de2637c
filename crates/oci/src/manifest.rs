//! Manifests and indexes, in their OCI and Docker spellings.

use serde::{Deserialize, Serialize};

use crate::{Annotations, Descriptor};

/// Media types of the documents and blobs that kiln knows.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, not compressed.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer under gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer under zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_MANIFEST_LIST: &str =
        "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, not compressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer under gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer under zstd, as containerd names it; no specification of Docker's has it.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// BuildKit's cache config.
    pub const BUILDKIT_CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
    /// The config of an artifact that has none: `{}` (image-spec, manifest.md).
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";

    /// True if documents of this type list manifests of several platforms.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_MANIFEST_LIST)
    }

    /// The OCI name of a layer's type where the type is Docker's; any other type as it is.
    pub fn layer_to_oci(media_type: &str) -> &str {
        match media_type {
            DOCKER_LAYER => OCI_LAYER,
            DOCKER_LAYER_GZIP => OCI_LAYER_GZIP,
            DOCKER_LAYER_ZSTD => OCI_LAYER_ZSTD,
            other => other,
        }
    }

    /// The Docker name of a layer's type where there is one. That of zstd is read by engines since
    /// 23.0.
    pub fn layer_to_docker(media_type: &str) -> &str {
        match media_type {
            OCI_LAYER => DOCKER_LAYER,
            OCI_LAYER_GZIP => DOCKER_LAYER_GZIP,
            OCI_LAYER_ZSTD => DOCKER_LAYER_ZSTD,
            other => other,
        }
    }
}

/// An image manifest (image-spec, manifest.md; Docker's schema 2 has the same fields).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; old OCI documents leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config, or an artifact's.
    pub config: Descriptor,
    /// Layers from the bottom up.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
}

/// An image index (image-spec, image-index.md) or Docker's manifest list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; old OCI documents leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests, one for each platform or purpose.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
}

#[cfg(test)]
mod tests {
    use super::media_type::*;

    #[test]
    fn layers_have_two_names() {
        for (docker, oci) in [
            (DOCKER_LAYER, OCI_LAYER),
            (DOCKER_LAYER_GZIP, OCI_LAYER_GZIP),
            (DOCKER_LAYER_ZSTD, OCI_LAYER_ZSTD),
            ("other", "other"),
        ] {
            assert_eq!((layer_to_oci(docker), layer_to_docker(oci)), (oci, docker));
        }
    }
}
