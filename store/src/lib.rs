//! A content-addressed store: bytes in, digests out, and rows that name results.
//!
//! ```text
//!   stage_* ──► staging/ ──┐                        versions ──► rows ──► traces ──► results
//!                          ├─► commit ─► journal ─► index ─┘                           │
//!   outputs, facts, … ─────┘                │                                          ▼
//!                                           └────────────────────────────► blobs (index or files)
//! ```

mod apply;
mod blob;
mod change;
pub mod check;
mod claims;
pub mod codec;
pub mod collect;
pub mod config;
#[cfg(feature = "crash-points")]
pub mod crash;
#[cfg(not(feature = "crash-points"))]
mod crash;
mod damage;
pub mod digest;
#[cfg(feature = "crash-points")]
pub mod disk;
#[cfg(not(feature = "crash-points"))]
mod disk;
mod durable;
pub mod error;
mod folder;
mod frozen;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod garbage;
mod host;
mod hosts;
mod index;
mod journal;
pub mod judge;
mod layout;
mod lock;
mod mark;
mod overlay;
mod pipe;
mod place;
mod rebuild;
pub mod record;
mod reserve;
mod stage;
pub mod store;
mod stream;
mod sys;
mod tables;
mod tidy;
pub mod tree;
mod walk;
mod wire;
mod work;

pub use blob::Bytes;

pub use check::{Depth, Finding, Stats, VerifyReport};
pub use collect::{CollectReport, Garbage, Going, Mode, Policy, Why};
pub use config::{Config, Durability, Sharing};
pub use digest::{Digest, HexError, Trace, Version};
pub use error::StoreError;
pub use judge::{Accept, Judged, Judgement, Mark, Said, Saying};
pub use layout::MTIME_S;
pub use rebuild::RebuildReport;
pub use record::{
    Artifact, BlobRecord, Encoding, Evicted, Found, HashKind, Kind, Moment, Output, Pin, Place, Replacement,
    ResultRecord,
};
pub use stage::Staged;
pub use store::{
    Claim, ClaimGuard, Commit, Committed, Create, Link, Open, Provided, Put, Relink, Run, Store, Take,
};
pub use tree::{Entry, Node, Tree, TreeError};
pub use work::WorkFolder;
