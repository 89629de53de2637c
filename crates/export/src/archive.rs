//! An image in the OCI layout, as a folder or an archive, which `docker load` reads too.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use layer::tar::TarWriter;
use layer::{Entry, EntryKind};
use oci::{Annotations, Descriptor, Digest, Index, Reference, media_type};
use serde_json::json;
use transfer::{LayoutContent, LayoutFile, Transfer, blocking};

use crate::{Documents, Error, ImageDocuments, Product, Writing};

/// One export of an image as an archive or folder.
pub struct ArchiveRequest<'a> {
    /// The product.
    pub product: &'a Product,
    /// The form and the names.
    pub writing: Writing<'a>,
    /// For whom.
    pub kind: ArchiveKind,
}

/// For whom an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    /// For readers of the OCI layout (image-spec, image-layout.md).
    Oci,
    /// A layout with a `manifest.json`, for `docker load`.
    Docker,
}

/// Writes an image as an archive.
///
/// # Errors
/// If a layer cannot be found, or the archive cannot be written.
pub async fn write_archive(
    transfer: &Transfer,
    request: &ArchiveRequest<'_>,
    out: impl Write + Send + 'static,
) -> Result<Documents, Error> {
    let (documents, mut files) = files(transfer, request).await?;
    files.push(bytes_file("index.json", json_bytes(&index(&documents, request.writing.names))));
    files.sort_by_key(|file| (!file.path.starts_with("blobs/"), file.path.clone()));
    blocking(move || write_files(files, out)).await?;
    Ok(documents)
}

/// Writes images as one archive, exactly as their documents are. The blobs of their layers are to
/// be in the store.
///
/// # Errors
/// If a layer is not in the store, or the archive cannot be written.
pub async fn write_images(
    transfer: &Transfer,
    images: Vec<(Documents, Vec<Reference>)>,
    out: impl Write + Send + 'static,
) -> Result<(), Error> {
    let mut files = vec![LayoutFile::marker()];
    let (mut manifests, mut entries, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (documents, names) in &images {
        blobs(transfer, documents, &mut seen, &mut files);
        manifests.extend(index(documents, names).manifests);
        // Of an index, the archive's own index has the others.
        let first = documents.images.first().map(|image| docker_manifest(image, names));
        if let Some(serde_json::Value::Array(own)) = first {
            entries.extend(own);
        }
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.into()),
        manifests,
        annotations: Annotations::new(),
    };
    files.push(bytes_file("manifest.json", json_bytes(&entries)));
    files.push(bytes_file("index.json", json_bytes(&index)));
    files.sort_by_key(|file| (!file.path.starts_with("blobs/"), file.path.clone()));
    blocking(move || write_files(files, out)).await
}

/// Writes an image into a layout folder, and keeps the images in it.
///
/// # Errors
/// If a layer cannot be found, or the folder cannot be written.
pub async fn write_layout(
    transfer: &Transfer,
    request: &ArchiveRequest<'_>,
    folder: &Path,
) -> Result<Documents, Error> {
    let (documents, files) = files(transfer, request).await?;
    let (folder, index) = (folder.to_owned(), index(&documents, request.writing.names));
    blocking(move || transfer::write_layout(&folder, &files, index.manifests)).await?;
    Ok(documents)
}

/// All files but the index.
async fn files(
    transfer: &Transfer,
    request: &ArchiveRequest<'_>,
) -> Result<(Documents, Vec<LayoutFile>), Error> {
    // BuildKit's sentence: an archive for docker holds one image.
    if request.kind == ArchiveKind::Docker
        && (request.product.is_index || request.product.images.len() > 1)
    {
        let message = "docker exporter does not currently support exporting manifest lists: write `type=oci`, or build one platform at a time";
        return Err(Error::Format(message.into()));
    }
    let writing = &request.writing;
    let documents = request.product.documents(transfer, writing).await?;
    let chains = documents.images.iter().map(|image| &image.layers);
    let fetched = chains.flat_map(|layers| (0..layers.len()).map(move |at| (layers, at)));
    let fetched =
        fetched.map(|(layers, at)| transfer.blob(layers, at, writing.format.layers, writing.task));
    transfer::all(futures_util::future::join_all(fetched).await)?;

    let mut files = vec![LayoutFile::marker()];
    blobs(transfer, &documents, &mut BTreeSet::new(), &mut files);
    if let (ArchiveKind::Docker, [image]) = (request.kind, documents.images.as_slice()) {
        let manifest = docker_manifest(image, writing.names);
        files.push(bytes_file("manifest.json", json_bytes(&manifest)));
    }
    Ok((documents, files))
}

/// The blobs of an image that were not seen before.
fn blobs(
    transfer: &Transfer,
    documents: &Documents,
    seen: &mut BTreeSet<Digest>,
    files: &mut Vec<LayoutFile>,
) {
    let small = documents.manifests.iter().chain(&documents.blobs).chain([&documents.root]);
    for document in small.filter(|document| seen.insert(document.descriptor.digest)) {
        let content = LayoutContent::Bytes(document.bytes.clone());
        files.push(LayoutFile::blob(document.descriptor.digest, content));
    }
    let layers = documents.images.iter().flat_map(|image| &image.descriptors);
    for layer in layers.filter(|layer| seen.insert(layer.digest)) {
        let path = transfer.store().blob_path(&layer.digest);
        files.push(LayoutFile::blob(layer.digest, LayoutContent::Blob(path, layer.size)));
    }
}

fn bytes_file(path: &str, bytes: Vec<u8>) -> LayoutFile {
    LayoutFile { path: path.into(), content: LayoutContent::Bytes(bytes) }
}

fn json_bytes(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("keys are texts")
}

/// One entry for each name, with the annotations that containerd and umoci look for.
fn index(documents: &Documents, names: &[Reference]) -> Index {
    // The time of the build is not noted: the same image gives the same archive.
    let created = documents.images.first().and_then(|image| created(documents, image));
    let named = |name: Option<&Reference>| {
        let mut annotations = documents.root.descriptor.annotations.clone();
        if let Some(name) = name {
            annotations.insert("io.containerd.image.name".into(), name.to_string());
            annotations.insert(transfer::REF_NAME.into(), name.tag().unwrap_or("latest").into());
        }
        if let Some(created) = &created {
            let key = "org.opencontainers.image.created".to_owned();
            annotations.entry(key).or_insert_with(|| created.clone());
        }
        Descriptor { annotations, ..documents.root.descriptor.clone() }
    };
    let manifests = match names {
        [] => vec![named(None)],
        names => names.iter().map(|name| named(Some(name))).collect(),
    };
    Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.into()),
        manifests,
        annotations: Annotations::new(),
    }
}

/// When an image was made, as its config says.
fn created(documents: &Documents, image: &ImageDocuments) -> Option<String> {
    let mut configs = documents.blobs.iter();
    let config = configs.find(|blob| blob.descriptor.digest == image.config.digest)?;
    serde_json::from_slice::<oci::ImageConfig>(&config.bytes).ok()?.created
}

/// The file that `docker load` reads.
fn docker_manifest(image: &ImageDocuments, names: &[Reference]) -> serde_json::Value {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let tags: Vec<String> =
        names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
    let layers: Vec<String> = image.descriptors.iter().map(|layer| path(&layer.digest)).collect();
    json!([{ "Config": path(&image.config.digest), "RepoTags": tags, "Layers": layers }])
}

fn write_files(files: Vec<LayoutFile>, out: impl Write) -> Result<(), Error> {
    let mut tar = TarWriter::new(io::BufWriter::with_capacity(1 << 18, out));
    let mut folders = BTreeSet::new();
    for file in files {
        for (at, _) in file.path.match_indices('/') {
            if folders.insert(file.path[..at].to_owned()) {
                tar.append(
                    &header(&file.path[..at], EntryKind::Directory, 0o755),
                    &mut io::empty(),
                )?;
            }
        }
        match file.content {
            LayoutContent::Bytes(bytes) => tar.append(
                &header(&file.path, EntryKind::File { size: bytes.len() as u64 }, 0o644),
                &mut bytes.as_slice(),
            )?,
            LayoutContent::Blob(path, size) => tar.append(
                &header(&file.path, EntryKind::File { size }, 0o644),
                &mut File::open(&path).map_err(|source| Error::Write { path, source })?,
            )?,
        }
    }
    tar.finish()?.flush().map_err(Error::WriteArchive)
}

/// A member of an archive. All times are 0: the same image gives the same archive.
fn header(path: &str, kind: EntryKind, mode: u32) -> Entry {
    Entry::new(path.as_bytes(), kind, mode)
}
