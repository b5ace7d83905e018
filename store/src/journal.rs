//! The journal: every change of the index, in the order in which it was decided.
//!
//! Owns the folder `journal/`. A segment is a header of 64 bytes and codec records one after the other
//! (`docs/format.md` has the bytes). A change is appended before the index's batch is written, and the
//! batch holds the position behind it, so a new host applies what the journal has beyond the index. A
//! torn end (of a process that was killed while it wrote, or of a machine that lost power) is cut off and
//! is no error: nothing in it was acknowledged.
//!
//! A *snapshot* is a segment that holds the whole index as it was when the segment after it began;
//! segments before it are worth nothing any longer. Bytes once written are never changed.

mod records;
mod segment;
mod snapshot;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::change::Change;
use crate::codec;
use crate::crash;
use crate::disk;
use crate::error::{At, StoreError};
use crate::plain_file;
use crate::tables::{RECORD_VERSION, kind};
use records::{Next, Records};
use segment::{Broken, HEADER_BYTES, Header, KIND_LOG, Segment, segment_path};
pub(crate) use snapshot::write_snapshot;

/// A new segment begins when one has this many bytes.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// A place in the journal: behind so many bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The segment's number.
    pub(crate) segment: u64,
    /// Bytes from its beginning.
    pub(crate) offset: u64,
}

impl Position {
    /// How many bytes of the journal lie between another position and this one; of those in earlier segments,
    /// none are counted.
    pub(crate) fn beyond(self, other: Option<Self>) -> u64 {
        match other {
            Some(other) if other.segment == self.segment => self.offset.saturating_sub(other.offset),
            Some(_) | None => self.offset,
        }
    }

    /// As it is kept in the index.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.segment.to_be_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// From what is kept in the index.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (segment, offset) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            segment: u64::from_be_bytes(*segment),
            offset: u64::from_be_bytes(offset.try_into().ok()?),
        })
    }
}

/// The journal, open for appending.
pub(crate) struct Journal {
    /// The store's folder, for messages.
    root: PathBuf,
    dir: PathBuf,
    store: String,
    file: Arc<File>,
    end: Position,
    /// Set when an append could neither be finished nor undone.
    broken: Option<String>,
}

/// What opening the journal found.
pub(crate) struct Opened {
    /// The journal.
    pub(crate) journal: Journal,
    /// Whether the journal cannot be read whole, or does not hold all that the index holds: a snapshot
    /// mends that.
    pub(crate) incomplete: bool,
    /// Where changes are lost, in words.
    pub(crate) lost: Vec<String>,
}

/// A part of the journal that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// The segment.
    pub(crate) path: PathBuf,
    /// Where in it.
    pub(crate) offset: u64,
    /// Whether nothing of the segment can be read.
    pub(crate) is_whole_segment: bool,
    /// What is wrong.
    pub(crate) what: String,
}

impl Journal {
    /// Opens the journal of a store and hands every change behind `applied` (all of them, if `None`) to
    /// `apply`. A torn end is cut off without a word. What else cannot be read is passed over, kept in
    /// quarantine and reported; what comes behind it is not lost. `closed_at` is where the journal ended when
    /// the store was last closed.
    ///
    /// # Errors
    ///
    /// [`StoreError::IndexDamaged`] when a whole segment that the index lacks is missing or none of ours.
    pub(crate) fn open(
        root: &Path,
        dir: &Path,
        store: &str,
        applied: Option<Position>,
        closed_at: Option<Position>,
        apply: &mut dyn FnMut(&Change, Position) -> Result<(), StoreError>,
    ) -> Result<Opened, StoreError> {
        fs::create_dir_all(dir).at("make", dir)?;
        remove_unfinished(dir)?;
        let damaged = |what: String| StoreError::IndexDamaged { dir: root.to_owned(), what };
        let segments = Segment::list(root, dir, store)?;
        let base = segments.iter().rposition(|segment| segment.header.is_snapshot());
        let segments = &segments[base.unwrap_or(0)..];
        let holds = |position: Position| applied.is_some_and(|applied| applied >= position);
        let Some(last) = segments.last() else {
            // A new store, or one whose journal is gone.
            let mut lost = Vec::new();
            if closed_at.is_some_and(|end| !holds(end)) {
                lost.push(format!(
                    "`{}` holds no journal any more: what was not in the index yet is lost",
                    dir.display()
                ));
            }
            let number = applied.max(closed_at).map_or(1, |position| position.segment + 1);
            let journal = Self::begin(root, dir, store, number, 0)?;
            return Ok(Opened { journal, incomplete: applied.is_some(), lost });
        };

        let mut end = None;
        let mut previous: Option<&Segment> = None;
        let mut behind = false;
        let mut lost = Vec::new();
        for segment in segments {
            let number = segment.header.number;
            let is_last = number == last.header.number;
            if let Some(previous) = previous
                && segment.header.previous != previous.header.number
                && !previous.header.is_snapshot()
                && applied.is_none_or(|applied| applied.segment < number)
            {
                return Err(damaged(format!(
                    "the segment before `{}` is missing in the journal",
                    segment.path.display()
                )));
            }
            previous = Some(segment);
            let from = match applied {
                Some(applied) if applied.segment > number => continue,
                Some(applied) if applied.segment == number => applied.offset,
                _ if segment.header.is_snapshot() && applied.is_some() => {
                    return Err(damaged("it is older than the journal's snapshot".to_owned()));
                }
                _ => HEADER_BYTES as u64,
            };
            if from > segment.len {
                // The index reached the disk and the end of the journal did not.
                behind = true;
                continue;
            }
            let mut reader = Records::open(segment, from)?;
            let mut holes = Vec::new();
            loop {
                match reader.next()? {
                    Next::Change(change, offset) => {
                        apply(&change, Position { segment: number, offset })?;
                    }
                    Next::End => {
                        end = Some(Position { segment: number, offset: reader.offset });
                        break;
                    }
                    Next::Unreadable { offset, what, torn } => {
                        let goes_on = reader.resume(offset + 1)?;
                        if goes_on || !torn || !is_last {
                            holes.push((offset, what));
                        }
                        if !goes_on {
                            end = Some(Position { segment: number, offset });
                            break;
                        }
                    }
                }
            }
            if !holes.is_empty() {
                let kept = segment.keep(root)?;
                for (offset, what) in holes {
                    lost.push(format!(
                        "`{}` cannot be read at byte {offset} ({what}): the change that stood there is lost, \
                         what follows it is not; a copy is `{}`",
                        segment.path.display(),
                        kept.display()
                    ));
                }
            }
            if let Some(end) = end.filter(|end| is_last && end.offset < segment.len) {
                let file =
                    plain_file::open(&segment.path, File::options().write(true)).at("open", &segment.path)?;
                disk::cut(&file, &segment.path, end.offset).at("cut", &segment.path)?;
            }
        }

        behind |= applied.is_some_and(|applied| applied.segment > last.header.number);
        let reached = end.max(applied);
        if let Some(closed_at) = closed_at.filter(|closed_at| reached < Some(*closed_at)) {
            lost.push(format!(
                "`{}` ends before byte {} of segment {}, where it ended when the store was last closed: what \
                 stood behind its end is lost",
                dir.display(),
                closed_at.offset,
                closed_at.segment
            ));
        }
        let journal = match end {
            Some(end) if !behind && !last.header.is_snapshot() => {
                let file = plain_file::open(&last.path, File::options().read(true).write(true))
                    .at("open", &last.path)?;
                Self::at(root, dir, store, file, end)
            }
            _ => {
                let number = last.header.number.max(applied.map_or(0, |position| position.segment)) + 1;
                Self::begin(root, dir, store, number, last.header.number)?
            }
        };
        for old in Segment::numbers(dir)? {
            if base.is_some() && old < segments[0].header.number {
                let path = segment_path(dir, old);
                disk::remove(&path).at("remove", &path)?;
            }
        }
        Ok(Opened { journal, incomplete: behind || !lost.is_empty(), lost })
    }

    /// Reads the whole journal, whatever its state, for an index that is made anew. What cannot be read is
    /// passed over and reported; what comes behind it is not lost. Changes up to `after` are left out, and
    /// nothing behind `until` is looked at.
    pub(crate) fn replay(
        root: &Path,
        dir: &Path,
        store: &str,
        after: Option<Position>,
        until: Option<Position>,
        apply: &mut dyn FnMut(&Change, Position) -> Result<(), StoreError>,
    ) -> Result<Vec<Unreadable>, StoreError> {
        let mut unreadable = Vec::new();
        let mut segments = Vec::new();
        for number in Segment::numbers(dir)? {
            let path = segment_path(dir, number);
            match Segment::open(&path, number, store) {
                Ok(segment) => segments.push(segment),
                Err(Broken::Empty) => {}
                Err(Broken::Header(what)) => {
                    unreadable.push(Unreadable { path, offset: 0, is_whole_segment: true, what })
                }
                Err(Broken::Io(source)) => {
                    return Err(StoreError::Io { action: "read", path: root.join(path), source });
                }
            }
        }
        let base = segments.iter().rposition(|segment| segment.header.is_snapshot());
        let mut previous: Option<&Segment> = None;
        for segment in &segments[base.unwrap_or(0)..] {
            let number = segment.header.number;
            if let Some(previous) = previous
                && segment.header.previous != previous.header.number
                && !previous.header.is_snapshot()
            {
                let what = "the segment before it is missing".to_owned();
                unreadable.push(Unreadable {
                    path: segment.path.clone(),
                    offset: 0,
                    is_whole_segment: false,
                    what,
                });
            }
            previous = Some(segment);
            if until.is_some_and(|until| until.segment < number) {
                break;
            }
            let from = match after {
                Some(after) if after.segment > number => continue,
                Some(after) if after.segment == number => after.offset,
                Some(_) if segment.header.is_snapshot() => {
                    let what = "it is older than the journal's snapshot".to_owned();
                    return Err(StoreError::IndexDamaged { dir: root.to_owned(), what });
                }
                _ => HEADER_BYTES as u64,
            };
            let mut reader = Records::open(segment, from)?;
            if let Some(until) = until.filter(|until| until.segment == number) {
                reader.len = until.offset;
            }
            loop {
                match reader.next()? {
                    Next::Change(change, offset) => {
                        apply(&change, Position { segment: number, offset })?;
                    }
                    Next::End => break,
                    Next::Unreadable { offset, what, torn } => {
                        let goes_on = reader.resume(offset + 1)?;
                        // What a killed process leaves at the very end is no loss.
                        let is_last = segments.last().is_some_and(|last| last.header.number == number);
                        if goes_on || !torn || !is_last || until.is_some() {
                            unreadable.push(Unreadable {
                                path: segment.path.clone(),
                                offset,
                                is_whole_segment: false,
                                what,
                            });
                        }
                        if !goes_on {
                            break;
                        }
                    }
                }
            }
        }
        Ok(unreadable)
    }

    /// A journal of a store that is only read: it ends at `end` and takes nothing.
    pub(crate) fn frozen(
        root: &Path,
        dir: &Path,
        store: &str,
        end: Position,
        why: &str,
    ) -> Result<Self, StoreError> {
        // Any file would do: what is broken is neither written nor synced.
        let file = File::open(root).at("open", root)?;
        let mut journal = Self::at(root, dir, store, file, end);
        journal.broken = Some(why.to_owned());
        Ok(journal)
    }

    /// Where the journal ends.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Appends changes, in one write, and gives the position behind each of them.
    ///
    /// # Errors
    ///
    /// When they cannot be written; then none of them is in the journal.
    pub(crate) fn append(&mut self, changes: &[&Change]) -> Result<Vec<Position>, StoreError> {
        if let Some(what) = &self.broken {
            return Err(StoreError::ReadOnly { dir: self.root.clone(), what: what.clone() });
        }
        let path = segment_path(&self.dir, self.end.segment);
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(changes.len());
        for change in changes {
            let record = codec::encode(kind::CHANGE, RECORD_VERSION, change)
                .map_err(|error| StoreError::Index { dir: self.root.clone(), what: error.to_string() })?;
            bytes.extend_from_slice(&record);
            let offset = self.end.offset + bytes.len() as u64;
            ends.push(Position { segment: self.end.segment, offset });
        }
        crash::point("journal.before-append");
        // So that a test can end the process with half a record written.
        #[cfg(feature = "crash-points")]
        {
            let half = &bytes[..bytes.len() / 2];
            disk::write_at(&self.file, &path, half, self.end.offset).at("write", &path)?;
            crash::point("journal.half-appended");
        }
        let written = disk::write_at(&self.file, &path, &bytes, self.end.offset);
        if let Err(source) = written {
            // Half a record at the end would be cut off at the next start, but what this process appends
            // behind it would go with it.
            if let Err(error) = disk::cut(&self.file, &path, self.end.offset) {
                self.broken = Some(format!("its journal could neither be written nor cut: {error}"));
            }
            return Err(StoreError::Io { action: "write", path, source });
        }
        crash::point("journal.after-append");
        self.end.offset += bytes.len() as u64;
        Ok(ends)
    }

    /// Takes what was appended last back, because it could not be applied.
    pub(crate) fn take_back(&mut self, to: Position) {
        if to.segment != self.end.segment {
            return;
        }
        match disk::cut(&self.file, &segment_path(&self.dir, to.segment), to.offset) {
            Ok(()) => self.end = to,
            Err(error) => {
                self.broken = Some(format!("a change could not be taken back from its journal: {error}"));
            }
        }
    }

    /// Whether it is time for a new segment.
    pub(crate) fn is_full(&self) -> bool {
        self.end.offset >= SEGMENT_BYTES
    }

    /// The segment's file, to be synced while appending goes on.
    pub(crate) fn file(&self) -> (Arc<File>, PathBuf) {
        (Arc::clone(&self.file), segment_path(&self.dir, self.end.segment))
    }

    /// Syncs this segment and goes on in a new one, with `gap` numbers between them left free.
    pub(crate) fn rotate(&mut self, gap: u64) -> Result<(), StoreError> {
        let path = segment_path(&self.dir, self.end.segment);
        disk::sync_data(&self.file, &path).at("sync", &path)?;
        let next = self.end.segment + 1 + gap;
        *self = Self::begin(&self.root, &self.dir, &self.store, next, self.end.segment)?;
        Ok(())
    }

    /// How many bytes all segments take, and how many of them a snapshot takes.
    pub(crate) fn sizes(&self) -> Result<(u64, u64), StoreError> {
        let mut sizes = (0, 0);
        for segment in Segment::list(&self.root, &self.dir, &self.store)? {
            sizes.0 += segment.len;
            if segment.header.is_snapshot() {
                sizes.1 = segment.len;
            }
        }
        Ok(sizes)
    }

    /// Begins a new segment. Its header is on disk, and its name, before anything is appended.
    fn begin(root: &Path, dir: &Path, store: &str, number: u64, previous: u64) -> Result<Self, StoreError> {
        let path = segment_path(dir, number);
        let temporary = dir.join(format!("{number:016}.new"));
        let header = Header { number, kind: KIND_LOG, previous };
        let file = plain_file::replace(&temporary).at("make", &temporary)?;
        disk::write_at(&file, &temporary, &header.to_bytes(store), 0).at("write", &temporary)?;
        crash::point("journal.segment-made");
        disk::rename(&temporary, &path).at("rename", &temporary)?;
        crash::point("journal.segment-named");
        let end = Position { segment: number, offset: HEADER_BYTES as u64 };
        Ok(Self::at(root, dir, store, file, end))
    }

    fn at(root: &Path, dir: &Path, store: &str, file: File, end: Position) -> Self {
        Self {
            root: root.to_owned(),
            dir: dir.to_owned(),
            store: store.to_owned(),
            file: Arc::new(file),
            end,
            broken: None,
        }
    }
}

/// Makes the names in the journal's folder durable.
pub(crate) fn sync_folder(dir: &Path) -> Result<(), StoreError> {
    disk::sync_folder(dir).at("sync", dir)
}

/// What the journal's segments call their store: the first digits of its id.
pub(crate) fn store_of(dir: &Path) -> Option<String> {
    let numbers = Segment::numbers(dir).ok()?;
    numbers.iter().rev().find_map(|number| {
        let mut bytes = [0; HEADER_BYTES];
        File::open(segment_path(dir, *number)).ok()?.read_exact(&mut bytes).ok()?;
        let id = std::str::from_utf8(&bytes[36..60]).ok()?;
        Header::from_bytes(&bytes, id).ok().map(|_| id.to_owned())
    })
}

/// Writes the first segment of a journal, with these bytes behind its header.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn segment_of(dir: &Path, store: &str, bytes: &[u8]) -> std::io::Result<()> {
    let header = Header { number: 1, kind: KIND_LOG, previous: 0 };
    fs::write(segment_path(dir, 1), [header.to_bytes(store).as_slice(), bytes].concat())
}

/// Removes segments that were never named: nothing was appended to them.
fn remove_unfinished(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).at("read", dir)? {
        let path = entry.at("read", dir)?.path();
        if path.extension().is_some_and(|extension| extension == "new") {
            disk::remove(&path).at("remove", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_keep_their_order_in_bytes() {
        let positions =
            [(0, 9), (1, 0), (1, 256), (2, 1)].map(|(segment, offset)| Position { segment, offset });
        for pair in positions.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes());
        }
        assert_eq!(Position::from_bytes(&positions[2].to_bytes()), Some(positions[2]));
        assert_eq!(Position::from_bytes(&[0; 15]), None);
    }
}
