//! Wrong usage and wrong files: one clear error each, that names the place and what to do; exit code 2.

use std::process::Command;

use crate::dogs;
use crate::kit::Folder;

#[test]
fn without_a_pipeline_it_says_how_to_get_one() {
    Folder::new().cas("versions").shows(
        "
$ cas versions
! error: there is no pipeline.yaml here or in a folder above
! hint: `cas init` writes one, -f FILE names one
[2]
",
    );
}

#[test]
fn an_unknown_step_is_told_with_the_nearest_name() {
    dogs().cas("run emit_tre").shows(
        "
$ cas run emit_tre
! error: there is no step `emit_tre`
! hint: did you mean `emit_tree`?
[2]
",
    );
}

#[test]
fn a_wrong_key_is_told_with_its_place_and_an_excerpt() {
    let folder = Folder::with(&[("pipeline.yaml", "pipeline: p\nsolids:\n  a: {comand: ls, command: ls}\n")]);
    folder.cas("versions").shows(
        "
$ cas versions
! error: pipeline.yaml:3:7: a solid has no key `comand`
!   3 |   a: {comand: ls, command: ls}
!     |       ^
! hint: did you mean `command`?
[2]
",
    );
}

#[test]
fn a_wrong_value_of_a_run_config_is_told_with_its_place_and_an_excerpt() {
    let folder = dogs();
    folder.write("maryland.yaml", "solids:\n  emit_tree:\n    config:\n      tree_specie: red_maple\n");
    let ran = folder.cas("versions -c maryland.yaml").code(2);
    assert!(ran.stderr.contains("maryland.yaml:4:20: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("4 |       tree_specie: red_maple"), "{}", ran.stderr);
    assert!(ran.stderr.contains("tree_species"), "{}", ran.stderr);
}

#[test]
fn what_is_missing_or_misspelt_on_the_command_line_is_wrong_usage() {
    let folder = dogs();
    for line in [
        "",
        "frob",
        "run --frob",
        "run -j 0",
        "run --limit gpu",
        "run --only",
        "run --wait soon",
        "versions -f nowhere.yaml",
        "versions -c nowhere.yaml",
        "versions --set emit_tree.nothing=1",
        "versions --set nonsense",
        "versions --mode nowhere",
        "-C nowhere versions",
        "cat",
        "cat emit_dg",
        "explain nobody",
        "verify --sample 0%",
        "verify --quick --rebuild",
        "gc --max-size big",
        "gc --keep-last 0",
        "graph --as jpeg",
    ] {
        let ran = folder.cas(line).code(2);
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty(), "{}", ran.transcript());
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
}

#[test]
fn a_missing_declared_file_is_told_by_name() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "solids:\n  a:\n    code: [solids/a.py]\n    command: python3 solids/a.py\n    stdout: result\n",
    )]);
    let ran = folder.cas("versions").code(2);
    assert!(ran.stderr.contains("solids/a.py") && ran.stderr.contains("pipeline.yaml:3:"), "{}", ran.stderr);
}

#[test]
fn the_pipeline_is_found_upwards_and_paths_count_from_its_folder() {
    let folder = dogs();
    folder.write("deep/down/note.txt", "");
    let ran = folder.cas_in("deep/down", "run emit_dog").ok();
    assert_eq!(ran.counts(), "0 reused, 1 ran");
    assert!(folder.has(".cas/format") && !folder.has("deep/down/.cas"));
    assert_eq!(folder.cas_in("deep", "-C down cat emit_dog").ok().stdout, "poodle\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = dogs();
    let mut command = folder.command("sh".as_ref());
    command.args(["-c", "{ \"$0\" schema; echo $? >&2; } | true", env!("CARGO_BIN_EXE_cas")]);
    let output = command.output().expect("sh can be started");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "0\n");
}

#[test]
fn options_about_the_pipeline_may_stand_before_the_command() {
    let folder = dogs();
    let _ = folder.cas("--store s -q run emit_dog").ok();
    assert!(folder.has("s/format") && !folder.has(".cas"));
    let status = folder.cas("--store s --set emit_dog.dog_breed=pug -f pipeline.yaml status").ok();
    assert!(status.stdout.contains("dog_breed: poodle → pug"), "{}", status.stdout);
    assert!(folder.cas("--store s schema").code(2).stderr.contains("--store"));
}

#[test]
fn wrong_usage_and_definitions_are_told_to_programs_too() {
    let folder = Folder::with(&[("pipeline.yaml", "pipeline: p\nsolids:\n  a: {comand: ls, command: ls}\n")]);
    let wrong = folder.cas("run --format json").code(2);
    assert_eq!(
        wrong.stdout,
        "{\"cas\":1,\"errors\":[{\"code\":2,\"message\":\"pipeline.yaml:3:7: a solid has no key `comand`\",\"file\":\
         \"pipeline.yaml\",\"line\":3,\"column\":7,\"causes\":[],\"hint\":\"did you mean `command`?\"}]}\n"
    );
    let usage = folder.cas("run --format json --job 2").code(2);
    assert!(
        usage.stdout.starts_with("{\"cas\":1,\"errors\":[{\"code\":2,\"message\":\"unexpected argument"),
        "{usage:?}"
    );
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure_and_no_fault_of_the_store() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    let shell = |line: &str| {
        let cas = env!("CARGO_BIN_EXE_cas");
        let mut command = folder.command(std::path::Path::new("sh"));
        let output = command.args(["-c", &line.replace("cas ", &format!("{cas} "))]).output();
        folder.ran(line.to_owned(), &output.expect("there is a shell"))
    };
    for line in [
        "cas versions > /dev/full",
        "cas run > /dev/full",
        "cas run --format json > /dev/full",
        "cas cat emit_dog > /dev/full",
        "cas versions >&-",
        "cas run >&-",
    ] {
        let ran = shell(line).code(1);
        assert!(ran.stderr.contains("error: cannot write the answer"), "{}", ran.transcript());
    }
    assert_eq!(shell("cas versions > /dev/null").code, 0);
}

#[test]
fn a_secret_that_is_not_set_is_told_before_anything_runs() {
    let yaml = "pipeline: p\nsolids:\n  a: {command: echo 1, stdout: result}\n  b: {inputs: {x: a}, secrets: [TOKEN], \
                command: cat inputs/x, stdout: result}\n";
    let mut folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let said = "`b` needs the secret `TOKEN`, which is not set";
    assert!(folder.cas("run -n").ok().stderr.contains(said));
    assert!(folder.cas("status").ok().stderr.contains(said));
    let refused = folder.cas("run").code(2);
    assert!(refused.stderr.contains(said) && refused.steps().is_empty(), "{}", refused.transcript());
    assert_eq!(folder.cas("run a").ok().counts(), "0 reused, 1 ran");
    folder.variable("TOKEN", "t");
    let _ = folder.cas("run").ok();
}

#[test]
fn secret_config_of_every_kind_is_in_no_record_of_the_run() {
    let yaml = "pipeline: p\nsolids:\n  a:\n    config: {s: {type: str, secret: true}, f: {type: float, secret: true}, b: \
                {type: bool, secret: true}, m: {type: map, secret: true}}\n    command: echo 1\n    stdout: result\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ =
        folder.cas("run --set a.s=hunter2 --set a.f=1.50 --set=a.b=true --set 'a.m={k: [deep_secret]}'").ok();
    let runs = folder.cas("runs --format json").ok().stdout;
    for secret in ["hunter2", "1.5", "=true", "deep_secret"] {
        assert!(!runs.contains(secret), "{secret}: {runs}");
    }
    assert!(runs.contains("a.s=***"), "{runs}");
    for segment in folder.names(".cas/journal") {
        let bytes = std::fs::read(folder.path(&format!(".cas/journal/{segment}"))).expect("it can be read");
        for secret in ["hunter2", "deep_secret"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {segment}");
        }
    }
}

#[test]
fn a_secret_in_a_probe_is_hidden_where_that_fails_or_is_not_known() {
    let yaml = "pipeline: p\nsolids:\n  a:\n    config: {s: {type: str, secret: true}}\n    inputs: {x: {probe: 'echo {{ config.s }} is \
                wrong >&2; test {{ config.s }} = right'}}\n    command: echo 1\n    stdout: result\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run --set a.s=right").ok();
    for line in [
        "run",
        "run -n",
        "versions",
        "run --frozen=1",
        "run -n --format json",
        "run --sweep a.s=hunter2,hunter3",
    ] {
        let set = if line.contains("sweep") { "" } else { " --set a.s=hunter2" };
        let ran = folder.cas(&format!("{line}{set}"));
        assert_ne!(ran.code, 0, "{}", ran.transcript());
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains("***") && !said.contains("hunter"), "{}", ran.transcript());
    }
}

#[test]
fn only_what_cannot_run_makes_no_store() {
    let folder = dogs();
    let refused = folder.cas("run --only emit_sentence").code(1);
    assert!(refused.stderr.contains("`emit_dog.result` is not stored, and nothing upstream may run"));
    let told = folder.cas("run -n --only emit_sentence").code(1);
    assert!(told.stderr.contains("`emit_dog.result` is not stored, and nothing upstream may run"));
    assert!(!folder.has(".cas"));
    assert_eq!(folder.cas("run --only emit_dog").ok().counts(), "0 reused, 1 ran");
}

/// What was not begun has not failed: the next run says why it runs.
#[test]
fn what_could_not_run_alone_is_no_cause_of_the_next_run() {
    let yaml = "\
pipeline: two
solids:
  a: {inputs: {t: {path: t}}, command: 'cp {{ inputs.t }} {{ outputs.result }}'}
  z: {inputs: {a: a}, command: 'cp {{ inputs.a }} {{ outputs.result }}'}
";
    let folder = Folder::with(&[("pipeline.yaml", yaml), ("t", "1")]);
    let _ = folder.cas("run").ok();
    folder.write("t", "2");
    let told = folder.cas("run -n --only z").code(1);
    assert!(
        told.stderr.contains("`a.result` is not stored, and nothing upstream may run"),
        "{}",
        told.transcript()
    );
    let _ = folder.cas("run --only z").code(1);
    let ran = folder.cas("run -j 1").ok();
    assert!(ran.stderr.contains("input a: input t changed"), "{}", ran.transcript());
}

#[test]
fn a_name_that_would_break_the_line_it_is_shown_in_is_refused() {
    for name in ["a\\e[31mb", "a\\nb"] {
        let yaml = format!("pipeline: \"{name}\"\nsolids: {{a: {{command: echo a, stdout: result}}}}\n");
        let folder = Folder::with(&[("pipeline.yaml", &yaml)]);
        folder.cas("run").code(2).shows(
            "$ cas run
! error: the name of the pipeline holds a control character
! hint: its name is shown in a line: leave out what breaks it
[2]
",
        );
    }
}

#[test]
fn a_file_in_another_encoding_says_which() {
    let text = "solids: {a: {command: echo a, stdout: result}}\n";
    let folder = Folder::new();
    let utf16 = |bom: [u8; 2], bytes: fn(u16) -> [u8; 2]| {
        let mut all = bom.to_vec();
        all.extend(text.encode_utf16().flat_map(bytes));
        all
    };
    for bytes in [utf16([0xff, 0xfe], u16::to_le_bytes), utf16([0xfe, 0xff], u16::to_be_bytes)] {
        folder.write("pipeline.yaml", &bytes);
        folder.cas("status").code(2).shows(
            "$ cas status
! error: cannot read the pipeline `pipeline.yaml`
!   because it is UTF-16, and should be saved as UTF-8
[2]
",
        );
    }
    folder.write("pipeline.yaml", b"solids:\n  a: {command: echo \xe4}\n");
    let wrong = folder.cas("status").code(2);
    let what = "line 2 holds bytes that are no UTF-8 text (byte 29 of the file)";
    assert!(wrong.stderr.contains(what), "{}", wrong.stderr);
}

/// What has no end was read until there was no memory left, and a pipe that nobody writes to was waited for.
#[test]
fn files_without_an_end_are_refused() {
    let folder = dogs();
    let refused = |line: &str, code: i32, what: &str| {
        let ran = folder.cas(line).code(code);
        assert!(ran.stderr.contains(what), "{}", ran.transcript());
        assert!(ran.stderr.contains("256 MB") || !line.contains("/dev/zero"), "{}", ran.transcript());
    };
    refused("versions -f /dev/zero", 2, "cannot read the pipeline");
    refused("versions -c /dev/zero", 2, "cannot read the run config `/dev/zero`");
    let _ = folder.cas("run").ok();
    let config = folder.path(".cas/config.toml");
    let put = |make: &dyn Fn()| {
        // None is there where nothing was set.
        let _ = std::fs::remove_file(&config);
        make();
    };
    put(&|| std::os::unix::fs::symlink("/dev/zero", &config).expect("it can be made"));
    refused("ls", 3, "config.toml`, line 1: it is no regular file");
    put(&|| assert!(Command::new("mkfifo").arg(&config).status().expect("mkfifo is there").success()));
    refused("ls", 3, "config.toml`, line 1: it is no regular file");
    put(&|| ());
    folder.write("lib/a.py", "pass");
    folder.write(
        "code.yaml",
        "pipeline: c\nsolids: {a: {code: [lib], command: 'cat lib/*', stdout: result}}\n",
    );
    let ignored = folder.path(".gitignore");
    assert!(Command::new("mkfifo").arg(&ignored).status().expect("mkfifo is there").success());
    let _ = folder.cas("versions -f code.yaml").ok();
}

/// A pipe that ends is a file like any other.
#[test]
fn a_pipeline_and_a_run_config_may_come_through_a_pipe() {
    let folder = dogs();
    let mut shell = folder.command("bash".as_ref());
    let cas = env!("CARGO_BIN_EXE_cas");
    shell.args(["-c", "\"$0\" versions -f <(cat pipeline.yaml) -c <(echo '{}')", cas]);
    let output = shell.output().expect("there is a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// All memory went into its elements.
#[test]
fn a_matrix_of_more_steps_than_anybody_runs_is_refused_at_its_line() {
    let axes: String = ["a", "b", "c", "d", "e", "f", "g"]
        .map(|axis| format!("{axis}: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "))
        .concat();
    let yaml = format!(
        "pipeline: p\nsolids:\n  one: {{command: echo, stdout: r}}\n  many: {{matrix: {{{axes}}}, command: echo, stdout: r}}\n"
    );
    let folder = Folder::with(&[("pipeline.yaml", &yaml)]);
    let ran = folder.cas("versions").code(2);
    let told =
        "pipeline.yaml:4:3: the matrix of `many` gives 10000000 steps, beside 1 others; 10000000 is the most";
    assert!(ran.stderr.contains(told), "{}", ran.transcript());
}

#[test]
fn a_wait_that_is_none_says_what_can_be_written() {
    let refused = Folder::new().cas("run --wait banana").code(2);
    let message = "`banana` is not how long something takes; write `30s` or `10m`";
    assert!(refused.stderr.contains(message), "{}", refused.stderr);
}

/// Nobody wrote into it: it was waited for, without a word and without end.
#[test]
fn a_pipe_that_nobody_writes_into_is_an_error_at_once_and_one_that_somebody_does_is_read() {
    let folder = dogs();
    let made = Command::new("mkfifo").arg(folder.path("pipe")).status().expect("mkfifo is there");
    assert!(made.success());
    std::os::unix::fs::symlink("pipe", folder.path("link")).expect("it can be made");
    folder.write("more.yaml", "include: [pipe]\npipeline: more\nsolids: {a: {command: ls}}\n");
    folder.write(
        "asks.yaml",
        "run_config: [pipe]\npipeline: asks\nsolids: {a: {command: ls, stdout: result}}\n",
    );
    let _ = folder.cas("run emit_dog").ok();
    folder.cas("versions -f pipe").shows(
        "
$ cas versions -f pipe
! error: cannot read the pipeline `pipe`
!   because it is a named pipe that nobody writes into
[2]
",
    );
    let lines = [
        "versions -f link",
        "versions -c pipe",
        "run -c link",
        "show pipe",
        "status -f more.yaml",
        "run -f asks.yaml",
    ];
    for line in lines {
        let ran = folder.cas(line).code(2);
        let told = ran.stderr.matches("it is a named pipe that nobody writes into").count();
        assert_eq!(told, 1, "{}", ran.transcript());
    }
    // What is asked of a pipe that has a writer is waited for, whatever kind of pipe it is.
    let cas = env!("CARGO_BIN_EXE_cas");
    let read = |script: &str| {
        let mut command = folder.command("bash".as_ref());
        let output = command.args(["-c", script, cas]).output().expect("bash is there");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let expected = folder.cas("versions").ok().stdout;
    for script in [
        "cat pipeline.yaml | \"$0\" versions --store .cas -f /dev/stdin",
        "\"$0\" versions --store .cas -f <(cat pipeline.yaml) -c <(true)",
        // It reads what is there, and waits for the rest until the shell has closed its end.
        "exec 3<>pipe; cat pipeline.yaml >&3; \"$0\" versions -f pipe 3>&- & \
         until [ \"$(readlink /proc/$!/exe)\" = \"$0\" ] && ls -l /proc/$!/fd | grep -q '/pipe$'; do :; done; \
         exec 3>&-; wait $!",
    ] {
        assert_eq!(read(script), (Some(0), expected.clone()), "{script}");
    }
}
