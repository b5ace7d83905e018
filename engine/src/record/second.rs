//! What was kept of a run before it said which process ran it: layout 2, which is only read. Pure.

use cas_store::Digest;
use cas_store::codec::{self, DecodeError};
use serde::{Deserialize, Serialize};

use super::{RUN, Running, StepRecord};
use crate::event::Summary;

/// The version of this layout.
const LAYOUT: u8 = 2;

/// As it was kept then.
#[derive(Serialize, Deserialize)]
pub(super) struct RunRecord {
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

/// Reads such a record as one of today.
pub(super) fn decode(bytes: &[u8]) -> Result<super::RunRecord, DecodeError> {
    codec::decode::<RunRecord>(RUN, LAYOUT, bytes).map(RunRecord::into_todays)
}

impl RunRecord {
    /// What it does not say is not known.
    pub(super) fn into_todays(self) -> super::RunRecord {
        super::RunRecord {
            pipeline: self.pipeline,
            file: self.file,
            mode: self.mode,
            command_line: self.command_line,
            config: self.config,
            program: self.program,
            host: self.host,
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            summary: self.summary,
            steps: self.steps,
            reused: self.reused,
            drawing: self.drawing,
            jobs: self.jobs,
            noted_ms: self.noted_ms,
            running: self.running,
            process: None,
            combination: None,
            allowed: Vec::new(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What stands in `before` as bytes.
    pub(in super::super) const BEFORE: &str = "04646f6773000002036361730372756e20\
        af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262\
        05302e312e300468657265050000000100000000000000000000020701017301000601";

    pub(in super::super) fn running() -> Running {
        Running { step: "s".to_owned(), attempt: 1, why: None, started_ms: 6, worker: 1 }
    }

    /// A record as it was before there were processes.
    pub(in super::super) fn before() -> RunRecord {
        RunRecord {
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
            running: vec![running()],
        }
    }

    /// What follows the header of a record.
    pub(in super::super) fn body(bytes: &[u8]) -> String {
        bytes[codec::HEADER_BYTES..].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_record_of_before_there_were_processes_is_read() {
        let bytes = codec::encode(RUN, LAYOUT, &before()).expect("it is small");
        assert_eq!(body(&bytes), BEFORE);
        let read = super::super::decode_run(&bytes).expect("layout 2 is read");
        assert_eq!((read.noted_ms, read.jobs, read.process.as_deref()), (7, 2, None));
        assert_eq!(read.running, [running()]);
        let again = super::super::encode_run(&read).expect("it is small");
        assert_eq!(super::super::decode_run(&again).expect("what it is today is read"), read);
    }
}
