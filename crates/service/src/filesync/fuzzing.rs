//! A sender that says anything.

use prost::Message as _;

use super::TransferLimits;
use super::order::Order;
use super::receive::Receiver;
use super::target::OpenFolder;
use crate::proto::fsutil::Packet;

const LIMITS: TransferLimits = TransferLimits { entries: 1000, bytes: 1 << 20, names: 1 << 16 };

/// Receives length-delimited packets into a folder. Nothing outside of it may change.
///
/// # Panics
/// If something beside the folder changed.
pub fn file_sync(mut bytes: &[u8]) {
    let Ok(outer) = tempfile::tempdir() else { return };
    let (tree, staging) = (outer.path().join("tree"), outer.path().join("staging"));
    for folder in [&tree, &staging] {
        if std::fs::create_dir(folder).is_err() {
            return;
        }
    }
    let (Ok(root), Ok(staging)) = (OpenFolder::root(&tree), OpenFolder::root(&staging)) else {
        return;
    };
    let Ok(own) = root.fd.try_clone() else { return };
    let (send, mut asked) = tokio::sync::mpsc::channel(256);
    let mut receiver = Receiver::new(own, staging.fd, LIMITS, send);
    let mut order = Some(Order::new(root));
    while let Ok(packet) = Packet::decode_length_delimited(&mut bytes) {
        if receiver.take(packet, &mut order).is_err() {
            break;
        }
        while asked.try_recv().is_ok() {}
        if order.is_none() && receiver.is_idle() {
            // Links and folders are last.
            let _ = receiver.finish();
            break;
        }
    }
    let beside = std::fs::read_dir(outer.path()).map_or(2, Iterator::count);
    assert_eq!(beside, 2, "something was written beside the folder");
}
