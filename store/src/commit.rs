//! Results on their way into the store: [`Commit`], all of it or nothing, and [`Relink`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::record::{Found, Output, ResultRecord};
use crate::stage::Staged;
use crate::store::{Store, announced};
use crate::wire::{CommitMessage, Opaque, RelinkMessage, Request, Response};

/// What is told of several results in one message: the bytes of where they came from and of their facts. It has its limit.
pub(crate) const PART_BYTES: usize = 32 * 1024 * 1024;

/// What to do where the trace has a result already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Put {
    /// The first wins while its bytes are there; where any of them is gone, as [`Put::Replace`].
    IfAbsent,
    /// The new result replaces all outputs of the old one, whose digests go to the ledger.
    Replace,
}

/// A result and everything that is kept with it, written in one batch or not at all.
#[derive(Debug)]
pub struct Commit {
    /// The key of the result.
    pub trace: Trace,
    /// The rows that name it: one per output, in their order, or the one of a result without outputs.
    pub rows: Vec<Version>,
    /// All outputs, in declared order.
    pub outputs: Vec<Output>,
    /// The bytes that `outputs` and `log` name.
    pub staged: Vec<Staged>,
    /// What the execution printed.
    pub log: Option<Digest>,
    /// When.
    pub made_ms: u64,
    /// How long it took.
    pub cost_ms: u64,
    /// Opaque: where this came from. Kept beside the result, replaced with it.
    pub provenance: Vec<u8>,
    /// The results that this one was made from: their records are kept as long as this one's.
    pub parents: Vec<Trace>,
    /// Opaque nodes under their own key, shared, put if absent: what each version was made of. An empty one
    /// only names a node that was put before: it is kept as long as any result that names it.
    pub facts: Vec<(Version, Vec<u8>)>,
    /// The line of history to add (its `trace` is this one).
    pub history: Option<(String, Version)>,
    /// Where there is one already.
    pub put: Put,
}

impl Commit {
    /// A result with these outputs and nothing beside it: no row names it, nothing is known of how it was made. What more
    /// there is to say is laid over: `Commit { rows, made_ms, ..Commit::bare(…) }`.
    pub fn bare(trace: Trace, outputs: Vec<Output>, staged: Vec<Staged>) -> Self {
        Self {
            trace,
            rows: Vec::new(),
            outputs,
            staged,
            log: None,
            made_ms: 0,
            cost_ms: 0,
            provenance: Vec::new(),
            parents: Vec::new(),
            facts: Vec::new(),
            history: None,
            put: Put::IfAbsent,
        }
    }
}

/// What became of a commit.
#[derive(Debug)]
pub enum Committed {
    /// The result is the trace's present one.
    New,
    /// Another result was there first and is the trace's present one; `differs` if its content is not ours.
    Adopted {
        /// The present result.
        found: Found,
        /// Whether any output's digest differs.
        differs: bool,
    },
    /// The result took the place of this one.
    Replaced {
        /// What was there.
        old: ResultRecord,
        /// Whether any output's digest differs.
        differs: bool,
    },
}

/// Rows that are to name a result that is there already (its inputs' content was the same), all or none.
#[derive(Debug, Default)]
pub struct Relink {
    /// The key of the result.
    pub trace: Option<Trace>,
    /// The rows.
    pub rows: Vec<Version>,
    /// As in a [`Commit`].
    pub facts: Vec<(Version, Vec<u8>)>,
    /// As in a [`Commit`].
    pub history: Option<(String, Version)>,
    /// When.
    pub at_ms: u64,
}

impl Store {
    /// Writes a result, atomically.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] names a blob that is neither staged with it nor in the store.
    pub fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let (mut message, _staged) = message(commit, 0);
        // What was staged lives until here: what the host did not take is removed with it.
        loop {
            message.ticket = self.client().new_ticket();
            if let Some(committed) = self.commit_message(&message, &|| true)? {
                return Ok(committed);
            }
        }
    }

    /// As [`Store::commit`]. Where this process was silent for so long that somebody else has its claim by now, it waits
    /// for what that gives, unless `go_on` says otherwise, which is asked now and then: `None`, and nothing is written.
    pub fn commit_while(
        &self,
        commit: Commit,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Committed>, StoreError> {
        let (message, _staged) = message(commit, self.client().new_ticket());
        self.commit_message(&message, go_on)
    }

    /// Writes several results, each atomically and answered by itself, as far as can be in one piece of the journal and
    /// one batch of the index. None of them may have been made from another. Of `go_on` see [`Store::commit_while`].
    ///
    /// # Errors
    ///
    /// The host cannot be reached, or nothing can be written. What is wrong with one of them is in its place.
    pub fn commit_all(
        &self,
        commits: Vec<Commit>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Result<Option<Committed>, StoreError>>, StoreError> {
        let client = self.client();
        let told: (Vec<CommitMessage>, Vec<Vec<Staged>>) =
            commits.into_iter().map(|commit| message(commit, client.silent_ticket())).unzip();
        let (messages, _staged) = told;
        let mut answered: Vec<(CommitMessage, Response)> = Vec::with_capacity(messages.len());
        for part in in_parts(messages) {
            let part = Arc::new(part);
            match self.ask(Request::CommitAll(Arc::clone(&part)))? {
                Response::All(answers) if answers.len() == part.len() => {
                    answered.extend(Arc::unwrap_or_clone(part).into_iter().zip(answers));
                }
                other => return Err(self.unexpected(&other)),
            }
        }
        let new = |answer: &Response| matches!(answer, Response::New);
        let leased = answered.iter().filter(|(_, answer)| new(answer));
        self.note_leases(leased.map(|(message, _)| message.trace));
        let each = answered.into_iter().map(|(message, answer)| match answer {
            Response::New => Ok(Some(Committed::New)),
            // It has to wait for somebody else.
            Response::Held { .. } => {
                self.commit_message(&CommitMessage { ticket: client.new_ticket(), ..message }, go_on)
            }
            Response::Failed(failure) => Err(failure.into_error(self.dir())),
            answer => {
                let committed = self.committed(answer)?;
                self.note_lease(message.trace);
                Ok(Some(committed))
            }
        });
        Ok(each.collect())
    }

    /// As [`Store::commit_while`]; the message's ticket is open, and is given up.
    fn commit_message(
        &self,
        message: &CommitMessage,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Committed>, StoreError> {
        let (client, ticket, trace) = (self.client(), message.ticket, message.trace);
        let answer = loop {
            match self.ask(Request::Commit(Box::new(message.clone()))) {
                // Somebody else has the claim by now: what that gives is the result, and this one is compared with it.
                Ok(Response::Held { .. }) => {
                    if client.await_ticket_while(ticket, &mut || {}, go_on).is_none() {
                        client.drop_ticket(ticket);
                        return Ok(None);
                    }
                }
                answer => break answer,
            }
        };
        client.drop_ticket(ticket);
        let committed = self.committed(answer?)?;
        self.note_lease(trace);
        Ok(Some(committed))
    }

    fn committed(&self, answer: Response) -> Result<Committed, StoreError> {
        match answer {
            Response::New => Ok(Committed::New),
            Response::Adopted { found, differs } => Ok(Committed::Adopted { found, differs }),
            Response::Replaced { old, differs } => Ok(Committed::Replaced { old, differs }),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Lets rows name a result that is there; false if it is not there (any longer).
    pub fn relink(&self, relink: Relink) -> Result<bool, StoreError> {
        let Some(trace) = relink.trace else { return Ok(false) };
        let message = RelinkMessage {
            trace,
            rows: relink.rows,
            facts: opaque(relink.facts),
            history: relink.history,
            at_ms: relink.at_ms,
        };
        let linked = self.flag(Request::Relink(Box::new(message)))?;
        if linked {
            self.note_lease(trace);
        }
        Ok(linked)
    }
}

/// What the host is told of a commit, and what is to live until it has answered.
fn message(commit: Commit, ticket: u64) -> (CommitMessage, Vec<Staged>) {
    let message = CommitMessage {
        trace: commit.trace,
        rows: commit.rows,
        outputs: commit.outputs,
        staged: announced(&commit.staged),
        log: commit.log,
        made_ms: commit.made_ms,
        cost_ms: commit.cost_ms,
        provenance: Opaque(commit.provenance),
        parents: commit.parents,
        facts: opaque(commit.facts),
        history: commit.history,
        put: commit.put,
        ticket,
    };
    (message, commit.staged)
}

/// As many of them in one request as make no more than [`PART_BYTES`], or one.
fn in_parts(messages: Vec<CommitMessage>) -> Vec<Vec<CommitMessage>> {
    let mut parts: Vec<Vec<CommitMessage>> = Vec::new();
    let mut left = 0_usize;
    for message in messages {
        let facts = message.facts.iter().map(|(_, fact)| fact.0.len()).sum::<usize>();
        let bytes = message.provenance.0.len() + facts;
        match parts.last_mut().filter(|_| bytes <= left) {
            Some(part) => part.push(message),
            None => {
                parts.push(vec![message]);
                left = PART_BYTES;
            }
        }
        left = left.saturating_sub(bytes);
    }
    parts
}

fn opaque(facts: Vec<(Version, Vec<u8>)>) -> Vec<(Version, Opaque)> {
    facts.into_iter().map(|(version, fact)| (version, Opaque(fact))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of them goes in a message, and all of them do not: they were refused together.
    #[test]
    fn what_is_more_than_a_message_is_told_in_parts_in_its_order() {
        let check = |provenances: &[usize], expected: &[usize]| {
            let told = provenances.iter().enumerate().map(|(number, bytes)| {
                let bare = Commit::bare(Trace::from_bytes([number as u8; 32]), Vec::new(), Vec::new());
                message(Commit { provenance: vec![0; *bytes], ..bare }, number as u64).0
            });
            let parts = in_parts(told.collect());
            assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), expected);
            let order: Vec<u64> = parts.iter().flatten().map(|message| message.ticket).collect();
            assert_eq!(order, (0..provenances.len() as u64).collect::<Vec<_>>());
        };
        let half = PART_BYTES / 2;
        check(&[], &[]);
        check(&[1, 2, 3], &[3]);
        check(&[half, half, 0, 1, half], &[3, 2]);
        check(&[PART_BYTES + 1, 0, PART_BYTES, 1], &[2, 1, 1]);
    }
}
