//! Layers whose files are no younger than an epoch (`rewrite-timestamp`).

use layer::{Compression, EntryKind, Layer, Time};
use oci::Digest;
use store::Store;
use transfer::{Meter, Transfer, blocking};

use crate::{Error, Image, Writing};

/// Rewrites this build's layers with no file time later than the epoch. The base's layers are
/// unchanged, as in BuildKit.
///
/// # Errors
/// If a layer cannot be found, or written.
pub(crate) async fn clamp_layers(
    transfer: &Transfer,
    image: &mut Image,
    epoch: i64,
    writing: &Writing<'_>,
) -> Result<(), Error> {
    image.rewritten = Some(epoch);
    let from = image.base_layers.min(image.layers.len());
    if from == image.layers.len() {
        return Ok(());
    }
    let what = match jiff::Timestamp::from_second(epoch) {
        Ok(time) => format!("rewriting layers with source-date-epoch {epoch} ({time})"),
        Err(_) => format!("rewriting layers with source-date-epoch {epoch}"),
    };
    let meter = Meter::start(transfer.events(), writing.task, what, 0);
    let compression = writing.format.layers.compression;
    let mut written = image.layers[..from].to_vec();
    for index in from..image.layers.len() {
        transfer.unpack_at(&image.layers, index, writing.task).await?;
        let (store, layer) = (transfer.store().clone(), image.layers[index].clone());
        let clamped = blocking(move || clamp_layer(&store, &layer, epoch, compression)).await?;
        written.push(clamped);
    }
    image.layers = written;
    meter.finish();
    Ok(())
}

/// A layer without later times; the same layer, if it has none.
fn clamp_layer(
    store: &Store,
    layer: &Layer,
    epoch: i64,
    compression: Compression,
) -> Result<Layer, Error> {
    let limit = Time { seconds: epoch, nanos: 0 };
    let index = store.index(&layer.diff_id)?;
    if index.entries().iter().all(|entry| entry.mtime <= limit) {
        return Ok(layer.clone());
    }
    // Writing it took time once: the next build may have it.
    let key = [layer.diff_id.as_bytes().as_slice(), &epoch.to_be_bytes()].concat();
    if let Some(known) = remembered(store, &key)? {
        let blob = store.compress(&known, compression);
        if let (Ok(blob), true) = (blob, store.has_index(&known)) {
            let made =
                Layer { diff_id: known, blob: Some(blob), places: Vec::new(), ..layer.clone() };
            return Ok(made);
        }
    }
    let mut writer = store.layer_writer(compression)?;
    for entry in index.entries() {
        let mut entry = entry.clone();
        entry.mtime = entry.mtime.min(limit);
        match entry.kind {
            EntryKind::File { .. } => {
                let path = &entry.path;
                let mut content = store.open_file(&layer.diff_id, path).map_err(|source| {
                    Error::Read { path: String::from_utf8_lossy(path).into_owned().into(), source }
                })?;
                writer.append(&entry, Some(&mut content))?;
            }
            _ => writer.append(&entry, None)?,
        }
    }
    let made = writer.finish()?;
    store.db().memo_put(REWRITTEN, &[(&key, made.diff_id.as_bytes())])?;
    Ok(Layer { created: layer.created.clone(), ..made })
}

/// Under which kind of memo a layer's rewritten diffID is remembered.
const REWRITTEN: &str = "layers without later times";

fn remembered(store: &Store, key: &[u8]) -> Result<Option<Digest>, Error> {
    let known = store.db().memo_get(REWRITTEN, &[key])?.pop().flatten();
    Ok(known.and_then(|bytes| bytes.try_into().ok()).map(Digest::from_bytes))
}
