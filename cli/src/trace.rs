//! A run in the Trace Event Format, as Perfetto and Chromium's own viewer read it. Pure.
//!
//! Each worker is a thread of one process, its attempts complete events; what a step waited for is an asynchronous
//! pair, because several wait at once; what was settled without a worker is an instant. Times are microseconds since
//! the run began.

use cas_engine::chronicle::{Chronicle, ChronicleStep, Since};
use cas_engine::event::Outcome;
use serde_json::{Map, Value, json};

use crate::page::command;

/// The one process of a trace.
const PROCESS: u32 = 1;

/// The thread on which stands what no worker had.
const SETTLED: u32 = 0;

/// A run as a trace.
pub(crate) fn trace(chronicle: &Chronicle) -> String {
    let record = &chronicle.record;
    let began = record.started_ms;
    let ended = record.ended_ms.unwrap_or(record.noted_ms);
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
    for (id, step) in chronicle.steps.iter().enumerate() {
        let args = args(chronicle, step);
        let thread = worker(step).map_or(SETTLED, |worker| worker + 1);
        if let (Some(running), None) = (&step.running, record.ended_ms) {
            let from = micros(running.started_ms);
            events.push(json!({
                "name": step.name, "cat": "running", "ph": "X", "pid": PROCESS, "tid": running.worker + 1,
                "ts": from, "dur": micros(ended).saturating_sub(from), "args": args,
            }));
            continue;
        }
        let (Some(noted), Some(outcome)) = (&step.record, step.outcome) else {
            if step.outcome.is_some() {
                events.push(instant(step, SETTLED, 0, "reused", &args));
            }
            continue;
        };
        let first = noted.attempts.iter().map(|attempt| attempt.started_ms).find(|at_ms| *at_ms > 0);
        let until = first.or((outcome == Outcome::Joined).then_some(noted.ended_ms)).unwrap_or(0);
        if noted.ready_ms > 0 && until >= noted.ready_ms {
            let what = if first.is_some() { "waits for a worker" } else { "waits for another process" };
            for (phase, at_ms) in [("b", noted.ready_ms), ("e", until)] {
                events.push(json!({
                    "name": what, "cat": "wait", "ph": phase, "id": id + 1, "pid": PROCESS, "tid": thread,
                    "ts": micros(at_ms), "args": {"step": step.name},
                }));
            }
        }
        for (index, attempt) in
            noted.attempts.iter().enumerate().filter(|(_, attempt)| attempt.started_ms > 0)
        {
            let mut args = args.clone();
            args.insert("attempt".to_owned(), json!(index + 1));
            if let Some(failure) = &attempt.failure {
                args.insert("failure".to_owned(), json!(failure.message));
            }
            let word = if attempt.failure.is_some() { "failed" } else { outcome.word() };
            events.push(json!({
                "name": step.name, "cat": word, "ph": "X", "pid": PROCESS, "tid": thread,
                "ts": micros(attempt.started_ms), "dur": attempt.elapsed_ms.saturating_mul(1000), "args": args,
            }));
        }
        if first.is_none() {
            events.push(instant(step, thread, micros(noted.ended_ms), outcome.word(), &args));
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

fn worker(step: &ChronicleStep) -> Option<u32> {
    let running = step.running.as_ref().map(|running| running.worker);
    running.or_else(|| step.record.as_ref().and_then(|record| record.worker))
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
