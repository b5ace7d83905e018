//! Who is computing what: at most one at a time per trace.
//!
//! Lives in the host's memory alone. A claim belongs to a connection; when that goes, so do its claims.
//! Whoever wants a claimed trace leaves a *ticket* and is told when it is given back, and of a failure
//! that came of it; nobody waits in here. Right after a host was lost nothing is granted, until those whom
//! it had served are here again: what they hold is not known before.
//!
//! What the functions return is what is to be told to whom; telling is the caller's.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::PoisonError;

use crate::digest::Trace;
use crate::sync::{Mutex, MutexGuard};

/// All claims of one host.
#[derive(Default)]
pub(crate) struct Claims {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    held: HashMap<Trace, Held>,
    /// The connections that there are, with the tokens of their processes.
    alive: HashMap<u64, String>,
    /// Claims that were handed on while their owner was silent.
    lost: HashSet<(u64, Trace)>,
    /// Whether nothing is granted yet, and who has asked.
    frozen: bool,
    /// Whether nothing will be granted any more: the host is going.
    closed: bool,
    knocked: Vec<(u64, u64)>,
}

struct Held {
    by: Holder,
    ticket: u64,
    owner: String,
    /// Whether whoever has it said that it would be stopped, and is not back.
    stopped: bool,
    waiting: Vec<(u64, u64)>,
}

/// Whose a claim is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    Connection(u64),
    /// A process that held it at the former host and is not here yet, by its token.
    Absent(String),
}

/// What became of an attempt to claim.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The claim is the caller's.
    Granted,
    /// Somebody has it; the caller's ticket is noted. In words who it is, where that is known and another process.
    Held(Option<String>),
    /// The connection that asks is gone.
    Gone,
}

/// Something that whoever left a ticket is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) connection: u64,
    pub(crate) ticket: u64,
    /// How it failed, if it did.
    pub(crate) failure: Option<Vec<u8>>,
}

/// What somebody is called who may be stopped.
pub(crate) fn named(owner: &str, stopped: bool) -> String {
    if stopped { format!("the stopped {owner}") } else { owner.to_owned() }
}

impl Claims {
    /// Grants nothing until [`Claims::thaw`].
    pub(crate) fn freeze(&self) {
        self.table().frozen = true;
    }

    /// Grants nothing any more: what connections that end now hold, they hold at the next host.
    pub(crate) fn close(&self) {
        self.table().closed = true;
    }

    /// Begins to grant.
    pub(crate) fn thaw(&self) -> Vec<Ended> {
        let mut table = self.table();
        table.frozen = false;
        let knocked = std::mem::take(&mut table.knocked);
        told(knocked, None)
    }

    /// Notes that a process that is not here yet holds a claim.
    pub(crate) fn expect(&self, token: &str, owner: &str, stopped: bool, trace: Trace, ticket: u64) {
        let held = Held { stopped, ..Held::new(Holder::Absent(token.to_owned()), ticket, owner) };
        self.table().held.entry(trace).or_insert(held);
    }

    /// Gives back what a process holds that did not come back.
    pub(crate) fn give_up(&self, token: &str) -> Vec<Ended> {
        let absent = Holder::Absent(token.to_owned());
        self.table().drop_where(|_, held| held.by == absent)
    }

    /// The processes that hold something and are not here, or not with the user that holds it.
    pub(crate) fn absent(&self) -> BTreeSet<String> {
        let token = |held: &Held| match &held.by {
            Holder::Absent(token) => Some(token.clone()),
            Holder::Connection(_) => None,
        };
        self.table().held.values().filter_map(token).collect()
    }

    /// Gives back what a process held that is not among these any longer.
    pub(crate) fn keep_listed(&self, token: &str, listed: &[(Trace, u64)]) -> Vec<Ended> {
        let absent = Holder::Absent(token.to_owned());
        let stays = |trace: &Trace, held: &Held| listed.contains(&(*trace, held.ticket));
        self.table().drop_where(|trace, held| held.by == absent && !stays(trace, held))
    }

    /// A connection begins, with the claims that its process held at a former host. One that was handed
    /// on meanwhile is lost. Those who wait for one that was stopped are to ask who has it: it goes on.
    pub(crate) fn enter(
        &self,
        connection: u64,
        token: &str,
        owner: &str,
        claims: &[(Trace, u64)],
    ) -> Vec<Ended> {
        let mut table = self.table();
        let mut ended = Vec::new();
        table.alive.insert(connection, token.to_owned());
        for (trace, ticket) in claims {
            let absent = Holder::Absent(token.to_owned());
            let is_ours = |held: &Held| held.by == absent || held.ticket == *ticket;
            match table.held.get_mut(trace) {
                Some(held) if is_ours(held) => {
                    held.by = Holder::Connection(connection);
                    held.ticket = *ticket;
                    if std::mem::take(&mut held.stopped) {
                        ended.extend(told(std::mem::take(&mut held.waiting), None));
                    }
                }
                Some(_) => drop(table.lost.insert((connection, *trace))),
                None => {
                    let held = Held::new(Holder::Connection(connection), *ticket, owner);
                    table.held.insert(*trace, held);
                }
            }
        }
        ended
    }

    /// Whether a connection is there.
    pub(crate) fn is_here(&self, connection: u64) -> bool {
        self.table().alive.contains_key(&connection)
    }

    /// Claims a trace, or notes that the connection is to be told under this ticket when it may try again.
    /// Asking again for what is granted already changes nothing.
    pub(crate) fn attempt(&self, connection: u64, owner: &str, trace: Trace, ticket: u64) -> Attempt {
        let mut table = self.table();
        if table.closed {
            return Attempt::Held(None);
        }
        let Table { held, alive, lost, frozen, knocked, .. } = &mut *table;
        let Some(own) = alive.get(&connection) else { return Attempt::Gone };
        match held.get_mut(&trace) {
            Some(held) if held.by == Holder::Connection(connection) && held.ticket == ticket => {
                Attempt::Granted
            }
            Some(held) => {
                held.waiting.push((connection, ticket));
                let token = match &held.by {
                    Holder::Connection(number) => alive.get(number),
                    Holder::Absent(token) => Some(token),
                };
                Attempt::Held((token != Some(own)).then(|| named(&held.owner, held.stopped)))
            }
            None if *frozen => {
                knocked.push((connection, ticket));
                Attempt::Held(None)
            }
            None => {
                held.insert(trace, Held::new(Holder::Connection(connection), ticket, owner));
                lost.remove(&(connection, trace));
                Attempt::Granted
            }
        }
    }

    /// Claims those of several traces that nobody has, under these tickets, and says of each whether it is the
    /// caller's now. No ticket is noted for the others. `None` where the connection is gone.
    pub(crate) fn attempt_all(
        &self,
        connection: u64,
        owner: &str,
        claims: &[(Trace, u64)],
    ) -> Option<Vec<bool>> {
        let mut table = self.table();
        let may = !table.closed && !table.frozen;
        if !table.alive.contains_key(&connection) {
            return None;
        }
        let mut attempt = |(trace, ticket): &(Trace, u64)| match table.held.get(trace) {
            Some(held) => held.by == Holder::Connection(connection) && held.ticket == *ticket,
            None if may => {
                table.held.insert(*trace, Held::new(Holder::Connection(connection), *ticket, owner));
                table.lost.remove(&(connection, *trace));
                true
            }
            None => false,
        };
        Some(claims.iter().map(&mut attempt).collect())
    }

    /// Whether this connection's claim was handed on while it was silent.
    pub(crate) fn has_lost(&self, connection: u64, trace: &Trace) -> bool {
        self.table().lost.contains(&(connection, *trace))
    }

    /// Gives a claim back; those who wait for it are told the failure, if there was one. A claim that is
    /// not held (any longer) is passed over.
    pub(crate) fn release(
        &self,
        connection: u64,
        trace: &Trace,
        ticket: u64,
        failure: Option<Vec<u8>>,
    ) -> Vec<Ended> {
        let mut table = self.table();
        table.lost.remove(&(connection, *trace));
        let ours = Holder::Connection(connection);
        if table.held.get(trace).is_some_and(|held| held.by == ours && held.ticket == ticket)
            && let Some(held) = table.held.remove(trace)
        {
            return told(held.waiting, failure);
        }
        Vec::new()
    }

    /// Whether this connection's claim was handed on while it was silent, and if so, who has it now: then
    /// the ticket is noted.
    pub(crate) fn is_lost(&self, connection: u64, trace: &Trace, ticket: u64) -> Option<Option<String>> {
        let mut table = self.table();
        if !table.lost.contains(&(connection, *trace)) {
            return None;
        }
        Some(table.held.get_mut(trace).map(|held| {
            held.waiting.push((connection, ticket));
            held.owner.clone()
        }))
    }

    /// Hands on the claims of connections that are silent. They are not gone: what they held is lost to
    /// them, and they may claim again.
    pub(crate) fn hand_on(&self, silent: &HashSet<u64>) -> Vec<Ended> {
        let mut table = self.table();
        let is_silent = |_: &Trace, held: &Held| matches!(&held.by, Holder::Connection(number) if silent.contains(number));
        let lost: Vec<(u64, Trace)> = table
            .held
            .iter()
            .filter_map(|(trace, held)| match held.by {
                Holder::Connection(number) if silent.contains(&number) => Some((number, *trace)),
                _ => None,
            })
            .collect();
        table.lost.extend(lost);
        table.drop_where(is_silent)
    }

    /// Gives back all claims of a connection that is gone.
    pub(crate) fn leave(&self, connection: u64) -> Vec<Ended> {
        let mut table = self.table();
        table.alive.remove(&connection);
        table.lost.retain(|(number, _)| *number != connection);
        table.knocked.retain(|(number, _)| *number != connection);
        for held in table.held.values_mut() {
            held.waiting.retain(|(number, _)| *number != connection);
        }
        table.drop_where(|_, held| held.by == Holder::Connection(connection))
    }

    /// A table that a panicking thread left behind is still whole: no change of it panics half-way.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn new(by: Holder, ticket: u64, owner: &str) -> Self {
        Self { by, ticket, owner: owner.to_owned(), stopped: false, waiting: Vec::new() }
    }
}

impl Table {
    fn drop_where(&mut self, goes: impl Fn(&Trace, &Held) -> bool) -> Vec<Ended> {
        let mut all = Vec::new();
        if self.closed {
            return all;
        }
        self.held.retain(|trace, held| {
            let stays = !goes(trace, held);
            if !stays {
                all.extend(told(std::mem::take(&mut held.waiting), None));
            }
            stays
        });
        all
    }
}

fn told(waiting: Vec<(u64, u64)>, failure: Option<Vec<u8>>) -> Vec<Ended> {
    let each = |(connection, ticket)| Ended { connection, ticket, failure: failure.clone() };
    waiting.into_iter().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Trace = Trace::from_bytes([1; 32]);

    fn claims(connections: &[u64]) -> Claims {
        let claims = Claims::default();
        for connection in connections {
            claims.enter(*connection, &format!("token {connection}"), &format!("run {connection}"), &[]);
        }
        claims
    }

    fn attempt(claims: &Claims, connection: u64, ticket: u64) -> Attempt {
        claims.attempt(connection, &format!("run {connection}"), T, ticket)
    }

    fn held(owner: &str) -> Attempt {
        Attempt::Held(Some(owner.to_owned()))
    }

    fn ended(connection: u64, ticket: u64) -> Ended {
        Ended { connection, ticket, failure: None }
    }

    #[test]
    fn a_trace_is_claimed_once() {
        let claims = claims(&[1, 2]);
        assert_eq!(attempt(&claims, 1, 10), Attempt::Granted);
        assert_eq!(attempt(&claims, 1, 10), Attempt::Granted);
        assert_eq!(attempt(&claims, 2, 20), held("run 1"));
        // Of what its own process has nobody is told that somebody else does.
        assert_eq!(attempt(&claims, 1, 11), Attempt::Held(None));
        claims.enter(3, "token 1", "run 1", &[]);
        assert_eq!(attempt(&claims, 3, 30), Attempt::Held(None));
        assert_eq!(claims.release(1, &T, 10, None), [ended(2, 20), ended(1, 11), ended(3, 30)]);
        assert_eq!(attempt(&claims, 2, 20), Attempt::Granted);
    }

    #[test]
    fn several_are_claimed_at_once_and_nobody_is_told_of_those_that_are_not() {
        let claims = claims(&[1, 2]);
        let other = Trace::from_bytes([2; 32]);
        assert_eq!(attempt(&claims, 1, 10), Attempt::Granted);
        let wanted = [(T, 20), (other, 21)];
        assert_eq!(claims.attempt_all(2, "run 2", &wanted), Some(vec![false, true]));
        // Asked again, it is the same.
        assert_eq!(claims.attempt_all(2, "run 2", &wanted), Some(vec![false, true]));
        assert_eq!(claims.attempt(1, "run 1", other, 11), held("run 2"));
        assert_eq!(claims.release(1, &T, 10, None), []);
        assert_eq!(claims.release(2, &other, 21, None), [ended(1, 11)]);
        assert_eq!(claims.attempt_all(3, "run 3", &wanted), None);
        claims.freeze();
        assert_eq!(claims.attempt_all(2, "run 2", &wanted), Some(vec![false, false]));
        assert_eq!(claims.thaw(), []);
        claims.close();
        assert_eq!(claims.attempt_all(2, "run 2", &wanted), Some(vec![false, false]));
    }

    #[test]
    fn those_who_wait_are_told_the_failure() {
        let claims = claims(&[1, 2]);
        assert_eq!(attempt(&claims, 1, 10), Attempt::Granted);
        assert_eq!(attempt(&claims, 2, 20), held("run 1"));
        let told = claims.release(1, &T, 10, Some(b"exit 1".to_vec()));
        assert_eq!(told, [Ended { connection: 2, ticket: 20, failure: Some(b"exit 1".to_vec()) }]);
    }

    #[test]
    fn a_dead_claimant_hands_on_and_cannot_claim() {
        let claims = claims(&[1, 2, 3]);
        assert_eq!(attempt(&claims, 1, 10), Attempt::Granted);
        assert_eq!(attempt(&claims, 2, 20), held("run 1"));
        assert_eq!(attempt(&claims, 3, 30), held("run 1"));
        // Who waited and is gone is told nothing.
        assert_eq!(claims.leave(3), []);
        assert_eq!(claims.leave(1), [ended(2, 20)]);
        assert_eq!(attempt(&claims, 1, 10), Attempt::Gone);
        assert_eq!(attempt(&claims, 2, 20), Attempt::Granted);
        assert_eq!(claims.release(1, &T, 10, None), []);
        assert_eq!(claims.release(2, &T, 20, None), []);
    }

    #[test]
    fn a_silent_claimant_learns_that_it_lost_its_claim() {
        let claims = claims(&[1, 2]);
        assert_eq!(attempt(&claims, 1, 10), Attempt::Granted);
        assert_eq!(claims.is_lost(1, &T, 11), None);
        assert_eq!(attempt(&claims, 2, 20), held("run 1"));
        assert_eq!(claims.hand_on(&HashSet::from([1])), [ended(2, 20)]);
        assert_eq!(claims.is_lost(1, &T, 11), Some(None));
        assert_eq!(attempt(&claims, 2, 20), Attempt::Granted);
        assert_eq!(claims.is_lost(1, &T, 12), Some(Some("run 2".to_owned())));
        // It is told when the other is done.
        assert_eq!(claims.release(2, &T, 20, None), [ended(1, 12)]);
        // Giving back what it no longer has changes nothing, but for that.
        assert_eq!(claims.release(1, &T, 10, None), []);
        assert_eq!(claims.is_lost(1, &T, 13), None);
    }

    #[test]
    fn a_new_host_grants_nothing_before_the_others_are_back() {
        let claims = claims(&[1]);
        claims.freeze();
        let other = Trace::from_bytes([2; 32]);
        claims.expect("token 2", "run 2", false, T, 20);
        assert_eq!(attempt(&claims, 1, 10), held("run 2"));
        assert_eq!(claims.attempt(1, "run 1", other, 11), Attempt::Held(None));
        claims.enter(2, "token 2", "run 2", &[(T, 20)]);
        assert_eq!(claims.thaw(), [ended(1, 11)]);
        assert_eq!(claims.attempt(1, "run 1", other, 11), Attempt::Granted);
        assert_eq!(claims.release(2, &T, 20, None), [ended(1, 10)]);
    }

    #[test]
    fn a_host_that_is_going_hands_nothing_on() {
        let claims = claims(&[1, 2]);
        assert_eq!(attempt(&claims, 1, 10), Attempt::Granted);
        assert_eq!(attempt(&claims, 2, 20), held("run 1"));
        claims.close();
        assert_eq!(claims.leave(1), []);
        assert_eq!(attempt(&claims, 2, 20), Attempt::Held(None));
    }

    #[test]
    fn those_who_wait_for_one_that_is_stopped_are_told_so_and_when_it_goes_on() {
        let claims = claims(&[1]);
        claims.expect("token 2", "run 2", true, T, 20);
        assert_eq!(attempt(&claims, 1, 10), held("the stopped run 2"));
        assert_eq!(claims.enter(2, "token 2", "run 2", &[(T, 20)]), [ended(1, 10)]);
        assert_eq!(attempt(&claims, 1, 10), held("run 2"));
        // It says so once: another user of the same process has nothing of it.
        assert_eq!(claims.enter(3, "token 2", "run 2", &[]), []);
        assert_eq!(claims.release(2, &T, 20, None), [ended(1, 10)]);
    }

    #[test]
    fn a_process_whose_users_come_back_one_by_one_keeps_what_its_file_lists() {
        let claims = claims(&[1]);
        let other = Trace::from_bytes([2; 32]);
        claims.expect("token 2", "run 2", false, T, 20);
        claims.expect("token 2", "run 2", false, other, 21);
        claims.enter(2, "token 2", "run 2", &[(other, 21)]);
        assert_eq!(claims.absent(), BTreeSet::from(["token 2".to_owned()]));
        assert_eq!(attempt(&claims, 1, 10), held("run 2"));
        assert_eq!(claims.keep_listed("token 2", &[(T, 20)]), []);
        assert_eq!(claims.keep_listed("token 2", &[]), [ended(1, 10)]);
        assert_eq!(claims.absent(), BTreeSet::new());
        assert_eq!(claims.attempt(1, "run 1", other, 11), held("run 2"));
    }

    #[test]
    fn what_an_absent_process_held_is_given_up_or_lost() {
        let claims = claims(&[1]);
        claims.expect("token 2", "run 2", false, T, 20);
        assert_eq!(attempt(&claims, 1, 10), held("run 2"));
        assert_eq!(claims.give_up("token 2"), [ended(1, 10)]);
        assert_eq!(attempt(&claims, 1, 10), Attempt::Granted);
        claims.enter(2, "token 2", "run 2", &[(T, 20)]);
        assert_eq!(claims.is_lost(2, &T, 21), Some(Some("run 1".to_owned())));
    }
}
