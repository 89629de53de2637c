//! Changes into a layer: one thread reads ahead while another hashes and compresses.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use store::Entry;
use store::tree::{Content, LayerFiles, NodeKind};

use super::difference::TreeChange;
use super::{FilesError, display};

/// Files of at most this many bytes are read ahead as a whole, so many at a time.
const SMALL: u64 = 128 << 10;
const AHEAD: usize = 64;
/// With fewer files a second thread costs more than it brings.
const WORTH_A_THREAD: usize = 16;

/// Takes an entry with its content.
pub(super) type Append<'a> = dyn FnMut(Entry, Option<&mut dyn Read>) -> Result<(), FilesError> + 'a;

/// Content that was read or opened ahead.
enum Ahead {
    Read(Vec<u8>),
    Open(Box<dyn Read + Send>),
}

pub(super) fn write(
    changes: &[TreeChange<'_>],
    layers: &dyn LayerFiles,
    append: &mut Append<'_>,
) -> Result<(), FilesError> {
    let files = changes.iter().filter(|change| file(change).is_some()).count();
    if files < WORTH_A_THREAD {
        for change in changes {
            append_one(change, || fetch(change, layers), append)?;
        }
        return Ok(());
    }
    std::thread::scope(|scope| {
        let (send, receive): (SyncSender<_>, Receiver<Result<Ahead, FilesError>>) =
            sync_channel(AHEAD);
        scope.spawn(move || {
            for change in changes.iter().filter(|change| file(change).is_some()) {
                // The receiver is gone after an error.
                if send.send(fetch(change, layers)).is_err() {
                    return;
                }
            }
        });
        // Dropped at the end of this closure, before the thread is waited for.
        let receive = receive;
        for change in changes {
            let next = || receive.recv().unwrap_or_else(|_| Err(gone(change)));
            append_one(change, next, append)?;
        }
        Ok(())
    })
}

fn gone(change: &TreeChange<'_>) -> FilesError {
    let source = io::Error::other("reading ahead stopped");
    FilesError::Read { path: path(change), source }
}

fn path(change: &TreeChange<'_>) -> String {
    display(&change.to_entry().path)
}

/// The content of a change that has one.
fn file<'a>(change: &TreeChange<'a>) -> Option<(u64, &'a Content)> {
    match &change.node()?.kind {
        NodeKind::File { size, content, .. } => Some((*size, content)),
        _ => None,
    }
}

fn fetch(change: &TreeChange<'_>, layers: &dyn LayerFiles) -> Result<Ahead, FilesError> {
    let Some((size, content)) = file(change) else { return Ok(Ahead::Read(Vec::new())) };
    let failed = |source| FilesError::Read { path: path(change), source };
    if size == 0 {
        return Ok(Ahead::Read(Vec::new()));
    }
    let reader = content.open(size, layers).map_err(failed)?;
    if size > SMALL {
        return Ok(Ahead::Open(reader));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    reader.take(size).read_to_end(&mut bytes).map_err(failed)?;
    if (bytes.len() as u64) < size {
        return Err(failed(io::Error::other("it became shorter while it was read")));
    }
    Ok(Ahead::Read(bytes))
}

fn append_one(
    change: &TreeChange<'_>,
    fetch: impl FnOnce() -> Result<Ahead, FilesError>,
    append: &mut Append<'_>,
) -> Result<(), FilesError> {
    let entry = change.to_entry();
    let Some((size, _)) = file(change) else { return append(entry, None) };
    match fetch()? {
        Ahead::Read(bytes) => append(entry, Some(&mut bytes.as_slice())),
        Ahead::Open(reader) => append(entry, Some(&mut reader.take(size))),
    }
}
