//! The output of a container, kept line by line in files of bounded size.
//!
//! `log` has the newest lines. When it is half as large as the whole may be, it takes the place of `log.old`, so that
//! the oldest half goes; `log.cut` says that this has happened, and readers begin with a line that does. Each line is a
//! frame: nanoseconds since 1970, stream, length, bytes. Readers follow a writer of this process by its notifications.

mod frame;
mod reader;
mod writer;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use runtime::Stream;
use tokio::sync::watch;

pub(crate) use reader::send_lines;
pub(crate) use writer::LogWriter;

/// Bytes of both files together.
pub(crate) const MOST_BYTES: u64 = 64 << 20;

/// A line of output, or a piece of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputLine {
    /// The time at which it came.
    pub time: SystemTime,
    /// Its stream; with a terminal all is of the output.
    pub stream: Stream,
    /// Its bytes, with the newline if it has one.
    pub bytes: Vec<u8>,
}

/// The lines that a caller asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSelection {
    /// True if new lines are sent until the container ends.
    pub follow: bool,
    /// Those of the output.
    pub stdout: bool,
    /// Those of the errors.
    pub stderr: bool,
    /// Those of this time or later.
    pub since: Option<SystemTime>,
    /// Those of this time or earlier; following ends then.
    pub until: Option<SystemTime>,
    /// The last ones of those that are there.
    pub tail: Option<u64>,
}

impl LogSelection {
    fn wants(&self, line: &OutputLine) -> bool {
        let is_wanted = match line.stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        is_wanted
            && self.since.is_none_or(|since| line.time >= since)
            && self.until.is_none_or(|until| line.time <= until)
    }
}

/// The part of the log that is written, as the writer tells its readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogEnd {
    /// The number of times that `log` was begun anew.
    generation: u64,
    /// Whole frames of `log`, in bytes.
    length: u64,
    /// True if there may be more.
    is_open: bool,
}

/// The notifications of a writer.
pub(crate) type LogEnds = watch::Receiver<LogEnd>;

fn newest(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn oldest(folder: &Path) -> PathBuf {
    folder.join("log.old")
}

fn cut_mark(folder: &Path) -> PathBuf {
    folder.join("log.cut")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    fn all() -> LogSelection {
        LogSelection { stdout: true, stderr: true, ..LogSelection::default() }
    }

    async fn read(folder: &Path, ends: Option<LogEnds>, selection: LogSelection) -> Vec<String> {
        let (sender, mut lines) = mpsc::channel(1);
        let folder = folder.to_owned();
        let work = tokio::task::spawn_blocking(move || {
            send_lines(&folder, ends, &selection, &sender).unwrap();
        });
        let mut texts = Vec::new();
        while let Some(line) = lines.recv().await {
            texts.push(String::from_utf8(line.bytes).unwrap());
        }
        work.await.unwrap();
        texts
    }

    #[tokio::test]
    async fn output_is_kept_in_lines_of_a_stream() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(folder.path(), MOST_BYTES).unwrap();
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"wrong\n").unwrap();
        log.write(Stream::Stdout, b"o\nrest").unwrap();
        let ends = log.ends();
        assert_eq!(read(folder.path(), Some(ends), all()).await, ["one\n", "wrong\n", "two\n"]);
        log.close().unwrap();
        let only = |selection| read(folder.path(), None, selection);
        assert_eq!(only(all()).await, ["one\n", "wrong\n", "two\n", "rest"]);
        assert_eq!(only(LogSelection { stdout: false, ..all() }).await, ["wrong\n"]);
        assert_eq!(only(LogSelection { tail: Some(2), ..all() }).await, ["two\n", "rest"]);
        assert_eq!(only(LogSelection { tail: Some(0), ..all() }).await, [""; 0]);
        let past = Some(SystemTime::UNIX_EPOCH);
        assert_eq!(only(LogSelection { until: past, ..all() }).await, [""; 0]);
        assert_eq!(only(LogSelection { since: past, ..all() }).await.len(), 4);
    }

    #[tokio::test]
    async fn a_reader_follows_the_writer_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(folder.path(), 4096).unwrap();
        log.write(Stream::Stdout, b"before\n").unwrap();
        let follow = LogSelection { follow: true, ..all() };
        let (sender, mut lines) = mpsc::channel(1);
        let (ends, path) = (log.ends(), folder.path().to_owned());
        let work = tokio::task::spawn_blocking(move || {
            send_lines(&path, Some(ends), &follow, &sender).unwrap();
        });
        assert_eq!(lines.recv().await.unwrap().bytes, b"before\n");
        for number in 0..500 {
            log.write(Stream::Stdout, format!("{number}\n").as_bytes()).unwrap();
            // The reader keeps up, so that nothing that it has not read goes.
            let line = loop {
                let line = lines.recv().await.unwrap();
                if line.stream == Stream::Stdout {
                    break line;
                }
            };
            assert_eq!(line.bytes, format!("{number}\n").as_bytes());
        }
        log.close().unwrap();
        assert_eq!(lines.recv().await, None);
        work.await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_nobody_listens_to_ends() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogWriter::open(folder.path(), 4096).unwrap();
        let follow = LogSelection { follow: true, ..all() };
        let (sender, lines) = mpsc::channel(1);
        let (ends, path) = (log.ends(), folder.path().to_owned());
        let work =
            tokio::task::spawn_blocking(move || send_lines(&path, Some(ends), &follow, &sender));
        drop(lines);
        work.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_oldest_half_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(folder.path(), 2000).unwrap();
        for number in 0..200 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes()).unwrap();
        }
        log.close().unwrap();
        let size: u64 = [newest(folder.path()), oldest(folder.path())]
            .iter()
            .map(|path| std::fs::metadata(path).unwrap().len())
            .sum();
        assert!(size <= 2000, "{size}");
        let lines = read(folder.path(), None, all()).await;
        assert!(
            lines[0].contains("left out") && lines.last().unwrap() == "line 199\n",
            "{lines:?}"
        );
        assert!(lines.contains(&"line 180\n".to_owned()));
    }

    #[tokio::test]
    async fn half_a_frame_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(folder.path(), MOST_BYTES).unwrap();
        log.write(Stream::Stdout, b"whole\n").unwrap();
        log.close().unwrap();
        let mut bytes = std::fs::read(newest(folder.path())).unwrap();
        let whole = bytes.clone();
        bytes.extend(&whole[..whole.len() - 2]);
        std::fs::write(newest(folder.path()), bytes).unwrap();
        assert_eq!(read(folder.path(), None, all()).await, ["whole\n"]);
        let mut log = LogWriter::open(folder.path(), MOST_BYTES).unwrap();
        log.write(Stream::Stderr, b"more").unwrap();
        log.close().unwrap();
        assert_eq!(read(folder.path(), None, all()).await, ["whole\n", "more"]);
        std::fs::remove_file(newest(folder.path())).unwrap();
        assert_eq!(read(folder.path(), None, all()).await, [""; 0]);
    }
}
