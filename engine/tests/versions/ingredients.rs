//! What changes a version and what does not: every key of the file, and properties of what is hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::world::World;
use cas_engine::config::RunConfig;
use cas_engine::file::keys::{Hashed, OBJECTS};
use proptest::prelude::*;

/// A pipeline in which every key of the table stands, so that each can be changed alone.
const EVERY_KEY: &str = r#"
pipeline: p
description: about it
run_config: [params.yaml]
store: place
include: [more.yaml]
root: .
config: {seed: {type: int, default: 11}}
resources:
  tool:
    version: "tool-1"
    probe: tool -V
    files: [tool.cfg]
    path: [bin]
    env: {TOOL_HOME: home}
    config: {threads: {type: int, default: 4}}
    resources: [base]
  base: {version: "base-1"}
  other: {version: "base-1"}
modes:
  first: {resources: {base: {version: "mode-1"}}}
matrices: {grid: {lr: [0.1, 0.2]}}
defaults: {retries: 0}
solids:
  up: {command: "echo up > {{ outputs.result }}", outputs: [result, more.txt]}
  day: {command: "echo day > {{ outputs.result }}", version: {every: 1d}}
  maker:
    description: makes it
    version: "hand-1"
    config:
      seed: $seed
      size: {type: int, default: 1, enum: [1, 2], secret: false}
    code: [a.py]
    inputs:
      x: up
      p: {path: data.txt, external: false}
      v: {value: 7}
      d: {default: 8}
      q: {probe: date, every: 1h}
    command: "run {{ config.seed }} > {{ outputs.result }}"
    stdout: log
    outputs: [result, log, {extra: {at: outputs/extra, optional: true}}]
    resources: [tool]
    env: [LANG, {MADE: "1"}]
    pass_env: [PROXY]
    secrets: [PASSWORD]
    shell: sh
    retries: {times: 1, on: [75], back_off: 1s, max: 1m, jitter: 10%}
    timeout: 10m
    grace: 5s
    allow_failure: false
    cpus: 2
    memory: 1G
    limits: {gpu: 1}
    matrix: grid
  again: {solid: up}
  ups: {command: "ls > {{ outputs.parts }}", outputs: [{parts: {list: true}}]}
  lister: {command: "ls > {{ outputs.parts }}", outputs: [{parts: {list: false}}]}
  mapped: {map: {part: ups.parts}, command: "wc < inputs/part > {{ outputs.result }}"}
  gatherer:
    inputs: {all: {gather: maker, failed: skip, max_failed: 1%}}
    command: "ls {{ inputs.all }} > {{ outputs.result }}"
  same_as_up: {command: "echo up > {{ outputs.result }}", outputs: [result, more.txt]}
  target:
    solid: maker
publish:
  results/: "target[*].result"
"#;

fn every_key() -> World {
    let mut world =
        World::new(EVERY_KEY).file("a.py", "print()").file("tool.cfg", "x").file("data.txt", "data");
    world.files.insert("b.py".to_owned(), ("print(1)".to_owned(), false));
    world.probes = BTreeMap::from([
        ("tool -V".to_owned(), "tool 1.0".to_owned()),
        ("tool --version".to_owned(), "tool 1.0".to_owned()),
        ("date".to_owned(), "Monday".to_owned()),
        ("date +%A".to_owned(), "Tuesday".to_owned()),
    ]);
    world.tables.insert("rows.tsv".to_owned(), "id\tfile\none\t1.txt\n".to_owned());
    world.tables.insert("other.tsv".to_owned(), "id\tfile\ntwo\t2.txt\n".to_owned());
    world.tables.insert("more.yaml".to_owned(), "resources: {spare: {version: \"1\"}}\n".to_owned());
    world.tables.insert("other.yaml".to_owned(), "solids: {spare: {command: spare}}\n".to_owned());
    world.lists.insert("ups.parts".to_owned(), r#"["one"]"#.to_owned());
    world.env.insert("LANG".to_owned(), "C".to_owned());
    world
}

/// Object, key, what is written, what is written instead; the step whose version is compared.
const EDITS: &[(&str, &str, &str, &str, &str)] = &[
    ("a pipeline file", "pipeline", "pipeline: p", "pipeline: other", "target"),
    ("a pipeline file", "description", "about it", "about something else", "target"),
    ("a pipeline file", "run_config", "params.yaml", "others.yaml", "target"),
    ("a pipeline file", "store", "store: place", "store: elsewhere", "target"),
    ("a pipeline file", "include", "[more.yaml]", "[other.yaml]", "target"),
    ("a pipeline file", "root", "root: .", "root: ..", "target"),
    ("a pipeline file", "config", "default: 11", "default: 12", "target"),
    ("a pipeline file", "modes", "  first:", "  renamed:", "target"),
    ("a pipeline file", "matrices", "lr: [0.1, 0.2]", "lr: [0.3, 0.2]", "target"),
    ("a pipeline file", "publish", "  results/:", "  elsewhere/:", "target"),
    ("a resource", "version", "tool-1", "tool-2", "target"),
    ("a resource", "probe", "tool -V", "tool --version", "target"),
    ("a resource", "files", "files: [tool.cfg]", "files: [a.py]", "target"),
    ("a resource", "path", "path: [bin]", "path: [sbin]", "target"),
    ("a resource", "env", "TOOL_HOME: home", "TOOL_HOME: away", "target"),
    ("a resource", "config", "default: 4", "default: 5", "target"),
    ("a resource", "resources", "resources: [base]", "resources: [other]", "target"),
    ("`defaults`", "code", "{retries: 0}", "{retries: 0, code: [b.py]}", "target"),
    ("`defaults`", "resources", "{retries: 0}", "{retries: 0, resources: [other]}", "target"),
    ("`defaults`", "env", "{retries: 0}", "{retries: 0, env: [MORE]}", "target"),
    ("`defaults`", "pass_env", "{retries: 0}", "{retries: 0, pass_env: [MORE]}", "target"),
    ("`defaults`", "secrets", "{retries: 0}", "{retries: 0, secrets: [MORE]}", "target"),
    ("`defaults`", "shell", "{retries: 0}", "{retries: 0, shell: bash}", "up"),
    ("`defaults`", "retries", "{retries: 0}", "{retries: 3}", "up"),
    ("`defaults`", "timeout", "{retries: 0}", "{retries: 0, timeout: 1m}", "up"),
    ("`defaults`", "grace", "{retries: 0}", "{retries: 0, grace: 1m}", "up"),
    ("`defaults`", "allow_failure", "{retries: 0}", "{retries: 0, allow_failure: true}", "up"),
    ("`defaults`", "cpus", "{retries: 0}", "{retries: 0, cpus: 3}", "up"),
    ("`defaults`", "memory", "{retries: 0}", "{retries: 0, memory: 1G}", "up"),
    ("`defaults`", "limits", "{retries: 0}", "{retries: 0, limits: {gpu: 1}}", "up"),
    ("`defaults`", "platform", "{retries: 0}", "{platform: any}", "target"),
    ("a pipeline file", "sandbox", "store: place", "store: place\nsandbox: deny", "target"),
    ("`defaults`", "sandbox", "{retries: 0}", "{sandbox: deny}", "target"),
    ("a solid", "sandbox", "    shell: sh", "    shell: sh\n    sandbox: deny", "target"),
    ("a solid", "description", "makes it", "makes something", "target"),
    ("a solid", "solid", "again: {solid: up}", "again: {solid: same_as_up}", "again"),
    ("a solid", "version", "hand-1", "hand-2", "target"),
    ("a solid", "config", "      size: {", "      big: {", "target"),
    ("a solid", "code", "code: [a.py]", "code: [b.py]", "target"),
    ("a solid", "inputs", "      x: up", "      y: up", "target"),
    ("a solid", "command", "run {{ config.seed }}", "run  {{ config.seed }}", "target"),
    ("a solid", "stdout", "stdout: log", "stdout: extra", "target"),
    ("a solid", "outputs", "outputs: [result, log,", "outputs: [result, log, more,", "target"),
    ("a solid", "resources", "resources: [tool]", "resources: [other]", "target"),
    ("a solid", "env", "MADE: \"1\"", "MADE: \"2\"", "target"),
    ("a solid", "pass_env", "pass_env: [PROXY]", "pass_env: [PROXIES]", "target"),
    ("a solid", "secrets", "secrets: [PASSWORD]", "secrets: [TOKEN]", "target"),
    ("a solid", "shell", "shell: sh", "shell: bash", "target"),
    (
        "a solid",
        "retries",
        "retries: {times: 1, on: [75], back_off: 1s, max: 1m, jitter: 10%}",
        "retries: 2",
        "target",
    ),
    ("a solid", "grace", "grace: 5s", "grace: 6s", "target"),
    ("a solid", "allow_failure", "allow_failure: false", "allow_failure: true", "target"),
    ("`retries`", "times", "times: 1", "times: 3", "target"),
    ("`retries`", "on", "on: [75]", "on: [timeout]", "target"),
    ("`retries`", "back_off", "back_off: 1s", "back_off: 2s", "target"),
    ("`retries`", "max", "max: 1m", "max: 2m", "target"),
    ("`retries`", "jitter", "jitter: 10%", "jitter: 20%", "target"),
    ("a solid", "timeout", "timeout: 10m", "timeout: 20m", "target"),
    ("a solid", "cpus", "cpus: 2", "cpus: 3", "target"),
    ("a solid", "memory", "memory: 1G", "memory: 2G", "target"),
    ("a solid", "limits", "limits: {gpu: 1}", "limits: {gpu: 2}", "target"),
    ("a solid", "scratch", "    shell: sh", "    shell: sh\n    scratch: [target]", "target"),
    ("a solid", "matrix", "matrix: grid", "matrix: {lr: [0.5]}", "target"),
    ("a solid", "map", "map: {part: ups.parts}", "map: {piece: ups.parts}", "mapped"),
    ("a solid", "platform", "    shell: sh", "    shell: sh\n    platform: any", "maker"),
    ("an input", "path", "path: data.txt", "path: a.py", "target"),
    ("an input", "external", "external: false", "external: true", "target"),
    ("an input", "value", "value: 7", "value: 7.0", "target"),
    ("an input", "default", "default: 8", "default: \"8\"", "target"),
    ("an input", "probe", "probe: date", "probe: date +%A", "target"),
    ("an input", "every", "every: 1h", "every: 2h", "target"),
    ("an input", "gather", "gather: maker,", "gather: maker.log,", "gatherer"),
    ("an input", "failed", ", failed: skip, max_failed: 1%", "", "gatherer"),
    ("an input", "max_failed", "max_failed: 1%", "max_failed: 3", "gatherer"),
    ("an output", "list", "list: false", "list: true", "lister"),
    ("an output", "at", "at: outputs/extra", "at: site", "target"),
    ("an output", "optional", "optional: true", "optional: false", "target"),
    (
        "a config field",
        "type",
        "size: {type: int, default: 1, enum: [1, 2]",
        "size: {type: float, default: 1, enum: [1, 2]",
        "target",
    ),
    ("a config field", "default", "default: 1, enum", "default: 2, enum", "target"),
    ("a config field", "enum", "enum: [1, 2]", "enum: [1, 2, 3]", "target"),
    ("a config field", "secret", "secret: false", "secret: true", "target"),
    ("a version", "every", "every: 1d", "every: 2d", "day"),
    ("an axis", "rows", "lr: [0.1, 0.2]", "lr: {rows: rows.tsv}", "target"),
];

/// The same for the keys of a run config.
const RUN_EDITS: &[(&str, &str, &str)] = &[
    ("a run config", "config", "config: {seed: 5}"),
    ("a step of a run config", "config", "solids: {target: {config: {size: 2}}}"),
    ("a step of a run config", "inputs", "solids: {target: {inputs: {d: 9}}}"),
    ("an input of a run config", "value", "solids: {target: {inputs: {d: {value: 9}}}}"),
    ("a resource of a run config", "config", "resources: {tool: {config: {threads: 8}}}"),
];

#[test]
fn every_key_of_the_file_is_an_ingredient_or_left_out_as_the_table_says() {
    let world = every_key();
    let mut seen = BTreeSet::new();
    let mut check = |object: &'static str, key: &'static str, changed: World, step: &str| {
        seen.insert((object, key));
        let differs = world.version(step) != changed.version(step);
        let of = OBJECTS.iter().find(|known| known.name == object).and_then(|known| known.key(key));
        let wanted = match of.map(|key| key.hashed) {
            Some(Hashed::Yes(_)) => true,
            Some(Hashed::No(_)) => false,
            other => panic!("`{key}` of {object} is {other:?}"),
        };
        assert_eq!(differs, wanted, "`{key}` of {object}: whether the version of `{step}` changes");
    };
    for (object, key, from, to, step) in EDITS {
        check(object, key, world.edited(from, to), step);
    }
    for (object, key, text) in RUN_EDITS {
        check(object, key, world.with_run_config(text), "target");
    }
    let all = OBJECTS.iter().flat_map(|object| object.keys.iter().map(|key| (object.name, key)));
    let all =
        all.filter(|(_, key)| !matches!(key.hashed, Hashed::Inside)).map(|(object, key)| (object, key.name));
    let missing = all.filter(|known| !seen.contains(known)).collect::<Vec<_>>();
    assert_eq!(missing, [], "keys that no line above changes");
}

/// Holds two variants of a pipeline against each other.
fn same(before: &str, after: &str) -> bool {
    let files = |text: &str| World::new(text).file("a.py", "a").file("b.py", "b").file("data.txt", "data");
    files(before).version("target") == files(after).version("target")
}

#[test]
fn what_is_measured_counts() {
    let world = every_key();
    let before = world.version("target");
    type Change<'c> = (&'c str, &'c dyn Fn(&mut World));
    let changes: &[Change<'_>] = &[
        ("the content of code", &|world| {
            world.files.get_mut("a.py").unwrap_or_else(|| unreachable!()).0.push('#')
        }),
        ("the executable bit of code", &|world| {
            world.files.get_mut("a.py").unwrap_or_else(|| unreachable!()).1 = true
        }),
        ("a file of a resource", &|world| {
            world.files.get_mut("tool.cfg").unwrap_or_else(|| unreachable!()).0.push('#')
        }),
        ("the content of a path input", &|world| {
            world.files.get_mut("data.txt").unwrap_or_else(|| unreachable!()).0.push('#')
        }),
        ("the executable bit of a path input", &|world| {
            world.files.get_mut("data.txt").unwrap_or_else(|| unreachable!()).1 = true
        }),
        ("what a resource's probe prints", &|world| {
            drop(world.probes.insert("tool -V".to_owned(), "tool 1.1".to_owned()))
        }),
        ("what a probe input prints", &|world| {
            drop(world.probes.insert("date".to_owned(), "Sunday".to_owned()))
        }),
        ("a variable", &|world| drop(world.env.insert("LANG".to_owned(), "de".to_owned()))),
        ("that a variable is unset", &|world| drop(world.env.remove("LANG"))),
        ("a resource that a resource needs", &|world| world.text = world.text.replace("mode-1", "mode-2")),
    ];
    for (what, change) in changes {
        let mut changed = world.clone();
        change(&mut changed);
        assert_ne!(before, changed.version("target"), "{what}");
    }
    let mut empty = world.clone();
    empty.env.insert("LANG".to_owned(), String::new());
    let mut unset = world.clone();
    unset.env.remove("LANG");
    assert_ne!(empty.version("target"), unset.version("target"), "empty is not unset");
    let mut elsewhere = world.clone();
    elsewhere.platform = "linux/aarch64".to_owned();
    assert_ne!(before, elsewhere.version("target"), "the platform");
    let anywhere = |world: &World| world.edited("{retries: 0}", "{platform: any}").version("target");
    assert_eq!(anywhere(&world), anywhere(&elsewhere), "platform: any leaves the platform out");
}

const TWO: &str = "
solids:
  a: {version: '1', command: 'echo a > {{ outputs.result }}'}
  b: {version: '1', command: 'echo b > {{ outputs.result }}'}
  target:
    inputs: {x: a, y: b}
    command: 'cat {{ inputs.x }} {{ inputs.y }} > {{ outputs.result }}'
";

#[test]
fn swapping_two_inputs_changes_the_version_and_swapping_their_lines_does_not() {
    assert!(!same(TWO, &TWO.replace("{x: a, y: b}", "{x: b, y: a}")));
    assert!(same(TWO, &TWO.replace("{x: a, y: b}", "{y: b, x: a}")));
    assert!(!same(TWO, &TWO.replace("{x: a, y: b}", "{x.txt: a, y: b}")));
}

#[test]
fn the_order_of_a_fan_in_counts() {
    let fan = "
solids:
  a: {command: 'echo a > {{ outputs.result }}'}
  b: {command: 'echo b > {{ outputs.result }}'}
  target: {inputs: {all: [a, b]}, command: 'cat {{ inputs.all }} > {{ outputs.result }}'}
";
    assert!(!same(fan, &fan.replace("[a, b]", "[b, a]")));
    assert!(!same(fan, &fan.replace("[a, b]", "[a, b, b]")));
    assert!(!same(fan, &fan.replace("all: [a, b]", "all: a")));
    assert!(!same(&fan.replace("[a, b]", "[a]"), &fan.replace("all: [a, b]", "all: a")));
}

#[test]
fn renaming_an_invocation_changes_nothing_and_renaming_a_solid_does() {
    let text = "
solids:
  first: {command: 'echo a > {{ outputs.result }}'}
  second: {solid: first}
  target: {inputs: {x: second}, command: 'cat {{ inputs.x }} > {{ outputs.result }}'}
";
    assert!(same(text, &text.replace("second", "renamed")));
    assert!(same(text, &text.replace("{x: second}", "{x: first}")));
    assert!(!same(text, &text.replace("first", "renamed")));
}

#[test]
fn two_solids_without_inputs_and_with_equal_versions_differ_by_name() {
    let world = World::new(TWO);
    let renamed = TWO.replace("echo b", "echo a");
    let world_of_equals = World::new(&renamed);
    assert_ne!(world.version("a"), world.version("b"));
    assert_ne!(world_of_equals.version("a"), world_of_equals.version("b"));
}

#[test]
fn a_byte_that_moves_over_a_boundary_changes_the_version() {
    let config = |a: &str, b: &str| {
        format!(
            "
solids:
  target:
    config: {{a: {{type: str, default: '{a}'}}, b: {{type: str, default: '{b}'}}}}
    command: 'echo {{{{ config.a }}}} > {{{{ outputs.result }}}}'
"
        )
    };
    assert!(!same(&config("ab", "c"), &config("a", "bc")));
    let list = |text: &str| format!("solids: {{target: {{command: [{text}], outputs: []}}}}");
    assert!(!same(&list("tool, ab, c"), &list("tool, a, bc")));
    assert!(!same(&list("tool, ab"), &list("tool, ab, ''")));
    let code = |files: &str| format!("solids: {{target: {{code: [{files}], command: 'true', outputs: []}}}}");
    assert!(same(&code("a.py, b.py"), &code("b.py, a.py")), "code is a set");
}

fn literal(value: &str) -> String {
    format!("solids: {{target: {{inputs: {{n: {{value: {value}}}}}, command: 'true', outputs: []}}}}")
}

#[test]
fn values_keep_their_types() {
    let values = [
        "1", "1.0", "\"1\"", "true", "\"true\"", "\"True\"", "null", "\"\"", "{}", "[]", "[1]", "[[1]]",
        "{a: 1}", "-1", "0", "0.0", "-0.0", "[null]",
    ];
    let versions =
        values.iter().map(|value| World::new(&literal(value)).version("target")).collect::<BTreeSet<_>>();
    assert_eq!(versions.len(), values.len());
    assert!(same(&literal("{a: 1, b: 2}"), &literal("{b: 2, a: 1}")), "the order of a map does not count");
    assert!(!same(&literal("[1, 2]"), &literal("[2, 1]")), "the order of a list does");
    assert!(same(&literal("1.50"), &literal("1.5")), "it is the value that counts, not how it is written");
}

#[test]
fn a_float_field_takes_a_whole_number_as_a_float_and_nothing_else_is_converted() {
    let field = |ty: &str, value: &str| {
        let text = format!("solids: {{target: {{config: {{n: {ty}}}, command: 'true', outputs: []}}}}");
        World::new(&text).with_run_config(&format!("solids: {{target: {{config: {{n: {value}}}}}}}"))
    };
    assert_eq!(field("float", "1").version("target"), field("float", "1.0").version("target"));
    assert_ne!(field("any", "1").version("target"), field("any", "1.0").version("target"));
    assert_eq!(field("any", "1").version("target"), field("int", "1").version("target"));
    for (ty, value) in
        [("int", "1.0"), ("str", "1"), ("bool", "\"true\""), ("int", "true"), ("float", "\"1\"")]
    {
        assert!(field(ty, value).graph().is_err(), "{value} is no {ty}");
    }
}

#[test]
fn matrix_values_are_config() {
    let by_matrix =
        "solids: {target: {matrix: {lr: [0.1]}, command: 'echo {{ config.lr }}', stdout: result}}";
    let by_config = "solids: {target: {config: {lr: {type: float, default: 0.1}}, command: 'echo {{ config.lr }}', stdout: result}}";
    assert!(same(by_matrix, by_config));
    assert!(!same(by_matrix, &by_matrix.replace("0.1", "0.2")));
    assert!(same(by_matrix, &by_matrix.replace("[0.1]", "[0.1, 0.2]")), "other elements do not count");
}

#[test]
fn a_gather_counts_labels_and_order() {
    let text = "
solids:
  part: {matrix: {n: [1, 2]}, command: 'echo {{ config.n }}', stdout: result}
  target: {inputs: {all: 'part[*]'}, command: 'cat {{ inputs.all }}', stdout: result}
";
    assert!(!same(text, &text.replace("[1, 2]", "[2, 1]")));
    assert!(!same(text, &text.replace("[1, 2]", "[1, 2, 3]")));
    assert!(!same(text, &text.replace("'part[*]'", "['part[n=1]', 'part[n=2]']")), "a fan-in has no labels");
}

#[test]
fn the_order_of_declared_outputs_counts_because_a_record_is_read_by_position() {
    // It once did not count for a command: after `outputs: [a, b]` became `[b, a]`, a reader of `b` was given
    // what `a` held.
    let text = "solids: {target: {command: 'echo', outputs: [a, b], stdout: a}}";
    assert!(!same(text, &text.replace("[a, b]", "[b, a]")));
    assert!(!same(text, &text.replace("stdout: a", "stdout: b")));
}

#[test]
fn below_a_volatile_step_there_is_no_version_until_its_content_is_known() {
    use cas_engine::version::InputContent;
    use cas_store::{Artifact, Digest, Kind};
    let world = World::new(
        "
solids:
  now: {version: volatile, command: date, stdout: result}
  target: {inputs: {x: now}, command: 'cat {{ inputs.x }}', stdout: result}
  below: {inputs: {x: target}, command: 'cat {{ inputs.x }}', stdout: result}
",
    );
    let plan = world.plan();
    let known = plan.versions.iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(known, [true, false, false]);
    let target = plan.graph.select("target").unwrap_or_else(|error| panic!("{error}"))[0];
    let content = |text: &str| Artifact {
        kind: Kind::File { executable: false },
        codec: "file".to_owned(),
        digest: Digest::of(text.as_bytes()),
        len: text.len() as u64,
    };
    let version = |text: &str| {
        let artifact = content(text);
        plan.version_by_content(target, &mut |_| None, &mut |_| Some(InputContent::Artifact(&artifact)))
    };
    assert!(version("Monday").is_some());
    assert_eq!(version("Monday"), version("Monday"));
    assert_ne!(version("Monday"), version("Tuesday"));
    assert_eq!(plan.version_by_content(target, &mut |_| None, &mut |_| None), None);
}

#[test]
fn a_trace_holds_content_and_no_version() {
    use cas_engine::version::InputContent;
    use cas_store::{Artifact, Digest, Kind};
    let file = |text: &str, executable: bool, codec: &str| Artifact {
        kind: Kind::File { executable },
        codec: codec.to_owned(),
        digest: Digest::of(text.as_bytes()),
        len: 0,
    };
    let trace = |text: &str, artifact: &Artifact| {
        let plan = World::new(text).plan();
        let target = plan.graph.select("target").unwrap_or_else(|error| panic!("{error}"))[0];
        plan.trace(target, &mut |_| Some(InputContent::Artifact(artifact)))
            .unwrap_or_else(|| panic!("no trace"))
    };
    let artifact = file("same", false, "file");
    let recolored = TWO.replace("echo a", "printf a");
    assert_eq!(trace(TWO, &artifact), trace(&recolored, &artifact), "what made the content does not count");
    assert_ne!(trace(TWO, &artifact), trace(&TWO.replace("cat", "tac"), &artifact));
    assert_ne!(trace(TWO, &artifact), trace(TWO, &file("other", false, "file")));
    assert_ne!(trace(TWO, &artifact), trace(TWO, &file("same", true, "file")));
    assert_ne!(trace(TWO, &artifact), trace(TWO, &file("same", false, "json")));
    let tree = Artifact { kind: Kind::Tree, ..artifact.clone() };
    assert_ne!(trace(TWO, &artifact), trace(TWO, &tree));
    let plan = World::new(TWO).plan();
    let target = plan.graph.select("target").unwrap_or_else(|error| panic!("{error}"))[0];
    let absent = plan.trace(target, &mut |_| Some(InputContent::Absent));
    assert_ne!(absent, Some(trace(TWO, &artifact)));
}

/// Equal bytes may be another value: the shape of the type that was declared for them counts beside the codec.
#[test]
fn content_counts_with_the_shape_of_its_type() {
    use cas_engine::graph::Graph;
    use cas_engine::plan::Plan;
    use cas_engine::version::InputContent;
    use cas_store::{Artifact, Digest, Kind};
    let artifact = Artifact {
        kind: Kind::File { executable: false },
        codec: "file".to_owned(),
        digest: Digest::of(b"same"),
        len: 4,
    };
    let trace = |shape: Option<&str>| {
        let world = World::new(TWO);
        let mut pipeline = Arc::unwrap_or_clone(world.plan().graph.pipeline.clone());
        let mut solid = Arc::unwrap_or_clone(Arc::clone(&pipeline.invocations[0].solid));
        solid.outputs[0].shape = shape.map(str::to_owned);
        pipeline.invocations[0].solid = Arc::new(solid);
        let graph =
            Graph::new(Arc::new(pipeline), None, &RunConfig::default()).unwrap_or_else(|e| panic!("{e:?}"));
        let measures = world.measures(&graph);
        let steps = graph.ids().collect();
        let plan = Plan::new(Arc::new(graph), Arc::new(measures), steps);
        let target = plan.graph.select("target").unwrap_or_else(|error| panic!("{error}"))[0];
        plan.trace(target, &mut |_| Some(InputContent::Artifact(&artifact)))
    };
    assert!(trace(None).is_some());
    assert_ne!(trace(None), trace(Some("u32")));
    assert_ne!(trace(Some("i32")), trace(Some("u32")));
}

/// A chain of so many steps, each reading the three before it.
fn chain(steps: usize) -> World {
    let mut text = String::from("solids:\n  s0: {command: 'true', stdout: result}\n");
    for step in 1..steps {
        let reads = (step.saturating_sub(3)..step).map(|from| format!("i{from}: s{from}"));
        let reads = reads.collect::<Vec<_>>().join(", ");
        text.push_str(&format!("  s{step}: {{inputs: {{{reads}}}, command: 'true', stdout: result}}\n"));
    }
    World::new(&text)
}

#[test]
fn the_work_grows_with_the_steps_and_not_with_their_square() {
    let work = |steps| chain(steps).plan().encoded_bytes();
    let (small, large) = (work(500), work(2000));
    assert!(large < small * 41 / 10, "four times the steps took {large} bytes after {small}");
    let sweep = |points: usize| {
        let points = (0..points).map(|point| point.to_string()).collect::<Vec<_>>().join(", ");
        let text = format!(
            "
solids:
  part: {{matrix: {{n: [{points}]}}, command: 'true', stdout: result}}
  all: {{inputs: {{all: 'part[*]'}}, matrix: {{m: [1, 2, 3, 4, 5, 6, 7, 8]}}, command: 'true', stdout: result}}
"
        );
        World::new(&text).plan().encoded_bytes()
    };
    assert!(sweep(4000) < sweep(1000) * 41 / 10);
}

fn any_value() -> impl Strategy<Value = cas_engine::value::Value> {
    use cas_engine::value::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Int(number.into())),
        (-1e9..1e9_f64).prop_map(Value::Float),
        "[a-z\"\\\\ ]{0,6}".prop_map(Value::Str),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map("[a-c]{0,2}", inner, 0..4).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn different_values_give_different_versions_and_equal_ones_the_same(a in any_value(), b in any_value()) {
        // JSON is YAML, but for a float in the place of a whole number, which keeps its dot here.
        let version = |value: &cas_engine::value::Value| World::new(&literal(&value.to_string())).version("target");
        prop_assert_eq!(version(&a) == version(&b), a.to_string() == b.to_string());
    }

    #[test]
    fn different_texts_in_neighbouring_fields_give_different_versions(a in "[ab]{0,3}", b in "[ab]{0,3}", c in "[ab]{0,3}", d in "[ab]{0,3}") {
        let text = |x: &str, y: &str| format!(
            "solids: {{target: {{command: [tool, \"{x}\", \"{y}\"], env: {{A: \"{x}\", B: \"{y}\"}}, outputs: []}}}}"
        );
        let version = |x: &str, y: &str| World::new(&text(x, y)).version("target");
        prop_assert_eq!(version(&a, &b) == version(&c, &d), (&a, &b) == (&c, &d));
    }
}

/// The version of `target` if its solid were a Rust function with a version by hand.
fn of_function(text: &str) -> cas_store::Version {
    use std::sync::Arc;

    use cas_engine::config::RunConfig;
    use cas_engine::execute::{Call, Function, Produced};
    use cas_engine::graph::Graph;
    use cas_engine::plan::Plan;
    use cas_engine::solid::{Body, Declared};

    #[derive(Debug)]
    struct Nothing;
    impl Function for Nothing {
        fn call(&self, _call: &Call<'_>) -> Result<Vec<Produced>, Box<dyn std::error::Error + Send + Sync>> {
            Ok(Vec::new())
        }
    }

    let world = World::new(text);
    let graph = world.graph().unwrap_or_else(|errors| panic!("{errors}"));
    let mut pipeline = (*graph.pipeline).clone();
    for invocation in pipeline.invocations.iter_mut().filter(|invocation| invocation.name == "target") {
        let mut solid = (*invocation.solid).clone();
        solid.body = Body::Function(Arc::new(Nothing));
        solid.version = Some(Declared::Text("by hand".to_owned()));
        invocation.solid = Arc::new(solid);
    }
    let graph = Graph::new(Arc::new(pipeline), None, &RunConfig::default());
    let graph = Arc::new(graph.unwrap_or_else(|errors| panic!("{errors:?}")));
    let measures = Arc::new(world.measures(&graph));
    let steps = graph.ids().collect();
    let target = graph.select("target").unwrap_or_else(|error| panic!("{error}"))[0];
    let plan = Plan::new(graph, measures, steps);
    plan.versions[target.0 as usize].unwrap_or_else(|| panic!("no version"))
}

#[test]
fn a_function_is_given_inputs_and_gives_outputs_in_order_so_the_order_counts() {
    let outputs = TWO.replace("  target:", "  target:\n    outputs: [result, other]");
    let version = of_function(&outputs);
    assert_ne!(version, of_function(&outputs.replace("{x: a, y: b}", "{y: b, x: a}")));
    assert_ne!(version, of_function(&outputs.replace("[result, other]", "[other, result]")));
    assert_eq!(version, of_function(&outputs.replace("cat ", "tac ")), "a function has no command");
}
