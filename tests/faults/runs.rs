//! Faults of runs: what was memoized could not be run, or left no trace.

use std::collections::BTreeSet;

use crate::kit::Folder;

const CHAIN: &str = "
pipeline: chain
solids:
  a: {command: echo a, stdout: result}
  b: {inputs: {a: a}, command: 'cat {{ inputs.a }}', stdout: result}
";

/// Fault 12: a fully memoized run crashed in the first release, and steps that were skipped left no trace in any log or
/// on the screen.
#[test]
fn fault_12_a_fully_memoized_run_crashed_or_left_no_trace() {
    let folder = Folder::with(&[("pipeline.yaml", CHAIN)]);
    let _ = folder.cas("run").ok();
    let ran = folder.cas("run").ok();
    assert_eq!(ran.counts(), "nothing to run: 2 reused");
    // On the screen, when asked; among the events; and in the record of the run.
    let told = folder.cas("run -v").ok();
    for step in ["a", "b"] {
        let reused = |line: &str| line.split_whitespace().take(2).eq(["reused", step]);
        assert!(told.stderr.lines().any(reused), "{}", told.stderr);
    }
    let events = folder.cas("run --format json").ok().stdout;
    let reused =
        events.lines().filter(|line| line.contains("\"reused\"") && line.contains("\"step\"")).count();
    assert_eq!(reused, 2, "{events}");
    let runs = folder.cas("runs --format json").ok().stdout;
    assert_eq!(runs.matches("\"run\":").count(), 4, "{runs}");
}

/// Fault 13: selecting steps and running again from a failure were refused, or crashed, when memoized.
#[test]
fn fault_13_selecting_steps_and_running_again_from_a_failure() {
    let folder = Folder::new();
    let broken = folder.path("broken");
    folder.write(
        "pipeline.yaml",
        format!(
            "
pipeline: again
solids:
  a: {{command: echo a, stdout: result}}
  b: {{inputs: {{a: a}}, command: 'test ! -e {} && cat {{{{ inputs.a }}}}', stdout: result}}
  c: {{inputs: {{b: b}}, command: 'cat {{{{ inputs.b }}}}', stdout: result}}
  other: {{command: echo other, stdout: result}}
",
            broken.display()
        ),
    );
    // A selection, of which part is memoized by an earlier one.
    assert_eq!(folder.cas("run a").ok().steps(), ["a"]);
    let selected = folder.cas("run b").ok();
    assert_eq!((selected.steps(), selected.counts()), (vec!["b"], "1 reused, 1 ran"));

    // Again from a failure: what was done stays done, and only what follows runs.
    folder.write("broken", "");
    let _ = folder.cas("run --force b c").code(1);
    std::fs::remove_file(&broken).expect("removed");
    let again = folder.cas("run").ok();
    let steps: BTreeSet<&str> = again.steps().into_iter().collect(); // At once, so in any order.
    assert_eq!(steps, BTreeSet::from(["c", "other"]));
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 4 reused");
}

/// A list of three whose middle element can be made to fail, or, with `broken` beside it, does.
fn mapped(folder: &Folder) -> String {
    format!(
        "
pipeline: mapped
solids:
  split: {{command: 'mkdir outputs/parts && for n in 1 2 3; do echo $n > outputs/parts/$n; done', outputs: [{{parts: {{list: true}}}}]}}
  each: {{map: {{part: split.parts}}, command: 'if grep -q 2 {{{{ inputs.part }}}}; then test ! -e {}; fi && cat {{{{ inputs.part }}}}', stdout: result}}
  all: {{inputs: {{x: 'each[*]'}}, command: 'cat {{{{ inputs.x }}}}/*', stdout: result}}
  other: {{command: echo other, stdout: result}}
",
        folder.path("broken").display()
    )
}

/// Fault 12 for steps that are mapped over a list: a fully memoized run tells of each element.
#[test]
fn fault_12_a_fully_memoized_run_tells_of_each_element() {
    let folder = Folder::new();
    folder.write("pipeline.yaml", mapped(&folder));
    assert_eq!(folder.cas("run").ok().counts(), "0 reused, 6 ran");
    let told = folder.cas("run -v").ok();
    assert_eq!(told.counts(), "nothing to run: 6 reused");
    for step in ["split", "each[part=1]", "each[part=2]", "each[part=3]", "all", "other"] {
        let reused = |line: &str| line.split_whitespace().take(2).eq(["reused", step]);
        assert!(told.stderr.lines().any(reused), "{step}: {}", told.stderr);
    }
    let events = folder.cas("run --format json").ok().stdout;
    let reused =
        events.lines().filter(|line| line.contains("\"reused\"") && line.contains("\"step\"")).count();
    assert_eq!(reused, 6, "{events}");
    let runs = folder.cas("runs --format json").ok().stdout;
    assert_eq!(runs.matches("\"run\":").count(), 3, "{runs}");
}

/// Fault 13 for steps that are mapped over a list: elements are selected, and run again from a failure.
#[test]
fn fault_13_elements_are_selected_and_run_again_from_a_failure() {
    let folder = Folder::new();
    folder.write("pipeline.yaml", mapped(&folder));
    // One element, before and after its list is known; then what it shares with all of them is reused.
    assert_eq!(folder.cas("run 'each[part=1]'").ok().steps(), ["split", "each[part=1]"]);
    assert_eq!(folder.cas("run 'each[part=3]'").ok().steps(), ["each[part=3]"]);

    // Again from a failure: what was done stays done, and only what follows runs.
    folder.write("broken", "");
    let failed = folder.cas("run -k -j 1").code(1);
    assert_eq!(failed.steps(), ["other"]);
    std::fs::remove_file(folder.path("broken")).expect("removed");
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["each[part=2]", "all"]);
    assert_eq!(folder.cas("cat all").ok().stdout, "1\n2\n3\n");
    assert_eq!(folder.cas("run --force 'each[part=2]'").ok().steps(), ["each[part=2]"]);
    assert_eq!(folder.cas("run --exclude each").ok().counts(), "nothing to run: 2 reused");
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 6 reused");
}
