//! The results of a build.

use std::path::PathBuf;

use attest::Provenance;
use export::{Annotation, EpochChoice};
use layer::Compression;
use oci::Reference;

/// The layers that an image gets. Whatever they are, each step is cached on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layers {
    /// One for each step, as with BuildKit.
    #[default]
    Each,
    /// One for all steps that stand on the base.
    One,
    /// One for the steps up to each that ends with `#!COMMIT`, and one for those after the last.
    Marked,
    /// One for each step, in a Dockerfile in which `#!COMMIT` is a comment.
    Unmarked,
}

/// Attestations of images; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attestations {
    /// The provenance.
    pub provenance: Option<ProvenanceRequest>,
    /// True if their packages are listed.
    pub sbom: bool,
}

/// The options of a provenance, and of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenanceRequest {
    /// Its content.
    pub wanted: Provenance,
    /// Name of its file in outputs that are files.
    pub file_name: String,
    /// True if it is for images only.
    pub inline_only: bool,
    /// True if the build fails when it has sources that are only on this machine.
    pub complete_materials: bool,
}

/// The outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// An image in the store, pushed where asked (`type=image`, `type=registry`).
    Image(ImageOutput),
    /// An archive or folder in the OCI layout (`type=oci`).
    Oci(ArchiveOutput),
    /// An archive as `docker save` writes it, to a file or into a Docker engine (`type=docker`).
    Docker(ArchiveOutput),
    /// The files, in a folder (`type=local`).
    Local(FolderOutput),
    /// The files, as an archive (`type=tar`).
    Tar(TarOutput),
    /// Nothing but records (`type=cacheonly`).
    CacheOnly,
}

/// An image in the store or a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOutput {
    /// Names; the request's tags where empty.
    pub names: Vec<Reference>,
    /// True if it is pushed.
    pub push: bool,
    /// True if it is pushed by digest, without tags.
    pub push_by_digest: bool,
    /// True if plain HTTP or an untrusted certificate is accepted.
    pub insecure: bool,
    /// True if it is kept in the store under its names.
    pub store: bool,
    /// Compression and media types.
    pub format: ImageFormat,
    /// Annotations, attestations and times.
    pub options: ImageOptions,
}

impl ImageOutput {
    /// An image that is kept in the store and not pushed.
    pub fn kept(names: Vec<Reference>) -> Self {
        Self {
            names,
            push: false,
            push_by_digest: false,
            insecure: false,
            store: true,
            format: ImageFormat::default(),
            options: ImageOptions::default(),
        }
    }
}

/// Annotations, attestations and times of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// Annotations.
    pub annotations: Vec<Annotation>,
    /// True if attestation manifests are OCI artifacts; by default they are if the
    /// media types are OCI's.
    pub oci_artifact: Option<bool>,
    /// True if attestations for images only are included; by default they are in
    /// images and not in archives.
    pub attestation_inline: Option<bool>,
    /// True if files of new layers get no later time than the epoch.
    pub rewrite_timestamp: bool,
    /// The epoch of this output.
    pub epoch: EpochChoice,
}

/// Files in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderOutput {
    /// The folder.
    pub folder: PathBuf,
    /// True if files that are not in the result are deleted (`mode=delete`).
    pub delete: bool,
    /// The selection of files.
    pub files: FilesOptions,
}

/// Files as an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarOutput {
    /// The destination.
    pub destination: Destination,
    /// The selection of files.
    pub files: FilesOptions,
}

/// The selection of files of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesOptions {
    /// True if each platform has a folder of its own; by default if there are
    /// several.
    pub platform_split: Option<bool>,
    /// Prefix of the names of attestations' files.
    pub attestation_prefix: String,
    /// The epoch of this output: the time of all files.
    pub epoch: EpochChoice,
}

/// An image in an archive or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveOutput {
    /// Names; the request's tags where empty.
    pub names: Vec<Reference>,
    /// The destination; with none, a `docker` archive goes into the Docker engine.
    pub destination: Option<Destination>,
    /// True for an archive, false for a folder (`tar=false`).
    pub tar: bool,
    /// Compression and media types.
    pub format: ImageFormat,
    /// Annotations, attestations and times.
    pub options: ImageOptions,
}

/// The destination of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A file or folder.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

/// The format of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFormat {
    /// Compression of layers.
    pub compression: Compression,
    /// True if layers with another compression are compressed again.
    pub force_compression: bool,
    /// OCI's media types, or Docker's.
    pub oci_mediatypes: bool,
}

impl Default for ImageFormat {
    fn default() -> Self {
        Self {
            compression: Compression::Gzip(None),
            force_compression: false,
            oci_mediatypes: true,
        }
    }
}
