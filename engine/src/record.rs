//! What is kept of a run and of each result that it made, as plain data, and its encoding. Pure.
//!
//! A run's record names the steps that did something one by one; those that were reused, of which there may be
//! very many, stand in a blob of their own, which equal runs share, and so does the drawing: which steps there were
//! and what each consumed.

mod first;
mod nameless;
mod second;
mod third;

use cas_store::codec::{self, DecodeError, EncodeError};
use cas_store::{Digest, Trace, Version};
use serde::{Deserialize, Serialize};

use crate::event::{Outcome, Summary};
use crate::execute::Failure;
use crate::list::List;
use crate::version::FactNode;

/// The kinds of the engine's records: what a reader of raw bytes can tell them by.
const PROVENANCE: u8 = 0x81;
const RUN: u8 = 0x82;
const FACTS: u8 = 0x83;
const REUSED: u8 = 0x84;
const FAILURE: u8 = 0x85;
const PUBLISHED: u8 = 0x86;
const LISTED: u8 = 0x87;
const DRAWING: u8 = 0x88;

/// The version of their layout; a record of another version is not read.
const LAYOUT: u8 = 1;

/// The version of the layout of where a result came from, with lists or without; 2 since it names the store, and of each
/// input the making that was read. Those of layout 1 are read, too.
const LAYOUT_MADE: u8 = 2;

/// The version of the layout of a run's record; 2 since it says when and where each attempt ran, 3 since it says which
/// process ran it, and for which combination of a sweep, 4 since it says which failures were allowed. Those of layouts 1
/// to 3 are read, too.
const LAYOUT_RUN: u8 = 4;

/// The version of the layout of what was put into a project; 2 since it says by which pipeline.
const LAYOUT_PUBLISHED: u8 = 2;

/// Where a result came from: kept beside it, for `show`, `runs`, `lineage`. No secret is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The run that made it.
    pub run: u64,
    /// The pipeline's name.
    pub pipeline: String,
    /// The step's name with its element.
    pub step: String,
    /// The solid's name.
    pub solid: String,
    /// The step's version when it was made.
    pub version: Version,
    /// The command as it was run, placeholders filled in; empty for a function.
    pub command: String,
    /// The environment that was declared, without secrets.
    pub env: Vec<(String, String)>,
    /// The resolved config as JSON, secrets as keyed digests.
    pub config: String,
    /// Its inputs: name, the output it came from as (trace, output name) if it is one, and its digest or text.
    pub inputs: Vec<ProvenanceInput>,
    /// The machine's name.
    pub host: String,
    /// `linux/x86_64`.
    pub platform: String,
    /// The version of this program.
    pub program: String,
    /// When the attempt began.
    pub started_ms: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// What the store is called that counted this run ([`Memo::store_name`](crate::memo::Memo::store_name)): another, where
    /// the result was imported. Empty in records of before that was said.
    pub store: String,
}

/// Where a result came from, of a step that yields lists, with their elements: what is below is known by them, also
/// when the bytes of the lists are gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Where the result came from.
    pub provenance: Provenance,
    /// The outputs that are lists, by name.
    pub lists: Vec<(String, List)>,
}

/// An input in a provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProvenanceInput {
    /// Its name as the step saw it, with `/0`, `/<label>` for one of several.
    pub name: String,
    /// The step output it came from, by name, if it is one.
    pub from: Option<String>,
    /// The result it came from, if it is an output.
    pub trace: Option<Trace>,
    /// A digest, or a literal as JSON.
    pub content: String,
    /// When the result was made that it came from: which of the makings under its trace was read. `None` where it is no
    /// output, and in records of before that was said.
    pub made_ms: Option<u64>,
    /// Who had made that, where it was on record.
    pub maker: Option<Maker>,
}

/// Who made a result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Maker {
    /// What the store is called that counted the run; empty where that was not said.
    pub store: String,
    /// The run.
    pub run: u64,
    /// The pipeline's name.
    pub pipeline: String,
    /// The step's name with its element.
    pub step: String,
}

impl Provenance {
    /// Who made the result.
    pub fn maker(&self) -> Maker {
        Maker {
            store: self.store.clone(),
            run: self.run,
            pipeline: self.pipeline.clone(),
            step: self.step.clone(),
        }
    }
}

/// What is kept of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline's file, as far as it has one.
    pub file: Option<String>,
    /// The mode, if one was chosen.
    pub mode: Option<String>,
    /// The command line.
    pub command_line: Vec<String>,
    /// A digest of the resolved config of all steps of the plan: equal for runs with equal config.
    pub config: Digest,
    /// The version of this program.
    pub program: String,
    /// The machine's name.
    pub host: String,
    /// When it began.
    pub started_ms: u64,
    /// When it ended; `None` while it runs, and for good where its process was killed.
    pub ended_ms: Option<u64>,
    /// How it ended, as far as it got.
    pub summary: Summary,
    /// The steps that were not reused, in the order in which they finished.
    pub steps: Vec<StepRecord>,
    /// The blob that lists the reused ones ([`Reused`]), if there were any.
    pub reused: Option<Digest>,
    /// The blob that says which steps there were ([`Drawing`]); `None` in records of before there was one.
    pub drawing: Option<Digest>,
    /// How many attempts ran at once at most; 0 where that is not known.
    pub jobs: u32,
    /// When this was written: what happened after that is not in it.
    pub noted_ms: u64,
    /// What ran when this was written, if the run had not ended.
    pub running: Vec<Running>,
    /// The process that ran it, as its store knows it; `None` in records of before that was said.
    pub process: Option<String>,
    /// Of a sweep: the values of which this was the run, as they are shown.
    pub combination: Option<String>,
    /// The steps that failed, and which the pipeline lets fail: they are no failure of the run. Empty in records of before that
    /// was said.
    pub allowed: Vec<String>,
}

/// A step that ran while a run was noted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Its name with its element.
    pub step: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Why it runs.
    pub why: Option<String>,
    /// When the attempt began.
    pub started_ms: u64,
    /// The worker that has it.
    pub worker: u32,
}

/// The steps of a run and what they consumed, as they stood in its plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drawing<Name = String> {
    /// The invocations, in the order of the plan.
    pub invocations: Vec<DrawnInvocation>,
    /// The steps, each after what it consumes.
    pub steps: Vec<DrawnStep<Name>>,
    /// What the steps consumed something of, by index, of one after the other, each once.
    pub inputs: Vec<u32>,
}

impl Drawing {
    /// The steps with what each consumed something of.
    pub fn with_inputs(&self) -> impl Iterator<Item = (&DrawnStep, &[u32])> {
        let mut from = 0;
        self.steps.iter().map(move |step| {
            let to = step.inputs_end as usize;
            let inputs = self.inputs.get(from..to).unwrap_or_default();
            from = to;
            (step, inputs)
        })
    }
}

/// An invocation in a drawing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrawnInvocation {
    /// Its name.
    pub name: String,
    /// The names of the outputs of each of its steps.
    pub outputs: Vec<String>,
}

/// A step in a drawing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrawnStep<Name = String> {
    /// Its name with its element.
    pub name: Name,
    /// Its invocation, by index.
    pub invocation: u32,
    /// Where its inputs end in those of the drawing; they begin where those of the step before end.
    pub inputs_end: u32,
}

/// What a run did with one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its name with its element.
    pub step: String,
    /// Its version, where that became known.
    pub version: Option<Version>,
    /// The key of its result, where that became known.
    pub trace: Option<Trace>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it ran, or what it was skipped for.
    pub why: Option<String>,
    /// When everything that it consumes was there and it was put in the queue; 0 where it was not.
    pub ready_ms: u64,
    /// When its first attempt began; 0 where there was none.
    pub started_ms: u64,
    /// When it had its outcome; 0 where that is not known.
    pub ended_ms: u64,
    /// How long its attempts took.
    pub elapsed_ms: u64,
    /// The worker that had it last, from 0; `None` where none had.
    pub worker: Option<u32>,
    /// Its attempts.
    pub attempts: Vec<AttemptRecord>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// What it printed, if anything.
    pub log: Option<Digest>,
    /// When it began; 0 where that is not known.
    pub started_ms: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Its kept folder, if any.
    pub folder: Option<String>,
}

/// A step that a run reused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reused<Name = String> {
    /// Its name with its element.
    pub step: Name,
    /// Its version.
    pub version: Version,
}

/// What was put at one place of a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The pipeline that put it there: its file's name, or its own where it has no file.
    pub by: String,
    /// Relative to the project folder.
    pub target: String,
    /// What was put there.
    pub digest: Digest,
    /// Whether it is a folder.
    pub folder: bool,
    /// A digest of the stats of everything there, right after.
    pub seen: Digest,
}

/// Decodes where a result came from, also as it was written before its store was named.
///
/// # Errors
/// The bytes are something else, damaged, or of another layout.
pub fn decode_provenance(bytes: &[u8]) -> Result<Provenance, DecodeError> {
    decode_made(bytes).or_else(|error| nameless::decode(bytes).map_err(|_| error))
}

/// Decodes where a result with lists came from, also as it was written before its store was named.
///
/// # Errors
/// The bytes are something else, damaged, or of another layout.
pub fn decode_listed(bytes: &[u8]) -> Result<Listed, DecodeError> {
    decode_made_listed(bytes).or_else(|error| nameless::decode_listed(bytes).map_err(|_| error))
}

/// Decodes what is kept of a run, also as it was written before there were drawings, before it named its process, and before it
/// said which failures were allowed.
///
/// # Errors
/// The bytes are something else, damaged, or of another layout.
pub fn decode_run(bytes: &[u8]) -> Result<RunRecord, DecodeError> {
    let older = |error| {
        let older = third::decode(bytes).or_else(|_| second::decode(bytes)).or_else(|_| first::decode(bytes));
        older.map_err(|_| error)
    };
    decode_fourth(bytes).or_else(older)
}

/// Encodes the steps of a run and what they consumed.
///
/// # Errors
/// It is larger than a record may be.
pub fn encode_drawing<Name: Serialize>(value: &Drawing<Name>) -> Result<Vec<u8>, EncodeError> {
    codec::encode(DRAWING, LAYOUT, value)
}

/// Decodes the steps of a run and what they consumed.
///
/// # Errors
/// The bytes are something else, damaged, or of another layout.
pub fn decode_drawing(bytes: &[u8]) -> Result<Drawing, DecodeError> {
    codec::decode(DRAWING, LAYOUT, bytes)
}

/// Encodes the list of the steps that a run reused.
///
/// # Errors
/// It is larger than a record may be.
pub fn encode_reused<Name: Serialize>(value: &Vec<Reused<Name>>) -> Result<Vec<u8>, EncodeError> {
    codec::encode(REUSED, LAYOUT, value)
}

/// Decodes the list of the steps that a run reused.
///
/// # Errors
/// The bytes are something else, damaged, or of another layout.
pub fn decode_reused(bytes: &[u8]) -> Result<Vec<Reused>, DecodeError> {
    codec::decode(REUSED, LAYOUT, bytes)
}

macro_rules! record {
    ($encode:ident, $decode:ident, $kind:ident, $layout:ident, $type:ty, $what:literal) => {
        #[doc = concat!("Encodes ", $what, ".")]
        ///
        /// # Errors
        /// It is larger than a record may be.
        pub fn $encode(value: &$type) -> Result<Vec<u8>, EncodeError> {
            codec::encode($kind, $layout, value)
        }

        #[doc = concat!("Decodes ", $what, ".")]
        ///
        /// # Errors
        /// The bytes are something else, damaged, or of another layout.
        pub fn $decode(bytes: &[u8]) -> Result<$type, DecodeError> {
            codec::decode($kind, $layout, bytes)
        }
    };
}

record!(encode_provenance, decode_made, PROVENANCE, LAYOUT_MADE, Provenance, "where a result came from");
record!(
    encode_listed,
    decode_made_listed,
    LISTED,
    LAYOUT_MADE,
    Listed,
    "where a result with lists came from"
);
record!(encode_run, decode_fourth, RUN, LAYOUT_RUN, RunRecord, "what is kept of a run");
record!(encode_facts, decode_facts, FACTS, LAYOUT, FactNode, "a node of the tree of facts");
record!(encode_failure, decode_failure, FAILURE, LAYOUT, Failure, "a failure that others wait for");
record!(
    encode_published,
    decode_published,
    PUBLISHED,
    LAYOUT_PUBLISHED,
    Vec<Published>,
    "what was put into a project"
);

#[cfg(test)]
mod tests {
    use cas_store::{Artifact, Kind};

    use super::*;
    use crate::execute::Cause;
    use crate::list::{Element, Within};
    use crate::version::{Fact, FactValue};

    const VERSION: Version = Version::from_bytes([9; 32]);

    fn text(text: &str) -> String {
        text.to_owned()
    }

    fn digest() -> Digest {
        Digest::from_bytes([7; 32])
    }

    fn provenance() -> Provenance {
        Provenance {
            run: 1,
            pipeline: text("p"),
            step: text("s"),
            solid: text("o"),
            version: VERSION,
            command: text("c"),
            env: vec![(text("k"), text("v"))],
            config: text("{}"),
            inputs: vec![ProvenanceInput {
                name: text("i"),
                from: Some(text("f")),
                trace: Some(Trace::from_bytes([8; 32])),
                content: text("x"),
                made_ms: Some(4),
                maker: Some(Maker { store: text("b"), run: 2, pipeline: text("q"), step: text("t") }),
            }],
            host: text("h"),
            platform: text("l"),
            program: text("1"),
            started_ms: 300,
            elapsed_ms: 5,
            attempt: 1,
            store: text("a"),
        }
    }

    /// These bytes are on disk, as `docs/format.md` says: whoever changes them changes what old stores mean, and takes
    /// a new number or layout. In what is expected `D`, `T` and `V` stand for a digest, a trace and a version.
    #[test]
    fn the_bytes_of_records_are_these() {
        let check = |kind: u8, layout: u8, bytes: Result<Vec<u8>, EncodeError>, expected: &str| {
            let bytes = bytes.expect("it encodes");
            assert_eq!(codec::kind_and_version(&bytes), Ok((kind, layout)));
            let hash = |byte: &str| format!("20{}", byte.repeat(32));
            let expected = expected.replace(' ', "").replace('D', &hash("07"));
            let expected = expected.replace('T', &hash("08")).replace('V', &hash("09"));
            let hex: String = bytes[codec::HEADER_BYTES..].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "kind {kind:02x}");
        };
        let made = "01 0170 0173 016f V 0163 01 016b 0176 027b7d \
                    01 0169 010166 01T 0178 0104 01 0162 02 0171 0174 0168 016c 0131 fb2c01 05 01 0161";
        check(0x81, 2, encode_provenance(&provenance()), made);
        let element = |kind, within| {
            let artifact = Artifact { kind, codec: text("c"), digest: digest(), len: 9 };
            Element { label: text("l"), artifact, within }
        };
        let elements = vec![
            element(Kind::File { executable: true }, Within::Entry(text("e"))),
            element(Kind::Tree, Within::Item(2)),
        ];
        let lists = vec![(text("o"), List { digest: digest(), elements })];
        let listed = Listed { provenance: provenance(), lists };
        let expected = format!("{made} 01 016f D 02 016c 0001 0163 D 09 00 0165 016c 01 0163 D 09 01 02");
        check(0x87, 2, encode_listed(&listed), &expected);
        let failure = |cause, hint: Option<&str>| Failure { cause, message: text("m"), hint: hint.map(text) };
        let attempt = AttemptRecord {
            failure: Some(failure(Cause::Timeout, Some("h"))),
            log: Some(digest()),
            started_ms: 6,
            elapsed_ms: 5,
            folder: Some(text("k")),
        };
        let step = StepRecord {
            step: text("s"),
            version: Some(VERSION),
            trace: None,
            outcome: Outcome::Ran,
            why: Some(text("w")),
            ready_ms: 2,
            started_ms: 3,
            ended_ms: 7,
            elapsed_ms: 4,
            worker: Some(1),
            attempts: vec![attempt],
        };
        let summary = Summary {
            reused: 1,
            unchanged: 2,
            ran: 3,
            joined: 4,
            failed: 5,
            skipped: 6,
            cancelled: 7,
            elapsed_ms: 8,
            saved_ms: 9,
            interrupted: true,
        };
        let run = RunRecord {
            pipeline: text("p"),
            file: Some(text("f")),
            mode: None,
            command_line: vec![text("c")],
            config: digest(),
            program: text("1"),
            host: text("h"),
            started_ms: 1,
            ended_ms: Some(2),
            summary,
            steps: vec![step],
            reused: Some(digest()),
            drawing: Some(digest()),
            jobs: 2,
            noted_ms: 3,
            running: vec![Running { step: text("s"), attempt: 1, why: None, started_ms: 4, worker: 1 }],
            process: Some(text("t")),
            combination: Some(text("a")),
            allowed: vec![text("s")],
        };
        let expected = "0170 010166 00 01 0163 D 0131 0168 01 0102 01020304050607 08 09 01 \
                        01 0173 01V 00 02 010177 02 03 07 04 0101 01 01 02 016d 010168 01D 06 05 01016b \
                        01D 01D 02 03 01 0173 01 00 04 01 010174 010161 01 0173";
        check(0x82, 4, encode_run(&run), expected);
        let drawing = Drawing {
            invocations: vec![DrawnInvocation { name: text("i"), outputs: vec![text("o")] }],
            steps: vec![DrawnStep { name: text("s"), invocation: 0, inputs_end: 1 }],
            inputs: vec![0],
        };
        check(DRAWING, 1, encode_drawing(&drawing), "01 0169 01 016f 01 0173 00 01 01 00");
        let fact = |value| Fact { label: text("a"), value };
        let facts = vec![
            fact(FactValue::Text(text("t"))),
            fact(FactValue::Digest(text("d"))),
            fact(FactValue::Node(VERSION)),
            fact(FactValue::Output { step: VERSION, name: text("o") }),
        ];
        let node = FactNode { kind: text("step"), name: text("n"), facts };
        let expected = "0473746570 016e 04 0161 00 0174 0161 01 0164 0161 02 V 0161 03 V 016f";
        check(0x83, 1, encode_facts(&node), expected);
        check(0x84, 1, encode_reused(&vec![Reused { step: text("s"), version: VERSION }]), "01 0173 V");
        check(0x85, 1, encode_failure(&failure(Cause::Exit(3), None)), "00 06 016d 00");
        let published =
            Published { by: text("p"), target: text("t"), digest: digest(), folder: true, seen: digest() };
        check(0x86, 2, encode_published(&vec![published]), "01 0170 0174 D 01 D");
    }
}
