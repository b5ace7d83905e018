//! Why versions differ, in the words that people read.

use std::collections::HashMap;

use crate::world::World;
use cas_engine::explain::{differences, nearest};
use cas_engine::version::FactNode;
use cas_store::Version;

/// The facts of every step of a plan, as a store would keep them, and the node of one step.
fn facts(world: &World, step: &str) -> (HashMap<Version, FactNode>, FactNode) {
    let plan = world.plan();
    let mut nodes = HashMap::new();
    for id in &plan.steps {
        let mut version = |step: cas_engine::graph::StepId| plan.versions[step.0 as usize];
        nodes.extend(plan.facts(*id, &[7; 32], &mut version, &mut |_| None, &mut |_| true));
    }
    let id = plan.graph.select(step).unwrap_or_else(|error| panic!("{error}"))[0];
    let version = plan.versions[id.0 as usize].unwrap_or_else(|| panic!("`{step}` has no version"));
    let node = nodes.get(&version).cloned().unwrap_or_else(|| panic!("`{step}` has no facts"));
    (nodes, node)
}

/// The lines that explain `target` after a change.
fn why(before: &World, after: &World) -> Vec<String> {
    let (mut nodes, old) = facts(before, "target");
    let (more, new) = facts(after, "target");
    nodes.extend(more);
    differences(&old, &new, &mut |version| nodes.get(version).cloned())
        .iter()
        .map(ToString::to_string)
        .collect()
}

const DOGS: &str = "
resources:
  python: {probe: python3 -V, config: {threads: {type: int, default: 1}}}
solids:
  tree:
    config: {tree_species: {type: str, default: douglas_fir}, deep: {type: map, default: {a: {b: 1}}}, key: {type: str, secret: true, default: old}}
    code: [tree.py]
    command: python3 tree.py
    stdout: result
  middle: {inputs: {tree.txt: tree}, command: cat, stdout: result}
  target:
    inputs: {m: middle, t: tree, n: {value: 1}, both: [tree, middle]}
    resources: [python]
    env: [LANG]
    command: cat
    stdout: result
";

fn dogs() -> World {
    let mut world = World::new(DOGS).file("tree.py", "1");
    world.probes.insert("python3 -V".to_owned(), "3.11.2".to_owned());
    world
}

#[test]
fn each_difference_is_named() {
    let world = dogs();
    let check = |after: World, expected: &[&str]| assert_eq!(why(&world, &after), expected);
    check(world.clone(), &[]);
    check(
        world.edited("default: douglas_fir", "default: red_maple"),
        &["input t: config.tree_species: douglas_fir → red_maple"],
    );
    check(world.clone().file("tree.py", "2"), &["input t: code tree.py changed"]);
    let mut newer = world.clone();
    newer.probes.insert("python3 -V".to_owned(), "3.11.7".to_owned());
    check(newer, &["resource python: 3.11.2 → 3.11.7"]);
    check(world.edited("default: 1}", "default: 2}"), &["resource python: config.threads: 1 → 2"]);
    check(world.edited("{value: 1}", "{value: '1'}"), &["input n: 1 → \"1\""]);
    check(world.edited("{b: 1}", "{b: 2}"), &["input t: config.deep.a.b: 1 → 2"]);
    check(world.edited("default: old", "default: new"), &["input t: config.key changed"]);
    check(world.edited("n: {value: 1}, ", ""), &["input n removed"]);
    check(
        world.edited("[tree, middle]", "[middle, tree]"),
        &["input both[0]: tree → middle", "input both[1]: middle → tree"],
    );
    let mut german = world.clone();
    german.env.insert("LANG".to_owned(), "de".to_owned());
    check(german, &["env LANG: unset → de"]);
}

#[test]
fn no_secret_is_in_a_fact() {
    let (nodes, _) = facts(&dogs().edited("default: old", "default: hunter2"), "target");
    assert!(!format!("{nodes:?}").contains("hunter2"));
}

#[test]
fn the_nearest_of_several_is_the_one_with_the_fewest_differences() {
    let world = dogs();
    let (mut nodes, now) = facts(&world, "target");
    let candidates = [
        world.edited("{value: 1}", "{value: 2}").edited("env: [LANG]", "env: []"),
        world.edited("{value: 1}", "{value: 3}"),
        world.edited("{value: 1}", "{value: 4}"),
    ]
    .map(|world| {
        let (more, node) = facts(&world, "target");
        nodes.extend(more);
        node
    });
    let found = nearest(&candidates, &now, &mut |version| nodes.get(version).cloned());
    let found =
        found.map(|(index, lines)| (index, lines.iter().map(ToString::to_string).collect::<Vec<_>>()));
    assert_eq!(found, Some((1, vec!["input n: 3 → 1".to_owned()])));
}

#[test]
fn a_cause_far_above_is_found_once_and_a_long_chain_is_no_deep_stack() {
    let mut text =
        String::from("solids:\n  s0: {config: {x: {type: int, default: 1}}, command: cat, stdout: result}\n");
    for step in 1..3000 {
        let above = step - 1;
        text.push_str(&format!("  s{step}: {{inputs: {{a: s{above}}}, command: cat, stdout: result}}\n"));
    }
    text.push_str("  target: {inputs: {last: s2999}, command: cat, stdout: result}\n");
    let world = World::new(&text);
    let changed = world.edited("default: 1", "default: 2");
    assert_eq!(why(&world, &changed), ["input last: … input a: config.x: 1 → 2"]);
}
