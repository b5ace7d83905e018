//! Where a result came from, as it was kept before its store was named, and of its inputs who had made them: layout 1,
//! which is only read. Pure.

use cas_store::codec::{self, DecodeError};
use cas_store::{Trace, Version};
use serde::{Deserialize, Serialize};

use super::{LISTED, PROVENANCE};
use crate::list::List;

/// The version of this layout.
const LAYOUT: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Provenance {
    run: u64,
    pipeline: String,
    step: String,
    solid: String,
    version: Version,
    command: String,
    env: Vec<(String, String)>,
    config: String,
    inputs: Vec<ProvenanceInput>,
    host: String,
    platform: String,
    program: String,
    started_ms: u64,
    elapsed_ms: u64,
    attempt: u32,
}

#[derive(Serialize, Deserialize)]
struct ProvenanceInput {
    name: String,
    from: Option<String>,
    trace: Option<Trace>,
    content: String,
}

#[derive(Serialize, Deserialize)]
struct Listed {
    provenance: Provenance,
    lists: Vec<(String, List)>,
}

/// Reads such a record as one of today; what it does not say is not known.
pub(super) fn decode(bytes: &[u8]) -> Result<super::Provenance, DecodeError> {
    codec::decode(PROVENANCE, LAYOUT, bytes).map(Provenance::of_today)
}

/// Reads such a record with lists as one of today.
pub(super) fn decode_listed(bytes: &[u8]) -> Result<super::Listed, DecodeError> {
    let Listed { provenance, lists } = codec::decode(LISTED, LAYOUT, bytes)?;
    Ok(super::Listed { provenance: provenance.of_today(), lists })
}

impl Provenance {
    fn of_today(self) -> super::Provenance {
        let input = |input: ProvenanceInput| super::ProvenanceInput {
            name: input.name,
            from: input.from,
            trace: input.trace,
            content: input.content,
            made_ms: None,
            maker: None,
        };
        super::Provenance {
            run: self.run,
            pipeline: self.pipeline,
            step: self.step,
            solid: self.solid,
            version: self.version,
            command: self.command,
            env: self.env,
            config: self.config,
            inputs: self.inputs.into_iter().map(input).collect(),
            host: self.host,
            platform: self.platform,
            program: self.program,
            started_ms: self.started_ms,
            elapsed_ms: self.elapsed_ms,
            attempt: self.attempt,
            store: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_before_stores_were_named_is_read() {
        let old = || Provenance {
            run: 3,
            pipeline: "dogs".to_owned(),
            step: "s".to_owned(),
            solid: "o".to_owned(),
            version: Version::from_bytes([9; 32]),
            command: "c".to_owned(),
            env: Vec::new(),
            config: "{}".to_owned(),
            inputs: vec![ProvenanceInput {
                name: "i".to_owned(),
                from: Some("f.result".to_owned()),
                trace: Some(Trace::from_bytes([8; 32])),
                content: "x".to_owned(),
            }],
            host: "h".to_owned(),
            platform: "linux/x86_64".to_owned(),
            program: "0.1.0".to_owned(),
            started_ms: 5,
            elapsed_ms: 6,
            attempt: 1,
        };
        let bytes = codec::encode(PROVENANCE, LAYOUT, &old()).expect("it is small");
        let read = super::super::decode_provenance(&bytes).expect("it is read");
        assert_eq!((read.run, read.step.as_str(), read.store.as_str(), read.attempt), (3, "s", "", 1));
        assert_eq!(read.inputs[0].from.as_deref(), Some("f.result"));
        assert_eq!((read.inputs[0].made_ms, &read.inputs[0].maker), (None, &None));
        let listed = Listed { provenance: old(), lists: Vec::new() };
        let bytes = codec::encode(LISTED, LAYOUT, &listed).expect("it is small");
        assert_eq!(super::super::decode_listed(&bytes).map(|listed| listed.provenance), Ok(read));
    }
}
