//! A content-addressed store: bytes in, digests out, and rows that name results.
//!
//! ```text
//!   stage_* ──► staging/ ──┐                        versions ──► rows ──► traces ──► results
//!                          ├─► commit ─► journal ─► index ─┘                           │
//!   outputs, facts, … ─────┘                │                                          ▼
//!                                           └────────────────────────────► blobs (index or files)
//! ```

pub mod digest;
pub mod error;
pub mod record;
pub mod store;
pub mod tree;

pub use digest::{Digest, HexError, Trace, Version};
pub use error::StoreError;
pub use record::{Artifact, Evicted, Found, Kind, Moment, Output, Pin, ResultRecord};
pub use store::{
    Bytes, Commit, Committed, Create, Link, Open, Provided, Put, Relink, Run, Staged, Store, Take,
};
pub use tree::{Entry, Node, Tree};
