//! The shape of a type: which fields, variants and primitive types its encoding consists of.
//!
//! Bytes that an older program stored may be read only while the type still has the shape it had then, so
//! the shape is part of the version. It is found by asking: a type is deserialized from a source that answers
//! every question with some value and notes what was asked. An enum is asked for once per variant.
//!
//! Where a type refuses every answer (it checks what it reads in a way that no answer meets), its shape
//! cannot be told, and that is an error: a guess could let old bytes pass for new ones.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::DeserializeOwned;

use super::probe::{Pass, Probe};

/// How a format presents types: bincode asks for fields in order, JSON by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Not for people: fields in order.
    Compact,
    /// For people: fields by name. (Some types, such as addresses, differ in what they ask for.)
    Readable,
}

/// A shape. Structs and enums are named by a number, so that a type may contain itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub(super) root: Node,
    pub(super) named: Vec<Named>,
}

/// A part of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A primitive, by serde's name for it.
    Leaf(&'static str),
    /// Whatever the format says it is.
    Any,
    /// Something that may be missing. `None`: what is inside was not asked for here (a type inside itself).
    Option(Option<Box<Node>>),
    /// Any number of equal elements.
    Seq(Option<Box<Node>>),
    /// So many elements.
    Tuple(Vec<Node>),
    /// Keys and values.
    Map(Option<Box<(Node, Node)>>),
    /// One of [`Shape::named`].
    Named(usize),
}

/// A struct or an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: &'static str,
    pub(super) body: Body,
}

/// What a struct or enum consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// Being asked for.
    Open,
    /// A struct without fields.
    Unit,
    /// A struct around one value.
    Newtype(Node),
    /// A struct whose fields have no names.
    Tuple(Vec<Node>),
    /// A struct.
    Struct(Vec<(&'static str, Node)>),
    /// An enum; `None` for a variant that was not asked for yet.
    Enum(Vec<(&'static str, Option<Variant>)>),
}

/// What a variant of an enum holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variant {
    Unit,
    Newtype(Node),
    Tuple(Vec<Node>),
    Struct(Vec<(&'static str, Node)>),
}

/// A type whose shape cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the shape of `{type_name}` cannot be told: at {at}, {reason}")]
pub struct ShapeError {
    /// The type.
    pub type_name: &'static str,
    /// Where in it.
    pub at: String,
    /// What it said to the last answer.
    pub reason: String,
}

/// How many times one type is asked before giving up; each enum variant and each refused answer takes one.
const PASSES: usize = 20_000;

impl Shape {
    /// Finds the shape of a type.
    ///
    /// # Errors
    /// It refuses every answer, or contains itself without end.
    pub fn of<T: DeserializeOwned>(form: Form) -> Result<Self, ShapeError> {
        Self::trace::<T>(form, &mut |_, _, _| Ok(()))
    }

    /// Finds the shape of a type, and hands on each value that it was made to give, with what was known
    /// before and after it.
    pub(super) fn trace<T: DeserializeOwned>(
        form: Form,
        each: &mut dyn FnMut(&T, &Pass, &Pass) -> Result<(), ShapeError>,
    ) -> Result<Self, ShapeError> {
        let mut pass = Pass::new(form);
        let failed = |pass: &Pass, reason: String| ShapeError {
            type_name: std::any::type_name::<T>(),
            at: pass.last_place(),
            reason,
        };
        for _ in 0..PASSES {
            let (types, unknown) = (pass.named.len(), pass.unknown());
            pass.begin();
            let before = pass.clone();
            match T::deserialize(Probe(&mut pass)) {
                Ok(value) => {
                    let root = pass.finish();
                    each(&value, &before, &pass)?;
                    if pass.unknown() == 0 {
                        return Ok(Self { root, named: pass.named });
                    }
                    if (types, unknown) == (pass.named.len(), pass.unknown()) {
                        return Err(failed(&pass, "a part of it is never asked for".to_owned()));
                    }
                }
                Err(refused) => {
                    if !pass.answer_otherwise() {
                        return Err(failed(&pass, refused.to_string()));
                    }
                }
            }
        }
        Err(failed(&pass, "it has no end".to_owned()))
    }
}

/// The canonical text that is hashed: the whole type, each struct and enum spelt out where it first stands.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Writer { shape: self, seen: BTreeSet::new() }.node(&self.root, f)
    }
}

struct Writer<'a> {
    shape: &'a Shape,
    seen: BTreeSet<usize>,
}

impl Writer<'_> {
    fn node(&mut self, node: &Node, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match node {
            Node::Leaf(name) => f.write_str(name),
            Node::Any => f.write_str("any"),
            Node::Option(None) => f.write_str("option<…>"),
            Node::Option(Some(inner)) => {
                f.write_str("option<")?;
                self.node(inner, f)?;
                f.write_str(">")
            }
            Node::Seq(None) => f.write_str("seq<…>"),
            Node::Seq(Some(inner)) => {
                f.write_str("seq<")?;
                self.node(inner, f)?;
                f.write_str(">")
            }
            Node::Tuple(items) => self.nodes(items, f),
            Node::Map(None) => f.write_str("map<…>"),
            Node::Map(Some(entry)) => {
                f.write_str("map<")?;
                self.node(&entry.0, f)?;
                f.write_str(",")?;
                self.node(&entry.1, f)?;
                f.write_str(">")
            }
            Node::Named(index) => {
                write!(f, "#{index}")?;
                if !self.seen.insert(*index) {
                    return Ok(());
                }
                let named = &self.shape.named[*index];
                write!(f, "={:?}", named.name)?;
                self.body(&named.body, f)
            }
        }
    }

    fn nodes(&mut self, items: &[Node], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for item in items {
            self.node(item, f)?;
            f.write_str(",")?;
        }
        f.write_str(")")
    }

    fn fields(&mut self, fields: &[(&'static str, Node)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (name, node) in fields {
            write!(f, "{name:?}:")?;
            self.node(node, f)?;
            f.write_str(",")?;
        }
        f.write_str("}")
    }

    fn body(&mut self, body: &Body, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match body {
            Body::Open => f.write_str("…"),
            Body::Unit => Ok(()),
            Body::Newtype(inner) => {
                f.write_str("(")?;
                self.node(inner, f)?;
                f.write_str(")")
            }
            Body::Tuple(items) => self.nodes(items, f),
            Body::Struct(fields) => self.fields(fields, f),
            Body::Enum(variants) => {
                f.write_str("[")?;
                for (name, variant) in variants {
                    write!(f, "{name:?}")?;
                    match variant {
                        None => f.write_str("…")?,
                        Some(Variant::Unit) => {}
                        Some(Variant::Newtype(inner)) => {
                            f.write_str("(")?;
                            self.node(inner, f)?;
                            f.write_str(")")?;
                        }
                        Some(Variant::Tuple(items)) => self.nodes(items, f)?,
                        Some(Variant::Struct(fields)) => self.fields(fields, f)?,
                    }
                    f.write_str("|")?;
                }
                f.write_str("]")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    use std::num::NonZeroU32;

    use serde::Deserialize;

    use super::*;

    fn compact<T: DeserializeOwned>() -> String {
        Shape::of::<T>(Form::Compact).expect("it has a shape").to_string()
    }

    fn readable<T: DeserializeOwned>() -> String {
        Shape::of::<T>(Form::Readable).expect("it has a shape").to_string()
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    struct Dog {
        breed: String,
        age: u8,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    enum Expr {
        Add(Box<Expr>, Box<Expr>),
        Call { name: String, arguments: Vec<Expr> },
        Not(Box<Expr>),
        Number(f64),
        Nothing,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    struct List {
        value: i32,
        next: Option<Box<List>>,
    }

    #[derive(Deserialize)]
    struct Meters(#[expect(dead_code, reason = "only its shape is looked at")] f32);

    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Even(#[expect(dead_code, reason = "only its shape is looked at")] u32);

    impl TryFrom<String> for Even {
        type Error = String;

        fn try_from(text: String) -> Result<Self, String> {
            let number: u32 = text.parse().map_err(|_| "no number".to_owned())?;
            if number.is_multiple_of(2) { Ok(Self(number)) } else { Err("odd".to_owned()) }
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Never;

    impl TryFrom<String> for Never {
        type Error = String;

        fn try_from(_: String) -> Result<Self, String> {
            Err("never".to_owned())
        }
    }

    #[test]
    fn shapes_are_spelt_out() {
        assert_eq!(compact::<u32>(), "u32");
        assert_eq!(compact::<Vec<(u8, Option<String>)>>(), "seq<(u8,option<string>,)>");
        assert_eq!(compact::<BTreeMap<String, [bool; 2]>>(), "map<string,(bool,bool,)>");
        assert_eq!(compact::<Dog>(), r#"#0="Dog"{"breed":string,"age":u8,}"#);
        assert_eq!(readable::<Dog>(), compact::<Dog>());
        assert_eq!(compact::<Meters>(), r#"#0="Meters"(f32)"#);
        assert_eq!(compact::<()>(), "unit");
    }

    #[test]
    fn a_type_may_contain_itself() {
        assert_eq!(compact::<List>(), r##"#0="List"{"value":i32,"next":option<#0>,}"##);
        assert_eq!(
            compact::<Expr>(),
            r##"#0="Expr"["Add"(#0,#0,)|"Call"{"name":string,"arguments":seq<#0>,}|"Not"(#0)|"Number"(f64)|"Nothing"|]"##
        );
        assert_eq!(readable::<Expr>(), compact::<Expr>());
    }

    #[test]
    fn types_that_check_what_they_read_are_asked_again() {
        assert_eq!(compact::<NonZeroU32>(), "u32");
        assert_eq!(compact::<(Even, NonZeroU32)>(), "(string,u32,)");
        assert_eq!(readable::<IpAddr>(), "str");
        assert!(compact::<IpAddr>().contains("V6"));
    }

    #[test]
    fn a_type_that_refuses_everything_is_an_error_that_names_it() {
        let error = Shape::of::<Vec<Never>>(Form::Compact).expect_err("no shape");
        assert_eq!(error.reason, "never");
        assert!(error.to_string().contains("Never"), "{error}");
    }

    #[test]
    fn a_field_that_changes_changes_the_shape() {
        mod other {
            #[derive(serde::Deserialize)]
            #[expect(dead_code, reason = "only its shape is looked at")]
            pub(super) struct Dog {
                breed: String,
                age: u16,
            }
        }
        assert_ne!(compact::<Dog>(), compact::<other::Dog>());
        // Two types of one name in one type are told apart.
        assert_eq!(
            compact::<(Dog, other::Dog, Dog)>(),
            r##"(#0="Dog"{"breed":string,"age":u8,},#1="Dog"{"breed":string,"age":u16,},#0,)"##
        );
    }
}
