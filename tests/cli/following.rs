//! `logs --follow`: what a step prints while it runs, to its end.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::kit::{Folder, Ran};

/// A step that says through one pipe that it runs, and waits at two others until it is told to go on.
struct Kit {
    folder: Folder,
}

/// `logs --follow`, read line by line.
struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Kit {
    /// `PLACE` in the pipeline is the project's folder, where the pipes are: `ready`, `go` and `end`.
    fn new(yaml: &str) -> Self {
        let folder = Folder::new();
        let place = folder.path("").display().to_string();
        folder.write("pipeline.yaml", yaml.replace("PLACE", place.trim_end_matches('/')));
        for pipe in ["ready", "go", "end"] {
            let made = Command::new("mkfifo").arg(folder.path(pipe)).status().expect("mkfifo is there");
            assert!(made.success());
        }
        Self { folder }
    }

    fn cas(&self, words: &[&str]) -> Command {
        let mut command = self.folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a run, and comes back when its step runs.
    fn run(&self) -> Child {
        let run = self.cas(&["run"]).spawn().expect("it starts");
        self.runs();
        run
    }

    /// Waits until an attempt says that it runs.
    fn runs(&self) {
        assert_eq!(self.folder.read("ready"), "\n");
    }

    fn follow(&self, step: &str) -> Follower {
        let mut child = self.cas(&["logs", "--follow", step]).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Follower { child, lines }
    }

    fn ended(&self, run: Child) -> Ran {
        self.folder.ran("cas run".to_owned(), &run.wait_with_output().expect("it ends")).ok()
    }
}

impl Follower {
    #[track_caller]
    fn prints(&mut self, line: &str) {
        assert_eq!(self.lines.next().and_then(Result::ok).as_deref(), Some(line));
    }

    /// It prints nothing more, and ends well.
    #[track_caller]
    fn ends(mut self) {
        assert_eq!(self.lines.map_while(Result::ok).collect::<Vec<_>>(), Vec::<String>::new());
        assert!(self.child.wait().expect("it ends").success());
    }
}

/// The log is made with the first byte: until then there was nothing to follow, and that was said with silence and a 0.
#[test]
fn a_step_that_has_printed_nothing_yet_is_followed_too() {
    let kit = Kit::new(
        "solids: {late: {command: 'echo > PLACE/ready; cat PLACE/go; cat PLACE/end', outputs: []}}\n",
    );
    let run = kit.run();
    let mut follow = kit.follow("late");
    kit.folder.write("go", "here\n");
    follow.prints("here");
    kit.folder.write("end", "there\n");
    follow.prints("there");
    follow.ends();
    assert_eq!(kit.ended(run).steps(), ["late"]);
}

/// Between two attempts nothing of the step runs, and its follower took that for the end.
#[test]
fn a_step_that_tries_again_is_followed_to_its_last_attempt() {
    let kit = Kit::new(
        "solids:\n  late:\n    retries: {times: 1, back_off: 400ms}\n    outputs: []\n    \
         command: 'echo > PLACE/ready; cat PLACE/go; cat PLACE/end; mkdir PLACE/first 2> /dev/null && exit 1; true'\n",
    );
    let run = kit.run();
    let mut follow = kit.follow("late");
    for attempt in ["first", "second"] {
        kit.folder.write("go", format!("{attempt}\n"));
        follow.prints(attempt);
        kit.folder.write("end", "end\n");
        follow.prints("end");
        if attempt == "first" {
            kit.runs();
        }
    }
    follow.ends();
    let ran = kit.ended(run);
    assert_eq!(ran.steps(), ["late"]);
    let retried: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("retrying")).collect();
    assert_eq!(retried.len(), 1, "{}", ran.stderr);
    assert_eq!(
        kit.folder.names(".cas/work"),
        Vec::<String>::new(),
        "nothing says any longer that it is tried"
    );
}

/// What it prints goes through a pipe: nothing of it ran any more, and its last line was not there yet.
#[test]
fn what_a_step_prints_as_it_ends_is_printed_too() {
    for _ in 0..5 {
        let kit = Kit::new(
            "solids: {last: {command: 'echo > PLACE/ready; cat PLACE/go; cat PLACE/end; seq 20000; echo over', outputs: []}}\n",
        );
        let run = kit.run();
        let mut follow = kit.follow("last");
        kit.folder.write("go", "here\n");
        follow.prints("here");
        kit.folder.write("end", "");
        let lines: Vec<String> = follow.lines.map_while(Result::ok).collect();
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (20_001, Some("over")));
        assert_eq!(kit.ended(run).steps(), ["last"]);
    }
}

#[test]
fn a_running_step_is_followed_to_its_end_without_its_secrets() {
    let mut kit = Kit::new(
        "pipeline: slow\nsolids:\n  slow:\n    secrets: [PASS]\n    \
         command: echo begin $PASS; echo > PLACE/ready; cat PLACE/go; echo end; cat PLACE/end; echo x > outputs/result\n",
    );
    kit.folder.variable("PASS", "open-sesame");
    let idle = kit.folder.cas("logs --follow slow").code(1);
    assert!(idle.stderr.contains("`slow` does not run now"), "{}", idle.stderr);
    let run = kit.run();
    let mut follow = kit.follow("slow");
    follow.prints("begin ***");
    kit.folder.write("go", "");
    follow.prints("end");
    kit.folder.write("end", "");
    follow.ends();
    assert_eq!(kit.ended(run).steps(), ["slow"]);
}
