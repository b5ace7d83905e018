//! Those whom the host serves: how they come and go, claim, fall silent, and come back from a former host.
//!
//! The host's own process is one of them. Nothing is granted, and nothing collected, until everybody whom
//! the former host served is back or gone, for [`PATIENCE`] at most: what they hold is theirs.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::claims::Attempt;
use crate::digest::{Digest, Trace};
use crate::error::StoreError;
use crate::host::Core;
use crate::ids::IdSet;
use crate::index::Family;
use crate::leases::Notify;
use crate::processes::{self, Listed};
use crate::record::{Found, ResultRecord};
use crate::shares::{Portion, Taken};
use crate::sync::Mutex;
use crate::times::{LOOK, SILENCE, STOPPED};
use crate::wire::{Opaque, Response};

/// How long those whom the former host served are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked who is gone while somebody is expected.
const LOOK_OUT: Duration = Duration::from_millis(20);

/// Who comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newcomer<'a> {
    /// What others are told about it.
    pub(crate) owner: &'a str,
    /// The name of its process's file.
    pub(crate) token: &'a str,
    /// Whose process it is, where it is another one.
    pub(crate) user: Option<u32>,
}

impl Core {
    /// Notes which processes the former host served; `own` is this one's token.
    pub(crate) fn expect_back(&self, own: &str) -> Result<(), StoreError> {
        for (token, listed) in processes::list(&self.layout)? {
            // Of one that cannot be read it is known that it lives.
            let listed = listed.unwrap_or_default();
            // This process may use the store in several places, which come back one by one.
            if token != own {
                let blobs = self.replaced_bytes(&listed.leases)?;
                self.connections.expect(&token, &listed, blobs);
            }
            // (What has no entry yet was served by nobody, unless it is another's.)
            if token != own || !listed.leases.is_empty() || !listed.claims.is_empty() {
                self.former.note(&token);
            }
            self.expect_held(&token, &listed);
        }
        if self.connections.awaits(PATIENCE) {
            self.claims.freeze();
            self.shares.freeze();
            self.set_frozen(true);
        }
        Ok(())
    }

    /// Lets somebody in, with the claims and shares that its process has.
    pub(crate) fn enter(
        &self,
        newcomer: Newcomer<'_>,
        claims: &[(Trace, u64)],
        shares: &[(u64, Vec<Portion>)],
        again: bool,
        notify: Notify,
    ) -> u64 {
        let Newcomer { owner, token, user } = newcomer;
        // Where it cannot be read, what it tells itself has to do.
        let listed = processes::read(&self.layout, token).unwrap_or_default();
        // What the former host granted to others in this process may have come into its file since this host looked.
        self.expect_held(token, &listed);
        let leases = if again { listed.leases } else { IdSet::default() };
        // What cannot be read here fails where it is asked for.
        let blobs = self.replaced_bytes(&leases).unwrap_or_default();
        // Its claims first: as soon as its process is no longer absent, another thread may begin to grant.
        let number = self.connections.number();
        let ended = self.claims.enter(number, token, owner, claims);
        self.shares.enter(number, token, owner, shares);
        self.connections.enter(number, owner, token, (leases, blobs), user, notify);
        self.connections.tell(ended);
        self.thaw_if_all_are_back();
        number
    }

    /// Notes what a process claims and uses, as its file says, of which it has not spoken yet.
    fn expect_held(&self, token: &str, listed: &Listed) {
        for (trace, ticket) in &listed.claims {
            self.claims.expect(token, &listed.owner, listed.stopped, *trace, *ticket);
        }
        self.shares.expect(token, &listed.owner, listed.stopped, &listed.shares);
    }

    /// Gives up everything that a connection held.
    pub(crate) fn leave(&self, number: u64) {
        let ended = self.claims.leave(number);
        let unshared = self.shares.leave(number);
        self.connections.leave(number);
        self.connections.tell(ended);
        self.connections.tell(unshared);
        self.abandon_collection(number);
    }

    /// Looks who fell silent or is gone for good; gives the time until the next look.
    pub(crate) fn look_around(&self, since_last: Duration) -> Duration {
        if since_last > LOOK.get() + STOPPED.get() {
            self.connections.forgive();
        }
        for (token, absent) in self.connections.absent() {
            if !processes::is_live(&self.layout, &token) {
                self.connections.give_up(&token);
                self.connections.tell(self.claims.give_up(&token));
                self.connections.tell(self.shares.keep_listed(&token, &[]));
            } else if absent > SILENCE.get() {
                self.connections.tell(self.claims.give_up(&token));
            }
        }
        for token in self.claims.absent().union(&self.shares.absent()) {
            self.look_for_user(token);
        }
        self.thaw_if_all_are_back();
        let silent = self.connections.silent();
        self.connections.tell(self.claims.hand_on(&silent));
        self.connections.tell(self.shares.hand_on(&silent));
        if self.is_frozen() { LOOK_OUT } else { LOOK.get() }
    }

    /// A process that is back may use the store in several places, each with claims and shares of its own, which come
    /// back one by one. Those that are not back are given up with the process, or when its file says so; claims with its
    /// silence, too.
    fn look_for_user(&self, token: &str) {
        if self.connections.is_absent(token) {
            return;
        }
        let is_live = processes::is_live(&self.layout, token);
        let listed = match processes::read(&self.layout, token) {
            _ if !is_live => Listed::default(),
            Ok(listed) => listed,
            // What cannot be told of is kept.
            Err(_) => return,
        };
        if !is_live || self.connections.is_silent(token) {
            self.connections.tell(self.claims.give_up(token));
        } else {
            self.connections.tell(self.claims.keep_listed(token, &listed.claims));
        }
        self.connections.tell(self.shares.keep_listed(token, &listed.shares));
    }

    fn thaw_if_all_are_back(&self) {
        if self.is_frozen() && !self.connections.awaits(PATIENCE) {
            self.set_frozen(false);
            self.connections.tell(self.claims.thaw());
            self.connections.tell(self.shares.thaw());
        }
    }

    // Claims.

    pub(crate) fn claim(
        &self,
        connection: u64,
        trace: Trace,
        ticket: u64,
        waited: bool,
    ) -> Result<Response, StoreError> {
        let owner = self.connections.owner(connection);
        match self.claims.attempt(connection, &owner, trace, ticket) {
            Attempt::Granted => {
                let present = match self.find_leased(connection, &[trace]) {
                    Ok(mut found) => found.pop().flatten(),
                    Err(error) => {
                        self.release(connection, &trace, ticket, None);
                        return Err(error);
                    }
                };
                match present {
                    // What was waited for is there.
                    Some(found) if waited && found.whole() => {
                        self.release(connection, &trace, ticket, None);
                        Ok(Response::Stored(found))
                    }
                    present => Ok(Response::Granted { present }),
                }
            }
            Attempt::Held(by) => Ok(Response::Held { by: by.unwrap_or_default() }),
            Attempt::Gone => Err(self.left()),
        }
    }

    /// Claims those of these that nobody has, and says of each whether it is granted, and what stands there.
    pub(crate) fn claim_all(
        &self,
        connection: u64,
        claims: &[(Trace, u64)],
    ) -> Result<Vec<(bool, Option<Found>)>, StoreError> {
        let owner = self.connections.owner(connection);
        let Some(granted) = self.claims.attempt_all(connection, &owner, claims) else {
            return Err(self.left());
        };
        let traces: Vec<Trace> = claims.iter().map(|(trace, _)| *trace).collect();
        match self.find_leased(connection, &traces) {
            Ok(found) => {
                Ok(granted.into_iter().zip(found).map(|(is, found)| (is, found.filter(|_| is))).collect())
            }
            Err(error) => {
                for ((trace, ticket), _) in claims.iter().zip(granted).filter(|(_, granted)| *granted) {
                    self.release(connection, trace, *ticket, None);
                }
                Err(error)
            }
        }
    }

    pub(crate) fn release(&self, connection: u64, trace: &Trace, ticket: u64, failure: Option<Opaque>) {
        let ended = self.claims.release(connection, trace, ticket, failure.map(|failure| failure.0));
        self.connections.tell(ended);
    }

    // Shares.

    pub(crate) fn take_share(
        &self,
        connection: u64,
        ticket: u64,
        portions: Vec<Portion>,
    ) -> Result<Response, StoreError> {
        let owner = self.connections.owner(connection);
        let (taken, ended) = self.shares.take(connection, &owner, ticket, portions);
        self.connections.tell(ended);
        match taken {
            Taken::Given => Ok(Response::Done),
            Taken::Lacks(names, by) => Ok(Response::Lacks { names, by }),
            Taken::Gone => Err(self.left()),
        }
    }

    pub(crate) fn give_share_back(&self, connection: u64, ticket: u64) {
        let ended = self.shares.give_back(connection, ticket);
        self.connections.tell(ended);
    }

    fn left(&self) -> StoreError {
        self.index_error("whoever asks has left")
    }

    // Leases.

    pub(crate) fn lease<'a>(&self, connection: u64, found: impl Iterator<Item = &'a Found>) {
        let present = found.filter(|found| found.present.contains(&true)).map(|found| found.trace);
        self.connections.lease(connection, present);
    }

    pub(crate) fn lease_trace(&self, connection: u64, trace: Trace) {
        self.connections.lease(connection, std::iter::once(trace));
    }

    /// Whoever was told that a result is present may still read its bytes after it was replaced.
    pub(crate) fn keep_bytes_of(&self, trace: &Trace, old: &ResultRecord) {
        self.connections.keep_bytes(trace, &crate::apply::named_by(old));
    }

    /// Whether a live process was told that this result is present.
    pub(crate) fn is_leased(&self, trace: &Trace) -> bool {
        self.connections.is_leased(trace)
    }

    /// Whether a live process may still read one of these blobs, of a result that was replaced.
    pub(crate) fn is_any_leased(&self, digests: &[Digest]) -> bool {
        self.connections.is_any_leased(digests)
    }

    /// Whether anybody reads bytes that nothing else may keep.
    pub(crate) fn is_anything_leased(&self) -> bool {
        self.connections.is_anything_leased()
    }

    /// The outputs that were replaced of results that somebody was told are present: what the former host kept for
    /// whoever reads them is not in anybody's file, but all that was ever replaced is in the ledger.
    fn replaced_bytes(&self, leases: &IdSet<Trace>) -> Result<HashSet<Digest>, StoreError> {
        let mut replaced = HashSet::new();
        if leases.is_empty() || self.index.is_empty(Family::Ledger)? {
            return Ok(replaced);
        }
        for trace in leases {
            for line in self.index.ledger(trace)?.into_iter().filter(|line| !line.lost_race) {
                replaced.extend(line.digests.into_iter().flatten());
            }
        }
        Ok(replaced)
    }

    /// Whether somebody whom the former host served may still repeat what that host was asked and did not answer.
    pub(crate) fn awaits_repeats(&self) -> bool {
        self.former.is_any(&|token| processes::is_live(&self.layout, token))
    }
}

/// The processes that the former host served, for as long as they may have something to ask again.
pub(crate) struct Former {
    since: Instant,
    tokens: Mutex<Vec<String>>,
}

/// Whoever lost its host asks the next one again at once. This is far more than that takes.
const REPEATS: Duration = Duration::from_secs(600);

impl Former {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), tokens: Mutex::default() }
    }

    fn note(&self, token: &str) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).push(token.to_owned());
    }

    fn is_any(&self, is_live: &dyn Fn(&str) -> bool) -> bool {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if self.since.elapsed() > REPEATS {
            tokens.clear();
        }
        tokens.retain(|token| is_live(token));
        !tokens.is_empty()
    }
}
