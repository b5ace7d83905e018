//! What is said of failures beside that they failed: trying again, time-outs, failures that are allowed; and how what
//! runs is ended with the run.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use crate::kit::{Folder, Ran};
use crate::outcomes;

/// A project with a pipe that tells whether anything of a step is left: whoever has it open to write is.
struct Kit {
    folder: Folder,
}

impl Kit {
    /// `PIPE` in the pipeline is the pipe's path.
    fn new(yaml: &str) -> Self {
        let folder = Folder::new();
        let pipe = folder.path("pipe");
        folder.write("pipeline.yaml", yaml.replace("PIPE", &pipe.display().to_string()));
        assert!(Command::new("mkfifo").arg(pipe).status().expect("mkfifo is there").success());
        Self { folder }
    }

    /// Runs, sends a signal once something has the pipe open, and gives what the run left; by then nothing has it
    /// open any longer.
    fn signalled(&self, signal: &str) -> Ran {
        let mut command = self.folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
        command.arg("run").stdout(Stdio::piped()).stderr(Stdio::piped());
        let child: Child = command.spawn().expect("cas can be started");
        // It opens once there is somebody who writes.
        let mut pipe = std::fs::File::open(self.folder.path("pipe")).expect("a pipe");
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
        let output = child.wait_with_output().expect("it ends");
        let mut left = Vec::new();
        // The end comes only when nobody has it open any more.
        pipe.read_to_end(&mut left).expect("its end");
        assert!(left.is_empty());
        self.folder.ran("cas run".to_owned(), &output)
    }
}

/// Three steps in a row; the second has a child beside it, in the same group, that would go on for long.
const LONG: &str = "pipeline: p\nsolids:\n  a: {command: 'echo a', stdout: result}\n  b: {inputs: {x: a}, command: 'exec \
                    9> PIPE; sleep 1000 & wait', stdout: result}\n  c: {inputs: {x: b}, command: 'true', outputs: []}\n";

#[test]
fn a_run_that_is_ended_leaves_no_child_of_a_step_behind() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 143)] {
        let kit = Kit::new(LONG);
        let ran = kit.signalled(signal).code(code);
        // What had finished is kept, what was ended has no result, and what is below it never began.
        assert_eq!(
            (ran.steps(), ran.counts()),
            (vec!["a"], "interrupted: 0 reused, 1 ran, 2 cancelled"),
            "{}",
            ran.transcript()
        );
        kit.folder.write("pipeline.yaml", LONG.replace("exec 9> PIPE; sleep 1000 & wait", "echo b"));
        let next = kit.folder.cas("run --format json").ok();
        assert_eq!(outcomes(&next), ["a reused", "b ran", "c ran"], "{signal}");
    }
}

#[test]
fn a_probe_is_ended_with_the_command_that_asks_it() {
    let yaml = "pipeline: p\nsolids:\n  a: {inputs: {t: {probe: 'exec 9> PIPE; sleep 1000 & wait'}}, command: 'true', \
                outputs: []}\n";
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 143)] {
        let ran = Kit::new(yaml).signalled(signal).code(code);
        assert!(ran.stderr.contains("stopped while probes were asked"), "{}", ran.transcript());
    }
}

#[test]
fn a_step_that_takes_too_long_is_asked_to_end_and_then_made_to() {
    // One that does what it is asked to has time for it; one that does not is killed when its grace is over.
    let yaml = "pipeline: p\nsolids:\n  good: {timeout: 100ms, grace: 1h, command: \"trap 'echo tidied up; exit 0' TERM; \
                sleep 1000 & wait\", outputs: []}\n  bad: {timeout: 100ms, grace: 10ms, command: \"trap '' TERM; while :; \
                do sleep 0.1; done\", outputs: []}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let ran = folder.cas("run -k -j 2").code(1);
    assert_eq!(ran.counts(), "0 reused, 0 ran, 2 failed");
    for line in ["failed    good  ", "  | tidied up", "failed    bad  ", ": timed out after 100ms"] {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.transcript());
    }
}

#[test]
fn a_step_is_tried_again_after_the_exit_codes_that_are_named() {
    // It counts its attempts outside of its folder, and says on the last that it was good.
    let yaml = "pipeline: p\nsolids:\n  a: {retries: {times: 3, on: [75], back_off: 1ms, jitter: 0%}, command: 'echo x >> \
                LOG; test $(wc -l < LOG) -ge 3 || exit 75', outputs: []}\n  b: {retries: {times: 3, on: [75], back_off: \
                1ms}, command: 'echo y >> LOGb; exit 3', outputs: []}\n";
    let folder = Folder::new();
    folder.write("pipeline.yaml", yaml.replace("LOG", &folder.path("log").display().to_string()));
    let ran = folder.cas("run -k -j 1").code(1);
    assert_eq!(ran.steps(), ["a"]);
    let retried = ran.stderr.lines().filter(|line| line.starts_with("retrying")).count();
    assert_eq!((retried, folder.read("log").as_str(), folder.read("logb").as_str()), (2, "x\nx\nx\n", "y\n"));
    assert!(ran.stderr.contains("attempt 3"), "{}", ran.transcript());
    let told = folder.cas("runs 1").ok().stdout;
    let of_a = told.lines().find(|line| line.starts_with("ran       a ")).unwrap_or_default();
    assert!(of_a.contains(", attempt 3"), "{told}");
    assert!(!told.contains("(1 attempts)"), "{told}");
}

#[test]
fn a_failure_that_is_allowed_changes_no_exit_code() {
    let yaml = "pipeline: p\nsolids:\n  check: {command: 'echo broken links; exit 1', allow_failure: true, outputs: \
                [result]}\n  below: {inputs: {x: check}, command: 'true', outputs: []}\n  other: {command: 'true', \
                outputs: []}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let ran = folder.cas("run -j 1").ok();
    assert_eq!(ran.counts(), "0 reused, 1 ran, 1 failed (allowed), 1 skipped");
    assert_eq!(ran.steps(), ["other"]);
    for line in [" (allowed): exit status 1", "  | broken links"] {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.transcript());
    }
    // What is kept of the run tells it apart, too.
    let told = folder.cas("runs").ok();
    assert!(told.stdout.contains("0 reused, 1 ran, 1 failed (allowed), 1 skipped, "), "{}", told.stdout);
    let told = folder.cas("runs 1").ok();
    let check = told.stdout.lines().find(|line| line.starts_with("failed    check ")).unwrap_or_default();
    assert!(check.ends_with(" (allowed)  exit status 1"), "{}", told.stdout);
    let told = folder.cas("runs 1 --format json").ok();
    assert!(told.stdout.contains("\"allowed\":1"), "{}", told.stdout);
    let step = told.stdout.split("{\"step\":").find(|step| step.starts_with("\"check\"")).unwrap_or_default();
    assert!(step.contains("\"failure\":\"exit status 1\",\"allowed\":true"), "{}", told.stdout);
    // One that is not allowed counts.
    folder.write(
        "pipeline.yaml",
        yaml.replace("command: 'true', outputs: []}\n", "command: 'exit 2', outputs: []}\n"),
    );
    assert_eq!(
        folder.cas("run -j 1 -k").code(1).counts(),
        "0 reused, 0 ran, 2 failed (1 of them allowed), 1 skipped"
    );
}

#[test]
fn what_cannot_be_tried_again_is_refused_by_name() {
    let folder = Folder::new();
    let says = |retries: &str, what: &str| {
        let yaml =
            format!("pipeline: p\nsolids:\n  a: {{retries: {retries}, command: 'true', outputs: []}}\n");
        folder.write("pipeline.yaml", yaml);
        let ran = folder.cas("run").code(2);
        assert!(ran.stderr.contains(what), "{retries}: {}", ran.transcript());
    };
    says("{on: [75]}", "`retries` lacks `times`");
    says("{times: 2, on: [0]}", "`on` holds what is no failure to try again after");
    says("{times: 2, on: [failed]}", "write exit codes from 1 to 255, timeout or signal");
    says("{times: 2, jitter: much}", "write it in percent: jitter: 20%");
    says("{times: 2, back_off: 3}", "`back_off` is no time");
    says("{times: 2, backoff: 3s}", "`back_off`");
}

/// The file was called as its folder knows it, and which folder that is was nobody's guess.
#[test]
fn a_file_that_changes_while_a_step_reads_it_is_named_as_it_lies_in_the_project() {
    let kit = Kit::new(
        "pipeline: p\nsolids:\n  a: {inputs: {i: {path: 'src/**'}}, command: 'read x < PIPE; echo 1', stdout: result}\n",
    );
    kit.folder.write("src/deep/b", "1");
    let mut command = kit.folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let child = command.arg("run").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // It opens once the step reads.
    let mut pipe = std::fs::OpenOptions::new().write(true).open(kit.folder.path("pipe")).expect("a pipe");
    kit.folder.write("src/deep/b", "22");
    std::io::Write::write_all(&mut pipe, b"go on\n").expect("it is read");
    let ran = kit.folder.ran("cas run".to_owned(), &child.wait_with_output().expect("it ends")).code(1);
    assert!(ran.stderr.contains(": `src/deep/b` changed while it ran\n"), "{}", ran.stderr);
}

/// With 9 to 11 files a run waited for ever, without a word: a host that had begun to serve and could not go on waited
/// for itself.
#[test]
fn however_few_files_may_be_open_a_run_ends_and_says_how_to_have_more() {
    let yaml = "solids:\n  a: {command: echo 1, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run").ok();
    let mut hinted = Vec::new();
    for files in 4..=32 {
        let mut shell = folder.command("/bin/sh".as_ref());
        let line = format!("ulimit -n {files}; exec timeout 60 \"$0\" run --force");
        let ran = shell.args(["-c", &line, env!("CARGO_BIN_EXE_cas")]).output().expect("it starts");
        let told = String::from_utf8_lossy(&ran.stderr);
        match ran.status.code() {
            // What loads a program needs some, too.
            Some(0 | 127) => {}
            Some(1 | 3) => {
                assert!(told.contains("hint: ") && told.contains("`ulimit -n "), "{files}: {told}");
                hinted.push(files);
            }
            code => panic!("{files}: {code:?}: {told}"),
        }
    }
    assert!(!hinted.is_empty());
    // Runs that ended so left the folders of their steps behind.
    let left = folder.names(".cas/work");
    assert!(left.iter().all(|name| !name.starts_with("a-")), "{left:?}");
}

/// Whoever came with too few files waited ten seconds for a host that was well, and was told that it does not answer.
#[test]
fn too_few_files_are_not_told_as_a_host_that_does_not_answer() {
    let kit = Kit::new("pipeline: p\nsolids:\n  a: {command: 'read x < PIPE; echo 1', stdout: result}\n");
    let mut command = kit.folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    let mut child =
        command.arg("run").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    // It opens once the step reads.
    let mut pipe = std::fs::OpenOptions::new().write(true).open(kit.folder.path("pipe")).expect("a pipe");
    let mut refused = 0;
    for files in 4..=12 {
        let mut shell = kit.folder.command("/bin/sh".as_ref());
        let line = format!("ulimit -n {files}; exec \"$0\" ls");
        let listed = shell.args(["-c", &line, env!("CARGO_BIN_EXE_cas")]).output().expect("it starts");
        let told = String::from_utf8_lossy(&listed.stderr);
        assert!(!told.contains("does not answer"), "{files}: {told}");
        if listed.status.code() == Some(3) {
            assert!(
                told.contains("hint: raise the limit of open files: `ulimit -n 1024`"),
                "{files}: {told}"
            );
            refused += 1;
        }
    }
    assert!(refused > 0);
    std::io::Write::write_all(&mut pipe, b"go on\n").expect("it is read");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn what_somebody_put_in_the_place_of_a_file_of_the_store_says_what_to_do() {
    let folder = Folder::with(&[("pipeline.yaml", "solids:\n  a: {command: echo 1, stdout: result}\n")]);
    let _ = folder.cas("run").ok();
    folder.write(".cas/config.toml", b"# one\n# \xff\xfe\n");
    let wrong = folder.cas("ls").code(3);
    for part in ["config.toml", "line 2", "no UTF-8 text", "hint: correct that line"] {
        assert!(wrong.stderr.contains(part), "{part}: {}", wrong.stderr);
    }
    // Nothing is wrong with what was typed, or with the pipeline: it is the store that cannot be used.
    folder.write(".cas/config.toml", "max_sise = '1G'\n");
    for line in ["ls", "run", "status"] {
        let wrong = folder.cas(line).code(3);
        assert!(wrong.stderr.contains("config.toml`, line 1: "), "{}", wrong.stderr);
    }
    std::fs::remove_file(folder.path(".cas/config.toml")).expect("it is there");
    std::fs::remove_file(folder.path(".cas/lock")).expect("it is there");
    std::fs::create_dir(folder.path(".cas/lock")).expect("it is gone");
    let wrong = folder.cas("ls").code(3);
    assert!(wrong.stderr.contains("hint: a folder stands where cas keeps a file"), "{}", wrong.stderr);
}

/// What was made meanwhile was stored as if the file had been there, or as if it had not.
#[test]
fn a_file_that_is_added_to_what_is_declared_or_removed_while_the_step_runs_is_noticed() {
    for declared in [
        "inputs: {l: {path: lib}}",
        "inputs: {l: {path: 'lib/*.txt'}}",
        "code: [lib]",
        "code: ['lib/**/*.txt']",
        "resources: [r]",
    ] {
        let folder = Folder::with(&[("lib/a.txt", "a\n"), ("lib/old.txt", "b\n")]);
        let at = folder.path("").display().to_string();
        let text = "resources: {r: {files: ['lib/**']}}\nsolids:\n  s: {DECLARED, command: 'touch AT/beside; test -e AT/lib/new.txt || \
                    echo > AT/lib/new.txt; cat AT/lib/*.txt', stdout: result}\n  \
                    t: {DECLARED, command: rm -f AT/lib/old.txt, outputs: []}\n";
        folder.write("pipeline.yaml", text.replace("AT/", &at).replace("DECLARED", declared));
        let failed = folder.cas("run s").code(1);
        assert!(
            failed.stderr.contains("`lib/new.txt` was added while it ran"),
            "{declared}: {}",
            failed.stderr
        );
        assert!(failed.stderr.contains("nothing was stored; run again"), "{}", failed.stderr);
        // What belongs to no declaration is nobody's business, and the rest is there now.
        assert_eq!(folder.cas("run s").ok().steps(), ["s"], "{declared}");
        assert_eq!(folder.cas("run s").ok().counts(), "nothing to run: 1 reused", "{declared}");
        let failed = folder.cas("run t").code(1);
        assert!(
            failed.stderr.contains("`lib/old.txt` changed while it ran"),
            "{declared}: {}",
            failed.stderr
        );
        assert_eq!(folder.cas("run t").ok().steps(), ["t"], "{declared}");
    }
}

/// It was told as removed, and lay there; or as added, and had been there all along.
#[test]
fn what_an_ignore_file_leaves_out_since_it_was_edited_while_the_step_ran_is_told_as_that() {
    for declared in ["code: [lib]", "code: ['lib/**/*.txt']", "resources: [r]"] {
        for ignore in ["AT/.gitignore", "AT/lib/.casignore"] {
            let folder = Folder::with(&[("lib/a.txt", "a\n"), ("lib/f2.txt", "b\n")]);
            let at = folder.path("").display().to_string();
            let text = "resources: {r: {files: ['lib/**']}}\nsolids:\n  s: {DECLARED, command: 'rm -f IGNORE; test ! -e AT/on || \
                        echo f2.txt > IGNORE; cat lib/*', stdout: result}\n";
            folder.write(
                "pipeline.yaml",
                text.replace("IGNORE", ignore).replace("AT/", &at).replace("DECLARED", declared),
            );
            folder.write("on", "");
            let failed = folder.cas("run").code(1).stderr;
            assert!(failed.contains("`lib/f2.txt` began to be ignored while it ran"), "{declared}: {failed}");
            let hint = "nothing was stored; run again to go by the ignore files as they are now";
            assert!(failed.contains(hint), "{failed}");
            // The other way round, where it is ignored when the run begins.
            std::fs::remove_file(folder.path("on")).expect("it is there");
            let failed = folder.cas("run").code(1).stderr;
            assert!(
                failed.contains("`lib/f2.txt` ceased to be ignored while it ran"),
                "{declared}: {failed}"
            );
            assert_eq!(folder.cas("run").ok().steps(), ["s"], "{declared}");
            assert_eq!(folder.cas("cat s").ok().stdout, "a\nb\n");
        }
    }
}
