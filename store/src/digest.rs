//! Names of content and of what content is looked up by: 32 bytes of BLAKE3, shown as 64 hex digits.
//!
//! A [`Digest`] says what bytes are; a [`Version`] and a [`Trace`] say what bytes are *wanted*. They
//! are types of their own so that none can be passed for another. Nothing here touches a file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes that are already a hash.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The 64 lower-case hex digits.
            pub fn to_hex(&self) -> String {
                blake3::Hash::from_bytes(self.0).to_hex().to_string()
            }

            /// The first twelve hex digits, for messages to people.
            pub fn short(&self) -> String {
                self.to_hex()[..12].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&blake3::Hash::from_bytes(self.0).to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = HexError;

            fn from_str(text: &str) -> Result<Self, HexError> {
                let lower = text.to_ascii_lowercase();
                blake3::Hash::from_hex(lower.as_bytes())
                    .map(|hash| Self(*hash.as_bytes()))
                    .map_err(|_| HexError { text: text.to_owned() })
            }
        }

        impl From<blake3::Hash> for $name {
            fn from(hash: blake3::Hash) -> Self {
                Self(*hash.as_bytes())
            }
        }
    };
}

id! {
    /// The identity of content: plain BLAKE3 of the raw bytes, what `b3sum` prints; for a tree, of its
    /// canonical encoding in the tree's context (see `tree.rs`).
    Digest
}

id! {
    /// An opaque key that rows are stored under. Whoever uses the store derives it.
    Version
}

id! {
    /// An opaque key that one result is stored under; rows point at it.
    Trace
}

impl Digest {
    /// Hashes bytes that are in memory.
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }
}

/// A text that is not 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not 64 hex digits")]
pub struct HexError {
    /// What was given.
    pub text: String,
}
