//! Faults of versions: things that differ were taken to be the same.

use std::collections::BTreeSet;

use cas_engine::error::EngineError;
use cas_engine::typed::Builder;

use crate::kit::Folder;

/// The versions that `cas versions` prints, by step output.
fn version(folder: &Folder, output: &str, line: &str) -> String {
    let ran = folder.cas(&format!("versions {line}")).ok();
    let row = ran.stdout.lines().find(|row| row.split('|').nth(1).is_some_and(|name| name.trim() == output));
    let row = row.unwrap_or_else(|| panic!("no row `{output}`:\n{}", ran.stdout));
    row.split('|').nth(2).expect("a version").trim().to_owned()
}

/// Fault 1: hash parts were sorted without their names, so two inputs that changed places, or a fan-in in another order,
/// kept the version, and the stale value was served.
#[test]
fn fault_01_swapping_two_inputs_or_the_order_of_a_fan_in() {
    let pipeline = |x: &str, y: &str, parts: &str| {
        format!(
            "
pipeline: swap
solids:
  a: {{command: echo a, stdout: result}}
  b: {{command: echo b, stdout: result}}
  pair:
    inputs: {{x: {x}, y: {y}}}
    command: cat {{{{ inputs.x }}}} {{{{ inputs.y }}}}
    stdout: result
  list:
    inputs: {{parts: [{parts}]}}
    command: cat {{{{ inputs.parts }}}}
    stdout: result
"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &pipeline("a", "b", "a, b"))]);
    assert_eq!(folder.cas("run").ok().counts(), "0 reused, 4 ran");
    assert_eq!(folder.cas("cat pair").ok().stdout, "a\nb\n");
    assert_eq!(folder.cas("cat list").ok().stdout, "a\nb\n");

    folder.write("pipeline.yaml", pipeline("b", "a", "b, a"));
    let ran = folder.cas("run").ok();
    let steps: BTreeSet<&str> = ran.steps().into_iter().collect(); // At once, so in any order.
    assert_eq!(steps, BTreeSet::from(["pair", "list"]));
    assert_eq!(folder.cas("cat pair").ok().stdout, "b\na\n");
    assert_eq!(folder.cas("cat list").ok().stdout, "b\na\n");
}

/// Fault 2: parts were joined without separators, so a byte could move from one to its neighbour unseen.
#[test]
fn fault_02_parts_were_joined_without_separators() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "
pipeline: parts
solids:
  two:
    config: {first: str, second: str}
    command: echo {{ config.first }} {{ config.second }}
    stdout: result
",
    )]);
    let one = "--set two.first=ab --set two.second=c";
    let other = "--set two.first=a --set two.second=bc";
    assert_ne!(version(&folder, "two.result", one), version(&folder, "two.result", other));
    let _ = folder.cas(&format!("run {one}")).ok();
    assert_eq!(folder.cas(&format!("run {other}")).ok().steps(), ["two"]);
    assert_eq!(folder.cas(&format!("cat two {other}")).ok().stdout, "a bc\n");
    assert_eq!(folder.cas(&format!("cat two {one}")).ok().stdout, "ab c\n");
}

/// Fault 3: config was hashed as text, so values of different types were one.
#[test]
fn fault_03_config_went_through_text() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "
pipeline: types
solids:
  show: {config: {value: any}, command: cat config.json, stdout: result}
",
    )]);
    let mut versions = BTreeSet::new();
    let values = ["1", "1.0", "\"1\"", "true", "\"True\"", "\"true\"", "null", "{}", "\"\"", "[]", "[null]"];
    for value in values {
        folder.write("c.yaml", format!("solids: {{show: {{config: {{value: {value}}}}}}}\n"));
        versions.insert(version(&folder, "show.result", "-c c.yaml"));
        assert_eq!(folder.cas("run -c c.yaml").ok().steps(), ["show"], "{value}");
        let shown = folder.cas("cat show -c c.yaml").ok().stdout;
        assert_eq!(shown.trim(), format!("{{\"value\":{value}}}"));
    }
    assert_eq!(versions.len(), values.len());
    // What is the same is found again: the order of a map's keys says nothing, that of a list does.
    folder.write("c.yaml", "solids: {show: {config: {value: {a: 1, b: [1, 2]}}}}\n");
    let _ = folder.cas("run -c c.yaml").ok();
    folder.write("c.yaml", "solids: {show: {config: {value: {b: [1, 2], a: 1}}}}\n");
    assert_eq!(folder.cas("run -c c.yaml").ok().counts(), "nothing to run: 1 reused");
    folder.write("c.yaml", "solids: {show: {config: {value: {b: [2, 1], a: 1}}}}\n");
    assert_eq!(folder.cas("run -c c.yaml").ok().steps(), ["show"]);
}

/// Fault 4: two steps without inputs whose versions and config were equal shared a version, whatever they computed.
#[test]
fn fault_04_steps_that_compute_different_things_shared_a_version() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "
pipeline: twins
solids:
  dog: {version: '1', command: echo dog, stdout: result}
  cat: {version: '1', command: echo cat, stdout: result}
",
    )]);
    assert_ne!(version(&folder, "dog.result", ""), version(&folder, "cat.result", ""));
    assert_eq!(folder.cas("run").ok().counts(), "0 reused, 2 ran");
    assert_eq!(folder.cas("cat dog").ok().stdout, "dog\n");
    assert_eq!(folder.cas("cat cat").ok().stdout, "cat\n");
}

/// The same for functions, which have no command that could tell them apart: one name cannot stand for two bodies.
#[test]
fn fault_04_two_functions_under_one_name_are_refused() {
    let mut p = Builder::new("twins");
    p.solid("emit", "1").run(|| String::from("dog"));
    p.solid("emit", "1").alias("other").run(|| String::from("cat"));
    let Err(EngineError::Definition(found)) = p.build() else { panic!("it was accepted") };
    assert!(found[0].message.contains("has another body already"), "{found:?}");
}

/// Fault 8: a literal input was hashed by its name, so that 5 and then 6 gave the same answer.
#[test]
fn fault_08_a_literal_was_hashed_by_its_name() {
    let pipeline = |n: &str| {
        format!(
            "
pipeline: literal
solids:
  show: {{inputs: {{n: {{value: {n}}}}}, command: 'cat {{{{ inputs.n }}}}', stdout: result}}
  given: {{inputs: {{n: {{default: 1}}}}, command: 'cat {{{{ inputs.n }}}}', stdout: result}}
"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &pipeline("5"))]);
    let _ = folder.cas("run").ok();
    assert_eq!(folder.cas("cat show").ok().stdout, "5");
    folder.write("pipeline.yaml", pipeline("6"));
    assert_eq!(folder.cas("run").ok().steps(), ["show"]);
    assert_eq!(folder.cas("cat show").ok().stdout, "6");

    folder.write("c.yaml", "solids: {given: {inputs: {n: 2}}}\n");
    assert_eq!(folder.cas("run -c c.yaml").ok().steps(), ["given"]);
    assert_eq!(folder.cas("cat given -c c.yaml").ok().stdout, "2");
}

/// Fault 9: what a resource needed in turn, and files that config named, were in no version.
#[test]
fn fault_09_what_a_resource_needs_and_files_named_in_config() {
    let pipeline = |base: &str| {
        format!(
            "
pipeline: nested
resources:
  base: {{version: '{base}'}}
  tool: {{version: '1', resources: [base]}}
solids:
  use: {{resources: [tool], command: echo used, stdout: result}}
  read:
    config: {{file: str}}
    inputs: {{data: {{path: '{{{{ config.file }}}}'}}}}
    command: cat {{{{ inputs.data }}}}
    stdout: result
"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &pipeline("1")), ("data.txt", "one\n")]);
    let run = "run --set read.file=data.txt";
    assert_eq!(folder.cas(run).ok().counts(), "0 reused, 2 ran");
    folder.write("pipeline.yaml", pipeline("2"));
    assert_eq!(folder.cas(run).ok().steps(), ["use"]);
    folder.write("data.txt", "two\n");
    assert_eq!(folder.cas(run).ok().steps(), ["read"]);
    assert_eq!(folder.cas("cat read --set read.file=data.txt").ok().stdout, "two\n");
}

/// Fault 11: one missing version made everything below fail, with an error about types.
#[test]
fn fault_11_a_missing_version_is_named_with_what_to_do() {
    let mut p = Builder::new("missing");
    let dog = p.solid("emit_dog", "").run(|| String::from("dog"));
    let loud = p.solid("loud", "1").input("dog", dog).run(|dog: String| dog.to_uppercase());
    p.solid("louder", "1").input("dog", loud).run(|dog: String| dog + "!");
    let Err(EngineError::Definition(found)) = p.build() else { panic!("it was accepted") };
    let [only] = &found[..] else { panic!("one thing is wrong, not {found:?}") };
    assert_eq!(only.message, "solid `faults::emit_dog` has no version");
    assert!(only.hint.as_ref().is_some_and(|hint| hint.contains("file_version!()")), "{only:?}");
    assert!(only.place.as_ref().is_some_and(|place| place.file.ends_with("identity.rs")), "{only:?}");

    let folder = Folder::with(&[(
        "pipeline.yaml",
        "
pipeline: missing
resources: {tool: {env: {A: b}}}
solids:
  use: {resources: [tool], command: echo used, stdout: result}
  below: {inputs: {x: use}, command: 'cat {{ inputs.x }}', stdout: result}
",
    )]);
    let ran = folder.cas("versions").code(2);
    assert!(ran.stderr.contains("the resource `tool` has no version"), "{}", ran.stderr);
    assert!(ran.stderr.contains("pipeline.yaml:3"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("below"), "{}", ran.stderr);
}

/// Fault 15: computing versions was quadratic: planning a chain of 1,000 trivial steps took 300 s, running it 247 s.
#[test]
fn fault_15_computing_versions_was_quadratic() {
    let mut text = String::from("pipeline: chain\nsolids:\n  s0: {command: echo 0, stdout: result}\n");
    for step in 1..1000 {
        let before = step - 1;
        text.push_str(&format!(
            "  s{step}: {{inputs: {{x: s{before}}}, command: 'cat {{{{ inputs.x }}}}', stdout: result}}\n"
        ));
    }
    let folder = Folder::with(&[("pipeline.yaml", &text)]);
    // Far above what it takes on a busy machine, far below what it took the ancestor.
    let began = std::time::Instant::now();
    let rows =
        folder.cas("versions").ok().stdout.lines().filter(|row| row.contains("to-be-recomputed")).count();
    assert_eq!(rows, 1000);
    assert!(began.elapsed().as_secs() < 30, "planning took {:?}", began.elapsed());
    assert_eq!(folder.cas("run").ok().counts(), "0 reused, 1,000 ran");
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 1,000 reused");
    assert!(began.elapsed().as_secs() < 120, "all of it took {:?}", began.elapsed());
}
