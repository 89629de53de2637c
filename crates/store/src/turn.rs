//! Turns: of several builds on one root that want the same thing, one makes it, and the others wait
//! for it.
//!
//! A turn is a lock (flock(2)) on a file that is named for the work. The lock belongs to the open
//! file, so it works between processes and within one, and it ends with its holder, however that
//! ends. A holder that did its work says how it ended, so that those who waited do not wait for each
//! other as well. The file goes with the turn: a request that gets the lock of a file without a
//! name asks again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oci::Digest;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::Store;
use crate::disk::make_folder;

/// The folder of turns in a store.
const FOLDER: &str = "turns";

/// The number of files that may lose their names while one of them is asked for.
const MOST_REOPENED: usize = 64;

/// The outcome of the work that a turn was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// It was done.
    Made,
    /// It failed. Each build that wants it finds out by trying.
    Failed,
}

/// The answer to who asks for a turn.
#[derive(Debug)]
pub enum TurnAnswer {
    /// It is the asker's.
    Own(Turn),
    /// Another has it: ask again later.
    Taken,
    /// Another had it, and did its work since this one asked first.
    Over(TurnEnd),
    /// There are no locks here: everybody works alone.
    Unavailable,
}

/// A request for a turn, to be asked until it is answered.
#[derive(Debug)]
pub struct TurnRequest {
    path: PathBuf,
    /// The file whose lock another had.
    file: Option<File>,
}

/// A turn. Dropped without [`end`](Self::end), another has it next.
#[derive(Debug)]
pub struct Turn {
    file: File,
    path: PathBuf,
}

impl Store {
    /// A request for the turn at some work, whose name says all that the work depends on.
    pub fn turn(&self, work: &str) -> TurnRequest {
        let path = self.inner.base.join(FOLDER).join(Digest::of(work).hex());
        TurnRequest { path, file: None }
    }
}

impl TurnRequest {
    /// Asks, without waiting.
    pub fn ask(&mut self) -> TurnAnswer {
        for _ in 0..MOST_REOPENED {
            let known = self.file.take();
            let has_waited = known.is_some();
            let Some(file) = known.or_else(|| open(&self.path).ok()) else {
                return TurnAnswer::Unavailable;
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    self.file = Some(file);
                    return TurnAnswer::Taken;
                }
                Err(Errno::INTR) => continue,
                Err(_) => return TurnAnswer::Unavailable,
            }
            let turn = Turn { file, path: self.path.clone() };
            match (turn.ended(), turn.has_name()) {
                // Left by a process that was killed when it had said so. A request that did not
                // wait for it cannot know how long ago that was.
                (Some(end), true) => {
                    drop(turn);
                    if has_waited {
                        return TurnAnswer::Over(end);
                    }
                }
                (Some(end), false) => return TurnAnswer::Over(end),
                (None, true) => return TurnAnswer::Own(turn),
                (None, false) => {}
            }
        }
        TurnAnswer::Taken
    }
}

impl Turn {
    /// Ends the turn, and with it the wait of all others.
    pub fn end(self, end: TurnEnd) {
        let text: &[u8] = match end {
            TurnEnd::Made => b"made",
            TurnEnd::Failed => b"failed",
        };
        // Without the mark, one of those who wait has the turn next.
        let _ = self.file.write_all_at(text, 0);
    }

    /// The mark of an earlier holder.
    fn ended(&self) -> Option<TurnEnd> {
        let mut text = [0; 8];
        let count = self.file.read_at(&mut text, 0).unwrap_or(0);
        match &text[..count] {
            b"made" => Some(TurnEnd::Made),
            b"failed" => Some(TurnEnd::Failed),
            _ => None,
        }
    }

    /// True if the file still has its name.
    fn has_name(&self) -> bool {
        let (Ok(own), Ok(named)) = (self.file.metadata(), fs::symlink_metadata(&self.path)) else {
            return false;
        };
        (own.dev(), own.ino()) == (named.dev(), named.ino())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The lock is still held, so the name is this turn's.
        if self.has_name() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes files of turns whose holders were killed.
pub(crate) fn sweep(base: &Path) {
    let files = fs::read_dir(base.join(FOLDER)).into_iter().flatten().flatten();
    for path in files.map(|entry| entry.path()) {
        if let Ok(file) = File::options().read(true).write(true).open(&path)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            drop(Turn { file, path });
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let open = || {
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
    };
    match (open(), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(folder, 0o700).map_err(io::Error::other)?;
            open()
        }
        (opened, _) => opened,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;
    use crate::{OpenOptions, Privileges};

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), OpenOptions::new(Privileges::None)).unwrap();
        (folder, store)
    }

    fn left(store: &Store) -> usize {
        fs::read_dir(store.inner.base.join(FOLDER)).map_or(0, Iterator::count)
    }

    fn own(answer: TurnAnswer) -> Turn {
        match answer {
            TurnAnswer::Own(turn) => turn,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_has_it_and_others_hear_how_it_ended() {
        let (_folder, store) = store();
        for end in [TurnEnd::Made, TurnEnd::Failed] {
            let turn = own(store.turn("a").ask());
            let (mut second, mut third) = (store.turn("a"), store.turn("a"));
            assert!(matches!(second.ask(), TurnAnswer::Taken));
            assert!(matches!(third.ask(), TurnAnswer::Taken));
            drop(own(store.turn("b").ask()));
            turn.end(end);
            // One that comes later does not hear of it.
            let later = own(store.turn("a").ask());
            for waited in [&mut second, &mut third] {
                assert!(matches!(waited.ask(), TurnAnswer::Over(said) if said == end));
            }
            drop(later);
        }
        assert_eq!(left(&store), 0);
    }

    #[test]
    fn one_of_those_who_wait_has_it_next_if_it_was_given_up() {
        let (_folder, store) = store();
        let turn = own(store.turn("a").ask());
        let (mut second, mut third) = (store.turn("a"), store.turn("a"));
        assert!(matches!(second.ask(), TurnAnswer::Taken));
        assert!(matches!(third.ask(), TurnAnswer::Taken));
        drop(turn);
        let next = own(second.ask());
        assert!(matches!(third.ask(), TurnAnswer::Taken));
        next.end(TurnEnd::Made);
        assert!(matches!(third.ask(), TurnAnswer::Over(TurnEnd::Made)));
        assert_eq!(left(&store), 0);
    }

    /// A process that is killed leaves its file, without a lock.
    #[test]
    fn what_killed_holders_leave_is_taken_and_swept() {
        let (_folder, store) = store();
        let folder = store.inner.base.join(FOLDER);
        drop(own(store.turn("a").ask()));
        for text in ["", "made", "failed", "anything else"] {
            fs::write(&store.turn("a").path, text).unwrap();
            let turn = own(store.turn("a").ask());
            assert!(matches!(store.turn("a").ask(), TurnAnswer::Taken), "{text}");
            drop(turn);
        }
        let turn = own(store.turn("held").ask());
        fs::write(folder.join("left"), "").unwrap();
        sweep(&store.inner.base);
        assert!(matches!(store.turn("held").ask(), TurnAnswer::Taken));
        assert_eq!(left(&store), 1);
        turn.end(TurnEnd::Made);
        assert_eq!(left(&store), 0);
    }

    #[test]
    fn without_locks_everybody_works_alone() {
        let (_folder, store) = store();
        fs::write(store.inner.base.join(FOLDER), "no folder").unwrap();
        assert!(matches!(store.turn("a").ask(), TurnAnswer::Unavailable));
        fs::remove_file(store.inner.base.join(FOLDER)).unwrap();
        drop(own(store.turn("a").ask()));
        std::os::unix::fs::symlink("elsewhere", store.turn("a").path).unwrap();
        assert!(matches!(store.turn("a").ask(), TurnAnswer::Unavailable));
        assert!(!store.inner.base.join(FOLDER).join("elsewhere").exists());
    }

    /// The state of some work.
    #[derive(Default)]
    struct Piece {
        holders: usize,
        done: bool,
        times: usize,
    }

    #[test]
    fn many_threads_do_each_piece_once() {
        const PIECES: usize = 5;
        let (_folder, store) = store();
        let pieces: Mutex<HashMap<usize, Piece>> = Mutex::default();
        let work = |thread: usize| {
            for round in 0..PIECES {
                let number = (thread + round) % PIECES;
                let mut request = store.turn(&format!("piece {number}"));
                loop {
                    match request.ask() {
                        TurnAnswer::Taken => std::thread::yield_now(),
                        TurnAnswer::Over(end) => {
                            assert_eq!(end, TurnEnd::Made);
                            assert!(pieces.lock().unwrap()[&number].done);
                            break;
                        }
                        TurnAnswer::Unavailable => panic!("no locks"),
                        TurnAnswer::Own(turn) => {
                            {
                                let mut pieces = pieces.lock().unwrap();
                                let piece = pieces.entry(number).or_default();
                                piece.holders += 1;
                                assert_eq!(piece.holders, 1);
                                piece.times += usize::from(!piece.done);
                            }
                            std::thread::yield_now();
                            let mut pieces = pieces.lock().unwrap();
                            let piece = pieces.get_mut(&number).unwrap();
                            piece.holders -= 1;
                            // Some are given up before it is done.
                            if thread.is_multiple_of(3) && !piece.done {
                                piece.times -= 1;
                                drop(turn);
                            } else {
                                piece.done = true;
                                turn.end(TurnEnd::Made);
                                break;
                            }
                        }
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for thread in 1..13 {
                let work = &work;
                scope.spawn(move || work(thread));
            }
        });
        assert!(pieces.into_inner().unwrap().values().all(|piece| piece.times == 1));
        assert_eq!(left(&store), 0);
    }
}
