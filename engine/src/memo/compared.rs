//! What was made, held against what is on record of the same inputs: the ledger of what is not deterministic.

use cas_store::{Bytes, Digest, Replacement, Trace};

use super::{Made, Memo};
use crate::difference;
use crate::error::EngineError;
use crate::execute::Produced;

/// Larger contents are not compared line by line when they differ.
const DIFFERENCE_BYTES: u64 = 1024 * 1024;

/// So many lines of a difference are told.
const DIFFERENCE_LINES: usize = 10;

impl Memo {
    /// How what was made differs from what is on record of the same inputs, in lines; nothing where that cannot be
    /// shown. What cannot be read is not worth failing for.
    pub(super) fn shown_differences(&self, made: &Made<'_>) -> Vec<String> {
        let Ok(Some(found)) = self.results(&[made.trace]).map(|mut found| found.pop().flatten()) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        for ((declared, produced), recorded) in
            made.solid.outputs.iter().zip(&made.produced).zip(&found.record.outputs)
        {
            let Some(artifact) = recorded.artifact.as_ref().filter(|old| old.len <= DIFFERENCE_BYTES) else {
                continue;
            };
            let new = match produced {
                Produced::Bytes(bytes) => bytes.clone(),
                Produced::File(path) => match std::fs::metadata(path) {
                    Ok(stat) if stat.len() <= DIFFERENCE_BYTES => match std::fs::read(path) {
                        Ok(bytes) => bytes,
                        Err(_) => continue,
                    },
                    _ => continue,
                },
                Produced::Folder(_) | Produced::Absent => continue,
            };
            let Some(old) = self.kept_bytes(&artifact.digest) else { continue };
            let difference = difference::bytes(&old, &new);
            if difference.is_same() {
                continue;
            }
            let shown = difference.lines(DIFFERENCE_LINES);
            match shown.as_slice() {
                [one] => lines.push(format!("{}: {one}", declared.name)),
                several => {
                    lines.push(format!("{}:", declared.name));
                    lines.extend(several.iter().map(|line| format!("  {line}")));
                }
            }
        }
        lines
    }

    /// The bytes of stored content for a person to read; `None` where they are gone or cannot be read.
    pub(crate) fn kept_bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.store()?.bytes(digest).ok()
    }

    /// Other contents that the same inputs gave, oldest first: what shows that a step is not deterministic.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn other_contents(&self, trace: &Trace) -> Result<Vec<Replacement>, EngineError> {
        let Some(store) = self.store() else { return Ok(Vec::new()) };
        let mut ledger = store.ledger(trace)?;
        ledger.retain(|replacement| replacement.differs);
        Ok(ledger)
    }
}
