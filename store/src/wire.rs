//! The messages between the host of a store and those that use it.
//!
//! Plain data, closed enums, no behaviour: the host answers them to itself through a call and to others
//! through a socket, on one path. Every request may be repeated when its answer was lost. Bytes of blobs
//! are never in a message but for values that live in the index; a whole plan is asked for in one.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::archive;
use crate::check::{Finding, Stats};
use crate::codec;
use crate::collect::{CollectReport, Going, Mode, Policy};
use crate::commit::Put;
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::judge;
use crate::record::{BlobRecord, Found, Moment, Output, Pin, Replacement, ResultRecord};
use crate::shares::Portion;
use crate::stage::StagedBlob;
use crate::store::Run;

/// The number of this protocol: whatever changes a message raises it. Two processes that differ in it do not
/// talk, because there is always one of them that can be waited for. (Nothing was released with a smaller one, and several
/// changes between two builds of that time may share a number: it tells apart what people can have.)
pub(crate) const PROTOCOL: u8 = 5;

/// The kinds of frames.
pub(crate) mod frame {
    /// [`super::Hello`] and [`super::Welcome`]. Their version is 1 for ever: they tell the protocol.
    pub(crate) const GREETING: u8 = b'h';
    pub(crate) const REQUEST: u8 = b'q';
    pub(crate) const RESPONSE: u8 = b'a';
    pub(crate) const NOTICE: u8 = b'n';
}

/// The version of greetings, in every protocol.
pub(crate) const GREETING_VERSION: u8 = 1;

/// The first message of whoever connects; never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    /// The version of the program, for people.
    pub(crate) program: String,
    /// The id of the store that is meant.
    pub(crate) store: String,
}

/// The host's answer to it; never changed. Where the protocols differ nothing follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) protocol: u32,
    pub(crate) program: String,
    pub(crate) store: String,
    /// What the host is called.
    pub(crate) owner: String,
    /// Why it does not talk to whoever asks; empty where it does.
    pub(crate) refusal: String,
}

/// What the host says unasked, on the connection on which it was entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Notice {
    /// It has heard.
    Alive,
    /// What a ticket was left for has ended.
    Ended { ticket: u64, failure: Option<Opaque> },
}

/// What is asked of the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    Lookup(Vec<Version>),
    Row(Version),
    Results(Vec<Trace>),
    Commit(Box<CommitMessage>),
    /// Several that do not depend on each other; each is answered by itself.
    CommitAll(#[serde(with = "shared")] Arc<Vec<CommitMessage>>),
    Relink(Box<RelinkMessage>),
    Touch {
        traces: Vec<Trace>,
        at_ms: u64,
    },
    Facts(Vec<Version>),
    Provenance(Trace),
    Ledger(Trace),
    History {
        label: String,
        limit: u64,
    },
    Labels {
        after: Option<String>,
        limit: u64,
    },
    Rows {
        after: Option<Version>,
        limit: u64,
    },
    WithPrefix {
        hex: String,
        limit: u64,
    },
    RowsOf {
        trace: Trace,
        limit: u64,
    },
    Makers {
        digest: Digest,
        limit: u64,
    },
    Children {
        trace: Trace,
        limit: u64,
    },
    Pin(Pin),
    Unpin(Version),
    Pins,
    BeginRun {
        at_ms: u64,
        record: Opaque,
        token: u64,
        /// Whether it was asked before, of this host or of another, and the answer did not come.
        again: bool,
    },
    NoteRun {
        id: u64,
        record: Opaque,
        named: Vec<Digest>,
        staged: Vec<StagedBlob>,
    },
    Runs {
        before: Option<u64>,
        limit: u64,
    },
    Blobs(Vec<Digest>),
    Lost {
        digest: Digest,
        why: String,
    },
    /// The first of a process's connections: with the claims and shares that it has. It lives as long as the process
    /// uses the store, and carries [`Request::Renew`] and [`Notice`]s.
    Enter {
        owner: String,
        token: String,
        claims: Vec<(Trace, u64)>,
        shares: Vec<(u64, Vec<Portion>)>,
        /// It was at a former host: what its file says it was told is present is its own.
        again: bool,
    },
    /// The first on each other connection: which one it belongs to.
    Attach {
        connection: u64,
        token: String,
    },
    Renew,
    /// `waited`: somebody else had it, so that a result is what was waited for.
    Claim {
        trace: Trace,
        ticket: u64,
        waited: bool,
    },
    Release {
        trace: Trace,
        ticket: u64,
        failure: Option<Opaque>,
    },
    /// Those of these traces, each with a ticket, that nobody has. No place is kept in the queue for the others.
    ClaimAll(Vec<(Trace, u64)>),
    ReleaseAll(Vec<(Trace, u64)>),
    /// A share of named limits, or a place in the queue for it.
    Take {
        ticket: u64,
        portions: Vec<Portion>,
    },
    GiveBack {
        ticket: u64,
    },
    Stats,
    CollectBegin {
        policy: Policy,
        now_ms: u64,
        mode: Mode,
    },
    CollectNext {
        session: u64,
        limit: u64,
    },
    BlobPage {
        after: Option<Digest>,
        limit: u64,
    },
    CheckPage {
        after: Option<CheckCursor>,
        limit: u64,
    },
    CheckJournal {
        read: bool,
    },
    Unnamed,
    Compact,
    Sync,
    Judge(judge::Ask),
    Archive(archive::Ask),
    /// Where these makings came from, each the trace of a result and when that was made.
    Provenances(Vec<(Trace, u64)>),
}

impl Request {
    /// It is asked once more, because no answer came: what must not be done twice is looked for then.
    pub(crate) fn told_again(&mut self) {
        if let Self::BeginRun { again, .. } = self {
            *again = true;
        }
    }
}

/// What the host answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Response {
    Found(Vec<Option<Found>>),
    Row(Option<(u16, Found)>),
    New,
    Adopted {
        found: Found,
        differs: bool,
    },
    Replaced {
        old: ResultRecord,
        differs: bool,
    },
    Done,
    Flag(bool),
    Facts(Vec<Option<Opaque>>),
    Provenance(Option<Opaque>),
    Ledger(Vec<Replacement>),
    Moments(Vec<Moment>),
    Rows {
        rows: Vec<(Version, Found)>,
        last: Option<Version>,
    },
    Versions(Vec<Version>),
    Traces(Vec<Trace>),
    Pins(Vec<Pin>),
    Number(u64),
    Runs(Vec<Run>),
    Blobs(Vec<Option<BlobRecord>>),
    Granted {
        present: Option<Found>,
    },
    Stored(Found),
    /// For each that was asked for: whether it was granted, and what stands there if it was.
    Claims(Vec<(bool, Option<Found>)>),
    /// For each of several requests, its answer.
    All(Vec<Response>),
    /// Somebody else has it. `by` says who, in words; empty where nobody is to be told that.
    Held {
        by: String,
    },
    /// These limits lack, and this one uses them.
    Lacks {
        names: Vec<String>,
        by: String,
    },
    Stats(Stats),
    Collected {
        going: Vec<Going>,
        done: bool,
        report: CollectReport,
    },
    /// The collection is not known here: it was begun at a host that is gone.
    Unknown,
    BlobPage(Vec<(Digest, BlobRecord)>),
    Checked {
        findings: Vec<Finding>,
        checked: u64,
        next: Option<CheckCursor>,
    },
    Failed(Failure),
    Judge(judge::Told),
    Archive(archive::Told),
    /// For the first of those that were asked for, as many as there is room for.
    Provenances(Vec<Option<Opaque>>),
    /// The answer would be longer than a message may be.
    TooLong,
}

/// What its owner keeps, so that it can be said again.
mod shared {
    use super::{Arc, Deserialize, Serialize};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        T::serialize(value, to)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(from).map(Arc::new)
    }
}

/// Bytes that mean nothing to the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opaque(#[serde(with = "codec::bytes")] pub(crate) Vec<u8>);

/// A commit as the host is told of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CommitMessage {
    pub(crate) trace: Trace,
    pub(crate) rows: Vec<Version>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) staged: Vec<StagedBlob>,
    pub(crate) log: Option<Digest>,
    pub(crate) made_ms: u64,
    pub(crate) cost_ms: u64,
    pub(crate) provenance: Opaque,
    pub(crate) parents: Vec<Trace>,
    pub(crate) facts: Vec<(Version, Opaque)>,
    pub(crate) history: Option<(String, Version)>,
    pub(crate) put: Put,
    /// Where to be told, if it has to wait for whoever took over its claim.
    pub(crate) ticket: u64,
}

/// A relink as the host is told of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RelinkMessage {
    pub(crate) trace: Trace,
    pub(crate) rows: Vec<Version>,
    pub(crate) facts: Vec<(Version, Opaque)>,
    pub(crate) history: Option<(String, Version)>,
    pub(crate) at_ms: u64,
}

/// How far the cross-check of the index got: a stage, and the last key of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckCursor {
    pub(crate) stage: u8,
    #[serde(with = "codec::bytes")]
    pub(crate) key: Vec<u8>,
}

/// A [`StoreError`] on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Failure {
    Missing(Digest),
    Damaged { digest: Digest, what: String },
    IndexDamaged(String),
    ReadOnly(String),
    Unstorable { path: PathBuf, what: String },
    Io { action: String, path: PathBuf, code: Option<i32>, full: bool, what: String },
    Index(String),
    Config { path: PathBuf, line: u64, what: String },
}

impl Failure {
    /// The failure that stands for an error.
    pub(crate) fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Missing { digest } => Self::Missing(*digest),
            StoreError::Damaged { digest, what } => Self::Damaged { digest: *digest, what: what.clone() },
            StoreError::IndexDamaged { what, .. } => Self::IndexDamaged(what.clone()),
            StoreError::ReadOnly { what, .. } => Self::ReadOnly(what.clone()),
            StoreError::Unstorable { path, what } => {
                Self::Unstorable { path: path.clone(), what: what.clone() }
            }
            StoreError::Io { action, path, source } => Self::Io {
                action: (*action).to_owned(),
                path: path.clone(),
                code: source.raw_os_error(),
                full: source.kind() == std::io::ErrorKind::StorageFull,
                what: source.to_string(),
            },
            StoreError::Config { path, line, what } => {
                Self::Config { path: path.clone(), line: *line as u64, what: what.clone() }
            }
            StoreError::Index { what, .. } => Self::Index(what.clone()),
            // Opening, and writing for people, happen where they are asked for and are never answers.
            StoreError::Absent { .. }
            | StoreError::NotAStore { .. }
            | StoreError::FormatLost { .. }
            | StoreError::Format { .. }
            | StoreError::InUse { .. }
            | StoreError::Skew { .. }
            | StoreError::NoHost { .. }
            | StoreError::Refused { .. }
            | StoreError::Network { .. }
            | StoreError::Archive { .. }
            | StoreError::ArchiveBase { .. }
            | StoreError::Exists { .. } => Self::Index(error.to_string()),
        }
    }

    /// The error again; `root` is the store's folder.
    pub(crate) fn into_error(self, root: &std::path::Path) -> StoreError {
        let dir = root.to_owned();
        match self {
            Self::Missing(digest) => StoreError::Missing { digest },
            Self::Damaged { digest, what } => StoreError::Damaged { digest, what },
            Self::IndexDamaged(what) => StoreError::IndexDamaged { dir, what },
            Self::ReadOnly(what) => StoreError::ReadOnly { dir, what },
            Self::Unstorable { path, what } => StoreError::Unstorable { path, what },
            Self::Io { action, path, code, full, what } => StoreError::Io {
                action: ACTIONS.into_iter().find(|known| *known == action).unwrap_or("use"),
                path,
                source: match code {
                    Some(code) => std::io::Error::from_raw_os_error(code),
                    None if full => std::io::Error::new(std::io::ErrorKind::StorageFull, what),
                    None => std::io::Error::other(what),
                },
            },
            Self::Index(what) => StoreError::Index { dir, what },
            Self::Config { path, line, what } => {
                StoreError::Config { path, line: usize::try_from(line).unwrap_or(usize::MAX), what }
            }
        }
    }
}

/// The verbs of IO errors that a host's answer can carry.
const ACTIONS: [&str; 16] = [
    "open",
    "read",
    "write",
    "make",
    "rename",
    "remove",
    "sync",
    "cut",
    "look at",
    "lock",
    "copy",
    "list",
    "seek in",
    "write the index in",
    "use the index in",
    "move",
];
