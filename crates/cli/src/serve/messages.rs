//! Progress as clients of an engine expect it.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Mutex;

use ::engine::{Message, ProgressSender};
use graph::{Event, Events, TaskEvent};

/// Text of a build, as it is written.
pub(super) struct StreamWriter(pub ProgressSender);

impl Write for StreamWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A part of a character can only be at the end of what a renderer writes, and it writes lines.
        self.0.send(&Message::stream(String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The words for the parts of a pull or a push.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    pub(super) begun: &'static str,
    pub(super) moving: &'static str,
    pub(super) done: &'static str,
}

pub(super) const PULL: Words =
    Words { begun: "Pulling fs layer", moving: "Downloading", done: "Pull complete" };
pub(super) const PUSH: Words = Words { begun: "Preparing", moving: "Pushing", done: "Pushed" };

/// A sink that says of each blob what becomes of it.
pub(super) fn transfers(progress: ProgressSender, words: Words) -> Events {
    let begun = Mutex::new(HashSet::new());
    Events::new(move |event: Event| {
        let transfer = match event.what {
            TaskEvent::Transfer(transfer) => transfer,
            TaskEvent::Warning(text) => return progress.send(&Message::status(&*text)),
            _ => return,
        };
        let Some(id) = blob_id(&transfer.name) else { return };
        let is_first = begun.lock().is_ok_and(|mut begun| begun.insert(id.clone()));
        if is_first {
            progress.send(&Message::part(id.as_str(), words.begun, None));
        }
        progress.send(&match transfer.completed {
            Some(_) => Message::part(id, words.done, None),
            None => Message::part(id, words.moving, Some((transfer.current, transfer.total))),
        });
    })
}

/// The first twelve digits of the digest in a part's name.
fn blob_id(name: &str) -> Option<String> {
    let (_, rest) = name.split_once("sha256:")?;
    let hex = rest.get(..12)?;
    hex.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| hex.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_as_docker_names_layers() {
        let digest = format!("sha256:{}", "0123456789ab".repeat(6));
        assert_eq!(blob_id(&digest).as_deref(), Some("0123456789ab"));
        assert_eq!(blob_id(&format!("extracting {digest}")).as_deref(), Some("0123456789ab"));
        assert_eq!(blob_id("transferring context:"), None);
        assert_eq!(blob_id("sha256:short"), None);
    }
}
