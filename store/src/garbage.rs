//! What may be collected, by what rule, and what a collection says it did.
//!
//! Only words and numbers: what goes is decided in `collect.rs`. Pure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{age_text, size_text};
use crate::digest::{Digest, Trace};

/// What garbage collection keeps. Without any bound, only what nothing names goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// All stored bytes together, at most.
    pub max_size_bytes: Option<u64>,
    /// Results that were not used for longer give up their bytes.
    pub max_age: Option<Duration>,
    /// This much stays free on the file system, if collecting can achieve it.
    pub min_free_bytes: Option<u64>,
    /// The newest results under each label stay. Where this is the only bound, older ones go.
    pub keep_last: Option<u64>,
    /// Records without bytes that were not used for longer go, once none is left that was made from them.
    /// A year, if any bound is set and this is not.
    pub max_record_age: Option<Duration>,
}

impl Policy {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This policy, with what it leaves open taken from another.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            max_size_bytes: self.max_size_bytes.or(other.max_size_bytes),
            max_age: self.max_age.or(other.max_age),
            min_free_bytes: self.min_free_bytes.or(other.min_free_bytes),
            keep_last: self.keep_last.or(other.keep_last),
            max_record_age: self.max_record_age.or(other.max_record_age),
        }
    }

    /// How long records without bytes stay; `None` where nothing is bounded.
    pub(crate) fn record_age(&self) -> Option<Duration> {
        let year = Duration::from_secs(365 * 24 * 3600);
        (!self.is_empty()).then(|| self.max_record_age.unwrap_or(year))
    }

    /// How many of the newest results are kept, where nothing else is asked for.
    pub(crate) fn only_keeps_last(&self) -> Option<u64> {
        let bounded =
            self.max_size_bytes.is_some() || self.max_age.is_some() || self.min_free_bytes.is_some();
        self.keep_last.filter(|_| !bounded)
    }

    /// By what rule a result goes that was not used for so long, however much room there is.
    pub(crate) fn result_due(&self, unused: Duration) -> Option<Why> {
        let old = self.max_age.filter(|max| unused > *max).map(Why::MaxAge);
        old.or_else(|| self.only_keeps_last().map(Why::KeepLast))
    }

    /// By what rule the logs of a run of this age go, however much room there is.
    pub(crate) fn run_logs_due(&self, age: Duration) -> Option<Why> {
        let old = self.max_age.filter(|max| age > *max).map(Why::MaxAge);
        old.or_else(|| self.record_age().filter(|max| age > *max).map(Why::MaxRecordAge))
    }
}

/// Whether to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Only say what would go.
    DryRun,
    /// Collect.
    Collect,
}

/// One thing that goes, or would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Going {
    /// What.
    pub what: Garbage,
    /// By what rule.
    pub why: Why,
    /// How many stored bytes that frees. Bytes that several results share are counted at the last of them.
    pub bytes: u64,
    /// How long it took to make: what rebuilding it would cost.
    pub cost_ms: u64,
    /// When it was used last; 0 where that is not known.
    pub used_ms: u64,
}

/// A kind of thing that can go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Garbage {
    /// The bytes of a result; its rows and its record stay.
    Bytes {
        /// The result.
        trace: Trace,
        /// What its history calls it.
        labels: Vec<String>,
    },
    /// The record of a result, and the rows that name it.
    Record {
        /// The result.
        trace: Trace,
        /// What its history calls it.
        labels: Vec<String>,
    },
    /// The logs that a run names.
    RunLogs {
        /// The run.
        id: u64,
    },
    /// The record of a run.
    Run {
        /// The run.
        id: u64,
    },
    /// A blob that nothing names.
    Blob {
        /// Which.
        digest: Digest,
    },
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It was not used for this long.
    MaxAge(Duration),
    /// The store is larger than this.
    MaxSize(u64),
    /// Less than this is free.
    MinFree(u64),
    /// It is not among the newest this many.
    KeepLast(u64),
    /// Its bytes are gone and its record was not used for this long, or it is of a run that is older.
    MaxRecordAge(Duration),
    /// Nothing names it.
    Unnamed,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxAge(age) => write!(f, "--max-age {}", age_text(*age)),
            Self::MaxSize(bytes) => write!(f, "--max-size {}", size_text(*bytes)),
            Self::MinFree(bytes) => write!(f, "--min-free {}", size_text(*bytes)),
            Self::KeepLast(number) => write!(f, "--keep-last {number}"),
            Self::MaxRecordAge(age) => write!(f, "--max-record-age {}", age_text(*age)),
            Self::Unnamed => f.write_str("nothing names it"),
        }
    }
}

/// What a collection did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectReport {
    /// Results that gave up their bytes.
    pub results: u64,
    /// Records of results that went.
    pub records: u64,
    /// Runs whose record went.
    pub runs: u64,
    /// Runs that gave up their logs; also those whose record went then.
    pub run_logs: u64,
    /// Blobs that nothing named.
    pub unnamed: u64,
    /// Stored bytes that were freed.
    pub freed_bytes: u64,
    /// How long it took to make what lost its bytes.
    pub rebuild_ms: u64,
    /// Stored bytes before.
    pub size_before_bytes: u64,
    /// Results that were kept because they are pinned.
    pub kept_pinned: u64,
    /// Results that were kept because a live run uses them.
    pub kept_in_use: u64,
}

impl CollectReport {
    /// This collection and what went on from it, as one.
    pub(crate) fn and(self, next: Self) -> Self {
        Self {
            results: self.results + next.results,
            records: self.records + next.records,
            runs: self.runs + next.runs,
            run_logs: self.run_logs + next.run_logs,
            unnamed: self.unnamed + next.unnamed,
            freed_bytes: self.freed_bytes + next.freed_bytes,
            rebuild_ms: self.rebuild_ms.saturating_add(next.rebuild_ms),
            size_before_bytes: self.size_before_bytes,
            kept_pinned: next.kept_pinned,
            kept_in_use: next.kept_in_use,
        }
    }

    /// Stored bytes afterwards.
    pub fn size_after_bytes(&self) -> u64 {
        self.size_before_bytes.saturating_sub(self.freed_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn reasons_read_like_the_flags_that_gave_them() {
        assert_eq!(Why::MaxSize(10 << 30).to_string(), "--max-size 10G");
        assert_eq!(Why::MaxAge(30 * DAY).to_string(), "--max-age 30d");
        assert_eq!(Why::KeepLast(3).to_string(), "--keep-last 3");
    }
}
