//! Many processes on one store: they share a host, the host goes, another takes over, nobody notices.

mod between;
mod child;
mod fork;
#[path = "../kit/mod.rs"]
mod kit;
mod limits;
mod users;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use cas_store::{Store, StoreError, codec};
use child::Child;
use kit::*;
use rustix::process::Signal;

#[test]
fn child_process() {
    child::main();
}

#[test]
fn processes_see_what_the_others_put() {
    let kit = Kit::new();
    let mut one = Child::opened(&kit.dir());
    let mut two = Child::opened(&kit.dir());
    assert_eq!([one.ask("host"), two.ask("host")], ["own", "other"]);
    assert_eq!(one.ask("put 1"), "new");
    assert_eq!(two.ask("get 1"), "there");
    assert_eq!(two.ask("put 2"), "new");
    assert_eq!(one.ask("get 2"), "there");
    assert_eq!(two.ask("put 2"), "adopted, differs: false");
    assert_eq!(two.ask("put 2 other"), "adopted, differs: true");
    assert_eq!(one.ask("run 5"), "1");
    assert_eq!(two.ask("run 6"), "2");
}

/// A plan of 10,000 steps is looked up in one message, and its answer in another. How long that takes is in
/// `docs/performance.md`: it is the machine's, and here other tests use that too.
#[test]
fn a_lookup_of_ten_thousand_versions_is_one_question_and_one_answer() {
    const VERSIONS: u64 = 10_000;
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let passed = between::stand(&kit.dir());
    let mut other = Child::opened(&kit.dir());
    assert_eq!([host.ask("host"), other.ask("host")], ["own", "other"]);
    assert_eq!(host.ask("fill 10000"), "filled");
    // The first one opens a connection, which greets.
    assert_ne!(other.ask("time-lookup 1"), "");
    passed.take();
    let through: u64 = other.ask("time-lookup 10000").parse().expect("microseconds");
    let [asked, asked_bytes, answered_bytes] = passed.take();
    let own: u64 = host.ask("time-lookup 10000").parse().expect("microseconds");
    println!(
        "{through} µs through two sockets, {own} µs in the host; {asked_bytes} bytes, {answered_bytes} bytes"
    );
    // Now and then the process says that it lives.
    assert!((1..=3).contains(&asked), "{asked} messages");
    assert!((32 * VERSIONS..34 * VERSIONS).contains(&asked_bytes), "{asked_bytes} bytes of a question");
    // A record holds its trace, its output with a digest, and some numbers; never what was computed.
    assert!(answered_bytes < 128 * VERSIONS, "{answered_bytes} bytes of an answer");
}

#[test]
fn when_the_host_is_killed_another_takes_over() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut others = [Child::opened(&kit.dir()), Child::opened(&kit.dir())];
    assert_eq!(others[0].ask("put 1"), "new");
    host.kill();
    for other in &mut others {
        assert_eq!(other.ask("get 1"), "there");
    }
    let mut hosts: Vec<String> = others.iter_mut().map(|other| other.ask("host")).collect();
    hosts.sort();
    assert_eq!(hosts, ["other", "own"]);
    assert_eq!(others[1].ask("put 2"), "new");
    assert_eq!(others[0].ask("get 2"), "there");
}

#[test]
fn when_the_host_closes_another_takes_over() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut other = Child::opened(&kit.dir());
    assert_eq!(host.ask("put 1"), "new");
    assert_eq!(host.ask("close"), "closed");
    assert_eq!(other.ask("get 1"), "there");
    assert_eq!(other.ask("host"), "own");
    assert_eq!(host.ask("open"), "opened");
    assert_eq!(host.ask("host"), "other");
    drop((host, other));
    // Nothing of them is left.
    let store = open_waiting(&kit.dir(), Duration::from_secs(600)).expect("open");
    assert_eq!(std::fs::read_dir(kit.dir().join("processes")).expect("list").count(), 1);
    assert_eq!(std::fs::read_dir(kit.dir().join("staging")).expect("list").count(), 0);
    drop(store);
    assert_eq!(std::fs::read_dir(kit.dir().join("processes")).expect("list").count(), 0);
    assert!(!kit.dir().join("socket").exists());
}

/// The host went while a process was about to end: a thread of that process opened the index still when its main thread
/// had closed the store and ran what C++ runs at an exit. Now and then that was a segmentation fault.
#[test]
fn a_process_that_has_closed_the_store_does_not_become_its_host() {
    for _ in 0..10 {
        let kit = Kit::new();
        let mut host = Child::opened(&kit.dir());
        let mut other = Child::opened(&kit.dir());
        host.kill();
        assert_eq!(other.ask("close"), "closed");
        let lock = std::fs::File::options().write(true).open(kit.dir().join("lock")).expect("open");
        lock.try_lock().expect("nobody has it");
    }
}

#[test]
fn what_one_computes_the_other_waits_for() {
    let kit = Kit::new();
    let mut one = Child::opened(&kit.dir());
    let mut two = Child::opened(&kit.dir());
    for (claimant, other) in [(0, 1), (1, 0)] {
        let both = [&mut one, &mut two];
        assert_eq!(both[claimant].ask(&format!("claim {claimant}")), "granted");
        assert_eq!(both[other].ask(&format!("claim {claimant}")), "waiting");
        // Nothing else waits with it.
        assert_eq!(both[claimant].ask("get 77"), "missing");
        assert_eq!(both[claimant].ask(&format!("put {claimant}")), "new");
        assert_eq!(both[claimant].ask("release"), "released");
        assert_eq!(both[other].hear(), "stored");
    }
}

#[test]
fn a_failure_is_shared_and_a_claim_that_is_given_back_is_handed_on() {
    let kit = Kit::new();
    let mut one = Child::opened(&kit.dir());
    let mut two = Child::opened(&kit.dir());
    assert_eq!(two.ask("claim 1"), "granted");
    assert_eq!(one.ask("claim 1"), "waiting");
    assert_eq!(two.ask("fail exit-1"), "released");
    assert_eq!(one.hear(), "failed: exit-1");
    assert_eq!(two.ask("claim 1"), "granted");
    assert_eq!(one.ask("claim 1"), "waiting");
    assert_eq!(two.ask("release"), "released");
    assert_eq!(one.hear(), "granted");
}

#[test]
fn a_dead_claimant_hands_on_at_once() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut one = Child::opened(&kit.dir());
    let mut two = Child::opened(&kit.dir());
    assert_eq!(one.ask("claim 1"), "granted");
    assert_eq!(two.ask("claim 1"), "waiting");
    one.kill();
    assert_eq!(two.hear(), "granted");
    // The host's own claims die with it.
    assert_eq!(host.ask("claim 2"), "granted");
    assert_eq!(two.ask("claim 2"), "waiting");
    host.kill();
    assert_eq!(two.hear(), "granted");
}

/// A run that waited for a step that another one makes said nothing of that, for hours.
#[test]
fn whoever_waits_for_a_claim_is_told_who_has_it_and_who_has_it_then() {
    let kit = Kit::new();
    let host = Child::opened(&kit.dir());
    let mut one = Child::opened(&kit.dir());
    assert_eq!(one.ask("claim 1"), "granted");
    let mut others = [Child::opened(&kit.dir()), Child::opened(&kit.dir())];
    for other in &mut others {
        assert_eq!(other.ask("claim-aloud 1"), format!("waits for {}", one.name()));
    }
    one.kill();
    // One of them has it then, and the other one is told of that.
    let [two, three] = &mut others;
    match (two.hear(), three.hear()) {
        (granted, waits) if granted == "granted" => assert_eq!(waits, format!("waits for {}", two.name())),
        (waits, granted) => {
            assert_eq!((waits, granted), (format!("waits for {}", three.name()), "granted".to_owned()));
        }
    }
    drop(host);
}

#[test]
fn whoever_waits_for_a_claim_is_told_that_the_one_who_has_it_is_stopped_and_goes_on() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut other = Child::opened(&kit.dir());
    assert_eq!(host.ask("claim 1"), "granted");
    assert_eq!(other.ask("claim-aloud 1"), format!("waits for {}", host.name()));
    assert_eq!(host.ask("hand-over"), "handed over");
    host.stop();
    assert_eq!(other.hear(), format!("waits for the stopped {}", host.name()));
    host.signal(Signal::CONT);
    assert_eq!(host.ask("go-on"), "goes on");
    assert_eq!(other.hear(), format!("waits for {}", host.name()));
    assert_eq!(host.ask("put 1"), "new");
    assert_eq!(host.ask("release"), "released");
    assert_eq!(other.hear(), "stored");
}

#[test]
fn a_claim_outlives_the_host() {
    for how in ["kill", "close"] {
        let kit = Kit::new();
        let mut host = Child::opened(&kit.dir());
        let mut one = Child::opened(&kit.dir());
        let mut two = Child::opened(&kit.dir());
        assert_eq!(one.ask("claim 1"), "granted");
        assert_eq!(two.ask("claim 1"), "waiting");
        match how {
            "kill" => host.kill(),
            _ => assert_eq!(host.ask("close"), "closed"),
        }
        // Whoever comes now has to wait too.
        let mut three = Child::opened(&kit.dir());
        assert_eq!(three.ask("claim 1"), "waiting");
        assert_eq!(one.ask("put 1"), "new");
        assert_eq!(one.ask("release"), "released");
        assert_eq!([two.hear(), three.hear()], ["stored", "stored"], "{how}");
    }
}

#[test]
fn a_host_that_is_to_be_stopped_hands_over_and_keeps_its_claims() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut other = Child::opened(&kit.dir());
    assert_eq!(host.ask("claim 1"), "granted");
    assert_eq!(host.ask("hand-over"), "handed over");
    host.stop();
    assert_eq!(other.ask("put 2"), "new");
    assert_eq!(other.ask("host"), "own");
    assert_eq!(other.ask("claim 1"), "waiting");
    host.signal(Signal::CONT);
    assert_eq!(host.ask("go-on"), "goes on");
    assert_eq!(host.ask("get 2"), "there");
    assert_eq!(host.ask("host"), "other");
    assert_eq!(host.ask("put 1"), "new");
    assert_eq!(host.ask("release"), "released");
    assert_eq!(other.hear(), "stored");
}

/// Nobody asked for anything after `fg`: whoever waited in that process waited for ever, and the others were not told
/// that what it was computing is being computed still, so that they took it over after 30 s.
#[test]
fn a_former_host_that_goes_on_finds_the_next_one_without_being_asked_anything() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut other = Child::opened(&kit.dir());
    assert_eq!(other.ask("claim 1"), "granted");
    assert_eq!(host.ask("claim 2"), "granted");
    assert_eq!(host.ask("claim-beside 1"), "waiting");
    assert_eq!(host.ask("hand-over"), "handed over");
    host.stop();
    assert_eq!(other.ask("put 3"), "new");
    assert_eq!(other.ask("host"), "own");
    host.signal(Signal::CONT);
    assert_eq!(host.ask("go-on"), "goes on");
    while host.ask("host") != "other" {}
    assert_eq!(other.ask("put 1"), "new");
    assert_eq!(other.ask("release"), "released");
    assert_eq!(host.hear(), "stored");
    assert_eq!(other.ask("claim 2"), "waiting");
    assert_eq!(host.ask("put 2"), "new");
    assert_eq!(host.ask("release"), "released");
    assert_eq!(other.hear(), "stored");
}

/// The same where nobody took over: then it serves again.
#[test]
fn a_former_host_that_goes_on_alone_serves_again() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    assert_eq!(host.ask("hand-over"), "handed over");
    assert_eq!(host.ask("go-on"), "goes on");
    let mut other = Child::start(&kit.dir());
    // Had nobody become the host there, this one would.
    while !other.ask("open-declining").starts_with("opened") {}
    assert_eq!(other.ask("put 1"), "new");
    assert_eq!(host.ask("get 1"), "there");
}

#[test]
fn a_late_report_of_wrong_bytes_takes_nothing_that_is_right() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut other = Child::opened(&kit.dir());
    assert_eq!(host.ask("put 1"), "new");
    let file = file_of(&kit.dir(), &cas_store::Digest::of(&noise(1, 5_000)));
    let good = std::fs::read(&file).expect("read");
    // The same size, and the same date.
    let spoil = || {
        let date = std::fs::metadata(&file).and_then(|metadata| metadata.modified()).expect("a date");
        let mut bytes = good.clone();
        bytes[17] ^= 1;
        std::fs::remove_file(&file).expect("remove");
        std::fs::write(&file, bytes).expect("write");
        let written = std::fs::File::options().write(true).open(&file).expect("open");
        written.set_modified(date).expect("a date");
    };
    spoil();
    for child in [&mut host, &mut other] {
        assert_eq!(child.ask("report-wrong 1"), "reported");
        assert_eq!(child.ask("get 1"), "missing");
    }
    // Made again, and whoever saw it before says so only now.
    assert_eq!(other.ask("put 1"), "replaced");
    for child in [&mut host, &mut other] {
        assert_eq!(child.ask("report-wrong 1"), "reported");
        assert_eq!(child.ask("get 1"), "there");
    }
    // It is looked at each time, not remembered to be right.
    spoil();
    assert_eq!(other.ask("report-wrong 1"), "reported");
    assert_eq!(host.ask("get 1"), "missing");
    let quarantine = files_below(&kit.dir().join("quarantine"));
    assert_eq!(quarantine.len(), 4, "two files, each with a note: {quarantine:?}");
}

#[test]
fn a_host_without_descriptors_says_so_and_serves_those_whom_it_serves() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut one = Child::opened(&kit.dir());
    assert_eq!(one.ask("put 1"), "new");
    assert_eq!(host.ask("use-up-descriptors"), "used up");
    let mut two = Child::start(&kit.dir());
    let error = two.ask("open-at-once");
    assert!(
        error.contains("is in use by process ") && error.contains("has as many files open as it may"),
        "{error}"
    );
    assert_eq!(one.ask("put 2"), "new");
    assert_eq!(host.ask("free-descriptors"), "freed");
    assert_eq!(two.ask("open"), "opened");
    assert_eq!(two.ask("get 2"), "there");
}

/// It can be had by nobody, and nothing was said on any connection yet that could end.
#[cfg(feature = "crash-points")]
#[test]
fn whoever_is_opening_a_connection_to_a_stopped_host_waits_no_longer_than_asked_for() {
    let kit = Kit::new();
    let host = Child::opened(&kit.dir());
    let mut other = Child::start_with(&kit.dir(), &[("CAS_HURRY", "20")]);
    assert_eq!(other.ask("open-briefly"), "opened");
    host.stop();
    let error = other.ask("put 1");
    host.signal(Signal::CONT);
    assert!(error.contains("is in use by process ") && error.contains("does not answer"), "{error}");
    // One that was given up is asked again, but not waited for.
    while other.ask("put 1") != "new" {}
}

/// Each thing that was asked waited anew, and said so: what had a few more things to ask than one went on for minutes.
#[cfg(feature = "crash-points")]
#[test]
fn a_stopped_host_is_waited_for_once_whatever_is_asked() {
    let kit = Kit::new();
    let host = Child::opened(&kit.dir());
    let mut other = Child::start_with(&kit.dir(), &[("CAS_HURRY", "20")]);
    assert_eq!(other.ask("open-briefly"), "opened");
    assert_eq!(other.ask("put 1"), "new");
    let mut told = 0;
    for round in 0..2 {
        host.stop();
        for _ in 0..20 {
            let error = other.ask("put 1");
            assert!(error.contains("is in use by process ") && error.contains("does not answer"), "{error}");
        }
        // By whoever listens, where that noticed it before the first question had waited for long enough.
        let after = other.ask("told").parse::<usize>().expect("a number");
        assert!(after - told <= 1, "round {round}: told {} times", after - told);
        told = after;
        host.signal(Signal::CONT);
        // Any answer ends it.
        while other.ask("put 1").contains("is in use") {}
        assert_eq!(other.ask("get 1"), "there");
    }
}

#[cfg(feature = "crash-points")]
#[test]
fn a_silent_claimant_is_followed_and_its_late_result_is_compared_and_not_used() {
    for who_is_stopped in ["a client", "a former host"] {
        let kit = Kit::new();
        // Half a minute is a second and a half.
        let hurry = [("CAS_HURRY", "20")];
        let mut children = [Child::start_with(&kit.dir(), &hurry), Child::start_with(&kit.dir(), &hurry)];
        for child in &mut children {
            assert_eq!(child.ask("open"), "opened");
        }
        let [host, client] = &mut children;
        let (silent, other) = match who_is_stopped {
            "a client" => (client, host),
            _ => (host, client),
        };
        assert_eq!(silent.ask("claim 1"), "granted");
        assert_eq!(silent.ask("renew"), "held");
        if who_is_stopped == "a former host" {
            assert_eq!(silent.ask("hand-over"), "handed over");
        }
        silent.stop();
        // Nothing tells the other one that it may go on, but that time.
        assert_eq!(other.ask("claim 1"), "waiting");
        assert_eq!(other.hear(), "granted", "{who_is_stopped}");
        silent.signal(Signal::CONT);
        if who_is_stopped == "a former host" {
            assert_eq!(silent.ask("go-on"), "goes on");
        }
        // Whoever took it over is at it.
        assert_eq!(silent.ask("renew"), "lost", "{who_is_stopped}");
        assert_eq!(silent.ask("put-at-once 1 late"), "gave up", "{who_is_stopped}");
        // Late, but not as late as that.
        silent.tell("put 1 late");
        assert_eq!(other.ask("put 1"), "new", "{who_is_stopped}");
        assert_eq!(other.ask("release"), "released");
        assert_eq!(silent.hear(), "adopted, differs: true", "{who_is_stopped}");
        assert_eq!(silent.ask("get 1"), "there", "{who_is_stopped}");
        assert_eq!(silent.ask("renew"), "made meanwhile", "{who_is_stopped}");
        assert_eq!(other.ask("ledger 1"), "1", "the difference is kept: {who_is_stopped}");
    }
}

#[test]
fn a_host_that_was_stopped_is_named() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    host.stop();
    let mut other = Child::start(&kit.dir());
    let error = other.ask("open-at-once");
    host.signal(Signal::CONT);
    assert!(error.contains("is in use by process ") && error.contains("does not answer"), "{error}");
    // It is only waited for in vain while it is stopped.
    assert_eq!(host.ask("put 1"), "new");
    assert_eq!(other.ask("open"), "opened");
    assert_eq!(other.ask("get 1"), "there");
}

#[test]
fn what_a_process_was_told_is_present_stays_even_with_the_next_host() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut reader = Child::opened(&kit.dir());
    let mut keeper = Child::opened(&kit.dir());
    assert_eq!(host.ask("put 1"), "new");
    assert_eq!(reader.ask("get 1"), "there");
    assert_eq!(keeper.ask("put 2"), "new");
    host.kill();
    // A new host that is nobody's: the reader and the keeper compete for that.
    let collected = keeper.ask("collect");
    assert_eq!(collected, "collected 0, in use 2");
    assert_eq!(reader.ask("get 1"), "there");
    reader.kill();
    keeper.kill();
    let mut last = Child::opened(&kit.dir());
    assert_eq!(last.ask("collect"), "collected 2, in use 0");
}

#[test]
fn bytes_that_were_replaced_under_a_reader_stay_even_with_the_next_host() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut reader = Child::opened(&kit.dir());
    let mut writer = Child::opened(&kit.dir());
    assert_eq!(writer.ask("put 1"), "new");
    assert_eq!(reader.ask("get 1"), "there");
    assert_eq!(writer.ask("replace 1"), "replaced");
    drop(writer);
    host.kill();
    let mut other = Child::opened(&kit.dir());
    assert_eq!(other.ask("collect"), "collected 0, in use 1");
    assert_eq!(reader.ask("read 1"), "read");
    drop(reader);
    assert_eq!(other.ask("unnamed"), "1");
    assert_eq!(other.ask("read 1"), "missing");
}

/// A host dies between giving a blob's file its name and writing that down; before its client, which lives, says the
/// same to the next host, somebody collects. The file is nobody's then, and yet it is all that the client has.
#[test]
fn a_file_that_a_dead_host_did_not_record_stays_while_those_live_whom_it_served() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut client = Child::opened(&kit.dir());
    assert_eq!(client.ask("put 1"), "new");
    let folder = kit.dir().join("blobs/00");
    std::fs::create_dir_all(&folder).expect("make");
    let file = folder.join("0".repeat(64));
    std::fs::write(&file, "content").expect("write");
    host.kill();
    let mut next = Child::opened(&kit.dir());
    for child in [&mut next, &mut client] {
        assert_eq!(child.ask("unnamed"), "0");
    }
    assert!(file.exists());
    // Nobody is left to ask for it.
    drop(client);
    drop(next);
    assert_eq!(Child::opened(&kit.dir()).ask("unnamed"), "1");
    assert!(!file.exists());
}

#[test]
fn the_path_of_a_store_may_be_long() {
    let kit = Kit::new();
    let dir = (0..6).fold(kit.dir(), |dir, _| dir.join("a folder with a rather long name"));
    assert!(dir.as_os_str().len() > 200);
    let mut one = Child::opened(&dir);
    let mut two = Child::opened(&dir);
    assert_eq!(one.ask("put 1"), "new");
    assert_eq!(two.ask("get 1"), "there");
    one.kill();
    assert_eq!(two.ask("get 1"), "there");
}

#[test]
fn a_process_may_decline_to_host() {
    let kit = Kit::new();
    let mut one = Child::start(&kit.dir());
    let error = one.ask("open-declining");
    assert!(error.contains("no process serves the store at `"), "{error}");
    let mut host = Child::opened(&kit.dir());
    assert_eq!(one.ask("open-declining"), "opened");
    assert_eq!(host.ask("put 1"), "new");
    assert_eq!(one.ask("get 1"), "there");
    let mut two = Child::opened(&kit.dir());
    host.kill();
    assert_eq!(one.ask("get 1"), "there");
    assert_eq!(two.ask("host"), "own");
}

#[test]
fn one_process_shares_its_host_with_itself() {
    let kit = Kit::new();
    let one = kit.open();
    let two = kit.open();
    put(&one, 1, b"shared");
    assert_eq!(get(&two, 1).as_deref(), Some(b"shared".as_slice()));
    assert!(one.host().1 && two.host().1);
    drop(one);
    assert_eq!(get(&two, 1).as_deref(), Some(b"shared".as_slice()));
    // As clients of another process, they share the next host too.
    let mut host = Child::start(&kit.dir());
    drop(two);
    assert_eq!(host.ask("open"), "opened");
    let stores = [kit.open(), kit.open()];
    assert!(!stores[0].host().1 && !stores[1].host().1);
    host.kill();
    for store in &stores {
        assert_eq!(get(store, 1).as_deref(), Some(b"shared".as_slice()));
        assert!(store.host().1);
    }
}

#[test]
fn a_child_of_a_fork_neither_serves_nor_holds() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, b"from the parent");
    let dir = kit.dir();
    let code = fork::in_child(|| {
        let refused = match store.lookup(&[version(1)]) {
            Err(StoreError::Index { what, .. }) => what.contains("forked"),
            _ => false,
        };
        u8::from(refused) + 2 * u8::from(fork::opens_anew(&dir))
    });
    assert_eq!(code, 3);
    // The parent has not lost anything by that.
    assert_eq!(get(&store, 1).as_deref(), Some(b"from the parent".as_slice()));
    let mut other = Child::opened(&kit.dir());
    assert_eq!(other.ask("host"), "other");
    assert_eq!(other.ask("put 2"), "new");
}

#[test]
fn a_child_of_a_fork_does_not_keep_the_lock_of_a_host_that_died() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut other = Child::opened(&kit.dir());
    assert_eq!(host.ask("put 1"), "new");
    assert_eq!(host.ask("fork"), "forked");
    host.kill();
    assert_eq!(other.ask("get 1"), "there");
    assert_eq!(other.ask("host"), "own");
}

fn greeting(dir: &Path, protocol: u32) -> (u32, String, String) {
    let format = std::fs::read_to_string(dir.join("format")).expect("read");
    let id = format.lines().nth(2).and_then(|line| line.strip_prefix("id ")).expect("an id").to_owned();
    (protocol, "9.9.9".to_owned(), id)
}

fn receive(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = vec![0; codec::HEADER_BYTES];
    stream.read_exact(&mut bytes).expect("a header");
    bytes.resize(codec::record_bytes(&bytes).expect("a length"), 0);
    stream.read_exact(&mut bytes[codec::HEADER_BYTES..]).expect("the rest");
    bytes
}

#[test]
fn another_version_of_the_program_is_named_with_its_version() {
    let kit = Kit::new();
    drop(kit.open());
    // A host of the future.
    let lock = std::fs::File::options().write(true).open(kit.dir().join("lock")).expect("open");
    lock.lock().expect("lock");
    let listener = UnixListener::bind(kit.dir().join("socket")).expect("bind");
    let (protocol, program, id) = greeting(&kit.dir(), 7);
    let host = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it connects");
        let hello: (u32, String, String) = codec::decode(b'h', 1, &receive(&mut stream)).expect("a greeting");
        let welcome = (protocol, program, id, "`cas run` (pid 12)", "");
        stream.write_all(&codec::encode(b'h', 1, &welcome).expect("it encodes")).expect("send");
        hello.0
    });
    let error = open_waiting(&kit.dir(), Duration::from_secs(600)).expect_err("it is refused");
    assert_eq!(host.join().expect("no panic"), 5);
    let text = error.to_string();
    assert!(
        text.ends_with(
            "is in use by `cas run` (pid 12), which is cas 9.9.9 (protocol 7); this is cas 0.1.0 (protocol 5)"
        ),
        "{text}"
    );
    assert!(matches!(error, StoreError::Skew { .. }));
}

#[test]
fn a_client_of_another_version_is_told_the_hosts_and_let_go() {
    let kit = Kit::new();
    let store = kit.open();
    let mut stream = UnixStream::connect(kit.dir().join("socket")).expect("connect");
    let hello = codec::encode(b'h', 1, &greeting(&kit.dir(), 7)).expect("it encodes");
    stream.write_all(&hello).expect("send");
    let welcome: (u32, String, String, String, String) =
        codec::decode(b'h', 1, &receive(&mut stream)).expect("a greeting");
    assert_eq!((welcome.0, welcome.2.as_str()), (5, store.id()));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end");
    assert_eq!(rest, b"");
}

#[test]
fn nonsense_on_the_socket_hurts_nobody() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, b"safe");
    let hello = codec::encode(b'h', 1, &greeting(&kit.dir(), 1)).expect("it encodes");
    let huge = [&[0xca, 0x5e, b'h', 1][..], &[255; 4], &[0; 4]].concat();
    let unknown = codec::encode(b'q', 1, &250u8).expect("it encodes");
    for sent in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        huge,
        [&hello[..], &hello[..]].concat(),
        [&hello[..], &unknown[..]].concat(),
        hello[..hello.len() / 2].to_vec(),
        Vec::new(),
    ] {
        let mut stream = UnixStream::connect(kit.dir().join("socket")).expect("connect");
        let _ = stream.write_all(&sent);
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
        let mut answer = Vec::new();
        // Whatever it says, it lets go.
        let _ = stream.read_to_end(&mut answer);
    }
    assert_eq!(get(&store, 1).as_deref(), Some(b"safe".as_slice()));
    let mut other = Child::opened(&kit.dir());
    assert_eq!(other.ask("get 1"), "safe");
}

/// Everybody computes the same results; now and then the host is killed. Each result is computed once for
/// every time that its claimant was killed over it, and once.
#[test]
fn each_result_is_computed_once_whoever_dies() {
    let results = 60;
    let kit = Kit::new();
    let mut workers: Vec<Child> = (0..5).map(|_| Child::opened(&kit.dir())).collect();
    for worker in &mut workers {
        worker.tell(&format!("work {results}"));
    }
    let mut made: BTreeMap<String, u32> = BTreeMap::new();
    // The first three are killed one after the other, each when it has said something.
    for victim in &mut workers[..3] {
        let said = victim.hear();
        victim.kill();
        *made.entry(said).or_default() += 1;
        loop {
            let said = victim.hear();
            if said == "ended" {
                break;
            }
            *made.entry(said).or_default() += 1;
        }
    }
    for worker in &mut workers[3..] {
        loop {
            let said = worker.hear();
            assert_ne!(said, "ended");
            if said == "done" {
                break;
            }
            *made.entry(said).or_default() += 1;
        }
    }
    made.remove("done");
    made.remove("ended");
    for (what, times) in &made {
        assert_eq!(*times, 1, "{what}");
    }
    // One may have been committed by a worker that died before it could say so.
    assert!(made.len() as u32 >= results - 3, "{made:?}");
    drop(workers);
    let store = open_waiting(&kit.dir(), Duration::from_secs(600)).expect("open");
    assert_eq!(verify(&store), []);
    for number in 0..results {
        assert_eq!(get(&store, number), Some(noise(number, 5_000)), "{number}");
    }
}

#[test]
fn a_run_begins_once_though_its_host_died() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let stores: Vec<Store> = (0..2).map(|_| kit.open()).collect();
    assert_eq!(stores[0].begin_run(1, Vec::new()).expect("it begins").id(), 1);
    host.kill();
    assert_eq!(stores[1].begin_run(2, Vec::new()).expect("it begins").id(), 2);
    assert_eq!(stores[0].begin_run(3, Vec::new()).expect("it begins").id(), 3);
    assert_eq!(stores[0].runs(None, 10).expect("they are listed").len(), 3);
}

/// Its host noted the run and died before it said so: asked again, the next one gives the number that it has.
#[cfg(feature = "crash-points")]
#[test]
fn a_run_that_was_noted_and_not_acknowledged_has_one_number() {
    let kit = Kit::new();
    let mut host = Child::start_with(&kit.dir(), &[("CAS_CRASH_POINT", "write.applied")]);
    assert_eq!(host.ask("open"), "opened");
    let store = kit.open();
    assert_eq!(store.begin_run(1, Vec::new()).expect("it begins").id(), 1);
    assert_eq!(host.hear(), "ended");
    assert_eq!(store.runs(None, 10).expect("they are listed").len(), 1);
    assert_eq!(store.begin_run(2, Vec::new()).expect("it begins").id(), 2);
}

/// The process that takes over dies on the way; the one that comes next takes over from it.
#[cfg(feature = "crash-points")]
#[test]
fn whoever_takes_over_may_die_at_every_point_of_it() {
    for point in ["host.locked", "host.index-opened", "host.opened", "host.door-open"] {
        let kit = Kit::new();
        let mut host = Child::opened(&kit.dir());
        assert_eq!(host.ask("put 1"), "new");
        let mut heir = Child::start_with(&kit.dir(), &[("CAS_CRASH_POINT", point)]);
        assert_eq!(heir.ask("open"), "opened");
        let mut claimant = Child::start(&kit.dir());
        assert_eq!(claimant.ask("open-declining"), "opened");
        assert_eq!(claimant.ask("claim 2"), "granted");
        host.kill();
        assert_eq!(heir.hear(), "ended", "{point}");
        let mut last = Child::opened(&kit.dir());
        assert_eq!(last.ask("host"), "own", "{point}");
        assert_eq!(last.ask("claim 2"), "waiting", "{point}");
        assert_eq!(claimant.ask("get 1"), "there", "{point}");
        assert_eq!(claimant.ask("put 2"), "new", "{point}");
        assert_eq!(claimant.ask("release"), "released", "{point}");
        assert_eq!(last.hear(), "stored", "{point}");
    }
}
