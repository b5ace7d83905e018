//! What was kept of a run before it said when and where each attempt ran: layout 1, which is only read. Pure.

use cas_store::codec::{self, DecodeError};
use cas_store::{Digest, Trace, Version};
use serde::{Deserialize, Serialize};

use super::RUN;
use crate::event::{Outcome, Summary};
use crate::execute::Failure;

/// The version of this layout.
const LAYOUT: u8 = 1;

#[derive(Serialize, Deserialize)]
struct RunRecord {
    pipeline: String,
    file: Option<String>,
    mode: Option<String>,
    command_line: Vec<String>,
    config: Digest,
    program: String,
    host: String,
    started_ms: u64,
    ended_ms: Option<u64>,
    summary: Summary,
    steps: Vec<StepRecord>,
    reused: Option<Digest>,
}

#[derive(Serialize, Deserialize)]
struct StepRecord {
    step: String,
    version: Option<Version>,
    trace: Option<Trace>,
    outcome: Outcome,
    why: Option<String>,
    started_ms: u64,
    elapsed_ms: u64,
    attempts: Vec<AttemptRecord>,
}

#[derive(Serialize, Deserialize)]
struct AttemptRecord {
    failure: Option<Failure>,
    log: Option<Digest>,
    elapsed_ms: u64,
    folder: Option<String>,
}

/// Reads such a record as one of today; what it does not say is not known.
pub(super) fn decode(bytes: &[u8]) -> Result<super::RunRecord, DecodeError> {
    let first: RunRecord = codec::decode(RUN, LAYOUT, bytes)?;
    let attempt = |attempt: AttemptRecord| super::AttemptRecord {
        failure: attempt.failure,
        log: attempt.log,
        started_ms: 0,
        elapsed_ms: attempt.elapsed_ms,
        folder: attempt.folder,
    };
    let step = |step: StepRecord| super::StepRecord {
        step: step.step,
        version: step.version,
        trace: step.trace,
        outcome: step.outcome,
        why: step.why,
        ready_ms: 0,
        started_ms: step.started_ms,
        ended_ms: 0,
        elapsed_ms: step.elapsed_ms,
        worker: None,
        attempts: step.attempts.into_iter().map(attempt).collect(),
    };
    Ok(super::RunRecord {
        pipeline: first.pipeline,
        file: first.file,
        mode: first.mode,
        command_line: first.command_line,
        config: first.config,
        program: first.program,
        host: first.host,
        started_ms: first.started_ms,
        ended_ms: first.ended_ms,
        summary: first.summary,
        steps: first.steps.into_iter().map(step).collect(),
        reused: first.reused,
        drawing: None,
        jobs: 0,
        noted_ms: first.ended_ms.unwrap_or(first.started_ms),
        running: Vec::new(),
        process: None,
        combination: None,
        allowed: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_before_there_were_drawings_is_read() {
        let old = RunRecord {
            pipeline: "dogs".to_owned(),
            file: None,
            mode: None,
            command_line: vec!["cas".to_owned(), "run".to_owned()],
            config: Digest::of(b""),
            program: "0.1.0".to_owned(),
            host: "here".to_owned(),
            started_ms: 5,
            ended_ms: Some(9),
            summary: Summary { ran: 1, ..Summary::default() },
            steps: vec![StepRecord {
                step: "emit_dog".to_owned(),
                version: None,
                trace: None,
                outcome: Outcome::Ran,
                why: Some("for the first time".to_owned()),
                started_ms: 6,
                elapsed_ms: 2,
                attempts: vec![AttemptRecord { failure: None, log: None, elapsed_ms: 2, folder: None }],
            }],
            reused: None,
        };
        let bytes = codec::encode(RUN, LAYOUT, &old).expect("it is small");
        let read = super::super::decode_run(&bytes).expect("layout 1 is read");
        assert_eq!((read.steps[0].started_ms, read.steps[0].worker, read.drawing), (6, None, None));
        assert_eq!((read.noted_ms, read.summary.ran), (9, 1));
        let again = super::super::encode_run(&read).expect("it is small");
        assert_eq!(super::super::decode_run(&again).expect("what it is today is read"), read);
    }
}
