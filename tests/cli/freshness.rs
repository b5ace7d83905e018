//! What is good for a while: answers of probes, results, and taking both as they were left.

use crate::kit::Folder;

/// A probe that counts how often it is asked, outside of the pipeline's folder of declared things.
fn probed(every: &str) -> String {
    format!(
        "pipeline: p\nsolids:\n  a:\n    inputs: {{t: {{probe: echo x >> asked; wc -l < asked{every}}}}}\n    command: cat \
         inputs/t\n    stdout: result\n"
    )
}

#[test]
fn an_answer_that_is_good_for_an_hour_is_asked_for_once_by_every_command() {
    let folder = Folder::with(&[("pipeline.yaml", &probed(", every: 1h"))]);
    assert_eq!(folder.cas("run").ok().steps(), ["a"]);
    for line in ["run", "status", "explain a", "versions"] {
        let _ = folder.cas(line).ok();
    }
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 1 reused");
    assert_eq!(folder.read("asked"), "x\n");
    // Another command is another question.
    folder.write("pipeline.yaml", probed(", every: 1h").replace("wc -l", "wc  -l"));
    let _ = folder.cas("run").ok();
    assert_eq!(folder.read("asked"), "x\nx\n");
}

#[test]
fn an_answer_is_asked_for_again_when_its_time_is_over() {
    // A millisecond is over by the next command.
    let folder = Folder::with(&[("pipeline.yaml", &probed(", every: 1ms"))]);
    assert_eq!(folder.cas("run").ok().steps(), ["a"]);
    assert_eq!(folder.cas("run").ok().steps(), ["a"]);
    assert_eq!(folder.read("asked"), "x\nx\n");
}

#[test]
fn frozen_takes_the_last_answers_and_the_last_results() {
    let yaml = probed("")
        + "  v: {version: volatile, command: \"echo x >> $COUNTED; wc -l < $COUNTED\", \
                             pass_env: [COUNTED], stdout: result}\n  below: {inputs: {x: v}, command: cat inputs/x, \
                             stdout: result}\n";
    let mut folder = Folder::with(&[("pipeline.yaml", &yaml)]);
    let count = folder.path("count").display().to_string();
    folder.variable("COUNTED", &count);
    let _ = folder.cas("run --frozen").ok();
    assert_eq!((folder.read("asked").as_str(), folder.read("count").as_str()), ("x\n", "x\n"));
    let frozen = folder.cas("--frozen run").ok();
    // What stands below is found by content, as in every run.
    assert_eq!((frozen.counts(), frozen.steps().len()), ("2 reused, 1 unchanged, 0 ran", 0));
    assert_eq!(folder.cas("status --frozen").ok().stdout, "3 steps: 3 stored\nnothing to run\n");
    assert_eq!((folder.read("asked").as_str(), folder.read("count").as_str()), ("x\n", "x\n"));
    let fresh = folder.cas("run -j 1").ok();
    let mut ran = fresh.steps();
    ran.sort_unstable();
    assert_eq!(ran, ["a", "below", "v"]);
    assert!(!fresh.stderr.contains("gave other content"), "{}", fresh.stderr);
}

#[test]
fn a_result_that_is_good_for_a_day_is_made_once_a_day() {
    let yaml = "pipeline: p\nsolids:\n  d: {version: {every: 1d}, command: date +%N, stdout: result}\n  ms: {version: \
                {every: 1ms}, command: date +%N, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run").ok();
    let again = folder.cas("run").ok();
    assert_eq!(again.steps(), ["ms"]);
    assert!(again.stderr.contains("its result is older than `every` allows"), "{}", again.stderr);
    assert!(!again.stderr.contains("gave other content"), "{}", again.stderr);
    assert_eq!(folder.cas("run --frozen").ok().counts(), "nothing to run: 2 reused");
}
