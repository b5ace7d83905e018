//! The families of the index: their names, numbers and nature. Pure.

/// The families of the index. Their keys and values are described in `tables.rs` and `docs/format.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Version → trace.
    Rows,
    /// Trace → result.
    Results,
    /// Trace → what came with its result and is read rarely.
    Provenance,
    /// Version → opaque fact.
    Facts,
    /// Digest → blob, without its bytes.
    Blobs,
    /// Digest → bytes of a small blob.
    Inline,
    /// Digest of a tree → digests of the files in it.
    Trees,
    /// What names what; keys only.
    Refs,
    /// Label and time → version and trace.
    History,
    /// Version → pin.
    Pins,
    /// Number → run.
    Runs,
    /// Trace → when it was used last.
    Used,
    /// Trace and time → what gave way.
    Ledger,
    /// What there is one of.
    Meta,
    /// Room for sorting what does not fit in memory; worth nothing after its use.
    Scratch,
    /// Number → what somebody said of a result.
    Judgements,
    /// Trace and number of a judgement → what it does to the trace.
    Marks,
}

impl Family {
    /// All of them.
    pub(crate) const ALL: [Self; 17] = [
        Self::Rows,
        Self::Results,
        Self::Provenance,
        Self::Facts,
        Self::Blobs,
        Self::Inline,
        Self::Trees,
        Self::Refs,
        Self::History,
        Self::Pins,
        Self::Runs,
        Self::Used,
        Self::Ledger,
        Self::Meta,
        Self::Scratch,
        Self::Judgements,
        Self::Marks,
    ];

    /// The family's name in RocksDB.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Results => "results",
            Self::Provenance => "provenance",
            Self::Facts => "facts",
            Self::Blobs => "blobs",
            Self::Inline => "inline",
            Self::Trees => "trees",
            Self::Refs => "refs",
            Self::History => "history",
            Self::Pins => "pins",
            Self::Runs => "runs",
            Self::Used => "used",
            Self::Ledger => "ledger",
            Self::Meta => "meta",
            Self::Scratch => "scratch",
            Self::Judgements => "judgements",
            Self::Marks => "marks",
        }
    }

    /// The number that stands for the family in a journal's snapshot.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Rows => 0,
            Self::Results => 1,
            Self::Provenance => 2,
            Self::Facts => 3,
            Self::Blobs => 4,
            Self::Inline => 5,
            Self::Trees => 6,
            Self::Refs => 7,
            Self::History => 8,
            Self::Pins => 9,
            Self::Runs => 10,
            Self::Used => 11,
            Self::Ledger => 12,
            Self::Meta => 13,
            Self::Scratch => 14,
            Self::Judgements => 15,
            Self::Marks => 16,
        }
    }

    /// The family with this number.
    pub(crate) fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.number() == number)
    }

    /// Hashes and pairs of hashes do not get smaller; text and records do.
    pub(super) fn compresses(self) -> bool {
        match self {
            Self::Results
            | Self::Provenance
            | Self::Facts
            | Self::Inline
            | Self::History
            | Self::Pins
            | Self::Runs
            | Self::Judgements => true,
            Self::Rows
            | Self::Blobs
            | Self::Trees
            | Self::Refs
            | Self::Used
            | Self::Ledger
            | Self::Meta
            | Self::Scratch
            | Self::Marks => false,
        }
    }
}
