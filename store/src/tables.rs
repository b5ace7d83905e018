//! What the keys and values of the index mean.
//!
//! Every key layout and record number of the index stands here, and nowhere else; `docs/format.md` says
//! the same in prose. All numbers in keys are big-endian, so that keys sort as their numbers do. A value
//! that does not decode is damage of the index, never a panic and never a guess.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::index::{Family, Index};
use crate::journal::Position;
use crate::record::{BlobRecord, Encoding, HashKind, Moment, Pin, Place, Replacement, ResultRecord};

/// Kinds of records, as they stand in their headers. Never reused.
pub(crate) mod kind {
    pub(crate) const RESULT: u8 = 1;
    pub(crate) const PROVENANCE: u8 = 2;
    pub(crate) const FACT: u8 = 3;
    pub(crate) const BLOB: u8 = 4;
    pub(crate) const INLINE: u8 = 5;
    pub(crate) const TREE: u8 = 6;
    pub(crate) const PIN: u8 = 7;
    pub(crate) const RUN: u8 = 8;
    pub(crate) const REPLACEMENT: u8 = 9;
    pub(crate) const COUNTERS: u8 = 10;
    pub(crate) const CHANGE: u8 = 11;
    pub(crate) const JUDGEMENT: u8 = 12;
    pub(crate) const ARCHIVE: u8 = 13;
    pub(crate) const IMPORT_PART: u8 = 14;
    pub(crate) const IMPORTED: u8 = 15;
}

/// The version of every kind of record so far.
pub(crate) const RECORD_VERSION: u8 = 1;

/// What a key of [`Family::Refs`] says: `<32 bytes> <tag> <the rest>`.
///
/// Those that keep a blob come first, so that one look at the first key of a digest tells whether
/// anything does.
pub(crate) mod refs {
    /// Digest → trace of a result that names it as an output.
    pub(crate) const OUTPUT: u8 = 0x10;
    /// Digest → trace of a result whose log it is.
    pub(crate) const LOG: u8 = 0x11;
    /// Digest → digest of a tree that holds it.
    pub(crate) const TREE: u8 = 0x12;
    /// Digest → number of a run that names it.
    pub(crate) const RUN: u8 = 0x13;
    /// Digest → part of an import that is not ended, as in the keys of `meta`.
    pub(crate) const IMPORT: u8 = 0x14;
    /// The last tag that keeps a blob.
    pub(crate) const LAST_KEEPER: u8 = 0x1f;
    /// Digest → trace of an evicted result that had it as an output.
    pub(crate) const EVICTED: u8 = 0x20;
    /// Version of a fact → trace of a result that it was put with.
    pub(crate) const FACT: u8 = 0x30;
    /// Trace → version of a row that names it.
    pub(crate) const ROW: u8 = 0x40;
    /// Trace → version of a fact that was put with it.
    pub(crate) const HAS_FACT: u8 = 0x41;
    /// Trace → label that it has a moment under.
    pub(crate) const LABEL: u8 = 0x42;
    /// Trace → trace of a result that was made from it.
    pub(crate) const CHILD: u8 = 0x43;
    /// Trace → trace of a result that it was made from.
    pub(crate) const PARENT: u8 = 0x44;

    /// The key of one reference.
    pub(crate) fn key(from: &[u8; 32], tag: u8, to: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(33 + to.len());
        key.extend_from_slice(from);
        key.push(tag);
        key.extend_from_slice(to);
        key
    }
}

/// A run as the index keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRow {
    pub(crate) at_ms: u64,
    #[serde(with = "codec::bytes")]
    pub(crate) record: Vec<u8>,
    pub(crate) blobs: Vec<Digest>,
    pub(crate) token: u64,
}

/// What came with a result and is read rarely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProvenanceRow {
    #[serde(with = "codec::bytes")]
    pub(crate) provenance: Vec<u8>,
}

/// Bytes as a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpaqueRow(#[serde(with = "codec::bytes")] pub(crate) Vec<u8>);

/// A blob's record without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobRow {
    pub(crate) len: u64,
    pub(crate) stored_len: u64,
    pub(crate) encoding: Encoding,
    pub(crate) hash: HashKind,
    pub(crate) inline: bool,
}

impl BlobRow {
    /// Of a record.
    pub(crate) fn of(record: &BlobRecord) -> Self {
        Self {
            len: record.len,
            stored_len: record.stored_len,
            encoding: record.encoding,
            hash: record.hash,
            inline: matches!(record.place, Place::Inline(_)),
        }
    }

    /// The record, with the bytes of an inline blob left empty.
    pub(crate) fn without_bytes(self) -> BlobRecord {
        BlobRecord {
            len: self.len,
            stored_len: self.stored_len,
            encoding: self.encoding,
            hash: self.hash,
            place: if self.inline { Place::Inline(Vec::new()) } else { Place::File },
        }
    }
}

/// How often results were reused and made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) reused: u64,
    pub(crate) made: u64,
}

/// Keys of [`Family::Meta`].
pub(crate) mod meta {
    /// The journal's position that the index is at: two numbers.
    pub(crate) const POSITION: &[u8] = b"position";
    /// The id of the store.
    pub(crate) const STORE: &[u8] = b"store";
    /// The number of the last run.
    pub(crate) const LAST_RUN: &[u8] = b"last-run";
    /// [`super::Counters`].
    pub(crate) const COUNTERS: &[u8] = b"counters";
    /// [`crate::import::ImportedRow`].
    pub(crate) const IMPORTED: &[u8] = b"imported";
    /// What the keys of [`crate::import::PartRow`]s begin with.
    pub(crate) const IMPORTS: &[u8] = b"import/";

    /// What the keys of the parts of one import begin with.
    pub(crate) fn import_prefix(import: &str) -> Vec<u8> {
        [IMPORTS, import.as_bytes(), b"/"].concat()
    }

    /// The key of a part of an import.
    pub(crate) fn import_key(import: &str, number: u32) -> Vec<u8> {
        [import_prefix(import).as_slice(), &number.to_be_bytes()].concat()
    }

    /// The import that a key is of a part of.
    pub(crate) fn import_of(key: &[u8]) -> Option<String> {
        let rest = key.strip_prefix(IMPORTS)?;
        let (name, _) = rest.split_at_checked(rest.len().checked_sub(4)?)?;
        let name = std::str::from_utf8(name.strip_suffix(b"/")?).ok()?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (!name.is_empty() && name.bytes().all(is_plain)).then(|| name.to_owned())
    }
}

impl Index {
    /// The journal's position that this index is at; `None` in a new one.
    pub(crate) fn position(&self) -> Result<Option<Position>, StoreError> {
        self.get(Family::Meta, meta::POSITION)?
            .map(|bytes| {
                Position::from_bytes(&bytes)
                    .ok_or_else(|| self.damaged("the journal's position", "has a wrong length"))
            })
            .transpose()
    }

    /// The trace that a row names.
    pub(crate) fn row(&self, version: &Version) -> Result<Option<Trace>, StoreError> {
        Ok(self.row_place(version)?.map(|(trace, _)| trace))
    }

    /// The trace that a row names, and which of its outputs the row stands for.
    pub(crate) fn row_place(&self, version: &Version) -> Result<Option<(Trace, u16)>, StoreError> {
        let value = self.get(Family::Rows, version.as_bytes())?;
        value.map(|bytes| self.decode_row(version.as_bytes(), &bytes)).transpose()
    }

    /// The traces that rows name, in order.
    pub(crate) fn rows(&self, versions: &[Version]) -> Result<Vec<Option<Trace>>, StoreError> {
        self.get_each(Family::Rows, versions, &mut |at, value| {
            Ok(self.decode_row(versions[at].as_bytes(), value)?.0)
        })
    }

    /// A row from its bytes: trace and place among the outputs.
    pub(crate) fn decode_row(&self, key: &[u8], bytes: &[u8]) -> Result<(Trace, u16), StoreError> {
        let parsed = bytes.split_first_chunk::<32>().and_then(|(trace, place)| {
            Some((Trace::from_bytes(*trace), u16::from_be_bytes(place.try_into().ok()?)))
        });
        parsed.ok_or_else(|| self.damaged(&format!("row `{}…`", digits(key)), "has a wrong length"))
    }

    /// The result of a trace.
    pub(crate) fn result(&self, trace: &Trace) -> Result<Option<ResultRecord>, StoreError> {
        let value = self.get(Family::Results, trace.as_bytes())?;
        value.map(|bytes| self.decode_result(trace.as_bytes(), &bytes)).transpose()
    }

    /// The results of traces, in order.
    pub(crate) fn results(&self, traces: &[Trace]) -> Result<Vec<Option<ResultRecord>>, StoreError> {
        self.get_each(Family::Results, traces, &mut |at, value| {
            self.decode_result(traces[at].as_bytes(), value)
        })
    }

    /// A result's record from its bytes; `key` is for the message.
    pub(crate) fn decode_result(&self, key: &[u8], bytes: &[u8]) -> Result<ResultRecord, StoreError> {
        self.decode(kind::RESULT, "result", key, bytes)
    }

    /// What is recorded of blobs, in order, without the bytes of inline ones.
    pub(crate) fn blob_rows(&self, digests: &[Digest]) -> Result<Vec<Option<BlobRow>>, StoreError> {
        self.get_each(Family::Blobs, digests, &mut |at, value| {
            self.decode(kind::BLOB, "blob", digests[at].as_bytes(), value)
        })
    }

    /// The same of blobs that are in the order of their digests, each once; see [`Index::get_each_once`].
    pub(crate) fn blob_rows_once(&self, digests: &[Digest]) -> Result<Vec<Option<BlobRow>>, StoreError> {
        self.get_each_once(Family::Blobs, digests, &mut |at, value| {
            self.decode(kind::BLOB, "blob", digests[at].as_bytes(), value)
        })
    }

    /// What is recorded of one blob, without its bytes.
    pub(crate) fn blob_row(&self, digest: &Digest) -> Result<Option<BlobRow>, StoreError> {
        let value = self.get(Family::Blobs, digest.as_bytes())?;
        value.map(|bytes| self.decode(kind::BLOB, "blob", digest.as_bytes(), &bytes)).transpose()
    }

    /// What is recorded of blobs, in order, inline ones with their bytes.
    pub(crate) fn blobs(&self, digests: &[Digest]) -> Result<Vec<Option<BlobRecord>>, StoreError> {
        let rows = self.blob_rows(digests)?;
        let inline: Vec<Digest> = digests
            .iter()
            .zip(&rows)
            .filter(|(_, row)| row.is_some_and(|row| row.inline))
            .map(|(digest, _)| *digest)
            .collect();
        let values = self.get_many(Family::Inline, &inline)?;
        let mut bytes_of = BTreeMap::new();
        for (digest, value) in inline.into_iter().zip(values) {
            // Bytes that are gone are a miss like a file that is gone.
            if let Some(value) = value {
                let OpaqueRow(bytes) =
                    self.decode(kind::INLINE, "inline value", digest.as_bytes(), &value)?;
                bytes_of.insert(digest, bytes);
            }
        }
        Ok(digests
            .iter()
            .zip(rows)
            .map(|(digest, row)| {
                let mut record = row?.without_bytes();
                if let Place::Inline(bytes) = &mut record.place {
                    bytes.clone_from(bytes_of.get(digest)?);
                }
                Some(record)
            })
            .collect())
    }

    /// The files of a stored tree, each once.
    pub(crate) fn tree_files(&self, tree: &Digest) -> Result<Vec<Digest>, StoreError> {
        let value = self.get(Family::Trees, tree.as_bytes())?;
        match value {
            Some(bytes) => self.decode(kind::TREE, "tree", tree.as_bytes(), &bytes),
            None => Ok(Vec::new()),
        }
    }

    /// Everything that refers from `from` by `tag`: the rest of each key.
    pub(crate) fn referred(&self, from: &[u8; 32], tag: u8) -> Result<Vec<Vec<u8>>, StoreError> {
        let prefix = refs::key(from, tag, &[]);
        let mut found = Vec::new();
        self.scan_prefix(Family::Refs, &prefix, &mut |key, _| {
            found.push(key[prefix.len()..].to_vec());
            Ok(true)
        })?;
        Ok(found)
    }

    /// For each of these digests, which are in their order: the first tag of what refers from it, if anything does.
    pub(crate) fn first_tags(&self, digests: &[Digest]) -> Result<Vec<Option<u8>>, StoreError> {
        let mut tags = vec![None; digests.len()];
        self.scan_prefixes(Family::Refs, digests, &mut |at, key, _| {
            tags[at] = key.get(32).copied();
            Ok(false)
        })?;
        Ok(tags)
    }

    /// As [`Index::referred`], where the rest is a hash.
    pub(crate) fn referred_hashes(&self, from: &[u8; 32], tag: u8) -> Result<Vec<[u8; 32]>, StoreError> {
        self.referred(from, tag)?
            .into_iter()
            .map(|rest| rest.try_into().map_err(|_| self.damaged("a reference", "has a wrong length")))
            .collect()
    }

    /// When a result was used last, as far as is noted.
    pub(crate) fn used_ms(&self, traces: &[Trace]) -> Result<Vec<Option<u64>>, StoreError> {
        self.get_each(Family::Used, traces, &mut |_, bytes| self.number("a time of last use", bytes))
    }

    /// The same for traces in their order, each once; see [`Index::get_each_once`].
    pub(crate) fn used_ms_once(&self, traces: &[Trace]) -> Result<Vec<Option<u64>>, StoreError> {
        self.get_each_once(Family::Used, traces, &mut |_, bytes| self.number("a time of last use", bytes))
    }

    /// The pin of a version.
    pub(crate) fn pin(&self, version: &Version) -> Result<Option<Pin>, StoreError> {
        let value = self.get(Family::Pins, version.as_bytes())?;
        value.map(|bytes| self.decode(kind::PIN, "pin", version.as_bytes(), &bytes)).transpose()
    }

    /// The run with this number.
    pub(crate) fn run(&self, id: u64) -> Result<Option<RunRow>, StoreError> {
        let key = id.to_be_bytes();
        let value = self.get(Family::Runs, &key)?;
        value.map(|bytes| self.decode(kind::RUN, "run", &key, &bytes)).transpose()
    }

    /// What gave way under a trace, oldest first.
    pub(crate) fn ledger(&self, trace: &Trace) -> Result<Vec<Replacement>, StoreError> {
        let mut found = Vec::new();
        self.scan_prefix(Family::Ledger, trace.as_bytes(), &mut |key, value| {
            found.push(self.decode(kind::REPLACEMENT, "replacement", key, value)?);
            Ok(true)
        })?;
        Ok(found)
    }

    /// How often results were reused and made.
    pub(crate) fn counters(&self) -> Result<Counters, StoreError> {
        match self.get(Family::Meta, meta::COUNTERS)? {
            Some(bytes) => self.decode(kind::COUNTERS, "counters", &[], &bytes),
            None => Ok(Counters::default()),
        }
    }

    /// The number of the last run; 0 before the first.
    pub(crate) fn last_run(&self) -> Result<u64, StoreError> {
        match self.get(Family::Meta, meta::LAST_RUN)? {
            Some(bytes) => self.number("the number of the last run", &bytes),
            None => Ok(0),
        }
    }

    /// A moment of [`Family::History`].
    pub(crate) fn moment(&self, key: &[u8], value: &[u8]) -> Result<Moment, StoreError> {
        let parsed = (|| {
            let (label, rest) = split_label(key)?;
            let (time, version) = rest.split_first_chunk::<8>()?;
            Some(Moment {
                label,
                at_ms: !u64::from_be_bytes(*time),
                version: Version::from_bytes(version.try_into().ok()?),
                trace: Trace::from_bytes(value.try_into().ok()?),
            })
        })();
        parsed.ok_or_else(|| self.damaged("a line of history", "has a wrong form"))
    }

    /// Reads a record of ours.
    pub(crate) fn decode<T: DeserializeOwned>(
        &self,
        kind: u8,
        what: &str,
        key: &[u8],
        bytes: &[u8],
    ) -> Result<T, StoreError> {
        codec::decode(kind, RECORD_VERSION, bytes)
            .map_err(|error| self.damaged(&format!("{what} `{}…`", digits(key)), &error.to_string()))
    }

    /// Writes a record of ours.
    pub(crate) fn encode<T: Serialize + ?Sized>(&self, kind: u8, value: &T) -> Result<Vec<u8>, StoreError> {
        codec::encode(kind, RECORD_VERSION, value)
            .map_err(|error| StoreError::Index { dir: self.root().to_owned(), what: error.to_string() })
    }

    pub(crate) fn number(&self, what: &str, bytes: &[u8]) -> Result<u64, StoreError> {
        let bytes = bytes.try_into().map_err(|_| self.damaged(what, "has a wrong length"))?;
        Ok(u64::from_be_bytes(bytes))
    }

    pub(crate) fn damaged(&self, place: &str, what: &str) -> StoreError {
        StoreError::IndexDamaged { dir: self.root().to_owned(), what: format!("{place}: {what}") }
    }
}

/// The value of a row.
pub(crate) fn row_value(trace: &Trace, place: usize) -> Vec<u8> {
    let mut value = trace.as_bytes().to_vec();
    // No result has that many outputs; one that had would find them by its record.
    value.extend_from_slice(&u16::try_from(place).unwrap_or(u16::MAX).to_be_bytes());
    value
}

/// The first digits of a key, for messages.
pub(crate) fn digits(key: &[u8]) -> String {
    key.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The beginning of the keys of a label's moments. A zero byte in a label is written as two, so that no
/// label's keys begin as another's do.
pub(crate) fn label_prefix(label: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(label.len() + 2);
    for byte in label.bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.extend_from_slice(&[0, 1]);
    key
}

/// The key of a moment: newest first under its label.
pub(crate) fn history_key(label: &str, at_ms: u64, version: &Version) -> Vec<u8> {
    let mut key = label_prefix(label);
    key.extend_from_slice(&(!at_ms).to_be_bytes());
    key.extend_from_slice(version.as_bytes());
    key
}

/// The label that a key of history begins with, and the rest of the key.
fn split_label(key: &[u8]) -> Option<(String, &[u8])> {
    let mut label = Vec::new();
    let mut rest = key;
    loop {
        match rest {
            [0, 0xff, tail @ ..] => {
                label.push(0);
                rest = tail;
            }
            [0, 1, tail @ ..] => return Some((String::from_utf8(label).ok()?, tail)),
            [0, ..] | [] => return None,
            [byte, tail @ ..] => {
                label.push(*byte);
                rest = tail;
            }
        }
    }
}

/// The key of a ledger's line. `made_ms` keeps two of one moment apart.
pub(crate) fn ledger_key(trace: &Trace, at_ms: u64, made_ms: u64) -> Vec<u8> {
    let mut key = trace.as_bytes().to_vec();
    key.extend_from_slice(&at_ms.to_be_bytes());
    key.extend_from_slice(&made_ms.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_key_of_a_moment_is_as_specified() {
        let key = history_key("p/a", 1, &Version::from_bytes([7; 32]));
        let mut expected = b"p/a\x00\x01\xff\xff\xff\xff\xff\xff\xff\xfe".to_vec();
        expected.extend_from_slice(&[7; 32]);
        assert_eq!(key, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Many references lie between some of the digests, and none between others.
        #[test]
        fn first_tags_are_those_that_a_look_at_each_finds(
            held in proptest::collection::vec((0..20_u8, 0..4_u8, 0..60_u8), 0..300),
            asked in proptest::collection::btree_set(0..20_u8, 0..20),
        ) {
            let dir = tempfile::tempdir().expect("a folder");
            let index = Index::open(dir.path(), &dir.path().join("index"), crate::index::Expect::Nothing).expect("it opens");
            let mut batch = index.batch();
            for (from, tag, to) in held {
                batch.put(Family::Refs, &refs::key(&[from; 32], tag, &[to]), &[]);
            }
            index.write(batch).expect("it writes");
            let asked: Vec<Digest> = asked.into_iter().map(|byte| Digest::from_bytes([byte; 32])).collect();
            let each = asked.iter().map(|digest| {
                let mut first = None;
                let each = &mut |key: &[u8], _: &[u8]| {
                    first = key.get(32).copied();
                    Ok(false)
                };
                index.scan_prefix(Family::Refs, digest.as_bytes(), each).expect("it reads");
                first
            });
            let each: Vec<Option<u8>> = each.collect();
            prop_assert_eq!(index.first_tags(&asked).expect("it reads"), each);
        }
    }

    /// These bytes are on disk, as `docs/format.md` says: whoever changes them changes what old stores mean, and takes
    /// a new kind or version. In what is expected `D`, `T` and `V` stand for a digest, a trace and a version.
    #[test]
    fn the_bytes_of_records_are_these() {
        fn check<R>(kind: u8, record: &R, expected: &str)
        where
            R: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
        {
            let bytes = codec::encode(kind, RECORD_VERSION, record).expect("it encodes");
            let hash = |byte: &str| format!("20{}", byte.repeat(32));
            let expected = expected.replace(' ', "").replace('D', &hash("07"));
            let expected = expected.replace('T', &hash("08")).replace('V', &hash("09"));
            let hex: String = bytes[codec::HEADER_BYTES..].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "kind {kind}");
            assert_eq!(codec::decode::<R>(kind, RECORD_VERSION, &bytes).as_ref(), Ok(record));
        }
        let text = |text: &str| text.to_owned();
        let digest = Digest::from_bytes([7; 32]);
        let trace = Trace::from_bytes([8; 32]);
        let version = Version::from_bytes([9; 32]);
        let artifact = crate::record::Artifact {
            kind: crate::record::Kind::File { executable: false },
            codec: text("c"),
            digest,
            len: 9,
        };
        let result = ResultRecord {
            outputs: vec![
                crate::record::Output { name: text("o"), artifact: Some(artifact) },
                crate::record::Output { name: text("p"), artifact: None },
            ],
            log: Some(digest),
            made_ms: 1,
            cost_ms: 2,
            evicted: Some(crate::record::Evicted { at_ms: 3, why: text("w") }),
        };
        check(kind::RESULT, &result, "02 016f 01 0000 0163 D 09 0170 00 01D 01 02 01 03 0177");
        check(kind::PROVENANCE, &ProvenanceRow { provenance: vec![5] }, "0105");
        check(kind::FACT, &OpaqueRow(vec![5]), "0105");
        let (encoding, hash) = (Encoding::Zstd, HashKind::Tree);
        check(kind::BLOB, &BlobRow { len: 1, stored_len: 2, encoding, hash, inline: true }, "01 02 01 01 01");
        check(kind::TREE, &vec![digest], "01 D");
        let pin = Pin { version, label: text("l"), reason: None, at_ms: 1, until_ms: Some(2) };
        check(kind::PIN, &pin, "V 016c 00 01 0102");
        let run = RunRow { at_ms: 1, record: vec![5], blobs: vec![digest], token: 251 };
        check(kind::RUN, &run, "01 0105 01D fbfb00");
        let digests = vec![Some(digest), None];
        let replacement = Replacement { at_ms: 1, digests, made_ms: 2, differs: true, lost_race: false };
        check(kind::REPLACEMENT, &replacement, "01 02 01D 00 02 01 00");
        check(kind::COUNTERS, &Counters { reused: 1, made: 2 }, "01 02");
        let judgement = crate::judge::Judgement {
            id: 1,
            said: crate::judge::Said::Accept,
            saying: crate::judge::Saying { by: text("b"), at_ms: 2, reason: text("r") },
            label: text("l"),
            trace,
            from: Some(trace),
            reached: 3,
            revoked: None,
            token: 4,
        };
        check(kind::JUDGEMENT, &judgement, "01 01 0162 02 0172 016c T 01T 03 00 04");
        let part = crate::import::PartRow { held: vec![digest], records: Vec::new() };
        check(kind::IMPORT_PART, &part, "01D 00");
        let archived =
            crate::archive::Archived { results: 1, known: 2, forgotten: 3, differing: 4, blobs: 5, bytes: 6 };
        let imported = crate::import::ImportedRow { import: text("i-1"), archived };
        check(kind::IMPORTED, &imported, "03692d31 01 02 03 04 05 06");
    }

    proptest! {
        #[test]
        fn a_label_comes_back_from_its_key(label in "(\\PC|\0){0,12}", rest in proptest::collection::vec(any::<u8>(), 0..8)) {
            let mut key = label_prefix(&label);
            key.extend_from_slice(&rest);
            prop_assert_eq!(split_label(&key), Some((label, rest.as_slice())));
        }

        #[test]
        fn no_labels_keys_begin_as_anothers(a in "[ab\0]{0,4}", b in "[ab\0]{0,4}") {
            prop_assume!(a != b);
            prop_assert!(!label_prefix(&a).starts_with(&label_prefix(&b)));
        }

        #[test]
        fn any_bytes_are_a_label_or_none(key in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = split_label(&key);
        }
    }
}
