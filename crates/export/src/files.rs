//! The files of a result: in a folder, or as an archive.

use std::io::{self, Write};
use std::path::Path;

use graph::TaskId;
use oci::Digest;
use store::tar::TarWriter;
use store::tree::NodeKind;
use store::{Layer, Store, Tree};
use transfer::{Transfer, blocking};

use crate::Error;

/// Writes the files of a result into a folder. What is there already stays; what has the same
/// name gives way.
///
/// # Errors
/// If a layer is nowhere, or the folder cannot be written.
pub async fn write_folder(
    transfer: &Transfer,
    layers: &[Layer],
    folder: &Path,
    task: Option<TaskId>,
) -> Result<(), Error> {
    transfer.unpack(layers, task).await?;
    let (store, folder) = (transfer.store().clone(), folder.to_owned());
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
    blocking(move || {
        std::fs::create_dir_all(&folder)
            .map_err(|source| Error::Write { path: folder.clone(), source })?;
        Ok(store.checkout(&diff_ids, &folder)?)
    })
    .await
}

/// Writes the files of a result as an archive, in the order of their paths.
///
/// # Errors
/// If a layer is nowhere, or the archive cannot be written.
pub async fn write_tar(
    transfer: &Transfer,
    layers: &[Layer],
    out: impl Write + Send + 'static,
    task: Option<TaskId>,
) -> Result<(), Error> {
    transfer.unpack(layers, task).await?;
    let store = transfer.store().clone();
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
    blocking(move || archive(&store, &diff_ids, out)).await
}

fn archive(store: &Store, diff_ids: &[Digest], out: impl Write) -> Result<(), Error> {
    let mut tree = Tree::new();
    for diff_id in diff_ids {
        tree.apply_layer(*diff_id, &*store.index(diff_id)?)
            .map_err(|error| Error::Format(error.to_string()))?;
    }
    let mut tar = TarWriter::new(io::BufWriter::with_capacity(1 << 18, out));
    let mut result = Ok(());
    tree.walk(|path, node| {
        if result.is_err() || path.is_empty() {
            return;
        }
        let entry = node.to_entry(path);
        result = match &node.kind {
            NodeKind::File { size, content, .. } => content
                .open(*size, store)
                .map_err(Error::WriteArchive)
                .and_then(|mut content| Ok(tar.append(&entry, &mut content)?)),
            _ => tar.append(&entry, &mut io::empty()).map_err(Error::from),
        };
    });
    result?;
    tar.finish()?.flush().map_err(Error::WriteArchive)
}
