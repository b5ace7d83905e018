//! Shares of a limit of which there is one, and those who have and want it: never two at once, and nobody waits for ever.

use super::*;
use crate::shares::Portion;

fn card() -> Vec<Portion> {
    vec![Portion { name: "gpu".to_owned(), amount: 1, of: None }]
}

/// Somebody comes, who has it already or not.
fn comes(core: &Core, name: u32, ticket: Option<u64>) -> (u64, Receiver<Notice>) {
    let (say, hear) = channel();
    let notify = Box::new(move |notice| drop(say.send(notice)));
    let (owner, token) = (format!("user {name}"), format!("token-{name}"));
    let newcomer = Newcomer { owner: &owner, token: &token, user: None };
    let shares: Vec<_> = ticket.into_iter().map(|ticket| (ticket, card())).collect();
    (core.enter(newcomer, &[], &shares, !shares.is_empty(), notify), hear)
}

/// Whether it is given at once.
fn takes(core: &Core, connection: u64, ticket: u64) -> bool {
    match core.serve(connection, Request::Take { ticket, portions: card() }) {
        Response::Done => true,
        Response::Lacks { .. } => false,
        other => panic!("{other:?}"),
    }
}

/// Waits until it is given, uses it, and gives it back.
fn uses(core: &Core, connection: u64, hear: &Receiver<Notice>, ticket: u64, in_use: &AtomicU32) {
    while !takes(core, connection, ticket) {
        // Nobody comes by to ask again: who is not told waits for ever.
        while !matches!(hear.recv().expect("somebody has it"), Notice::Ended { ticket: of, .. } if of == ticket)
        {
        }
    }
    assert_eq!(in_use.fetch_add(1, SeqCst), 0, "two have it");
    thread::yield_now();
    gives_back(core, connection, ticket, in_use);
}

fn gives_back(core: &Core, connection: u64, ticket: u64, in_use: &AtomicU32) {
    assert_eq!(in_use.fetch_sub(1, SeqCst), 1, "nobody else had it meanwhile");
    core.serve(connection, Request::GiveBack { ticket });
}

#[test]
fn of_three_who_want_it_one_has_it_at_a_time() {
    check(|| {
        let kit = Kit::new();
        let in_use = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..3)
            .map(|name| {
                let (connection, hear) = comes(&kit.core, name, None);
                let (core, in_use) = (Arc::clone(&kit.core), Arc::clone(&in_use));
                thread::spawn(move || uses(&core, connection, &hear, 7, &in_use))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    });
}

/// Who has it comes back to a new host in two places, of which the second has it; it may stand in the file of the process.
#[test]
fn a_new_host_gives_nothing_that_somebody_has_who_is_about_to_come_back() {
    for is_noted in [false, true] {
        check(move || {
            let kit = Kit::after_a_host(|layout| vec![process(layout, 0), process(layout, 1)]);
            if is_noted {
                // After the new host has looked.
                kit.processes[0].as_ref().expect("it lives").share(3, &card());
            }
            let in_use = Arc::new(AtomicU32::new(1));
            let (core, busy) = (Arc::clone(&kit.core), Arc::clone(&in_use));
            let has = thread::spawn(move || {
                let _other = is_noted.then(|| comes(&core, 0, None));
                thread::yield_now();
                let (connection, _hear) = comes(&core, 0, Some(3));
                thread::yield_now();
                gives_back(&core, connection, 3, &busy);
            });
            let (core, busy) = (Arc::clone(&kit.core), Arc::clone(&in_use));
            let wants = thread::spawn(move || {
                let (connection, hear) = comes(&core, 1, None);
                uses(&core, connection, &hear, 4, &busy);
            });
            let core = Arc::clone(&kit.core);
            let looks = thread::spawn(move || core.look_around(Duration::ZERO));
            has.join().expect("it ends");
            looks.join().expect("it ends");
            wants.join().expect("it ends");
            assert!(!kit.core.is_frozen());
        });
    }
}

/// One that is silent keeps what it was told that it has, until it goes on and gives it back.
#[test]
fn what_a_stopped_one_has_is_nobody_elses() {
    check(|| {
        let kit = Kit::new();
        let in_use = Arc::new(AtomicU32::new(1));
        let (silent, _hear) = comes(&kit.core, 0, None);
        assert!(takes(&kit.core, silent, 3));
        let (core, busy) = (Arc::clone(&kit.core), Arc::clone(&in_use));
        let goes_on = thread::spawn(move || gives_back(&core, silent, 3, &busy));
        let (connection, hear) = comes(&kit.core, 1, None);
        let (core, busy) = (Arc::clone(&kit.core), Arc::clone(&in_use));
        let wants = thread::spawn(move || uses(&core, connection, &hear, 4, &busy));
        let core = Arc::clone(&kit.core);
        let looks = thread::spawn(move || {
            core.connections.tell(core.shares.hand_on(&HashSet::from([silent])));
        });
        [goes_on, wants, looks].into_iter().for_each(|thread| thread.join().expect("it ends"));
    });
}

/// One that is about to be stopped leaves the queue, whether it was given it in that very moment or not.
#[test]
fn who_leaves_the_queue_keeps_nobody_waiting() {
    check(|| {
        let kit = Kit::new();
        let in_use = Arc::new(AtomicU32::new(1));
        let [(has, _), (stops, _), (wants, hear)] = [0, 1, 2].map(|name| comes(&kit.core, name, None));
        assert!(takes(&kit.core, has, 3));
        assert!(!takes(&kit.core, stops, 4));
        let (core, busy) = (Arc::clone(&kit.core), Arc::clone(&in_use));
        let ends = thread::spawn(move || gives_back(&core, has, 3, &busy));
        let core = Arc::clone(&kit.core);
        let leaves = thread::spawn(move || drop(core.serve(stops, Request::GiveBack { ticket: 4 })));
        let (core, busy) = (Arc::clone(&kit.core), Arc::clone(&in_use));
        let waits = thread::spawn(move || uses(&core, wants, &hear, 5, &busy));
        [ends, leaves, waits].into_iter().for_each(|thread| thread.join().expect("it ends"));
    });
}
