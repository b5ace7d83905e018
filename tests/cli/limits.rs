//! Named limits, cores and memory: what runs on one store share, and what is a run's own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::kit::Folder;

/// Steps that say in a file when they begin and end; between the two they wait until the test writes a line.
const PIPELINE: &str = "\
pipeline: p
solids:
  a: {limits: {gpu: 1}, command: 'echo a begins >> LOG; read x < PIPE_a; echo a ends >> LOG', outputs: []}
  b: {limits: {gpu: 1}, command: 'echo b begins >> LOG; read x < PIPE_b; echo b ends >> LOG', outputs: []}
  c: {command: 'echo c begins >> LOG', outputs: []}
  big: {cpus: 64, command: 'echo big begins >> LOG; read x < PIPE_a; echo big ends >> LOG', outputs: []}
  all: {cpus: 64, command: 'echo all begins >> LOG', outputs: []}
";

struct Kit {
    folder: Folder,
}

/// A run whose events are read as they come.
struct Run {
    child: Child,
    events: BufReader<ChildStdout>,
}

impl Kit {
    /// A project whose store says this of limits.
    fn new(settings: &str) -> Self {
        let folder = Folder::new();
        folder.write("log", "");
        let place = folder.path("");
        let text = PIPELINE
            .replace("PIPE_", &format!("{}pipe_", place.display()))
            .replace("LOG", &place.join("log").display().to_string());
        folder.write("pipeline.yaml", text);
        for pipe in ["pipe_a", "pipe_b"] {
            let made = Command::new("mkfifo").arg(folder.path(pipe)).status().expect("mkfifo is there");
            assert!(made.success());
        }
        let _ = folder.cas("run c").ok();
        folder.write("log", "");
        folder.write(".cas/config.toml", settings);
        Self { folder }
    }

    fn start(&self, words: &[&str]) -> Run {
        let mut command = self.folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
        command.arg("run").args(words).args(["--format", "json"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("cas can be started");
        let events = BufReader::new(child.stdout.take().expect("a pipe"));
        Run { child, events }
    }

    /// Lets a step that waits for a line go on.
    fn go_on(&self, pipe: &str) {
        let mut pipe = std::fs::OpenOptions::new().write(true).open(self.folder.path(pipe)).expect("a pipe");
        writeln!(pipe, "go on").expect("somebody reads it");
    }

    fn log(&self) -> Vec<String> {
        self.folder.read("log").lines().map(str::to_owned).collect()
    }
}

impl Run {
    /// The next event, but for those that say nothing of steps: `step-waits a`.
    fn next(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.events.read_line(&mut line).expect("text"), 0, "it says nothing more");
            let text = |member: &str| {
                let (_, rest) = line.split_once(&format!("\"{member}\":\""))?;
                rest.split_once('"').map(|(text, _)| text.to_owned())
            };
            let event = text("event").expect("an event");
            if let Some(step) = text("step") {
                let limits = line.split_once("\"limits\":[").and_then(|(_, rest)| rest.split_once(']'));
                let limits =
                    limits.map_or(String::new(), |(names, _)| format!(" for {}", names.replace('"', "")));
                let outcome = text("outcome").map_or(String::new(), |outcome| format!(" {outcome}"));
                return format!("{event} {step}{limits}{outcome}");
            }
        }
    }

    fn expect(&mut self, events: &[&str]) {
        for expected in events {
            assert_eq!(self.next(), *expected);
        }
    }

    fn done(mut self) {
        assert!(self.child.wait().expect("it ends").success());
    }
}

#[test]
fn a_limit_is_shared_by_all_runs_on_a_store() {
    let kit = Kit::new("");
    let mut first = kit.start(&["a"]);
    first.expect(&["step-started a"]);
    // Nobody said how much there is of `gpu`: then there is one, and the other run waits for it.
    let mut second = kit.start(&["b"]);
    second.expect(&["step-waits b for gpu"]);
    // What needs none of it goes on beside both.
    let mut third = kit.start(&["--force", "c"]);
    third.expect(&["step-started c", "step-finished c ran"]);
    third.done();
    kit.go_on("pipe_a");
    first.expect(&["step-finished a ran"]);
    first.done();
    second.expect(&["step-started b"]);
    kit.go_on("pipe_b");
    second.expect(&["step-finished b ran"]);
    second.done();
    assert_eq!(kit.log(), ["a begins", "c begins", "a ends", "b begins", "b ends"]);
}

#[test]
fn there_is_as_much_of_a_limit_as_a_run_or_the_store_says() {
    for (settings, words) in [("", ["--limit", "gpu=2"].as_slice()), ("[limits]\ngpu = 2\ncpus = 8\n", &[])] {
        let kit = Kit::new(settings);
        let mut first = kit.start(&[&["a"], words].concat());
        first.expect(&["step-started a"]);
        let mut second = kit.start(&[&["b"], words].concat());
        // Both are in the middle of it at once.
        second.expect(&["step-started b"]);
        kit.go_on("pipe_b");
        second.expect(&["step-finished b ran"]);
        kit.go_on("pipe_a");
        first.expect(&["step-finished a ran"]);
        first.done();
        second.done();
        let mut log = kit.log();
        // An event is told before the step has written anything: which of the two is first here is open.
        log[..2].sort_unstable();
        assert_eq!(log, ["a begins", "b begins", "b ends", "a ends"]);
    }
}

#[test]
fn the_stores_word_on_a_limit_is_the_last() {
    let kit = Kit::new("[limits]\ngpu = 1\n");
    let mut first = kit.start(&["a", "--limit", "gpu=2"]);
    first.expect(&["step-started a"]);
    let mut second = kit.start(&["b", "--limit", "gpu=2"]);
    second.expect(&["step-waits b for gpu"]);
    kit.go_on("pipe_a");
    second.expect(&["step-started b"]);
    kit.go_on("pipe_b");
    first.done();
    second.done();
    assert_eq!(kit.log(), ["a begins", "a ends", "b begins", "b ends"]);
}

#[test]
fn cores_are_shared_too_and_a_step_that_wants_more_than_there_are_gets_all() {
    let kit = Kit::new("");
    let mut first = kit.start(&["big"]);
    first.expect(&["step-started big"]);
    let mut second = kit.start(&["all"]);
    second.expect(&["step-waits all for cpus"]);
    kit.go_on("pipe_a");
    second.expect(&["step-started all", "step-finished all ran"]);
    first.done();
    second.done();
    assert_eq!(kit.log(), ["big begins", "big ends", "all begins"]);
}

#[test]
fn what_a_run_that_is_killed_used_is_free() {
    let kit = Kit::new("");
    let mut first = kit.start(&["a"]);
    first.expect(&["step-started a"]);
    let mut second = kit.start(&["b"]);
    second.expect(&["step-waits b for gpu"]);
    first.child.kill().expect("it can be killed");
    first.child.wait().expect("it ends");
    second.expect(&["step-started b"]);
    kit.go_on("pipe_b");
    second.expect(&["step-finished b ran"]);
    second.done();
    // What it left behind reads from the pipe, if it is there still.
    let _ = let_go(&kit.folder.path("pipe_a"));
}

#[test]
fn a_step_that_another_run_makes_is_waited_for_and_that_is_told_once() {
    let kit = Kit::new("");
    let mut first = kit.start(&["a"]);
    first.expect(&["step-started a"]);
    let mut second = kit.start(&["a"]);
    // No limit lacks.
    second.expect(&["step-waits a for "]);
    kit.go_on("pipe_a");
    first.expect(&["step-finished a ran"]);
    first.done();
    second.expect(&["step-finished a joined"]);
    second.done();
    assert_eq!(kit.log(), ["a begins", "a ends"]);
}

/// Opens a pipe to write and closes it again, if somebody reads it.
fn let_go(pipe: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    const O_NONBLOCK: i32 = 0o4000;
    std::fs::OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(pipe).map(drop)
}

#[test]
fn a_run_that_a_step_starts_lives_on_what_the_step_was_given() {
    let kit = Kit::new("");
    let cas = env!("CARGO_BIN_EXE_cas");
    let text = kit.folder.read("pipeline.yaml")
        + &format!(
            "  outer: {{cpus: 64, limits: {{gpu: 1}}, command: '{cas} -C {} run all', outputs: []}}\n",
            kit.folder.path("").display()
        );
    kit.folder.write("pipeline.yaml", text);
    let ran = kit.folder.cas("run outer").ok();
    assert_eq!((ran.steps(), kit.log()), (vec!["outer"], vec!["all begins".to_owned()]));
}

#[test]
fn a_forecast_says_how_long_it_takes_and_how_sure_that_is() {
    let yaml = "pipeline: p\nsolids:\n  a: {version: '1', command: 'true', outputs: []}\n  b: {version: '1', command: \
                'true', outputs: []}\n  same: {command: 'true', outputs: []}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["a", "b", "same"]);
    let more = yaml.replace("'1'", "'2'") + "  c: {command: 'echo c', outputs: []}\n";
    folder.write("pipeline.yaml", more);
    folder.cas("run -n -j 2").shows(
        "
$ cas run -n -j 2
4 steps: 1 stored, 3 to-be-recomputed
a  version: 1 → 2
b  version: 1 → 2
c  it has not run yet
about [time] with -j 2; 1 of 3 never ran, and counts as the middle of the rest
",
    );
    let json = folder.cas("run -n -j 2 --format json").ok().stdout;
    for part in [
        "\"forecast\":{\"steps\":3,\"jobs\":2,\"elapsed_ms\":",
        "\"known\":2,\"alike\":0,\"unknown\":1,\"may_be_unchanged\":0,\"by_last_list\":0}",
        "\"expected_from\":\"before\"",
        "\"expected_ms\":null,\"expected_from\":\"unknown\"",
    ] {
        assert!(json.contains(part), "{part} is not in {json}");
    }
    let document: serde_json::Value = serde_json::from_str(&json).expect("it is a document");
    let foreseen: Vec<&serde_json::Value> =
        document["run"].as_array().expect("a list").iter().map(|row| &row["step"]).collect();
    // What is foreseen is what then runs, and all of it.
    assert_eq!(foreseen, ["a", "b", "c"]);
    let ran = folder.cas("run -j 1").ok();
    assert_eq!((ran.steps(), ran.counts()), (vec!["a", "b", "c"], "1 reused, 3 ran"));
    folder.cas("run -n").shows("\n$ cas run -n\n4 steps: 4 stored\nnothing to run\n");
    assert_eq!(folder.cas("run").ok().steps(), Vec::<&str>::new());
}

#[test]
fn cores_and_memory_are_no_limits_of_ones_own() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "pipeline: p\nsolids:\n  a: {limits: {cpus: 2}, command: 'true', outputs: []}\n",
    )]);
    folder.cas("run").code(2).shows(
        "
$ cas run
! error: pipeline.yaml:3:16: `cpus` is a key of its own, beside `limits`
!   3 |   a: {limits: {cpus: 2}, command: 'true', outputs: []}
!     |                ^
! hint: write `cpus: …` in the solid
[2]
",
    );
}

/// A limit with a name that no solid has was taken without a word, and limited nothing.
#[test]
fn a_limit_that_no_solid_takes_from_is_named_with_those_there_are() {
    let yaml = |limits: &str| {
        format!(
            "pipeline: p\nsolids:\n  a: {{{limits}config: {{n: {{type: int, default: 1}}}}, command: 'true', outputs: []}}\n"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &yaml("limits: {gpu: 1, net: 1}, "))]);
    for line in
        ["run --limit gqu=1 --limit gpu=2", "run -n --limit gqu=1", "run --limit gqu=1 --sweep a.n=1,2"]
    {
        let ran = folder.cas(line).ok();
        let message = "warning: `--limit`: no solid takes from `gqu`: there is `gpu` or `net`";
        assert_eq!(ran.stderr.matches(message).count(), 1, "{}", ran.stderr);
        assert_eq!(ran.stderr.matches("`--limit`").count(), 1, "{}", ran.stderr);
    }
    folder.write("pipeline.yaml", yaml(""));
    let ran = folder.cas("run --limit gpu=1").ok();
    assert!(ran.stderr.contains("no solid takes from `gpu`: none takes from any"), "{}", ran.stderr);
}

/// It was taken for one.
#[test]
fn a_step_that_uses_what_a_run_was_told_there_is_none_of_is_an_error_before_anything_runs() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "\
pipeline: p
solids:
  prepare: {command: echo ready, stdout: result}
  train:
    limits: {gpu: 1}
    config: {n: {type: int, default: 0}}
    inputs: {prepare: prepare}
    matrix: {seed: [1, 2]}
    command: 'echo {{ config.n }}'
    stdout: result
",
    )]);
    for line in ["run --limit gpu=0", "run -n --limit gpu=0", "run --limit gpu=0 --sweep train.n=1,2"] {
        let ran = folder.cas(line).code(2);
        let message = "`train[seed=1]` uses 1 of `gpu`, and this run was told that there is none";
        assert_eq!(ran.stderr.matches(message).count(), 1, "{line}: {}", ran.stderr);
        assert_eq!(ran.stderr.matches("uses 1 of").count(), 1, "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains("pipeline.yaml:4:"), "{line}: {}", ran.stderr);
        assert_eq!(ran.steps(), Vec::<&str>::new(), "{line}");
    }
    // What does not use it, and what is stored, needs none.
    assert_eq!(folder.cas("run prepare --limit gpu=0").ok().steps(), ["prepare"]);
    assert_eq!(folder.cas("run -j 1 --limit gpu=1").ok().steps(), ["train[seed=1]", "train[seed=2]"]);
    assert_eq!(folder.cas("run --limit gpu=0").ok().counts(), "nothing to run: 3 reused");
}

/// A file in the store of which a byte was changed, whatever is in it.
fn damage_the_only_blob(folder: &Folder) {
    let names = |path: &str| -> Vec<String> {
        folder.names(path).into_iter().map(|name| format!("{path}/{name}")).collect()
    };
    let blobs: Vec<String> = names(".cas/blobs").iter().flat_map(|fan| names(fan)).collect();
    let [blob] = blobs.as_slice() else { panic!("there is one blob: {blobs:?}") };
    let mut bytes = std::fs::read(folder.path(blob)).expect("it can be read");
    bytes[0] ^= 1;
    std::fs::remove_file(folder.path(blob)).expect("the folder is ours");
    folder.write(blob, bytes);
}

/// It ran nevertheless: only what was to run before anything began was looked at.
#[test]
fn a_step_that_has_to_run_after_all_fails_where_there_is_none_of_what_it_uses() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "\
pipeline: p
solids:
  big: {limits: {gpu: 1}, command: 'seq 1 20000 | sort -R', stdout: result}
  use:
    config: {k: {type: int, default: 1}}
    inputs: {big: big}
    command: 'wc -l < {{ inputs.big }}; echo {{ config.k }}'
    stdout: result
",
    )]);
    assert_eq!(folder.cas("run").ok().steps(), ["big", "use"]);
    damage_the_only_blob(&folder);
    let ran = folder.cas("run use --set use.k=2 --limit gpu=0").code(1);
    assert!(ran.stderr.contains("damaged   big.result"), "{}", ran.stderr);
    let words = "it uses 1 of `gpu`, and this run was told that there is none";
    assert_eq!(ran.stderr.matches(words).count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("`--limit gpu=1`"), "{}", ran.stderr);
    assert_eq!((ran.steps(), ran.counts()), (Vec::new(), "0 reused, 0 ran, 1 failed, 1 skipped"));
    // Nothing was begun, so nothing is in the way of a run that has some.
    let ran = folder.cas("run use --set use.k=2").ok();
    assert_eq!(ran.steps(), ["big", "use"], "{}", ran.transcript());
}

/// It was refused before anything ran.
#[test]
fn a_step_that_may_turn_out_unchanged_is_not_refused_before_it_is_known() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "\
pipeline: p
solids:
  a: {config: {k: {type: int, default: 0}}, command: 'echo {{ config.k }} | tr 01 00', stdout: result}
  b:
    config: {n: {type: int, default: 0}}
    limits: {gpu: 1}
    inputs: {a: a}
    command: 'cat {{ inputs.a }}; echo {{ config.n }}'
    stdout: result
  list:
    config: {k: {type: int, default: 0}}
    command: 'mkdir outputs/parts; echo {{ config.k }} | tr 01 00 > outputs/parts/x'
    outputs: [{parts: {list: true}}]
  each: {limits: {gpu: 1}, map: {part: list.parts}, command: 'cat {{ inputs.part }}', stdout: result}
",
    )]);
    assert_eq!(folder.cas("run -j 1").ok().steps().len(), 4);
    let of = |step: &str| format!("`{step}` uses 1 of `gpu`, and this run was told that there is none");

    // What is above comes out the same: nothing of the limit is used.
    let ran = folder.cas("run b --set a.k=1 --limit gpu=0").ok();
    assert_eq!((ran.steps(), ran.counts()), (vec!["a"], "0 reused, 1 unchanged, 1 ran"));
    let ran = folder.cas("run each --set list.k=1 --limit gpu=0").ok();
    assert_eq!((ran.steps(), ran.counts()), (vec!["list"], "1 reused, 1 ran"));

    // A preview says which of them it is.
    let told = folder.cas("run -n b each --set a.k=2 --set list.k=2 --limit gpu=0").ok().stdout;
    let may = "(fails unless it turns out unchanged: it uses 1 of `gpu`, and there is none)";
    let expected = [
        "4 steps: 4 to-be-recomputed".to_owned(),
        "a        config.k: 1 → 2".to_owned(),
        format!("b        `a`: config.k: 1 → 2 {may}"),
        "list     config.k: 1 → 2".to_owned(),
        format!("each[*]  `list`: config.k: 1 → 2 {may}"),
    ];
    assert_eq!(told.lines().take(5).collect::<Vec<_>>(), expected);
    let json = folder.cas("run -n b --set a.k=2 --limit gpu=0 --format json").ok().stdout;
    assert_eq!(json.matches("\"lacks\":\"gpu\"").count(), 1, "{json}");
    assert_eq!(json.matches("\"lacks\":null").count(), 1, "{json}");

    // It comes out otherwise: then it is one failure, before anything of it begins.
    let ran = folder.cas("run b --set a.k=2 --limit gpu=0").code(1);
    assert_eq!((ran.steps(), ran.counts()), (vec!["a"], "0 reused, 1 ran, 1 failed"));
    let words = "it uses 1 of `gpu`, and this run was told that there is none";
    assert_eq!(ran.stderr.matches(words).count(), 1, "{}", ran.stderr);
    let ran = folder.cas("run each --set list.k=2 --limit gpu=0").code(1);
    assert_eq!((ran.steps(), ran.counts()), (vec!["list"], "0 reused, 1 ran, 1 failed"));
    assert_eq!(ran.stderr.matches(words).count(), 1, "{}", ran.stderr);

    // Nothing that was ever made can be that of a config which is new: it is certain to run, whatever is above.
    for line in ["run b --set a.k=1 --set b.n=7 --limit gpu=0", "run -n b --set b.n=7 --limit gpu=0"] {
        let ran = folder.cas(line).code(2);
        assert!(ran.stderr.contains(&of("b")), "{line}: {}", ran.stderr);
        assert_eq!(ran.steps(), Vec::<&str>::new(), "{line}");
    }
}
