//! Archives: results, their records and their bytes in one file, to be taken to another store.
//!
//! ```text
//! "cas archive\n"  format (4)   zstd: head, (blob, its raw bytes)*, result*, end   digest of all that (32)
//! ```
//!
//! Owns the format, and writing it. Every part is a record of `codec.rs`; a blob's bytes follow its part. What is
//! read is checked before anything of it is taken over (`import.rs`): the whole against its digest, each blob against
//! its own, each part against its checksum. `docs/format.md` specifies every byte. Importing is trusting: that a result
//! belongs to its trace cannot be checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::answers::count;
use crate::codec;
use crate::digest::{Digest, Trace, Version};
use crate::error::{At, StoreError};
use crate::host::Core;
use crate::import;
use crate::index::Family;
use crate::judge::Judgement;
use crate::record::{Evicted, HashKind, Kind, ResultRecord};
use crate::store::Store;
use crate::tables::{self, kind, refs};
use crate::wire::{Opaque, Request, Response};

/// What a file begins with that is one.
const MAGIC: &[u8; 12] = b"cas archive\n";

/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// The version of the parts' records.
const PART_VERSION: u8 = 1;

/// Fast, and good enough for text.
const LEVEL: i32 = 3;

/// Why a result has no bytes where it was imported ([`Evicted::why`](crate::Evicted)).
pub const LEFT_OUT: &str = "an export left its bytes out";

/// So many results are asked for at once.
const PAGE: usize = 256;

/// An answer ends behind the result with which it has so many bytes.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// What is written into an archive.
#[derive(Debug)]
pub struct Export<'a> {
    /// The file, which must not exist.
    pub path: &'a Path,
    /// The results, each with whether its bytes go with it.
    pub results: &'a [(Trace, bool)],
    /// Another archive: what is in it is left out.
    pub since: Option<&'a Path>,
    /// By their traces, those of the results that are only kept of others: what they are written as.
    pub kept: &'a BTreeMap<Trace, Standing>,
    /// The program and its version.
    pub program: &'a str,
    /// Now.
    pub at_ms: u64,
}

/// What a result that is kept of another is, where that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The trace of the other.
    pub trace: Trace,
    /// The rows that name it, one per output.
    pub rows: Vec<Version>,
    /// Its line of history.
    pub history: (String, Version),
}

/// What an archive holds, or what came of importing it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// Records of results.
    pub results: u64,
    /// Of an import: those that were there already.
    pub known: u64,
    /// Of an import: those that stayed out because they count as absent here.
    pub forgotten: u64,
    /// Of an import: those of which this store has other content, which it kept.
    pub differing: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their raw bytes.
    pub bytes: u64,
}

/// One part of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    /// The first.
    Head(Head),
    /// A blob, whose raw bytes follow.
    Blob { digest: Digest, hash: HashKind, len: u64 },
    /// A result.
    Result(Box<Record>),
    /// The last.
    End { results: u64, blobs: u64 },
}

/// Where an archive comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Tells it from every other.
    id: String,
    /// What the store is called; of one that was written before stores had names, its id.
    store: String,
    program: String,
    at_ms: u64,
    /// The id of the archive that it leaves out.
    pub(crate) since: Option<String>,
}

/// A result with everything that is kept with it, as it is taken from one store to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) trace: Trace,
    pub(crate) record: ResultRecord,
    #[serde(with = "codec::bytes")]
    pub(crate) provenance: Vec<u8>,
    pub(crate) parents: Vec<Trace>,
    /// Each with which of the outputs it stands for.
    pub(crate) rows: Vec<(Version, u16)>,
    pub(crate) facts: Vec<(Version, Opaque)>,
    /// Label, when, version.
    pub(crate) moments: Vec<(String, u64, Version)>,
    /// Where it is the copy of another's: who said so.
    pub(crate) accepted: Option<Judgement>,
}

impl Record {
    /// About how many bytes it has.
    fn size(&self) -> usize {
        let facts: usize = self.facts.iter().map(|(_, fact)| 40 + fact.0.len()).sum();
        let moments: usize = self.moments.iter().map(|(label, ..)| 48 + label.len()).sum();
        let hashes = self.parents.len() + self.rows.len() + 3 * self.record.outputs.len();
        256 + self.provenance.len() + facts + moments + 36 * hashes
    }
}

/// What is asked of the host about archives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    Gather(Vec<Trace>),
    Import(import::Ask),
}

/// What the host answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Told {
    /// Those of the first `gathered` traces: an answer has its bounds.
    Records {
        records: Vec<Record>,
        gathered: u64,
    },
    Imported(Archived),
}

impl Store {
    /// Writes results into an archive, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`]; a blob that is gone or wrong; the other archive is none; the disk.
    pub fn export(&self, export: &Export<'_>) -> Result<Archived, StoreError> {
        let path = export.path;
        if path.symlink_metadata().is_ok() {
            return Err(StoreError::Exists { path: path.to_owned() });
        }
        let since = export.since.map(Since::read).transpose()?;
        let (file, partial) = begin(path)?;
        let part = partial.as_ref().map_or(path, |partial| &partial.0);
        let archived = self.write_archive(export, since.as_ref(), part, &file)?;
        file.sync_all().at("sync", part)?;
        match partial {
            None => name(&file, path)?,
            Some(partial) => {
                if path.symlink_metadata().is_ok() {
                    return Err(StoreError::Exists { path: path.to_owned() });
                }
                fs::rename(&partial.0, path).at("rename", &partial.0)?;
                std::mem::forget(partial);
            }
        }
        Ok(archived)
    }

    fn write_archive(
        &self,
        export: &Export<'_>,
        since: Option<&Since>,
        path: &Path,
        file: &File,
    ) -> Result<Archived, StoreError> {
        let mut raw = Hashing { to: BufWriter::new(file), hasher: blake3::Hasher::new() };
        raw.write_all(MAGIC).and_then(|()| raw.write_all(&FORMAT.to_le_bytes())).at("write", path)?;
        let mut to = zstd::Encoder::new(raw, LEVEL).at("write", path)?;
        to.include_checksum(true).at("write", path)?;
        let head = Head {
            id: crate::blob::token(),
            store: self.name(),
            program: export.program.to_owned(),
            at_ms: export.at_ms,
            since: since.map(|since| since.id.clone()),
        };
        put(&mut to, &Part::Head(head), path)?;
        let mut archived = Archived::default();
        let mut written: BTreeSet<Digest> = since.map(|since| since.blobs.clone()).unwrap_or_default();
        let mut records = Vec::new();
        let mut left = export.results;
        while !left.is_empty() {
            let page = &left[..left.len().min(PAGE)];
            let traces: Vec<Trace> = page.iter().map(|(trace, _)| *trace).collect();
            let whole: BTreeMap<Trace, bool> = page.iter().copied().collect();
            let (gathered, count) = self.gather(traces)?;
            left = &left[count.clamp(1, page.len())..];
            for mut record in gathered {
                let found = self.results(&[record.trace])?.pop().flatten();
                let Some(found) = found else { continue };
                if whole.get(&record.trace) == Some(&true) && found.whole() {
                    record.record.evicted = None;
                    self.put_blobs(&mut to, &mut record.record, &mut written, &mut archived, path)?;
                } else {
                    let at_ms = export.at_ms;
                    let left_out = || Evicted { at_ms, why: LEFT_OUT.to_owned() };
                    record.record.evicted.get_or_insert_with(left_out);
                }
                records.push(match export.kept.get(&record.trace) {
                    Some(standing) => self.written_as(record, standing)?,
                    None => record,
                });
            }
        }
        for record in records {
            let bytes = encoded(&Part::Result(Box::new(record.clone())), path)?;
            if since.is_some_and(|since| since.results.get(&record.trace) == Some(&Digest::of(&bytes))) {
                continue;
            }
            to.write_all(&bytes).at("write", path)?;
            archived.results += 1;
        }
        put(&mut to, &Part::End { results: archived.results, blobs: archived.blobs }, path)?;
        let Hashing { to: mut raw, hasher } = to.finish().at("write", path)?;
        raw.write_all(hasher.finalize().as_bytes()).and_then(|()| raw.flush()).at("write", path)?;
        Ok(archived)
    }

    /// What is kept of a result, as that result: what it was made from and the facts are those of its trace.
    fn written_as(&self, kept: Record, standing: &Standing) -> Result<Record, StoreError> {
        let present = self.gather(vec![standing.trace])?.0.pop();
        let (parents, facts) = present.map(|present| (present.parents, present.facts)).unwrap_or_default();
        let (label, version) = &standing.history;
        Ok(Record {
            trace: standing.trace,
            parents,
            rows: standing.rows.iter().copied().zip(0..).collect(),
            facts,
            moments: vec![(label.clone(), kept.record.made_ms, *version)],
            accepted: None,
            ..kept
        })
    }

    /// Writes what a result names, as far as it was not written before.
    fn put_blobs(
        &self,
        to: &mut dyn Write,
        record: &mut ResultRecord,
        written: &mut BTreeSet<Digest>,
        archived: &mut Archived,
        path: &Path,
    ) -> Result<(), StoreError> {
        let mut digests = Vec::new();
        for artifact in record.outputs.iter().filter_map(|output| output.artifact.as_ref()) {
            if artifact.kind == Kind::Tree && !written.contains(&artifact.digest) {
                // The files of a tree stand before it.
                digests.extend(self.tree(&artifact.digest)?.files());
            }
            digests.push(artifact.digest);
        }
        if let Some(log) = record.log {
            // What was printed may be gone before the result is.
            match self.records_of(&[log])?.pop().flatten() {
                Some(_) => digests.push(log),
                None => record.log = None,
            }
        }
        digests.retain(|digest| written.insert(*digest));
        for (digest, blob) in digests.iter().zip(self.records_of(&digests)?) {
            let blob = blob.ok_or(StoreError::Missing { digest: *digest })?;
            put(to, &Part::Blob { digest: *digest, hash: blob.hash, len: blob.len }, path)?;
            self.read(digest, to)?;
            archived.blobs += 1;
            archived.bytes += blob.len;
        }
        Ok(())
    }

    /// The records of the first traces, and of how many that is.
    fn gather(&self, traces: Vec<Trace>) -> Result<(Vec<Record>, usize), StoreError> {
        match self.ask(Request::Archive(Ask::Gather(traces)))? {
            Response::Archive(Told::Records { records, gathered }) => Ok((records, count(gathered))),
            other => Err(self.unexpected(&other)),
        }
    }
}

/// Looks at a file that is to be imported where there is no store yet, before one is made for it: whether it is a whole
/// export, and one that needs no other.
///
/// # Errors
///
/// [`StoreError::Archive`] and [`StoreError::ArchiveBase`] as for an import.
pub fn check_export(path: &Path) -> Result<(), StoreError> {
    let mut parts = Parts::open(path)?;
    if parts.head()?.since.is_some() {
        return Err(StoreError::ArchiveBase { path: path.to_owned(), blob: None });
    }
    Since::read(path).map(drop)
}

/// Hashes what is written.
struct Hashing<W> {
    to: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A file that has no name until it is whole, so that nothing is left of it however its writer ends. Where a file system
/// cannot have one, it stands beside its place.
fn begin(path: &Path) -> Result<(File, Option<Partial>), StoreError> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    // Without /proc there would be no way to name it.
    if Path::new("/proc/self/fd").is_dir()
        && let Ok(file) = rustix::fs::open(folder, flags, Mode::from_raw_mode(0o666))
    {
        return Ok((File::from(file), None));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", crate::blob::token()));
    let part = path.with_file_name(name);
    let file = File::create_new(&part).at("create", &part)?;
    Ok((file, Some(Partial(part))))
}

/// Gives a file without a name this one, which nothing may have.
fn name(file: &File, path: &Path) -> Result<(), StoreError> {
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, nameless, CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Err(Errno::EXIST) => Err(StoreError::Exists { path: path.to_owned() }),
        linked => linked.map_err(io::Error::from).at("write", path),
    }
}

/// A file beside its place, which goes where it does not become whole.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // There is an error on its way already.
        let _ = fs::remove_file(&self.0);
    }
}

fn encoded(part: &Part, path: &Path) -> Result<Vec<u8>, StoreError> {
    codec::encode(kind::ARCHIVE, PART_VERSION, part)
        .map_err(|error| StoreError::Archive { path: path.to_owned(), what: error.to_string() })
}

fn put(to: &mut dyn Write, part: &Part, path: &Path) -> Result<(), StoreError> {
    to.write_all(&encoded(part, path)?).at("write", path)
}

/// An archive that is left out of another.
struct Since {
    id: String,
    blobs: BTreeSet<Digest>,
    /// With the digest of each one's part: one that says something else by now is not left out.
    results: BTreeMap<Trace, Digest>,
}

impl Since {
    fn read(path: &Path) -> Result<Self, StoreError> {
        let mut parts = Parts::open(path)?;
        let head = parts.head()?;
        let mut since = Self { id: head.id, blobs: BTreeSet::new(), results: BTreeMap::new() };
        loop {
            match parts.next()? {
                Part::Head(_) => return Err(parts.bad("it begins twice")),
                Part::Blob { digest, len, .. } => {
                    let skipped = io::copy(&mut (&mut parts.from).take(len), &mut io::sink());
                    if skipped.map_err(|error| parts.bad(&unreadable(&error)))? != len {
                        return Err(parts.bad("it ends in the middle of a blob"));
                    }
                    since.blobs.insert(digest);
                }
                Part::Result(record) => {
                    let trace = record.trace;
                    let bytes = encoded(&Part::Result(record), path)?;
                    since.results.insert(trace, Digest::of(&bytes));
                }
                Part::End { .. } => {
                    parts.ended()?;
                    return Ok(since);
                }
            }
        }
    }
}

/// An archive that is read part by part.
pub(crate) struct Parts {
    path: PathBuf,
    from: zstd::Decoder<'static, BufReader<io::Take<File>>>,
    /// The bytes of the last part.
    len: usize,
}

impl Parts {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut file = File::open(path).at("open", path)?;
        let bad = |what: &str| StoreError::Archive { path: path.to_owned(), what: what.to_owned() };
        let mut begin = [0; 16];
        match file.read_exact(&mut begin) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(bad("it is no export of cas"));
            }
            other => other.at("read", path)?,
        }
        let (magic, format) = begin.split_at(12);
        if magic != MAGIC {
            return Err(bad("it is no export of cas"));
        }
        let format = u32::from_le_bytes(format.try_into().expect("16 bytes less 12"));
        if format != FORMAT {
            return Err(bad(&format!("it has format {format}; this program reads format {FORMAT}")));
        }
        // All of it first: whatever was cut off or changed is found here, and nothing of it is believed.
        let len = file.metadata().at("look at", path)?.len();
        let Some(body) = len.checked_sub(16 + 32) else { return Err(bad("it ends too early")) };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&begin);
        hasher.update_reader((&mut file).take(body)).at("read", path)?;
        let mut end = [0; 32];
        file.read_exact(&mut end).at("read", path)?;
        if *hasher.finalize().as_bytes() != end {
            return Err(bad("it is not whole, or was changed: its digest is another"));
        }
        file.seek(io::SeekFrom::Start(16)).at("seek in", path)?;
        let from = zstd::Decoder::new(file.take(body)).at("read", path)?;
        Ok(Self { path: path.to_owned(), from, len: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes the last part has, without content.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The content that follows a blob's part.
    pub(crate) fn content(&mut self, len: u64) -> impl Read {
        (&mut self.from).take(len)
    }

    pub(crate) fn bad(&self, what: &str) -> StoreError {
        StoreError::Archive { path: self.path.clone(), what: what.to_owned() }
    }

    /// It leaves out this blob, which another export has.
    pub(crate) fn lacks(&self, blob: Digest) -> StoreError {
        StoreError::ArchiveBase { path: self.path.clone(), blob: Some(blob) }
    }

    pub(crate) fn head(&mut self) -> Result<Head, StoreError> {
        match self.next()? {
            Part::Head(head) => Ok(head),
            Part::Blob { .. } | Part::Result(_) | Part::End { .. } => {
                Err(self.bad("it does not say where it comes from"))
            }
        }
    }

    pub(crate) fn next(&mut self) -> Result<Part, StoreError> {
        let mut bytes = vec![0; codec::HEADER_BYTES];
        self.fill(&mut bytes)?;
        let len = codec::record_bytes(&bytes).map_err(|error| self.bad(&error.to_string()))?;
        // Read as it comes: a length that lies takes no memory.
        let wanted = (len - codec::HEADER_BYTES) as u64;
        let read = (&mut self.from).take(wanted).read_to_end(&mut bytes);
        if read.map_err(|error| self.bad(&unreadable(&error)))? as u64 != wanted {
            return Err(self.bad("it ends too early"));
        }
        self.len = bytes.len();
        codec::decode(kind::ARCHIVE, PART_VERSION, &bytes).map_err(|error| self.bad(&error.to_string()))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), StoreError> {
        let read = self.from.read_exact(bytes);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.bad("it ends too early"),
            _ => self.bad(&unreadable(&error)),
        })
    }

    /// Nothing stands behind the end.
    pub(crate) fn ended(&mut self) -> Result<(), StoreError> {
        match self.from.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.bad("something stands behind its end")),
            Err(error) => Err(self.bad(&unreadable(&error))),
        }
    }
}

pub(crate) fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

impl Core {
    /// Answers what is asked about archives.
    pub(crate) fn archive(&self, connection: u64, ask: Ask) -> Result<Told, StoreError> {
        Ok(match ask {
            Ask::Gather(traces) => {
                let (mut records, mut size, mut gathered) = (Vec::new(), 0, 0);
                for trace in traces {
                    if size >= ANSWER_BYTES {
                        break;
                    }
                    if let Some(record) = self.gather(trace)? {
                        size += record.size();
                        records.push(record);
                    }
                    gathered += 1;
                }
                Told::Records { records, gathered }
            }
            Ask::Import(ask) => Told::Imported(self.import(connection, ask)?),
        })
    }

    /// Everything that is kept with a result.
    fn gather(&self, trace: Trace) -> Result<Option<Record>, StoreError> {
        let key = trace.as_bytes();
        let Some(record) = self.index.result(&trace)?.filter(|_| !self.marks.forgotten(&trace)) else {
            return Ok(None);
        };
        let provenance: Option<tables::ProvenanceRow> = match self.index.get(Family::Provenance, key)? {
            Some(bytes) => Some(self.index.decode(kind::PROVENANCE, "provenance", key, &bytes)?),
            None => None,
        };
        let parents = self.index.referred_hashes(key, refs::PARENT)?;
        let mut rows = Vec::new();
        for row in self.index.referred_hashes(key, refs::ROW)? {
            let version = Version::from_bytes(row);
            if let Some((of, place)) = self.index.row_place(&version)?
                && of == trace
            {
                rows.push((version, place));
            }
        }
        let mut facts = Vec::new();
        for fact in self.index.referred_hashes(key, refs::HAS_FACT)? {
            if let Some(bytes) = self.index.get(Family::Facts, &fact)? {
                let tables::OpaqueRow(bytes) = self.index.decode(kind::FACT, "fact", &fact, &bytes)?;
                facts.push((Version::from_bytes(fact), Opaque(bytes)));
            }
        }
        let mut moments = Vec::new();
        for label in self.index.referred(key, refs::LABEL)? {
            let Ok(label) = String::from_utf8(label) else { continue };
            self.index.scan_prefix(Family::History, &tables::label_prefix(&label), &mut |key, value| {
                let moment = self.index.moment(key, value)?;
                if moment.trace == trace {
                    moments.push((moment.label, moment.at_ms, moment.version));
                }
                Ok(true)
            })?;
        }
        let accepted = self.accepted(&trace)?;
        Ok(Some(Record {
            trace,
            record,
            provenance: provenance.map(|row| row.provenance).unwrap_or_default(),
            parents: parents.into_iter().map(Trace::from_bytes).collect(),
            rows,
            facts,
            moments,
            accepted,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part's bytes are on disk: whoever changes them changes what old archives mean.
    #[test]
    fn the_bytes_of_parts_are_these() {
        let hex = |part: &Part| {
            let bytes = encoded(part, Path::new("x")).expect("it encodes");
            assert_eq!(codec::decode(kind::ARCHIVE, PART_VERSION, &bytes).as_ref(), Ok(part));
            bytes[codec::HEADER_BYTES..].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let head = Head {
            id: "a".to_owned(),
            store: "b".to_owned(),
            program: "c".to_owned(),
            at_ms: 1,
            since: Some("d".to_owned()),
        };
        assert_eq!(hex(&Part::Head(head)), "0001610162016301010164");
        let digest = Digest::from_bytes([7; 32]);
        assert_eq!(
            hex(&Part::Blob { digest, hash: HashKind::Tree, len: 9 }),
            format!("0120{}0109", "07".repeat(32))
        );
        let record = Record {
            trace: Trace::from_bytes([1; 32]),
            record: ResultRecord { outputs: Vec::new(), log: None, made_ms: 1, cost_ms: 2, evicted: None },
            provenance: vec![3],
            parents: vec![Trace::from_bytes([2; 32])],
            rows: vec![(Version::from_bytes([4; 32]), 5)],
            facts: Vec::new(),
            moments: vec![("l".to_owned(), 6, Version::from_bytes([4; 32]))],
            accepted: None,
        };
        assert_eq!(
            hex(&Part::Result(Box::new(record))),
            format!(
                "0220{}000001020001030120{}0120{}05000101\
                 6c0620{}00",
                "01".repeat(32),
                "02".repeat(32),
                "04".repeat(32),
                "04".repeat(32)
            )
        );
        assert_eq!(hex(&Part::End { results: 2, blobs: 3 }), "030203");
    }
}
