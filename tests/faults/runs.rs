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
