//! Values to bytes and back, for what is kept in the index, the journal and messages.
//!
//! The only file that names bincode. A record is a header and a payload:
//!
//! ```text
//!   0       2      3         4          8          12
//!   ├───────┼──────┼─────────┼──────────┼──────────┼─────────┄
//!   │ ca 5e │ kind │ version │ length   │ checksum │ payload
//!   └───────┴──────┴─────────┴──────────┴──────────┴─────────┄
//! ```
//!
//! Length (of the payload) and checksum are little-endian `u32`; the checksum is CRC-32 of the header's
//! first eight bytes and the payload. Nothing of the payload is looked at before all of the header is
//! right, and whatever the bytes are, decoding gives a value or a [`DecodeError`], never a panic, and
//! never takes more memory than a small multiple of what was given. What is *hashed* never goes through
//! here: a serializer's output is no identity.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes of a record's header.
pub const HEADER_BYTES: usize = 12;

/// The longest payload: far above any record, far below what would hurt. One commit with all its inline
/// values is the largest thing there is.
pub const PAYLOAD_LIMIT_BYTES: usize = 256 * 1024 * 1024;

const MAGIC: [u8; 2] = [0xca, 0x5e];

/// Little-endian, variable-length integers; the limit stops a length that lies before it is believed.
const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<PAYLOAD_LIMIT_BYTES>,
> = bincode::config::standard().with_limit::<PAYLOAD_LIMIT_BYTES>();

/// Writes a value as a record of this kind and version, both chosen by whoever owns the type.
///
/// # Errors
///
/// When the value is larger than [`PAYLOAD_LIMIT_BYTES`], or of a type that serializes itself into
/// something that cannot be read back.
pub fn encode<T: Serialize + ?Sized>(kind: u8, version: u8, value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut record = vec![0; HEADER_BYTES];
    bincode::serde::encode_into_std_write(value, &mut record, CONFIG)
        .map_err(|error| EncodeError { kind, what: error.to_string() })?;
    let length = record.len() - HEADER_BYTES;
    if length > PAYLOAD_LIMIT_BYTES {
        let what = format!("{length} bytes; {PAYLOAD_LIMIT_BYTES} is the limit");
        return Err(EncodeError { kind, what });
    }
    let length = u32::try_from(length).expect("the limit fits");
    record[..2].copy_from_slice(&MAGIC);
    record[2] = kind;
    record[3] = version;
    record[4..8].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&record);
    record[8..12].copy_from_slice(&checksum.to_le_bytes());
    Ok(record)
}

/// Reads back a record that must be of this kind and version, and nothing but it.
///
/// # Errors
///
/// Says which part of the bytes is not as it should be.
pub fn decode<T: DeserializeOwned>(kind: u8, version: u8, bytes: &[u8]) -> Result<T, DecodeError> {
    let header = Header::read(bytes)?;
    if header.kind != kind {
        return Err(DecodeError::Kind { found: header.kind, wanted: kind });
    }
    if header.version != version {
        return Err(DecodeError::Version { kind, found: header.version, wanted: version });
    }
    if bytes.len() != HEADER_BYTES + header.length {
        return Err(DecodeError::Length { found: bytes.len(), wanted: HEADER_BYTES + header.length });
    }
    if header.checksum != checksum(bytes) {
        return Err(DecodeError::Checksum);
    }
    let payload = &bytes[HEADER_BYTES..];
    // Borrowing while it reads spares copies of what is only looked at.
    match bincode::serde::borrow_decode_from_slice(payload, CONFIG) {
        Ok((value, used)) if used == payload.len() => Ok(value),
        Ok((_, used)) => {
            Err(DecodeError::Payload { what: format!("{} bytes are left over", payload.len() - used) })
        }
        Err(error) => Err(DecodeError::Payload { what: error.to_string() }),
    }
}

/// The longest value without a header. Far above what is sensibly held in memory as one value; a length that lies
/// is stopped by it.
pub const VALUE_LIMIT_BYTES: usize = 4 * 1024 * 1024 * 1024;

const VALUES: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<VALUE_LIMIT_BYTES>,
> = bincode::config::standard().with_limit::<VALUE_LIMIT_BYTES>();

/// Writes a value as it is, without a header: for content whose kind stands elsewhere and that is checked by
/// its digest.
///
/// # Errors
///
/// When it is larger than [`VALUE_LIMIT_BYTES`], or of a type that cannot be read back.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let bytes = bincode::serde::encode_to_vec(value, VALUES)
        .map_err(|error| EncodeError { kind: 0, what: error.to_string() })?;
    if bytes.len() > VALUE_LIMIT_BYTES {
        let what = format!("{} bytes; {VALUE_LIMIT_BYTES} is the limit", bytes.len());
        return Err(EncodeError { kind: 0, what });
    }
    Ok(bytes)
}

/// Reads back what [`to_bytes`] wrote, and nothing but it.
///
/// # Errors
///
/// The bytes are no such value, or some are left over.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bincode::serde::decode_from_slice(bytes, VALUES) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => {
            Err(DecodeError::Payload { what: format!("{} bytes are left over", bytes.len() - used) })
        }
        Err(error) => Err(DecodeError::Payload { what: error.to_string() }),
    }
}

/// The kind and the version of a record, for whoever reads several of them: nothing else is checked.
///
/// # Errors
///
/// When the bytes do not begin with a header.
pub fn kind_and_version(bytes: &[u8]) -> Result<(u8, u8), DecodeError> {
    Header::read(bytes).map(|header| (header.kind, header.version))
}

/// How many bytes the record at the beginning of `bytes` takes, header included: for records that stand
/// one after the other. Whether that many are there is the caller's business.
///
/// # Errors
///
/// When the bytes do not begin with a header, or it promises more than the limit.
pub fn record_bytes(bytes: &[u8]) -> Result<usize, DecodeError> {
    Header::read(bytes).map(|header| HEADER_BYTES + header.length)
}

struct Header {
    kind: u8,
    version: u8,
    length: usize,
    checksum: u32,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(DecodeError::Length { found: bytes.len(), wanted: HEADER_BYTES });
        };
        let [m0, m1, kind, version, l0, l1, l2, l3, c0, c1, c2, c3] = *header;
        if [m0, m1] != MAGIC {
            return Err(DecodeError::Magic);
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > PAYLOAD_LIMIT_BYTES {
            return Err(DecodeError::Limit { found: length });
        }
        Ok(Self { kind, version, length, checksum: u32::from_le_bytes([c0, c1, c2, c3]) })
    }
}

/// The checksum of a record: all of it but the checksum itself. `record` holds at least a header.
fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..8]);
    hasher.update(&record[HEADER_BYTES..]);
    hasher.finalize()
}

/// A value that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record of kind {kind} cannot be written: {what}")]
pub struct EncodeError {
    /// Of which kind.
    pub kind: u8,
    /// Why.
    pub what: String,
}

/// Bytes that are not the record that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They do not begin as a record does.
    #[error("these bytes are not a record")]
    Magic,
    /// A record of something else.
    #[error("a record of kind {found} stands where one of kind {wanted} should")]
    Kind {
        /// What it says.
        found: u8,
        /// What was looked for.
        wanted: u8,
    },
    /// A record that another version of the program wrote.
    #[error("a record of kind {kind} has version {found}; this program reads version {wanted}")]
    Version {
        /// The kind.
        kind: u8,
        /// What it says.
        found: u8,
        /// What was looked for.
        wanted: u8,
    },
    /// Too few bytes, or too many.
    #[error("a record has {found} bytes instead of {wanted}")]
    Length {
        /// What is there.
        found: usize,
        /// What should be.
        wanted: usize,
    },
    /// It promises more than any record has.
    #[error("a record claims {found} bytes, which is above the limit")]
    Limit {
        /// The length it claims.
        found: usize,
    },
    /// The bytes are not those that were written.
    #[error("the checksum of a record is wrong")]
    Checksum,
    /// The bytes are those that were written, but they do not mean what was looked for.
    #[error("a record does not hold what it should: {what}")]
    Payload {
        /// What the serializer says.
        what: String,
    },
}

/// For `#[serde(with = "cas_store::codec::bytes")]` on a `Vec<u8>`: written and read in one piece instead
/// of number by number, which is some fifty times faster.
pub mod bytes {
    use std::fmt;

    use serde::de::{Deserializer, Error, SeqAccess, Visitor};
    use serde::ser::Serializer;

    /// Writes the bytes.
    ///
    /// # Errors
    ///
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// Reads the bytes.
    ///
    /// # Errors
    ///
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(Buffer)
    }

    struct Buffer;

    impl<'de> Visitor<'de> for Buffer {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }

        // Formats without bytes of their own (JSON) have them as a list of numbers.
        fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vec<u8>, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = numbers.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::digest::Digest;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Value {
        Nothing,
        Number(i64),
        Text(String),
        Bytes(#[serde(with = "bytes")] Vec<u8>),
        List(Vec<Option<u32>>),
        Named { digest: Digest, ratio: f64 },
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Nothing),
            any::<i64>().prop_map(Value::Number),
            any::<String>().prop_map(Value::Text),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
            prop::collection::vec(any::<Option<u32>>(), 0..30).prop_map(Value::List),
            (any::<[u8; 32]>(), -1e9..1e9)
                .prop_map(|(digest, ratio)| Value::Named { digest: Digest::from_bytes(digest), ratio }),
        ]
    }

    #[test]
    fn a_record_is_these_bytes() {
        let record = encode(7, 2, &(1u8, "ab", 300u32)).unwrap();
        let golden = [
            0xca, 0x5e, 7, 2, 7, 0, 0, 0, // magic, kind, version, length
            0, 0, 0, 0, // checksum, below
            1, 2, b'a', b'b', 251, 44, 1,
        ];
        assert_eq!(record[..8], golden[..8]);
        assert_eq!(record[12..], golden[12..]);
        let covered = [&golden[..8], &golden[12..]].concat();
        assert_eq!(record[8..12], crc32fast::hash(&covered).to_le_bytes());
        assert_eq!(decode(7, 2, &record), Ok((1u8, "ab".to_owned(), 300u32)));
        assert_eq!(kind_and_version(&record), Ok((7, 2)));
        assert_eq!(record_bytes(&record), Ok(19));
    }

    #[test]
    fn each_part_of_the_header_has_its_own_words() {
        let record = encode(7, 2, "text").unwrap();
        let check = |bytes: &[u8], words: &str| {
            assert_eq!(decode::<String>(7, 2, bytes).unwrap_err().to_string(), words);
        };
        check(b"", "a record has 0 bytes instead of 12");
        check(b"not a record", "these bytes are not a record");
        let other = encode(8, 2, "text").unwrap();
        check(&other, "a record of kind 8 stands where one of kind 7 should");
        let newer = encode(7, 3, "text").unwrap();
        check(&newer, "a record of kind 7 has version 3; this program reads version 2");
        check(&record[..16], "a record has 16 bytes instead of 17");
        check(&[&record[..], b"x"].concat(), "a record has 18 bytes instead of 17");
        let mut flipped = record.clone();
        flipped[14] ^= 1;
        check(&flipped, "the checksum of a record is wrong");
        let mut huge = record.clone();
        huge[7] = 0xff;
        check(&huge, "a record claims 4278190085 bytes, which is above the limit");
        let number = encode(7, 2, &-1i64).unwrap();
        assert!(matches!(decode::<String>(7, 2, &number), Err(DecodeError::Payload { .. })));
        let two = encode(7, 2, &("a", "b")).unwrap();
        check(&two, "a record does not hold what it should: 2 bytes are left over");
    }

    /// A record around a payload that nobody encoded, with a right header: what a checksum does not catch.
    fn sealed(payload: &[u8]) -> Vec<u8> {
        let mut record = encode(1, 1, &()).unwrap();
        record.extend_from_slice(payload);
        let length = u32::try_from(payload.len()).unwrap();
        record[4..8].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum(&record);
        record[8..12].copy_from_slice(&checksum.to_le_bytes());
        record
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        // A list that claims 2^63 elements, and bytes that claim 200 MiB where there are none.
        for payload in [&[4, 253, 0, 0, 0, 0, 0, 0, 0, 128][..], &[3, 252, 0, 0, 128, 12]] {
            assert!(matches!(decode::<Value>(1, 1, &sealed(payload)), Err(DecodeError::Payload { .. })));
        }
    }

    #[test]
    fn bytes_are_also_bytes_in_text_formats() {
        let place = crate::record::Place::Inline(vec![1, 2, 255]);
        let record = encode(1, 1, &place).unwrap();
        assert_eq!(record.len(), HEADER_BYTES + 5);
        assert_eq!(decode(1, 1, &record), Ok(place));
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(value in value()) {
            let record = encode(1, 1, &value).unwrap();
            prop_assert_eq!(decode::<Value>(1, 1, &record), Ok(value));
        }

        #[test]
        fn one_flipped_bit_is_noticed(value in value(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut record = encode(1, 1, &value).unwrap();
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
            prop_assert!(decode::<Value>(1, 1, &record).is_err());
        }

        #[test]
        fn a_record_cut_short_is_noticed(value in value(), at in any::<prop::sample::Index>()) {
            let record = encode(1, 1, &value).unwrap();
            prop_assert!(decode::<Value>(1, 1, &record[..at.index(record.len())]).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Value>(1, 1, &payload);
            // Behind a right header, whatever is read must be what would be written, or an error.
            let _ = decode::<Value>(1, 1, &sealed(&payload));
            let _ = decode::<crate::record::ResultRecord>(1, 1, &sealed(&payload));
        }
    }
}
