//! Layers whose files are filled when they are opened, without a container around them.

use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use layer::{Compression, Entry, EntryKind};
use store::{OpenOptions, Privileges, Store};

/// Several fill a program at once, and each executes it as soon as its own call is over.
#[test]
fn a_program_can_be_executed_as_soon_as_it_is_filled() {
    const PROGRAMS: u32 = 12;
    let Ok(program) = std::fs::read("/bin/busybox") else {
        return fixtures::skip("hollow", "there is no busybox");
    };
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions::new(Privileges::Root);
    let Some(store) = fixtures::is_root().then(|| Store::open(folder.path(), options).unwrap())
    else {
        return fixtures::skip("hollow", "it needs root");
    };
    let share = match store.watch_opens() {
        Ok(share) => share,
        Err(error) => return fixtures::skip("hollow", format!("no opens are held here: {error}")),
    };
    let mut writer = store.layer_writer(Compression::Zstd(None)).unwrap();
    for number in 0..PROGRAMS {
        let size = program.len() as u64;
        let entry =
            Entry::new(format!("{number:02}").into_bytes(), EntryKind::File { size }, 0o755);
        writer.append(&entry, Some(&mut &program[..])).unwrap();
    }
    let layer = writer.finish().unwrap();
    let blob = layer.blob.clone().unwrap();
    let hollow = store.hollow(&layer.diff_id, &blob, &[]).unwrap().unwrap();
    let snapshot = store.snapshot(&[layer.diff_id]).unwrap();

    let archive = store::open_regular(&store.blob_path(&blob.digest)).unwrap();
    let bring = |files: &[u32]| {
        for range in hollow.missing(files).unwrap() {
            let mut bytes = vec![0; (range.bytes.end - range.bytes.start) as usize];
            archive.read_exact_at(&mut bytes, range.bytes.start).unwrap();
            hollow.put(&range, &bytes, 0).unwrap();
        }
    };

    // A file without its blocks is not filled.
    assert!(hollow.fill(0).is_err());
    // An open waits for it.
    let (sender, wanted) = std::sync::mpsc::channel();
    hollow.fill_by(Box::new(move |file| sender.send(file).unwrap()));
    let path = snapshot.lowers[0].join("00");
    let reading = std::thread::spawn(move || std::fs::read(path).unwrap());
    assert_eq!(wanted.recv_timeout(Duration::from_secs(60)).unwrap(), 0);
    assert!(!reading.is_finished());
    bring(&[0]);
    hollow.fill(0).unwrap();
    assert!(reading.join().unwrap() == program);

    let all: Vec<u32> = (0..PROGRAMS).collect();
    bring(&all);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in &all {
                    hollow.fill(*number).unwrap();
                    let mut command = Command::new(snapshot.lowers[0].join(format!("{number:02}")));
                    command.arg0("busybox").arg("true").stdin(Stdio::null());
                    let alone = share.writing.write().unwrap();
                    let started = command.spawn();
                    drop(alone);
                    assert!(started.unwrap().wait().unwrap().success(), "{number}");
                }
            });
        }
    });
}
