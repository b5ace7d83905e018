//! Computing something once: [`Claim`].

use std::time::{Duration, Instant};

use crate::digest::Trace;
use crate::error::StoreError;
use crate::record::Found;
use crate::store::Store;
use crate::wire::{Opaque, Request, Response};

/// What became of an attempt to claim a trace.
#[derive(Debug)]
pub enum Claim {
    /// The caller is to compute it; nobody else will, as long as the guard lives.
    Granted(ClaimGuard),
    /// Somebody else was computing it, and this is the result.
    Stored(Found),
    /// Somebody else was computing it, and this is how it failed, in their words.
    Failed(Vec<u8>),
}

/// A claim on a trace. Dropped, it is given back: whoever waits for it finds the result, or goes on.
#[must_use = "dropped, the claim is given back at once"]
pub struct ClaimGuard {
    store: Store,
    trace: Trace,
    ticket: u64,
    present: Option<Found>,
    failure: Option<Vec<u8>>,
    given_back: bool,
}

impl ClaimGuard {
    /// What is claimed.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    /// The present result of the trace when the claim was granted: somebody may have been faster.
    pub fn present(&self) -> Option<&Found> {
        self.present.as_ref()
    }

    /// Asks whether the claim is still this process's, which may have been silent since it was granted, and what stands under
    /// the trace by now. Where somebody else has it, there is nothing left to give back.
    ///
    /// # Errors
    ///
    /// As for [`Store::claim`].
    pub fn renew(&mut self) -> Result<bool, StoreError> {
        match self.store.ask_for_claim(self.trace, self.ticket, false)? {
            Response::Granted { present } => {
                self.present = present;
                Ok(true)
            }
            Response::Held { .. } => Ok(false),
            other => Err(self.store.unexpected(&other)),
        }
    }

    /// Gives the claim back; those who wait are told that it failed, and how.
    pub fn fail(mut self, failure: Vec<u8>) {
        self.failure = Some(failure);
    }
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        if self.given_back {
            return;
        }
        let failure = self.failure.take().map(Opaque);
        // If no host is to be had there is nobody who waits for this either.
        let _ = self.store.ask(Request::Release { trace: self.trace, ticket: self.ticket, failure });
        // Only now: a host that came in between had to know of it, to tell the failure.
        self.store.client().end_claims(&[(self.trace, self.ticket)]);
    }
}

impl std::fmt::Debug for ClaimGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClaimGuard").field("trace", &self.trace).finish_non_exhaustive()
    }
}

impl Store {
    /// Claims a trace before computing it: granted, or what became of it once somebody else is done.
    pub fn claim(&self, trace: Trace) -> Result<Claim, StoreError> {
        loop {
            if let Some(claim) = self.claim_while(trace, &mut |_| {}, &|| true)? {
                return Ok(claim);
            }
        }
    }

    /// As [`Store::claim`], but gives up after a while: `None` if somebody else is at it still.
    pub fn claim_within(&self, trace: Trace, wait: Duration) -> Result<Option<Claim>, StoreError> {
        let begin = Instant::now();
        self.claim_while(trace, &mut |_| {}, &|| begin.elapsed() < wait)
    }

    /// As [`Store::claim`], but gives up when `go_on` says so, which is asked now and then: `None` if
    /// somebody else is at it still.
    ///
    /// `waits` is told who that is, where it takes longer than a moment, and again when it is somebody else by then, or
    /// the same one is known to be stopped, or to go on. It is not told of what this process has claimed itself.
    pub fn claim_while(
        &self,
        trace: Trace,
        waits: &mut dyn FnMut(&str),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Claim>, StoreError> {
        let client = self.client();
        let ticket = client.new_ticket();
        let claim = self.claim_under(trace, ticket, waits, go_on);
        // A claim is kept under its ticket, and nothing is to be told about it any more.
        client.drop_ticket(ticket);
        claim
    }

    /// Claims those of these traces that nobody has, in one request, and waits for none: each is granted or `None`.
    ///
    /// # Errors
    ///
    /// The host cannot be reached, or the store cannot be read.
    pub fn claim_free(&self, traces: &[Trace]) -> Result<Vec<Option<ClaimGuard>>, StoreError> {
        let client = self.client();
        let claims: Vec<(Trace, u64)> = traces.iter().map(|trace| (*trace, client.silent_ticket())).collect();
        loop {
            let answer = self.or_give_back(self.ask_on(Request::ClaimAll(claims.clone())), &claims)?;
            let granted = match answer.response {
                Response::Claims(granted) if granted.len() == claims.len() => granted,
                other => return Err(self.unexpected(&other)),
            };
            let is_granted =
                |(claim, (granted, _)): (&(Trace, u64), &(bool, Option<Found>))| granted.then_some(*claim);
            let kept: Vec<(Trace, u64)> = claims.iter().zip(&granted).filter_map(is_granted).collect();
            if !client.keep_claims(&kept, answer.link) {
                continue;
            }
            self.note_found(granted.iter().filter_map(|(_, present)| present.as_ref()));
            let guards = claims.into_iter().zip(granted);
            return Ok(guards
                .map(|((trace, ticket), (granted, present))| {
                    granted.then(|| self.guard(trace, ticket, present))
                })
                .collect());
        }
    }

    /// Gives several claims back, none of which has failed, in one request.
    pub fn release(&self, mut guards: Vec<ClaimGuard>) {
        let claims: Vec<(Trace, u64)> = guards.iter().map(|guard| (guard.trace, guard.ticket)).collect();
        if claims.is_empty() {
            return;
        }
        guards.iter_mut().for_each(|guard| guard.given_back = true);
        // As when one guard is dropped.
        let _ = self.ask(Request::ReleaseAll(claims.clone()));
        self.client().end_claims(&claims);
    }

    /// What came of asking for claims. Where no answer came they may have been granted, by a host whose answer was lost, and
    /// are given back: nobody shall wait for this process.
    fn or_give_back<T>(
        &self,
        asked: Result<T, StoreError>,
        claims: &[(Trace, u64)],
    ) -> Result<T, StoreError> {
        asked.inspect_err(|_| {
            let _ = self.ask(Request::ReleaseAll(claims.to_vec()));
        })
    }

    fn guard(&self, trace: Trace, ticket: u64, present: Option<Found>) -> ClaimGuard {
        ClaimGuard { store: self.clone(), trace, ticket, present, failure: None, given_back: false }
    }

    fn claim_under(
        &self,
        trace: Trace,
        ticket: u64,
        waits: &mut dyn FnMut(&str),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Claim>, StoreError> {
        let claims = [(trace, ticket)];
        let mut waited = false;
        let mut told = String::new();
        loop {
            let by = match self.or_give_back(self.ask_for_claim(trace, ticket, waited), &claims)? {
                Response::Granted { present } => {
                    return Ok(Some(Claim::Granted(self.guard(trace, ticket, present))));
                }
                Response::Stored(found) => {
                    self.note_found(std::iter::once(&found));
                    return Ok(Some(Claim::Stored(found)));
                }
                Response::Held { by } => by,
                other => return Err(self.unexpected(&other)),
            };
            waited = true;
            let mut a_moment = || {
                if !by.is_empty() && by != told {
                    waits(&by);
                    told.clone_from(&by);
                }
            };
            match self.client().await_ticket_while(ticket, &mut a_moment, go_on) {
                None => return Ok(None),
                Some(Some(failure)) => return Ok(Some(Claim::Failed(failure))),
                Some(None) => {}
            }
        }
    }

    /// Asks for a claim, until it is the present host that grants it.
    fn ask_for_claim(&self, trace: Trace, ticket: u64, waited: bool) -> Result<Response, StoreError> {
        loop {
            let answer = self.ask_on(Request::Claim { trace, ticket, waited })?;
            if let Response::Granted { present } = &answer.response {
                // Granted by a host that is gone, it has to be granted again.
                if !self.client().keep_claims(&[(trace, ticket)], answer.link) {
                    continue;
                }
                self.note_found(present.iter());
            }
            return Ok(answer.response);
        }
    }
}
