//! Codecs: how the value of an output becomes bytes, and bytes a value again.
//!
//! A codec is a type without a value, so that it holds nothing that could change what it writes. Its name
//! and the shape of the type that it writes are part of a solid's version. What it writes must depend on the
//! value alone: maps are written sorted by key, because the order of a hash map differs from run to run.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BoxError;
use super::shape::{Shape, ShapeError};
use super::sorted::Sorted;

/// A way to turn values of one type into bytes and back.
///
/// ```
/// use cas_engine::typed::{BoxError, Codec};
///
/// /// Writes numbers as decimal digits.
/// struct Decimal;
///
/// impl Codec<u64> for Decimal {
///     const NAME: &'static str = "decimal";
///     const FILE_FORM: bool = true;
///
///     fn encode(value: &u64) -> Result<Vec<u8>, BoxError> {
///         Ok(value.to_string().into_bytes())
///     }
///
///     fn decode(bytes: &[u8]) -> Result<u64, BoxError> {
///         Ok(std::str::from_utf8(bytes)?.parse()?)
///     }
/// }
///
/// assert_eq!(Decimal::decode(&Decimal::encode(&17).unwrap()).unwrap(), 17);
/// ```
pub trait Codec<T>: 'static {
    /// Its name, which is hashed and stands in the store beside the bytes. A change of the format needs a new
    /// name.
    const NAME: &'static str;

    /// Whether its bytes mean something as a file, so that a command may read them.
    const FILE_FORM: bool;

    /// The shape of what it writes, which is hashed: text that changes whenever old bytes can no longer be
    /// read as `T`. The default is for formats that do not depend on the fields of a type.
    ///
    /// # Errors
    /// The shape of this type cannot be told.
    fn shape() -> Result<String, ShapeError> {
        Ok(String::new())
    }

    /// Writes a value.
    ///
    /// # Errors
    /// It cannot be written: the step that made it fails.
    fn encode(value: &T) -> Result<Vec<u8>, BoxError>;

    /// Reads a value.
    ///
    /// # Errors
    /// These bytes are none: the step that was to read them fails.
    fn decode(bytes: &[u8]) -> Result<T, BoxError>;
}

/// The default: compact, fast, for any type of serde's, and not readable for a command.
#[derive(Debug, Clone, Copy)]
pub struct Bincode;

impl<T: Serialize + DeserializeOwned + 'static> Codec<T> for Bincode {
    const NAME: &'static str = "bincode";
    const FILE_FORM: bool = false;

    fn shape() -> Result<String, ShapeError> {
        Ok(Shape::of::<T>(super::shape::Form::Compact)?.to_string())
    }

    fn encode(value: &T) -> Result<Vec<u8>, BoxError> {
        Ok(cas_store::codec::to_bytes(&Sorted(value))?)
    }

    fn decode(bytes: &[u8]) -> Result<T, BoxError> {
        Ok(cas_store::codec::from_bytes(bytes)?)
    }
}

/// Canonical JSON: keys sorted, no white space. A command may read it.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl<T: Serialize + DeserializeOwned + 'static> Codec<T> for Json {
    const NAME: &'static str = "json";
    const FILE_FORM: bool = true;

    fn shape() -> Result<String, ShapeError> {
        Ok(Shape::of::<T>(super::shape::Form::Readable)?.to_string())
    }

    fn encode(value: &T) -> Result<Vec<u8>, BoxError> {
        let mut value = serde_json::to_value(value)?;
        value.sort_all_objects();
        Ok(serde_json::to_vec(&value)?)
    }

    fn decode(bytes: &[u8]) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// A `String` as its UTF-8. A command may read it.
#[derive(Debug, Clone, Copy)]
pub struct Text;

impl Codec<String> for Text {
    const NAME: &'static str = "text";
    const FILE_FORM: bool = true;

    fn encode(value: &String) -> Result<Vec<u8>, BoxError> {
        Ok(value.clone().into_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<String, BoxError> {
        Ok(std::str::from_utf8(bytes)?.to_owned())
    }
}

/// A `Vec<u8>` as it is. A command may read it.
#[derive(Debug, Clone, Copy)]
pub struct Bytes;

impl Codec<Vec<u8>> for Bytes {
    const NAME: &'static str = "bytes";
    const FILE_FORM: bool = true;

    fn encode(value: &Vec<u8>) -> Result<Vec<u8>, BoxError> {
        Ok(value.clone())
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
        Ok(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Unit,
        Newtype(u8),
        Tuple(i64, String),
        Struct { a: Option<bool>, b: char },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct All {
        map: HashMap<String, Vec<u16>>,
        nested: HashMap<u32, HashMap<i8, ()>>,
        kinds: Vec<Kind>,
        pair: (u64, f64),
        big: u128,
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Unit),
            any::<u8>().prop_map(Kind::Newtype),
            any::<(i64, String)>().prop_map(|(a, b)| Kind::Tuple(a, b)),
            any::<(Option<bool>, char)>().prop_map(|(a, b)| Kind::Struct { a, b }),
        ]
    }

    prop_compose! {
        fn all()(
            map in any::<HashMap<String, Vec<u16>>>(),
            nested in any::<HashMap<u32, HashMap<i8, ()>>>(),
            kinds in proptest::collection::vec(kind(), 0..4),
            pair in (any::<u64>(), proptest::num::f64::NORMAL),
            big in any::<u64>(),
        ) -> All {
            All { map, nested, kinds, pair, big: u128::from(big) }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in all()) {
            let bytes = Bincode::encode(&value).expect("written");
            prop_assert_eq!(&<Bincode as Codec<All>>::decode(&bytes).expect("read"), &value);
            let bytes = Json::encode(&value).expect("written");
            prop_assert_eq!(&<Json as Codec<All>>::decode(&bytes).expect("read"), &value);
        }

        #[test]
        fn the_order_of_a_hash_map_is_not_in_the_bytes(entries in any::<Vec<(String, u32)>>()) {
            // Each hash map has its own order: two with the same entries are written the same.
            let one: HashMap<String, u32> = entries.iter().cloned().collect();
            let mut two = HashMap::with_capacity(1000);
            two.extend(one.iter().map(|(key, value)| (key.clone(), *value)));
            prop_assert_eq!(Bincode::encode(&one).expect("written"), Bincode::encode(&two).expect("written"));
            prop_assert_eq!(Json::encode(&one).expect("written"), Json::encode(&two).expect("written"));
        }

        #[test]
        fn no_bytes_make_a_codec_panic(bytes in any::<Vec<u8>>()) {
            let _ = <Bincode as Codec<All>>::decode(&bytes);
            let _ = <Json as Codec<All>>::decode(&bytes);
            let _ = <Text as Codec<String>>::decode(&bytes);
        }
    }

    #[test]
    fn bytes_that_are_left_over_are_an_error() {
        let mut bytes = Bincode::encode(&7_u32).expect("written");
        bytes.push(0);
        assert!(<Bincode as Codec<u32>>::decode(&bytes).is_err());
    }

    #[test]
    fn without_a_map_it_is_plain_bincode() {
        let value = vec![Kind::Tuple(-3, "x".into()), Kind::Struct { a: Some(true), b: 'ß' }];
        assert_eq!(
            Bincode::encode(&value).expect("written"),
            cas_store::codec::to_bytes(&value).expect("written")
        );
    }
}
