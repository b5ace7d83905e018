//! What this process has of the host, and what it waits for: claims, shares of limits, and the tickets of those.
//!
//! A host that goes takes nothing of it along: the next one is told, and what was granted on a link that is not the present
//! one any longer was never noted.

use std::sync::Arc;
use std::time::Instant;

use super::{Client, Link, State};
use crate::digest::Trace;
use crate::shares::Portion;
use crate::taking::Taking;
use crate::tickets::LOOK;
use crate::wire::Request;

impl Client {
    // Claims.

    /// A ticket that nobody else has.
    pub(crate) fn new_ticket(&self) -> u64 {
        self.tickets.open()
    }

    /// The number of a ticket that nothing is to be told about.
    pub(crate) fn silent_ticket(&self) -> u64 {
        self.tickets.number()
    }

    /// Gives a ticket up.
    pub(crate) fn drop_ticket(&self, ticket: u64) {
        self.tickets.close(ticket);
    }

    /// Waits a moment for a ticket's time to come: then there is the failure, if there was one.
    pub(crate) fn await_ticket(&self, ticket: u64) -> Option<Option<Vec<u8>>> {
        self.tickets.wait(ticket, Instant::now() + LOOK)
    }

    /// The same for as long as `go_on` says, which is asked before each moment; `a_moment` hears of each that has passed.
    pub(crate) fn await_ticket_while(
        &self,
        ticket: u64,
        a_moment: &mut dyn FnMut(),
        go_on: &dyn Fn() -> bool,
    ) -> Option<Option<Vec<u8>>> {
        while go_on() {
            if let Some(ended) = self.await_ticket(ticket) {
                return Some(ended);
            }
            a_moment();
        }
        None
    }

    /// Notes claims that were granted on this link; false if that is not the present one any longer, so
    /// that the next host does not know of it.
    pub(crate) fn keep_claims(&self, claims: &[(Trace, u64)], link: u64) -> bool {
        let mut state = self.state();
        if state.links != link {
            return false;
        }
        state.claims.extend(claims.iter().map(|(trace, ticket)| (*ticket, *trace)));
        self.member.file.claim(claims);
        true
    }

    /// Notes that claims were given back.
    pub(crate) fn end_claims(&self, claims: &[(Trace, u64)]) {
        let mut ended = claims.to_vec();
        {
            let mut state = self.state();
            ended.retain(|(_, ticket)| state.claims.remove(ticket).is_some());
        }
        self.member.file.end(&ended);
    }

    // Shares.

    /// Notes a share that was given on this link; false if that is not the present one any longer.
    pub(crate) fn keep_share(&self, ticket: u64, portions: &[Portion], link: u64) -> bool {
        let mut state = self.state();
        if state.links != link {
            return false;
        }
        state.shares.insert(ticket, (portions.to_vec(), false));
        self.member.file.share(ticket, portions);
        true
    }

    /// Notes that a share was given back.
    pub(crate) fn end_share(&self, ticket: u64) {
        let mut state = self.state();
        state.shares.remove(&ticket);
        self.member.file.unshare(ticket);
    }

    /// A share is begun with, and stays this user's from now on; false where it was given back before a stop.
    pub(crate) fn begin_share(&self, ticket: u64) -> bool {
        let mut state = self.state();
        let Some((_, begun)) = state.shares.get_mut(&ticket) else { return false };
        *begun = true;
        true
    }

    pub(crate) fn taking(&self) -> &Taking {
        &self.taking
    }

    /// This process is about to be stopped: whoever asks for a share is to stop doing so.
    pub(crate) fn stop_taking(&self) {
        for ticket in self.taking.stop() {
            self.tickets.deliver(ticket, None);
        }
    }

    /// Gives back what nothing was begun with, once nobody asks for a share any more, but waits no longer than until then:
    /// an answer that comes later gives nothing.
    pub(crate) fn give_back_unbegun(self: &Arc<Self>, until: Instant) {
        self.taking.over(until);
        let (unbegun, is_own) = {
            let mut state = self.state();
            // Who reads such an answer only when the process goes on reads it before anybody has noticed that its host is gone.
            // The next one knows nothing of it, and may have given the same to another.
            state.links += 1;
            let unbegun: Vec<u64> =
                state.shares.iter().filter(|(_, (_, begun))| !begun).map(|(ticket, _)| *ticket).collect();
            for ticket in &unbegun {
                state.shares.remove(ticket);
                self.member.file.unshare(*ticket);
            }
            (unbegun, matches!(state.link, Some(Link::Own { .. })))
        };
        let client = Arc::clone(self);
        let (done, all) = std::sync::mpsc::channel::<()>();
        let asked = unbegun.clone();
        let give_back = move || {
            let _done = done;
            for ticket in asked {
                let _ = client.ask(Request::GiveBack { ticket });
            }
        };
        if unbegun.is_empty() || is_own {
            give_back();
            return;
        }
        // In a thread of its own, because a host that is stopped itself may not answer. Where none is to be had, the host gives
        // it on when this process is silent for long.
        if std::thread::Builder::new().name("cas-store-yields".to_owned()).spawn(give_back).is_ok() {
            let _ = all.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

impl State {
    pub(super) fn shares(&self) -> Vec<(u64, Vec<Portion>)> {
        self.shares.iter().map(|(ticket, (portions, _))| (*ticket, portions.clone())).collect()
    }
}
