//! Who uses how much of each named limit: never more than there is, all that one needs at once or none of it.
//!
//! Lives in the host's memory alone, as claims do. A share belongs to a connection; when that goes, so do its
//! shares. Whoever cannot be given all that it asks for leaves a *ticket*, keeps its place in the queue, and is told
//! when its share is there; nobody waits in here. Since a share is asked for whole, and nothing else is waited for
//! by whoever has one, nobody waits in a circle.
//!
//! A process that is stopped uses no cores, and those of one that has been silent for long are given on. All else it
//! has still: its memory, its card, its licence. What a process has of that stands in its file, so that it is known
//! to a host that it has not entered at (but for what there was no room on the disk to write there).
//!
//! Fairness: the queue is gone through in its order. One that has to wait keeps what it *lacks* from all behind it;
//! what it could have, others may use meanwhile, until it was passed by [`PATIENCE`] times: from then on all that it
//! needs is kept for it. So nobody is passed by for ever, and a limit that one waits for leaves the others busy. For one
//! that waits for what a stopped process has, nothing is kept: it may be hours.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use crate::claims::{Ended, Holder, named};
use crate::sync::{Mutex, MutexGuard};

/// How often one that waits is passed by before everything that it needs is kept for it.
const PATIENCE: u32 = 16;

/// The name under which cores are shared.
pub const CPUS: &str = "cpus";

/// So much of a named limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    /// The limit.
    pub name: String,
    /// How much of it is used.
    pub amount: u64,
    /// How much there is of it, as far as whoever asks knows. It counts where the store's `config.toml` says nothing:
    /// then there is what the most generous of those says who use or await it; without any, one.
    pub of: Option<u64>,
}

impl Portion {
    /// Whether a process that is stopped has it still.
    pub(crate) fn outlasts_a_stop(&self) -> bool {
        self.name != CPUS
    }
}

/// All shares of one host.
#[derive(Default)]
pub(crate) struct Shares {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// How much there is, where the store says it.
    limits: BTreeMap<String, u64>,
    /// Those who have or await a share, in the order in which they came.
    queue: Vec<Place>,
    alive: HashSet<u64>,
    /// Whether nothing is given yet.
    frozen: bool,
    /// Whether nothing is given any more: the host is going.
    closed: bool,
}

struct Place {
    by: Holder,
    ticket: u64,
    owner: String,
    portions: Vec<Portion>,
    given: bool,
    /// Whether whoever has it was told so in an answer, and not in a notice alone, which one that is stopped does not hear.
    taken: bool,
    /// Whether whoever has it was not heard of for long, or said that it would be stopped.
    silent: bool,
    /// How often one behind it was given something that it needs.
    passed: u32,
}

/// What became of an attempt to take a share.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Given,
    /// These limits lack; this one uses them. The ticket is noted.
    Lacks(Vec<String>, String),
    /// The connection that asks is gone.
    Gone,
}

/// Who has all of it while nothing is given.
const FORMER: &str = "a process that is expected back";

/// Who has all of it while the host is going.
const NEXT: &str = "the next host";

impl Shares {
    pub(crate) fn new(limits: BTreeMap<String, u64>) -> Self {
        Self { table: Mutex::new(Table { limits, ..Table::default() }) }
    }

    /// Gives nothing until [`Shares::thaw`].
    pub(crate) fn freeze(&self) {
        self.table().frozen = true;
    }

    /// Gives nothing any more: what connections that end now have, they have at the next host.
    pub(crate) fn close(&self) {
        self.table().closed = true;
    }

    /// Begins to give.
    pub(crate) fn thaw(&self) -> Vec<Ended> {
        let mut table = self.table();
        table.frozen = false;
        table.settle()
    }

    /// Notes what a process that is not here yet has; what it has here already, it has once.
    pub(crate) fn expect(&self, token: &str, owner: &str, stopped: bool, held: &[(u64, Vec<Portion>)]) {
        let mut table = self.table();
        let absent = Holder::Absent(token.to_owned());
        for (ticket, portions) in held {
            match table.queue.iter_mut().find(|place| place.ticket == *ticket) {
                // What was read of it before was not yet written to its end.
                Some(place) if place.by == absent => place.portions.clone_from(portions),
                Some(_) => {}
                None => table.hold(absent.clone(), owner, stopped, *ticket, portions),
            }
        }
    }

    /// The processes that have something and are not here, or not with the user that has it.
    pub(crate) fn absent(&self) -> BTreeSet<String> {
        let token = |place: &Place| match &place.by {
            Holder::Absent(token) => Some(token.clone()),
            Holder::Connection(_) => None,
        };
        self.table().queue.iter().filter_map(token).collect()
    }

    /// Gives back what a process had that did not come back, but for what is listed.
    pub(crate) fn keep_listed(&self, token: &str, listed: &[(u64, Vec<Portion>)]) -> Vec<Ended> {
        let absent = Holder::Absent(token.to_owned());
        let stays = |place: &Place| listed.iter().any(|(ticket, _)| *ticket == place.ticket);
        self.table().drop_where(|place| place.by == absent && !stays(place))
    }

    /// A connection begins, with the shares that its process has already.
    pub(crate) fn enter(&self, connection: u64, token: &str, owner: &str, held: &[(u64, Vec<Portion>)]) {
        let mut table = self.table();
        table.alive.insert(connection);
        let absent = Holder::Absent(token.to_owned());
        for (ticket, portions) in held {
            table.queue.retain(|place| (&place.by, place.ticket) != (&absent, *ticket));
            table.hold(Holder::Connection(connection), owner, false, *ticket, portions);
        }
    }

    /// Takes a share, or a place in the queue. Asking again under a ticket changes nothing. Others may be given
    /// theirs by it: whoever asks may know that there is more.
    pub(crate) fn take(
        &self,
        connection: u64,
        owner: &str,
        ticket: u64,
        portions: Vec<Portion>,
    ) -> (Taken, Vec<Ended>) {
        let mut table = self.table();
        if table.closed {
            return (Taken::Lacks(Vec::new(), NEXT.to_owned()), Vec::new());
        }
        if !table.alive.contains(&connection) {
            return (Taken::Gone, Vec::new());
        }
        let mut ended = Vec::new();
        if table.place(connection, ticket).is_none() {
            let owner = owner.to_owned();
            let by = Holder::Connection(connection);
            let (given, taken, silent, passed) = (false, false, false, 0);
            table.queue.push(Place { by, ticket, owner, portions, given, taken, silent, passed });
            ended = table.settle();
            // Whoever asks is told by the answer.
            ended.retain(|ended| (ended.connection, ended.ticket) != (connection, ticket));
        }
        let place = table.queue.iter_mut().find(|place| place.is_of(connection) && place.ticket == ticket);
        if let Some(place) = place.filter(|place| place.given) {
            place.taken = true;
        }
        let taken = match table.place(connection, ticket) {
            Some(place) if place.given => Taken::Given,
            Some(_) if table.frozen => Taken::Lacks(Vec::new(), FORMER.to_owned()),
            Some(place) => table.lacks(place),
            None => Taken::Gone,
        };
        (taken, ended)
    }

    /// Gives a share, or a place in the queue, back. One that is not held (any longer) is passed over.
    pub(crate) fn give_back(&self, connection: u64, ticket: u64) -> Vec<Ended> {
        self.table().drop_where(|place| place.is_of(connection) && place.ticket == ticket)
    }

    /// Gives on the cores that silent connections have, and all that was given to one that has not asked for it since. A
    /// place in the queue of one that cannot take what it waits for is given up; it is told so, and asks again when it
    /// goes on.
    pub(crate) fn hand_on(&self, silent: &HashSet<u64>) -> Vec<Ended> {
        let mut table = self.table();
        if table.closed {
            return Vec::new();
        }
        let (mut ended, mut changed) = (Vec::new(), false);
        table.queue.retain_mut(|place| {
            let Holder::Connection(connection) = place.by else { return true };
            place.silent = silent.contains(&connection);
            if !place.silent {
                return true;
            }
            let before = place.portions.len();
            place.portions.retain(Portion::outlasts_a_stop);
            let stays = place.taken && !place.portions.is_empty();
            changed |= !stays || place.portions.len() < before;
            if !stays {
                ended.push(Ended { connection, ticket: place.ticket, failure: None });
            }
            stays
        });
        if changed {
            ended.extend(table.settle());
        }
        ended
    }

    /// Gives back all that a connection had that is gone.
    pub(crate) fn leave(&self, connection: u64) -> Vec<Ended> {
        let mut table = self.table();
        table.alive.remove(&connection);
        table.drop_where(|place| place.is_of(connection))
    }

    /// A table that a panicking thread left behind is still whole: no change of it panics half-way.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whether what it has may stay its own for hours, in which it gives nothing back.
    fn is_away(&self) -> bool {
        self.given && (self.silent || matches!(self.by, Holder::Absent(_)))
    }

    fn is_of(&self, connection: u64) -> bool {
        self.by == Holder::Connection(connection)
    }
}

impl Table {
    fn place(&self, connection: u64, ticket: u64) -> Option<&Place> {
        self.queue.iter().find(|place| place.is_of(connection) && place.ticket == ticket)
    }

    /// Notes what somebody has.
    fn hold(&mut self, by: Holder, owner: &str, silent: bool, ticket: u64, portions: &[Portion]) {
        let (owner, portions) = (owner.to_owned(), portions.to_vec());
        let (given, taken, passed) = (true, true, 0);
        self.queue.push(Place { by, ticket, owner, portions, given, taken, silent, passed });
    }

    fn drop_where(&mut self, goes: impl Fn(&Place) -> bool) -> Vec<Ended> {
        if self.closed {
            return Vec::new();
        }
        let before = self.queue.len();
        self.queue.retain(|place| !goes(place));
        if self.queue.len() == before { Vec::new() } else { self.settle() }
    }

    /// How much there is of a limit.
    fn capacity(&self, name: &str) -> u64 {
        self.limits.get(name).copied().unwrap_or_else(|| {
            let all = self.queue.iter().flat_map(|place| &place.portions);
            all.filter(|portion| portion.name == name).filter_map(|portion| portion.of).max().unwrap_or(1)
        })
    }

    /// What a portion comes to: who needs more than there is needs all of it.
    fn amount(&self, portion: &Portion) -> u64 {
        portion.amount.min(self.capacity(&portion.name))
    }

    /// How much of each limit is used by those of which this holds.
    fn used_by(&self, which: impl Fn(&Place) -> bool) -> BTreeMap<String, u64> {
        let mut used = BTreeMap::new();
        let places = self.queue.iter().filter(|place| place.given && which(place));
        for portion in places.flat_map(|place| &place.portions) {
            let used: &mut u64 = used.entry(portion.name.clone()).or_default();
            *used = used.saturating_add(self.amount(portion));
        }
        used
    }

    /// Whether a portion is to be had where so much is used.
    fn is_free(&self, portion: &Portion, used: &BTreeMap<String, u64>) -> bool {
        let used = used.get(&portion.name).copied().unwrap_or(0);
        used.saturating_add(self.amount(portion)) <= self.capacity(&portion.name)
    }

    /// Gives whoever can be given something what it needs, and says who is to be told.
    fn settle(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        if self.frozen || self.closed || self.queue.iter().all(|place| place.given) {
            return ended;
        }
        let mut used = self.used_by(|_| true);
        let away = self.used_by(Place::is_away);
        // Those that wait, and what they need: who is given some of it passes them by.
        let mut waiting: Vec<usize> = Vec::new();
        for index in 0..self.queue.len() {
            let place = &self.queue[index];
            if place.given {
                continue;
            }
            // What is kept for one that waits for somebody who is stopped would be nobody's for as long as that lasts.
            if !place.portions.iter().all(|portion| self.is_free(portion, &away)) {
                continue;
            }
            let fits = place.portions.iter().all(|portion| self.is_free(portion, &used));
            let whole = fits || place.passed >= PATIENCE;
            let taken: Vec<(String, u64)> = place
                .portions
                .iter()
                .filter(|portion| whole || !self.is_free(portion, &used))
                .map(|portion| (portion.name.clone(), self.amount(portion)))
                .collect();
            if fits {
                for &before in &waiting {
                    let needs = |name: &str| self.queue[before].portions.iter().any(|p| p.name == name);
                    let passed = taken.iter().any(|(name, amount)| *amount > 0 && needs(name));
                    self.queue[before].passed += u32::from(passed);
                }
                let place = &mut self.queue[index];
                place.given = true;
                // Nobody waits who is not here.
                if let Holder::Connection(connection) = place.by {
                    ended.push(Ended { connection, ticket: place.ticket, failure: None });
                }
            } else {
                waiting.push(index);
            }
            for (name, amount) in taken {
                let used: &mut u64 = used.entry(name).or_default();
                *used = used.saturating_add(amount);
            }
        }
        ended
    }

    /// What lacks for one that waits, and who has it: of each limit the first of them.
    fn lacks(&self, waits: &Place) -> Taken {
        let used = self.used_by(|_| true);
        let lacks = |portion: &&Portion| !self.is_free(portion, &used);
        let mut names: Vec<String> =
            waits.portions.iter().filter(lacks).map(|portion| portion.name.clone()).collect();
        if names.is_empty() {
            // It is all there, and kept for those before it.
            names = waits.portions.iter().map(|portion| portion.name.clone()).collect();
        }
        let mut by: Vec<String> = Vec::new();
        for name in &names {
            let uses = |portion: &Portion| portion.amount > 0 && portion.name == *name;
            let is_other = |place: &&Place| (&place.by, place.ticket) != (&waits.by, waits.ticket);
            let first = self.queue.iter().filter(is_other).find(|place| place.portions.iter().any(uses));
            let Some(first) = first else { continue };
            let owner = named(&first.owner, first.silent);
            if !by.contains(&owner) {
                by.push(owner);
            }
        }
        Taken::Lacks(names, by.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `gpu 1 of 2, cpus 4`
    fn portions(text: &str) -> Vec<Portion> {
        let number = |text: &str| text.parse().expect("a number");
        text.split(", ")
            .map(|text| {
                let words: Vec<&str> = text.split(' ').collect();
                let of = words.get(3).map(|of| number(of));
                Portion { name: words[0].to_owned(), amount: number(words[1]), of }
            })
            .collect()
    }

    struct Check {
        shares: Shares,
        said: Vec<String>,
    }

    impl Check {
        fn new(limits: &[(&str, u64)], connections: &[u64]) -> Self {
            let limits = limits.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect();
            let shares = Shares::new(limits);
            for connection in connections {
                shares.enter(*connection, &token(*connection), &who(*connection), &[]);
            }
            Self { shares, said: Vec::new() }
        }

        fn take(&mut self, connection: u64, ticket: u64, text: &str) {
            let (taken, ended) = self.shares.take(connection, &who(connection), ticket, portions(text));
            self.said.push(match taken {
                Taken::Given => format!("{ticket} has {text}"),
                Taken::Lacks(lacks, by) => format!("{ticket} lacks {} of {by}", lacks.join(" and ")),
                Taken::Gone => format!("{ticket} is gone"),
            });
            self.told(ended);
        }

        fn give_back(&mut self, connection: u64, ticket: u64) {
            let ended = self.shares.give_back(connection, ticket);
            self.said.push(format!("{ticket} gives back"));
            self.told(ended);
        }

        fn hand_on(&mut self, silent: &[u64]) {
            let ended = self.shares.hand_on(&silent.iter().copied().collect());
            self.told(ended);
        }

        fn told(&mut self, ended: Vec<Ended>) {
            self.said.extend(ended.iter().map(|ended| format!("{} is told", ended.ticket)));
        }

        fn said(&self, expected: &[&str]) {
            assert_eq!(self.said, expected);
        }
    }

    fn who(connection: u64) -> String {
        format!("run {connection}")
    }

    fn token(connection: u64) -> String {
        format!("token {connection}")
    }

    #[test]
    fn what_nobody_says_how_much_there_is_of_there_is_one_of() {
        let mut check = Check::new(&[], &[1, 2]);
        check.take(1, 10, "gpu 1");
        check.take(1, 10, "gpu 1");
        check.take(2, 20, "gpu 1");
        check.give_back(1, 10);
        check.take(2, 20, "gpu 1");
        check.said(&[
            "10 has gpu 1",
            "10 has gpu 1",
            "20 lacks gpu of run 1",
            "10 gives back",
            "20 is told",
            "20 has gpu 1",
        ]);
    }

    #[test]
    fn what_the_store_says_counts_and_else_what_the_most_generous_says() {
        let mut check = Check::new(&[("gpu", 2)], &[1, 2]);
        check.take(1, 10, "gpu 2 of 4");
        check.take(2, 20, "gpu 1 of 4");
        check.take(1, 11, "net 1");
        check.take(2, 21, "net 1");
        check.take(2, 22, "net 1 of 3");
        check.said(&[
            "10 has gpu 2 of 4",
            "20 lacks gpu of run 1",
            "11 has net 1",
            "21 lacks net of run 1",
            "22 has net 1 of 3",
            "21 is told",
        ]);
    }

    #[test]
    fn all_is_given_at_once_or_nothing() {
        let mut check = Check::new(&[("a", 1), ("b", 1)], &[1, 2, 3]);
        check.take(1, 10, "a 1");
        check.take(2, 20, "a 1, b 1");
        // 20 has nothing of `b`: it is free for others.
        check.take(3, 30, "b 1");
        check.give_back(1, 10);
        check.give_back(3, 30);
        check.said(&[
            "10 has a 1",
            "20 lacks a of run 1",
            "30 has b 1",
            "10 gives back",
            "30 gives back",
            "20 is told",
        ]);
    }

    #[test]
    fn who_needs_more_than_there_is_gets_all_and_is_alone() {
        let mut check = Check::new(&[("cpus", 2)], &[1, 2]);
        check.take(1, 10, "cpus 64");
        check.take(2, 20, "cpus 1");
        check.give_back(1, 10);
        check.said(&["10 has cpus 64", "20 lacks cpus of run 1", "10 gives back", "20 is told"]);
    }

    #[test]
    fn a_big_one_is_not_passed_by_for_ever() {
        // What it lacks is kept for it.
        let mut check = Check::new(&[("cpus", 2)], &[1, 2]);
        check.take(1, 10, "cpus 1");
        check.take(2, 20, "cpus 2");
        check.take(1, 11, "cpus 1");
        check.give_back(1, 10);
        check.give_back(2, 20);
        check.said(&[
            "10 has cpus 1",
            "20 lacks cpus of run 1",
            "11 lacks cpus of run 1",
            "10 gives back",
            "20 is told",
            "20 gives back",
            "11 is told",
        ]);
        // And of two limits, of which one or the other always lacks, both, once it was passed by often enough.
        let mut check = Check::new(&[("a", 1), ("b", 1)], &[1, 2]);
        check.take(1, 0, "a 1");
        check.take(2, 999, "a 1, b 1");
        let mut given = 0;
        for ticket in 1..100 {
            let limit = if ticket % 2 == 1 { "b 1" } else { "a 1" };
            check.take(1, ticket, limit);
            check.give_back(1, ticket - 1);
            check.shares.give_back(1, ticket + 1000);
            given = ticket;
            if check.said.iter().any(|said| said == "999 is told") {
                break;
            }
        }
        assert!(given <= u64::from(PATIENCE) + 2, "{given}");
    }

    #[test]
    fn what_a_dead_one_had_is_free_and_what_it_awaited_is_forgotten() {
        let mut check = Check::new(&[], &[1, 2, 3]);
        check.take(1, 10, "gpu 1");
        check.take(2, 20, "gpu 1");
        check.take(3, 30, "gpu 1");
        let ended = check.shares.leave(2);
        check.told(ended);
        let ended = check.shares.leave(1);
        check.told(ended);
        check.take(1, 11, "gpu 1");
        check.said(&[
            "10 has gpu 1",
            "20 lacks gpu of run 1",
            "30 lacks gpu of run 1",
            "30 is told",
            "11 is gone",
        ]);
    }

    #[test]
    fn of_what_a_silent_one_has_its_cores_are_given_on_and_all_else_stays() {
        let mut check = Check::new(&[("cpus", 1)], &[1, 2, 3]);
        check.take(1, 10, "cpus 1, gpu 1");
        check.take(2, 20, "cpus 1");
        check.take(2, 21, "gpu 1");
        check.hand_on(&[1]);
        // Nothing is told twice.
        check.hand_on(&[1]);
        check.take(3, 30, "gpu 1");
        // It gives back what it has no longer, and what it has.
        check.give_back(1, 10);
        check.said(&[
            "10 has cpus 1, gpu 1",
            "20 lacks cpus of run 1",
            "21 lacks gpu of run 1",
            "20 is told",
            "30 lacks gpu of the stopped run 1",
            "10 gives back",
            "21 is told",
        ]);
    }

    #[test]
    fn what_a_silent_one_was_given_and_did_not_take_is_given_on_and_so_is_its_place() {
        let mut check = Check::new(&[], &[1, 2, 3, 4]);
        check.take(4, 40, "gpu 1");
        check.take(1, 10, "gpu 1");
        check.take(2, 20, "gpu 1");
        check.take(3, 30, "gpu 1");
        check.give_back(4, 40);
        // 10 was stopped before it heard that it has it, and 20 waits no longer.
        check.hand_on(&[1, 2]);
        check.take(1, 10, "gpu 1");
        check.take(2, 20, "gpu 1");
        check.take(3, 30, "gpu 1");
        // This one heard of it.
        check.hand_on(&[3]);
        check.said(&[
            "40 has gpu 1",
            "10 lacks gpu of run 4",
            "20 lacks gpu of run 4",
            "30 lacks gpu of run 4",
            "40 gives back",
            "10 is told",
            "10 is told",
            "20 is told",
            "30 is told",
            "10 lacks gpu of run 3",
            "20 lacks gpu of run 3",
            "30 has gpu 1",
        ]);
    }

    #[test]
    fn nothing_is_kept_for_one_that_waits_for_somebody_who_is_stopped() {
        let mut check = Check::new(&[("cpus", 2)], &[1, 2, 3]);
        check.take(1, 10, "gpu 1");
        check.hand_on(&[1]);
        check.take(2, 20, "gpu 1, cpus 2");
        for ticket in 100..140 {
            check.take(3, ticket, "cpus 1");
            if ticket > 100 {
                check.give_back(3, ticket - 1);
            }
        }
        assert_eq!(check.said.iter().filter(|said| said.ends_with("has cpus 1")).count(), 40);
        // It goes on, and what it has is waited for as ever.
        check.hand_on(&[]);
        check.give_back(1, 10);
        check.take(3, 200, "cpus 1");
        check.give_back(3, 139);
        check.said.drain(..check.said.len() - 4);
        check.said(&["10 gives back", "200 lacks cpus of run 2", "139 gives back", "20 is told"]);
    }

    #[test]
    fn what_one_has_who_is_not_here_is_not_given_until_it_is_gone_or_gives_it_back() {
        let mut check = Check::new(&[], &[1, 2]);
        let held = [(70, portions("gpu 1")), (71, portions("net 1"))];
        check.shares.expect("seven", "run 7", true, &held);
        check.shares.expect("seven", "run 7", true, &held);
        check.shares.expect("eight", "run 8", false, &[(80, portions("disk 1"))]);
        assert_eq!(Vec::from_iter(check.shares.absent()), ["eight", "seven"]);
        check.take(1, 10, "gpu 1");
        check.take(1, 11, "gpu 1, net 1, disk 1");
        check.take(1, 12, "disk 1");
        // It comes with one of the two; the other is another user's in the same process, who gave it back.
        check.shares.enter(3, "seven", "run 7", &held[..1]);
        let ended = check.shares.keep_listed("seven", &held[..1]);
        check.told(ended);
        check.take(2, 20, "net 1");
        // A process that is gone lists nothing.
        let ended = check.shares.keep_listed("eight", &[]);
        check.told(ended);
        check.give_back(3, 70);
        check.said(&[
            "10 lacks gpu of the stopped run 7",
            "11 lacks gpu and net and disk of the stopped run 7 and run 8",
            "12 lacks disk of run 8",
            "20 has net 1",
            "12 is told",
            "70 gives back",
            "10 is told",
        ]);
    }

    #[test]
    fn a_new_host_gives_nothing_before_the_others_are_back_with_what_they_have() {
        let mut check = Check::new(&[], &[1]);
        check.shares.freeze();
        check.take(1, 10, "gpu 1");
        check.shares.enter(2, "two", "run 2", &[(20, portions("gpu 1"))]);
        let ended = check.shares.thaw();
        check.told(ended);
        check.take(1, 10, "gpu 1");
        check.give_back(2, 20);
        check.shares.close();
        check.take(2, 21, "gpu 1");
        check.said(&[
            "10 lacks  of a process that is expected back",
            "10 lacks gpu of run 2",
            "20 gives back",
            "10 is told",
            "21 lacks  of the next host",
        ]);
    }
}
