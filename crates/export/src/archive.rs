//! An image in the OCI layout, as a folder or an archive, which `docker load` reads too.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use graph::TaskId;
use oci::{Annotations, Descriptor, Digest, Index, Reference, media_type};
use serde_json::json;
use store::tar::TarWriter;
use store::{Entry, EntryKind, Time};
use transfer::Transfer;

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

/// A file of the archive.
struct Part {
    path: String,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    Blob(PathBuf, u64),
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
    let (documents, parts) = parts(transfer, request).await?;
    blocking(move || write_parts(parts, out)).await?;
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
    let (documents, parts) = parts(transfer, request).await?;
    let folder = folder.to_owned();
    blocking(move || write_folder(&parts, &folder)).await?;
    Ok(documents)
}

async fn parts(
    transfer: &Transfer,
    request: &ArchiveRequest<'_>,
) -> Result<(Manifested, Vec<Part>), Error> {
    let documents = request.image.manifest(transfer, request.format, request.task).await?;
    let layers = &request.image.layers;
    let fetched = (0..layers.len())
        .map(|index| transfer.blob(layers, index, request.format.layers, request.task));
    futures_util::future::try_join_all(fetched).await?;

    let mut blobs = vec![
        blob_part(documents.descriptor.digest, Content::Bytes(documents.manifest.clone())),
        blob_part(documents.config_descriptor.digest, Content::Bytes(documents.config.clone())),
    ];
    let mut seen = BTreeSet::new();
    for layer in documents.layers.iter().filter(|layer| seen.insert(layer.digest)) {
        blobs.push(blob_part(
            layer.digest,
            Content::Blob(transfer.store().blob_path(&layer.digest), layer.size),
        ));
    }
    blobs.sort_by(|a, b| a.path.cmp(&b.path));

    let mut parts = blobs;
    parts.push(bytes_part(
        "index.json",
        json_bytes(&index(
            &documents.descriptor,
            request.names,
            request.image.config.created.as_deref(),
        )),
    ));
    if request.kind == ArchiveKind::Docker {
        parts.push(bytes_part(
            "manifest.json",
            json_bytes(&docker_manifest(&documents, request.names)),
        ));
    }
    parts.push(bytes_part("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    Ok((documents, parts))
}

fn blob_part(digest: Digest, content: Content) -> Part {
    Part { path: format!("blobs/sha256/{}", digest.hex()), content }
}

fn bytes_part(path: &str, bytes: Vec<u8>) -> Part {
    Part { path: path.into(), content: Content::Bytes(bytes) }
}

fn json_bytes(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("keys are texts")
}

/// One entry for each name, with the annotations that containerd and umoci look for.
fn index(descriptor: &Descriptor, names: &[Reference], created: Option<&str>) -> Index {
    let named = |name: Option<&Reference>| {
        let mut annotations = Annotations::new();
        if let Some(name) = name {
            annotations.insert("io.containerd.image.name".into(), name.to_string());
            annotations.insert(
                "org.opencontainers.image.ref.name".into(),
                name.tag().unwrap_or("latest").into(),
            );
        }
        if let Some(created) = created {
            annotations.insert("org.opencontainers.image.created".into(), created.into());
        }
        Descriptor { annotations, ..descriptor.clone() }
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

/// What `docker load` reads.
fn docker_manifest(documents: &Manifested, names: &[Reference]) -> serde_json::Value {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let tags: Vec<String> =
        names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
    let layers: Vec<String> = documents.layers.iter().map(|layer| path(&layer.digest)).collect();
    json!([{ "Config": path(&documents.config_descriptor.digest), "RepoTags": tags, "Layers": layers }])
}

fn write_parts(parts: Vec<Part>, out: impl Write) -> Result<(), Error> {
    let mut tar = TarWriter::new(io::BufWriter::with_capacity(1 << 18, out));
    let mut folders = BTreeSet::new();
    for part in parts {
        for (at, _) in part.path.match_indices('/') {
            if folders.insert(part.path[..at].to_owned()) {
                tar.append(
                    &header(&part.path[..at], EntryKind::Directory, 0o755),
                    &mut io::empty(),
                )?;
            }
        }
        match part.content {
            Content::Bytes(bytes) => tar.append(
                &header(&part.path, EntryKind::File { size: bytes.len() as u64 }, 0o644),
                &mut bytes.as_slice(),
            )?,
            Content::Blob(path, size) => tar.append(
                &header(&part.path, EntryKind::File { size }, 0o644),
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

fn write_folder(parts: &[Part], folder: &Path) -> Result<(), Error> {
    for part in parts {
        let path = folder.join(&part.path);
        let written = match (&part.content, part.path.as_str()) {
            (Content::Bytes(bytes), "index.json") => merged_index(&path, bytes)
                .and_then(|bytes| write_file(&path, &mut bytes.as_slice())),
            (Content::Bytes(bytes), _) => write_file(&path, &mut bytes.as_slice()),
            (Content::Blob(..), _) if path.exists() => Ok(()),
            (Content::Blob(blob, _), _) => {
                File::open(blob).and_then(|mut blob| write_file(&path, &mut blob))
            }
        };
        written.map_err(|source| Error::Write { path, source })?;
    }
    Ok(())
}

/// The index with images of other names kept.
fn merged_index(path: &Path, ours: &[u8]) -> io::Result<Vec<u8>> {
    let Ok(there) = fs::read(path) else { return Ok(ours.to_vec()) };
    let (Ok(there), Ok(mut index)) =
        (serde_json::from_slice::<Index>(&there), serde_json::from_slice::<Index>(ours))
    else {
        return Err(io::Error::other("what is there is not an OCI index"));
    };
    let name = |descriptor: &Descriptor| {
        descriptor.annotations.get("org.opencontainers.image.ref.name").cloned()
    };
    let names: BTreeSet<Option<String>> = index.manifests.iter().map(name).collect();
    let kept = there.manifests.into_iter().filter(|descriptor| !names.contains(&name(descriptor)));
    index.manifests = kept.chain(index.manifests).collect();
    Ok(json_bytes(&index))
}

/// Writes a file beside its name, then gives it the name.
fn write_file(path: &Path, content: &mut dyn Read) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    // The file itself: the wrapper's errors name the temporary path.
    io::copy(content, file.as_file_mut())?;
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // Cancellation happens only when the runtime shuts down, and then nobody waits here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
