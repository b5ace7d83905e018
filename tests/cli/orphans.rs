//! No process of a step outlives it, however it left.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::kit::Folder;

/// A project with a fifo, which a step is told the place of.
fn with_fifo(yaml: &str) -> (Folder, fs::File) {
    let mut folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let fifo = folder.path("alive");
    folder.variable("ALIVE", &fifo.display().to_string());
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a fifo can be made");
    // Whoever opens it to write need not wait.
    let mut options = fs::OpenOptions::new();
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("it is a small number");
    let fifo = options.read(true).custom_flags(flags).open(fifo).expect("it can be opened");
    (folder, fifo)
}

/// What was written into it; panics while somebody holds it.
fn nobody_holds(mut fifo: &fs::File) -> String {
    let mut text = String::new();
    fifo.read_to_string(&mut text).expect("nobody holds it any more");
    text
}

#[test]
fn a_daemon_does_not_outlive_the_step_that_left_it() {
    let leaves = |how: &str| {
        let (folder, fifo) = with_fifo(&format!(
            "solids:\n  a:\n    pass_env: [ALIVE]\n    command: |\n      {how}\n      read up < up\n      echo done > {{{{ outputs.result }}}}\n"
        ));
        let ran = folder.cas("run").ok();
        assert_eq!(ran.steps(), ["a"], "{}", ran.stderr);
        assert_eq!(nobody_holds(&fifo), "up\n", "{how}");
    };
    // Each tells that it runs, and is not waited for.
    let daemon = "exec 9> $ALIVE; echo up >&9; echo up > up; sleep 1000";
    leaves(&format!("mkfifo up; ({daemon}) &"));
    leaves(&format!("mkfifo up; setsid sh -c '{daemon}' > /dev/null 2>&1 < /dev/null &"));
    leaves(&format!("mkfifo up; (setsid sh -c '({daemon}) & sleep 1000' > /dev/null 2>&1 &) &"));
    let shed = daemon.replace("echo up > up", "echo up > $UP");
    leaves(&format!(
        "mkfifo up; UP=$(pwd)/up; setsid env -i PATH=\"$PATH\" ALIVE=\"$ALIVE\" UP=\"$UP\" sh -c 'cd /; {shed}' > /dev/null 2>&1 &"
    ));
}

#[test]
fn it_is_gone_before_the_next_step_begins() {
    let yaml = "\
solids:
  leaves:
    command: |
      mkfifo up
      setsid sh -c 'trap \"\" TERM HUP; echo $$ > up; sleep 1000; sleep 1000' > /dev/null 2>&1 < /dev/null &
      cat up > {{ outputs.result }}
  looks:
    inputs: {pid: leaves}
    command: |
      read pid < {{ inputs.pid }}
      test ! -e /proc/$pid && echo gone > {{ outputs.result }}
  beside: {matrix: {n: [1, 2, 3, 4]}, command: \"echo {{ config.n }}\", stdout: result}
";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let ran = folder.cas("run -j 2").ok();
    let mut steps = ran.steps();
    let two: Vec<&str> = steps.iter().copied().filter(|step| !step.starts_with("beside")).collect();
    assert_eq!(two, ["leaves", "looks"]);
    steps.sort_unstable();
    assert_eq!(steps, ["beside[n=1]", "beside[n=2]", "beside[n=3]", "beside[n=4]", "leaves", "looks"]);
    assert_eq!(folder.cas("cat looks").ok().stdout, "gone\n");
}

#[test]
fn what_cas_did_not_start_is_left_alone() {
    let (folder, fifo) =
        with_fifo("solids: {a: {command: \"(setsid sleep 1000 &) & echo a\", stdout: result}}\n");
    // A child of the process that becomes cas.
    let line = format!(
        "(exec 9> $ALIVE; echo up >&9; exec sleep 1000 > /dev/null 2>&1) & echo $!; exec {} run",
        env!("CARGO_BIN_EXE_cas")
    );
    let mut command = folder.command("/bin/sh".as_ref());
    let output = command.args(["-c", &line]).output().expect("a shell can be started");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let pid: i32 = told.lines().next().and_then(|line| line.parse().ok()).expect("it says its number");
    let pid = rustix::process::Pid::from_raw(pid).expect("it is a process");
    assert!(rustix::process::test_kill_process(pid).is_ok(), "it lives");
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    drop(fifo);
    assert_eq!(folder.ran(line, &output).ok().steps(), ["a"]);
}

/// What a probe had left in a session of its own went on after `cas run` had ended.
#[test]
fn a_daemon_does_not_outlive_the_probe_that_left_it() {
    let daemon = "exec 9> $ALIVE; echo up >&9; echo up > $1; exec sleep 1000";
    let probe = |name: &str| {
        format!(
            "{{probe: \"mkfifo {name}; setsid sh -c '{daemon}' sh {name} > /dev/null 2>&1 < /dev/null & cat {name}\"}}"
        )
    };
    // One alone, and two at once.
    for inputs in [vec!["one"], vec!["one", "two"]] {
        let given: Vec<String> = inputs.iter().map(|name| format!("{name}: {}", probe(name))).collect();
        let command = format!("cat inputs/{}", inputs.join(" inputs/"));
        let (folder, fifo) = with_fifo(&format!(
            "solids:\n  a: {{pass_env: [ALIVE], inputs: {{{}}}, command: \"{command}\", stdout: result}}\n",
            given.join(", ")
        ));
        let ran = folder.cas("run").ok();
        assert_eq!(ran.steps(), ["a"], "{}", ran.stderr);
        assert_eq!(nobody_holds(&fifo), "up\n".repeat(inputs.len()));
    }
}
