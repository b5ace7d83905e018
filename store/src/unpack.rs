//! A compressed file to raw bytes, its frames decompressed by several threads:
//!
//! ```text
//!   file ──► read, cut into frames ──► decompress, some threads ──► raw bytes, in order
//! ```
//!
//! Files of ours are such ([`crate::pipe`]): frames that say in their header how many bytes they give, at most
//! [`FRAME_BYTES`]. Nothing relies on it. From the first place that begins no such frame, whatever else it is, the
//! rest is decompressed as one stream, in one thread, which also tells what is broken.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};

use zstd::bulk::Decompressor;
use zstd::zstd_safe::{compress_bound, find_frame_compressed_size, get_frame_content_size};

use crate::pipe::{FRAME_BYTES, fill};
use crate::threads;

/// Threads that decompress one file; more than these are faster than one that hashes.
const THREADS_MAX: usize = 4;

/// Read from the file at a time.
const READ_BYTES: usize = 256 * 1024;

/// Raw bytes that are waited for in their order, or why there are none.
pub(crate) type Raw = io::Result<Vec<u8>>;

/// A frame, a buffer for what it gives, and whom to tell.
pub(crate) struct Job {
    stored: Vec<u8>,
    raw: Vec<u8>,
    done: SyncSender<Raw>,
}

/// A reader that decompresses a file from its beginning.
pub(crate) fn stream<R: Read>(source: R) -> io::Result<impl Read + use<R>> {
    zstd::Decoder::with_buffer(BufReader::with_capacity(READ_BYTES, source))
}

/// The frames that nobody has begun to decompress, for the threads that do: they go when the other end is gone.
pub(crate) struct Queue(Mutex<Receiver<Job>>);

/// A queue, and its other end.
pub(crate) fn queue() -> (Sender<Job>, Queue) {
    let (jobs, next) = channel();
    (jobs, Queue(Mutex::new(next)))
}

/// Starts the threads that decompress this file, and gives what they make, in pieces of at most [`FRAME_BYTES`]. They
/// end when all is told or nobody listens; buffers that come back through `used` are used again. `None`, and the file is
/// untouched, where there are no threads to be had for it.
pub(crate) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    (jobs, queue): (Sender<Job>, &'scope Queue),
    file: &'scope File,
    used: Receiver<Vec<u8>>,
    waiting: usize,
) -> Option<impl Iterator<Item = Raw> + Send + use<'scope>> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let (back, spare) = channel();
    let begin = || {
        let back = back.clone();
        threads::begin(scope, move || queue.work(&back))
    };
    // One will do. It ends where the next line does not begin another, which drops the only end that jobs come from.
    begin()?;
    let (order, arriving) = sync_channel::<Receiver<Raw>>(threads + waiting);
    let cutter = Cutter { file, ahead: Vec::new(), ended: false, jobs, order, used, spare };
    threads::begin(scope, move || cutter.run())?;
    for _ in 1..threads {
        begin();
    }
    // A thread that ended early has panicked, which its scope tells.
    Some(arriving.into_iter().map(|one| one.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))))
}

impl Queue {
    /// Decompresses until there is nothing more; `back` is given the buffers of the frames.
    fn work(&self, back: &Sender<Vec<u8>>) {
        let mut decompressor = Decompressor::default();
        loop {
            let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { stored, mut raw, done }) = next else { return };
            let unpacked = decompressor.decompress_to_buffer(&stored, &mut raw);
            // Nobody waits for either where the one that wanted the bytes has failed.
            let _ = done.send(unpacked.map(|_| raw));
            let _ = back.send(stored);
        }
    }
}

/// Reads a file and cuts it into frames.
struct Cutter<'a> {
    file: &'a File,
    /// What was read and not handed out.
    ahead: Vec<u8>,
    ended: bool,
    jobs: Sender<Job>,
    order: SyncSender<Receiver<Raw>>,
    used: Receiver<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
}

impl Cutter<'_> {
    fn run(mut self) {
        loop {
            let (stored_len, len) = match self.frame() {
                Ok(Some(lens)) => lens,
                Ok(None) if self.ended && self.ahead.is_empty() => return,
                Ok(None) => return self.rest(),
                Err(error) => {
                    self.tell(Err(error));
                    return;
                }
            };
            let mut stored = self.spare.try_recv().unwrap_or_default();
            stored.clear();
            stored.extend_from_slice(&self.ahead[..stored_len]);
            self.ahead.drain(..stored_len);
            let mut raw = self.buffer();
            raw.reserve(len);
            let (done, result) = sync_channel(1);
            if self.order.send(result).is_err() || self.jobs.send(Job { stored, raw, done }).is_err() {
                return;
            }
        }
    }

    /// How many bytes the next frame has, and how many it gives; `None` if what comes next is no frame like ours.
    fn frame(&mut self) -> io::Result<Option<(usize, usize)>> {
        loop {
            if let Some(lens) = whole_frame(&self.ahead) {
                return Ok(Some(lens));
            }
            if self.ended || self.ahead.len() >= compress_bound(FRAME_BYTES) {
                return Ok(None);
            }
            let wanted = self.ahead.len() + READ_BYTES;
            fill(&mut self.file, &mut self.ahead, wanted)?;
            self.ended = self.ahead.len() < wanted;
        }
    }

    /// Decompresses all that is left as one stream.
    fn rest(mut self) {
        let ahead = std::mem::take(&mut self.ahead);
        let source = Cursor::new(ahead).chain(self.file);
        let mut source = match stream(source) {
            Ok(source) => source,
            Err(error) => {
                self.tell(Err(error));
                return;
            }
        };
        loop {
            let mut raw = self.buffer();
            let read = fill(&mut source, &mut raw, FRAME_BYTES);
            let last = read.is_err() || raw.len() < FRAME_BYTES;
            if !self.tell(read.map(|()| raw)) || last {
                return;
            }
        }
    }

    fn buffer(&self) -> Vec<u8> {
        let mut raw = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(FRAME_BYTES));
        raw.clear();
        raw
    }

    /// Tells what comes next, and says whether anybody listens.
    fn tell(&self, raw: Raw) -> bool {
        let (done, result) = sync_channel(1);
        let _ = done.send(raw);
        self.order.send(result).is_ok()
    }
}

/// Of bytes that begin with a whole frame like ours: how many it has, and how many it gives.
fn whole_frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let len = usize::try_from(get_frame_content_size(bytes).ok()??).ok()?;
    let stored_len = find_frame_compressed_size(bytes).ok()?;
    (len <= FRAME_BYTES && stored_len <= bytes.len()).then_some((stored_len, len))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zstd::bulk::compress;

    use super::*;

    /// What comes out of a file, or why not.
    fn unpacked(stored: &[u8]) -> Raw {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(stored).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let (jobs, queue) = queue();
        thread::scope(|scope| {
            let (empty, used) = channel();
            let mut all = Vec::new();
            for raw in start(scope, (jobs, &queue), &file, used, 2).unwrap() {
                let raw = raw?;
                assert!(raw.len() <= FRAME_BYTES);
                all.extend_from_slice(&raw);
                empty.send(raw).unwrap_or_default();
            }
            Ok(all)
        })
    }

    fn lines(len: usize) -> Vec<u8> {
        (0..)
            .flat_map(|n: u32| format!("line {n} of {}\n", n.wrapping_mul(7919)).into_bytes())
            .take(len)
            .collect()
    }

    #[test]
    fn frames_of_any_shape_give_what_one_stream_gives() {
        let text = lines(5 * FRAME_BYTES + 17);
        let ours: Vec<u8> = text.chunks(FRAME_BYTES).flat_map(|raw| compress(raw, 1).unwrap()).collect();
        assert!(unpacked(&ours).unwrap() == text);
        // Larger ones, one whose length is not said, many small ones, none at all.
        let large = compress(&text, 3).unwrap();
        let unsaid = zstd::encode_all(&text[..], 1).unwrap();
        let small: Vec<u8> = text.chunks(100_000).flat_map(|raw| compress(raw, 1).unwrap()).collect();
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for stored in [&large, &unsaid, &small] {
            assert!(unpacked(stored).unwrap() == text);
            for between in [&b""[..], &skipped, &compress(b"", 1).unwrap()] {
                let both = [&ours, between, stored, between, &ours].concat();
                assert!(unpacked(&both).unwrap() == [&text[..], &text, &text].concat());
            }
        }
        assert!(unpacked(b"").unwrap().is_empty());
    }

    #[test]
    fn what_is_broken_is_an_error_wherever_it_is() {
        let text = lines(5 * FRAME_BYTES);
        let ours: Vec<u8> = text.chunks(FRAME_BYTES).flat_map(|raw| compress(raw, 1).unwrap()).collect();
        for at in [1, ours.len() / 2, ours.len() - 1] {
            let cut = unpacked(&ours[..at]).unwrap_err();
            assert_eq!(cut.raw_os_error(), None, "{cut}");
        }
        let garbage = unpacked(&[&ours[..], b"and no frame"].concat()).unwrap_err();
        assert_eq!(garbage.raw_os_error(), None, "{garbage}");
        // A changed byte makes a frame that cannot be read, or other bytes, which their hash tells.
        for at in (0..ours.len()).step_by(ours.len() / 50) {
            let mut bad = ours.clone();
            bad[at] ^= 0x5a;
            assert!(unpacked(&bad).is_err() || unpacked(&bad).unwrap() != text, "{at}");
        }
    }

    #[test]
    fn any_number_of_threads_will_do_and_without_the_file_is_untouched() {
        let text = lines(9 * FRAME_BYTES + 17);
        let ours: Vec<u8> = text.chunks(FRAME_BYTES).flat_map(|raw| compress(raw, 1).unwrap()).collect();
        for threads in 2..=THREADS_MAX + 1 {
            assert!(threads::scarce::with(threads, || unpacked(&ours)).unwrap() == text, "{threads}");
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&ours).unwrap();
        for threads in 0..2 {
            let (jobs, queue) = queue();
            thread::scope(|scope| {
                let (_empty, used) = channel();
                let began = threads::scarce::with(threads, || start(scope, (jobs, &queue), &file, used, 2));
                assert!(began.is_none(), "{threads}");
            });
            assert_eq!(std::io::Seek::stream_position(&mut file).unwrap(), ours.len() as u64);
        }
    }

    #[test]
    fn who_stops_listening_is_not_waited_for() {
        let text = lines(40 * FRAME_BYTES);
        let ours: Vec<u8> = text.chunks(FRAME_BYTES).flat_map(|raw| compress(raw, 1).unwrap()).collect();
        let unsaid = zstd::encode_all(&text[..], 1).unwrap();
        for stored in [&ours, &unsaid] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(stored).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            let (jobs, queue) = queue();
            let first = thread::scope(|scope| {
                let (_empty, used) = channel();
                start(scope, (jobs, &queue), &file, used, 2).unwrap().next().unwrap().unwrap()
            });
            assert!(first[..] == text[..FRAME_BYTES]);
        }
    }
}
