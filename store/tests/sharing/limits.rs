//! Named limits: all processes on one store share them, whoever serves it.

use std::sync::atomic::Ordering;

use rustix::process::Signal;

use crate::between;
use crate::child::Child;
use crate::kit::*;

#[test]
fn a_limit_is_shared_by_all_processes() {
    let kit = Kit::new();
    let mut one = Child::opened(&kit.dir());
    let mut two = Child::opened(&kit.dir());
    assert_eq!(one.ask("take gpu=1"), "given");
    assert_eq!(two.ask("take gpu=1 net=1"), "waits for gpu");
    assert_eq!(one.ask("give-back"), "given back");
    assert_eq!(two.hear(), "given");
}

#[test]
fn there_is_as_much_as_the_settings_say() {
    let kit = Kit::new();
    let mut one = Child::opened(&kit.dir());
    assert_eq!(one.ask("close"), "closed");
    std::fs::write(kit.dir().join("config.toml"), "[limits]\ngpu = 2\n").expect("write");
    let mut all: Vec<Child> = (0..3).map(|_| Child::opened(&kit.dir())).collect();
    assert_eq!(all[0].ask("take gpu=1"), "given");
    assert_eq!(all[1].ask("take gpu=1"), "given");
    assert_eq!(all[2].ask("take gpu=1"), "waits for gpu");
    all[1].kill();
    assert_eq!(all[2].hear(), "given");
}

#[test]
fn a_process_that_dies_frees_its_share() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut one = Child::opened(&kit.dir());
    let mut two = Child::opened(&kit.dir());
    assert_eq!(host.ask("host"), "own");
    assert_eq!(one.ask("take gpu=1"), "given");
    assert_eq!(two.ask("take gpu=1"), "waits for gpu");
    one.kill();
    assert_eq!(two.hear(), "given");
}

#[test]
fn what_is_used_is_known_to_the_next_host() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut one = Child::opened(&kit.dir());
    let mut two = Child::opened(&kit.dir());
    assert_eq!(one.ask("take gpu=1"), "given");
    assert_eq!(host.ask("take net=1"), "given");
    // What the host itself used goes with it, and nothing else.
    host.kill();
    // Until both are with the next host it gives nothing, and cannot say for what whoever asks will wait.
    for child in [&mut one, &mut two] {
        assert_eq!(child.ask("ledger 1"), "0");
    }
    assert_eq!(two.ask("take gpu=1 net=1"), "waits for gpu");
    assert_eq!(one.ask("give-back"), "given back");
    assert_eq!(two.hear(), "given");
}

#[test]
fn who_waits_while_the_host_is_killed_gets_its_turn_at_the_next() {
    let kit = Kit::new();
    let mut host = Child::opened(&kit.dir());
    let mut one = Child::opened(&kit.dir());
    assert_eq!(host.ask("take gpu=1"), "given");
    assert_eq!(one.ask("take gpu=1"), "waits for gpu");
    host.kill();
    assert_eq!(one.hear(), "given");
    // And after a host that goes in order, too.
    let mut two = Child::opened(&kit.dir());
    assert_eq!(two.ask("take gpu=1"), "waits for gpu");
    assert_eq!(one.ask("close"), "closed");
    assert_eq!(two.hear(), "given");
}

/// It was given on at once: two steps had one card, the one of the run that was stopped and another one.
#[test]
fn what_a_stopped_host_has_stays_its_own_but_for_its_cores() {
    for is_killed in [false, true] {
        let kit = Kit::new();
        let mut host = Child::opened(&kit.dir());
        assert_eq!(host.ask("take gpu=1 cpus=1"), "given");
        assert_eq!(host.ask("begin"), "begun");
        assert_eq!(host.ask("hand-over"), "handed over");
        let mut next = Child::opened(&kit.dir());
        let mut other = Child::opened(&kit.dir());
        assert_eq!(next.ask("host"), "own");
        assert_eq!(other.ask("take gpu=1 cpus=1"), "waits for gpu");
        if is_killed {
            host.kill();
        } else {
            assert_eq!(host.ask("go-on"), "goes on");
            assert_eq!(host.ask("give-back"), "given back");
        }
        assert_eq!(other.hear(), "given");
    }
}

/// Three processes, of which one is about to be stopped: the one that serves the others, or the next one.
fn with_one_that_stops(is_host: bool) -> (Kit, Child, [Child; 2]) {
    let kit = Kit::new();
    let [mut host, other, third] = [0, 1, 2].map(|_| Child::opened(&kit.dir()));
    assert_eq!(host.ask("host"), "own");
    if is_host { (kit, host, [third, other]) } else { (kit, other, [third, host]) }
}

/// Tells it that it is about to be stopped. A new host gives nothing before both others are with it.
fn stop(stops: &mut Child, others: &mut [Child; 2]) {
    assert_eq!(stops.ask("hand-over"), "handed over");
    others.iter_mut().for_each(|other| assert_eq!(other.ask("ledger 1"), "0"));
}

/// A run that was stopped just as it was given a card kept it for as long as it was stopped, and nothing of it ran.
#[test]
fn what_is_given_and_not_begun_with_is_given_back_before_a_stop() {
    for is_host in [true, false] {
        let (_kit, mut stops, mut others) = with_one_that_stops(is_host);
        assert_eq!(stops.ask("take gpu=1 net=1"), "given");
        assert_eq!(others[0].ask("try-take gpu"), "not given");
        stop(&mut stops, &mut others);
        assert_eq!(others[0].ask("try-take gpu"), "given");
        assert_eq!(stops.ask("go-on"), "goes on");
        assert_eq!(stops.ask("begin"), "lost");
        assert_eq!(stops.ask("take gpu=1"), "given");
        assert_eq!(stops.ask("begin"), "begun");
        stop(&mut stops, &mut others);
        assert_eq!(others[0].ask("try-take gpu"), "not given");
    }
}

/// It kept its place, and so for 30 s had what it could not use, with every Ctrl-Z.
#[test]
fn who_waits_leaves_the_queue_before_a_stop_and_comes_back_after_it() {
    for is_host in [true, false] {
        let (_kit, mut stops, mut others) = with_one_that_stops(is_host);
        assert_eq!(others[0].ask("take gpu=1"), "given");
        assert_eq!(others[0].ask("begin"), "begun");
        assert_eq!(stops.ask("take gpu=1"), "waits for gpu");
        stop(&mut stops, &mut others);
        assert_eq!(others[0].ask("give-back"), "given back");
        assert_eq!(others[0].ask("try-take gpu"), "given");
        stops.tell("go-on");
        // Its two threads say so, the one or the other first.
        let mut said = [stops.hear(), stops.hear()];
        said.sort();
        assert_eq!(said, ["given", "goes on"]);
        assert_eq!(stops.ask("begin"), "begun");
    }
}

/// It was kept: if its host ended before the process went on, the next one gave the same to another.
#[test]
fn what_is_given_by_an_answer_that_comes_after_a_stop_is_given_back() {
    let kit = Kit::new();
    let host = Child::opened(&kit.dir());
    let passed = between::stand(&kit.dir());
    let [mut stops, mut other] = [0, 1].map(|_| Child::opened(&kit.dir()));
    // What it asks goes through a connection that is there already.
    assert_eq!(stops.ask("ledger 1"), "0");
    passed.take();
    host.stop();
    stops.tell("take gpu=1");
    while passed.asked.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(answer(&mut stops, "hand-over"), "handed over");
    host.signal(Signal::CONT);
    other.tell("take gpu=1");
    // It waits where the answer was not given back yet.
    while other.hear() != "given" {}
    assert_eq!(answer(&mut stops, "begin"), "lost");
}

/// What it answers, past what its thread says that takes: that says it before or after.
fn answer(child: &mut Child, command: &str) -> String {
    child.tell(command);
    loop {
        let said = child.hear();
        if said != "given" && !said.starts_with("waits for ") {
            return said;
        }
    }
}

/// Three processes, of which the first serves the others: for them, half a minute is a second and a half.
#[cfg(feature = "crash-points")]
fn hurried(kit: &Kit) -> [Child; 3] {
    let start = |_| {
        let mut child = Child::start_with(&kit.dir(), &[("CAS_HURRY", "20")]);
        assert_eq!(child.ask("open"), "opened");
        child
    };
    [0, 1, 2].map(start)
}

#[cfg(feature = "crash-points")]
#[test]
fn what_a_silent_process_has_stays_its_own_but_for_its_cores() {
    let kit = Kit::new();
    let [mut host, mut silent, mut third] = hurried(&kit);
    assert_eq!(silent.ask("take gpu=1 cpus=1"), "given");
    silent.stop();
    assert_eq!(third.ask("take cpus=1"), "waits for cpus");
    assert_eq!(third.hear(), "given");
    assert_eq!(host.ask("take gpu=1"), "waits for gpu");
    silent.signal(Signal::CONT);
    assert_eq!(silent.ask("give-back"), "given back");
    assert_eq!(host.hear(), "given");
}

/// Given to whoever was stopped while it waited, it would be nobody's.
#[cfg(feature = "crash-points")]
#[test]
fn what_a_process_is_given_that_was_stopped_while_it_waited_is_given_on() {
    let kit = Kit::new();
    let [mut host, mut silent, mut third] = hurried(&kit);
    assert_eq!(host.ask("take gpu=1"), "given");
    assert_eq!(silent.ask("take gpu=1"), "waits for gpu");
    silent.stop();
    assert_eq!(host.ask("give-back"), "given back");
    assert_eq!(third.ask("take gpu=1"), "waits for gpu");
    assert_eq!(third.hear(), "given");
    silent.signal(Signal::CONT);
    assert_eq!(third.ask("give-back"), "given back");
    assert_eq!(silent.hear(), "given");
}
