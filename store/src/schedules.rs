//! The host's commits, claims, leases and collections in orders that a tester chooses.
//!
//! What answers requests is the real thing, with an index and files in a folder; only the locks that its threads meet
//! at are the tester's (`sync.rs`). At each of their operations it decides who goes on, and it says so when nobody can:
//! a wake-up that was lost is a deadlock here. A failure prints the schedule that led to it.
//!
//! `cargo test --release -p cas-store --features schedules --lib schedules::`; `CAS_SCHEDULES` is how many orders are
//! tried.

mod shares;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::mpsc::{Receiver, channel};
use shuttle::{Config, Runner, thread};

use crate::blob::Files;
use crate::collect::{Mode, Policy};
use crate::commit::Put;
use crate::digest::{Digest, Trace, Version};
use crate::folder::Folder;
use crate::guests::Newcomer;
use crate::host::{Core, Host};
use crate::index::Expect;
use crate::layout::Layout;
use crate::processes::ProcessFile;
use crate::record::{Found, Output};
use crate::stage::Staged;
use crate::store::{Create, announced};
use crate::wire::{CommitMessage, Notice, Opaque, Request, Response};

/// Of two kinds each: any order, and orders with few changes of who goes on, where those matter most.
const ORDERS: usize = 30;

const TRACE: Trace = Trace::from_bytes([1; 32]);
const OTHER: Trace = Trace::from_bytes([2; 32]);

/// Tries something in many orders.
fn check(what: impl Fn() + Send + Sync + 'static) {
    let orders = std::env::var("CAS_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(ORDERS);
    let what = Arc::new(what);
    let config = || {
        let mut config = Config::new();
        // An index is opened and read on these stacks.
        config.stack_size = 4 << 20;
        config
    };
    let any = Arc::clone(&what);
    Runner::new(RandomScheduler::new(orders), config()).run(move || any());
    Runner::new(PctScheduler::new(3, orders), config()).run(move || what());
}

/// A store of its own with what answers for it, and nobody who serves it.
struct Kit {
    core: Arc<Core>,
    files: Arc<Files>,
    processes: Vec<Option<ProcessFile>>,
    _folder: tempfile::TempDir,
}

impl Kit {
    fn new() -> Self {
        Self::after_a_host(|_| Vec::new())
    }

    /// One whose former host served these processes, which live.
    fn after_a_host(served: impl FnOnce(&Layout) -> Vec<ProcessFile>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(&dir.path().join("store"), Create::IfAbsent).expect("a store");
        let files = Arc::new(Files::new(folder.layout.clone(), 4096));
        let processes = served(&folder.layout).into_iter().map(Some).collect();
        let core =
            Host::open_core(&folder.layout, &folder.id, Expect::Nothing, &|| false, Arc::clone(&files));
        Self { core: Arc::new(core.expect("it opens")), files, processes, _folder: dir }
    }

    /// Somebody who uses the store, and what that one is told.
    fn enter(&self, name: u32) -> (u64, Receiver<Notice>) {
        enter(&self.core, name, &[])
    }

    /// Bytes that lie in a file.
    fn staged(&self) -> Staged {
        self.staged_from(0)
    }

    fn staged_from(&self, first: u32) -> Staged {
        let bytes = (first..first + 6000).flat_map(|number| blake3_byte(number).to_le_bytes());
        self.files.stage_bytes(&bytes.collect::<Vec<u8>>()).expect("it stages")
    }
}

/// Somebody comes, who has claims already.
fn enter(core: &Core, name: u32, claims: &[(Trace, u64)]) -> (u64, Receiver<Notice>) {
    let (say, hear) = channel();
    let notify = Box::new(move |notice| drop(say.send(notice)));
    let (owner, token) = (format!("user {name}"), format!("token-{name}"));
    let newcomer = Newcomer { owner: &owner, token: &token, user: None };
    (core.enter(newcomer, claims, &[], !claims.is_empty(), notify), hear)
}

/// The file of a process that lives and has the store open.
fn process(layout: &Layout, name: u32) -> ProcessFile {
    ProcessFile::create(layout, &format!("token-{name}"), &format!("user {name}")).expect("its file")
}

/// Noise: what does not compress.
fn blake3_byte(number: u32) -> u8 {
    blake3::hash(&number.to_le_bytes()).as_bytes()[0]
}

fn version(trace: Trace) -> Version {
    Version::from_bytes(*trace.as_bytes())
}

fn message(trace: Trace, staged: Option<&Staged>, ticket: u64) -> CommitMessage {
    let artifact = staged.map(|staged| staged.artifact("bytes"));
    CommitMessage {
        trace,
        rows: vec![version(trace)],
        outputs: vec![Output { name: "result".to_owned(), artifact }],
        staged: staged.map(|staged| announced(std::slice::from_ref(staged))).unwrap_or_default(),
        log: None,
        made_ms: 1000,
        cost_ms: 10,
        provenance: Opaque(Vec::new()),
        parents: Vec::new(),
        facts: Vec::new(),
        history: None,
        put: Put::IfAbsent,
        ticket,
    }
}

fn commit(core: &Core, connection: u64, message: CommitMessage) -> bool {
    match core.serve(connection, Request::Commit(Box::new(message))) {
        Response::New | Response::Replaced { .. } | Response::Adopted { .. } => true,
        // Somebody who took it for granted that the bytes are there is told that they are not.
        Response::Failed(_) => false,
        other => panic!("{other:?}"),
    }
}

fn looked_up(core: &Core, connection: u64, trace: Trace) -> Option<Found> {
    match core.serve(connection, Request::Lookup(vec![version(trace)])) {
        Response::Found(mut found) => found.pop().flatten(),
        other => panic!("{other:?}"),
    }
}

/// What becomes of whoever is granted a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Fails,
    /// It is gone, before it has done anything.
    Dies,
}

/// What somebody who wants a result comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Computed,
    Joined,
    ToldOfFailure,
    Failed,
    Died,
}

fn wants(core: &Core, connection: u64, hear: &Receiver<Notice>, fate: Fate, at_work: &AtomicU32) -> End {
    let ticket = 7;
    let mut waited = false;
    loop {
        match core.serve(connection, Request::Claim { trace: TRACE, ticket, waited }) {
            Response::Granted { present: None } => break,
            Response::Granted { present: Some(_) } => {
                core.serve(connection, Request::Release { trace: TRACE, ticket, failure: None });
                return End::Joined;
            }
            Response::Stored(_) => return End::Joined,
            Response::Held { .. } => {}
            other => panic!("{other:?}"),
        }
        waited = true;
        // Nobody comes by to ask again: who is not told waits for ever.
        let Notice::Ended { ticket: of, failure } = hear.recv().expect("somebody has it") else { continue };
        assert_eq!(of, ticket);
        if failure.is_some() {
            return End::ToldOfFailure;
        }
    }
    assert_eq!(at_work.fetch_add(1, SeqCst), 0, "two compute the same");
    thread::yield_now();
    if fate == Fate::Dies {
        // It is no longer at work when others can notice that it is gone.
        at_work.fetch_sub(1, SeqCst);
        core.leave(connection);
        return End::Died;
    }
    if fate == Fate::Done {
        assert!(commit(core, connection, message(TRACE, None, ticket)));
    }
    at_work.fetch_sub(1, SeqCst);
    let failure = (fate == Fate::Fails).then(|| Opaque(b"exit 1".to_vec()));
    core.serve(connection, Request::Release { trace: TRACE, ticket, failure });
    if fate == Fate::Done { End::Computed } else { End::Failed }
}

/// What these three come to, together, in every order.
fn three_want_the_same(fates: [Fate; 3], is_right: fn([End; 3]) -> bool) {
    check(move || {
        let kit = Kit::new();
        let at_work = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..3u32)
            .zip(fates)
            .map(|(name, fate)| {
                let (connection, hear) = kit.enter(name);
                let (core, at_work) = (Arc::clone(&kit.core), Arc::clone(&at_work));
                thread::spawn(move || wants(&core, connection, &hear, fate, &at_work))
            })
            .collect();
        let ends: Vec<End> = threads.into_iter().map(|thread| thread.join().expect("it ends")).collect();
        let ends = <[End; 3]>::try_from(ends).expect("three");
        assert!(is_right(ends), "{ends:?}");
    });
}

fn count(ends: [End; 3], wanted: End) -> usize {
    ends.into_iter().filter(|end| *end == wanted).count()
}

#[test]
fn one_computes_and_the_others_are_given_the_result() {
    three_want_the_same([Fate::Done; 3], |ends| {
        count(ends, End::Computed) == 1 && count(ends, End::Joined) == 2
    });
}

#[test]
fn whoever_dies_is_followed_by_another() {
    three_want_the_same([Fate::Dies, Fate::Done, Fate::Dies], |ends| {
        // The two that may die do so, or came when it was done.
        count(ends, End::Computed) == 1
            && count(ends, End::Computed) + count(ends, End::Joined) + count(ends, End::Died) == 3
            && ends[1] == End::Computed
    });
}

#[test]
fn a_failure_is_told_to_those_who_waited_for_it_and_to_nobody_else() {
    three_want_the_same([Fate::Fails, Fate::Done, Fate::Done], |ends| {
        let told = count(ends, End::ToldOfFailure);
        // Whoever waited while the first was at it has its failure; one who came later computes.
        (told == 0 || ends[0] == End::Failed)
            && count(ends, End::Computed) <= 1
            && (told == 2 || count(ends, End::Computed) == 1)
    });
}

/// Collects all that nobody holds on to; gives how many things went.
fn collect(core: &Core, connection: u64) -> u64 {
    let policy = Policy { max_size_bytes: Some(0), ..Policy::default() };
    let begin = Request::CollectBegin { policy, now_ms: 100_000, mode: Mode::Collect };
    let Response::Number(session) = core.serve(connection, begin) else { panic!("nobody else collects") };
    loop {
        match core.serve(connection, Request::CollectNext { session, limit: 1 }) {
            Response::Collected { done: true, report, .. } => return report.results + report.unnamed,
            Response::Collected { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn is_readable(kit: &Files, core: &Core, found: &Found, digest: &Digest) -> bool {
    let Response::Blobs(mut blobs) = core.serve(0, Request::Blobs(vec![*digest])) else { return false };
    let Some(record) = blobs.pop().flatten() else { return false };
    found.whole() && kit.read(digest, &record, &mut std::io::sink()).is_ok()
}

/// Two commit the same two results, each both together, in other orders.
#[test]
fn of_two_who_commit_the_same_together_one_is_first_with_each() {
    check(|| {
        let kit = Kit::new();
        let threads: Vec<_> = [[TRACE, OTHER], [OTHER, TRACE]]
            .into_iter()
            .zip(0..)
            .map(|(traces, name)| {
                let (connection, _hear) = kit.enter(name);
                let staged = kit.staged();
                let core = Arc::clone(&kit.core);
                thread::spawn(move || {
                    let messages = traces.map(|trace| message(trace, Some(&staged), u64::from(name)));
                    let told =
                        core.serve(connection, Request::CommitAll(std::sync::Arc::new(messages.to_vec())));
                    let Response::All(answers) = told else { panic!("{told:?}") };
                    let is_first = |answer: &Response| match answer {
                        Response::New => true,
                        Response::Adopted { differs: false, .. } => false,
                        other => panic!("{other:?}"),
                    };
                    let first: Vec<bool> = answers.iter().map(is_first).collect();
                    if name == 0 { [first[0], first[1]] } else { [first[1], first[0]] }
                })
            })
            .collect();
        let first: Vec<[bool; 2]> =
            threads.into_iter().map(|thread| thread.join().expect("it ends")).collect();
        assert!(first[0][0] != first[1][0] && first[0][1] != first[1][1], "{first:?}");
        let (reader, _hear) = kit.enter(2);
        for trace in [TRACE, OTHER] {
            assert!(looked_up(&kit.core, reader, trace).is_some_and(|found| found.whole()));
        }
    });
}

#[test]
fn what_was_said_to_be_there_is_not_collected_before_its_asker_leaves() {
    check(|| {
        let kit = Kit::new();
        let staged = kit.staged();
        let digest = staged.artifact("bytes").digest;
        let (maker, _) = kit.enter(0);
        assert!(commit(&kit.core, maker, message(TRACE, Some(&staged), 1)));
        kit.core.leave(maker);
        let (collector, _) = kit.enter(1);
        let (asker, _hear) = kit.enter(2);
        let core = Arc::clone(&kit.core);
        let collects = thread::spawn(move || collect(&core, collector));
        let (core, files) = (Arc::clone(&kit.core), Arc::clone(&kit.files));
        let asks = thread::spawn(move || {
            let found = looked_up(&core, asker, TRACE).expect("its record stays");
            thread::yield_now();
            let there = is_readable(&files, &core, &found, &digest);
            assert_eq!(there, found.whole(), "what was said and what is there");
            there
        });
        let there = asks.join().expect("it ends");
        let went = collects.join().expect("it ends");
        assert_eq!(went == 0, there, "it stays if and only if somebody was told of it");
        // And when that one is gone, it goes.
        kit.core.leave(asker);
        assert_eq!(collect(&kit.core, collector), u64::from(there));
        assert!(looked_up(&kit.core, collector, TRACE).is_some_and(|found| !found.whole()));
    });
}

#[test]
fn a_commit_of_bytes_that_are_just_being_collected_names_bytes_that_are_there() {
    check(|| {
        let kit = Kit::new();
        let (first, second) = (kit.staged(), kit.staged());
        let digest = first.artifact("bytes").digest;
        let (maker, _) = kit.enter(0);
        assert!(commit(&kit.core, maker, message(TRACE, Some(&first), 1)));
        kit.core.leave(maker);
        let (collector, _) = kit.enter(1);
        let (other, _hear) = kit.enter(2);
        let core = Arc::clone(&kit.core);
        let collects = thread::spawn(move || collect(&core, collector));
        let core = Arc::clone(&kit.core);
        // The same bytes, under another trace: they are found there, or brought along.
        let commits = thread::spawn(move || commit(&core, other, message(OTHER, Some(&second), 2)));
        assert!(commits.join().expect("it ends"), "it brought all that it names");
        collects.join().expect("it ends");
        let found = looked_up(&kit.core, other, OTHER).expect("it was acknowledged");
        assert!(is_readable(&kit.files, &kit.core, &found, &digest), "what was acknowledged is there");
    });
}

#[test]
fn of_two_commits_of_one_trace_the_first_wins_and_both_find_it() {
    check(|| {
        let kit = Kit::new();
        let staged = [kit.staged(), kit.staged()];
        let threads: Vec<_> = (0..2u32)
            .zip(staged)
            .map(|(name, staged)| {
                let (connection, _) = kit.enter(name);
                let core = Arc::clone(&kit.core);
                thread::spawn(move || {
                    let answer =
                        core.serve(connection, Request::Commit(Box::new(message(TRACE, Some(&staged), 1))));
                    assert!(looked_up(&core, connection, TRACE).is_some_and(|found| found.whole()));
                    matches!(answer, Response::New)
                })
            })
            .collect();
        let first =
            threads.into_iter().map(|thread| thread.join().expect("it ends")).filter(|new| *new).count();
        assert_eq!(first, 1);
    });
}

/// Somebody who was computing when the former host went, and is done now.
fn finishes(core: &Core, connection: u64, ticket: u64, at_work: &AtomicU32) {
    thread::yield_now();
    assert!(commit(core, connection, message(TRACE, None, ticket)));
    assert_eq!(at_work.fetch_sub(1, SeqCst), 1, "nobody else computed it meanwhile");
    core.serve(connection, Request::Release { trace: TRACE, ticket, failure: None });
}

/// A new host does not know of a claim that the former one granted in its last moment: it is in no file yet. So it
/// grants nothing before everybody is back, and everybody says what is theirs before they count as back.
#[test]
fn a_new_host_grants_nothing_that_somebody_holds_who_is_about_to_come_back() {
    check(|| {
        let kit = Kit::after_a_host(|layout| vec![process(layout, 0), process(layout, 1)]);
        let at_work = Arc::new(AtomicU32::new(1));
        let (core, busy) = (Arc::clone(&kit.core), Arc::clone(&at_work));
        let holds = thread::spawn(move || {
            let (connection, _hear) = enter(&core, 0, &[(TRACE, 3)]);
            finishes(&core, connection, 3, &busy);
        });
        let (core, busy) = (Arc::clone(&kit.core), Arc::clone(&at_work));
        let wants = thread::spawn(move || {
            let (connection, hear) = enter(&core, 1, &[]);
            wants(&core, connection, &hear, Fate::Done, &busy)
        });
        let core = Arc::clone(&kit.core);
        let looks = thread::spawn(move || {
            for _ in 0..3 {
                core.look_around(Duration::ZERO);
                thread::yield_now();
            }
        });
        holds.join().expect("it ends");
        assert_eq!(wants.join().expect("it ends"), End::Joined);
        looks.join().expect("it ends");
        assert!(!kit.core.is_frozen());
    });
}

/// A process that uses the store in two places comes back in two steps; what the second place holds is in the file of
/// the process by then.
#[test]
fn a_process_that_is_back_in_one_place_keeps_what_its_other_place_holds() {
    check(|| {
        let kit = Kit::after_a_host(|layout| vec![process(layout, 0), process(layout, 1)]);
        // Noted after the new host has looked.
        kit.processes[0].as_ref().expect("it lives").claim(&[(TRACE, 3)]);
        let at_work = Arc::new(AtomicU32::new(1));
        let (core, busy) = (Arc::clone(&kit.core), Arc::clone(&at_work));
        let holds = thread::spawn(move || {
            let (_other, _) = enter(&core, 0, &[]);
            thread::yield_now();
            let (connection, _hear) = enter(&core, 0, &[(TRACE, 3)]);
            finishes(&core, connection, 3, &busy);
        });
        let (core, busy) = (Arc::clone(&kit.core), Arc::clone(&at_work));
        let wants = thread::spawn(move || {
            let (connection, hear) = enter(&core, 1, &[]);
            wants(&core, connection, &hear, Fate::Done, &busy)
        });
        let core = Arc::clone(&kit.core);
        let looks = thread::spawn(move || core.look_around(Duration::ZERO));
        holds.join().expect("it ends");
        assert_eq!(wants.join().expect("it ends"), End::Joined);
        looks.join().expect("it ends");
    });
}

/// Nobody waits for ever for a process that the former host served and that is gone.
#[test]
fn whoever_does_not_come_back_is_given_up() {
    check(|| {
        let mut kit = Kit::after_a_host(|layout| {
            let gone = process(layout, 0);
            gone.claim(&[(TRACE, 3)]);
            vec![gone, process(layout, 1)]
        });
        let gone = kit.processes[0].take();
        let at_work = Arc::new(AtomicU32::new(0));
        let core = Arc::clone(&kit.core);
        let wants = thread::spawn(move || {
            let (connection, hear) = enter(&core, 1, &[]);
            wants(&core, connection, &hear, Fate::Done, &at_work)
        });
        let core = Arc::clone(&kit.core);
        let looks = thread::spawn(move || {
            core.look_around(Duration::ZERO);
            thread::yield_now();
            drop(gone);
            core.look_around(Duration::ZERO);
        });
        looks.join().expect("it ends");
        // As it goes on doing.
        kit.core.look_around(Duration::ZERO);
        assert_eq!(wants.join().expect("it ends"), End::Computed);
    });
}

/// What is handed on while its claimant is silent is computed by another; the late result is one more, or it is the
/// first, and never both.
#[test]
fn a_silent_claimant_is_followed_and_one_result_stands() {
    check(|| {
        let kit = Kit::new();
        let (late, other) = (kit.staged_from(0), kit.staged_from(7));
        let (silent, _hear) = kit.enter(0);
        let claim = Request::Claim { trace: TRACE, ticket: 3, waited: false };
        assert!(matches!(kit.core.serve(silent, claim), Response::Granted { present: None }));
        let core = Arc::clone(&kit.core);
        let comes_late = thread::spawn(move || {
            let commit = Request::Commit(Box::new(message(TRACE, Some(&late), 3)));
            let first = match core.serve(silent, commit) {
                Response::New => true,
                Response::Adopted { .. } | Response::Held { .. } => false,
                other => panic!("{other:?}"),
            };
            core.serve(silent, Request::Release { trace: TRACE, ticket: 3, failure: None });
            first
        });
        let (follower, hear) = kit.enter(1);
        let core = Arc::clone(&kit.core);
        let follows = thread::spawn(move || {
            let mut waited = false;
            loop {
                match core.serve(follower, Request::Claim { trace: TRACE, ticket: 4, waited }) {
                    Response::Held { .. } => {}
                    Response::Stored(_) | Response::Granted { present: Some(_) } => return false,
                    Response::Granted { present: None } => break,
                    other => panic!("{other:?}"),
                }
                waited = true;
                while !matches!(hear.recv().expect("somebody has it"), Notice::Ended { ticket: 4, .. }) {}
            }
            let commit = Request::Commit(Box::new(message(TRACE, Some(&other), 4)));
            let first = matches!(core.serve(follower, commit), Response::New);
            core.serve(follower, Request::Release { trace: TRACE, ticket: 4, failure: None });
            first
        });
        let core = Arc::clone(&kit.core);
        let notices = thread::spawn(move || {
            core.connections.tell(core.claims.hand_on(&HashSet::from([silent])));
        });
        let firsts = [comes_late, follows].map(|thread| thread.join().expect("it ends"));
        notices.join().expect("it ends");
        assert_eq!(firsts.iter().filter(|first| **first).count(), 1, "{firsts:?}");
        assert!(looked_up(&kit.core, follower, TRACE).is_some_and(|found| found.whole()));
    });
}

/// Every lock of the host, taken in every way in which two are held at once. Whoever takes two takes them in the order
/// of `docs/architecture.md`, or in some order of these threads none of them can go on.
#[test]
fn whatever_is_asked_at_once_is_answered() {
    check(|| {
        let kit = Kit::new();
        let [first, second] = [kit.staged_from(0), kit.staged_from(7)];
        let digest = first.artifact("bytes").digest;
        let (maker, _) = kit.enter(0);
        assert!(commit(&kit.core, maker, message(TRACE, Some(&first), 1)));
        kit.core.leave(maker);
        let [collector, committer, reporter, claimant] = [1, 2, 3, 4].map(|name| kit.enter(name).0);
        let asks = |what: Box<dyn FnOnce(&Core) + Send>| {
            let core = Arc::clone(&kit.core);
            thread::spawn(move || what(&core))
        };
        let threads = [
            asks(Box::new(move |core| {
                let policy = Policy { max_size_bytes: Some(0), ..Policy::default() };
                let begin = Request::CollectBegin { policy, now_ms: 100_000, mode: Mode::Collect };
                let Response::Number(session) = core.serve(collector, begin) else { return };
                let next = || core.serve(collector, Request::CollectNext { session, limit: 1 });
                while matches!(next(), Response::Collected { done: false, .. }) {}
            })),
            // It may go in the middle of that.
            asks(Box::new(move |core| core.leave(collector))),
            asks(Box::new(move |core| {
                assert!(commit(core, committer, message(OTHER, Some(&second), 2)));
            })),
            asks(Box::new(move |core| {
                let wrong = Request::Lost { digest, why: "somebody says so".to_owned() };
                assert!(matches!(core.serve(reporter, wrong), Response::Flag(_)));
            })),
            asks(Box::new(move |core| {
                let claim = Request::Claim { trace: TRACE, ticket: 5, waited: false };
                assert!(matches!(core.serve(claimant, claim), Response::Granted { .. }));
                core.serve(claimant, Request::Release { trace: TRACE, ticket: 5, failure: None });
                core.look_around(Duration::ZERO);
            })),
        ];
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
        assert!(looked_up(&kit.core, committer, OTHER).is_some_and(|found| found.whole()));
    });
}
