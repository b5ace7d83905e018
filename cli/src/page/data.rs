//! What the page is drawn from: a chronicle as compact JSON. `model.js` reads it.
//!
//! A step is a row of an array, texts that many steps share stand once, inputs are ranges, and times count from the
//! beginning of the run: so 3,000 steps stay well under a megabyte.

use std::collections::HashMap;

use cas_engine::chronicle::{Chronicle, ChronicleStep, Since};
use cas_engine::event::Outcome;
use cas_engine::explain::grouped;
use cas_engine::memo::Memo;
use cas_engine::record::{AttemptRecord, RunRecord};
use serde_json::{Value, json};

use crate::report::started;

/// The logs of so many failed steps are in the page; of the others `cas logs` tells.
const LOGS: usize = 50;

/// Texts by number: each stands once.
#[derive(Default)]
struct Texts {
    all: Vec<String>,
    known: HashMap<String, usize>,
}

impl Texts {
    fn of(&mut self, text: &str) -> Value {
        if let Some(known) = self.known.get(text) {
            return json!(known);
        }
        self.all.push(text.to_owned());
        self.known.insert(text.to_owned(), self.all.len() - 1);
        json!(self.all.len() - 1)
    }

    fn maybe(&mut self, text: Option<&str>) -> Value {
        text.map_or(json!(-1), |text| self.of(text))
    }
}

pub(super) fn document(memo: &Memo, chronicle: &Chronicle, made_ms: u64) -> Value {
    let record = &chronicle.record;
    let mut texts = Texts::default();
    let mut logs = LOGS;
    let steps: Vec<Value> =
        chronicle.steps.iter().map(|step| row(memo, chronicle, step, &mut texts, &mut logs)).collect();
    let summary: serde_json::Map<String, Value> = record
        .summary
        .counts()
        .into_iter()
        .map(|(outcome, count)| (outcome.word().to_owned(), json!(count)))
        .chain([
            ("elapsed_ms".to_owned(), json!(record.summary.elapsed_ms)),
            ("interrupted".to_owned(), json!(record.summary.interrupted)),
        ])
        .collect();
    let previous = chronicle
        .previous
        .as_ref()
        .map(|(run, before)| json!({"run": run, "started": before.started_ms, "how": started::differences(before, record)}));
    let invocations: Vec<Value> =
        chronicle.invocations.iter().map(|invocation| json!([invocation.name, invocation.outputs])).collect();
    json!({
        "cas": 1,
        "run": chronicle.run,
        "pipeline": record.pipeline,
        "file": record.file,
        "mode": record.mode,
        "command": command(record),
        "combination": record.combination,
        "host": record.host,
        "program": record.program,
        "jobs": record.jobs,
        "started": record.started_ms,
        "ended": record.ended_ms,
        "noted": record.noted_ms,
        "made": made_ms,
        "summary": summary,
        "previous": previous,
        "texts": texts.all,
        "invocations": invocations,
        "steps": steps,
    })
}

/// A step: name or the rest of it, invocation, inputs, outcome, worker, ready, began, ended, took, why, outputs, once
/// took, evicted, since, attempts.
fn row(
    memo: &Memo,
    chronicle: &Chronicle,
    step: &ChronicleStep,
    texts: &mut Texts,
    logs: &mut usize,
) -> Value {
    let began = chronicle.record.started_ms;
    // The first millisecond of a run counts as its second: 0 is what is not known.
    let since = |at_ms: u64| if at_ms == 0 { 0 } else { at_ms.saturating_sub(began).max(1) };
    let of = step.invocation.and_then(|of| Some((of, chronicle.invocations.get(of as usize)?)));
    let (invocation, name) = match of {
        Some((index, of)) if step.name.starts_with(&of.name) => {
            (i64::from(index), &step.name[of.name.len()..])
        }
        _ => (-1, step.name.as_str()),
    };
    let record = step.record.as_ref();
    let running = step.running.as_ref().filter(|_| chronicle.record.ended_ms.is_none());
    let why = record
        .and_then(|record| record.why.as_deref())
        .or(running.and_then(|running| running.why.as_deref()));
    let worker = running.map(|running| running.worker).or(record.and_then(|record| record.worker));
    let started = running.map(|running| running.started_ms).or(record.map(|record| record.started_ms));
    let elapsed = record.map_or(0, |record| record.elapsed_ms);
    let result = step.result.as_ref();
    let outputs: Value = result.map_or(Value::Null, |found| {
        let sizes = found.record.outputs.iter().enumerate().map(|(index, output)| {
            let present = found.present.get(index).copied().unwrap_or(false);
            match &output.artifact {
                None => Value::Null,
                Some(artifact) if present => json!(artifact.len),
                // Less than nothing: its bytes are gone.
                Some(artifact) => json!(-i128::from(artifact.len) - 1),
            }
        });
        sizes.collect()
    });
    let evicted = result.and_then(|found| found.record.evicted.as_ref());
    let evicted = evicted.map_or(json!(0), |evicted| json!([evicted.at_ms, texts.of(&evicted.why)]));
    let difference = match &step.since {
        Since::Unknown => json!(0),
        Since::Same => json!(1),
        Since::New => json!(2),
        Since::Differs(None) => json!(3),
        Since::Differs(Some(facts)) => {
            grouped(facts).iter().map(|fact| texts.of(&fact.to_string())).collect()
        }
    };
    let failed = step.outcome == Some(Outcome::Failed);
    let attempts: Value = match record {
        Some(record) if record.attempts.len() > 1 || failed => {
            let last = record.attempts.len().saturating_sub(1);
            let tries = record.attempts.iter().enumerate().map(|(index, attempt)| {
                let log = (index == last && failed && *logs > 0).then_some(()).and(attempt.log.as_ref());
                *logs = logs.saturating_sub(usize::from(log.is_some()));
                let log = log.and_then(|log| memo.log_tail(log));
                tried(attempt, since(attempt.started_ms), log.as_deref(), texts)
            });
            tries.collect()
        }
        _ => json!(0),
    };
    json!([
        name,
        invocation,
        ranges(&step.inputs),
        outcome(chronicle, step, running.is_some()),
        worker.map_or(-1, i64::from),
        since(record.map_or(0, |record| record.ready_ms)),
        since(started.unwrap_or(0)),
        since(record.map_or(0, |record| record.ended_ms)),
        elapsed,
        texts.maybe(why),
        outputs,
        result.map_or(0, |found| found.record.cost_ms),
        evicted,
        difference,
        attempts,
    ])
}

fn tried(attempt: &AttemptRecord, began: u64, log: Option<&str>, texts: &mut Texts) -> Value {
    let failure = attempt.failure.as_ref();
    json!([
        began,
        attempt.elapsed_ms,
        texts.maybe(failure.map(|failure| failure.message.as_str())),
        texts.maybe(failure.and_then(|failure| failure.hint.as_deref())),
        texts.maybe(log),
        texts.maybe(attempt.folder.as_deref()),
    ])
}

/// The number of an outcome in `OUTCOMES` of `model.js`.
fn outcome(chronicle: &Chronicle, step: &ChronicleStep, running: bool) -> u8 {
    match step.outcome {
        _ if running => 7,
        Some(Outcome::Reused) => 0,
        Some(Outcome::Unchanged) => 1,
        Some(Outcome::Ran) => 2,
        Some(Outcome::Joined) => 3,
        Some(Outcome::Failed) => 4,
        Some(Outcome::Skipped) => 5,
        Some(Outcome::Cancelled) => 6,
        None if chronicle.record.ended_ms.is_none() => 8,
        None => 9,
    }
}

/// Indices in ascending order as ranges: `0-4,9`.
fn ranges(indices: &[u32]) -> String {
    let mut text = String::new();
    let mut left = indices.iter().copied().peekable();
    while let Some(from) = left.next() {
        let mut to = from;
        while let Some(next) = left.next_if(|next| *next == to + 1) {
            to = next;
        }
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&from.to_string());
        if to > from {
            text.push_str(&format!("-{to}"));
        }
    }
    text
}

/// The command line as it was typed, the program by its name.
pub(crate) fn command(record: &RunRecord) -> String {
    let program = |word: &String| word.rsplit('/').next().unwrap_or(word).to_owned();
    let words = record.command_line.iter().enumerate();
    words
        .map(|(index, word)| if index == 0 { program(word) } else { word.clone() })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_in_a_row_are_a_range() {
        let check = |indices: &[u32], text: &str| assert_eq!(ranges(indices), text);
        check(&[], "");
        check(&[7], "7");
        check(&[0, 1, 2, 3, 4, 9], "0-4,9");
        check(&[0, 2, 3], "0,2-3");
    }

    #[test]
    fn the_outcomes_have_the_numbers_that_the_page_reads() {
        let model = include_str!("model.js");
        let list = model.split_once("const OUTCOMES = [").and_then(|(_, rest)| rest.split_once(']'));
        let words: Vec<&str> =
            list.expect("it is there").0.split(", ").map(|word| word.trim_matches('"')).collect();
        let of = |outcome: Outcome| outcome.word();
        assert_eq!(
            words,
            [
                of(Outcome::Reused),
                of(Outcome::Unchanged),
                of(Outcome::Ran),
                of(Outcome::Joined),
                of(Outcome::Failed),
                of(Outcome::Skipped),
                of(Outcome::Cancelled),
                "running",
                "waiting",
                "not-needed"
            ]
        );
    }
}
