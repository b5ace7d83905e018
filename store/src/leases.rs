//! Who is connected to the host, and what each of them may still read.
//!
//! "It is there" is an answer that its asker acts upon, so the bytes stay as long as the asker does. What a
//! process that the former host served was told is known from its file, until it is back or gone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::claims::Ended;
use crate::digest::{Digest, Trace};
use crate::ids::IdSet;
use crate::processes::Listed;
use crate::sync::{Mutex, MutexGuard};
use crate::times::SILENCE;
use crate::wire::{Notice, Opaque};

/// Tells a connection something.
pub(crate) type Notify = Box<dyn Fn(Notice) + Send>;

/// All connections of one host.
pub(crate) struct Connections {
    table: Mutex<Table>,
    last: AtomicU64,
}

#[derive(Default)]
struct Table {
    here: BTreeMap<u64, Connection>,
    /// Processes that live and are not back yet, by their tokens.
    absent: HashMap<String, Absent>,
}

/// What a connection holds on to.
struct Connection {
    owner: String,
    token: String,
    /// Its user; `None` for the host's own process.
    user: Option<u32>,
    /// Results that it was told are present, or committed.
    traces: IdSet<Trace>,
    /// Bytes of results that were replaced while it held on to them.
    blobs: HashSet<Digest>,
    /// When it was heard of; `None` for the host's own process.
    seen: Option<Instant>,
    notify: Notify,
}

struct Absent {
    leases: IdSet<Trace>,
    blobs: HashSet<Digest>,
    since: Instant,
    /// Whether nothing may be granted before it is back.
    awaited: bool,
}

impl Connections {
    pub(crate) fn new() -> Self {
        // One host's numbers mean nothing to another.
        let hash = blake3::hash(crate::blob::token().as_bytes());
        let first = hash.as_bytes().first_chunk::<8>().copied().unwrap_or_default();
        Self { table: Mutex::default(), last: AtomicU64::new(u64::from_le_bytes(first) >> 2) }
    }

    /// The number of a connection that is about to begin.
    pub(crate) fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Lets somebody in, who may have leases already, of results and of bytes that were replaced.
    pub(crate) fn enter(
        &self,
        number: u64,
        owner: &str,
        token: &str,
        (leases, mut blobs): (IdSet<Trace>, HashSet<Digest>),
        user: Option<u32>,
        notify: Notify,
    ) {
        let mut traces = leases;
        let mut table = self.table();
        if let Some(absent) = table.absent.remove(token) {
            traces.extend(absent.leases);
            blobs.extend(absent.blobs);
        }
        let connection = Connection {
            owner: owner.to_owned(),
            token: token.to_owned(),
            user,
            traces,
            blobs,
            seen: user.map(|_| Instant::now()),
            notify,
        };
        table.here.insert(number, connection);
    }

    /// Forgets a connection.
    pub(crate) fn leave(&self, number: u64) {
        self.table().here.remove(&number);
    }

    /// What others are told about a connection.
    pub(crate) fn owner(&self, number: u64) -> String {
        self.table().here.get(&number).map(|here| here.owner.clone()).unwrap_or_default()
    }

    /// Whether this is a connection of the process with this token, which is this user's.
    pub(crate) fn is_of(&self, number: u64, token: &str, user: Option<u32>) -> bool {
        self.table().here.get(&number).is_some_and(|here| here.token == token && here.user == user)
    }

    /// The user at the other end of a connection; `None` where that is the host's own process.
    pub(crate) fn user(&self, number: u64) -> Option<u32> {
        self.table().here.get(&number).and_then(|here| here.user)
    }

    /// Tells those who left tickets.
    pub(crate) fn tell(&self, ended: Vec<Ended>) {
        if ended.is_empty() {
            return;
        }
        let table = self.table();
        for Ended { connection, ticket, failure } in ended {
            if let Some(here) = table.here.get(&connection) {
                (here.notify)(Notice::Ended { ticket, failure: failure.map(Opaque) });
            }
        }
    }

    /// A connection was heard of.
    pub(crate) fn heard(&self, number: u64) {
        if let Some(here) = self.table().here.get_mut(&number) {
            here.seen = here.seen.map(|_| Instant::now());
            (here.notify)(Notice::Alive);
        }
    }

    /// A connection asked something: who asks lives, and what it is given it will hear of.
    pub(crate) fn asked(&self, number: u64) {
        if let Some(here) = self.table().here.get_mut(&number) {
            here.seen = here.seen.map(|_| Instant::now());
        }
    }

    /// The host itself was stopped: nobody could be heard.
    pub(crate) fn forgive(&self) {
        let mut table = self.table();
        for here in table.here.values_mut() {
            here.seen = here.seen.map(|_| Instant::now());
        }
        for absent in table.absent.values_mut() {
            absent.since = Instant::now();
        }
    }

    /// The connections that were not heard of for too long.
    pub(crate) fn silent(&self) -> HashSet<u64> {
        let is_silent = |here: &Connection| here.seen.is_some_and(|seen| seen.elapsed() > SILENCE.get());
        let table = self.table();
        table.here.iter().filter(|(_, here)| is_silent(here)).map(|(number, _)| *number).collect()
    }

    // Those who are not back yet.

    /// Notes a process that the former host served, and the bytes of replaced results that it may still read.
    pub(crate) fn expect(&self, token: &str, listed: &Listed, blobs: HashSet<Digest>) {
        let leases = listed.leases.clone();
        let absent = Absent { leases, blobs, since: Instant::now(), awaited: !listed.stopped };
        self.table().absent.insert(token.to_owned(), absent);
    }

    /// The processes that are not back, and for how long.
    pub(crate) fn absent(&self) -> Vec<(String, Duration)> {
        self.table().absent.iter().map(|(token, absent)| (token.clone(), absent.since.elapsed())).collect()
    }

    /// Whether a process is not back.
    pub(crate) fn is_absent(&self, token: &str) -> bool {
        self.table().absent.contains_key(token)
    }

    /// Whether none of the connections of a process was heard of for too long.
    pub(crate) fn is_silent(&self, token: &str) -> bool {
        let table = self.table();
        let mut of_it = table.here.values().filter(|here| here.token == token);
        of_it.all(|here| here.seen.is_some_and(|seen| seen.elapsed() > SILENCE.get()))
    }

    /// Whether nothing may be granted because somebody is to be back within this time.
    pub(crate) fn awaits(&self, patience: Duration) -> bool {
        self.table().absent.values().any(|absent| absent.awaited && absent.since.elapsed() < patience)
    }

    /// Forgets a process that is gone.
    pub(crate) fn give_up(&self, token: &str) {
        self.table().absent.remove(token);
    }

    // Leases.

    pub(crate) fn lease(&self, number: u64, traces: impl Iterator<Item = Trace>) {
        if let Some(here) = self.table().here.get_mut(&number) {
            // Most that are asked about are there: room is made once, not again and again.
            here.traces.reserve(traces.size_hint().1.unwrap_or(0));
            here.traces.extend(traces);
        }
    }

    /// Whoever was told that a result is present may still read its bytes after it was replaced.
    pub(crate) fn keep_bytes(&self, trace: &Trace, blobs: &std::collections::BTreeSet<Digest>) {
        for here in self.table().here.values_mut() {
            if here.traces.contains(trace) {
                here.blobs.extend(blobs);
            }
        }
    }

    /// Whether a process that lives was told that this result is present.
    pub(crate) fn is_leased(&self, trace: &Trace) -> bool {
        let table = self.table();
        table.here.values().any(|here| here.traces.contains(trace))
            || table.absent.values().any(|absent| absent.leases.contains(trace))
    }

    /// Whether a process that lives may still read one of these blobs, of a result that was replaced.
    pub(crate) fn is_any_leased(&self, digests: &[Digest]) -> bool {
        let table = self.table();
        let mut held = table.here.values().map(|here| &here.blobs);
        let mut absent = table.absent.values().map(|absent| &absent.blobs);
        let any = |blobs: &HashSet<Digest>| {
            !blobs.is_empty() && digests.iter().any(|digest| blobs.contains(digest))
        };
        held.any(any) || absent.any(any)
    }

    /// Whether any such bytes are held on to.
    pub(crate) fn is_anything_leased(&self) -> bool {
        let table = self.table();
        let mut all = table.here.values().map(|here| &here.blobs);
        all.any(|blobs| !blobs.is_empty()) || table.absent.values().any(|absent| !absent.blobs.is_empty())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that was stopped for nearly as long as that takes was given a share before it had said that it lives, and lost it again
    /// with the next look.
    #[test]
    fn who_asks_something_is_not_silent() {
        let connections = Connections::new();
        let [number, other] = [0, 1].map(|user| {
            let number = connections.number();
            connections.enter(number, "run", "token", Default::default(), Some(user), Box::new(|_| {}));
            number
        });
        for here in connections.table().here.values_mut() {
            here.seen = Instant::now().checked_sub(SILENCE.get() + Duration::from_secs(1));
        }
        assert_eq!(connections.silent(), HashSet::from([number, other]));
        connections.asked(number);
        assert_eq!(connections.silent(), HashSet::from([other]));
        connections.heard(other);
        assert_eq!(connections.silent(), HashSet::new());
    }
}
