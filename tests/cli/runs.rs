//! `cas run`, from the first to the one with nothing to do, with failures and what they leave.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::dogs;
use crate::kit::Folder;

#[test]
fn a_run_tells_what_ran_and_why_and_ends_with_one_line() {
    let folder = dogs();
    let first = folder.cas("run -j 1").ok();
    assert_eq!(first.counts(), "0 reused, 3 ran");
    assert_eq!(first.steps(), ["emit_dog", "emit_tree", "emit_sentence"]);
    folder.cas("run").shows(
        "
$ cas run
nothing to run: 3 reused, [time]
",
    );
    folder.cas("run --set emit_tree.tree_species=red_maple").shows(
        "
$ cas run --set emit_tree.tree_species=red_maple
1 reused, 2 ran, [time]
! run 3 of dogs: 2 of 3 steps to run
! ran       emit_tree  [time]  config.tree_species: douglas_fir → red_maple
! ran       emit_sentence  [time]  input tree: config.tree_species: douglas_fir → red_maple
",
    );
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 3 reused");
    let verbose = folder.cas("run -v").ok();
    assert_eq!(
        verbose.stderr.lines().filter(|line| line.starts_with("reused ")).count(),
        3,
        "{}",
        verbose.stderr
    );
    let quiet = folder.cas("run -q --force").ok();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}

#[test]
fn named_steps_globs_and_exclusions_choose_what_runs() {
    let folder = dogs();
    assert_eq!(folder.cas("run emit_dog").ok().steps(), ["emit_dog"]);
    assert_eq!(folder.cas("run --exclude emit_tree").ok().counts(), "nothing to run: 1 reused");
    assert_eq!(folder.cas("run 'emit_t*'").ok().steps(), ["emit_tree"]);
    assert_eq!(folder.cas("run --only emit_sentence").ok().steps(), ["emit_sentence"]);
    assert_eq!(folder.cas("run --force emit_dog+").ok().steps(), ["emit_dog", "emit_sentence"]);
    let nothing = folder.cas("run emit_dog --exclude emit_dog").code(2);
    assert!(nothing.stderr.contains("nothing is left"), "{}", nothing.stderr);
}

#[test]
fn a_dry_run_says_what_would_run_and_runs_nothing() {
    let folder = dogs();
    folder.cas("run -n").shows(
        "
$ cas run -n
3 steps: 3 to-be-recomputed
emit_dog       it has not run yet
emit_tree      it has not run yet
emit_sentence  `emit_dog`: it has not run yet
how long it takes is not known: nothing of it ran before
! there is no store at `.cas` yet (chosen by the default, beside the pipeline): nothing is stored
",
    );
    assert!(!folder.has(".cas"));
}

const FAILS: &str = "\
pipeline: fails
solids:
  good: {command: echo fine, stdout: result}
  bad: {command: echo something is wrong >&2; exit 3, stdout: result}
  after: {inputs: {x: bad}, command: \"cat {{ inputs.x }}\", stdout: result}
";

#[test]
fn a_failure_is_told_with_its_output_and_where_to_look_and_the_code_is_1() {
    let folder = Folder::with(&[("pipeline.yaml", FAILS)]);
    folder.cas("run -k -j 1").shows(
        "
$ cas run -k -j 1
0 reused, 1 ran, 1 failed, 1 skipped, [time]
! run 1 of fails: 3 steps to run
! failed    bad  [time]: exit status 3
!   | something is wrong
!   its folder is kept: .cas/work/failed/1-bad (run.sh repeats it)
! ran       good  [time]  for the first time
[1]
",
    );
    let logs = folder.cas("logs bad").ok();
    assert_eq!(logs.stdout, "something is wrong\n");
    assert!(logs.stderr.contains("bad, run 1: exit status 3"), "{}", logs.stderr);
    assert_eq!(folder.cas("run good").ok().counts(), "nothing to run: 1 reused");
    let again = folder.cas("run -q").code(1);
    assert!(again.stderr.starts_with("failed    bad") && again.stdout.is_empty(), "{}", again.transcript());
}

#[test]
fn events_are_one_document_a_line_on_stdout_and_nothing_else_is() {
    let folder = dogs();
    let ran = folder.cas("run --format json").ok();
    let events: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is a document")).collect();
    assert!(events.iter().all(|event| event["cas"] == 1), "{}", ran.stdout);
    assert_eq!(events.first().map(|event| &event["event"]), Some(&"run-started".into()));
    let last = events.last().expect("there are events");
    assert_eq!((&last["event"], &last["ran"]), (&"run-finished".into(), &3.into()));
    assert_eq!(ran.stderr, "");
}

#[test]
fn what_a_step_printed_is_shown_when_asked_for() {
    let folder = dogs();
    let ran = folder.cas("run emit_tree --show-output").ok();
    assert_eq!(ran.steps(), ["emit_tree"]);
    assert!(ran.stderr.contains("printed   emit_tree:\n  | planting\n"), "{}", ran.stderr);
    // What does not run prints nothing.
    let again = folder.cas("run emit_tree --show-output").ok();
    assert_eq!((again.steps(), again.stderr.contains("planting")), (vec![], false));
}

#[test]
fn ctrl_c_ends_the_run_in_order_and_what_had_finished_is_kept() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let folder = Folder::with(&[(
            "pipeline.yaml",
            "solids:\n  a: {command: echo a, stdout: result}\n  \
             b: {inputs: {x: a}, command: \"cat {{ inputs.x }}; sleep 600\", stdout: result}\n",
        )]);
        let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
        let mut child = command
            .args(["run", "--format", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("cas can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        // `b` has begun: its `sleep` would go on for ten minutes.
        let begun = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("\"event\":\"step-started\"") && line.contains("\"step\":\"b\""));
        assert!(begun);
        let kill = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.expect("kill can be started").success());
        let last = lines.map_while(Result::ok).last().expect("it says how it ended");
        assert!(last.contains("\"interrupted\":true") && last.contains("\"ran\":1"), "{last}");
        assert_eq!(child.wait().expect("it ends").code(), Some(code));
        assert_eq!(folder.cas("run a").ok().counts(), "nothing to run: 1 reused");
    }
}

/// Of a run that went on `cas runs` said that it had not ended, or was killed: nobody looked which.
#[test]
fn of_a_run_that_has_not_ended_it_is_said_whether_its_process_lives() {
    let folder = Folder::new();
    let pipe = folder.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success());
    let yaml = format!("solids:\n  a: {{command: 'read x < {}; echo 1', stdout: result}}\n", pipe.display());
    folder.write("pipeline.yaml", yaml);
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let mut child =
        command.arg("run").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    // It opens once the step reads.
    let pipe = std::fs::OpenOptions::new().write(true).open(pipe).expect("a pipe");
    let told = |running: bool, words: &str| {
        let (list, one) = (folder.cas("runs").ok().stdout, folder.cas("runs 1").ok().stdout);
        assert!(list.contains(words) && one.contains(words), "{list}{one}");
        let json = folder.cas("runs 1 --format json").ok().stdout;
        assert!(json.contains(&format!("\"ended_at\":null,\"running\":{running},")), "{json}");
    };
    told(true, "running since ");
    child.kill().expect("it lives");
    let _ = child.wait().expect("it ends");
    drop(pipe);
    told(false, "was killed");
}

/// Bytes that are no text were left out without a word.
#[test]
fn what_a_step_printed_comes_out_byte_by_byte() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "solids:\n  a: {command: \"printf 'a\\\\377b\\\\033[1mc'\", outputs: []}\n",
    )]);
    let _ = folder.cas("run").ok();
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let printed = command.args(["logs", "a"]).output().expect("it starts").stdout;
    assert_eq!(printed, b"a\xffb\x1b[1mc");
}
