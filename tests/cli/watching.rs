//! `cas run --watch`: what runs after which change. Each change is made when the run before has told its end, so that
//! nothing here depends on how long anything takes.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::kit::Folder;

/// A `cas run --watch` whose events are read as they come.
struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(folder: &Folder, words: &[&str]) -> Self {
        let mut child = folder
            .command(env!("CARGO_BIN_EXE_cas").as_ref())
            .args(["run", "--watch", "-j", "1", "--format", "json"])
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("cas can be started");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("it goes on").expect("it can be read");
        serde_json::from_str(&line).expect("each line is a document")
    }

    /// The next run: its number, and the steps that ran in it, in order.
    fn run(&mut self) -> (u64, Vec<String>) {
        let (mut run, mut ran) = (0, Vec::new());
        loop {
            let event = self.next();
            match event["event"].as_str() {
                Some("run-started") => run = event["run"].as_u64().expect("it has a number"),
                Some("step-finished") if event["outcome"] == "ran" => {
                    ran.push(event["step"].as_str().expect("it has a name").to_owned());
                }
                Some("run-finished") => return (run, ran),
                Some(_) => {}
                None => panic!("{event}"),
            }
        }
    }

    fn stop(mut self, signal: &str) -> i32 {
        let kill = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status();
        assert!(kill.expect("kill can be started").success());
        // What it still tells is read, so that it is never held up.
        self.lines.by_ref().for_each(drop);
        self.child.wait().expect("it ends").code().expect("it ends by itself")
    }
}

const PIPELINE: &str = "\
pipeline: pages
run_config: [params.yaml]
solids:
  clean: {inputs: {raw: {path: data/raw.txt}}, command: 'grep -v x {{ inputs.raw }}', stdout: result}
  count: {inputs: {clean: clean}, code: [count.sh], command: 'sh count.sh {{ inputs.clean }}', stdout: result}
  greet: {config: {who: {type: str, default: you}}, command: 'echo {{ config.who }}', stdout: result}
";

fn pages() -> Folder {
    Folder::with(&[
        ("pipeline.yaml", PIPELINE),
        ("params.yaml", "{}\n"),
        ("data/raw.txt", "a\nb\nx\n"),
        ("count.sh", "wc -l < \"$1\"\n"),
    ])
}

#[test]
fn a_change_reruns_what_it_concerns_and_nothing_else() {
    let folder = pages();
    let mut watching = Watching::start(&folder, &[]);
    assert_eq!(watching.run(), (1, vec!["clean".to_owned(), "count".to_owned(), "greet".to_owned()]));
    // Data: what reads it, and what is below that.
    folder.write("data/raw.txt", "a\nb\nc\n");
    assert_eq!(watching.run(), (2, vec!["clean".to_owned(), "count".to_owned()]));
    // Code, written as editors do: beside it, and renamed.
    folder.write("count.sh~", "wc -c < \"$1\"\n");
    std::fs::rename(folder.path("count.sh~"), folder.path("count.sh")).expect("it can be renamed");
    assert_eq!(watching.run(), (3, vec!["count".to_owned()]));
    // The run config.
    folder.write("params.yaml", "solids: {greet: {config: {who: them}}}\n");
    assert_eq!(watching.run(), (4, vec!["greet".to_owned()]));
    // What is written with the content that it had, and what nobody declared, is no run: the next has the next number.
    folder.write("data/raw.txt", "a\nb\nc\n");
    folder.write("notes.txt", "nothing\n");
    folder.write("pipeline.yaml", PIPELINE.replace("grep -v x", "grep -v a"));
    assert_eq!(watching.run(), (5, vec!["clean".to_owned(), "count".to_owned()]));
    // While nothing runs, Ctrl-C ends it as the last run ended.
    assert_eq!(watching.stop("INT"), 0);
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 3 reused");
}

#[test]
fn what_is_declared_is_watched_whatever_its_folder_is_called() {
    let folder = Folder::with(&[
        (
            "pipeline.yaml",
            "solids:\n  \
             built: {inputs: {raw: {path: target}}, command: 'cat {{ inputs.raw }}/deep/a', stdout: result}\n  \
             one: {inputs: {raw: {path: node_modules/left/pad.js}}, command: 'cat {{ inputs.raw }}', stdout: result}\n  \
             inner: {inputs: {raw: {path: 'data/**'}}, command: 'ls {{ inputs.raw }}', stdout: result}\n  \
             code: {code: ['lib/**'], command: 'sh lib/target/run.sh', stdout: result}\n",
        ),
        ("target/deep/a", "1\n"),
        ("node_modules/left/pad.js", "1\n"),
        ("data/node_modules/x", "1\n"),
        ("lib/target/run.sh", "echo 1\n"),
    ]);
    let mut watching = Watching::start(&folder, &[]);
    let all = ["built", "one", "inner", "code"].map(str::to_owned).to_vec();
    assert_eq!(watching.run(), (1, all));
    folder.write("target/deep/a", "2\n");
    assert_eq!(watching.run(), (2, vec!["built".to_owned()]));
    folder.write("node_modules/left/pad.js", "2\n");
    assert_eq!(watching.run(), (3, vec!["one".to_owned()]));
    folder.write("data/node_modules/x", "2\n");
    assert_eq!(watching.run(), (4, vec!["inner".to_owned()]));
    folder.write("lib/target/run.sh", "echo 2\n");
    assert_eq!(watching.run(), (5, vec!["code".to_owned()]));
    // One that is there only now, below what is declared.
    folder.write("data/target/y", "1\n");
    assert_eq!(watching.run(), (6, vec!["inner".to_owned()]));
    folder.write("data/target/y", "2\n");
    assert_eq!(watching.run(), (7, vec!["inner".to_owned()]));
    assert_eq!(watching.stop("INT"), 0);
}

/// As `git checkout` and unpacking do it. Its folders were taken for those that were watched before.
#[test]
fn a_folder_that_is_replaced_is_watched_again_with_all_that_is_in_it() {
    let folder = Folder::with(&[
        (
            "pipeline.yaml",
            "solids:\n  a: {inputs: {raw: {path: lib}}, command: 'cat {{ inputs.raw }}/deep/a', stdout: result}\n",
        ),
        ("lib/deep/a", "1\n"),
        ("next/deep/a", "2\n"),
    ]);
    let mut watching = Watching::start(&folder, &[]);
    let a = || vec!["a".to_owned()];
    assert_eq!(watching.run(), (1, a()));
    std::fs::rename(folder.path("lib"), folder.path("old")).expect("it can be renamed");
    std::fs::rename(folder.path("next"), folder.path("lib")).expect("it can be renamed");
    assert_eq!(watching.run(), (2, a()));
    folder.write("lib/deep/a", "3\n");
    assert_eq!(watching.run(), (3, a()));
    assert_eq!(watching.stop("INT"), 0);
    assert_eq!(folder.cas("cat a").ok().stdout, "3\n");
}

#[test]
fn a_mistake_is_told_and_waited_out_and_named_steps_alone_are_run() {
    let folder = pages();
    let mut watching = Watching::start(&folder, &["clean"]);
    assert_eq!(watching.run(), (1, vec!["clean".to_owned()]));
    folder.write("pipeline.yaml", PIPELINE.replace("command: 'grep", "comand: 'grep"));
    let told = watching.next();
    let text = told["errors"][0].to_string();
    assert!(text.contains("comand"), "{told}");
    folder.write("pipeline.yaml", PIPELINE.replace("grep -v x", "grep -v b"));
    assert_eq!(watching.run(), (2, vec!["clean".to_owned()]));
    // So is a step that fails, and a file that is gone.
    folder.write("pipeline.yaml", PIPELINE.replace("grep -v x", "grep -v"));
    assert_eq!(watching.run(), (3, vec![]));
    std::fs::remove_file(folder.path("data/raw.txt")).expect("it can be removed");
    let told = watching.next();
    assert!(told["errors"][0].to_string().contains("data/raw.txt"), "{told}");
    folder.write("data/raw.txt", "a\n");
    assert_eq!(watching.run(), (4, vec![]));
    assert_eq!(watching.stop("INT"), 1);
}

#[test]
fn what_changes_while_a_run_goes_on_is_seen_after_it() {
    let folder = Folder::with(&[
        (
            "pipeline.yaml",
            "solids:\n  slow: {command: 'cat \"$GATE\"', stdout: result, pass_env: [GATE]}\n  \
             fast: {inputs: {raw: {path: data.txt}, slow: slow}, command: 'cat {{ inputs.raw }}', stdout: result}\n",
        ),
        ("data.txt", "1\n"),
    ]);
    let mut folder = folder;
    let gate = folder.path("gate");
    let made = Command::new("mkfifo").arg(&gate).status().expect("mkfifo can be started");
    assert!(made.success());
    folder.variable("GATE", &gate.to_string_lossy());
    let mut watching = Watching::start(&folder, &[]);
    while watching.next()["event"] != "step-started" {}
    // `slow` waits at the gate, and `fast` was planned with what stood there before.
    folder.write("data.txt", "2\n");
    std::fs::write(&gate, "open\n").expect("somebody reads it");
    let (first, ran) = watching.run();
    // Nothing was committed of what had changed underneath.
    assert_eq!((first, ran), (0, vec!["slow".to_owned()]));
    assert_eq!(watching.run(), (2, vec!["fast".to_owned()]));
    assert_eq!(folder.cas("cat fast").ok().stdout, "2\n");
    assert_eq!(watching.stop("TERM"), 143);
}

#[test]
fn ctrl_c_during_a_run_ends_the_run_and_the_watching() {
    let folder = Folder::with(&[("pipeline.yaml", "solids: {long: {command: sleep 600, outputs: []}}\n")]);
    let mut watching = Watching::start(&folder, &[]);
    while watching.next()["event"] != "step-started" {}
    assert_eq!(watching.stop("INT"), 130);
}
