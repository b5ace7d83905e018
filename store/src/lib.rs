//! A content-addressed store: bytes in, digests out, and rows that name results.
//!
//! ```text
//!   stage_* ──► staging/ ──┐                        versions ──► rows ──► traces ──► results
//!                          ├─► commit ─► journal ─► index ─┘                           │
//!   outputs, facts, … ─────┘                │                                          ▼
//!                                           └────────────────────────────► blobs (index or files)
//! ```

mod blob;
pub mod codec;
#[cfg(feature = "crash-points")]
pub mod crash;
#[cfg(not(feature = "crash-points"))]
mod crash;
pub mod digest;
pub mod error;
mod folder;
mod layout;
mod mark;
mod pipe;
mod place;
pub mod record;
mod stage;
pub mod store;
mod stream;
mod sys;
pub mod tree;
mod walk;

pub use blob::Bytes;

pub use digest::{Digest, HexError, Trace, Version};
pub use error::StoreError;
pub use layout::MTIME_S;
pub use record::{
    Artifact, BlobRecord, Encoding, Evicted, Found, HashKind, Kind, Moment, Output, Pin, Place, ResultRecord,
};
pub use stage::Staged;
pub use store::{Commit, Committed, Create, Link, Open, Provided, Put, Relink, Run, Store, Take};
pub use tree::{Entry, Node, Tree, TreeError};
