//! A content-addressed store: bytes in, digests out, and rows that name results.
//!
//! ```text
//!   stage_* ──► staging/ ──┐                        versions ──► rows ──► traces ──► results
//!                          ├─► commit ─► journal ─► index ─┘                           │
//!   outputs, facts, … ─────┘                │                                          ▼
//!                                           └────────────────────────────► blobs (index or files)
//! ```
//!
//! Any number of processes use a store at once. One of them is its host, and the others go through it:
//!
//! ```text
//!   Store ─ client ─┬─ a call ────────────────────────────► host ─► journal, index, blobs
//!                   └─ a message ─► socket ─► its door ─────┘
//! ```

mod answers;
mod apply;
pub mod archive;
mod begun;
mod blob;
mod change;
pub mod check;
mod claim;
mod claims;
mod client;
pub mod codec;
pub mod collect;
mod commit;
pub mod config;
mod copied;
#[cfg(feature = "crash-points")]
pub mod crash;
#[cfg(not(feature = "crash-points"))]
mod crash;
mod damage;
mod descriptors;
pub mod digest;
#[cfg(feature = "crash-points")]
pub mod disk;
#[cfg(not(feature = "crash-points"))]
mod disk;
mod door;
mod durable;
pub mod error;
mod folder;
mod frame;
mod frozen;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod garbage;
mod guests;
mod host;
mod hosts;
mod ids;
mod import;
mod index;
mod inside;
mod journal;
pub mod judge;
mod layout;
mod leases;
mod lock;
mod maintain;
mod mark;
mod network;
mod overlay;
mod pipe;
mod place;
mod plain_file;
mod portions;
mod processes;
mod rebuild;
mod receive;
pub mod record;
mod remote;
mod reserve;
#[cfg(all(test, feature = "schedules"))]
mod schedules;
mod scratch;
mod share;
mod shares;
mod silence;
mod socket;
mod stage;
pub mod store;
mod stream;
mod sync;
mod sys;
mod tables;
mod taking;
mod threads;
mod tickets;
mod tidy;
mod times;
mod together;
pub mod tree;
mod unpack;
mod walk;
mod wire;
mod work;

pub use begun::Begun;
pub use blob::Bytes;

pub use archive::{Archived, Export, LEFT_OUT, Standing, check_export};
pub use check::{Depth, Finding, Stats, VerifyReport};
pub use claim::{Claim, ClaimGuard};
pub use collect::{CollectReport, Garbage, Going, Mode, Policy, Why};
pub use commit::{Commit, Committed, Put, Relink};
pub use config::{Config, Durability, Sharing};
pub use digest::{Digest, HexError, Trace, Version};
pub use error::StoreError;
pub use hosts::HandedOver;
pub use judge::{Accept, Forget, Judged, Judgement, Mark, Said, Saying};
pub use layout::MTIME_S;
pub use portions::Share;
pub use rebuild::RebuildReport;
pub use record::{
    Artifact, BlobRecord, Encoding, Evicted, Found, HashKind, Kind, Moment, Output, Pin, Place, Replacement,
    ResultRecord,
};
pub use scratch::Scratch;
pub use share::group as group_name;
pub use shares::{CPUS, Portion};
pub use stage::Staged;
pub use store::{Create, Hosting, Link, Open, Provided, Run, Store, Take, WeakStore};
pub use threads::hash_together;
pub use tree::{Entry, Node, Tree, TreeError};
pub use work::WorkFolder;
