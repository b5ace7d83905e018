//! What an attempt uses of what all runs on its store share, and of what those of its sweep do.
//!
//! Invariants: a slot of the sweep is asked for before a share. A share is asked for under the claim and held while the
//! attempt executes, and whoever has one waits for nothing that another run makes; a run that a step started lives on what
//! that step was given. That such a run waits for no claim of another one cannot be seen to here: the guide says to give it
//! a store of its own.

use cas_store::Share;

use super::{Bench, Task, Tell, Told};
use crate::error::EngineError;
use crate::execute::paused::{self, Beginning};
use crate::limits::need;
use crate::pool::Slot;
use crate::solid::Solid;

/// What came of asking for a share.
pub(super) enum Shared<'a> {
    /// It is there; `None` where nothing is shared.
    Given(Option<Share>, Option<Slot<'a>>),
    /// The run was stopped while it was waited for.
    Stopped,
}

impl Bench<'_> {
    /// Takes what a step needs of what all runs share, and waits until that is there.
    pub(super) fn share(
        &self,
        task: &Task,
        solid: &Solid,
        tell: Tell<'_>,
    ) -> Result<Shared<'_>, EngineError> {
        let slot = match self.turn {
            Some(turn) => match turn.slot(&need(&solid.policy), self.cancel) {
                Some(slot) => Some(slot),
                None => return Ok(Shared::Stopped),
            },
            None => None,
        };
        let Some(limits) = self.limits else { return Ok(Shared::Given(None, slot)) };
        let portions = limits.portions(&solid.policy);
        let mut waits = |names: &[String], by: &str| tell(Told::waits(task, names, by));
        let go_on = || self.goes_on();
        let share = self.memo.share(&portions, &mut waits, &go_on)?;
        Ok(share.map_or(Shared::Stopped, |share| Shared::Given(Some(share), slot)))
    }

    /// Has an attempt begin: what it uses of what all share stays its own from now on, also while this process is stopped. What
    /// was given back because it was stopped before that (`had`, or the attempt's own) is taken anew. `None` where the run
    /// was stopped meanwhile.
    pub(super) fn begin<'a>(
        &'a self,
        task: &Task,
        solid: &Solid,
        had: Option<&Share>,
        own: &mut Option<(Option<Share>, Option<Slot<'a>>)>,
        tell: Tell<'_>,
    ) -> Result<Option<Beginning>, EngineError> {
        loop {
            let beginning = paused::beginning();
            let share = match own {
                Some((share, _)) => share.as_ref(),
                None => had,
            };
            if share.is_none_or(Share::begin) {
                return Ok(Some(beginning));
            }
            drop(beginning);
            // With its slot, which is asked for before.
            *own = None;
            match self.share(task, solid, tell)? {
                Shared::Given(share, slot) => *own = Some((share, slot)),
                Shared::Stopped => return Ok(None),
            }
        }
    }
}
