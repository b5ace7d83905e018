//! Which spans a run has: one for the run, below it one for each attempt of a step and one for each step that another
//! process made while this one waited. Steps without either are only counted, in the span of the run. Pure but for
//! the numbers of spans, which are drawn.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cas_engine::chronicle::{Chronicle, ChronicleStep};
use cas_engine::event::Outcome;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};

use crate::page::command;
use crate::timeline::{Entry, What, timeline};

/// The span that a run belongs to, of whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl Parent {
    /// Reads the value of TRACEPARENT; `None` for what is none.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Version 00 has four parts; a later one may have more behind them, and ff is none.
        let ends = version != "00" || parts.next().is_none();
        let hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let well_formed = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
        if !well_formed || !ends || version == "ff" {
            return None;
        }
        let trace = TraceId::from_hex(trace).ok().filter(|id| *id != TraceId::INVALID)?;
        let span = SpanId::from_hex(span).ok().filter(|id| *id != SpanId::INVALID)?;
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
        Some(Self { trace, span, flags })
    }
}

/// The spans of a run, that of the run first.
pub(super) fn spans(chronicle: &Chronicle, parent: Option<&Parent>) -> Vec<SpanData> {
    let ids = RandomIdGenerator::default();
    let record = &chronicle.record;
    let trace = parent.map_or_else(|| ids.new_trace_id(), |parent| parent.trace);
    let flags = parent.map_or(TraceFlags::SAMPLED, |parent| parent.flags);
    let scope = InstrumentationScope::builder("cas").with_version(env!("CARGO_PKG_VERSION")).build();
    let span = |name: String, above: Option<SpanId>, from_ms: u64, until_ms: u64| SpanData {
        span_context: SpanContext::new(trace, ids.new_span_id(), flags, false, TraceState::default()),
        parent_span_id: above.unwrap_or(SpanId::INVALID),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: moment(from_ms),
        end_time: moment(until_ms.max(from_ms)),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope.clone(),
    };
    let ended_ms = record.ended_ms.unwrap_or(record.noted_ms);
    let name = format!("cas run {}", record.pipeline);
    let mut run = span(name, parent.map(|parent| parent.span), record.started_ms, ended_ms);
    run.parent_span_is_remote = parent.is_some();
    run.attributes = vec![
        KeyValue::new("cas.run", integer(chronicle.run)),
        KeyValue::new("cas.pipeline", record.pipeline.clone()),
        KeyValue::new("cas.command", command(record)),
        KeyValue::new("host.name", record.host.clone()),
    ];
    run.attributes.extend(record.mode.clone().map(|mode| KeyValue::new("cas.mode", mode)));
    for (outcome, count) in record.summary.counts() {
        run.attributes.push(KeyValue::new(format!("cas.{}", outcome.word()), integer(count as u64)));
    }
    if record.summary.failed > 0 {
        run.status = Status::error(format!("{} failed", record.summary.failed));
    } else if record.summary.interrupted {
        run.status = Status::error("interrupted");
    }
    let above = run.span_context.span_id();
    let mut spans = vec![run];
    for Entry { step, worker, what, .. } in timeline(chronicle) {
        let (from_ms, until_ms, outcome, number, failure) = match what {
            What::Attempt { number, from_ms, elapsed_ms, failure, outcome } => {
                let outcome = if failure.is_some() { Outcome::Failed } else { outcome };
                (from_ms, from_ms.saturating_add(elapsed_ms), outcome, Some(number), failure)
            }
            What::Waits { from_ms, until_ms, joined: true } => {
                (from_ms, until_ms, Outcome::Joined, None, None)
            }
            What::Waits { .. } | What::Settled { .. } | What::Running { .. } => continue,
        };
        let mut span = span(step.name.clone(), Some(above), from_ms, until_ms);
        span.attributes = attributes(step, outcome);
        if let Some(number) = number {
            span.attributes.push(KeyValue::new("cas.attempt", integer(number as u64)));
        }
        if let Some(worker) = worker {
            span.attributes.push(KeyValue::new("cas.worker", i64::from(worker)));
        }
        if let Some(failure) = failure {
            span.status = Status::error(failure.message.clone());
        }
        spans.push(span);
    }
    spans
}

/// What is known of a step.
fn attributes(step: &ChronicleStep, outcome: Outcome) -> Vec<KeyValue> {
    let mut attributes =
        vec![KeyValue::new("cas.step", step.name.clone()), KeyValue::new("cas.outcome", outcome.word())];
    if let Some(version) = step.version {
        attributes.push(KeyValue::new("cas.version", version.to_string()));
    }
    let Some(record) = &step.record else { return attributes };
    attributes.extend(record.why.clone().map(|why| KeyValue::new("cas.cause", why)));
    let first = record.attempts.first().map_or(0, |attempt| attempt.started_ms);
    if record.ready_ms > 0 && first >= record.ready_ms {
        attributes.push(KeyValue::new("cas.waited_ms", integer(first - record.ready_ms)));
    }
    attributes.extend(step.bytes().map(|bytes| KeyValue::new("cas.bytes", integer(bytes))));
    attributes
}

/// A number as attributes have them.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn moment(at_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_read_as_the_standard_writes_it() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Parent::read(good).expect("it is one");
        assert_eq!(parent.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span.to_string(), "00f067aa0ba902b7");
        assert!(Parent::read("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later").is_some());
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Parent::read(wrong), None, "{wrong}");
        }
    }
}
