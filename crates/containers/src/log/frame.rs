//! A line as bytes of a file.

use std::io::{self, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runtime::Stream;

use super::OutputLine;

/// Bytes before a line: time, stream, length.
pub(super) const HEADER: usize = 13;
/// Bytes of the longest piece of a line, as in docker.
pub(super) const LONGEST: usize = 16 << 10;

/// The bytes of a line; less than [`LONGEST`] of it.
pub(super) fn encode(line: &OutputLine) -> Vec<u8> {
    let since = line.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let stream = match line.stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    let length = u32::try_from(line.bytes.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEADER + line.bytes.len());
    frame.extend(nanos.to_le_bytes());
    frame.push(stream);
    frame.extend(length.to_le_bytes());
    frame.extend(&line.bytes);
    frame
}

/// Reads a line; none at the end of the file, at half a frame, and at what is none.
pub(super) fn decode(reader: &mut dyn Read) -> io::Result<Option<OutputLine>> {
    let mut header = [0; HEADER];
    if !fill(reader, &mut header)? {
        return Ok(None);
    }
    let [nanos @ .., stream, a, b, c, d] = header;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let stream = match stream {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return Ok(None),
    };
    if length > LONGEST {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    if !fill(reader, &mut bytes)? {
        return Ok(None);
    }
    let time = UNIX_EPOCH.checked_add(Duration::from_nanos(u64::from_le_bytes(nanos)));
    Ok(Some(OutputLine { time: time.unwrap_or(SystemTime::UNIX_EPOCH), stream, bytes }))
}

/// Fills a buffer; false if the reader ends before.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
