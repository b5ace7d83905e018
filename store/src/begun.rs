//! Runs that go on: what is noted of them is not collected while the process lives that has them.
//!
//! A process notes a run in its own file (`processes.rs`) before it asks for the run's number. So of every run up to the
//! last that there is, whoever looks at the files after that knows whether it goes on, also a host that has just begun to
//! serve.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::StoreError;
use crate::hosts::Member;
use crate::index::Index;
use crate::layout::Layout;
use crate::processes::{self, Listed};
use crate::tables::RunRow;

/// A run of this process: until this is dropped, or the process is gone, nothing of it is collected.
#[must_use = "what is noted of a run may be collected once this is dropped"]
pub struct Begun {
    id: u64,
    _noted: Noted,
}

impl Begun {
    pub(crate) fn new(id: u64, noted: Noted) -> Self {
        Self { id, _noted: noted }
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// The note in the process's file, by the token that the run is begun with.
pub(crate) struct Noted {
    member: Arc<Member>,
    token: u64,
}

impl Noted {
    pub(crate) fn new(member: &Arc<Member>, token: u64) -> Self {
        member.file.run(token);
        Self { member: Arc::clone(member), token }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        // A child of a fork must leave its parent's alone.
        if !self.member.birth.is_over() {
            self.member.file.run_ended(self.token);
        }
    }
}

/// Which runs go on, as a collection saw it when it began.
pub(crate) struct GoingOn {
    /// The last run that there was.
    until: u64,
    /// The tokens of those that processes have which live; `None` where one of these cannot be asked.
    tokens: Option<HashSet<u64>>,
}

impl GoingOn {
    pub(crate) fn now(index: &Index, layout: &Layout) -> Result<Self, StoreError> {
        // Before the files: a run that is begun behind it counts as one that goes on.
        let until = index.last_run()?;
        let listed: Option<Vec<Listed>> =
            processes::list(layout)?.into_iter().map(|(_, listed)| listed).collect();
        let tokens = listed.map(|listed| listed.into_iter().flat_map(|listed| listed.runs).collect());
        Ok(Self { until, tokens })
    }

    /// Whether a run may go on. What cannot be told counts as yes.
    pub(crate) fn has(&self, id: u64, row: &RunRow) -> bool {
        id > self.until || self.tokens.as_ref().is_none_or(|tokens| tokens.contains(&row.token))
    }
}
