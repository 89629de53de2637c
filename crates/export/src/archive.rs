//! An image in the OCI layout, as a folder or an archive, which `docker load` reads too.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use graph::TaskId;
use oci::{Annotations, Descriptor, Digest, Index, Reference, media_type};
use serde_json::json;
use store::tar::TarWriter;
use store::{Entry, EntryKind, Time};
use transfer::{LayoutContent, LayoutFile, Transfer, blocking};

use crate::{Error, Format, Image, Manifested};

/// One export of an image as an archive or folder.
pub struct ArchiveRequest<'a> {
    /// What is written.
    pub image: &'a Image,
    /// How.
    pub format: Format,
    /// Its names.
    pub names: &'a [Reference],
    /// For whom.
    pub kind: ArchiveKind,
    /// The task that shows it.
    pub task: Option<TaskId>,
}

/// For whom an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    /// For readers of the OCI layout (image-spec, image-layout.md).
    Oci,
    /// For `docker load` as well: a `manifest.json` beside the layout.
    Docker,
}

/// Writes an image as an archive.
///
/// # Errors
/// If a layer is nowhere, or the archive cannot be written.
pub async fn write_archive(
    transfer: &Transfer,
    request: &ArchiveRequest<'_>,
    out: impl Write + Send + 'static,
) -> Result<Manifested, Error> {
    let (documents, mut files) = files(transfer, request).await?;
    files.push(bytes_file("index.json", json_bytes(&index(&documents, request))));
    files.sort_by_key(|file| (!file.path.starts_with("blobs/"), file.path.clone()));
    blocking(move || write_files(files, out)).await?;
    Ok(documents)
}

/// Writes an image as a folder, beside images that are there already.
///
/// # Errors
/// If a layer is nowhere, or the folder cannot be written.
pub async fn write_layout(
    transfer: &Transfer,
    request: &ArchiveRequest<'_>,
    folder: &Path,
) -> Result<Manifested, Error> {
    let (documents, files) = files(transfer, request).await?;
    let (folder, index) = (folder.to_owned(), index(&documents, request));
    blocking(move || transfer::write_layout(&folder, &files, index.manifests)).await?;
    Ok(documents)
}

/// All files but the index.
async fn files(
    transfer: &Transfer,
    request: &ArchiveRequest<'_>,
) -> Result<(Manifested, Vec<LayoutFile>), Error> {
    let documents = request.image.manifest(transfer, request.format, request.task).await?;
    let layers = &request.image.layers;
    let fetched = (0..layers.len())
        .map(|index| transfer.blob(layers, index, request.format.layers, request.task));
    futures_util::future::try_join_all(fetched).await?;

    let blob = |digest, bytes: &[u8]| LayoutFile::blob(digest, LayoutContent::Bytes(bytes.into()));
    let mut files = vec![
        blob(documents.descriptor.digest, &documents.manifest),
        blob(documents.config_descriptor.digest, &documents.config),
        LayoutFile::marker(),
    ];
    let mut seen = BTreeSet::new();
    for layer in documents.layers.iter().filter(|layer| seen.insert(layer.digest)) {
        let path = transfer.store().blob_path(&layer.digest);
        files.push(LayoutFile::blob(layer.digest, LayoutContent::Blob(path, layer.size)));
    }
    if request.kind == ArchiveKind::Docker {
        let manifest = docker_manifest(&documents, request.names);
        files.push(bytes_file("manifest.json", json_bytes(&manifest)));
    }
    Ok((documents, files))
}

fn bytes_file(path: &str, bytes: Vec<u8>) -> LayoutFile {
    LayoutFile { path: path.into(), content: LayoutContent::Bytes(bytes) }
}

fn json_bytes(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("keys are texts")
}

/// One entry for each name, with the annotations that containerd and umoci look for.
fn index(documents: &Manifested, request: &ArchiveRequest<'_>) -> Index {
    let created = request.image.config.created.as_deref();
    let named = |name: Option<&Reference>| {
        let mut annotations = Annotations::new();
        if let Some(name) = name {
            annotations.insert("io.containerd.image.name".into(), name.to_string());
            annotations.insert(transfer::REF_NAME.into(), name.tag().unwrap_or("latest").into());
        }
        if let Some(created) = created {
            annotations.insert("org.opencontainers.image.created".into(), created.into());
        }
        Descriptor { annotations, ..documents.descriptor.clone() }
    };
    let manifests = match request.names {
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

/// What `docker load` reads.
fn docker_manifest(documents: &Manifested, names: &[Reference]) -> serde_json::Value {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let tags: Vec<String> =
        names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
    let layers: Vec<String> = documents.layers.iter().map(|layer| path(&layer.digest)).collect();
    json!([{ "Config": path(&documents.config_descriptor.digest), "RepoTags": tags, "Layers": layers }])
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

/// All times are 0: the same image gives the same archive.
fn header(path: &str, kind: EntryKind, mode: u32) -> Entry {
    Entry {
        path: path.as_bytes().into(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
    }
}
