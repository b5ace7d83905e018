//! The sessions of combinations: the same pipeline again and again, each with its own run config, on stores that stay open
//! from one to the next.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cas_engine::memo::Memo;
use cas_store::Create;

use super::Combination;
use crate::args::Which;
use crate::failure::Failure;
use crate::session::{Definition, Session, World};

/// Opens them.
pub(super) struct Sessions<'a> {
    world: &'a World,
    which: &'a Which,
    definition: &'a Definition,
    create: Create,
    /// The stores that are open: a run config says where one is, so that each may have its own.
    memos: BTreeMap<PathBuf, Memo>,
}

impl<'a> Sessions<'a> {
    pub(super) fn new(
        world: &'a World,
        which: &'a Which,
        definition: &'a Definition,
        create: Create,
    ) -> Self {
        Self { world, which, definition, create, memos: BTreeMap::new() }
    }

    /// The session of a combination, on its store as it was kept, else on one that is opened for it.
    pub(super) fn of(&self, combination: &Combination) -> Result<Session, Failure> {
        let definition = self.definition.with(combination.config.clone());
        let choice = self.world.choice(self.which, Some(&definition))?;
        match self.memos.get(&choice.dir) {
            Some(memo) => self.world.session_on(definition, self.which, memo.clone()),
            None => self.world.session_of(definition, self.which, self.create),
        }
    }

    /// Keeps the store of a session open for the combinations to come.
    pub(super) fn keep(&mut self, session: &Session) {
        self.memos.entry(session.choice.dir.clone()).or_insert_with(|| session.memo.clone());
    }
}
