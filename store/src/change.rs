//! What the journal holds: every change of the index, as plain data.
//!
//! A change says what was *decided*, not what was asked for: whether bytes were there, who won and what
//! was collected is settled before it is written, so applying it (`apply.rs`) depends on the index alone
//! and gives the same whenever it is done. Variants are only ever added, at the end: their order is their
//! number on disk.

use serde::{Deserialize, Serialize};

use crate::archive::Archived;
use crate::digest::{Digest, Trace, Version};
use crate::import::PartRow;
use crate::judge::{Judgement, Saying};
use crate::record::{BlobRecord, Evicted, Pin, Replacement, ResultRecord};

/// One change, applied whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// A result becomes its trace's present one.
    Result(Box<NewResult>),
    /// Rows name a result that is there.
    Relink(NewRows),
    /// The bytes of an evicted result are there again, because another result has the same.
    Revived {
        /// Which.
        trace: Trace,
    },
    /// A version is pinned.
    Pin(Pin),
    /// A version is not pinned any longer.
    Unpin(Version),
    /// A run is noted, or its record replaced.
    Run(NewRun),
    /// Results and runs give up their bytes and keep their records.
    Evicted {
        /// Results.
        traces: Vec<Trace>,
        /// Runs.
        runs: Vec<u64>,
        /// When and why.
        evicted: Evicted,
    },
    /// Results go, with the rows that name them and all that came with them.
    Removed {
        /// Results.
        traces: Vec<Trace>,
        /// Runs.
        runs: Vec<u64>,
    },
    /// Blobs that nothing names go.
    Unnamed {
        /// Which.
        blobs: Vec<Digest>,
    },
    /// Blobs turned out to be gone or wrong.
    Lost {
        /// Which.
        blobs: Vec<Digest>,
    },
    /// Results were used.
    Touched {
        /// When.
        at_ms: u64,
        /// Those whose last use was noted long enough ago.
        traces: Vec<Trace>,
        /// How many were used, those that are not noted again included.
        reused: u64,
    },
    /// A trace was computed once more, and what came out was not kept.
    Noted {
        /// The trace.
        trace: Trace,
        /// What came out.
        replacement: Replacement,
    },
    /// A part of a snapshot of the index: entries as they stood.
    Entries {
        /// `Family::number`.
        family: u8,
        /// Keys and values.
        entries: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// Blobs whose files were found again.
    Blobs(NewBlobs),
    /// Results count as absent from now on.
    Forgotten(Box<NewForgotten>),
    /// A result answers for another trace too.
    Accepted(Box<NewAccepted>),
    /// A judgement is taken back.
    Revoked {
        /// Which.
        id: u64,
        /// Who, when, why.
        saying: Saying,
    },
    /// The results of an archive, whose parts were kept aside, count from now on.
    Imported(Box<NewImport>),
    /// A part of an archive is kept aside.
    ImportPart(Box<NewPart>),
    /// The parts of an archive go.
    ImportDropped {
        /// Its import.
        import: String,
    },
}

/// What is taken over of an archive, when all its parts are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewImport {
    pub(crate) import: String,
    pub(crate) at_ms: u64,
    pub(crate) takings: Vec<(Trace, Taking)>,
    /// What is told of it.
    pub(crate) archived: Archived,
}

/// What becomes of one result of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Taking {
    /// It becomes its trace's present one.
    Take,
    /// The store has one of its own, which stays; rows, facts and history are added.
    KeepOwn,
    /// The store has one of its own that counts as absent, and so does this.
    LeaveOut,
}

/// A part of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewPart {
    pub(crate) import: String,
    pub(crate) number: u32,
    pub(crate) blobs: NewBlobs,
    pub(crate) row: PartRow,
}

/// A judgement that a result was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewForgotten {
    pub(crate) judgement: Judgement,
    /// The result and all that was made from it.
    pub(crate) traces: Vec<Trace>,
}

/// A judgement that a result answers for another trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewAccepted {
    pub(crate) judgement: Judgement,
    /// The copy that answers.
    pub(crate) result: NewResult,
}

/// A result with everything that is kept with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewResult {
    pub(crate) trace: Trace,
    pub(crate) record: ResultRecord,
    pub(crate) provenance: Vec<u8>,
    pub(crate) parents: Vec<Trace>,
    pub(crate) blobs: NewBlobs,
    pub(crate) rows: Vec<Version>,
    pub(crate) facts: Vec<(Version, Vec<u8>)>,
    pub(crate) history: Option<(String, Version)>,
}

/// Rows with what is kept with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewRows {
    pub(crate) trace: Trace,
    pub(crate) at_ms: u64,
    pub(crate) rows: Vec<Version>,
    pub(crate) facts: Vec<(Version, Vec<u8>)>,
    pub(crate) history: Option<(String, Version)>,
}

/// Blobs that the store did not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewBlobs {
    /// The blobs, inline ones with their bytes.
    pub(crate) records: Vec<(Digest, BlobRecord)>,
    /// For each tree among them: the files in it, each once.
    pub(crate) trees: Vec<(Digest, Vec<Digest>)>,
}

/// A run as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewRun {
    pub(crate) id: u64,
    pub(crate) at_ms: u64,
    pub(crate) record: Vec<u8>,
    /// Blobs that the record names.
    pub(crate) named: Vec<Digest>,
    /// Those of them that are new.
    pub(crate) blobs: NewBlobs,
    /// Chosen by whoever began it, so that a request that is repeated begins no second run.
    pub(crate) token: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::judge::Said;
    use crate::tables::{RECORD_VERSION, kind};

    /// A variant's number is on disk: whoever changes one of these changes what old journals mean.
    #[test]
    fn the_numbers_of_changes_are_these() {
        let trace = Trace::from_bytes([0; 32]);
        let evicted = Evicted { at_ms: 0, why: String::new() };
        let replacement =
            Replacement { at_ms: 0, digests: Vec::new(), made_ms: 0, differs: false, lost_race: false };
        let (rows, facts) = (Vec::new(), Vec::new());
        let saying = Saying { by: String::new(), at_ms: 0, reason: String::new() };
        let judgement = Judgement {
            id: 1,
            said: Said::Forget,
            saying: saying.clone(),
            label: String::new(),
            trace,
            from: None,
            reached: 0,
            revoked: None,
            token: 0,
        };
        let changes = [
            (1, Change::Relink(NewRows { trace, at_ms: 0, rows, facts, history: None })),
            (2, Change::Revived { trace }),
            (4, Change::Unpin(Version::from_bytes([0; 32]))),
            (6, Change::Evicted { traces: Vec::new(), runs: Vec::new(), evicted }),
            (7, Change::Removed { traces: Vec::new(), runs: Vec::new() }),
            (8, Change::Unnamed { blobs: Vec::new() }),
            (9, Change::Lost { blobs: Vec::new() }),
            (10, Change::Touched { at_ms: 0, traces: Vec::new(), reused: 0 }),
            (11, Change::Noted { trace, replacement }),
            (12, Change::Entries { family: 0, entries: Vec::new() }),
            (13, Change::Blobs(NewBlobs::default())),
            (14, Change::Forgotten(Box::new(NewForgotten { judgement, traces: Vec::new() }))),
            (16, Change::Revoked { id: 1, saying }),
            (
                17,
                Change::Imported(Box::new(NewImport {
                    import: String::new(),
                    at_ms: 0,
                    takings: vec![(trace, Taking::KeepOwn)],
                    archived: Archived::default(),
                })),
            ),
            (
                18,
                Change::ImportPart(Box::new(NewPart {
                    import: String::new(),
                    number: 0,
                    blobs: NewBlobs::default(),
                    row: PartRow { held: Vec::new(), records: Vec::new() },
                })),
            ),
            (19, Change::ImportDropped { import: String::new() }),
        ];
        for (number, change) in changes {
            let bytes = codec::encode(kind::CHANGE, RECORD_VERSION, &change).expect("it encodes");
            assert_eq!(bytes[codec::HEADER_BYTES], number, "{change:?}");
            assert_eq!(codec::decode(kind::CHANGE, RECORD_VERSION, &bytes), Ok(change));
        }
    }
}
