//! A value of serde's, serialized with the entries of each map in the order of their encoded keys.
//!
//! Made for bincode, which writes a map as its length and then the entries: the entries are encoded apart,
//! sorted, and passed on as raw bytes. Everything that is no map goes through as it is. It must never be put
//! in front of a format that says more of a map than its length.

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// A value whose maps are sorted when it is serialized.
pub(super) struct Sorted<'a, T: ?Sized>(pub(super) &'a T);

impl<T: Serialize + ?Sized> Serialize for Sorted<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Sorting(serializer))
    }
}

/// A serializer that passes everything on, and sorts maps.
struct Sorting<S>(S);

macro_rules! pass {
    ($($name:ident($($arg:ident: $ty:ty),*);)*) => {
        $(fn $name(self, $($arg: $ty),*) -> Result<S::Ok, S::Error> {
            self.0.$name($($arg),*)
        })*
    };
}

impl<S: Serializer> Serializer for Sorting<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Sorting<S::SerializeSeq>;
    type SerializeTuple = Sorting<S::SerializeTuple>;
    type SerializeTupleStruct = Sorting<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Sorting<S::SerializeTupleVariant>;
    type SerializeMap = Entries<S>;
    type SerializeStruct = Sorting<S::SerializeStruct>;
    type SerializeStructVariant = Sorting<S::SerializeStructVariant>;

    pass! {
        serialize_bool(v: bool);
        serialize_i8(v: i8);
        serialize_i16(v: i16);
        serialize_i32(v: i32);
        serialize_i64(v: i64);
        serialize_i128(v: i128);
        serialize_u8(v: u8);
        serialize_u16(v: u16);
        serialize_u32(v: u32);
        serialize_u64(v: u64);
        serialize_u128(v: u128);
        serialize_f32(v: f32);
        serialize_f64(v: f64);
        serialize_char(v: char);
        serialize_str(v: &str);
        serialize_bytes(v: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&Sorted(value))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_struct(name, &Sorted(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_variant(name, index, variant, &Sorted(value))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.0.serialize_seq(len).map(Sorting)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.0.serialize_tuple(len).map(Sorting)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.0.serialize_tuple_struct(name, len).map(Sorting)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.0.serialize_tuple_variant(name, index, variant, len).map(Sorting)
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Entries<S>, S::Error> {
        Ok(Entries { serializer: self.0, key: None, entries: Vec::new() })
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.0.serialize_struct(name, len).map(Sorting)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.0.serialize_struct_variant(name, index, variant, len).map(Sorting)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! pass_elements {
    ($($trait:ident::$method:ident;)*) => {
        $(impl<S: $trait> $trait for Sorting<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                self.0.$method(&Sorted(value))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        })*
    };
}

pass_elements! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

macro_rules! pass_fields {
    ($($trait:ident)*) => {
        $(impl<S: $trait> $trait for Sorting<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), S::Error> {
                self.0.serialize_field(key, &Sorted(value))
            }

            // Bincode reads every field that a type has: a value that left one out could not be read back,
            // or worse, would be read as another.
            fn skip_field(&mut self, key: &'static str) -> Result<(), S::Error> {
                Err(S::Error::custom(format_args!(
                    "the field `{key}` is left out by `skip_serializing_if`, which bincode cannot read back: use the codec `Json`"
                )))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        })*
    };
}

pass_fields! { SerializeStruct SerializeStructVariant }

/// The entries of a map, encoded, until all are there.
struct Entries<S> {
    serializer: S,
    key: Option<Vec<u8>>,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<S: Serializer> SerializeMap for Entries<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.key = Some(cas_store::codec::to_bytes(&Sorted(key)).map_err(S::Error::custom)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let key = self.key.take().ok_or_else(|| S::Error::custom("a map gave a value without a key"))?;
        let value = cas_store::codec::to_bytes(&Sorted(value)).map_err(S::Error::custom)?;
        self.entries.push((key, value));
        Ok(())
    }

    fn end(mut self) -> Result<S::Ok, S::Error> {
        self.entries.sort_unstable();
        // The length, as bincode writes that of a map, then the entries: a tuple adds nothing of its own.
        let mut tuple = self.serializer.serialize_tuple(2)?;
        tuple.serialize_element(&(self.entries.len() as u64))?;
        tuple.serialize_element(&Raw(&self.entries))?;
        tuple.end()
    }
}

/// Bytes that are encoded already: a tuple of bytes, which bincode writes without a length.
struct Raw<'a>(&'a [(Vec<u8>, Vec<u8>)]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let len = self.0.iter().map(|(key, value)| key.len() + value.len()).sum();
        let mut tuple = serializer.serialize_tuple(len)?;
        for byte in self.0.iter().flat_map(|(key, value)| key.iter().chain(value)) {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}
