//! Writes the output of a container.

use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use runtime::Stream;
use tokio::sync::watch;

use super::frame::{HEADER, LONGEST, decode, encode};
use super::{LogEnd, LogEnds, OutputLine, cut_mark, newest, oldest};
use crate::Error;

/// Writes the lines of a container's output.
pub(crate) struct LogWriter {
    folder: PathBuf,
    file: File,
    /// Bytes of `log`, after which it is begun anew.
    half: u64,
    end: watch::Sender<LogEnd>,
    /// Lines that have not ended, of output and errors.
    begun: [Vec<u8>; 2],
}

impl LogWriter {
    /// Goes on with the log in a container's folder, or begins one. Both files have at most so many bytes.
    pub(crate) fn open(folder: &Path, most: u64) -> Result<Self, Error> {
        let path = newest(folder);
        let failed = || Error::file::<io::Error>("open", &path);
        let open = File::options().create(true).append(true).read(true).mode(0o600).open(&path);
        let file = open.map_err(failed())?;
        let length = whole_frames(&file).map_err(failed())?;
        file.set_len(length).map_err(failed())?;
        let end = LogEnd { generation: 0, length, is_open: true };
        Ok(Self {
            folder: folder.to_owned(),
            file,
            half: most / 2,
            end: watch::Sender::new(end),
            begun: [Vec::new(), Vec::new()],
        })
    }

    /// The notifications of what is written.
    pub(crate) fn ends(&self) -> LogEnds {
        self.end.subscribe()
    }

    /// Takes a piece of output. Whole lines are written, and the beginning of one that is long.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Error> {
        let which = usize::from(stream == Stream::Stderr);
        let mut frames = Vec::new();
        let mut begun = std::mem::take(&mut self.begun[which]);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in piece.chunks(LONGEST) {
                if begun.len() + piece.len() > LONGEST {
                    frames.extend(frame(stream, std::mem::take(&mut begun)));
                }
                begun.extend_from_slice(piece);
                if begun.last() == Some(&b'\n') {
                    frames.extend(frame(stream, std::mem::take(&mut begun)));
                }
            }
        }
        self.begun[which] = begun;
        self.append(&frames)
    }

    /// Writes lines that have not ended, and tells readers that no more come.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        let mut frames = Vec::new();
        for (stream, begun) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&mut self.begun) {
            if !begun.is_empty() {
                frames.extend(frame(stream, std::mem::take(begun)));
            }
        }
        let written = self.append(&frames);
        self.end.send_modify(|end| end.is_open = false);
        written
    }

    fn append(&mut self, mut frames: &[u8]) -> Result<(), Error> {
        let mut is_fresh = false;
        while !frames.is_empty() {
            let room = self.half.saturating_sub(self.end.borrow().length);
            let mut fits = frames_within(frames, room);
            if fits == 0 && !is_fresh {
                self.begin_anew()?;
                is_fresh = true;
                continue;
            }
            if fits == 0 {
                // One line is larger than the log may be.
                fits = first_frame(frames).min(frames.len());
            }
            let (piece, rest) = frames.split_at(fits);
            self.file.write_all(piece).map_err(Error::file("write", newest(&self.folder)))?;
            self.end.send_modify(|end| end.length += piece.len() as u64);
            frames = rest;
        }
        Ok(())
    }

    fn begin_anew(&mut self) -> Result<(), Error> {
        let (path, old) = (newest(&self.folder), oldest(&self.folder));
        if old.exists() {
            let mark = cut_mark(&self.folder);
            fs::write(&mark, []).map_err(Error::file("write", mark))?;
        }
        fs::rename(&path, &old).map_err(Error::file("rename", &path))?;
        let open = File::options().create_new(true).append(true).read(true).mode(0o600).open(&path);
        self.file = open.map_err(Error::file("open", &path))?;
        self.end.send_modify(|end| {
            end.generation += 1;
            end.length = 0;
        });
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // A reader that follows must end also if the run was given up.
        self.end.send_modify(|end| end.is_open = false);
    }
}

fn frame(stream: Stream, bytes: Vec<u8>) -> Vec<u8> {
    encode(&OutputLine { time: SystemTime::now(), stream, bytes })
}

/// Bytes of the first of some frames.
fn first_frame(frames: &[u8]) -> usize {
    let length = frames.get(HEADER - 4..HEADER).and_then(|bytes| bytes.try_into().ok());
    HEADER + length.map_or(0, |length| u32::from_le_bytes(length) as usize)
}

/// Bytes of the frames that fit into some room.
fn frames_within(frames: &[u8], room: u64) -> usize {
    let mut fits = 0;
    while fits < frames.len() {
        let next = fits + first_frame(&frames[fits..]);
        if next as u64 > room {
            break;
        }
        fits = next;
    }
    fits
}

/// Bytes of the whole frames that a file begins with.
fn whole_frames(file: &File) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut length = 0;
    while let Some(line) = decode(&mut reader)? {
        length += (HEADER + line.bytes.len()) as u64;
    }
    Ok(length)
}
