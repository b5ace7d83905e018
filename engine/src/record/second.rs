//! What was kept of a run before it said which process ran it: layout 2, which is only read. Pure.

use cas_store::Digest;
use cas_store::codec::{self, DecodeError};
use serde::{Deserialize, Serialize};

use super::{RUN, Running, StepRecord};
use crate::event::Summary;

/// The version of this layout.
const LAYOUT: u8 = 2;

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
}

/// Reads such a record as one of today; what it does not say is not known.
pub(super) fn decode(bytes: &[u8]) -> Result<super::RunRecord, DecodeError> {
    let second: RunRecord = codec::decode(RUN, LAYOUT, bytes)?;
    Ok(super::RunRecord {
        pipeline: second.pipeline,
        file: second.file,
        mode: second.mode,
        command_line: second.command_line,
        config: second.config,
        program: second.program,
        host: second.host,
        started_ms: second.started_ms,
        ended_ms: second.ended_ms,
        summary: second.summary,
        steps: second.steps,
        reused: second.reused,
        drawing: second.drawing,
        jobs: second.jobs,
        noted_ms: second.noted_ms,
        running: second.running,
        process: None,
        combination: None,
        allowed: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_before_there_were_processes_is_read() {
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
        };
        let bytes = codec::encode(RUN, LAYOUT, &old).expect("it is small");
        let read = super::super::decode_run(&bytes).expect("layout 2 is read");
        assert_eq!((read.noted_ms, read.jobs, read.process.as_deref()), (7, 2, None));
        assert_eq!(read.running, [running]);
        let again = super::super::encode_run(&read).expect("it is small");
        assert_eq!(super::super::decode_run(&again).expect("what it is today is read"), read);
    }
}
