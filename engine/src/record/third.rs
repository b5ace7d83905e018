//! What was kept of a run before it said which failures were allowed: layout 3, which is only read. Pure.

use cas_store::Digest;
use cas_store::codec::{self, DecodeError};
use serde::{Deserialize, Serialize};

use super::{RUN, Running, StepRecord};
use crate::event::Summary;

/// The version of this layout.
const LAYOUT: u8 = 3;

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
    drawing: Option<Digest>,
    jobs: u32,
    noted_ms: u64,
    running: Vec<Running>,
    process: Option<String>,
    combination: Option<String>,
}

/// Reads such a record as one of today; what it does not say is not known.
pub(super) fn decode(bytes: &[u8]) -> Result<super::RunRecord, DecodeError> {
    let third: RunRecord = codec::decode(RUN, LAYOUT, bytes)?;
    Ok(super::RunRecord {
        pipeline: third.pipeline,
        file: third.file,
        mode: third.mode,
        command_line: third.command_line,
        config: third.config,
        program: third.program,
        host: third.host,
        started_ms: third.started_ms,
        ended_ms: third.ended_ms,
        summary: third.summary,
        steps: third.steps,
        reused: third.reused,
        drawing: third.drawing,
        jobs: third.jobs,
        noted_ms: third.noted_ms,
        running: third.running,
        process: third.process,
        combination: third.combination,
        allowed: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_before_failures_were_told_apart_is_read() {
        let running = Running { step: "s".to_owned(), attempt: 1, why: None, started_ms: 6, worker: 1 };
        let old = RunRecord {
            pipeline: "dogs".to_owned(),
            file: None,
            mode: None,
            command_line: vec!["cas".to_owned(), "run".to_owned()],
            config: Digest::of(b""),
            program: "0.1.0".to_owned(),
            host: "here".to_owned(),
            started_ms: 5,
            ended_ms: None,
            summary: Summary { ran: 1, ..Summary::default() },
            steps: Vec::new(),
            reused: None,
            drawing: None,
            jobs: 2,
            noted_ms: 7,
            running: vec![running.clone()],
            process: Some("t".to_owned()),
            combination: Some("lr=1".to_owned()),
        };
        let bytes = codec::encode(RUN, LAYOUT, &old).expect("it is small");
        let read = super::super::decode_run(&bytes).expect("layout 3 is read");
        assert_eq!((read.noted_ms, read.jobs, read.process.as_deref()), (7, 2, Some("t")));
        assert_eq!((read.combination.as_deref(), read.allowed.len()), (Some("lr=1"), 0));
        assert_eq!(read.running, [running]);
        let again = super::super::encode_run(&read).expect("it is small");
        assert_eq!(super::super::decode_run(&again).expect("what it is today is read"), read);
    }
}
