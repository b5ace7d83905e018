//! `run --sweep` and `table`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::kit::{Folder, Ran};

/// A project with pipes that its steps tell and wait with: `PLACE` in the pipeline is the folder that they are in.
fn project(yaml: &str, pipes: &[&str]) -> Folder {
    let folder = Folder::new();
    folder.write("pipeline.yaml", yaml.replace("PLACE", &folder.path("").display().to_string()));
    for name in pipes {
        let made = Command::new("mkfifo").arg(folder.path(name)).status().expect("mkfifo is there");
        assert!(made.success());
    }
    folder
}

/// What one combination ended with, without the time.
fn end_of(ran: &Ran, name: &str) -> String {
    let ends = format!("{name}: ");
    let transcript = ran.transcript();
    let end = transcript.lines().find_map(|line| line.strip_prefix(&ends)).expect("it has an end");
    end.trim_end_matches(", [time]").to_owned()
}

const TRAIN: &str = "\
pipeline: lab
solids:
  data: {command: echo 10, stdout: result}
  train:
    inputs: {d: data}
    config: {lr: {type: float, default: 0.5}, depth: {type: int, default: 1}}
    command: \"printf '{\\\"auc\\\": %s, \\\"n\\\": [%s]}' {{ config.lr }}{{ config.depth }} {{ config.depth }} > {{ outputs.metrics }}\"
    outputs: [metrics]
";

#[test]
fn a_sweep_runs_each_combination_and_what_they_share_once() {
    let folder = Folder::with(&[("pipeline.yaml", TRAIN)]);
    folder.cas("run train -j 1 --sweep train.lr=0.1,0.2 --sweep train.depth=4..5").ok().shows(
        "
$ cas run train -j 1 --sweep train.lr=0.1,0.2 --sweep train.depth=4..5
train.lr=0.1 train.depth=4: 0 reused, 2 ran, [time]
train.lr=0.1 train.depth=5: 1 reused, 1 ran, [time]
train.lr=0.2 train.depth=4: 1 reused, 1 ran, [time]
train.lr=0.2 train.depth=5: 1 reused, 1 ran, [time]
! run 1 of lab (train.lr=0.1 train.depth=4): 2 steps to run
! ran       data (train.lr=0.1 train.depth=4)  [time]  for the first time
! ran       train (train.lr=0.1 train.depth=4)  [time]  for the first time
! run 2 of lab (train.lr=0.1 train.depth=5): 1 of 2 steps to run
! ran       train (train.lr=0.1 train.depth=5)  [time]  config.depth: 4 → 5
! run 3 of lab (train.lr=0.2 train.depth=4): 1 of 2 steps to run
! ran       train (train.lr=0.2 train.depth=4)  [time]  config.lr: 0.1 → 0.2
! run 4 of lab (train.lr=0.2 train.depth=5): 1 of 2 steps to run
! ran       train (train.lr=0.2 train.depth=5)  [time]  config.depth: 4 → 5
! 4 combinations: 4 done, [time]
",
    );
    let line = "run train --sweep train.lr=0.1,0.2 --sweep train.depth=4..5";
    assert_eq!(folder.cas(line).ok().steps(), Vec::<&str>::new());
    // A wider one runs only what is new.
    assert_eq!(folder.cas("run train --sweep train.lr=0.1,0.3 --set train.depth=4").ok().steps(), ["train"]);
    folder
        .cas("table train --columns config.lr,config.depth,metrics.auc,metrics.n[0] --sort -metrics.auc")
        .shows(
            "
$ cas table train --columns config.lr,config.depth,metrics.auc,metrics.n[0] --sort -metrics.auc
config.lr  config.depth  metrics.auc  metrics.n[0]
0.3        4             0.34         4
0.2        5             0.25         5
0.2        4             0.24         4
0.1        5             0.15         5
0.1        4             0.14         4
",
        );
    let all = folder.cas("table train --limit 1 --sort config.lr").ok().stdout;
    assert_eq!(all.lines().next(), Some("config.depth  config.lr  metrics.auc  duration"));
    assert_eq!(all.lines().count(), 2);
    let json = folder.cas("table train --columns config.lr,run --sort run --format json").ok().stdout;
    let document: serde_json::Value = serde_json::from_str(&json).expect("it is a document");
    assert_eq!(document["table"][0], serde_json::json!({"config.lr": 0.1, "run": 1, "imported": false}));
    // What is forgotten is compared no longer.
    let _ = folder.cas("forget train --set train.lr=0.3 --set train.depth=4 --reason wrong").ok();
    assert!(!folder.cas("table train").ok().stdout.contains("0.34"));
}

#[test]
fn what_is_wrong_with_a_sweep_or_a_column_is_said_before_anything_runs() {
    let folder = Folder::with(&[("pipeline.yaml", TRAIN)]);
    for line in [
        "run --sweep train.lr",
        "run --sweep train.lr=",
        "run --sweep train.depth=8..4",
        "run --sweep train.nothing=1,2",
        "run --sweep train.depth=1,x",
        "run --sweep train.depth=1..200 --sweep train.lr=1..200",
        "run --sweep train.depth=1,2 --sweep train.depth=3",
        "run --sweep train.depth=1,2 --sweep solids.train.config.depth=3",
    ] {
        let ran = folder.cas(line).code(2);
        assert!(ran.steps().is_empty(), "{}", ran.transcript());
    }
    let twice = folder.cas("run --sweep train.depth=1,2 --sweep solids.train.config.depth=3").code(2);
    let told = "error: `solids.train.config.depth` is given to --sweep twice, as `train.depth`\n";
    assert!(twice.stderr.starts_with(told), "{}", twice.stderr);
    let _ = folder.cas("run").ok();
    let unknown = folder.cas("table train --columns config.nothing").code(2);
    assert!(
        unknown.stderr.contains("no result of `train` has a column `config.nothing`"),
        "{}",
        unknown.stderr
    );
    assert!(unknown.stderr.contains("metrics.auc"), "{}", unknown.stderr);
    let _ = folder.cas("table nothing").code(2);
}

/// Combinations ran one after the other, so that what each left idle of the machine was nobody's.
#[test]
fn combinations_run_beside_each_other_and_what_they_share_is_waited_for() {
    // The two steps `meet` end only if both go on at once: each tells the other, and waits for it.
    let yaml = "\
pipeline: p
solids:
  data: {command: 'echo made >> PLACE/log; echo 1', stdout: result}
  meet:
    inputs: {d: data}
    config: {n: int}
    command: |
      test {{ config.n }} = 1 && { echo go > PLACE/a; read x < PLACE/b; } || { read x < PLACE/a; echo go > PLACE/b; }
      echo {{ config.n }} > {{ outputs.result }}
";
    let folder = project(yaml, &["a", "b"]);
    let ran = folder.cas("run -j 2 --sweep meet.n=1,2").ok();
    assert_eq!(folder.read("log"), "made\n");
    let mut steps = ran.steps();
    steps.sort_unstable();
    assert_eq!(steps, ["data", "meet", "meet"]);
    // Which of them made `data` is chance; the other one waited for it, or found it.
    let mut ends = [end_of(&ran, "meet.n=1"), end_of(&ran, "meet.n=2")];
    ends.sort_unstable_by_key(|end| end != "0 reused, 2 ran");
    assert_eq!(ends[0], "0 reused, 2 ran");
    assert!(["0 reused, 1 ran, 1 joined", "1 reused, 1 ran"].contains(&&*ends[1]), "{ends:?}");
    let transcript = ran.transcript();
    assert_eq!(transcript.lines().last(), Some("! 2 combinations: 2 done, [time]"), "{transcript}");
}

#[test]
fn as_many_steps_run_at_once_as_one_run_may_and_a_limit_holds_over_all() {
    // Each step says when it begins and when it ends; two at once would stand between each other.
    let yaml = "\
pipeline: p
solids:
  one:
    config: {n: int}
    LIMIT
    command: 'echo begin >> PLACE/log; echo end >> PLACE/log; echo {{ config.n }} > {{ outputs.result }}'
";
    for (limit, line) in [
        ("cpus: 1", "run -j 1 --sweep one.n=1..6"),
        ("limits: {gpu: 1}", "run -j 8 --sweep one.n=1..6"),
        ("cpus: 2", "run -j 2 --sweep one.n=1..6"),
        ("limits: {gpu: 2}", "run -j 8 --limit gpu=2 --sweep one.n=1..6"),
    ] {
        let folder = project(&yaml.replace("LIMIT", limit), &[]);
        let ran = folder.cas(line).ok();
        assert_eq!(ran.steps(), ["one"; 6], "{line}");
        assert_eq!(folder.read("log"), "begin\nend\n".repeat(6), "{line}");
    }
}

#[test]
fn what_is_forced_or_fails_is_so_once_for_all_combinations() {
    let yaml = "\
pipeline: p
solids:
  data: {command: 'echo data >> PLACE/log; EXIT; echo 1', stdout: result}
  use: {inputs: {d: data}, config: {n: int}, command: 'echo use >> PLACE/log; echo {{ config.n }}', stdout: result}
";
    let folder = project(&yaml.replace("EXIT", "true"), &[]);
    for _ in 0..2 {
        let ran = folder.cas("run -j 1 --force --sweep use.n=1,2").ok();
        assert_eq!(ran.steps(), ["data", "use", "use"]);
        assert_eq!(folder.read("log"), "data\nuse\nuse\n");
        folder.write("log", "");
    }
    let folder = project(&yaml.replace("EXIT", "exit 3"), &[]);
    let ran = folder.cas("run -j 1 --sweep use.n=1,2").code(1);
    assert_eq!(folder.read("log"), "data\n");
    for name in ["use.n=1", "use.n=2"] {
        assert_eq!(end_of(&ran, name), "0 reused, 0 ran, 1 failed, 1 skipped");
    }
    let first = "\nfailed    data (use.n=1)  ";
    let second = "\nfailed    data (use.n=2): exit status 3, in another run\n";
    assert!(ran.stderr.contains(first) && ran.stderr.contains(second), "{}", ran.stderr);
    assert!(ran.stderr.contains("\n2 combinations: 0 done, 2 failed, "), "{}", ran.stderr);
}

#[test]
fn a_table_of_elements_says_which_row_is_which() {
    let yaml = "solids:\n  a: {matrix: {i: [x, y]}, command: 'echo 1 > {{ outputs.n }}', outputs: [n]}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run -j 1").ok();
    folder.cas("table a --sort step").shows(
        "
$ cas table a --sort step
step    config.i  n  duration
a[i=x]  x         1  [time]
a[i=y]  y         1  [time]
",
    );
}

#[test]
fn a_combination_that_fails_stops_no_other_unless_it_is_to() {
    let yaml = "\
pipeline: p
solids:
  a: {config: {n: int}, command: 'test {{ config.n }} != 2; echo {{ config.n }}', stdout: result}
  b: {inputs: {a: a}, command: 'cat {{ inputs.a }}', stdout: result}
";
    let ends = |ran: &Ran| -> Vec<String> {
        ran.transcript().lines().filter(|line| line.starts_with("a.n=")).map(str::to_owned).collect()
    };
    let ran = project(yaml, &[]).cas("run -j 1 --sweep a.n=1..3").code(1);
    assert_eq!(ran.steps(), ["a", "b", "a", "b"]);
    assert_eq!(
        ends(&ran),
        [
            "a.n=1: 0 reused, 2 ran, [time]",
            "a.n=2: 0 reused, 0 ran, 1 failed, 1 skipped, [time]",
            "a.n=3: 0 reused, 2 ran, [time]",
        ]
    );
    assert!(ran.stderr.contains("\n3 combinations: 2 done, 1 failed, "), "{}", ran.stderr);
    let folder = project(yaml, &[]);
    let ran = folder.cas("run -j 1 --fail-fast --sweep a.n=1..3").code(1);
    assert_eq!(ran.steps(), ["a", "b"]);
    assert!(ran.stderr.contains("\n3 combinations: 1 done, 1 failed, 1 not done, "), "{}", ran.stderr);
    // What cannot even be planned is told by its name, and ends with the code of the worst.
    folder.write("1.txt", "1");
    let yaml = "{pipeline: p, solids: {a: {config: {n: int}, inputs: {f: {path: '{{ config.n }}.txt'}}, command: 'cat {{ inputs.f }}', stdout: result}}}";
    folder.write("pipeline.yaml", yaml);
    let ran = folder.cas("run -j 1 --sweep a.n=0,1").code(2);
    assert_eq!(ran.steps(), ["a"]);
    assert!(ran.stderr.starts_with("a.n=0:\nerror: "), "{}", ran.stderr);
    assert_eq!(ends(&ran), ["a.n=1: 0 reused, 1 ran, [time]"]);
}

/// A Ctrl-C that came as one combination ended was taken for that one only, and all others ran.
#[test]
fn ctrl_c_ends_all_combinations_whenever_it_comes() {
    let yaml = "\
pipeline: p
solids:
  a:
    config: {n: int}
    inputs: {now: {probe: 'PROBE; echo 1'}}
    command: 'cat {{ inputs.now }} > {{ outputs.result }}; STEP; echo {{ config.n }} >> PLACE/log'
";
    let kill = "test {{ config.n }} = # && kill -INT $PPID";
    let check = |jobs: usize, probe: &str, step: &str, expected: &[&str]| {
        let folder = project(&yaml.replace("PROBE", probe).replace("STEP", step), &["never"]);
        folder.write("log", "");
        let ran = folder.cas(&format!("run -j {jobs} --sweep a.n=1..4")).code(130);
        assert_eq!(folder.read("log").lines().collect::<Vec<_>>(), expected, "{}", ran.transcript());
        assert_eq!(ran.stderr.matches("stopping: ").count(), 1, "{}", ran.transcript());
        let interrupted = ran.stdout.lines().filter(|line| line.contains(": interrupted: ")).count();
        assert!(interrupted <= jobs, "{}", ran.transcript());
    };
    // While the first is planned; while the second is, beside a first that waits for ever; while the second runs.
    check(1, &kill.replace('#', "1"), "true", &[]);
    check(2, &kill.replace('#', "2"), "read x < PLACE/never", &[]);
    check(1, "true", &format!("{} && read x < PLACE/never || true", kill.replace('#', "2")), &["1"]);
}

#[test]
fn what_the_last_combination_publishes_is_there_in_the_end_and_events_say_whose_they_are() {
    let yaml = "\
pipeline: p
solids:
  a:
    config: {n: int, key: {type: str, default: x, secret: true}}
    command: |
      test {{ config.n }} = 1 && { read x < PLACE/pipe; } || true
      test {{ config.n }} = 2 && { echo go > PLACE/pipe; } || true
      echo {{ config.n }} > {{ outputs.result }}
publish: {out.txt: a}
";
    let folder = project(yaml, &["pipe"]);
    let ran = folder.cas("run -j 2 --sweep a.n=1,2 --format json").ok();
    assert_eq!(folder.read("out.txt"), "2\n");
    let events: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let mut begun: Vec<(String, u64)> = Vec::new();
    for event in &events {
        let run = event["run"].as_u64().expect("each is of a run");
        if event["event"] == "run-started" {
            begun.push((event["combination"].to_string(), run));
        } else {
            assert!(begun.iter().any(|(_, begun)| *begun == run), "{event}");
        }
    }
    // Both are planned at once: which of them has its number first is chance.
    let (mut names, mut runs): (Vec<String>, Vec<u64>) = begun.into_iter().unzip();
    names.sort();
    runs.sort_unstable();
    assert_eq!((names, runs), (vec!["\"a.n=1\"".to_owned(), "\"a.n=2\"".to_owned()], vec![1, 2]));
    let ended = events.iter().filter(|event| event["event"] == "run-finished").count();
    assert_eq!(ended, 2);
    // A secret is not told, however it was given.
    let ran = folder.cas("run -j 1 --set a.n=3 --sweep a.key=hush,hush2").ok();
    assert!(!ran.transcript().replace(&ran.line, "").contains("hush"), "{}", ran.transcript());
    assert!(ran.stdout.contains("a.key=***2: "), "{}", ran.stdout);
}

/// `--force` put another reason in front of the one that it changes with time, so that the second combination took what was
/// fetched for the first one.
#[test]
fn what_is_volatile_runs_in_each_combination_also_when_it_is_forced() {
    for forced in ["", "--force ", "--force fetch "] {
        let folder = project(
            "\
pipeline: lab
solids:
  fetch: {version: volatile, command: \"echo fetched >> PLACE/log; cat PLACE/log\", stdout: result}
  use: {inputs: {d: fetch}, config: {n: int}, command: \"wc -l < {{ inputs.d }}\", stdout: result}
",
            &[],
        );
        let _ = folder.cas(&format!("run -j 1 {forced}--sweep use.n=1,2")).ok();
        assert_eq!(folder.read("log"), "fetched\nfetched\n", "{forced}");
    }
}

/// The next combination was planned while the one before ran, and then was one of the files of that time: an hour later it
/// found what those had given, and said so, or failed because they had changed.
#[test]
fn a_combination_is_one_of_the_files_that_are_there_when_it_begins() {
    let yaml = "\
pipeline: p
solids:
  a:
    config: {n: int}
    code: [lib]
    inputs: {m: {path: '{{ config.n }}.txt'}}
    command: |
      echo {{ config.n }} $(cat lib/*) m > {{ outputs.result }}
      test {{ config.n }} = 1 || exit 0
      until grep -q a.n=0: PLACE/told; do sleep 0.01; done
      echo new > PLACE/lib/two
publish: {out.txt: a}
";
    let folder = project(yaml, &[]);
    folder.write("lib/one", "old\n");
    folder.write("1.txt", "m");
    folder.write("2.txt", "m");
    // What the old files give for the last one is there.
    let _ = folder.cas("run -j 1 --set a.n=2").ok();
    assert_eq!(folder.read("out.txt"), "2 old m\n");
    let mut command = folder.command(std::path::Path::new(env!("CARGO_BIN_EXE_cas")));
    command.args(["run", "-j", "1", "--sweep", "a.n=1,0,2"]);
    command.stderr(std::fs::File::create(folder.path("told")).expect("it can be made"));
    // The second one cannot be planned, which is told while the first one runs, as soon as the last one is planned.
    let output = command.output().expect("cas can be started");
    assert_eq!(output.status.code(), Some(2));
    let ends = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(ends.contains("a.n=1: 0 reused, 0 ran, 1 failed, "), "{ends}");
    assert!(ends.contains("a.n=2: 0 reused, 1 ran, "), "{ends}");
    assert_eq!(folder.read("out.txt"), "2 old new m\n");
}

/// What ignore files say was looked at when a combination was planned, and not again when it began.
#[test]
fn a_combination_has_what_ignore_files_say_when_it_begins() {
    let yaml = "\
pipeline: p
solids:
  a:
    config: {n: int}
    code: ['lib/**']
    inputs: {m: {path: '{{ config.n }}.txt'}}
    command: |
      echo {{ config.n }} $(cat lib/*) > {{ outputs.result }}
      test {{ config.n }} = 1 || exit 0
      until grep -q a.n=0: PLACE/told; do sleep 0.01; done
      echo '# nothing' > PLACE/.gitignore
publish: {out.txt: a}
";
    let folder = project(yaml, &[]);
    folder.write("lib/one", "one\n");
    folder.write("lib/two", "two\n");
    folder.write(".gitignore", "two\n");
    folder.write("1.txt", "m");
    folder.write("2.txt", "m");
    let _ = folder.cas("run -j 1 --set a.n=2").ok();
    assert_eq!(folder.read("out.txt"), "2 one\n");
    let mut command = folder.command(std::path::Path::new(env!("CARGO_BIN_EXE_cas")));
    command.args(["run", "-j", "1", "--sweep", "a.n=1,0,2"]);
    command.stderr(std::fs::File::create(folder.path("told")).expect("it can be made"));
    let output = command.output().expect("cas can be started");
    let ends = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(ends.contains("a.n=2: 0 reused, 1 ran, "), "{ends}");
    assert_eq!(folder.read("out.txt"), "2 one two\n");
}

#[test]
fn what_is_the_same_with_several_combinations_is_told_once() {
    let ran = Folder::with(&[("pipeline.yaml", TRAIN)]).cas("run nope --sweep train.depth=1..4").code(2);
    assert_eq!(ran.stderr.matches("nope").count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.starts_with("train.depth=1:\nerror: "), "{}", ran.stderr);
    assert!(
        ran.stderr.contains(
            "\ntrain.depth=2 and 2 more: the same as train.depth=1\n4 combinations: 0 done, 4 failed, "
        ),
        "{}",
        ran.stderr
    );
}

#[test]
fn quotes_keep_a_value_together_and_are_no_part_of_a_text() {
    let yaml = "\
pipeline: p
solids:
  a:
    config: {s: {type: str}, n: {type: any, default: 1}}
    command: 'echo {{ config.s }} {{ config.n }} >> PLACE/log'
    outputs: []
";
    let folder = project(yaml, &[]);
    let mut command = folder.command(std::path::Path::new(env!("CARGO_BIN_EXE_cas")));
    command.args(["run", "-j", "1", "--sweep", "a.s=\"x,y\",z,'it''s','p' q 'r'"]);
    let _ = folder.ran("cas run".to_owned(), &command.output().expect("cas can be started")).ok();
    assert_eq!(folder.read("log"), "x,y 1\nz 1\nit's 1\n'p' q 'r' 1\n");
}

#[test]
fn what_is_to_be_reproduced_runs_once_for_all_combinations() {
    let yaml = "\
pipeline: p
solids:
  data: {command: 'echo data >> PLACE/log; echo 1', stdout: result}
  use: {inputs: {d: data}, config: {n: int}, command: 'echo use >> PLACE/log; echo {{ config.n }}', stdout: result}
";
    let folder = project(yaml, &[]);
    let _ = folder.cas("run -j 1 --sweep use.n=1..3").ok();
    for jobs in [1, 8] {
        folder.write("log", "");
        let _ = folder.cas(&format!("run -j {jobs} --reproduce --sweep use.n=1..3")).ok();
        let log = folder.read("log");
        let mut ran: Vec<&str> = log.lines().collect();
        ran.sort_unstable();
        assert_eq!(ran, ["data", "use", "use", "use"], "-j {jobs}");
    }
}

/// What was made by force in the store of one combination was taken for made in that of another.
#[test]
fn what_is_forced_is_so_in_each_store() {
    let yaml = "{pipeline: p, solids: {a: {command: 'echo a >> PLACE/log; echo 1', stdout: result}}}";
    let folder = project(yaml, &[]);
    let line = "run -j 1 --force --sweep resources.io_manager.config.base_dir=one,two";
    for runs in 1..=2 {
        assert_eq!(folder.cas(line).ok().steps(), ["a", "a"]);
        assert_eq!(folder.read("log"), "a\n".repeat(2 * runs));
    }
}

/// With `--fail-fast`, a combination that was stopped by the failure of another was counted as failed itself, and one that
/// had nothing more to do put nothing into the project.
#[test]
fn what_a_failure_stops_is_not_done_and_what_is_done_by_then_is_published() {
    let yaml = "\
pipeline: p
solids:
  a:
    config: {n: int}
    command: |
      test {{ config.n }} = 1 && { read x < PLACE/begun; exit 1; }
      echo {{ config.n }} > {{ outputs.result }}
      echo go > PLACE/begun
      read x < PLACE/closed
  b: {inputs: {a: a}, command: 'cat {{ inputs.a }}', stdout: result}
publish: {out.txt: END}
";
    for (end, counted) in [("b", "0 done, 1 failed, 2 not done, "), ("a", "1 done, 1 failed, 1 not done, ")] {
        let folder = project(&yaml.replace("END", end), &["begun", "closed"]);
        let mut command = folder.command(std::path::Path::new(env!("CARGO_BIN_EXE_cas")));
        command.args(["run", end, "-j", "2", "--fail-fast", "--sweep", "a.n=1..3"]);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("cas can be started");
        let mut told = String::new();
        for line in BufReader::new(child.stderr.take().expect("a pipe")).lines() {
            let line = line.expect("it is text");
            if line == "a.n=1 failed: nothing more is started" {
                std::fs::write(folder.path("closed"), "go on\n").expect("the other combination reads it");
            }
            told += &(line + "\n");
        }
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(1), "{told}");
        assert!(told.contains(&format!("\n3 combinations: {counted}")), "{told}");
        assert_eq!(folder.has("out.txt"), end == "a", "{told}");
    }
}

/// All runs of a sweep had the same command line, and nothing said which of them was which.
#[test]
fn runs_of_a_sweep_say_which_combination_they_were_for() {
    let folder = Folder::with(&[("pipeline.yaml", TRAIN)]);
    let _ = folder.cas("run train -j 1 --sweep train.depth=4,5").ok();
    let _ = folder.cas("run train").ok();
    let json = folder.cas("runs --format json").ok().stdout;
    let document: serde_json::Value = serde_json::from_str(&json).expect("it is a document");
    let of = |index: usize| document["runs"][index]["combination"].clone();
    assert_eq!(
        [of(0), of(1), of(2)],
        [serde_json::json!(null), "train.depth=5".into(), "train.depth=4".into()]
    );
    let listed = folder.cas("runs").ok().stdout;
    assert_eq!(listed.matches("(train.depth=4)").count(), 1, "{listed}");
    let one = folder.cas("runs 2").ok().stdout;
    let line = "cas run train -j 1 --sweep train.depth=4,5 (train.depth=5)";
    assert_eq!(one.lines().nth(1), Some(line), "{one}");
}

/// It was that of the step, by which no other command knows anything.
#[test]
fn the_version_in_a_table_is_known_to_other_commands() {
    let folder = Folder::with(&[("pipeline.yaml", TRAIN)]);
    let _ = folder.cas("run train -j 1 --sweep train.lr=0.1,0.2").ok();
    let best = folder.cas("--format json table train --columns version --sort config.lr --limit 1").ok();
    let best: serde_json::Value = serde_json::from_str(&best.stdout).expect("it is JSON");
    let version = best["table"][0]["version"].as_str().expect("it has one");
    for version in [version, &version[..12]] {
        assert_eq!(folder.cas(&format!("cat {version}")).ok().stdout, "{\"auc\": 0.11, \"n\": [1]}");
        let _ = folder.cas(&format!("show {version}")).ok();
        let _ = folder.cas(&format!("lineage {version}")).ok();
    }
}

/// It went on to the last of all combinations for nobody.
#[test]
fn a_preview_of_a_sweep_ends_with_its_reader() {
    let yaml = "\
pipeline: p
solids:
  a: {config: {n: int}, inputs: {now: {probe: 'echo {{ config.n }} | tee -a PLACE/log'}}, command: 'true', outputs: []}
";
    let folder = project(yaml, &[]);
    let mut command = folder.command(std::path::Path::new(env!("CARGO_BIN_EXE_cas")));
    command.args(["run", "-n", "--sweep", "a.n=1..9"]);
    let (reader, writer) = std::io::pipe().expect("there is room for one");
    drop(reader);
    let output = command.stdout(writer).stderr(Stdio::piped()).spawn();
    let output = output.and_then(std::process::Child::wait_with_output).expect("cas can be started");
    assert_eq!(folder.read("log"), "1\n");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Which combination an answer was of stood on stderr, and nowhere in JSON; and nothing was said of all of them.
#[test]
fn a_preview_of_a_sweep_says_whose_each_answer_is_and_foresees_all_together() {
    let folder = Folder::with(&[("pipeline.yaml", TRAIN)]);
    let line = "run train -n -j 2 --sweep train.depth=4,5";
    folder.cas(line).ok().shows(
        "
$ cas run train -n -j 2 --sweep train.depth=4,5
sweep 1 of 2: train.depth=4
2 steps: 2 to-be-recomputed
data   it has not run yet
train  `data`: it has not run yet
how long it takes is not known: nothing of it ran before
sweep 2 of 2: train.depth=5
2 steps: 2 to-be-recomputed
data   it has not run yet
train  `data`: it has not run yet
how long it takes is not known: nothing of it ran before
2 combinations: 3 steps to run, what they share once; how long it takes is not known: nothing of it ran before
! there is no store at `.cas` yet (chosen by the default, beside the pipeline): nothing is stored
",
    );
    let _ = folder.cas("run data").ok();
    folder.write("pipeline.yaml", TRAIN.replace("echo 10", "echo 11"));
    let json = folder.cas(&format!("{line} --format json")).ok().stdout;
    let documents: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("it is a document")).collect();
    assert_eq!(documents.len(), 3, "{json}");
    for (document, name) in documents.iter().zip(["train.depth=4", "train.depth=5"]) {
        assert_eq!((&document["combination"], &document["forecast"]["steps"]), (&name.into(), &2.into()));
        let steps: Vec<_> =
            document["run"].as_array().expect("a list").iter().map(|row| &row["step"]).collect();
        assert_eq!(steps, ["data", "train"]);
    }
    assert_eq!(
        documents[2]["sweep"],
        serde_json::json!([
            {"combination": "train.depth=4", "steps": 2},
            {"combination": "train.depth=5", "steps": 2}
        ])
    );
    let forecast = &documents[2]["forecast"];
    let of = |member: &str| forecast[member].as_u64();
    assert_eq!([of("steps"), of("jobs"), of("known"), of("unknown")], [3, 2, 1, 2].map(Some));
    // What is foreseen is what then runs.
    let ran = folder.cas("run train -j 2 --sweep train.depth=4,5").ok();
    let mut steps = ran.steps();
    steps.sort_unstable();
    assert_eq!(steps, ["data", "train", "train"]);
    let nothing = folder.cas(line).ok().stdout;
    assert_eq!(nothing.lines().last(), Some("2 combinations: nothing to run"), "{nothing}");
}

/// The first one that could not be planned ended a preview; and what was wrong in a run was a line in JSON that did not say
/// with what, and of one combination only.
#[test]
fn what_is_wrong_with_a_combination_is_told_with_its_name_and_keeps_no_other_from_it() {
    let yaml = "{pipeline: p, solids: {a: {config: {n: int}, inputs: {f: {path: '{{ config.n }}.txt'}}, command: 'cat {{ inputs.f }}', stdout: result}}}";
    let folder = project(yaml, &[]);
    folder.write("1.txt", "1");
    let dry = folder.cas("run -n -j 1 --sweep a.n=0,1").code(2);
    assert_eq!(
        dry.stdout,
        "sweep 2 of 2: a.n=1\n1 step: 1 to-be-recomputed\na  it has not run yet\nhow long it takes is not known: nothing of \
         it ran before\n2 combinations (1 cannot be run): 1 step to run; how long it takes is not known: nothing of it ran \
         before\n"
    );
    assert!(dry.stderr.contains("\na.n=0:\nerror: "), "{}", dry.stderr);
    let errors = |line: &str| -> Vec<String> {
        let json = folder.cas(line).code(2).stdout;
        let documents = json.lines().map(|line| serde_json::from_str(line).expect("it is a document"));
        documents
            .filter(|document: &serde_json::Value| document["errors"].is_array())
            .map(|document| document["combination"].to_string())
            .collect()
    };
    assert_eq!(errors("run -n -j 1 --sweep a.n=0,1 --format json"), ["\"a.n=0\""]);
    assert_eq!(errors("run -j 1 --sweep a.n=0,1 --format json"), ["\"a.n=0\""]);
    assert_eq!(errors("run nope -j 1 --sweep a.n=0,1 --format json"), ["\"a.n=0\"", "\"a.n=1\""]);
}

/// `table 'grid[lr=0.1]'` listed all elements; `--limit 0` said that nothing is stored; an output that is no JSON was called a
/// column that there is not.
#[test]
fn a_table_is_of_the_elements_that_are_named_and_says_what_it_cannot_read() {
    let yaml = "pipeline: p\nsolids:\n  grid:\n    matrix: {lr: [0.1, 0.2]}\n    outputs: [m, t]\n    \
                command: 'printf \"[%s]\" {{ config.lr }} > outputs/m; echo text > outputs/t'\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run").ok();
    let one = folder.cas("table 'grid[lr=0.1]' --columns step,m[0]").ok();
    assert_eq!(one.stdout, "step          m[0]\ngrid[lr=0.1]  0.1\n");
    assert_eq!(folder.cas("table grid@lr=0.1 --columns step,m[0]").ok().stdout, one.stdout);
    for all in ["grid", "'grid[*]'"] {
        assert_eq!(
            folder.cas(&format!("table {all} --columns m[0] --sort m[0]")).ok().stdout,
            "m[0]\n0.1\n0.2\n"
        );
    }
    let none = folder.cas("table grid --limit 0 --columns m[0]").ok();
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("m[0]\n", ""));
    let refused = folder.cas("table grid --columns t.acc").code(2);
    assert!(refused.stderr.contains("no result of `grid` has a column `t.acc`"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("because `t` is no JSON: expected ident at line 1 column 2"),
        "{}",
        refused.stderr
    );
    // One that is read, and one that is not.
    folder.write("pipeline.yaml", yaml.replace("echo text", "echo 7"));
    let _ = folder.cas("run").ok();
    let some = folder.cas("table 'grid[lr=0.1]' --columns t --sort t").ok();
    assert_eq!(some.stdout, "t\n7\n-\n");
    assert!(some.stderr.contains("warning: `t` is empty for 1 result: `t` is no JSON"), "{}", some.stderr);
}
