//! The one pass over bytes on their way in: hashed, and compressed where that pays, while they are written.
//!
//! ```text
//!            ┌──► hash                        (calling thread: reads, hashes, writes)
//!   source ──┤
//!            └──► compress 1 MiB at a time ──► file
//!                 └─ some threads, in order ─┘
//!
//!   source ──► hash ──► file                  (raw: three threads; the calling one reads)
//! ```
//!
//! A compressed file is a sequence of zstd frames, each of which holds [`FRAME_BYTES`] raw bytes (the last
//! one fewer) and says so in its header: any zstd program reads it, several threads can write it, and
//! memory does not depend on the length. What fits into one frame takes no thread at all; the calling thread does what no
//! thread is to be had for.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use zstd::bulk::Compressor;

use crate::digest::Digest;
use crate::record::Encoding;
use crate::sys;
use crate::threads;

/// Raw bytes in one zstd frame. Smaller frames compress worse and cost more switching, larger ones take
/// more memory per thread; around this size neither shows.
pub(crate) const FRAME_BYTES: usize = 1024 * 1024;

/// The level of compression: the fastest of zstd's usual ones. What is stored is mostly read soon.
const LEVEL: i32 = 1;

/// Threads that compress one stream; more than these do not keep up with one that reads and hashes.
const THREADS_MAX: usize = 4;

/// Buffers that may wait for the next thread. They even out what takes now longer, now shorter.
const WAITING: usize = 2;

/// How much is written between two requests to begin writing it to the disk.
const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;

/// One sample of content: enough for zstd to find what repeats.
const SAMPLE_BYTES: usize = 16 * 1024;

/// How many samples are looked at.
const SAMPLES: u64 = 8;

/// Below this, compressing everything is as quick as sampling.
const SAMPLED_FROM_BYTES: u64 = 128 * 1024;

/// What a pass found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) digest: Digest,
    pub(crate) len: u64,
    pub(crate) stored_len: u64,
}

/// What failed: the one side or the other.
#[derive(Debug)]
pub(crate) enum PipeError {
    Read(io::Error),
    Write(io::Error),
}

/// Compressors that are not in use. One costs some hundred KiB to set up: too much for each small blob.
#[derive(Default)]
pub(crate) struct Compressors(Mutex<Vec<Compressor<'static>>>);

impl Compressors {
    /// Lends a compressor.
    fn with<T>(&self, work: impl FnOnce(&mut Compressor<'static>) -> io::Result<T>) -> io::Result<T> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut compressor = match idle {
            Some(compressor) => compressor,
            None => Compressor::new(LEVEL)?,
        };
        let done = work(&mut compressor)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(compressor);
        Ok(done)
    }

    /// Compresses into one frame, if that is smaller by enough to be worth decompressing.
    pub(crate) fn frame_if_it_pays(&self, raw: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if raw.len() as u64 >= SAMPLED_FROM_BYTES && !self.samples_pay(raw)? {
            return Ok(None);
        }
        let frame = self.with(|compressor| frame(compressor, raw, Vec::new()))?;
        Ok(pays(raw.len() as u64, frame.len() as u64).then_some(frame))
    }

    /// Whether compressing pays for bytes of which these are the beginning or all.
    pub(crate) fn samples_pay(&self, raw: &[u8]) -> io::Result<bool> {
        let mut samples = Vec::with_capacity(SAMPLES as usize * SAMPLE_BYTES);
        for offset in sample_offsets(raw.len() as u64) {
            let rest = &raw[offset as usize..];
            samples.push(&rest[..rest.len().min(SAMPLE_BYTES)]);
        }
        self.pay(&samples)
    }

    /// Whether compressing pays for a file of this length; looks at samples from all over it.
    pub(crate) fn file_samples_pay(&self, file: &File, len: u64) -> io::Result<bool> {
        use std::os::unix::fs::FileExt;

        let mut samples = Vec::with_capacity(SAMPLES as usize);
        for offset in sample_offsets(len) {
            let mut sample = vec![0; SAMPLE_BYTES];
            let read = file.read_at(&mut sample, offset)?;
            sample.truncate(read);
            samples.push(sample);
        }
        let samples: Vec<&[u8]> = samples.iter().map(Vec::as_slice).collect();
        self.pay(&samples)
    }

    fn pay(&self, samples: &[&[u8]]) -> io::Result<bool> {
        self.with(|compressor| {
            let (mut raw, mut stored) = (0, 0);
            let mut buffer = Vec::new();
            for sample in samples {
                buffer = frame(compressor, sample, buffer)?;
                raw += sample.len() as u64;
                stored += buffer.len() as u64;
            }
            Ok(pays(raw, stored))
        })
    }
}

/// Whether so much less is worth the decompressing, and giving up what only raw files can do (being mapped
/// and linked): one part in eight.
fn pays(raw: u64, stored: u64) -> bool {
    stored < raw - raw / 8
}

/// Where samples begin: spread evenly, the first at the beginning, the last at the end.
fn sample_offsets(len: u64) -> impl Iterator<Item = u64> {
    let last = len.saturating_sub(SAMPLE_BYTES as u64);
    let count = SAMPLES.min(len / SAMPLE_BYTES as u64).max(1);
    (0..count).map(move |i| {
        if count == 1 { 0 } else { (u128::from(last) * u128::from(i) / u128::from(count - 1)) as u64 }
    })
}

/// Compresses into one frame, in a buffer that is used again.
fn frame(compressor: &mut Compressor<'static>, raw: &[u8], mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    buffer.clear();
    buffer.reserve(zstd::zstd_safe::compress_bound(raw.len()));
    compressor.compress_to_buffer(raw, &mut buffer)?;
    Ok(buffer)
}

/// Reads until the buffer holds this much or the source has ended.
pub(crate) fn fill(source: &mut dyn Read, buffer: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
    let wanted = bytes.saturating_sub(buffer.len());
    buffer.reserve_exact(wanted);
    source.take(wanted as u64).read_to_end(buffer)?;
    Ok(())
}

/// Hashes a file from where it stands to its end, and says how many bytes that were.
pub(crate) fn hash(mut file: &File, hasher: &mut blake3::Hasher) -> io::Result<u64> {
    let mut buffer = Vec::with_capacity(FRAME_BYTES);
    let mut len = 0;
    loop {
        buffer.clear();
        fill(&mut file, &mut buffer, FRAME_BYTES)?;
        hasher.update(&buffer);
        len += buffer.len() as u64;
        if buffer.len() < FRAME_BYTES {
            return Ok(len);
        }
    }
}

/// Passes `head` and then all that the source still gives into the file.
pub(crate) fn pass(
    head: Vec<u8>,
    source: &mut dyn Read,
    hasher: blake3::Hasher,
    encoding: Encoding,
    compressors: &Compressors,
    file: &File,
) -> Result<Passed, PipeError> {
    match encoding {
        Encoding::Raw => pass_raw(head, source, hasher, file),
        Encoding::Zstd => pass_zstd(head, source, hasher, compressors, file),
    }
}

/// Reads here what a thread hashes and another writes: each takes as long as the others, and two cores share them evenly.
fn pass_raw(
    head: Vec<u8>,
    source: &mut dyn Read,
    hasher: blake3::Hasher,
    file: &File,
) -> Result<Passed, PipeError> {
    thread::scope(|scope| {
        let (full, to_hash) = sync_channel::<Vec<u8>>(WAITING);
        let (hashed, to_write) = sync_channel::<Vec<u8>>(WAITING);
        let (empty, written) = channel::<Vec<u8>>();
        let writer = threads::begin(scope, move || -> io::Result<u64> {
            let mut output = Output::new(file);
            for chunk in to_write {
                output.write(&chunk)?;
                // The other side may have ended: then nobody wants the buffer.
                let _ = empty.send(chunk);
            }
            Ok(output.len)
        });
        let Some(writer) = writer else { return pass_raw_here(head, source, hasher, file) };
        let hashing = threads::begin_with(scope, hasher, move |mut hasher| {
            let mut len = 0;
            for chunk in to_hash {
                hasher.update(&chunk);
                len += chunk.len() as u64;
                if hashed.send(chunk).is_err() {
                    break; // The writer gave up; it says why.
                }
            }
            (Digest::from(hasher.finalize()), len)
        });
        let hashing = match hashing {
            Ok(hashing) => hashing,
            // The writer has ended: what it was to get its chunks from is gone.
            Err(hasher) => return pass_raw_here(head, source, hasher, file),
        };
        let mut chunk = head;
        let mut failure = None;
        while !chunk.is_empty() {
            if full.send(chunk).is_err() {
                break;
            }
            chunk = written.try_recv().unwrap_or_else(|_| Vec::with_capacity(FRAME_BYTES));
            chunk.clear();
            if let Err(error) = fill(source, &mut chunk, FRAME_BYTES) {
                failure = Some(PipeError::Read(error));
                break;
            }
        }
        drop(full);
        let (digest, len) = threads::join(hashing);
        let stored_len = threads::join(writer).map_err(PipeError::Write)?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(Passed { digest, len, stored_len }),
        }
    })
}

/// The same without other threads.
fn pass_raw_here(
    head: Vec<u8>,
    source: &mut dyn Read,
    mut hasher: blake3::Hasher,
    file: &File,
) -> Result<Passed, PipeError> {
    let mut output = Output::new(file);
    let mut chunk = head;
    while !chunk.is_empty() {
        hasher.update(&chunk);
        output.write(&chunk).map_err(PipeError::Write)?;
        chunk.clear();
        fill(source, &mut chunk, FRAME_BYTES).map_err(PipeError::Read)?;
    }
    Ok(Passed { digest: hasher.finalize().into(), len: output.len, stored_len: output.len })
}

/// A chunk to compress, and where to send it (with what it became) so that the order is kept.
struct Job {
    raw: Vec<u8>,
    frame: Vec<u8>,
    done: SyncSender<Done>,
}

/// The chunk again, for its buffer, and its frame.
type Done = io::Result<(Vec<u8>, Vec<u8>)>;

/// Hashes and writes here what other threads compress meanwhile.
fn pass_zstd(
    head: Vec<u8>,
    source: &mut dyn Read,
    mut hasher: blake3::Hasher,
    compressors: &Compressors,
    file: &File,
) -> Result<Passed, PipeError> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let (jobs, queue) = channel::<Job>();
    let queue = Mutex::new(queue);
    let queue = &queue;
    thread::scope(|scope| {
        let threads = (0..threads)
            .filter_map(|_| threads::begin(scope, move || compress_jobs(queue, compressors)))
            .count();
        // Moved here, it is dropped before the scope waits: so the threads end in every case.
        let jobs = jobs;
        let mut under_way: VecDeque<Receiver<Done>> = VecDeque::new();
        let mut spare: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut output = Output::new(file);
        let mut len = 0;
        let mut chunk = head;
        let mut frame = Vec::new();
        while !chunk.is_empty() {
            let (done, result) = sync_channel(1);
            under_way.push_back(result);
            // The hash is taken before the buffer goes away; the threads have older chunks to work on.
            hasher.update(&chunk);
            len += chunk.len() as u64;
            let job = Job { raw: chunk, frame, done };
            if threads == 0 {
                compress(job, compressors);
            } else if jobs.send(job).is_err() {
                break; // No thread is left; collecting what is under way tells why.
            }
            if under_way.len() > threads + 1 {
                spare.push(collect(&mut under_way, &mut output)?);
            }
            (chunk, frame) = spare.pop().unwrap_or_else(|| (Vec::with_capacity(FRAME_BYTES), Vec::new()));
            chunk.clear();
            fill(source, &mut chunk, FRAME_BYTES).map_err(PipeError::Read)?;
        }
        while !under_way.is_empty() {
            collect(&mut under_way, &mut output)?;
        }
        Ok(Passed { digest: hasher.finalize().into(), len, stored_len: output.len })
    })
}

/// Waits for the oldest chunk under way, writes its frame and gives its buffers back.
fn collect(
    under_way: &mut VecDeque<Receiver<Done>>,
    output: &mut Output<'_>,
) -> Result<(Vec<u8>, Vec<u8>), PipeError> {
    let oldest = under_way.pop_front().expect("callers look before");
    let gone = |_| io::Error::other("a thread that compresses has ended early");
    let (raw, frame) = oldest.recv().map_err(gone).and_then(|done| done).map_err(PipeError::Write)?;
    output.write(&frame).map_err(PipeError::Write)?;
    Ok((raw, frame))
}

fn compress_jobs(queue: &Mutex<Receiver<Job>>, compressors: &Compressors) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        compress(job, compressors);
    }
}

fn compress(Job { raw, frame: buffer, done }: Job, compressors: &Compressors) {
    let result = compressors.with(|compressor| frame(compressor, &raw, buffer));
    // Nobody waits for it if the pass has failed meanwhile.
    let _ = done.send(result.map(|frame| (raw, frame)));
}

/// A file that is being written, whose write-back begins as it grows.
struct Output<'a> {
    file: &'a File,
    len: u64,
    begun: u64,
}

impl<'a> Output<'a> {
    fn new(file: &'a File) -> Self {
        Self { file, len: 0, begun: 0 }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        if self.len - self.begun >= WRITE_BACK_BYTES {
            sys::start_write_back(self.file, self.begun, self.len - self.begun);
            self.begun = self.len;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without pattern, the same in every run.
    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
        bytes
    }

    fn text(len: usize) -> Vec<u8> {
        b"the quick brown fox jumps over the lazy dog; ".iter().copied().cycle().take(len).collect()
    }

    fn check(raw: &[u8], encoding: Encoding) {
        let mut file = tempfile::tempfile().unwrap();
        let (head, mut rest) = raw.split_at(raw.len().min(FRAME_BYTES));
        let passed =
            pass(head.to_vec(), &mut rest, blake3::Hasher::new(), encoding, &Compressors::default(), &file)
                .unwrap();
        assert_eq!((passed.digest, passed.len), (Digest::of(raw), raw.len() as u64));
        io::Seek::rewind(&mut file).unwrap();
        let mut stored = Vec::new();
        file.read_to_end(&mut stored).unwrap();
        assert_eq!(passed.stored_len, stored.len() as u64);
        let back = match encoding {
            Encoding::Raw => stored,
            Encoding::Zstd => zstd::decode_all(&stored[..]).unwrap(),
        };
        assert!(back == raw, "{encoding:?} of {} bytes", raw.len());
    }

    #[test]
    fn what_passes_comes_back_whatever_its_length() {
        for len in [1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 9 * FRAME_BYTES + 17] {
            for encoding in [Encoding::Raw, Encoding::Zstd] {
                check(&noise(len), encoding);
                check(&text(len), encoding);
            }
        }
    }

    #[test]
    fn any_number_of_threads_will_do() {
        for threads in 0..=THREADS_MAX {
            threads::scarce::with(threads, || {
                for encoding in [Encoding::Raw, Encoding::Zstd] {
                    check(&text(9 * FRAME_BYTES + 17), encoding);
                }
            });
        }
    }

    #[test]
    fn only_what_shrinks_is_compressed() {
        let compressors = Compressors::default();
        for len in [5_000, 200_000, FRAME_BYTES] {
            assert_eq!(compressors.frame_if_it_pays(&noise(len)).unwrap(), None);
            let frame = compressors.frame_if_it_pays(&text(len)).unwrap().unwrap();
            assert_eq!(zstd::bulk::decompress(&frame, len).unwrap(), text(len));
        }
    }

    #[test]
    fn samples_lie_within_the_content() {
        for len in [1, 16_383, 16_384, 16_385, 40_000, 1 << 20, 1 << 50] {
            let offsets: Vec<u64> = sample_offsets(len).collect();
            assert_eq!(offsets.first(), Some(&0));
            assert!(offsets.len() <= 8 && offsets.iter().all(|offset| *offset < len), "{len}: {offsets:?}");
        }
        assert_eq!(sample_offsets(1 << 20).last(), Some((1 << 20) - 16_384));
    }

    /// Fails after some bytes.
    struct Broken(usize);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("no more"));
            }
            let some = buffer.len().min(self.0);
            self.0 -= some;
            Ok(some)
        }
    }

    #[test]
    fn a_source_that_fails_and_a_file_that_takes_nothing_are_told_apart() {
        let full_disk = File::options().write(true).open("/dev/full").unwrap();
        let both = [Encoding::Raw, Encoding::Zstd];
        for (encoding, threads) in both.into_iter().flat_map(|one| [(one, 0), (one, 1), (one, 9)]) {
            let file = tempfile::tempfile().unwrap();
            let head = text(FRAME_BYTES);
            let compressors = Compressors::default();
            let pass = |source: &mut dyn Read, file| {
                threads::scarce::with(threads, || {
                    pass(head.clone(), source, blake3::Hasher::new(), encoding, &compressors, file)
                })
            };
            let failed = pass(&mut Broken(7 * FRAME_BYTES / 2), &file);
            assert!(matches!(failed, Err(PipeError::Read(_))), "{failed:?}");
            let failed = pass(&mut io::repeat(7).take(20 << 20), &full_disk);
            let Err(PipeError::Write(error)) = failed else { panic!("{failed:?}") };
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }
}
