//! A build's product: an image for each platform, with its attestations.

use layer::Layer;
use oci::{Annotations, Descriptor, Digest, Index, Manifest, Platform, Reference, media_type};
use serde::Serialize;
use serde_json::Value;
use transfer::Transfer;

use crate::annotations::{self, AnnotationLevel};
use crate::writing::Writing;
use crate::{Error, Image, Manifested};

/// The images of a build.
#[derive(Clone, Debug)]
pub struct Product {
    /// One for each platform, in the order in which they were asked for.
    pub images: Vec<PlatformImage>,
    /// True if an index is written even for a single image.
    pub is_index: bool,
}

/// The image for a platform.
#[derive(Clone, Debug)]
pub struct PlatformImage {
    /// The image's platform.
    pub platform: Platform,
    /// The image.
    pub image: Image,
    /// Its attestations.
    pub attestations: Vec<Attestation>,
}

/// Something that is said of an image: an in-toto statement whose subject is not named yet.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// The type of the predicate.
    pub predicate_type: String,
    /// The predicate, as JSON.
    pub predicate: Value,
    /// Name of its file in outputs that are files.
    pub file_name: String,
    /// True if outputs that are files or archives omit it.
    pub inline_only: bool,
}

/// The subject of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// A package URL, or a path.
    pub name: String,
    digest: SubjectDigest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct SubjectDigest {
    sha256: String,
}

impl Subject {
    /// Something with a name and a digest.
    pub fn new(name: impl Into<String>, digest: &Digest) -> Self {
        Self { name: name.into(), digest: SubjectDigest { sha256: digest.hex() } }
    }
}

/// An in-toto statement (attestation framework, statement v1), with its keys in BuildKit's order.
#[derive(Serialize)]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    #[serde(rename = "predicateType")]
    predicate_type: &'a str,
    subject: &'a [Subject],
    predicate: &'a Value,
}

impl Attestation {
    fn statement<'a>(&'a self, subject: &'a [Subject]) -> Statement<'a> {
        Statement {
            kind: "https://in-toto.io/Statement/v1",
            predicate_type: &self.predicate_type,
            subject,
            predicate: &self.predicate,
        }
    }

    /// The statement about some subjects, on one line.
    pub fn compact(&self, subjects: &[Subject]) -> Vec<u8> {
        serde_json::to_vec(&self.statement(subjects)).expect("keys are texts")
    }

    /// The statement about some subjects, for people.
    pub fn pretty(&self, subjects: &[Subject]) -> Vec<u8> {
        serde_json::to_vec_pretty(&self.statement(subjects)).expect("keys are texts")
    }
}

/// A document that is in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The document's descriptor.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Document {
    /// A document of a type.
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self { descriptor: Descriptor::of(media_type, &bytes), bytes }
    }
}

/// The documents of a product, and the layers they speak of.
#[derive(Clone, Debug)]
pub struct Documents {
    /// The document behind the names: the index, or the only manifest.
    pub root: Document,
    /// The manifests that the index lists, in its order; none where the root is a manifest.
    pub manifests: Vec<Document>,
    /// Configs and statements, each once.
    pub blobs: Vec<Document>,
    /// The images.
    pub images: Vec<ImageDocuments>,
}

/// The documents of one image among several.
#[derive(Clone, Debug)]
pub struct ImageDocuments {
    /// The image's platform.
    pub platform: Platform,
    /// The manifest's descriptor.
    pub manifest: Descriptor,
    /// The config's descriptor.
    pub config: Descriptor,
    /// Its layers as the manifest names them.
    pub descriptors: Vec<Descriptor>,
    /// Its layers.
    pub layers: Vec<Layer>,
}

impl Documents {
    /// The documents of one image.
    pub fn single(platform: Platform, documents: Manifested, layers: Vec<Layer>) -> Self {
        let Manifested { manifest, descriptor, config, config_descriptor, layers: descriptors } =
            documents;
        let image = ImageDocuments {
            platform,
            manifest: descriptor.clone(),
            config: config_descriptor.clone(),
            descriptors,
            layers,
        };
        Self {
            root: Document { descriptor, bytes: manifest },
            manifests: Vec::new(),
            blobs: vec![Document { descriptor: config_descriptor, bytes: config }],
            images: vec![image],
        }
    }

    /// The image's config if it is the only document: docker's image ID.
    pub fn config(&self) -> Option<&Descriptor> {
        match self.images.as_slice() {
            [image] if self.manifests.is_empty() => Some(&image.config),
            _ => None,
        }
    }

    fn add_blob(&mut self, blob: Document) {
        if !self.blobs.contains(&blob) {
            self.blobs.push(blob);
        }
    }
}

/// The type of a manifest that holds statements (docker's attestation storage).
const ATTESTATION_MANIFEST: &str = "application/vnd.docker.attestation.manifest.v1+json";
/// The type of a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";

impl Product {
    /// Makes all documents, compressing layers that have no blob yet.
    ///
    /// # Errors
    /// If a layer cannot be compressed, or something has no place in the format.
    pub async fn documents(
        &self,
        transfer: &Transfer,
        writing: &Writing<'_>,
    ) -> Result<Documents, Error> {
        let counts = |attestation: &&Attestation| writing.inline || !attestation.inline_only;
        let is_attested =
            self.images.iter().any(|image| image.attestations.iter().any(|one| counts(&one)));
        // An index that exists for other reasons carries all of them, as in BuildKit.
        let is_index = self.is_index || self.images.len() > 1 || is_attested;
        let attested = is_index && self.images.iter().any(|image| !image.attestations.is_empty());
        let oci = writing.format.oci_mediatypes;
        if attested && !oci {
            let message = "cannot export attestations with `oci-mediatypes=false`";
            return Err(Error::Format(message.into()));
        }
        let platforms: Vec<&Platform> = self.images.iter().map(|image| &image.platform).collect();
        annotations::check(writing.annotations, &platforms, is_index, oci)?;

        let mut made = Vec::with_capacity(self.images.len());
        for image in &self.images {
            made.push(image.documents(transfer, writing).await?);
        }
        if let ([_], false) = (made.as_slice(), is_index) {
            let (mut image, layers) = made.pop().expect("it was just seen");
            let platform = self.images[0].platform.clone();
            image.descriptor.platform = Some(platform.clone());
            return Ok(Documents::single(platform, image, layers));
        }
        self.index(made, writing)
    }

    fn index(
        &self,
        made: Vec<(Manifested, Vec<Layer>)>,
        writing: &Writing<'_>,
    ) -> Result<Documents, Error> {
        let index_type = match writing.format.oci_mediatypes {
            true => media_type::OCI_INDEX,
            false => media_type::DOCKER_MANIFEST_LIST,
        };
        let mut documents = Documents {
            root: Document::new(index_type, Vec::new()),
            manifests: Vec::new(),
            blobs: Vec::new(),
            images: Vec::new(),
        };
        let mut attestations = Vec::new();
        for (image, (made, layers)) in self.images.iter().zip(made) {
            let descriptor =
                Descriptor { platform: Some(image.platform.clone()), ..made.descriptor };
            if !image.attestations.is_empty() {
                let (manifest, blobs) = attest(image, &descriptor, writing)?;
                attestations.push(manifest);
                blobs.into_iter().for_each(|blob| documents.add_blob(blob));
            }
            documents.add_blob(Document {
                descriptor: made.config_descriptor.clone(),
                bytes: made.config,
            });
            documents.images.push(ImageDocuments {
                platform: image.platform.clone(),
                manifest: descriptor.clone(),
                config: made.config_descriptor,
                descriptors: made.layers,
                layers,
            });
            documents.manifests.push(Document { descriptor, bytes: made.manifest });
        }
        documents.manifests.extend(attestations);
        let index = Index {
            schema_version: 2,
            media_type: Some(index_type.into()),
            manifests: documents.manifests.iter().map(|one| one.descriptor.clone()).collect(),
            annotations: annotations::of(writing.annotations, AnnotationLevel::Index, None),
        };
        let bytes = serde_json::to_vec_pretty(&index).expect("keys are texts");
        documents.root = Document::new(index_type, bytes);
        documents.root.descriptor.annotations =
            annotations::of(writing.annotations, AnnotationLevel::IndexDescriptor, None);
        Ok(documents)
    }
}

impl PlatformImage {
    async fn documents(
        &self,
        transfer: &Transfer,
        writing: &Writing<'_>,
    ) -> Result<(Manifested, Vec<Layer>), Error> {
        let mut image = self.image.clone();
        image.epoch = writing.epoch.over(image.epoch);
        if writing.rewrite_timestamp
            && let Some(epoch) = image.epoch
        {
            crate::rewrite::clamp_layers(transfer, &mut image, epoch, writing).await?;
        }
        let of = |level| annotations::of(writing.annotations, level, Some(&self.platform));
        let annotated = of(AnnotationLevel::Manifest);
        let mut made = image.manifest(transfer, writing.format, annotated, writing.task).await?;
        made.descriptor.annotations = of(AnnotationLevel::ManifestDescriptor);
        Ok((made, image.layers))
    }

    /// The subjects of statements about the image: its manifest, under each of its names.
    fn subjects(&self, manifest: &Descriptor, names: &[Reference]) -> Vec<Subject> {
        let subject = |name: &Reference| {
            Subject::new(oci::purl::image(name, Some(&self.platform)), &manifest.digest)
        };
        names.iter().map(subject).collect()
    }
}

/// The manifest of the statements about an image, and the blobs that it names.
fn attest(
    image: &PlatformImage,
    manifest: &Descriptor,
    writing: &Writing<'_>,
) -> Result<(Document, Vec<Document>), Error> {
    let subjects = image.subjects(manifest, writing.names);
    let mut blobs: Vec<Document> = Vec::new();
    let mut layers = Vec::new();
    for attestation in &image.attestations {
        let blob = Document::new(IN_TOTO, attestation.compact(&subjects));
        let mut layer = blob.descriptor.clone();
        layer
            .annotations
            .insert("in-toto.io/predicate-type".into(), attestation.predicate_type.clone());
        layers.push(layer);
        blobs.push(blob);
    }
    let config = match writing.oci_artifact {
        true => {
            let mut empty = Document::new("application/vnd.oci.empty.v1+json", b"{}".to_vec());
            empty.descriptor.data = Some("e30=".into());
            empty
        }
        false => {
            let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
            let config = serde_json::json!({
                "architecture": "unknown", "os": "unknown", "config": {},
                "rootfs": { "type": "layers", "diff_ids": diff_ids },
            });
            let bytes = serde_json::to_vec(&config).expect("keys are texts");
            Document::new(media_type::OCI_CONFIG, bytes)
        }
    };
    let written = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        artifact_type: writing.oci_artifact.then(|| ATTESTATION_MANIFEST.into()),
        config: config.descriptor.clone(),
        layers,
        subject: writing
            .oci_artifact
            .then(|| Descriptor::new(manifest.media_type.clone(), manifest.digest, manifest.size)),
        annotations: Annotations::new(),
    };
    blobs.push(Document { descriptor: Descriptor { data: None, ..config.descriptor }, ..config });
    let bytes = serde_json::to_vec_pretty(&written).expect("keys are texts");
    let mut document = Document::new(media_type::OCI_MANIFEST, bytes);
    document.descriptor.platform = Some(Platform {
        architecture: "unknown".into(),
        os: "unknown".into(),
        variant: String::new(),
        os_version: String::new(),
        os_features: Vec::new(),
    });
    document.descriptor.annotations = Annotations::from([
        ("vnd.docker.reference.digest".into(), manifest.digest.to_string()),
        ("vnd.docker.reference.type".into(), "attestation-manifest".into()),
    ]);
    Ok((document, blobs))
}
