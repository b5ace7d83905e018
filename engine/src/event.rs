//! The closed list of things that a run can tell, in the order in which the coordinator decided them. They
//! suffice to rebuild the report. `docs/events.md` specifies their JSON form.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::execute::{Cause, Failure};
use crate::forecast::Outlook;

/// The version of the contract in `docs/events.md`.
pub const CONTRACT: u32 = 1;

/// Something that happened in a run. Times are milliseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run began; everything is planned.
    RunStarted {
        /// Its number in the store (0 for a dry run).
        run: u64,
        /// The pipeline.
        pipeline: String,
        /// The mode, if one was chosen.
        mode: Option<String>,
        /// How many steps are in the plan.
        steps: usize,
        /// How many are to be run, as far as is known now.
        to_run: usize,
        /// How many attempts run at once at most.
        jobs: usize,
        /// When.
        at_ms: u64,
    },
    /// A list became known, and the steps that are mapped over it are planned.
    PlanGrew {
        /// How many steps are in the plan now.
        steps: usize,
        /// How many of them are still to be run, those that run now among them.
        to_run: usize,
    },
    /// A step waits for something that other runs on the store use, or for one that makes it.
    StepWaits {
        /// The step's name with its element.
        step: String,
        /// The limits that lack; none where somebody else makes the step, and its result is waited for.
        limits: Vec<String>,
        /// Who uses them, or makes it, in words.
        by: String,
        /// When.
        at_ms: u64,
    },
    /// An attempt of a step began.
    StepStarted {
        /// The step's name with its element.
        step: String,
        /// Counted from 1.
        attempt: u32,
        /// Which of the workers has it, from 0: each has one attempt at a time.
        worker: usize,
        /// The first cause why it runs, in words.
        why: Option<String>,
        /// When.
        at_ms: u64,
    },
    /// An attempt failed and the step is tried again.
    StepRetried {
        /// The step.
        step: String,
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        failure: Failure,
    },
    /// A step has its outcome.
    StepFinished {
        /// The step.
        step: String,
        /// What became of it.
        outcome: Outcome,
        /// How long its attempts took; 0 where it did not run.
        elapsed_ms: u64,
        /// How long the run that made its result took, where it was reused.
        saved_ms: u64,
        /// For `failed`: why, and where to look.
        failure: Option<FailureReport>,
        /// For `skipped`: what for.
        skipped: Option<Skip>,
        /// When.
        at_ms: u64,
    },
    /// Elements of a step were reused before anything ran, where they are not told one by one
    /// ([`RunOptions::each_reused`](crate::run::RunOptions::each_reused)).
    StepsReused {
        /// The step's name without its elements.
        step: String,
        /// How many.
        count: usize,
        /// How long the runs that made their results took.
        saved_ms: u64,
        /// When.
        at_ms: u64,
    },
    /// How long what is to run is expected to take, where that is wanted and anything is known of it
    /// ([`RunOptions::each_expected`](crate::run::RunOptions::each_expected)): when the run begins, and when its plan grew.
    StepsExpected {
        /// From beginning to end; `None` where there are too many steps to lay out.
        elapsed_ms: Option<u64>,
        /// The steps that are to run, those that run now among them, each with how long it takes.
        steps: Vec<(String, u64)>,
        /// To lay out what is left of it while it goes on.
        outlook: Arc<Outlook>,
    },
    /// What a step printed, after it ended, where that is wanted.
    StepPrinted {
        /// The step.
        step: String,
        /// Its captured output, as text.
        text: String,
    },
    /// A step used what it was not given, where it is watched for that.
    Undeclared {
        /// The step.
        step: String,
        /// Whether it was refused (and the step failed), or only seen.
        refused: bool,
        /// How and what, one path each: `read data/x.csv`, `listed /srv`, `ran …`, `wrote …`.
        used: Vec<String>,
        /// The lines for the pipeline file that declare it.
        lines: Vec<String>,
    },
    /// Stored bytes were found wrong or gone; their step runs again, and may finish a second time.
    Damaged {
        /// The step output.
        output: String,
        /// What was found.
        what: String,
    },
    /// Something was put into the project.
    Published {
        /// Where, relative to the project folder.
        target: String,
        /// The step output.
        output: String,
        /// False if it was there already.
        changed: bool,
    },
    /// Something that an earlier run put into the project was removed: it is not made any longer.
    Unpublished {
        /// Where, relative to the project folder.
        target: String,
    },
    /// Something that a person should know and that changes no outcome.
    Warning {
        /// In words.
        text: String,
    },
    /// The run ended.
    RunFinished {
        /// How.
        summary: Summary,
        /// How many of the failed steps may fail.
        allowed: usize,
        /// When.
        at_ms: u64,
    },
}

/// What became of a step in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Its result was in the store under its version.
    Reused,
    /// Its version was new, the content of its inputs was not.
    Unchanged,
    /// It was executed.
    Ran,
    /// Somebody else was computing it; that result was awaited.
    Joined,
    /// It failed.
    Failed,
    /// Something upstream failed or is absent.
    Skipped,
    /// The run was stopped before it ended.
    Cancelled,
}

/// A failure with where to look.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureReport {
    /// What happened.
    pub failure: Failure,
    /// The last lines that it printed.
    pub log_tail: String,
    /// The kept folder, if any.
    pub folder: Option<std::path::PathBuf>,
    /// How many attempts were made.
    pub attempts: u32,
    /// Whether the step may fail: then the run is as good as without it.
    pub allowed: bool,
}

impl FailureReport {
    /// Of what failed without an attempt, or before one: there is nothing to look at.
    pub(crate) fn new(failure: Failure) -> Self {
        Self { failure, log_tail: String::new(), folder: None, attempts: 0, allowed: false }
    }
}

/// What a step was skipped for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// In words.
    pub why: String,
    /// Whether it is because more failed of what it gathers than may (`max_failed`), and not because something above it did
    /// not come to be.
    pub too_many_failed: bool,
}

impl Skip {
    /// Because something above it did not come to be.
    pub(crate) fn below(why: String) -> Self {
        Self { why, too_many_failed: false }
    }
}

/// How a run ended: how many steps had which outcome, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Steps with this outcome.
    pub reused: usize,
    /// Steps with this outcome.
    pub unchanged: usize,
    /// Steps with this outcome.
    pub ran: usize,
    /// Steps with this outcome.
    pub joined: usize,
    /// Steps with this outcome.
    pub failed: usize,
    /// Steps with this outcome.
    pub skipped: usize,
    /// Steps with this outcome.
    pub cancelled: usize,
    /// How long the run took.
    pub elapsed_ms: u64,
    /// How long the reused results took to make.
    pub saved_ms: u64,
    /// Whether the run was stopped.
    pub interrupted: bool,
}

impl Outcome {
    /// The word that is printed: `reused`, `unchanged`, ….
    pub fn word(self) -> &'static str {
        match self {
            Self::Reused => "reused",
            Self::Unchanged => "unchanged",
            Self::Ran => "ran",
            Self::Joined => "joined",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Summary {
    /// How many steps had each outcome, in the order in which they are told.
    pub fn counts(&self) -> [(Outcome, usize); 7] {
        [
            (Outcome::Reused, self.reused),
            (Outcome::Unchanged, self.unchanged),
            (Outcome::Ran, self.ran),
            (Outcome::Joined, self.joined),
            (Outcome::Failed, self.failed),
            (Outcome::Skipped, self.skipped),
            (Outcome::Cancelled, self.cancelled),
        ]
    }

    /// Counts one more step with this outcome.
    pub fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Reused => &mut self.reused,
            Outcome::Unchanged => &mut self.unchanged,
            Outcome::Ran => &mut self.ran,
            Outcome::Joined => &mut self.joined,
            Outcome::Failed => &mut self.failed,
            Outcome::Skipped => &mut self.skipped,
            Outcome::Cancelled => &mut self.cancelled,
        } += 1;
    }
}

impl Event {
    /// The event as one JSON object, by `docs/events.md`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::RunStarted { run, pipeline, mode, steps, to_run, jobs, at_ms } => json!({
                "cas": CONTRACT, "event": "run-started", "run": run, "pipeline": pipeline, "mode": mode,
                "steps": steps, "to_run": to_run, "jobs": jobs, "at_ms": at_ms,
            }),
            Self::PlanGrew { steps, to_run } => json!({
                "cas": CONTRACT, "event": "plan-grew", "steps": steps, "to_run": to_run,
            }),
            Self::StepWaits { step, limits, by, at_ms } => json!({
                "cas": CONTRACT, "event": "step-waits", "step": step, "limits": limits, "by": by,
                "at_ms": at_ms,
            }),
            Self::StepStarted { step, attempt, worker, why, at_ms } => json!({
                "cas": CONTRACT, "event": "step-started", "step": step, "attempt": attempt,
                "worker": worker, "why": why, "at_ms": at_ms,
            }),
            Self::StepRetried { step, attempt, failure } => json!({
                "cas": CONTRACT, "event": "step-retried", "step": step, "attempt": attempt,
                "failure": failure_json(failure),
            }),
            Self::StepFinished { step, outcome, elapsed_ms, saved_ms, failure, skipped, at_ms } => json!({
                "cas": CONTRACT, "event": "step-finished", "step": step, "outcome": outcome.word(),
                "elapsed_ms": elapsed_ms, "saved_ms": saved_ms,
                "failure": failure.as_ref().map(report_json),
                "skipped": skipped.as_ref().map(|skip| json!({
                    "why": skip.why, "too_many_failed": skip.too_many_failed,
                })),
                "at_ms": at_ms,
            }),
            Self::StepsReused { step, count, saved_ms, at_ms } => json!({
                "cas": CONTRACT, "event": "steps-reused", "step": step, "count": count,
                "saved_ms": saved_ms, "at_ms": at_ms,
            }),
            Self::StepsExpected { elapsed_ms, steps, outlook: _ } => {
                let steps: serde_json::Map<String, Value> =
                    steps.iter().map(|(step, took)| (step.clone(), (*took).into())).collect();
                json!({"cas": CONTRACT, "event": "steps-expected", "elapsed_ms": elapsed_ms, "steps": steps})
            }
            Self::StepPrinted { step, text } => {
                json!({"cas": CONTRACT, "event": "step-printed", "step": step, "text": text})
            }
            Self::Undeclared { step, refused, used, lines } => json!({
                "cas": CONTRACT, "event": "undeclared", "step": step, "refused": refused, "used": used,
                "lines": lines,
            }),
            Self::Damaged { output, what } => {
                json!({"cas": CONTRACT, "event": "damaged", "output": output, "what": what})
            }
            Self::Published { target, output, changed } => json!({
                "cas": CONTRACT, "event": "published", "target": target, "output": output,
                "changed": changed,
            }),
            Self::Unpublished { target } => {
                json!({"cas": CONTRACT, "event": "unpublished", "target": target})
            }
            Self::Warning { text } => json!({"cas": CONTRACT, "event": "warning", "text": text}),
            Self::RunFinished { summary, allowed, at_ms } => json!({
                "cas": CONTRACT, "event": "run-finished", "reused": summary.reused,
                "unchanged": summary.unchanged, "ran": summary.ran, "joined": summary.joined,
                "failed": summary.failed, "allowed": allowed, "skipped": summary.skipped,
                "cancelled": summary.cancelled,
                "elapsed_ms": summary.elapsed_ms, "saved_ms": summary.saved_ms,
                "interrupted": summary.interrupted, "at_ms": at_ms,
            }),
        }
    }
}

impl Cause {
    /// The word of `docs/events.md`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exit(_) => "exit",
            Self::Signal(_) => "signal",
            Self::Timeout => "timeout",
            Self::MissingOutput => "missing-output",
            Self::UndeclaredOutput => "undeclared-output",
            Self::BadOutput => "bad-output",
            Self::NotStarted => "not-started",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::SourceChanged => "source-changed",
            Self::Input => "input",
            Self::Cancelled => "cancelled",
        }
    }

    /// The exit status or the number of the signal, for the causes that have one.
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Exit(code) | Self::Signal(code) => Some(code),
            Self::Timeout
            | Self::MissingOutput
            | Self::UndeclaredOutput
            | Self::BadOutput
            | Self::NotStarted
            | Self::Error
            | Self::Panic
            | Self::SourceChanged
            | Self::Input
            | Self::Cancelled => None,
        }
    }
}

fn failure_json(failure: &Failure) -> Value {
    json!({
        "cause": failure.cause.word(), "code": failure.cause.code(), "message": failure.message,
        "hint": failure.hint,
    })
}

fn report_json(report: &FailureReport) -> Value {
    json!({
        "failure": failure_json(&report.failure), "log_tail": report.log_tail,
        "folder": report.folder.as_ref().map(|folder| folder.to_string_lossy()),
        "attempts": report.attempts, "allowed": report.allowed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document is the contract: each example in it is what the code gives, in the same order.
    #[test]
    fn every_example_of_the_document_is_what_the_code_gives() {
        let document = include_str!("../../docs/events.md");
        // What a sweep adds is the command's.
        let (events, _) = document.split_once("\n## A sweep\n").expect("it has that section");
        let documented: Vec<&str> = events.lines().filter(|line| line.starts_with("{\"cas\"")).collect();
        let exit = |code: i32| Failure {
            cause: Cause::Exit(code),
            message: format!("exit status {code}"),
            hint: None,
        };
        let given: Vec<String> = [
            Event::RunStarted {
                run: 12,
                pipeline: "dogs".into(),
                mode: None,
                steps: 3,
                to_run: 2,
                jobs: 4,
                at_ms: 1_700_000_000_000,
            },
            Event::PlanGrew { steps: 12, to_run: 10 },
            Event::StepWaits {
                step: "train".into(),
                limits: vec!["gpu".into()],
                by: "`cas run` (pid 4711)".into(),
                at_ms: 1_700_000_000_090,
            },
            Event::StepWaits {
                step: "emit_dog".into(),
                limits: Vec::new(),
                by: "`cas run` (pid 4711)".into(),
                at_ms: 1_700_000_000_095,
            },
            Event::StepStarted {
                step: "emit_tree".into(),
                attempt: 1,
                worker: 0,
                why: Some("config.tree_species: douglas_fir → red_maple".into()),
                at_ms: 1_700_000_000_100,
            },
            Event::StepRetried { step: "fetch".into(), attempt: 1, failure: exit(7) },
            Event::StepFinished {
                step: "emit_tree".into(),
                outcome: Outcome::Ran,
                elapsed_ms: 31,
                saved_ms: 0,
                failure: None,
                skipped: None,
                at_ms: 1_700_000_000_131,
            },
            Event::StepFinished {
                step: "train".into(),
                outcome: Outcome::Failed,
                elapsed_ms: 900,
                saved_ms: 0,
                failure: Some(FailureReport {
                    failure: exit(1),
                    log_tail: "no such column: age\n".into(),
                    folder: Some("/home/ada/dogs/.cas/work/failed/12-train".into()),
                    attempts: 1,
                    allowed: false,
                }),
                skipped: None,
                at_ms: 1_700_000_001_131,
            },
            Event::StepFinished {
                step: "total".into(),
                outcome: Outcome::Skipped,
                elapsed_ms: 0,
                saved_ms: 0,
                failure: None,
                skipped: Some(Skip {
                    why: "2 of 6 elements of `train` failed, and `max_failed` is 1".into(),
                    too_many_failed: true,
                }),
                at_ms: 1_700_000_001_132,
            },
            Event::StepsReused {
                step: "train".into(),
                count: 66_002,
                saved_ms: 132_004,
                at_ms: 1_700_000_001_140,
            },
            Event::StepsExpected {
                elapsed_ms: Some(931),
                steps: vec![("emit_tree".into(), 31), ("train".into(), 900)],
                outlook: Arc::default(),
            },
            Event::StepPrinted { step: "emit_tree".into(), text: "growing\n".into() },
            Event::Undeclared {
                step: "emit_tree".into(),
                refused: false,
                used: vec!["read data/soil.csv".into()],
                lines: vec![
                    "solids:".into(),
                    "  emit_tree:".into(),
                    "    inputs:".into(),
                    "      soil: {path: data/soil.csv}".into(),
                ],
            },
            Event::Damaged {
                output: "emit_tree.result".into(),
                what: "its bytes are not in the store".into(),
            },
            Event::Published {
                target: "results/forest.svg".into(),
                output: "plot.chart".into(),
                changed: true,
            },
            Event::Unpublished { target: "results/old.svg".into() },
            Event::Warning { text: "`results/a.csv` was not written by cas and was left alone".into() },
            Event::RunFinished {
                summary: Summary { reused: 1, ran: 2, elapsed_ms: 80, saved_ms: 31, ..Summary::default() },
                allowed: 0,
                at_ms: 1_700_000_000_180,
            },
        ]
        .iter()
        .map(|event| event.to_json().to_string())
        .collect();
        assert_eq!(given, documented);
    }

    /// Each event's section lists the members that the code gives, and no others: for every event that there is.
    #[test]
    fn every_member_of_every_event_is_a_row_of_its_section() {
        use std::collections::{BTreeMap, BTreeSet};

        // A variant more is a case more here, which is how this test learns of it.
        let word = |event: &Event| match event {
            Event::RunStarted { .. } => "run-started",
            Event::PlanGrew { .. } => "plan-grew",
            Event::StepWaits { .. } => "step-waits",
            Event::StepStarted { .. } => "step-started",
            Event::StepRetried { .. } => "step-retried",
            Event::StepFinished { .. } => "step-finished",
            Event::StepsReused { .. } => "steps-reused",
            Event::StepsExpected { .. } => "steps-expected",
            Event::StepPrinted { .. } => "step-printed",
            Event::Damaged { .. } => "damaged",
            Event::Published { .. } => "published",
            Event::Unpublished { .. } => "unpublished",
            Event::Undeclared { .. } => "undeclared",
            Event::Warning { .. } => "warning",
            Event::RunFinished { .. } => "run-finished",
        };
        const WORDS: usize = 15;
        assert_eq!(word(&Event::Warning { text: String::new() }), "warning");
        let document = include_str!("../../docs/events.md");
        let mut given: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let (events, _) = document.split_once("\n## A sweep\n").expect("it has that section");
        for line in events.lines().filter(|line| line.starts_with("{\"cas\"")) {
            let example: Value = serde_json::from_str(line).expect("an example is JSON");
            let members = example.as_object().expect("and an object");
            let of = given.entry(members["event"].as_str().expect("it has a word").to_owned()).or_default();
            of.extend(members.keys().filter(|key| !matches!(key.as_str(), "cas" | "event")).cloned());
        }
        assert_eq!(given.len(), WORDS);
        for (word, members) in given {
            let (_, section) = document.split_once(&format!("## `{word}`\n")).expect("it has a section");
            let section = section.split("\n## ").next().unwrap_or_default();
            let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
            let documented: BTreeSet<String> = rows
                .flat_map(|(names, _)| names.split(", ").map(|name| name.trim_matches('`').to_owned()))
                .collect();
            assert_eq!(documented, members, "{word}");
        }
    }

    #[test]
    fn every_cause_is_a_row_of_the_document() {
        let document = include_str!("../../docs/events.md");
        for cause in [
            Cause::Exit(1),
            Cause::Signal(9),
            Cause::Timeout,
            Cause::MissingOutput,
            Cause::UndeclaredOutput,
            Cause::BadOutput,
            Cause::NotStarted,
            Cause::Error,
            Cause::Panic,
            Cause::SourceChanged,
            Cause::Input,
            Cause::Cancelled,
        ] {
            let row = format!("| `{}` |", cause.word());
            assert!(document.contains(&row), "{row}");
        }
    }
}
