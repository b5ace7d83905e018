//! What signals do at other times than while one run goes on in a terminal: ignored ones, Ctrl-Z of many runs in one process,
//! Ctrl-C between two runs.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use crate::kit::Folder;

/// A project with the pipes that its steps tell and wait with: `PLACE` in the pipeline is the folder that they are in.
fn project(yaml: &str) -> Folder {
    let folder = Folder::new();
    folder.write("pipeline.yaml", yaml.replace("PLACE", &folder.path("").display().to_string()));
    for name in ["ready", "go"] {
        let made = Command::new("mkfifo").arg(folder.path(name)).status().expect("mkfifo is there");
        assert!(made.success());
    }
    folder
}

fn started(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be started")
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it is there");
}

/// Opens once somebody writes, and reads until nobody does any more.
fn heard(path: &Path) -> String {
    let mut text = String::new();
    File::open(path).and_then(|mut pipe| pipe.read_to_string(&mut text)).expect("a pipe");
    text
}

/// Opens once somebody reads.
fn say(path: &Path, text: &str) {
    let pipe = OpenOptions::new().write(true).open(path);
    pipe.and_then(|mut pipe| pipe.write_all(text.as_bytes())).expect("a pipe");
}

/// Waits until `cas` reads its run config from its standard input: it has taken more of that than a pipe holds.
fn reading(child: &mut Child) -> ChildStdin {
    let mut config = child.stdin.take().expect("it is a pipe");
    config.write_all(&[b'#'; 200_000]).expect("it is read");
    config
}

const WAITS: &str = "\
pipeline: p
solids:
  a:
    config: {n: {type: int, default: 0}}
    command: 'echo {{ config.n }} > PLACE/ready; cat PLACE/go > {{ outputs.result }}'
";

/// A gate that was started by `nohup` failed three stories that end `cas` by Ctrl-C: it had inherited that this is ignored.
/// This test starts itself once more so, and looks at what it starts then.
#[test]
fn what_a_test_starts_hears_signals_however_the_test_was_started() {
    const BEGAN_DEAF: &str = "CAS_TEST_BEGAN_DEAF";
    const DEAF: &str = "\
import os, signal, sys
told = [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP, signal.SIGPIPE]
for one in told:
    signal.signal(one, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, told)
os.execv(sys.argv[1], sys.argv[1:])
";
    /// HUP, INT, QUIT, PIPE, TERM and TSTP, as the kernel writes sets of signals.
    const TOLD: u64 = 0x8_5007;
    // Those that have a name; others are the libraries' own.
    let deaf_to = |status: &str| {
        let masks =
            status.lines().filter_map(|line| line.strip_prefix("SigBlk:").or(line.strip_prefix("SigIgn:")));
        masks.map(|mask| u64::from_str_radix(mask.trim(), 16).expect("hex") & 0x7fff_ffff).collect::<Vec<_>>()
    };
    let folder = Folder::new();
    if std::env::var_os(BEGAN_DEAF).is_some() {
        let own = std::fs::read_to_string("/proc/thread-self/status").expect("the kernel tells");
        assert!(deaf_to(&own).iter().all(|mask| mask & TOLD == TOLD), "it began deaf:\n{own}");
        let mut look = folder.command("cat".as_ref());
        let output = look.arg("/proc/self/status").output().expect("it can be started");
        let found = folder.ran("cat /proc/self/status".to_owned(), &output).ok();
        assert_eq!(deaf_to(&found.stdout), [0, 0], "{}", found.transcript());
        return;
    }
    let own = std::env::current_exe().expect("this program");
    let mut again = folder.command("python3".as_ref());
    again
        .args(["-c", DEAF])
        .arg(own)
        .args(["--exact", "signals::what_a_test_starts_hears_signals_however_the_test_was_started"]);
    let output = again.env(BEGAN_DEAF, "1").output().expect("python3 can be started");
    let ran = folder.ran("the same test".to_owned(), &output).ok();
    assert!(ran.stdout.contains("1 passed"), "{}", ran.transcript());
}

/// `nohup cas run` was ended by the hang-up all the same, and a job that a script had put in the background by the
/// Ctrl-C that was meant for another one: signals that were ignored were listened for.
#[test]
fn a_signal_that_was_ignored_when_it_was_started_stays_ignored() {
    for signal in [Signal::HUP, Signal::INT] {
        let folder = project(WAITS);
        let mut shell = folder.command("/bin/sh".as_ref());
        shell.args(["-c", "trap '' HUP INT TSTP; exec \"$0\" run", env!("CARGO_BIN_EXE_cas")]);
        let mut child = started(&mut shell);
        assert_eq!(heard(&folder.path("ready")), "0\n");
        send(&child, signal);
        send(&child, Signal::TSTP);
        say(&folder.path("go"), "done\n");
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{signal:?}");
        assert_eq!(folder.cas("cat a").ok().stdout, "done\n");
    }
}

/// Each combination of a sweep opened the store anew, and listened for Ctrl-Z once more: it took as many `fg` until the
/// sweep went on, and the first stop came before anything was handed over.
#[test]
#[expect(clippy::zombie_processes, reason = "it is waited for in a way that tells of a stop, too")]
fn a_sweep_is_stopped_once_and_goes_on_when_it_is_told_to_once() {
    let folder = project(WAITS);
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let mut child = started(command.args(["run", "-j", "1", "--sweep", "a.n=1..4"]));
    for n in 1..=3 {
        assert_eq!(heard(&folder.path("ready")), format!("{n}\n"));
        say(&folder.path("go"), "done\n");
    }
    assert_eq!(heard(&folder.path("ready")), "4\n");
    send(&child, Signal::TSTP);
    let pid = Pid::from_child(&child);
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).expect("it is a child").expect("it waits");
    assert!(status.stopped());
    send(&child, Signal::CONT);
    // What comes next is its end, and no other stop.
    say(&folder.path("go"), "done\n");
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).expect("it is a child").expect("it waits");
    let ended = status.exit_status();
    if ended.is_none() {
        let _ = child.kill();
    }
    assert_eq!(ended, Some(0), "{status:?}");
}

/// The state of a process, as the kernel has it: `T` is stopped.
fn state(pid: &str) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).expect("it is there");
    let (_, rest) = stat.rsplit_once(") ").expect("its name ends");
    rest.chars().take(1).collect()
}

/// Waits until it does nothing any more: it was told to stop before `cas` was, and does so when it is its turn.
fn until_stopped(pid: &str) {
    while state(pid) != "T" {
        std::thread::yield_now();
    }
}

/// Waits until it is stopped, or has ended.
fn status(child: &Child) -> WaitStatus {
    let pid = Some(Pid::from_child(child));
    waitpid(pid, WaitOptions::UNTRACED).expect("it is a child").expect("it waits").1
}

/// The step went on, with a process group of its own, and nobody was left to hold its time against it.
#[test]
#[expect(clippy::zombie_processes, reason = "it is waited for in a way that tells of a stop, too")]
fn ctrl_z_stops_what_runs_and_the_time_is_nobodys() {
    let folder = project(
        "\
pipeline: p
solids:
  a: {command: 'echo $$ > PLACE/ready; read line < PLACE/go; echo $line > {{ outputs.result }}'}
",
    );
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let began = Instant::now();
    let child = started(command.arg("run"));
    let step = heard(&folder.path("ready"));
    let until_here = began.elapsed();
    let mut stopped = Duration::ZERO;
    for _ in 0..2 {
        send(&child, Signal::TSTP);
        assert!(status(&child).stopped());
        until_stopped(&step);
        let since = Instant::now();
        // Longer than it took to begin, which is in no run's time: what is held against it is seen.
        while since.elapsed() < 2 * until_here {
            let _ = folder.cas("schema").ok();
        }
        stopped += since.elapsed();
        send(&child, Signal::CONT);
    }
    // It reads only when it goes on.
    say(&folder.path("go"), "done\n");
    assert_eq!(status(&child).exit_status(), Some(0));
    let took = began.elapsed();
    assert_eq!(folder.cas("cat a").ok().stdout, "done\n");
    let runs = folder.cas("runs 1 --format json").ok().stdout;
    let runs: serde_json::Value = serde_json::from_str(&runs).expect("a document");
    let counted = Duration::from_millis(runs["runs"][0]["elapsed_ms"].as_u64().expect("a number"));
    // One clock on both sides, which nobody sets: that of the wall may be set meanwhile.
    assert!(counted <= took - stopped, "{counted:?} of {took:?}, {stopped:?} of it stopped");
}

/// A probe went on where there was no store yet to hand over.
#[test]
#[expect(clippy::zombie_processes, reason = "it is waited for in a way that tells of a stop, too")]
fn ctrl_z_stops_a_probe() {
    for has_store in [false, true] {
        let folder = project(
            "\
pipeline: p
solids:
  a:
    inputs: {p: {probe: 'echo $$ > PLACE/ready; read line < PLACE/go; echo $line'}}
    command: 'cp {{ inputs.p }} PLACE/came; echo > {{ outputs.result }}'
  b: {command: 'echo b', stdout: result}
",
        );
        if has_store {
            assert_eq!(folder.cas("run b").ok().steps(), ["b"]);
        }
        let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
        let child = started(command.arg("run"));
        let probe = heard(&folder.path("ready"));
        send(&child, Signal::TSTP);
        assert!(status(&child).stopped());
        until_stopped(&probe);
        send(&child, Signal::CONT);
        say(&folder.path("go"), "done\n");
        assert_eq!(status(&child).exit_status(), Some(0));
        assert_eq!(std::fs::read_to_string(folder.path("came")).expect("it ran"), "done");
    }
}

/// A run that a step started was stopped with its step; what it ran itself went on, and so did what had left its group.
#[test]
#[expect(clippy::zombie_processes, reason = "it is waited for in a way that tells of a stop, too")]
fn ctrl_z_stops_what_a_step_runs_in_other_groups() {
    // It starts nothing: a shell that waits for what it is just starting is in no state to be stopped.
    const WAITS: &str = "echo $$ > PLACE/ready; read line < PLACE/go; echo $line > PLACE/came";
    let nested = format!("{} -C PLACE/nested run", env!("CARGO_BIN_EXE_cas"));
    let apart = format!("setsid sh -c \"{}\" & wait", WAITS.replace('$', "\\$"));
    for how in [nested, apart] {
        let folder = project(&format!(
            "pipeline: p\nsolids: {{a: {{command: '{how}; cat PLACE/came > {{{{ outputs.result }}}}'}}}}\n"
        ));
        let place = folder.path("").display().to_string();
        let waits = WAITS.replace("PLACE", &place);
        folder.write(
            "nested/pipeline.yaml",
            format!("pipeline: n\nsolids: {{b: {{command: '{waits}; echo > {{{{ outputs.result }}}}'}}}}\n"),
        );
        let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
        let child = started(command.arg("run"));
        let step = heard(&folder.path("ready"));
        for _ in 0..2 {
            send(&child, Signal::TSTP);
            assert!(status(&child).stopped());
            until_stopped(&step);
            if folder.has("nested/.cas") {
                // It has stopped itself, so that nobody has to wait for its store.
                let _ = folder.cas("-C nested stats --wait 1s").ok();
            }
            send(&child, Signal::CONT);
        }
        say(&folder.path("go"), "done\n");
        assert_eq!(status(&child).exit_status(), Some(0), "{how}");
        assert_eq!(folder.cas("cat a").ok().stdout, "done\n");
    }
}

/// All others went on for the five seconds that a step had which hears of the stop and does not stop, and their time was nobody's.
#[test]
#[expect(clippy::zombie_processes, reason = "it is waited for in a way that tells of a stop, too")]
fn ctrl_z_stops_a_step_while_another_one_is_waited_for() {
    let folder = project(
        "\
pipeline: p
solids:
  hears: {command: 'trap : TSTP; echo $$ > PLACE/ready; until read line < PLACE/go; do :; done; echo > {{ outputs.result }}'}
  deaf: {command: 'echo $$ > PLACE/deaf; read line < PLACE/go-on; echo > {{ outputs.result }}'}
",
    );
    for name in ["deaf", "go-on"] {
        assert!(Command::new("mkfifo").arg(folder.path(name)).status().expect("mkfifo is there").success());
    }
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let child = started(command.args(["run", "-j", "2"]));
    let (hears, deaf) = (heard(&folder.path("ready")), heard(&folder.path("deaf")));
    send(&child, Signal::TSTP);
    until_stopped(&deaf);
    assert_ne!(state(&hears), "T");
    let pid = hears.trim().parse().ok().and_then(Pid::from_raw).expect("it is a number");
    kill_process(pid, Signal::STOP).expect("it is there");
    assert!(status(&child).stopped());
    send(&child, Signal::CONT);
    say(&folder.path("go"), "done\n");
    say(&folder.path("go-on"), "done\n");
    assert_eq!(status(&child).exit_status(), Some(0));
}

/// They went on beside those of the run that came next, and used what it had been given since. One that had just begun went on,
/// and so did what had left its group, what had cleared its environment, and a probe.
#[test]
fn what_runs_ends_with_a_run_that_is_killed_also_where_it_is_stopped() {
    const RUNS: &str = "trap \"\" HUP TERM; exec 3> PLACE/ready; echo runs >&3; cat PLACE/go";
    let step = |how: &str| format!("pipeline: p\nsolids: {{a: {{command: '{how}'}}}}\n");
    let pipelines = [
        step(&format!("({RUNS}) & wait")),
        step(&format!("setsid sh -c \"{}\" & wait", RUNS.replace('"', "\\\""))),
        step(&format!("exec env -i PATH=\"$PATH\" sh -c \"{}\"", RUNS.replace('"', "\\\""))),
        format!("pipeline: p\nsolids: {{a: {{inputs: {{p: {{probe: '{RUNS}'}}}}, command: ':'}}}}\n"),
    ];
    for pipeline in &pipelines {
        for is_stopped in [false, true] {
            let folder = project(pipeline);
            let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
            let mut child = started(command.arg("run"));
            let mut alive = BufReader::new(File::open(folder.path("ready")).expect("a pipe"));
            let mut line = String::new();
            alive.read_line(&mut line).expect("it says so");
            assert_eq!(line, "runs\n");
            // What has no environment is known by its group alone: noted, before it stops.
            if is_stopped || pipeline.contains("env -i") {
                send(&child, Signal::TSTP);
                assert!(status(&child).stopped());
            }
            if !is_stopped {
                send(&child, Signal::CONT);
            }
            child.kill().expect("it is there");
            child.wait().expect("it ends");
            // This ends when nobody can write any more.
            assert_eq!(alive.read_line(&mut line).expect("a pipe"), 0, "{pipeline}");
        }
    }
}

/// A step was ended by nobody, once what stood by for that had been killed itself while it ran.
#[test]
fn whoever_stands_by_is_followed_by_another_at_once() {
    let folder = project(
        "\
pipeline: p
solids:
  a: {command: 'exec 3> PLACE/ready; echo $CAS_GUARD >&3; cat PLACE/go'}
",
    );
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let mut child = started(command.arg("run"));
    let mut alive = BufReader::new(File::open(folder.path("ready")).expect("a pipe"));
    let mut token = String::new();
    alive.read_line(&mut token).expect("it says it");
    for _ in 0..2 {
        let guard = standing_by(token.trim());
        let pid = guard.parse().ok().and_then(Pid::from_raw).expect("it is a number");
        kill_process(pid, Signal::KILL).expect("it is there");
        while standing_by(token.trim()) == guard {
            std::thread::yield_now();
        }
    }
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    assert_eq!(alive.read_line(&mut token).expect("a pipe"), 0);
}

/// The process that is to end what has this token, once there is one.
fn standing_by(token: &str) -> String {
    let has_it = |process: &Path| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == token.as_bytes())
    };
    loop {
        let processes = std::fs::read_dir("/proc").expect("it is there");
        let found = processes.flatten().find(|process| has_it(&process.path()));
        if let Some(process) = found {
            return process.file_name().to_string_lossy().into_owned();
        }
        std::thread::yield_now();
    }
}

/// What the step of a stopped run used was given to the next one that asked: two steps had one card.
#[test]
#[expect(clippy::zombie_processes, reason = "it is waited for in a way that tells of a stop, too")]
fn a_limit_stays_with_the_step_of_a_stopped_run() {
    let folder = project(
        "\
pipeline: p
solids:
  a:
    limits: {gpu: 1}
    command: |
      echo a begins >> PLACE/ran; echo > PLACE/ready; cat PLACE/go > {{ outputs.result }}; echo a ends >> PLACE/ran
  b:
    limits: {gpu: 1}
    command: 'echo b begins >> PLACE/ran; echo > {{ outputs.result }}'
",
    );
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let stopped = started(command.args(["run", "a"]));
    heard(&folder.path("ready"));
    send(&stopped, Signal::TSTP);
    assert!(status(&stopped).stopped());
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let mut other =
        command.args(["run", "-v", "b"]).stderr(Stdio::piped()).spawn().expect("it can be started");
    let mut said = BufReader::new(other.stderr.take().expect("a pipe")).lines();
    let waits = said.find_map(|line| line.ok().filter(|line| line.contains("waits"))).expect("it waits");
    let pid = stopped.id();
    assert_eq!(waits.trim(), format!("waits     b  for gpu, used by the stopped `cas run` (pid {pid})"));
    send(&stopped, Signal::CONT);
    say(&folder.path("go"), "done\n");
    assert_eq!(status(&stopped).exit_status(), Some(0));
    said.for_each(drop);
    assert_eq!(other.wait().expect("it ends").code(), Some(0));
    let ran = std::fs::read_to_string(folder.path("ran")).expect("it is text");
    assert_eq!(ran, "a begins\na ends\nb begins\n");
}

/// A run that waited for what another one computes said nothing of that, and looked as if it hung.
#[test]
#[expect(clippy::zombie_processes, reason = "it is waited for in a way that tells of a stop, too")]
fn a_run_says_whose_step_it_waits_for_and_that_this_one_is_stopped() {
    let folder = project(WAITS);
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let makes = started(command.arg("run"));
    assert_eq!(heard(&folder.path("ready")), "0\n");
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let mut waits = command
        .args(["run", "-v"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let mut lines = BufReader::new(waits.stderr.take().expect("a pipe")).lines();
    let mut said =
        || lines.find_map(|line| line.ok().filter(|line| line.starts_with("waits"))).expect("it says so");
    let pid = makes.id();
    assert_eq!(said(), format!("waits     a  for `cas run` (pid {pid}), which makes it"));
    send(&makes, Signal::TSTP);
    assert!(status(&makes).stopped());
    assert_eq!(said(), format!("waits     a  for the stopped `cas run` (pid {pid}), which makes it"));
    send(&makes, Signal::CONT);
    assert_eq!(said(), format!("waits     a  for `cas run` (pid {pid}), which makes it"));
    say(&folder.path("go"), "done\n");
    assert_eq!(status(&makes).exit_status(), Some(0));
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(rest[0], "joined    a  another process made it");
    assert_eq!(waits.wait().expect("it ends").code(), Some(0));
}

/// A run that was told to go on while it still handed over stopped itself after that, and nobody told it again: `kill -TSTP`
/// and `kill -CONT` one after the other left it stopped for ever.
#[test]
#[expect(clippy::zombie_processes, reason = "it is waited for in a way that tells of a stop, too")]
fn a_run_that_is_told_to_go_on_before_it_has_stopped_goes_on() {
    for n in 0..4 {
        let folder = project(WAITS);
        let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
        let mut child = started(command.arg("run"));
        assert_eq!(heard(&folder.path("ready")), "0\n");
        send(&child, Signal::TSTP);
        send(&child, Signal::CONT);
        say(&folder.path("go"), "done\n");
        let pid = Pid::from_child(&child);
        let (_, status) =
            waitpid(Some(pid), WaitOptions::UNTRACED).expect("it is a child").expect("it waits");
        if status.stopped() {
            let _ = child.kill();
        }
        assert_eq!(status.exit_status(), Some(0), "{n}: {status:?}");
        assert_eq!(folder.cas("cat a").ok().stdout, "done\n");
    }
}

/// A Ctrl-C that came while `--watch` read and planned was forgotten until the run that followed was over.
#[test]
fn watching_ends_before_the_run_when_it_is_told_to_while_it_plans() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let folder = project(WAITS);
        let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
        let mut child = started(command.args(["run", "--watch", "-c", "/dev/stdin"]).stdin(Stdio::piped()));
        let mut config = reading(&mut child);
        send(&child, signal);
        config.write_all(b"\n{}\n").expect("it is read");
        drop(config);
        assert_eq!(child.wait().expect("it ends").code(), Some(code), "{signal:?}");
        assert_eq!(folder.cas("runs").ok().stdout.lines().count(), 0);
    }
}

/// Until a run had been planned it died of the signal itself, and whoever waits for exit codes had none.
#[test]
fn a_run_that_is_stopped_before_it_has_begun_ends_with_the_code_of_one_that_has() {
    let lines: [&[&str]; 3] = [&["run"], &["run", "-n"], &["run", "--sweep", "a.n=1,2"]];
    for line in lines {
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 143)] {
            let folder = project(WAITS);
            let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
            let mut child = started(command.args(line).args(["-c", "/dev/stdin"]).stdin(Stdio::piped()));
            let config = reading(&mut child);
            send(&child, signal);
            assert_eq!(child.wait().expect("it ends").code(), Some(code), "{line:?} {signal:?}");
            drop(config);
            assert!(!folder.has(".cas"), "{line:?} {signal:?}");
        }
    }
}
