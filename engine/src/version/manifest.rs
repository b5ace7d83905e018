//! What identifies something, told fact by fact to one of two listeners: the one that encodes it for hashing, and
//! the one that writes it down for `explain`. One walk serves both, so an explanation cannot drift from the truth.
//!
//! The encoding is canonical and unambiguous, and pinned by golden bytes; `docs/versions.md` specifies it. A tag
//! stands before each value, a length before each text and list, the name beside each thing that has one.

use cas_store::{Artifact, Digest, Kind, Version};

use super::{Fact, FactNode, FactValue};
use crate::solid::Template;
use crate::value::Value;

/// Receives the facts of one node, in order.
pub(super) trait Manifest {
    /// A fact that every node of this kind has once.
    fn fact(&mut self, label: Label, term: Term<'_>);
    /// So many facts of one sort follow.
    fn section(&mut self, label: Label, count: usize);
    /// One of a section whose facts have names.
    fn entry(&mut self, name: &str, term: Term<'_>);
    /// One of a section whose facts have places.
    fn item(&mut self, index: usize, term: Term<'_>);
}

/// What a fact or a section is about. The numbers are part of the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Label {
    Name = 0x01,
    Declared = 0x02,
    Code = 0x03,
    Command = 0x04,
    Shell = 0x05,
    Outputs = 0x06,
    Env = 0x07,
    Platform = 0x08,
    Probe = 0x09,
    Printed = 0x0a,
    Files = 0x0b,
    Config = 0x0c,
    Resources = 0x0d,
    Solid = 0x0e,
    Inputs = 0x0f,
    Arguments = 0x10,
    Keys = 0x11,
    FanIn = 0x12,
    Gather = 0x13,
    Value = 0x14,
    Path = 0x15,
    Answer = 0x16,
    Step = 0x17,
    Output = 0x18,
    Sandbox = 0x19,
}

impl Label {
    /// How people are told of it; in a section, followed by the name.
    fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Declared => "version",
            Self::Code => "code",
            Self::Command => "command",
            Self::Shell => "shell",
            Self::Outputs | Self::Output => "output",
            Self::Env => "env",
            Self::Platform => "platform",
            Self::Probe => "probe",
            Self::Printed => "printed",
            Self::Files => "file",
            Self::Config | Self::Keys => "config",
            Self::Resources => "resource",
            Self::Solid => "solid",
            Self::Inputs | Self::Arguments => "input",
            Self::FanIn => "part",
            Self::Gather => "element",
            Self::Value => "value",
            Self::Path => "path",
            Self::Answer => "answer",
            Self::Step => "step",
            Self::Sandbox => "sandbox",
        }
    }
}

/// The value of a fact.
#[derive(Debug, Clone, Copy)]
pub(super) enum Term<'a> {
    /// There is none.
    None,
    /// A variable that is not set.
    Unset,
    /// A text.
    Text(&'a str),
    /// Texts in order.
    Texts(&'a [String]),
    /// Templates in order, as written.
    Templates(&'a [Template]),
    /// A text with placeholders, as written.
    Template(&'a str),
    /// A config value.
    Value(&'a Value),
    /// A config value that is hashed and not shown; with the key of its digest.
    Secret(&'a Value, &'a [u8; 32]),
    /// Another node.
    Node(&'a Version),
    /// An output by its version; its step's version and its name are for people.
    Output { version: &'a Version, step: &'a Version, name: &'a str },
    /// An output by its content, with the declared shape of what it holds: equal bytes may be another value.
    Content { artifact: &'a Artifact, shape: Option<&'a str> },
    /// An output that was recorded as not produced.
    Absent,
    /// A declared file.
    File { digest: &'a Digest, executable: bool },
    /// A link in a declared folder.
    Link(&'a str),
    /// An empty folder in a declared folder.
    Folder,
    /// What a `path:` input is: which kind of thing, and its identity.
    Path { kind: PathTag, digest: &'a Digest },
    /// `version: volatile`.
    Volatile,
    /// `version: {every: …}`; how long is not hashed.
    Every,
    /// `sh`.
    Sh,
    /// `bash`.
    Bash,
    /// A Rust function: its code is in the declared version.
    Function,
    /// What a solid says of one output. Its position counts, because a record is read by position.
    Declaration {
        optional: bool,
        at: &'a str,
        codec: &'a str,
        list: bool,
        stdout: bool,
        shape: Option<&'a str>,
        position: usize,
    },
}

/// The kinds of a `path:` input, as they are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum PathTag {
    File = 0,
    Executable = 1,
    Folder = 2,
    Glob = 3,
}

/// Encodes what it is told.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    pub(super) bytes: Vec<u8>,
}

impl Encoder {
    fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    fn number(&mut self, number: usize) {
        self.bytes.extend_from_slice(&(number as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.byte(0x60),
            Value::Bool(false) => self.byte(0x61),
            Value::Bool(true) => self.byte(0x62),
            Value::Int(value) => {
                self.byte(0x63);
                self.bytes.extend_from_slice(&value.to_le_bytes());
            }
            Value::Float(value) => {
                self.byte(0x64);
                self.bytes.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            Value::Str(value) => {
                self.byte(0x65);
                self.text(value);
            }
            Value::List(values) => {
                self.byte(0x66);
                self.number(values.len());
                values.iter().for_each(|value| self.value(value));
            }
            // The map is sorted by the bytes of its keys already.
            Value::Map(values) => {
                self.byte(0x67);
                self.number(values.len());
                for (key, value) in values {
                    self.text(key);
                    self.value(value);
                }
            }
        }
    }

    fn term(&mut self, term: Term<'_>) {
        match term {
            Term::None => self.byte(0x40),
            Term::Unset => self.byte(0x41),
            Term::Text(text) => {
                self.byte(0x42);
                self.text(text);
            }
            Term::Texts(texts) => {
                self.byte(0x43);
                self.number(texts.len());
                texts.iter().for_each(|text| self.text(text));
            }
            Term::Templates(templates) => {
                self.byte(0x43);
                self.number(templates.len());
                templates.iter().for_each(|template| self.text(&template.text));
            }
            Term::Template(text) => {
                self.byte(0x44);
                self.text(text);
            }
            Term::Value(value) | Term::Secret(value, _) => {
                self.byte(0x45);
                self.value(value);
            }
            Term::Node(version) => {
                self.byte(0x46);
                self.bytes.extend_from_slice(version.as_bytes());
            }
            Term::Output { version, .. } => {
                self.byte(0x47);
                self.bytes.extend_from_slice(version.as_bytes());
            }
            Term::Content { artifact, shape } => {
                self.byte(0x48);
                self.byte(match artifact.kind {
                    Kind::File { executable: false } => 0,
                    Kind::File { executable: true } => 1,
                    Kind::Tree => 2,
                });
                self.text(&artifact.codec);
                self.bytes.extend_from_slice(artifact.digest.as_bytes());
                self.term(shape.map_or(Term::None, Term::Text));
            }
            Term::Absent => self.byte(0x49),
            Term::File { digest, executable } => {
                self.byte(0x4a);
                self.byte(u8::from(executable));
                self.bytes.extend_from_slice(digest.as_bytes());
            }
            Term::Link(target) => {
                self.byte(0x4b);
                self.text(target);
            }
            Term::Folder => self.byte(0x4c),
            Term::Path { kind, digest } => {
                self.byte(0x4d);
                self.byte(kind as u8);
                self.bytes.extend_from_slice(digest.as_bytes());
            }
            Term::Volatile => self.byte(0x4e),
            Term::Every => self.byte(0x4f),
            Term::Sh => self.byte(0x50),
            Term::Bash => self.byte(0x51),
            Term::Function => self.byte(0x52),
            Term::Declaration { optional, at, codec, list, stdout, shape, position } => {
                self.byte(if list { 0x55 } else { 0x53 });
                self.byte(u8::from(optional));
                self.text(at);
                self.text(codec);
                self.byte(u8::from(stdout));
                self.term(shape.map_or(Term::None, Term::Text));
                self.byte(0x54);
                self.number(position);
            }
        }
    }
}

impl Manifest for Encoder {
    fn fact(&mut self, label: Label, term: Term<'_>) {
        self.byte(label as u8);
        self.term(term);
    }

    fn section(&mut self, label: Label, count: usize) {
        self.byte(label as u8);
        self.number(count);
    }

    fn entry(&mut self, name: &str, term: Term<'_>) {
        self.text(name);
        self.term(term);
    }

    fn item(&mut self, _index: usize, term: Term<'_>) {
        self.term(term);
    }
}

/// Writes down what it is told.
#[derive(Debug)]
pub(super) struct Writer {
    node: FactNode,
    section: &'static str,
}

impl Writer {
    pub(super) fn new(kind: super::Kind) -> Self {
        let node = FactNode { kind: kind.word().to_owned(), name: String::new(), facts: Vec::new() };
        Self { node, section: "" }
    }

    pub(super) fn node(self) -> FactNode {
        self.node
    }

    fn add(&mut self, label: String, term: Term<'_>) {
        // A map is shown key by key, so that a difference deep inside has its path as its name.
        if let Term::Value(Value::Map(values)) = term
            && !values.is_empty()
        {
            for (key, value) in values {
                self.add(format!("{label}.{key}"), Term::Value(value));
            }
            return;
        }
        if let Some(value) = shown(&label, term) {
            self.node.facts.push(Fact { label, value });
        }
    }
}

/// What people are shown of a term; of [`Term::None`] nothing.
fn shown(label: &str, term: Term<'_>) -> Option<FactValue> {
    let text = |text: &str| Some(FactValue::Text(text.to_owned()));
    let digest = |what: &str, digest: &Digest| Some(FactValue::Digest(format!("{what} {digest}")));
    match term {
        Term::None => None,
        Term::Unset => text("unset"),
        Term::Text(value) | Term::Template(value) => text(value),
        Term::Texts(values) => Some(FactValue::Text(as_list(values.iter()))),
        Term::Templates(values) => {
            Some(FactValue::Text(as_list(values.iter().map(|template| &template.text))))
        }
        Term::Value(value) => Some(FactValue::Text(value.to_string())),
        Term::Secret(value, key) => Some(FactValue::Digest(super::secret_digest(key, label, value))),
        Term::Node(version) => Some(FactValue::Node(*version)),
        Term::Output { step, name, .. } => Some(FactValue::Output { step: *step, name: name.to_owned() }),
        Term::Content { artifact, shape } => {
            let what = match artifact.kind {
                Kind::File { executable: false } => "file",
                Kind::File { executable: true } => "executable file",
                Kind::Tree => "folder",
            };
            let of = shape.map_or_else(String::new, |shape| format!(" of {shape}"));
            digest(&format!("{} {what}{of}", artifact.codec), &artifact.digest)
        }
        Term::Absent => text("absent"),
        Term::File { digest: of, executable: false } => digest("file", of),
        Term::File { digest: of, executable: true } => digest("executable file", of),
        Term::Link(target) => Some(FactValue::Text(format!("link to {target}"))),
        Term::Folder => text("empty folder"),
        Term::Path { kind, digest: of } => match kind {
            PathTag::File => digest("file", of),
            PathTag::Executable => digest("executable file", of),
            PathTag::Folder => digest("folder", of),
            PathTag::Glob => digest("glob", of),
        },
        Term::Volatile => text("volatile"),
        Term::Every => text("every"),
        Term::Sh => text("sh"),
        Term::Bash => text("bash"),
        Term::Function => text("function"),
        Term::Declaration { optional, at, codec, list, stdout, shape, position } => {
            let mut words = vec![codec.to_owned()];
            if !at.is_empty() {
                words.push(format!("at {at}"));
            }
            words.extend(optional.then(|| "optional".to_owned()));
            words.extend(list.then(|| "list".to_owned()));
            words.extend(stdout.then(|| "standard output".to_owned()));
            words.extend(shape.map(|shape| format!("of {shape}")));
            words.push(format!("place {position}"));
            Some(FactValue::Text(words.join(", ")))
        }
    }
}

fn as_list<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    Value::List(texts.map(|text| Value::Str(text.clone())).collect()).to_string()
}

impl Manifest for Writer {
    fn fact(&mut self, label: Label, term: Term<'_>) {
        match (label, term) {
            (Label::Name, Term::Text(name)) => name.clone_into(&mut self.node.name),
            _ => self.add(label.word().to_owned(), term),
        }
    }

    fn section(&mut self, label: Label, _count: usize) {
        self.section = label.word();
    }

    fn entry(&mut self, name: &str, term: Term<'_>) {
        // A key of the config is written as it stands in a run config, anything else as two words.
        let between = if self.section == Label::Keys.word() { '.' } else { ' ' };
        self.add(format!("{}{between}{name}", self.section), term);
    }

    fn item(&mut self, index: usize, term: Term<'_>) {
        self.add(format!("{} {index}", self.section), term);
    }
}
