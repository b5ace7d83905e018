//! The fault of many runs at once.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

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
        let mut events = BufReader::new(victim.stdout.take().expect("a pipe")).lines();
        let began = events.by_ref().map_while(Result::ok).find(|line| line.contains("\"step-started\""));
        victim.kill().expect("it can be killed");
        victim.wait().expect("it ends");
        killed.push(began.is_some());
    }
    for run in runs {
        let ran = folder.ran("cas run".to_owned(), &run.wait_with_output().expect("it ends")).ok();
        assert!(!ran.stderr.contains("error"), "{}", ran.transcript());
    }
    let deaths = killed.iter().filter(|killed| **killed).count();
    assert!(deaths > 0, "the first of them runs steps");
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

/// A program in a process namespace of its own, where each is number 1; as it is, where that may not be made.
fn apart(folder: &Folder, apart: bool) -> Command {
    let cas = env!("CARGO_BIN_EXE_cas");
    if !apart {
        return folder.command(cas.as_ref());
    }
    let mut command = folder.command("unshare".as_ref());
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", cas]);
    command
}

/// Two containers share a store: the number of a process means nothing to the other one, or somebody else. Whoever
/// lives is told by the kernel's locks.
#[test]
fn two_process_namespaces_share_a_store_and_one_follows_the_other() {
    let folder = Folder::new();
    let traces = folder.path("ran");
    folder.write("ran/.keep", "");
    folder.write("pipeline.yaml", pipeline(&traces));
    let probe = apart(&folder, true).arg("--version").output();
    let may = probe.as_ref().is_ok_and(|output| output.status.success());
    if !may {
        // Only root makes namespaces without more ado. Then at least that is the reason, and the rest holds without.
        let why = probe.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(why.as_ref().is_err() || why.as_ref().is_ok_and(|why| why.contains("unshare")), "{why:?}");
    }
    let start = |json: bool| -> Child {
        let mut command = apart(&folder, may);
        command.args(["run", "-j", "2"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        if json {
            command.args(["--format", "json"]);
        }
        command.spawn().expect("it starts")
    };
    // The first is the host, computes something, and is killed with all that it has.
    let mut first = start(true);
    let events = BufReader::new(first.stdout.take().expect("a pipe")).lines();
    let mut events = events.map_while(Result::ok);
    assert!(events.any(|line| line.contains("\"step-started\"")), "a step began");
    if may {
        assert!(folder.read(".cas/lock").contains("pid 1)"), "{}", folder.read(".cas/lock"));
    }
    let others = [start(false), start(false)];
    first.kill().expect("it can be killed");
    first.wait().expect("it ends");
    for other in others {
        let ran = folder.ran("cas run".to_owned(), &other.wait_with_output().expect("it ends")).ok();
        assert!(!ran.stderr.contains("error"), "{}", ran.transcript());
    }
    // What the first had begun was begun again, two steps at most; nothing else ran twice.
    let times: Vec<usize> =
        (0..STEPS).map(|step| folder.read(&format!("ran/s{step}")).lines().count()).collect();
    assert!(times.iter().all(|times| (1..=2).contains(times)), "{times:?}");
    assert!(times.iter().filter(|times| **times == 2).count() <= 2, "{times:?}");
    assert_eq!(folder.cas("run").ok().counts(), format!("nothing to run: {STEPS} reused"));
    let _ = folder.cas("verify").ok();
}
