//! What was kept of a run before it said which failures were allowed: layout 3, which is only read. Pure.

use cas_store::codec::{self, DecodeError};
use serde::{Deserialize, Serialize};

use super::{RUN, second};

/// The version of this layout.
const LAYOUT: u8 = 3;

/// Layout 2 and what came behind it: a struct in another has no bytes of its own.
#[derive(Serialize, Deserialize)]
struct RunRecord {
    second: second::RunRecord,
    process: Option<String>,
    combination: Option<String>,
}

/// Reads such a record as one of today; what it does not say is not known.
pub(super) fn decode(bytes: &[u8]) -> Result<super::RunRecord, DecodeError> {
    let RunRecord { second, process, combination } = codec::decode(RUN, LAYOUT, bytes)?;
    Ok(super::RunRecord { process, combination, ..second.into_todays() })
}

#[cfg(test)]
mod tests {
    use super::second::tests::{BEFORE, before, body, running};
    use super::*;

    #[test]
    fn a_record_of_before_failures_were_told_apart_is_read() {
        let (process, combination) = (Some("t".to_owned()), Some("lr=1".to_owned()));
        let old = RunRecord { second: before(), process, combination };
        let bytes = codec::encode(RUN, LAYOUT, &old).expect("it is small");
        assert_eq!(body(&bytes), format!("{BEFORE}01017401046c723d31"));
        let read = super::super::decode_run(&bytes).expect("layout 3 is read");
        assert_eq!((read.noted_ms, read.jobs, read.process.as_deref()), (7, 2, Some("t")));
        assert_eq!((read.combination.as_deref(), read.allowed.len()), (Some("lr=1"), 0));
        assert_eq!(read.running, [running()]);
        let again = super::super::encode_run(&read).expect("it is small");
        assert_eq!(super::super::decode_run(&again).expect("what it is today is read"), read);
    }
}
