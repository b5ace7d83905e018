//! The source that a type is deserialized from to find its shape: it answers every question and notes it.
//!
//! One pass makes one value. An enum is given another variant in each pass until all were asked for; inside a
//! type that contains itself the shortest way out is taken. When a type refuses a value, the pass is repeated
//! with another answer to the last question: what checks a value mostly does so right after reading it.

use std::any::type_name;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor,
    value::{StrDeserializer, U32Deserializer},
};

use super::shape::{Body, Form, Named, Node, Variant};

/// Texts that are tried in turn where a type accepts only some: numbers, dates, addresses, names.
const TEXTS: &[&str] = &[
    "",
    "0",
    "a",
    "1",
    "1970-01-01T00:00:00Z",
    "1970-01-01",
    "00:00:00",
    "1970-01-01T00:00:00",
    "1970-01-01 00:00:00",
    "1970-01-01T00:00:00+00:00[UTC]",
    "PT0S",
    "0s",
    "127.0.0.1",
    "::1",
    "127.0.0.1:80",
    "[::1]:80",
    "00000000-0000-0000-0000-000000000000",
    "http://a.aa/",
    "a@a.aa",
    "1.0.0",
    "true",
    "UTC",
    "en",
    "/",
    "{}",
    "[]",
    "00",
    "0000000000000000000000000000000000000000000000000000000000000000",
];

/// Lengths of byte strings that are tried in turn.
const LENGTHS: &[usize] = &[0, 1, 4, 8, 16, 20, 24, 32, 64];

/// How deep a value may go before a type is taken to have no end.
const DEPTH: usize = 200;

/// What was asked and answered so far.
#[derive(Clone)]
pub(super) struct Pass {
    form: Form,
    /// Structs and enums by the name of what reads them, which is one per type.
    index: HashMap<String, usize>,
    pub(super) named: Vec<Named>,
    /// The named types that are being read, outermost first, with the variant of an enum.
    stack: Vec<(usize, Option<usize>)>,
    /// Where in the value the question stands.
    path: Vec<String>,
    /// The answer to a leaf, by place; the first one where none is noted.
    answers: BTreeMap<String, usize>,
    /// The last question of this pass and how many answers there are to it.
    last: Option<(String, usize)>,
    /// What the question that was just answered turned out to be.
    made: Option<Node>,
    /// Every field that was asked for in this pass, by its place.
    pub(super) fields: Vec<Vec<String>>,
    /// A field that is left out, to see whether it may be.
    pub(super) without: Option<Vec<String>>,
    /// For each enum, the variant that came to an end first: it holds nothing of its own type.
    ends: HashMap<usize, usize>,
}

impl Pass {
    pub(super) fn new(form: Form) -> Self {
        Self {
            form,
            index: HashMap::new(),
            named: Vec::new(),
            stack: Vec::new(),
            path: Vec::new(),
            answers: BTreeMap::new(),
            last: None,
            made: None,
            fields: Vec::new(),
            without: None,
            ends: HashMap::new(),
        }
    }

    /// Makes ready for another value.
    pub(super) fn begin(&mut self) {
        self.stack.clear();
        self.path.clear();
        self.fields.clear();
        self.last = None;
        self.made = None;
    }

    /// A pass that takes the same way again as another one did that began here.
    pub(super) fn again(&self, other: &Self) -> Self {
        Self { answers: other.answers.clone(), ..self.clone() }
    }

    /// What the value as a whole was.
    pub(super) fn finish(&mut self) -> Node {
        self.made.take().unwrap_or(Node::Leaf("unit"))
    }

    /// How many structs, enums and variants were met and not spelt out yet.
    pub(super) fn unknown(&self) -> usize {
        self.named
            .iter()
            .map(|named| match &named.body {
                Body::Open => 1,
                Body::Enum(variants) => variants.iter().filter(|(_, variant)| variant.is_none()).count(),
                _ => 0,
            })
            .sum()
    }

    /// Chooses another answer to the last question; false when there is none.
    pub(super) fn answer_otherwise(&mut self) -> bool {
        let Some((place, count)) = &self.last else { return false };
        let answer = self.answers.entry(place.clone()).or_insert(0);
        *answer += 1;
        *answer < *count
    }

    /// The place of the last question, for messages.
    pub(super) fn last_place(&self) -> String {
        match &self.last {
            Some((place, _)) if !place.is_empty() => format!("`{place}`"),
            _ => "its root".to_owned(),
        }
    }

    /// Which of `count` answers the leaf at this place is given.
    fn answer(&mut self, count: usize) -> usize {
        let place = self.path.join(".");
        let chosen = self.answers.get(&place).copied().unwrap_or(0);
        self.last = Some((place, count));
        chosen.min(count - 1)
    }

    /// Whether the value is inside of another one of the same type, so that it should come to an end.
    fn inside_itself(&self) -> bool {
        // Any type that is on the stack twice counts, whichever is on top.
        let mut open: Vec<usize> = self.stack.iter().map(|(index, _)| *index).collect();
        open.sort_unstable();
        open.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Enters a struct or enum; gives its number and whether this is the first time that it is entered.
    fn enter(&mut self, reader: &str, name: &'static str, parts: &[&str]) -> Result<usize, Refused> {
        if self.stack.len() > DEPTH {
            return Err(Refused("it contains itself without end".to_owned()));
        }
        let key = format!("{reader}\0{name}\0{}", parts.join("\0"));
        let next = self.named.len();
        let index = *self.index.entry(key).or_insert(next);
        if index == next {
            self.named.push(Named { name, body: Body::Open });
        }
        self.stack.push((index, None));
        Ok(index)
    }

    /// Leaves a struct: notes what it was, unless it stood inside itself, where it was cut short.
    fn leave(&mut self, index: usize, body: Body) -> Result<(), Refused> {
        let cut = self.inside_itself();
        self.stack.pop();
        self.made = Some(Node::Named(index));
        if cut {
            return Ok(());
        }
        let known = &mut self.named[index];
        if known.body == Body::Open {
            known.body = body;
        } else if known.body != body {
            return Err(Refused(format!("there are two types `{}` that cannot be told apart", known.name)));
        }
        Ok(())
    }
}

/// A refusal of a type, or of ours.
#[derive(Debug)]
pub(super) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl serde::de::Error for Refused {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

/// The deserializer of one pass.
pub(super) struct Probe<'a>(pub(super) &'a mut Pass);

macro_rules! numbers {
    ($($method:ident $visit:ident $name:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            let answer = self.0.answer(3);
            let value = visitor.$visit([0, 1, 2][answer])?;
            self.0.made = Some(Node::Leaf($name));
            Ok(value)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Refused;

    fn is_human_readable(&self) -> bool {
        self.0.form == Form::Readable
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let value = match self.0.answer(5) {
            0 => visitor.visit_unit()?,
            1 => visitor.visit_str("")?,
            2 => visitor.visit_u64(0)?,
            3 => visitor.visit_f64(0.0)?,
            _ => visitor.visit_bool(false)?,
        };
        self.0.made = Some(Node::Any);
        Ok(value)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let answer = self.0.answer(2);
        let value = visitor.visit_bool(answer == 1)?;
        self.0.made = Some(Node::Leaf("bool"));
        Ok(value)
    }

    numbers! {
        deserialize_i8 visit_i8 "i8";
        deserialize_i16 visit_i16 "i16";
        deserialize_i32 visit_i32 "i32";
        deserialize_i64 visit_i64 "i64";
        deserialize_i128 visit_i128 "i128";
        deserialize_u8 visit_u8 "u8";
        deserialize_u16 visit_u16 "u16";
        deserialize_u32 visit_u32 "u32";
        deserialize_u64 visit_u64 "u64";
        deserialize_u128 visit_u128 "u128";
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let answer = self.0.answer(2);
        let value = visitor.visit_f32([0.0, 1.0][answer])?;
        self.0.made = Some(Node::Leaf("f32"));
        Ok(value)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let answer = self.0.answer(2);
        let value = visitor.visit_f64([0.0, 1.0][answer])?;
        self.0.made = Some(Node::Leaf("f64"));
        Ok(value)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let answer = self.0.answer(2);
        let value = visitor.visit_char(['a', '0'][answer])?;
        self.0.made = Some(Node::Leaf("char"));
        Ok(value)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let answer = self.0.answer(TEXTS.len());
        let value = visitor.visit_str(TEXTS[answer])?;
        self.0.made = Some(Node::Leaf("str"));
        Ok(value)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let answer = self.0.answer(TEXTS.len());
        let value = visitor.visit_string(TEXTS[answer].to_owned())?;
        self.0.made = Some(Node::Leaf("string"));
        Ok(value)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let answer = self.0.answer(LENGTHS.len());
        let value = visitor.visit_bytes(&vec![0; LENGTHS[answer]])?;
        self.0.made = Some(Node::Leaf("bytes"));
        Ok(value)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let answer = self.0.answer(LENGTHS.len());
        let value = visitor.visit_byte_buf(vec![0; LENGTHS[answer]])?;
        self.0.made = Some(Node::Leaf("bytes"));
        Ok(value)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.0.inside_itself() {
            let value = visitor.visit_none()?;
            self.0.made = Some(Node::Option(None));
            return Ok(value);
        }
        let value = visitor.visit_some(Probe(self.0))?;
        let inner = self.0.made.take();
        self.0.made = Some(Node::Option(inner.map(Box::new)));
        Ok(value)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let value = visitor.visit_unit()?;
        self.0.made = Some(Node::Leaf("unit"));
        Ok(value)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let index = self.0.enter(type_name::<V>(), name, &[])?;
        let value = visitor.visit_unit()?;
        self.0.leave(index, Body::Unit)?;
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let index = self.0.enter(type_name::<V>(), name, &[])?;
        let value = visitor.visit_newtype_struct(Probe(self.0))?;
        let inner = self.0.finish();
        self.0.leave(index, Body::Newtype(inner))?;
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.0.inside_itself() {
            let value = visitor.visit_seq(Items::new(self.0, 0, true))?;
            self.0.made = Some(Node::Seq(None));
            return Ok(value);
        }
        let mut items = Items::new(self.0, 1, true);
        let value = visitor.visit_seq(&mut items)?;
        let inner = items.nodes.pop();
        self.0.made = Some(Node::Seq(inner.map(Box::new)));
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        let mut items = Items::new(self.0, len, true);
        let value = visitor.visit_seq(&mut items)?;
        let nodes = items.nodes;
        self.0.made = Some(Node::Tuple(nodes));
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let index = self.0.enter(type_name::<V>(), name, &[])?;
        let mut items = Items::new(self.0, len, true);
        let value = visitor.visit_seq(&mut items)?;
        let nodes = items.nodes;
        self.0.leave(index, Body::Tuple(nodes))?;
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.0.inside_itself() {
            let value = visitor.visit_map(Entries { pass: self.0, left: 0, key: None, entry: None })?;
            self.0.made = Some(Node::Map(None));
            return Ok(value);
        }
        let mut entries = Entries { pass: self.0, left: 1, key: None, entry: None };
        let value = visitor.visit_map(&mut entries)?;
        let entry = entries.entry.take();
        self.0.made = Some(Node::Map(entry.map(Box::new)));
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let index = self.0.enter(type_name::<V>(), name, fields)?;
        let (value, nodes) = read_fields(self.0, fields, visitor)?;
        self.0.leave(index, Body::Struct(nodes))?;
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let pass = self.0;
        let index = pass.enter(type_name::<V>(), name, variants)?;
        if variants.is_empty() {
            return Err(Refused(format!("`{name}` has no variants")));
        }
        if pass.named[index].body == Body::Open {
            pass.named[index].body = Body::Enum(variants.iter().map(|variant| (*variant, None)).collect());
        }
        let chosen = choose(pass, index, variants.len());
        let cut = pass.inside_itself();
        if let Some(top) = pass.stack.last_mut() {
            top.1 = Some(chosen);
        }
        pass.path.push(variants[chosen].to_owned());
        let mut made = None;
        let value = visitor.visit_enum(Choice { pass, chosen, made: &mut made })?;
        pass.path.pop();
        pass.stack.pop();
        pass.ends.entry(index).or_insert(chosen);
        pass.made = Some(Node::Named(index));
        let name = pass.named[index].name;
        if let (false, Body::Enum(known)) = (cut, &mut pass.named[index].body) {
            let made = made.unwrap_or(Variant::Unit);
            match &known[chosen].1 {
                None => known[chosen].1 = Some(made),
                Some(before) if *before != made => {
                    return Err(Refused(format!("there are two types `{name}` that cannot be told apart")));
                }
                Some(_) => {}
            }
        }
        Ok(value)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }
}

/// Which variant an enum is given: one that was not asked for yet; inside itself, one that comes to an end.
fn choose(pass: &Pass, index: usize, count: usize) -> usize {
    let Body::Enum(known) = &pass.named[index].body else { return 0 };
    let open: Vec<usize> =
        pass.stack.iter().filter_map(|(entered, variant)| variant.filter(|_| *entered == index)).collect();
    if open.is_empty() && !pass.inside_itself() {
        return (0..count).find(|variant| known[*variant].1.is_none()).unwrap_or(0);
    }
    // What was seen to end, else what is not being read further out, else there is no way out.
    pass.ends.get(&index).copied().or_else(|| (0..count).find(|variant| !open.contains(variant))).unwrap_or(0)
}

/// What the fields of a struct were, by name.
type Fields = Vec<(&'static str, Node)>;

/// Reads the fields of a struct or of a variant, in order or by name.
fn read_fields<'de, V: Visitor<'de>>(
    pass: &mut Pass,
    fields: &'static [&'static str],
    visitor: V,
) -> Result<(V::Value, Fields), Refused> {
    match pass.form {
        Form::Compact => {
            let mut items = Items::new(pass, fields.len(), false);
            items.names = fields;
            let value = visitor.visit_seq(&mut items)?;
            let nodes = fields.iter().copied().zip(items.nodes).collect();
            Ok((value, nodes))
        }
        Form::Readable => {
            let mut named = ByName { pass, fields, next: 0, nodes: Vec::new() };
            let value = visitor.visit_map(&mut named)?;
            let nodes = named.nodes;
            Ok((value, nodes))
        }
    }
}

/// So many elements, each asked for.
struct Items<'a> {
    pass: &'a mut Pass,
    left: usize,
    given: usize,
    /// Whether the place of an element is its number.
    numbered: bool,
    names: &'static [&'static str],
    nodes: Vec<Node>,
}

impl<'a> Items<'a> {
    fn new(pass: &'a mut Pass, left: usize, numbered: bool) -> Self {
        Self { pass, left, given: 0, numbered, names: &[], nodes: Vec::new() }
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let place = if self.numbered { self.given.to_string() } else { self.names[self.given].to_owned() };
        self.given += 1;
        self.pass.path.push(place);
        let value = seed.deserialize(Probe(self.pass))?;
        self.pass.path.pop();
        self.nodes.push(self.pass.finish());
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// The fields of a struct, by name.
struct ByName<'a> {
    pass: &'a mut Pass,
    fields: &'static [&'static str],
    next: usize,
    nodes: Vec<(&'static str, Node)>,
}

impl<'de> MapAccess<'de> for ByName<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        while let Some(field) = self.fields.get(self.next) {
            self.pass.path.push((*field).to_owned());
            let left_out = self.pass.without.as_ref() == Some(&self.pass.path);
            if left_out {
                self.pass.path.pop();
                self.next += 1;
                continue;
            }
            let path = self.pass.path.clone();
            self.pass.fields.push(path);
            return seed.deserialize(StrDeserializer::new(field)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let value = seed.deserialize(Probe(self.pass))?;
        self.pass.path.pop();
        self.nodes.push((self.fields[self.next], self.pass.finish()));
        self.next += 1;
        Ok(value)
    }
}

/// The entries of a map: one, or none.
struct Entries<'a> {
    pass: &'a mut Pass,
    left: usize,
    key: Option<Node>,
    entry: Option<(Node, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.pass.path.push("<key>".to_owned());
        let key = seed.deserialize(Probe(self.pass))?;
        self.pass.path.pop();
        self.key = Some(self.pass.finish());
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        self.pass.path.push("<value>".to_owned());
        let value = seed.deserialize(Probe(self.pass))?;
        self.pass.path.pop();
        let key = self.key.take().ok_or_else(|| Refused::custom("a value was asked for before its key"))?;
        self.entry = Some((key, self.pass.finish()));
        Ok(value)
    }
}

/// A variant that was chosen.
struct Choice<'a> {
    pass: &'a mut Pass,
    chosen: usize,
    made: &'a mut Option<Variant>,
}

impl<'de, 'a> EnumAccess<'de> for Choice<'a> {
    type Error = Refused;
    type Variant = Chosen<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Chosen<'a>), Refused> {
        let number = u32::try_from(self.chosen).map_err(Refused::custom)?;
        let value = seed.deserialize(U32Deserializer::new(number))?;
        Ok((value, Chosen { pass: self.pass, made: self.made }))
    }
}

/// What a variant holds.
struct Chosen<'a> {
    pass: &'a mut Pass,
    made: &'a mut Option<Variant>,
}

impl<'de> VariantAccess<'de> for Chosen<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        *self.made = Some(Variant::Unit);
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Refused> {
        let value = seed.deserialize(Probe(self.pass))?;
        *self.made = Some(Variant::Newtype(self.pass.finish()));
        Ok(value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        let mut items = Items::new(self.pass, len, true);
        let value = visitor.visit_seq(&mut items)?;
        *self.made = Some(Variant::Tuple(items.nodes));
        Ok(value)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let (value, nodes) = read_fields(self.pass, fields, visitor)?;
        *self.made = Some(Variant::Struct(nodes));
        Ok(value)
    }
}
