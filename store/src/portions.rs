//! Using something of which there is only so much, in all processes together: [`Share`].

use std::time::Instant;

use crate::error::StoreError;
use crate::shares::Portion;
use crate::store::Store;
use crate::tickets::LOOK;
use crate::wire::{Request, Response};

/// A share of named limits. Dropped, it is given back; so it is when the process that has it ends, however that
/// happens.
#[must_use = "dropped, the share is given back at once"]
pub struct Share {
    store: Store,
    ticket: u64,
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
        let client = self.client();
        let mut said = false;
        loop {
            let answer = self.ask_on(Request::Take { ticket, portions: portions.to_vec() })?;
            match answer.response {
                Response::Done => {
                    // Given by a host that is gone, it has to be given again.
                    if client.keep_share(ticket, portions, answer.link) {
                        return Ok(Some(Share { store: self.clone(), ticket }));
                    }
                    continue;
                }
                Response::Lacks { names, by } => {
                    if !said && !names.is_empty() {
                        said = true;
                        waits(&names, &by);
                    }
                }
                other => return Err(self.unexpected(&other)),
            }
            loop {
                if !go_on() {
                    return Ok(None);
                }
                if client.await_ticket(ticket, Instant::now() + LOOK).is_some() {
                    break;
                }
            }
        }
    }
}
