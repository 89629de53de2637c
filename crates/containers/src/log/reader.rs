//! Reads the output of a container.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use runtime::Stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::frame::{HEADER, decode};
use super::{LogEnd, LogEnds, LogSelection, OutputLine, cut_mark, newest, oldest};
use crate::Error;

/// Attempts to open both files between two of a writer's beginnings.
const ATTEMPTS: usize = 8;

/// Sends the lines that were asked for, until there are no more or the receiver is gone. Blocks; with `ends` it has to
/// be called on a thread of a runtime.
pub(crate) fn send_lines(
    folder: &Path,
    mut ends: Option<LogEnds>,
    selection: &LogSelection,
    lines: &mpsc::Sender<OutputLine>,
) -> Result<(), Error> {
    let failed = || Error::file::<io::Error>("read", newest(folder));
    let (mut files, mut end) = open(folder, ends.as_ref()).map_err(failed())?;
    let mut skipped = match selection.tail {
        Some(tail) => {
            let count = files.count(&end, selection).map_err(failed())?;
            // Lines that came meanwhile are sent too.
            (files, end) = open(folder, ends.as_ref()).map_err(failed())?;
            count.saturating_sub(tail)
        }
        None => 0,
    };
    let mut send = |line: OutputLine| {
        if !selection.wants(&line) {
            return true;
        }
        if skipped > 0 {
            skipped -= 1;
            return true;
        }
        lines.blocking_send(line).is_ok()
    };
    if !files.each(&end, &mut send).map_err(failed())? || !selection.follow {
        return Ok(());
    }
    let Some(ends) = &mut ends else { return Ok(()) };
    loop {
        let is_over = match next_end(ends, &end, selection, lines) {
            Some(next) => {
                let is_anew = next.generation != end.generation;
                end = next;
                if is_anew && !files.turn(folder, &mut send).map_err(failed())? {
                    return Ok(());
                }
                !end.is_open
            }
            None => return Ok(()),
        };
        if !files.newest_until(&end, &mut send).map_err(failed())? || is_over {
            return Ok(());
        }
    }
}

/// Waits until there is more than was read, or the writer has ended; none if the receiver is gone or the time is over.
fn next_end(
    ends: &mut LogEnds,
    read: &LogEnd,
    selection: &LogSelection,
    lines: &mpsc::Sender<OutputLine>,
) -> Option<LogEnd> {
    let deadline = async {
        match selection.until {
            Some(until) => {
                let left = until.duration_since(SystemTime::now()).unwrap_or_default();
                tokio::time::sleep(left).await;
            }
            None => std::future::pending().await,
        }
    };
    let next = async {
        match ends.wait_for(|end| end != read || !end.is_open).await {
            Ok(end) => *end,
            // The writer is gone, and has said so before.
            Err(_) => LogEnd { is_open: false, ..*read },
        }
    };
    Handle::current().block_on(async {
        tokio::select! {
            next = next => Some(next),
            () = lines.closed() => None,
            () = deadline => None,
        }
    })
}

/// The line that stands for what is left out.
const CUT: &[u8] = b"kiln: older output is left out: a log has 64 MiB\n";

/// The files of a log, open.
#[derive(Default)]
struct LogFiles {
    is_cut: bool,
    oldest: Option<LogFile>,
    newest: Option<LogFile>,
}

struct LogFile {
    reader: BufReader<File>,
    position: u64,
    /// Tells it from the file that takes its name later.
    inode: u64,
}

/// Opens the files, as they were between two beginnings of the writer.
fn open(folder: &Path, ends: Option<&LogEnds>) -> io::Result<(LogFiles, LogEnd)> {
    let mut opened = (LogFiles::default(), LogEnd::default());
    for _ in 0..ATTEMPTS {
        let end = match ends {
            Some(ends) => *ends.borrow(),
            None => LogEnd { length: u64::MAX, ..LogEnd::default() },
        };
        let open = |path: &Path| match LogFile::open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let (oldest, newest) = (open(&oldest(folder))?, open(&newest(folder))?);
        let is_cut = cut_mark(folder).exists();
        opened = (LogFiles { is_cut, oldest, newest }, end);
        if ends.is_none_or(|ends| ends.borrow().generation == end.generation) {
            break;
        }
    }
    Ok(opened)
}

impl LogFiles {
    fn count(&mut self, end: &LogEnd, selection: &LogSelection) -> io::Result<u64> {
        let mut count = 0;
        self.each(end, &mut |line| {
            count += u64::from(selection.wants(&line));
            true
        })?;
        Ok(count)
    }

    /// Calls `take` for each line up to an end; false if it did not want to go on.
    fn each(&mut self, end: &LogEnd, take: &mut dyn FnMut(OutputLine) -> bool) -> io::Result<bool> {
        if self.is_cut {
            let time = SystemTime::now();
            if !take(OutputLine { time, stream: Stream::Stderr, bytes: CUT.to_vec() }) {
                return Ok(false);
            }
        }
        if let Some(oldest) = &mut self.oldest
            && !oldest.until(u64::MAX, take)?
        {
            return Ok(false);
        }
        self.newest_until(end, take)
    }

    /// Goes on with the next file after the writer has begun anew. What was written before is still in the open one.
    fn turn(
        &mut self,
        folder: &Path,
        take: &mut dyn FnMut(OutputLine) -> bool,
    ) -> io::Result<bool> {
        let next = LogFile::open(&newest(folder))?;
        if self.newest.as_ref().is_some_and(|open| open.inode == next.inode) {
            return Ok(true);
        }
        if let Some(open) = &mut self.newest
            && !open.until(u64::MAX, take)?
        {
            return Ok(false);
        }
        self.newest = Some(next);
        Ok(true)
    }

    fn newest_until(
        &mut self,
        end: &LogEnd,
        take: &mut dyn FnMut(OutputLine) -> bool,
    ) -> io::Result<bool> {
        match &mut self.newest {
            Some(newest) => newest.until(end.length, take),
            None => Ok(true),
        }
    }
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { reader: BufReader::new(file), position: 0, inode })
    }

    fn until(&mut self, end: u64, take: &mut dyn FnMut(OutputLine) -> bool) -> io::Result<bool> {
        while self.position < end {
            let Some(line) = decode(&mut self.reader)? else { return Ok(true) };
            self.position += (HEADER + line.bytes.len()) as u64;
            if !take(line) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
