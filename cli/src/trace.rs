//! A run in the Trace Event Format, as Perfetto and Chromium's own viewer read it. Pure.
//!
//! Each worker is a thread of one process, its attempts complete events; what a step waited for is an asynchronous
//! pair, because several wait at once; what was settled without a worker is an instant. Times are microseconds since
//! the run began.

use cas_engine::chronicle::{Chronicle, ChronicleStep, Since};
use serde_json::{Map, Value, json};

use crate::page::command;
use crate::timeline::{Entry, What, timeline, worker};

/// The one process of a trace.
const PROCESS: u32 = 1;

/// The thread on which stands what no worker had.
const SETTLED: u32 = 0;

/// A run as a trace.
pub(crate) fn trace(chronicle: &Chronicle) -> String {
    let record = &chronicle.record;
    let began = record.started_ms;
    let micros = |at_ms: u64| at_ms.saturating_sub(began).saturating_mul(1000);
    let mut events = vec![
        named("process_name", SETTLED, &format!("{} · run {}", record.pipeline, chronicle.run)),
        named("thread_name", SETTLED, "settled without running"),
    ];
    let mut workers: Vec<u32> = chronicle.steps.iter().filter_map(worker).collect();
    workers.sort_unstable();
    workers.dedup();
    for worker in &workers {
        events.push(named("thread_name", worker + 1, &format!("worker {}", worker + 1)));
    }
    for Entry { index, step, worker, what } in timeline(chronicle) {
        let args = args(chronicle, step);
        let thread = worker.map_or(SETTLED, |worker| worker + 1);
        match what {
            What::Running { from_ms, until_ms } => {
                let from = micros(from_ms);
                events.push(json!({
                    "name": step.name, "cat": "running", "ph": "X", "pid": PROCESS, "tid": thread,
                    "ts": from, "dur": micros(until_ms).saturating_sub(from), "args": args,
                }));
            }
            What::Waits { from_ms, until_ms, joined } => {
                let what = if joined { "waits for another process" } else { "waits for a worker" };
                for (phase, at_ms) in [("b", from_ms), ("e", until_ms)] {
                    events.push(json!({
                        "name": what, "cat": "wait", "ph": phase, "id": index + 1, "pid": PROCESS, "tid": thread,
                        "ts": micros(at_ms), "args": {"step": step.name},
                    }));
                }
            }
            What::Attempt { number, from_ms, elapsed_ms, failure, outcome } => {
                let mut args = args;
                args.insert("attempt".to_owned(), json!(number));
                if let Some(failure) = failure {
                    args.insert("failure".to_owned(), json!(failure.message));
                }
                let word = if failure.is_some() { "failed" } else { outcome.word() };
                events.push(json!({
                    "name": step.name, "cat": word, "ph": "X", "pid": PROCESS, "tid": thread,
                    "ts": micros(from_ms), "dur": elapsed_ms.saturating_mul(1000), "args": args,
                }));
            }
            What::Settled { at_ms, outcome } => {
                events.push(instant(step, thread, micros(at_ms), outcome.word(), &args));
            }
        }
    }
    let document = json!({
        "displayTimeUnit": "ms",
        "otherData": {
            "run": chronicle.run, "pipeline": record.pipeline, "mode": record.mode,
            "command": command(record), "host": record.host, "cas": record.program,
            "started_ms": began, "ended_ms": record.ended_ms,
        },
        "traceEvents": events,
    });
    let mut text = document.to_string();
    text.push('\n');
    text
}

/// What is known of a step, for who selects it.
fn args(chronicle: &Chronicle, step: &ChronicleStep) -> Map<String, Value> {
    let mut args = Map::new();
    if let Some(version) = step.version {
        args.insert("version".to_owned(), json!(version.to_string()));
    }
    if let Some(why) = step.record.as_ref().and_then(|record| record.why.as_ref()) {
        args.insert("why".to_owned(), json!(why));
    } else if let Some(why) = step.running.as_ref().and_then(|running| running.why.as_ref()) {
        args.insert("why".to_owned(), json!(why));
    }
    if let Some(bytes) = step.bytes() {
        args.insert("bytes".to_owned(), json!(bytes));
    }
    if let (Since::Differs(Some(facts)), Some((run, _))) = (&step.since, &chronicle.previous) {
        let facts: Vec<String> = facts.iter().map(ToString::to_string).collect();
        args.insert(format!("since run {run}"), json!(facts));
    }
    args
}

fn instant(step: &ChronicleStep, thread: u32, at: u64, word: &str, args: &Map<String, Value>) -> Value {
    json!({
        "name": step.name, "cat": word, "ph": "i", "s": "t", "pid": PROCESS, "tid": thread, "ts": at,
        "args": args,
    })
}

/// Gives the process or a thread its name.
fn named(what: &str, thread: u32, name: &str) -> Value {
    json!({"name": what, "ph": "M", "pid": PROCESS, "tid": thread, "ts": 0, "args": {"name": name}})
}
