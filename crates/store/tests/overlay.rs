//! A snapshot mounted like a container's, changed through the mount, and committed.

use std::fs;
use std::process::Command;

use oci::Digest;
use store::{MountPoints, OpenOptions, PackedLayer, Privileges, Store};

mod changes;

use changes::{listed, on_disk};

#[test]
fn what_is_done_in_a_mounted_snapshot_is_what_its_layer_says() {
    if !rustix::process::geteuid().is_root() {
        return fixtures::skip("overlay", "it needs root");
    }
    // tmpfs and overlay cannot always be upper directories; the disk of the target folder mostly
    // can.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mounted = folder.path().join("mounted");
    fs::create_dir(&mounted).unwrap();
    let open = || {
        let store = Store::open(&folder.path().join("root"), OpenOptions::new(Privileges::Root));
        store.ok()
    };
    let Some(store) = open() else {
        return fixtures::skip("overlay", "no store for root here");
    };
    let base = changes::base(&store);
    for (script, expected) in changes::CASES {
        let snapshot = store.snapshot(&[base]).unwrap();
        let lowers: Vec<_> = snapshot.lowers.iter().map(|path| path.to_str().unwrap()).collect();
        let script = format!(
            "mount -t overlay overlay -o redirect_dir=off,metacopy=off,index=off,lowerdir={},upperdir={},\
             workdir={} {target} || exit 77; cd {target}; set -e\n{script}",
            lowers.join(":"),
            snapshot.upper.display(),
            snapshot.work.display(),
            target = mounted.display(),
        );
        let status = Command::new("unshare").args(["-m", "sh", "-c", &script]).status();
        match status.map(|status| status.code()) {
            Ok(Some(0)) => {}
            other => {
                let reason = format!("cannot mount an overlay here ({other:?})");
                return fixtures::skip("overlay", &reason);
            }
        }
        let layer = snapshot.commit(&MountPoints::default(), None).unwrap();
        assert_eq!(listed(&store, &layer.diff_id), *expected, "{script}");
        // Other chains can have the same layer, so its folder must match its entries exactly.
        let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(on_disk(&store, &layer.diff_id), expected, "{script}");
        assert!(!is_opaque_anywhere(&store, &layer.diff_id), "{script}");
        if !script.contains(".wh.") {
            // From the outside: another store sees the same layer.
            let blob = store.compress(&layer.diff_id, layer::Compression::Gzip(None)).unwrap();
            let packed = PackedLayer::new(&blob, layer.diff_id, &[]);
            let options = OpenOptions::new(Privileges::None);
            let other = Store::open(&folder.path().join("other"), options).unwrap();
            let again = other.unpack(store.open_blob(&blob.digest).unwrap(), &packed).unwrap();
            assert_eq!(again.entries(), store.index(&layer.diff_id).unwrap().entries());
        }
    }
}

/// True if a folder of a layer hides the content below it.
fn is_opaque_anywhere(store: &Store, diff_id: &Digest) -> bool {
    let root = store.layer_folder(diff_id);
    listed(store, diff_id).iter().filter(|path| path.ends_with('/')).any(|path| {
        let mut value = [0; 1];
        rustix::fs::lgetxattr(root.join(path), "trusted.overlay.opaque", &mut value[..]).is_ok()
    })
}
