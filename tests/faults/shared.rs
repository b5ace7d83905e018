//! The fault of many runs at once.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};

use crate::kit::Folder;

const RUNS: usize = 8;
const STEPS: usize = 12;

/// A chain and steps beside it, each of which leaves a line in a file outside of its folder when it runs.
fn pipeline(traces: &std::path::Path) -> String {
    let mut text = "pipeline: shared\nsolids:\n".to_owned();
    for step in 0..STEPS {
        let inputs = match step {
            0 => String::new(),
            // The last ones each need only the first.
            1..8 => format!("inputs: {{before: s{}}}, ", step - 1),
            _ => "inputs: {before: s0}, ".to_owned(),
        };
        let before = if step == 0 { "true" } else { "cat {{ inputs.before }}" };
        text += &format!(
            "  s{step}: {{{inputs}command: 'echo $$ >> {}/s{step}; {before}; echo {step}', stdout: result}}\n",
            traces.display()
        );
    }
    text
}

/// Fault 14: two runs at once computed everything twice and wrote over each other.
#[test]
fn fault_14_two_runs_at_once_computed_everything_twice_and_wrote_over_each_other() {
    let folder = Folder::new();
    let traces = folder.path("ran");
    folder.write("ran/.keep", "");
    folder.write("pipeline.yaml", pipeline(&traces));
    let program = env!("CARGO_BIN_EXE_cas");
    let start = |_: usize| -> Child {
        let mut command = folder.command(program.as_ref());
        command.args(["run", "-j", "3"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("cas can be started")
    };
    let runs: Vec<Child> = (0..RUNS).map(start).collect();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for run in runs {
        let ran = folder.ran("cas run".to_owned(), &run.wait_with_output().expect("it ends")).ok();
        // No word about any of it.
        assert!(!ran.stderr.contains("error") && !ran.stderr.contains("waiting"), "{}", ran.transcript());
        for part in ran.counts().trim_start_matches("nothing to run: ").split(", ") {
            let (count, outcome) = part.split_once(' ').expect("a number and what it counts");
            *outcomes.entry(outcome.to_owned()).or_default() += count.parse::<usize>().expect("a number");
        }
    }
    // Every step ran once, whoever needed it; for everybody else its result was there, or was waited for.
    for step in 0..STEPS {
        assert_eq!(folder.read(&format!("ran/s{step}")).lines().count(), 1, "s{step}");
    }
    assert_eq!(outcomes.remove("ran"), Some(STEPS), "{outcomes:?}");
    let others: usize = outcomes.values().sum();
    assert_eq!(others, STEPS * (RUNS - 1), "{outcomes:?}");
    let known = ["joined", "reused", "unchanged"];
    assert!(outcomes.keys().all(|outcome| known.contains(&outcome.as_str())), "{outcomes:?}");
    // Nothing was written over anything.
    assert_eq!(folder.cas("run").ok().counts(), format!("nothing to run: {STEPS} reused"));
    assert_eq!(folder.cas("cat s7").ok().stdout, "0\n1\n2\n3\n4\n5\n6\n7\n");
    let _ = folder.cas("verify").ok();
}

/// The same, while whoever serves the others is killed again and again.
#[test]
fn fault_14_whoever_is_killed_the_others_finish_each_step_once() {
    let folder = Folder::new();
    let traces = folder.path("ran");
    folder.write("ran/.keep", "");
    folder.write("pipeline.yaml", pipeline(&traces));
    let program = env!("CARGO_BIN_EXE_cas");
    let start = |json: bool| -> Child {
        let mut command = folder.command(program.as_ref());
        command.args(["run", "-j", "2"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        if json {
            command.args(["--format", "json"]);
        }
        command.spawn().expect("cas can be started")
    };
    // Each of these is killed when it has told that a step began, or when it is done.
    let mut killed = Vec::new();
    let mut runs = Vec::new();
    for _ in 0..3 {
        let mut victim = start(true);
        runs.push(start(false));
        let mut events =
            std::io::BufRead::lines(std::io::BufReader::new(victim.stdout.take().expect("a pipe")));
        let began = events.by_ref().map_while(Result::ok).find(|line| line.contains("\"started\""));
        victim.kill().expect("it can be killed");
        victim.wait().expect("it ends");
        killed.push(began.is_some());
    }
    for run in runs {
        let ran = folder.ran("cas run".to_owned(), &run.wait_with_output().expect("it ends")).ok();
        assert!(!ran.stderr.contains("error"), "{}", ran.transcript());
    }
    let deaths = killed.iter().filter(|killed| **killed).count();
    let mut again = 0;
    for step in 0..STEPS {
        let times = folder.read(&format!("ran/s{step}")).lines().count();
        assert!(times >= 1, "s{step}");
        again += times - 1;
    }
    // A step runs again only where whoever ran it was killed: two at once, each.
    assert!(again <= 2 * deaths, "{again} of {deaths}");
    assert_eq!(folder.cas("run").ok().counts(), format!("nothing to run: {STEPS} reused"));
    let _ = folder.cas("verify").ok();
}
