//! Faults of what was stored: wrong results that counted as right, and right ones that did not count.

use crate::kit::Folder;

/// Fault 5: a fan-in below memoized steps silently received an empty list, and the wrong result was stored.
#[test]
fn fault_05_a_fan_in_below_memoized_steps_was_empty() {
    let pipeline = |words: &str| {
        format!(
            "
pipeline: fan
solids:
  a: {{command: echo a, stdout: result}}
  b: {{command: echo b, stdout: result}}
  each: {{matrix: {{n: [1, 2, 3]}}, command: 'echo {{{{ matrix.n }}}}', stdout: result}}
  all:
    inputs: {{parts: [a, b], each: 'each[*]'}}
    command: echo {words} && cat {{{{ inputs.parts }}}} {{{{ inputs.each }}}}/*
    stdout: result
"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &pipeline("first"))]);
    // Everything above is stored by a run of its own, so that the fan-in is made of memoized steps only.
    assert_eq!(folder.cas("run a b each").ok().counts(), "0 reused, 5 ran");
    assert_eq!(folder.cas("run").ok().steps(), ["all"]);
    assert_eq!(folder.cas("cat all").ok().stdout, "first\na\nb\n1\n2\n3\n");
    folder.write("pipeline.yaml", pipeline("second"));
    assert_eq!(folder.cas("run").ok().steps(), ["all"]);
    assert_eq!(folder.cas("cat all").ok().stdout, "second\na\nb\n1\n2\n3\n");
}

/// Fault 6: a crash while writing left a truncated file, which counted as stored for ever after.
#[test]
fn fault_06_a_crash_while_writing_left_a_truncated_result() {
    let folder = Folder::new();
    let crash = folder.path("crash");
    // Whom to kill in the middle of writing is said from outside: the step itself, or cas, which started it.
    folder.write(
        "pipeline.yaml",
        format!(
            "
pipeline: crash
solids:
  write:
    command: |
      printf 'half of it' > {{{{ outputs.result }}}}
      if [ -e '{0}' ]; then
        read -r whom < '{0}'
        if [ \"$whom\" = step ]; then kill -9 $$; else kill -9 $PPID; fi
        exit 1
      fi
      printf ' and the rest' >> {{{{ outputs.result }}}}
",
            crash.display()
        ),
    );
    let to_be_recomputed = |line: &str| {
        let table = folder.cas(line).ok().stdout;
        assert!(table.contains("to-be-recomputed") && !table.contains("stored"), "{table}");
    };
    folder.write("crash", "step\n");
    let _ = folder.cas("run").code(1);
    to_be_recomputed("versions");

    folder.write("crash", "cas\n");
    let _ = folder.cas("run").code(137);
    to_be_recomputed("versions");

    std::fs::remove_file(crash).expect("removed");
    assert_eq!(folder.cas("run").ok().steps(), ["write"]);
    assert_eq!(folder.cas("cat write").ok().stdout, "half of it and the rest");
    let _ = folder.cas("verify").ok();
}

/// Fault 7: a step without outputs never ran, and one with an output that it did not yield always did.
#[test]
fn fault_07_steps_without_outputs_and_outputs_that_are_not_made() {
    let folder = Folder::new();
    let log = folder.path("log");
    folder.write(
        "pipeline.yaml",
        format!(
            "
pipeline: nothing
solids:
  effect: {{outputs: [], command: echo effect >> {0}}}
  maybe: {{outputs: [{{result: {{optional: true}}}}], command: echo maybe >> {0}}}
",
            log.display()
        ),
    );
    let _ = folder.cas("run -j 1").ok();
    let log = folder.read("log"); // One line each, in any order.
    assert_eq!(log.len(), "effect\nmaybe\n".len());
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 2 reused");
    assert_eq!(folder.read("log"), log);
}

/// Fault 10: a deleted intermediate was computed again though nothing needed it, and an equal result of a step that ran
/// again stopped nothing.
#[test]
fn fault_10_deleted_intermediates_and_no_early_cutoff() {
    let pipeline = |comment: &str, last: &str| {
        format!(
            "
pipeline: chain
solids:
  a: {{command: 'echo a # {comment}', stdout: result}}
  b: {{inputs: {{a: a}}, command: 'sed s/a/ab/ {{{{ inputs.a }}}}', stdout: result}}
  c: {{inputs: {{b: b}}, command: '{last} {{{{ inputs.b }}}}', stdout: result}}
"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &pipeline("first", "sed s/b/bc/"))]);
    assert_eq!(folder.cas("run").ok().counts(), "0 reused, 3 ran");

    // The code of `a` changed, what it makes did not: nothing below runs.
    folder.write("pipeline.yaml", pipeline("second", "sed s/b/bc/"));
    let ran = folder.cas("run").ok();
    assert_eq!((ran.steps(), ran.counts()), (vec!["a"], "0 reused, 2 unchanged, 1 ran"));

    // Only the end is kept: what it was made from is gone, and nobody asks for it.
    let _ = folder.cas("pin c").ok();
    let _ = folder.cas("gc --max-size 0").ok();
    let table = folder.cas("versions").ok().stdout;
    let statuses: Vec<&str> =
        table.lines().skip(2).filter_map(|row| row.split('|').nth(3)).map(str::trim).collect();
    assert_eq!(statuses, ["not-needed", "not-needed", "stored"], "{table}");
    assert_eq!(folder.cas("run").ok().steps(), Vec::<&str>::new());

    // Somebody asks for it: now it is made again.
    folder.write("pipeline.yaml", pipeline("second", "wc -c <"));
    assert_eq!(folder.cas("run").ok().steps(), ["a", "b", "c"]);
    assert_eq!(folder.cas("cat c").ok().stdout.trim(), "3");
}

/// Fault 10 for steps that are mapped over a list.
#[test]
fn fault_10_deleted_elements_are_made_only_for_who_needs_them_and_there_is_early_cutoff() {
    let pipeline = |comment: &str, last: &str| {
        format!(
            "
pipeline: mapped
solids:
  split: {{command: 'mkdir outputs/parts && for n in 1 2 3; do echo $n > outputs/parts/$n; done # {comment}', outputs: [{{parts: {{list: true}}}}]}}
  each: {{map: {{part: split.parts}}, command: 'sed s/^/n/ {{{{ inputs.part }}}}', stdout: result}}
  all: {{inputs: {{x: 'each[*]'}}, command: '{last} {{{{ inputs.x }}}}/*', stdout: result}}
"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &pipeline("first", "cat"))]);
    let first = folder.cas("run -j 1").ok();
    assert_eq!(first.steps(), ["split", "each[part=1]", "each[part=2]", "each[part=3]", "all"]);
    assert_eq!(folder.cas("cat all").ok().stdout, "n1\nn2\nn3\n");

    // The code of the step that yields the list changed, the list did not: no element runs, and nothing below.
    folder.write("pipeline.yaml", pipeline("second", "cat"));
    assert_eq!(folder.cas("run").ok().steps(), ["split"]);

    // Only the end is kept: the list and its elements are gone, and nobody asks for them.
    let _ = folder.cas("pin all").ok();
    let _ = folder.cas("gc --max-size 0").ok();
    assert_eq!(folder.cas("run").ok().steps(), [""; 0]);
    assert_eq!(folder.cas("cat all").ok().stdout, "n1\nn2\nn3\n");

    // Somebody asks for them: now all is made again, each once, with its list.
    folder.write("pipeline.yaml", pipeline("second", "wc -l"));
    let again = folder.cas("run -j 1").ok();
    assert_eq!(again.steps(), ["split", "each[part=1]", "each[part=2]", "each[part=3]", "all"]);
    assert_eq!(folder.cas("run").ok().steps(), [""; 0]);
}
