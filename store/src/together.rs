//! Several results taken in together: one look at what is there, one piece of the journal, one batch of the index, and
//! one wait for the disk where there is any.
//!
//! Each of them is decided as it would be alone. Invariant: what is written together does not meet (other traces, other
//! rows, nothing made from another of them), stands under no result, and is claimed by nobody else; all the rest is
//! decided by [`Core::commit`], one after the other.

use std::collections::{BTreeSet, HashSet};
use std::sync::PoisonError;

use crate::answers::distinct;
use crate::apply;
use crate::change::Change;
use crate::crash;
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::host::Core;
use crate::layout::BlobName;
use crate::receive::asked;
use crate::record::{Found, ResultRecord};
use crate::wire::{CommitMessage, Failure, Response};

/// One that can be written with others.
struct Ready {
    /// Its place among those that were told.
    at: usize,
    change: Change,
    names: Vec<BlobName>,
}

impl Core {
    /// Takes in several results, and answers each by itself.
    ///
    /// # Errors
    ///
    /// Nothing can be written; then none of those that were to be written together is acknowledged.
    pub(crate) fn commit_all(
        &self,
        connection: u64,
        messages: &[CommitMessage],
    ) -> Result<Vec<Response>, StoreError> {
        self.durable.check(self.layout.root())?;
        let written = self.commit_together(connection, messages)?;
        let mut written = written.into_iter().peekable();
        let answers = messages.iter().enumerate().map(|(at, message)| {
            if written.next_if_eq(&at).is_some() {
                return Response::New;
            }
            self.commit(connection, message).unwrap_or_else(|error| Response::Failed(Failure::of(&error)))
        });
        Ok(answers.collect())
    }

    /// Writes those that can be written together, and gives their places, in order.
    fn commit_together(&self, connection: u64, messages: &[CommitMessage]) -> Result<Vec<usize>, StoreError> {
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        crash::point("commit.begin");
        let mut ready = self.ready(connection, messages)?;
        crash::point("commit.blobs-installed");
        let mut journal = self.journal();
        // Who wins may have changed until the writer is ours.
        let traces: Vec<Trace> = ready.iter().map(|ready| messages[ready.at].trace).collect();
        let mut present = self.index.results(&traces)?.into_iter();
        ready.retain(|_| present.next().is_some_and(|present| present.is_none()));
        if ready.is_empty() {
            return Ok(Vec::new());
        }
        let changes: Vec<&Change> = ready.iter().map(|ready| &ready.change).collect();
        let names = ready.iter().flat_map(|ready| ready.names.iter().copied()).collect();
        self.write_all(&mut journal, &changes, names)?;
        let end = journal.end();
        drop(journal);
        crash::point("commit.written");
        self.connections.lease(connection, ready.iter().map(|ready| messages[ready.at].trace));
        self.acknowledge(end)?;
        Ok(ready.into_iter().map(|ready| ready.at).collect())
    }

    /// Those that can be written together, as far as that is known before the writer is ours, their blobs under their
    /// names.
    fn ready(&self, connection: u64, messages: &[CommitMessage]) -> Result<Vec<Ready>, StoreError> {
        let traces: Vec<Trace> = messages.iter().map(|message| message.trace).collect();
        let found = self.find(&traces)?;
        let together: HashSet<Trace> = traces.iter().copied().collect();
        let mut taken = HashSet::new();
        let mut rows: HashSet<Version> = HashSet::new();
        let mut is_apart = |message: &CommitMessage, found: &Option<Found>| {
            let trace = &message.trace;
            found.is_none()
                && !self.claims.has_lost(connection, trace)
                && !self.marks.forgotten(trace)
                && !message.parents.iter().any(|parent| together.contains(parent))
                && taken.insert(*trace)
                && message.rows.iter().all(|row| rows.insert(*row))
        };
        let chosen: Vec<usize> = messages
            .iter()
            .zip(&found)
            .enumerate()
            .filter_map(|(at, (message, found))| is_apart(message, found).then_some(at))
            .collect();
        let records: Vec<ResultRecord> = chosen.iter().map(|at| messages[*at].record()).collect();
        let named: Vec<BTreeSet<Digest>> = records.iter().map(apply::named_by).collect();
        let wanted: Vec<Vec<Digest>> =
            chosen.iter().zip(&named).map(|(at, named)| asked(&messages[*at].staged, named)).collect();
        let (once, places) = distinct(&wanted.concat());
        let presence = self.presence(&once)?;
        let mut places = places.into_iter();
        let mut ready = Vec::with_capacity(chosen.len());
        for (((at, record), named), wanted) in chosen.into_iter().zip(records).zip(named).zip(wanted) {
            let message = &messages[at];
            let present: Vec<bool> =
                places.by_ref().take(wanted.len()).map(|place| presence[place as usize]).collect();
            // What is wrong with it is said when it is taken in by itself.
            let Ok(blobs) = self.receive_known(connection, &message.staged, &named, &wanted, &present) else {
                continue;
            };
            let names = self.sync_large(&blobs)?;
            let new = message.new_result(record, blobs);
            ready.push(Ready { at, change: Change::Result(Box::new(new)), names });
        }
        Ok(ready)
    }
}
