//! Names of content and of what content is looked up by: 32 bytes of BLAKE3, shown as 64 hex digits.
//!
//! A [`Digest`] says what bytes are; a [`Version`] and a [`Trace`] say what bytes are *wanted*. They
//! are types of their own so that none can be passed for another. Nothing here touches a file.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
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

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
                } else {
                    // In one piece: as a tuple of 32 numbers it is read a number at a time.
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
                } else {
                    deserializer.deserialize_bytes(Raw).map(Self)
                }
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

/// Takes 32 bytes as they stand in what is being read.
struct Raw;

impl Visitor<'_> for Raw {
    type Value = [u8; 32];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the 32 bytes of a hash")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<[u8; 32], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

impl Digest {
    /// Hashes bytes that are in memory.
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }

    /// Hashes what a reader gives; memory does not grow with it.
    ///
    /// # Errors
    ///
    /// What the reader failed with.
    pub fn of_reader(reader: impl std::io::Read) -> std::io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(reader)?;
        Ok(hasher.finalize().into())
    }
}

/// A text that is not 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not 64 hex digits")]
pub struct HexError {
    /// What was given.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn the_digest_of_bytes_is_what_b3sum_prints() {
        let hex = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Digest::of(b"").to_string(), hex);
        assert_eq!(Digest::of(b"").short(), "af1349b9f5f9");
        assert_eq!(format!("{:?}", Digest::of(b"")), "Digest(af1349b9f5f9)");
        assert_eq!(hex.to_uppercase().parse(), Ok(Digest::of(b"")));
    }

    #[test]
    fn what_is_not_64_hex_digits_is_named() {
        for text in ["", "af13", "zz1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", "äöü"]
        {
            let error = text.parse::<Digest>().unwrap_err();
            assert_eq!(error.to_string(), format!("`{text}` is not 64 hex digits"));
        }
    }

    #[test]
    fn a_record_holds_a_hash_as_its_length_and_its_bytes() {
        let version = Version::from_bytes([7; 32]);
        let record = codec::encode(1, 1, &version).unwrap();
        assert_eq!(record[codec::HEADER_BYTES..], [&[32][..], &[7; 32]].concat());
        assert_eq!(codec::decode(1, 1, &record), Ok(version));
        let short = codec::encode(1, 1, &vec![7u8; 31]).unwrap();
        assert!(codec::decode::<Version>(1, 1, &short).is_err());
    }
}
