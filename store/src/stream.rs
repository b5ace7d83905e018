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
//! only checked has no sink: then the calling thread hashes, together with those that have nothing to do. It does alone
//! what there are no threads for.
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
use crate::threads;
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
        Encoding::Raw if long => ahead(&file, passed, sink),
        Encoding::Raw => here(&file, passed, sink),
        Encoding::Zstd if long => unpacked(&file, passed, sink),
        Encoding::Zstd => in_one_stream(&file, passed, sink),
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

fn in_one_stream(file: &File, passed: Passed, sink: Option<Sink<'_>>) -> Result<Flowed, StreamError> {
    here(unpack::stream(file).map_err(StreamError::Read)?, passed, sink)
}

fn ahead(file: &File, passed: Passed, sink: Option<Sink<'_>>) -> Result<Flowed, StreamError> {
    thread::scope(|scope| {
        let (empty, used) = channel::<Vec<u8>>();
        let (full, arriving) = sync_channel::<Raw>(WAITING);
        match threads::begin(scope, move || read_ahead(file, &used, &full)) {
            Some(_) => onwards(scope, arriving.into_iter(), empty, passed, sink),
            None => here(file, passed, sink),
        }
    })
}

fn unpacked(file: &File, passed: Passed, sink: Option<Sink<'_>>) -> Result<Flowed, StreamError> {
    let (jobs, queue) = unpack::queue();
    thread::scope(|scope| {
        let (empty, used) = channel::<Vec<u8>>();
        match unpack::start(scope, (jobs, &queue), file, used, WAITING) {
            Some(arriving) => onwards(scope, arriving, empty, passed, sink),
            None => in_one_stream(file, passed, sink),
        }
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
            threads::hash_together(&mut passed.hasher, &buffer);
            // The reader may have ended already.
            let _ = empty.send(buffer);
        }
        return passed.end();
    };
    let (hashed, ready) = sync_channel::<Vec<u8>>(WAITING);
    let mut failed = None;
    let mut goes_on = |buffer: Vec<u8>| {
        failed = sink(&buffer).err().map(StreamError::Sink);
        let _ = empty.send(buffer);
        failed.is_none()
    };
    let hashing = threads::begin_with(scope, (arriving, passed), move |(arriving, passed)| {
        hash_each(arriving, passed, |buffer| hashed.send(buffer).is_ok())
    });
    let flowed = match hashing {
        Ok(hashing) => {
            // What is left is dropped here, before the thread is waited for: then it cannot send, and ends.
            ready.into_iter().all(&mut goes_on);
            threads::join(hashing)
        }
        Err((arriving, passed)) => hash_each(arriving, passed, &mut goes_on),
    };
    failed.map_or(flowed, Err)
}

/// Hashes what arrives, and passes it on until that says that it need not go on: then who said so knows why.
fn hash_each(
    arriving: impl Iterator<Item = Raw>,
    mut passed: Passed,
    mut goes_on: impl FnMut(Vec<u8>) -> bool,
) -> Result<Flowed, StreamError> {
    for buffer in arriving {
        let buffer = buffer.map_err(broken)?;
        passed.count(&buffer)?;
        passed.hasher.update(&buffer);
        if !goes_on(buffer) {
            break;
        }
    }
    passed.end()
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

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn flow(stored: &[u8], encoding: Encoding, len: usize) -> Flow {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(stored).unwrap();
        file.rewind().unwrap();
        Flow { file, stored_len: stored.len() as u64, encoding, len: Some(len as u64) }
    }

    /// In a container with a limit of processes, reading a large blob panicked.
    #[test]
    fn any_number_of_threads_gives_the_same() {
        let raw: Vec<u8> = (0..9 * FRAME_BYTES + 17).map(|at| (at * 31 % 251) as u8).collect();
        let packed: Vec<u8> =
            raw.chunks(FRAME_BYTES).flat_map(|raw| zstd::bulk::compress(raw, 1).unwrap()).collect();
        let right = Flowed { len: raw.len() as u64, digest: Digest::of(&raw) };
        for (stored, encoding) in [(&raw, Encoding::Raw), (&packed, Encoding::Zstd)] {
            for threads in 0..7 {
                let run = |stored: &[u8], sink: Option<Sink<'_>>| {
                    let flow = flow(stored, encoding, raw.len());
                    threads::scarce::with(threads, || run(flow, blake3::Hasher::new(), sink))
                };
                let at = format!("{encoding:?} in {threads} threads");
                assert_eq!(run(stored, None).unwrap(), right, "{at}");
                let mut seen = Vec::new();
                let mut sink = |bytes: &[u8]| {
                    seen.extend_from_slice(bytes);
                    Ok(())
                };
                assert_eq!(run(stored, Some(&mut sink)).unwrap(), right, "{at}");
                assert!(seen == raw, "{at}");

                let cut = run(&stored[..stored.len() - 1], Some(&mut |_| Ok(()))).unwrap_err();
                assert!(matches!(cut, StreamError::Damaged(_)), "{at}: {cut:?}");
                let mut pieces = 0;
                let mut full = |_: &[u8]| {
                    pieces += 1;
                    if pieces < 3 { Ok(()) } else { Err(StoreError::Missing { digest: right.digest }) }
                };
                let failed = run(stored, Some(&mut full)).unwrap_err();
                assert!(matches!(failed, StreamError::Sink(StoreError::Missing { .. })), "{at}: {failed:?}");
                assert_eq!(pieces, 3, "{at}");
            }
        }
    }
}
