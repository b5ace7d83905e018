//! A blob's file to raw bytes, a piece at a time: read ahead and decompressed by another thread where it
//! is long, while the calling thread hashes and writes.
//!
//! Nothing is believed: a file that is shorter or longer than it should be, broken zstd data, more raw
//! bytes than there should be and sectors that cannot be read are each [`StreamError::Damaged`]. Whether
//! the bytes are the right ones is for the caller to say, who hashes them.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::StoreError;
use crate::pipe::{FRAME_BYTES, fill};
use crate::record::Encoding;

/// From here a second thread is worth its start.
const TWO_THREADS_FROM_BYTES: u64 = 4 * FRAME_BYTES as u64;

/// A file that is to be read from its beginning.
pub(crate) struct Flow {
    pub(crate) file: File,
    /// Bytes of the file.
    pub(crate) stored_len: u64,
    pub(crate) encoding: Encoding,
    /// Raw bytes that it must give, if that is known.
    pub(crate) len: Option<u64>,
}

/// Why it ended early.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// The file is not what it should be.
    Damaged(String),
    /// It cannot be read, for a reason that is not its own.
    Read(io::Error),
    /// The receiver of the bytes failed.
    Sink(StoreError),
}

impl StreamError {
    /// The error of the store that this is for a blob in this file.
    pub(crate) fn for_blob(self, digest: &Digest, path: &Path) -> StoreError {
        match self {
            Self::Damaged(what) => StoreError::Damaged { digest: *digest, what },
            Self::Read(source) => StoreError::Io { action: "read", path: path.to_owned(), source },
            Self::Sink(error) => error,
        }
    }
}

/// Passes all raw bytes to `sink`, in pieces of at most [`FRAME_BYTES`], and says how many there were.
pub(crate) fn run(
    flow: Flow,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<u64, StreamError> {
    let Flow { file, stored_len, encoding, len } = flow;
    let long = stored_len.max(len.unwrap_or(0)) >= TWO_THREADS_FROM_BYTES;
    let mut passed = Passed { sink, wanted: len, count: 0 };
    match encoding {
        Encoding::Raw if long => ahead(file, &mut passed)?,
        Encoding::Raw => here(file, &mut passed)?,
        Encoding::Zstd => {
            let decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(FRAME_BYTES / 4, file));
            let decoder = decoder.map_err(StreamError::Read)?;
            if long { ahead(decoder, &mut passed)? } else { here(decoder, &mut passed)? }
        }
    }
    passed.end()
}

/// What has arrived at the sink.
struct Passed<'a> {
    sink: &'a mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
    wanted: Option<u64>,
    count: u64,
}

impl Passed<'_> {
    fn give(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        self.count += bytes.len() as u64;
        if self.wanted.is_some_and(|wanted| self.count > wanted) {
            return Err(StreamError::Damaged("it gives more bytes than it should".to_owned()));
        }
        (self.sink)(bytes).map_err(StreamError::Sink)
    }

    fn end(self) -> Result<u64, StreamError> {
        match self.wanted {
            Some(wanted) if wanted != self.count => {
                let what = format!("it gives {} bytes instead of {wanted}", self.count);
                Err(StreamError::Damaged(what))
            }
            _ => Ok(self.count),
        }
    }
}

fn here(mut source: impl Read, passed: &mut Passed<'_>) -> Result<(), StreamError> {
    // As much as is expected, and one more to see the end without another round.
    let expected = passed.wanted.map_or(FRAME_BYTES, |wanted| {
        usize::try_from(wanted.saturating_add(1)).unwrap_or(FRAME_BYTES).min(FRAME_BYTES)
    });
    let mut buffer = Vec::with_capacity(expected);
    loop {
        buffer.clear();
        fill(&mut source, &mut buffer, expected).map_err(broken)?;
        passed.give(&buffer)?;
        if buffer.len() < expected {
            return Ok(());
        }
    }
}

fn ahead(mut source: impl Read + Send, passed: &mut Passed<'_>) -> Result<(), StreamError> {
    thread::scope(|scope| {
        let (full, arriving) = sync_channel::<Result<Vec<u8>, io::Error>>(2);
        let (empty, used) = channel::<Vec<u8>>();
        scope.spawn(move || {
            loop {
                let mut buffer = used.try_recv().unwrap_or_else(|_| Vec::with_capacity(FRAME_BYTES));
                buffer.clear();
                let read = fill(&mut source, &mut buffer, FRAME_BYTES);
                let last = read.is_err() || buffer.len() < FRAME_BYTES;
                // Nobody listens any more when the sink has failed.
                if full.send(read.map(|()| buffer)).is_err() || last {
                    return;
                }
            }
        });
        for buffer in arriving {
            let buffer = buffer.map_err(broken)?;
            passed.give(&buffer)?;
            // The reader may have ended already.
            let _ = empty.send(buffer);
        }
        Ok(())
    })
}

/// Tells what is wrong with the file from what is wrong with the machine. Decompressors report broken data
/// as errors without a number; a sector that cannot be read has one of a few.
fn broken(error: io::Error) -> StreamError {
    let lost = [Errno::IO, Errno::BADMSG, Errno::UCLEAN].map(|errno| errno.raw_os_error());
    match error.raw_os_error() {
        None => StreamError::Damaged(format!("its zstd data is broken ({error})")),
        Some(number) if lost.contains(&number) => {
            StreamError::Damaged(format!("the disk does not give its bytes ({error})"))
        }
        Some(_) => StreamError::Read(error),
    }
}
