//! Named limits: all processes on one store share them, whoever serves it.

#[cfg(feature = "crash-points")]
use rustix::process::Signal;

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
    silent.signal(Signal::STOP);
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
    silent.signal(Signal::STOP);
    assert_eq!(host.ask("give-back"), "given back");
    assert_eq!(third.ask("take gpu=1"), "waits for gpu");
    assert_eq!(third.hear(), "given");
    silent.signal(Signal::CONT);
    assert_eq!(third.ask("give-back"), "given back");
    assert_eq!(silent.hear(), "given");
}
