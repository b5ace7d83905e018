//! Every command works while a run goes on: the first process to open the store serves it, and none is told to wait.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::kit::Folder;

const PIPELINE: &str = r#"pipeline: beside
solids:
  fast: {command: 'echo fast', stdout: result}
  kept: {command: 'echo kept', stdout: result}
  number: {command: 'echo "{\"n\": 1}"', stdout: result}
  wrong: {command: 'echo wrong', stdout: result}
  slow: {inputs: {a: fast}, command: 'read -r line < GO; cat {{ inputs.a }}', stdout: result}
"#;

/// Each command that `cas --help` names, with words of its own, and what it then says somewhere.
const COMMANDS: [(&str, &str); 34] = [
    ("run fast kept", "2 reused"),
    ("status", "to-be-recomputed"),
    ("versions", "fast.result"),
    ("explain slow", "has not run yet"),
    ("graph", "slow"),
    ("ls", "fast.result"),
    ("show fast", "echo fast"),
    ("cat fast", "fast"),
    ("get fast got/", "fast.result"),
    ("runs", "cas run"),
    ("report 1 -o report.html", "report.html"),
    ("report 2 -o now.html", "now.html"),
    ("logs fast", "printed nothing"),
    ("diff 1 1", "run 1"),
    ("diff fast kept", "echo kept"),
    ("lineage fast", "run 1"),
    ("table number --columns result.n", "1"),
    ("shell fast", "in the folder of fast"),
    ("forget wrong --reason 'a test'", "forgot wrong"),
    ("forget wrong --undo", "not forgotten"),
    ("-f changed.yaml accept kept --reason 'the same'", "accepted kept"),
    ("stats", "index"),
    ("pin fast", "pinned fast.result"),
    ("pins", "fast.result"),
    ("gc --max-size 1 --dry-run", "in use"),
    ("gc --max-size 1", "in use"),
    ("unpin fast", "unpinned fast.result"),
    ("clean", "clean"),
    ("verify", "nothing is wrong"),
    ("export stored.cas fast", "exported 1 result"),
    ("import stored.cas", "imported 1 result"),
    ("-C elsewhere init", "pipeline.yaml"),
    ("schema", "\"solids\""),
    ("completions bash", "_cas"),
];

/// The commands that `cas --help` tells of.
fn told_of(help: &str) -> BTreeSet<String> {
    let lines = help.lines().filter_map(|line| line.strip_prefix("  "));
    let named = lines.filter_map(|line| line.split_once("  "));
    let is_name = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase());
    named.filter(|(word, _)| is_name(word)).map(|(word, _)| word.to_owned()).collect()
}

#[test]
fn every_command_works_while_a_run_goes_on() {
    let folder = Folder::new();
    folder.write("elsewhere/.keep", "");
    let go = folder.path("go");
    let pipeline = PIPELINE.replace("GO", &go.display().to_string());
    folder.write("pipeline.yaml", &pipeline);
    folder.write("changed.yaml", pipeline.replace("echo kept", "echo kept # as before"));
    let made = folder.command("mkfifo".as_ref()).arg(&go).status().expect("mkfifo is a program");
    assert!(made.success());

    let listed: BTreeSet<String> = COMMANDS
        .iter()
        .map(|(line, _)| {
            let mut words = line.split(' ').peekable();
            while words.next_if(|word| word.starts_with('-')).is_some() {
                words.next();
            }
            words.next().expect("a command").to_owned()
        })
        .collect();
    assert_eq!(
        listed,
        told_of(&folder.cas("--help").ok().stdout),
        "each command is tried below, and no other"
    );

    let _ = folder.cas("run fast kept number wrong").ok();
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    command.args(["run", "--format", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = command.spawn().expect("cas can be started");
    let mut events = BufReader::new(run.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(events.any(|line| line.contains("\"step-started\"")), "its one step began");

    for (line, says) in COMMANDS {
        // A difference that is found is not the same as none.
        let ran = folder.cas(line).code(i32::from(line == "diff fast kept"));
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert!(told.contains(says), "{}", ran.transcript());
        // Nobody had to wait for the run, nor was told of it.
        for word in ["error", "waiting", "warning"] {
            assert!(!ran.stderr.contains(word), "{}", ran.transcript());
        }
        assert!(
            run.try_wait().expect("it can be asked for").is_none(),
            "the run goes on meanwhile: cas {line}"
        );
    }

    std::fs::write(&go, "now\n").expect("its step waits for this");
    let ended = events.last().expect("a run tells of its end");
    assert!(ended.contains("\"run-finished\""), "{ended}");
    assert!(run.wait().expect("it ends").success());
    assert_eq!(folder.cas("cat slow").ok().stdout, "fast\n");
}
