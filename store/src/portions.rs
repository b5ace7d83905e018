//! Using something of which there is only so much, in all processes together: [`Share`].

use crate::error::StoreError;
use crate::shares::Portion;
use crate::store::Store;
use crate::tickets::LOOK;
use crate::wire::{Request, Response};

/// A share of named limits. Dropped, it is given back; so it is when the process that has it ends, however that
/// happens. Before it is used it is begun with ([`Share::begin`]): until then [`Store::hand_over`] gives it to others.
#[must_use = "dropped, the share is given back at once"]
pub struct Share {
    store: Store,
    ticket: u64,
}

impl Share {
    /// Begins to use it: from now on it stays this process's own while that is stopped. False where it was given back,
    /// because the process was about to be stopped ([`Store::hand_over`]) before that: it is to be taken anew.
    ///
    /// In a process that never calls [`Store::hand_over`] it is never false, and nothing depends on it.
    #[must_use = "false where it was given back: then it is to be taken anew"]
    pub fn begin(&self) -> bool {
        self.store.client().begin_share(self.ticket)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // First, so that a host that comes in between is not told of it.
        self.store.client().end_share(self.ticket);
        // If no host is to be had there is nobody who waits for this either.
        let _ = self.store.ask(Request::GiveBack { ticket: self.ticket });
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Share").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Store {
    /// Takes so much of each of these limits, all at once, of what all processes that use the store share; waits
    /// until that is there. Whoever has a share must not wait for anything that others make.
    ///
    /// It is this process's own until it is dropped; but in a process that lets another one serve the store
    /// ([`Store::hand_over`], for Ctrl-Z) only from [`Share::begin`] on, which is to be called before anything is done under it:
    /// what was not begun with by then is given to others, and nothing tells of that but `begin`.
    ///
    /// `waits` is told once which limits lack, and who uses them. `go_on` is asked now and then whether to wait on:
    /// `None` where it says no.
    ///
    /// # Errors
    ///
    /// The host cannot be reached.
    pub fn share_while(
        &self,
        portions: &[Portion],
        waits: &mut dyn FnMut(&[String], &str),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Share>, StoreError> {
        let client = self.client();
        let ticket = client.new_ticket();
        let share = self.share_under(ticket, portions, waits, go_on);
        if !matches!(share, Ok(Some(_))) {
            // Its place in the queue is nobody's any more.
            let _ = self.ask(Request::GiveBack { ticket });
        }
        client.drop_ticket(ticket);
        share
    }

    fn share_under(
        &self,
        ticket: u64,
        portions: &[Portion],
        waits: &mut dyn FnMut(&[String], &str),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Share>, StoreError> {
        let taking = self.client().taking();
        let mut said = false;
        let mut waits = |names: &[String], by: &str| {
            if !std::mem::replace(&mut said, true) {
                waits(names, by);
            }
        };
        loop {
            if let Some(_asking) = taking.ask(ticket) {
                match self.share_once(ticket, portions, &mut waits, go_on)? {
                    Asked::Given(share) => return Ok(Some(share)),
                    Asked::WaitsNoMore => return Ok(None),
                    // Neither a share nor a place in the queue.
                    Asked::Yields => drop(self.ask(Request::GiveBack { ticket })?),
                }
            }
            if !go_on() {
                return Ok(None);
            }
            taking.rest(LOOK);
        }
    }

    /// Takes it, unless this process is about to be stopped.
    fn share_once(
        &self,
        ticket: u64,
        portions: &[Portion],
        waits: &mut dyn FnMut(&[String], &str),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Asked, StoreError> {
        let client = self.client();
        loop {
            // Also where it was woken to be told that: what the host gave it now would be nobody's.
            if client.taking().is_stopping() {
                return Ok(Asked::Yields);
            }
            let answer = self.ask_on(Request::Take { ticket, portions: portions.to_vec() })?;
            match answer.response {
                Response::Done => {
                    // Given by a host that is gone, or before a stop that nobody heard of it before, it has to be given again.
                    if client.keep_share(ticket, portions, answer.link) {
                        return Ok(Asked::Given(Share { store: self.clone(), ticket }));
                    }
                    continue;
                }
                Response::Lacks { names, by } => {
                    if !names.is_empty() {
                        waits(&names, &by);
                    }
                }
                other => return Err(self.unexpected(&other)),
            }
            loop {
                if !go_on() {
                    return Ok(Asked::WaitsNoMore);
                }
                if client.await_ticket(ticket).is_some() || client.taking().is_stopping() {
                    break;
                }
            }
        }
    }
}

/// What came of asking for a share.
enum Asked {
    Given(Share),
    /// `go_on` said so.
    WaitsNoMore,
    /// The process is about to be stopped.
    Yields,
}
