//! A run as it can be told afterwards, or so far: its record put together with the steps that it had, what is kept of
//! their results, and what was other in the run before. What is gone is said to be gone.
//!
//! Reads the store through the memo only; decides nothing about versions.

use std::collections::HashMap;

use cas_store::{Digest, Found, Trace, Version};

use crate::error::EngineError;
use crate::event::Outcome;
use crate::explain::{self, Difference};
use crate::memo::Memo;
use crate::record::{DrawnInvocation, RunRecord, Running, StepRecord};
use crate::version::{self, FactNode};

/// So many runs are looked at to find the one before.
const RUNS_BACK: usize = 1000;

/// So many nodes of facts are looked at to tell what differs from the run before: below one change may stand a chain of
/// thousands, each of which differs in it, and each is walked up to the change.
const FACTS_LOOKED_AT: usize = 200_000;

/// How much of the end of a failed attempt's log is told.
const TAIL_BYTES: usize = 8 * 1024;

/// How many lines of it.
const TAIL_LINES: usize = 60;

/// A run with all that is kept of it.
#[derive(Debug, Clone)]
pub struct Chronicle {
    /// Its number.
    pub run: u64,
    /// Its record. Its steps stand in `steps`.
    pub record: RunRecord,
    /// The invocations; empty where which steps there were is not on record any longer.
    pub invocations: Vec<DrawnInvocation>,
    /// Every step that was in the plan, each after what it consumed.
    pub steps: Vec<ChronicleStep>,
    /// The run of the same pipeline before it.
    pub previous: Option<(u64, RunRecord)>,
}

/// A step of such a run.
#[derive(Debug, Clone, PartialEq)]
pub struct ChronicleStep {
    /// Its name with its element.
    pub name: String,
    /// Its invocation, by index, where that is on record.
    pub invocation: Option<u32>,
    /// The steps that it consumed something of, by index.
    pub inputs: Vec<u32>,
    /// What became of it; `None` where the run did not get to it, or nothing needed it.
    pub outcome: Option<Outcome>,
    /// What is noted of it; `None` for one that was reused, and for one without an outcome.
    pub record: Option<StepRecord>,
    /// The attempt that ran when the run was noted last.
    pub running: Option<Running>,
    /// Its version, where that became known.
    pub version: Option<Version>,
    /// What is on record of its result.
    pub result: Option<Found>,
    /// How it stands to the run before.
    pub since: Since,
}

/// How a step stands to the run before.
#[derive(Debug, Clone, PartialEq)]
pub enum Since {
    /// There was no such run, or it is not known what version it had there.
    Unknown,
    /// It had the same version.
    Same,
    /// The run before did not have it.
    New,
    /// It had another version: what differs, where that is on record.
    Differs(Option<Vec<Difference>>),
}

impl ChronicleStep {
    /// The size of its outputs together, where its result is on record.
    pub fn bytes(&self) -> Option<u64> {
        let outputs = &self.result.as_ref()?.record.outputs;
        // Of what was evicted only the record is left, and that may come from an archive, which may say anything.
        let lens = outputs.iter().filter_map(|output| output.artifact.as_ref()).map(|artifact| artifact.len);
        Some(lens.fold(0, u64::saturating_add))
    }
}

impl Memo {
    /// Puts together what is kept of a run.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn chronicle(&self, run: u64, mut record: RunRecord) -> Result<Chronicle, EngineError> {
        let drawing = self.drawing(&record)?.unwrap_or_default();
        let mut noted: HashMap<String, StepRecord> = HashMap::new();
        let mut order = Vec::new();
        for step in std::mem::take(&mut record.steps) {
            order.push(step.step.clone());
            noted.insert(step.step.clone(), step);
        }
        let mut reused: HashMap<String, Version> = HashMap::new();
        for step in self.reused(&record)? {
            if drawing.steps.is_empty() {
                order.push(step.step.clone());
            }
            reused.insert(step.step, step.version);
        }
        let mut running: HashMap<String, Running> =
            record.running.iter().map(|running| (running.step.clone(), running.clone())).collect();
        let mut steps: Vec<ChronicleStep> = Vec::new();
        let mut step = |name: String, invocation: Option<u32>, inputs: Vec<u32>| {
            let record = noted.remove(&name);
            let known = reused.remove(&name);
            let outcome = match &record {
                Some(record) => Some(record.outcome),
                None => known.map(|_| Outcome::Reused),
            };
            let version = record.as_ref().and_then(|record| record.version).or(known);
            let running = running.remove(&name);
            let (result, since) = (None, Since::Unknown);
            steps.push(ChronicleStep {
                name,
                invocation,
                inputs,
                outcome,
                record,
                running,
                version,
                result,
                since,
            });
        };
        let drawn = !drawing.steps.is_empty();
        for (drawn, inputs) in drawing.with_inputs() {
            step(drawn.name.clone(), Some(drawn.invocation), inputs.to_vec());
        }
        if !drawn {
            order.into_iter().for_each(|name| step(name, None, Vec::new()));
        }
        let mut chronicle =
            Chronicle { run, record, invocations: drawing.invocations, steps, previous: None };
        self.add_results(&mut chronicle)?;
        self.add_previous(&mut chronicle)?;
        Ok(chronicle)
    }

    /// The end of what a failed attempt printed; `None` where that is gone.
    pub fn log_tail(&self, log: &Digest) -> Option<String> {
        let bytes = self.kept_bytes(log)?;
        let start = bytes.len().saturating_sub(TAIL_BYTES);
        let text = String::from_utf8_lossy(&bytes[start..]).into_owned();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        Some(lines[lines.len().saturating_sub(TAIL_LINES)..].concat())
    }

    /// What is on record of the results, in two lookups: by trace where that was noted, else by the row of an output.
    fn add_results(&self, chronicle: &mut Chronicle) -> Result<(), EngineError> {
        let (mut traces, mut of_trace): (Vec<Trace>, Vec<usize>) = (Vec::new(), Vec::new());
        let (mut keys, mut of_key): (Vec<Version>, Vec<usize>) = (Vec::new(), Vec::new());
        for (index, step) in chronicle.steps.iter().enumerate() {
            match (step.record.as_ref().and_then(|record| record.trace), step.version, step.outcome) {
                (Some(trace), ..) => {
                    traces.push(trace);
                    of_trace.push(index);
                }
                (None, Some(version), Some(Outcome::Reused)) => {
                    let of = step.invocation.and_then(|of| chronicle.invocations.get(of as usize));
                    let first = of.map(|of| of.outputs.first());
                    // Without a drawing, the default name is as good a guess as any: a wrong one finds nothing.
                    keys.push(match first {
                        Some(Some(output)) => version::output_version(&version, output),
                        Some(None) => version,
                        None => version::output_version(&version, "result"),
                    });
                    of_key.push(index);
                }
                _ => {}
            }
        }
        for (index, found) in of_trace.into_iter().zip(self.results(&traces)?) {
            chronicle.steps[index].result = found;
        }
        for (index, found) in of_key.into_iter().zip(self.rows(&keys)?) {
            chronicle.steps[index].result = found;
        }
        Ok(())
    }

    /// Finds the run before, and what differs from it.
    fn add_previous(&self, chronicle: &mut Chronicle) -> Result<(), EngineError> {
        let same = |record: &RunRecord| {
            record.pipeline == chronicle.record.pipeline && record.file == chronicle.record.file
        };
        let (mut before, mut left) = (chronicle.run, RUNS_BACK);
        let previous = loop {
            const PAGE: usize = 20;
            let page = self.runs(Some(before), PAGE.min(left))?;
            left = left.saturating_sub(PAGE);
            let Some((last, _)) = page.last() else { break None };
            before = *last;
            match page.into_iter().find(|(_, record)| same(record)) {
                Some(found) => break Some(found),
                None if left == 0 => break None,
                None => {}
            }
        };
        let Some((id, record)) = previous else { return Ok(()) };
        let mut versions: HashMap<String, Option<Version>> =
            record.steps.iter().map(|step| (step.step.clone(), step.version)).collect();
        versions.extend(self.reused(&record)?.into_iter().map(|reused| (reused.step, Some(reused.version))));
        let planned: Option<std::collections::HashSet<String>> =
            self.drawing(&record)?.map(|drawing| drawing.steps.into_iter().map(|step| step.name).collect());
        let mut read = Read::default();
        let mut broken = None;
        for step in &mut chronicle.steps {
            let Some(version) = step.version else { continue };
            step.since = match versions.get(&step.name) {
                Some(Some(was)) if *was == version => Since::Same,
                Some(Some(was)) => {
                    let differs = self.differing(was, &version, &mut read, &mut broken);
                    Since::Differs(differs)
                }
                Some(None) => Since::Unknown,
                // One whose bytes nothing needed has no outcome and no version, but it was there.
                None if planned.as_ref().is_some_and(|planned| !planned.contains(&step.name)) => Since::New,
                None => Since::Unknown,
            };
        }
        if let Some(error) = broken {
            return Err(error);
        }
        chronicle.previous = Some((id, record));
        Ok(())
    }

    fn differing(
        &self,
        was: &Version,
        is: &Version,
        read: &mut Read,
        broken: &mut Option<EngineError>,
    ) -> Option<Vec<Difference>> {
        if read.looked_at >= FACTS_LOOKED_AT {
            return None;
        }
        let mut node = |version: &Version| {
            read.looked_at += 1;
            if let Some(known) = read.nodes.get(version) {
                return known.clone();
            }
            let node = match self.facts(&[*version]) {
                Ok(mut nodes) => nodes.pop().flatten(),
                Err(error) => {
                    broken.get_or_insert(error);
                    None
                }
            };
            read.nodes.insert(*version, node.clone());
            node
        };
        let (before, after) = (node(was)?, node(is)?);
        Some(explain::differences(&before, &after, &mut node))
    }
}

/// Nodes of facts that were read, and how often one was looked at.
#[derive(Default)]
struct Read {
    nodes: HashMap<Version, Option<FactNode>>,
    looked_at: usize,
}
