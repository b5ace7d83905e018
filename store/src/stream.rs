//! A blob's file to raw bytes, a piece at a time, hashed as they pass. Where it is long, three threads share
//! the work:
//!
//! ```text
//!   file ──► read, decompress ──► hash ──► sink      (the sink in the calling thread: it writes)
//!                  ▲                         │
//!                  └───── empty buffers ─────┘
//! ```
//!
//! Decompressing takes longest, so that it is shared by several threads ([`crate::unpack`]), and no core waits for another. What is
//! only checked has no sink: then the calling thread hashes, together with those that have nothing to do.
//!
//! Nothing is believed: a file that is shorter or longer than it should be, broken zstd data, more raw
//! bytes than there should be and sectors that cannot be read are each [`StreamError::Damaged`]. Whether
//! the bytes are the right ones is for the caller to say, who is given their hash.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, Scope};

use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::StoreError;
use crate::pipe::{FRAME_BYTES, fill};
use crate::record::Encoding;
use crate::unpack::{self, Raw};

/// From here other threads are worth their start.
const THREADS_FROM_BYTES: u64 = 4 * FRAME_BYTES as u64;

/// Buffers that may wait for the next thread. They even out what takes now longer, now shorter.
const WAITING: usize = 2;

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

/// What is given the bytes, in pieces of at most [`FRAME_BYTES`].
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), StoreError>;

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flowed {
    pub(crate) len: u64,
    pub(crate) digest: Digest,
}

/// Passes all raw bytes through the hasher and to `sink`, if anybody wants them, and says what they were.
pub(crate) fn run(flow: Flow, hasher: blake3::Hasher, sink: Option<Sink<'_>>) -> Result<Flowed, StreamError> {
    let Flow { file, stored_len, encoding, len } = flow;
    let long = stored_len.max(len.unwrap_or(0)) >= THREADS_FROM_BYTES;
    if long {
        // A wish: a disk that is read from end to end is asked for more at a time.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
    }
    let passed = Passed { wanted: len, count: 0, hasher };
    match encoding {
        Encoding::Raw if long => ahead(file, passed, sink),
        Encoding::Raw => here(file, passed, sink),
        Encoding::Zstd if long => unpacked(file, passed, sink),
        Encoding::Zstd => here(unpack::stream(file).map_err(StreamError::Read)?, passed, sink),
    }
}

/// What has passed.
struct Passed {
    wanted: Option<u64>,
    count: u64,
    hasher: blake3::Hasher,
}

impl Passed {
    /// Counts bytes; to be asked before they go further.
    fn count(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        self.count += bytes.len() as u64;
        if self.wanted.is_some_and(|wanted| self.count > wanted) {
            return Err(StreamError::Damaged("it gives more bytes than it should".to_owned()));
        }
        Ok(())
    }

    fn end(self) -> Result<Flowed, StreamError> {
        match self.wanted {
            Some(wanted) if wanted != self.count => {
                let what = format!("it gives {} bytes instead of {wanted}", self.count);
                Err(StreamError::Damaged(what))
            }
            _ => Ok(Flowed { len: self.count, digest: self.hasher.finalize().into() }),
        }
    }
}

fn here(
    mut source: impl Read,
    mut passed: Passed,
    mut sink: Option<Sink<'_>>,
) -> Result<Flowed, StreamError> {
    // As much as is expected, and one more to see the end without another round.
    let expected = passed.wanted.map_or(FRAME_BYTES, |wanted| {
        usize::try_from(wanted.saturating_add(1)).unwrap_or(FRAME_BYTES).min(FRAME_BYTES)
    });
    let mut buffer = Vec::with_capacity(expected);
    loop {
        buffer.clear();
        fill(&mut source, &mut buffer, expected).map_err(broken)?;
        passed.count(&buffer)?;
        passed.hasher.update(&buffer);
        if let Some(sink) = &mut sink {
            sink(&buffer).map_err(StreamError::Sink)?;
        }
        if buffer.len() < expected {
            return passed.end();
        }
    }
}

fn ahead(source: impl Read + Send, passed: Passed, sink: Option<Sink<'_>>) -> Result<Flowed, StreamError> {
    thread::scope(|scope| {
        let (empty, used) = channel::<Vec<u8>>();
        let (full, arriving) = sync_channel::<Raw>(WAITING);
        scope.spawn(move || read_ahead(source, &used, &full));
        onwards(scope, arriving.into_iter(), empty, passed, sink)
    })
}

fn unpacked(file: File, passed: Passed, sink: Option<Sink<'_>>) -> Result<Flowed, StreamError> {
    let (jobs, queue) = unpack::queue();
    thread::scope(|scope| {
        let (empty, used) = channel::<Vec<u8>>();
        let arriving = unpack::start(scope, (jobs, &queue), file, used, WAITING);
        onwards(scope, arriving, empty, passed, sink)
    })
}

/// Hashes what arrives and passes it on; gives the buffers back.
fn onwards<'scope>(
    scope: &'scope Scope<'scope, '_>,
    arriving: impl Iterator<Item = Raw> + Send + 'scope,
    empty: Sender<Vec<u8>>,
    mut passed: Passed,
    sink: Option<Sink<'_>>,
) -> Result<Flowed, StreamError> {
    let Some(sink) = sink else {
        for buffer in arriving {
            let buffer = buffer.map_err(broken)?;
            passed.count(&buffer)?;
            passed.hasher.update_rayon(&buffer);
            // The reader may have ended already.
            let _ = empty.send(buffer);
        }
        return passed.end();
    };
    let (hashed, ready) = sync_channel::<Vec<u8>>(WAITING);
    let hashing = scope.spawn(move || {
        for buffer in arriving {
            let buffer = buffer.map_err(broken)?;
            passed.count(&buffer)?;
            passed.hasher.update(&buffer);
            if hashed.send(buffer).is_err() {
                break; // The sink has failed; it says why.
            }
        }
        passed.end()
    });
    let mut failed = None;
    for buffer in ready {
        if let Err(error) = sink(&buffer) {
            failed = Some(StreamError::Sink(error));
            break;
        }
        let _ = empty.send(buffer);
    }
    let flowed = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    failed.map_or(flowed, Err)
}

/// Reads to the end or to what cannot be read, into buffers that come back.
fn read_ahead(mut source: impl Read, used: &Receiver<Vec<u8>>, full: &SyncSender<Raw>) {
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
