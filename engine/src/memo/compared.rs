//! What was made, held against what is on record of the same inputs: the ledger of what is not deterministic.

use cas_store::{Bytes, Digest, Kind, Output, Replacement, ResultRecord, Trace, Tree, Version};

use super::Memo;
use crate::difference::{self, ContentDifference};
use crate::error::EngineError;
use crate::execute::Produced;
use crate::version::{Fact, FactValue};

/// Larger contents are not compared line by line when they differ.
const DIFFERENCE_BYTES: u64 = 1024 * 1024;

/// So many lines of a difference are told.
const DIFFERENCE_LINES: usize = 10;

impl Memo {
    /// What is on record of the same inputs, to be held against what was made. What cannot be read is not worth failing
    /// for.
    pub(super) fn on_record(&self, trace: Trace) -> Option<ResultRecord> {
        Some(self.results(&[trace]).ok()?.pop()??.record)
    }

    /// How an output that is no folder differs from the one on record; `None` where it does not, or that cannot be told.
    /// Comes before it is stored: then its file may be gone.
    pub(super) fn other_file(&self, was: &Output, produced: &Produced) -> Option<ContentDifference> {
        let len = match produced {
            Produced::Bytes(bytes) => Some(bytes.len() as u64),
            Produced::File(path) => Some(std::fs::metadata(path).ok()?.len()),
            Produced::Folder(_) => return None,
            Produced::Absent => None,
        };
        let (was, len) = match (&was.artifact, len) {
            (Some(was), Some(len)) => (was, len),
            (None, None) => return None,
            (was, is) => {
                return Some(ContentDifference::Absent { before: was.is_some(), after: is.is_some() });
            }
        };
        if was.kind == Kind::Tree {
            return Some(ContentDifference::Kind("folder", "file"));
        }
        if was.len > DIFFERENCE_BYTES || len > DIFFERENCE_BYTES {
            // Whether they differ is known when it is stored; of equal lengths there is nothing to tell.
            return (was.len != len).then_some(ContentDifference::Bytes(was.len, len));
        }
        let is = match produced {
            Produced::Bytes(bytes) => bytes.clone(),
            Produced::File(path) => std::fs::read(path).ok()?,
            Produced::Folder(_) | Produced::Absent => return None,
        };
        let difference = difference::bytes(&self.kept_bytes(&was.digest)?, &is);
        (!difference.is_same()).then_some(difference)
    }

    /// The same for a folder, once it is staged.
    pub(super) fn other_folder(&self, was: &Output, is: &Tree) -> Option<ContentDifference> {
        let Some(was) = &was.artifact else {
            return Some(ContentDifference::Absent { before: false, after: true });
        };
        if was.kind != Kind::Tree {
            return Some(ContentDifference::Kind("file", "folder"));
        }
        let was = self.store()?.tree(&was.digest).ok()?;
        let entries = difference::trees(&was, is);
        (!entries.is_empty()).then_some(ContentDifference::Tree(entries))
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

    /// Whether the same inputs gave other contents, of a step with this version where that is known. One that changes with
    /// time is no step that is not the same twice.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn is_deterministic(&self, trace: &Trace, step: Option<&Version>) -> Result<bool, EngineError> {
        if self.other_contents(trace)?.is_empty() {
            return Ok(true);
        }
        step.map_or(Ok(false), |step| self.changes_with_time(step))
    }

    /// Whether a step with this version is one whose results are good for one run or for a while only, by what is kept of
    /// what it was made of.
    fn changes_with_time(&self, step: &Version) -> Result<bool, EngineError> {
        let node = |version: &Version| Ok::<_, EngineError>(self.facts(&[*version])?.pop().flatten());
        let Some(step) = node(step)? else { return Ok(false) };
        for fact in &step.facts {
            let FactValue::Node(part) = &fact.value else { continue };
            let Some(solid) = node(part)?.filter(|node| node.kind == "solid") else { continue };
            let dated = |fact: &Fact| {
                fact.label == "version"
                    && matches!(&fact.value, FactValue::Text(text) if text == "volatile" || text == "every")
            };
            return Ok(solid.facts.iter().any(dated));
        }
        Ok(false)
    }
}

/// A difference in lines, under the name of its output.
pub(super) fn lines(name: &str, difference: &ContentDifference) -> Vec<String> {
    let shown = difference.lines(DIFFERENCE_LINES);
    match shown.as_slice() {
        [one] => vec![format!("{name}: {one}")],
        several => {
            let below = several.iter().map(|line| format!("  {line}"));
            std::iter::once(format!("{name}:")).chain(below).collect()
        }
    }
}
