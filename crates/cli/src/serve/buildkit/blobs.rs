//! Blobs between a client's stores and folders of the OCI layout here.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use oci::{Descriptor, Digest};
use serde::Deserialize;
use service::{ClientSession, SolveError};
use store::Store;

use super::failed;

/// Larger documents are no manifests.
const LARGEST_MANIFEST: u64 = 16 << 20;
/// The most blobs of one image or cache.
const MOST_BLOBS: usize = 100_000;

/// The blobs that a manifest or an index names.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
}

fn is_manifest(media_type: &str) -> bool {
    ["manifest", "index"].iter().any(|word| media_type.contains(word))
}

/// A folder that blobs are brought to.
#[derive(Clone, Copy)]
pub(super) struct BlobFolder<'a> {
    /// The folder, of the OCI layout.
    pub(super) path: &'a Path,
    /// The store whose blobs are linked into it.
    pub(super) store: &'a Store,
}

/// Brings a manifest or an index, with all that it names, from a client's store to a folder of the
/// OCI layout. What the store here has is not asked for.
///
/// # Errors
/// If a blob is missing, or is not what its digest says.
pub(super) async fn bring(
    session: &ClientSession,
    id: &str,
    digest: Digest,
    to: BlobFolder<'_>,
) -> Result<(), SolveError> {
    let BlobFolder { path: folder, store } = to;
    std::fs::create_dir_all(folder.join("blobs/sha256")).map_err(failed)?;
    let text = r#"{"imageLayoutVersion":"1.0.0"}"#;
    std::fs::write(folder.join("oci-layout"), text).map_err(failed)?;
    let bytes = manifest(session, id, &digest, folder).await?;
    let root: Named = serde_json::from_slice(&bytes).map_err(failed)?;
    let media_type = root.media_type.clone().unwrap_or_else(|| {
        let kind = if root.manifests.is_empty() { "manifest" } else { "index" };
        format!("application/vnd.oci.image.{kind}.v1+json")
    });
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": media_type, "digest": digest, "size": bytes.len(),
            "annotations": { "org.opencontainers.image.ref.name": "latest" },
        }],
    });
    std::fs::write(folder.join("index.json"), index.to_string()).map_err(failed)?;
    let mut known = BTreeSet::from([digest]);
    let mut wanted: VecDeque<Descriptor> = VecDeque::new();
    let mut add = |named: Named, wanted: &mut VecDeque<Descriptor>| {
        for descriptor in named.manifests.into_iter().chain(named.config).chain(named.layers) {
            if known.insert(descriptor.digest) {
                wanted.push_back(descriptor);
            }
        }
        known.len() <= MOST_BLOBS
    };
    let mut are_few = add(root, &mut wanted);
    while let Some(descriptor) = wanted.pop_front() {
        if !are_few {
            return Err(SolveError::new(format!("more than {MOST_BLOBS} blobs in `{id}`")));
        }
        if is_manifest(&descriptor.media_type) {
            let bytes = manifest(session, id, &descriptor.digest, folder).await?;
            let named = serde_json::from_slice(&bytes).map_err(failed)?;
            are_few = add(named, &mut wanted);
        } else {
            let path = folder.join("blobs/sha256").join(descriptor.digest.hex());
            if std::fs::hard_link(store.blob_path(&descriptor.digest), &path).is_err() {
                let size = descriptor.size;
                fetch(session, id, &descriptor.digest, size, &path).await?;
            }
        }
    }
    Ok(())
}

async fn manifest(
    session: &ClientSession,
    id: &str,
    digest: &Digest,
    folder: &Path,
) -> Result<Vec<u8>, SolveError> {
    let path = folder.join("blobs/sha256").join(digest.hex());
    fetch(session, id, digest, LARGEST_MANIFEST, &path).await?;
    std::fs::read(&path).map_err(failed)
}

/// Fetches a blob of at most so many bytes.
async fn fetch(
    session: &ClientSession,
    id: &str,
    digest: &Digest,
    most: u64,
    path: &Path,
) -> Result<(), SolveError> {
    let file = tokio::fs::File::create(path).await.map_err(failed)?;
    let fetched = session.fetch_blob(id, digest, most, file).await;
    fetched.map_err(|status| {
        SolveError::new(format!("blob {digest} of the client: {}", status.message()))
    })
}

/// Sends the blobs of a folder of the OCI layout to a client's store.
///
/// # Errors
/// If the client does not take one.
pub(super) async fn send(
    session: &ClientSession,
    id: &str,
    folder: &Path,
) -> Result<(), SolveError> {
    let blobs = folder.join("blobs/sha256");
    let mut entries = tokio::fs::read_dir(&blobs).await.map_err(failed)?;
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        let name = entry.file_name();
        let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>() else {
            continue;
        };
        let size = entry.metadata().await.map_err(failed)?.len();
        let file = tokio::fs::File::open(entry.path()).await.map_err(failed)?;
        let written = session.write_blob(id, &digest, size, file).await;
        written.map_err(|status| {
            let text = format!("sending blob {digest} to the client: {}", status.message());
            SolveError::new(text)
        })?;
    }
    Ok(())
}
