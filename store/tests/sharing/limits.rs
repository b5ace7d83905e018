//! Named limits: all processes on one store share them, whoever serves it.

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
