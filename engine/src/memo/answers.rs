//! What probes of inputs answered, and when: kept in the store, so that one that is good for a while is not asked
//! again before that is over, whichever process asks next.
//!
//! An answer stands as a result without rows, under a key made of everything that the probe sees. It is no result
//! of a step, and nothing is ever made from it; one that was collected is asked for again.

use cas_store::{Commit, Output, Put, Trace, Version};

use super::{Memo, miss};
use crate::error::EngineError;

/// What a probe answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) at_ms: u64,
}

impl Memo {
    /// The last answers under these keys, as far as they are kept.
    pub(crate) fn answers(&self, keys: &[Trace]) -> Result<Vec<Option<Answer>>, EngineError> {
        let Some(store) = &self.store else { return Ok(vec![None; keys.len()]) };
        let mut answers = Vec::with_capacity(keys.len());
        for found in self.results(keys)? {
            let digest = found.as_ref().and_then(|found| match found.record.outputs.as_slice() {
                [Output { artifact: Some(artifact), .. }] => Some(artifact.digest),
                _ => None,
            });
            let bytes = match &digest {
                Some(digest) => miss(store.bytes(digest))?.ok(),
                None => None,
            };
            let text = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
            let at_ms = found.map_or(0, |found| found.record.made_ms);
            answers.push(text.map(|text| Answer { text, at_ms }));
        }
        Ok(answers)
    }

    /// Keeps an answer. One that cannot be kept (a store that only lets itself be read) is asked for again, and that
    /// is all. `history` is the label and the version by which `--keep-last` counts it.
    pub(crate) fn keep_answer(&self, key: Trace, answer: &Answer, history: (String, Version)) {
        let Some(store) = &self.store else { return };
        let Ok(staged) = store.stage_bytes(answer.text.as_bytes()) else { return };
        let outputs = vec![Output { name: "answer".to_owned(), artifact: Some(staged.artifact("text")) }];
        let bare = Commit::bare(key, outputs, vec![staged]);
        let commit = Commit { made_ms: answer.at_ms, history: Some(history), put: Put::Replace, ..bare };
        let _ = store.commit(commit);
    }
}
