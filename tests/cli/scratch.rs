//! `scratch`: folders that a step finds again, and nobody else.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::kit::Folder;

/// A step that says how many attempts left their mark in its scratch folder, and leaves its own.
const COUNTS: &str = "\
solids:
  count:
    config: {n: {type: int, default: 0}}
    scratch: [cache/deep]
    command: ls cache/deep | wc -l > {{ outputs.result }}; touch cache/deep/{{ config.n }}
";

fn counted(folder: &Folder, n: u32) -> String {
    let line = format!("--set count.n={n}");
    assert_eq!(folder.cas(&format!("run {line}")).ok().steps(), ["count"]);
    folder.cas(&format!("cat count {line}")).ok().stdout.trim().to_owned()
}

#[test]
fn a_step_finds_what_its_last_attempt_left() {
    let folder = Folder::with(&[("pipeline.yaml", COUNTS)]);
    assert_eq!([counted(&folder, 1), counted(&folder, 2), counted(&folder, 3)], ["0", "1", "2"]);
    // It is no part of a version: what was made with fewer marks is a hit.
    assert_eq!(folder.cas("run --set count.n=1").ok().counts(), "nothing to run: 1 reused");
    // Without the folder declared it is another definition, but the same version.
    folder.write("pipeline.yaml", COUNTS.replace("    scratch: [cache/deep]\n", ""));
    assert_eq!(folder.cas("run --set count.n=1").ok().counts(), "nothing to run: 1 reused");
}

#[test]
fn a_step_that_is_reproduced_begins_with_empty_ones_and_leaves_the_others_alone() {
    let folder = Folder::with(&[("pipeline.yaml", COUNTS)]);
    assert_eq!(counted(&folder, 1), "0");
    assert_eq!(counted(&folder, 2), "1");
    let again = folder.cas("run --reproduce --set count.n=2").code(1);
    assert_eq!(again.steps(), ["count"]);
    assert!(again.stderr.contains("not deterministic: `count`"), "{}", again.stderr);
    assert_eq!(counted(&folder, 3), "2");
}

#[test]
fn elements_and_projects_have_their_own() {
    let text =
        COUNTS.replace("config: {n: {type: int, default: 0}}", "matrix: {n: [1, 2]}\n    version: \"one\"");
    let folder =
        Folder::with(&[("pipeline.yaml", &text), ("other/pipeline.yaml", &text.replace("one", "other"))]);
    let mut ran = folder.cas("run").ok().steps().into_iter().map(str::to_owned).collect::<Vec<_>>();
    ran.sort();
    assert_eq!(ran, ["count[n=1]", "count[n=2]"]);
    let _ = folder.cas_in("other", "run --store ../.cas").ok();
    assert_eq!(folder.cas_in("other", "cat count[n=1] --store ../.cas").ok().stdout.trim(), "0");
    folder.write("pipeline.yaml", text.replace("one", "two"));
    let _ = folder.cas("run").ok();
    for n in [1, 2] {
        assert_eq!(folder.cas(&format!("cat count[n={n}]")).ok().stdout.trim(), "1");
    }
}

#[test]
fn a_failed_attempt_leaves_them_for_the_next_and_out_of_the_kept_folder() {
    let text = "\
solids:
  a:
    scratch: [cache]
    retries: 1
    command: |
      ls cache | wc -l; touch cache/$(ls cache | wc -l)
      test $(ls cache | wc -l) -ge 3; ls cache > {{ outputs.result }}
";
    let folder = Folder::with(&[("pipeline.yaml", text)]);
    let ran = folder.cas("run").code(1);
    let kept = folder.names(".cas/work/failed");
    assert_eq!(kept.len(), 1, "{}", ran.stderr);
    assert!(!folder.has(&format!(".cas/work/failed/{}/step/cache/0", kept[0])));
    // The script that repeats it makes an empty one.
    let script = folder.path(&format!(".cas/work/failed/{}/run.sh", kept[0]));
    let again = folder.command(&script).output().expect("the script can be started");
    assert_eq!(String::from_utf8_lossy(&again.stdout), "0\n", "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(folder.cas("run").ok().steps(), ["a"]);
    assert_eq!(folder.cas("cat a").ok().stdout, "0\n1\n2\n");
}

#[test]
fn what_did_not_change_is_not_built_again_and_what_did_is() {
    let text = "\
solids:
  build:
    config: {n: {type: int, default: 0}}
    code: [a.txt, b.txt]
    scratch: [cache]
    shell: bash
    command: |
      for each in a b; do
        if [ ! -e cache/$each ] || [ $each.txt -nt cache/$each ]; then echo built $each; cp $each.txt cache/$each; fi
      done
      cat cache/a cache/b > {{ outputs.result }}
";
    let folder = Folder::with(&[("pipeline.yaml", text), ("a.txt", "a1\n"), ("b.txt", "b1\n")]);
    let built = |folder: &Folder, n: u32| {
        let line = format!("run --show-output --set build.n={n}");
        let ran = folder.cas(&line).ok();
        let lines = ran.stderr.lines().filter_map(|line| line.strip_prefix("  | built "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(built(&folder, 1), ["a", "b"]);
    assert_eq!(built(&folder, 2), Vec::<String>::new());
    folder.write("a.txt", "a2\n");
    assert_eq!(built(&folder, 3), ["a"]);
    assert_eq!(folder.cas("cat build --set build.n=3").ok().stdout, "a2\nb1\n");
    // Back to what it was is a change like any other.
    folder.write("a.txt", "a1\n");
    assert_eq!(built(&folder, 4), ["a"]);
    assert_eq!(folder.cas("cat build --set build.n=4").ok().stdout, "a1\nb1\n");
}

#[test]
fn an_output_in_one_is_made_by_each_attempt() {
    let text = "\
solids:
  a:
    config: {write: bool}
    scratch: [target]
    outputs: [{app: {at: target/app}}]
    command: \"ls target; if {{ config.write }}; then echo made > target/app; touch target/kept; fi\"
";
    // However the places are written: it was left there once, and stored for another version.
    for text in [text.to_owned(), text.replace("at: target/app", "at: ./target/./app")] {
        let folder = Folder::with(&[("pipeline.yaml", &text)]);
        assert_eq!(folder.cas("run --set a.write=true").ok().steps(), ["a"]);
        let ran = folder.cas("run --set a.write=false").code(1);
        assert!(ran.stderr.contains("it did not write its output"), "{}", ran.stderr);
        // What is no output is there.
        assert!(ran.stderr.contains("  | kept\n"), "{}", ran.stderr);
    }
}

/// An output that held a scratch folder was stored with what other versions had left in it, and was a hit from then on.
#[test]
fn no_output_holds_one() {
    let text = "\
solids:
  site:
    config: {n: int}
    scratch: [build/cache]
    outputs: [{site: {at: build/}}]
    command: touch build/cache/{{ config.n }}
";
    let folder = Folder::with(&[("pipeline.yaml", text)]);
    let refused = folder.cas("run --set site.n=1").code(2);
    assert!(refused.stderr.contains("pipeline.yaml:4:15: `build/cache` cannot be a scratch folder"));
    assert!(refused.stderr.contains("the output `site` holds it"), "{}", refused.stderr);
    // Beside it, each version has what it made.
    let beside = text.replace("[build/cache]", "[cache]");
    folder.write(
        "pipeline.yaml",
        beside.replace("touch build/cache/", "mkdir build; touch cache/x build/x build/"),
    );
    for n in ["1", "2"] {
        let line = format!("--set site.n={n}");
        assert_eq!(folder.cas(&format!("run {line}")).ok().steps(), ["site"]);
        let _ = folder.cas(&format!("get site out{n} {line}")).ok();
        assert_eq!(folder.names(&format!("out{n}")), [n, "x"]);
    }
}

/// Only the run that came second said so, and what the first had left there was given to the next version.
#[test]
fn declared_files_and_scratch_folders_lie_apart() {
    let folder = Folder::with(&[
        ("lib/x.sh", "echo x; mkdir -p lib/sub; touch lib/sub/y\n"),
        ("lib/sub/file", "\n"),
        ("tool/run", "\n"),
    ]);
    let check = |scratch: &str, more: &str, lies: &str| {
        let text = format!(
            "resources: {{tool: {{files: [tool/**]}}}}\n\
             solids: {{a: {{scratch: [{scratch}], {more}, command: sh lib/x.sh, stdout: result}}}}\n"
        );
        folder.write("pipeline.yaml", text);
        // Every command that plans says so.
        for line in ["status", "run"] {
            let refused = folder.cas(line).code(2);
            let message = format!(": `{scratch}` cannot be a scratch folder: the {lies} lies there");
            assert!(refused.stderr.contains(&message), "{more}: {}", refused.stderr);
            assert!(refused.stderr.contains("name another folder, declare less"), "{}", refused.stderr);
        }
    };
    check("lib", "code: [lib/x.sh]", "code `lib/x.sh`");
    check("lib", "code: [./lib]", "code `./lib`");
    check("lib/x.sh", "code: [lib/x.sh]", "code `lib/x.sh`");
    check("lib", "code: ['lib/*.sh']", "code `lib/*.sh`");
    check("lib/x.sh/deep", "code: [lib/x.sh]", "declared file `lib/x.sh`");
    check("lib/sub", "code: ['**/*.sh', '**/file']", "declared file `lib/sub/file`");
    check("tool", "code: [lib/x.sh], resources: [tool]", "declared file `tool/run`");
    // Beside what is declared, in one of its folders, there is room.
    folder.write(
        "pipeline.yaml",
        "solids: {a: {scratch: [lib/sub], code: ['lib/*.sh'], config: {n: int}, command: 'ls lib/sub; sh lib/x.sh', stdout: result}}\n",
    );
    assert_eq!(folder.cas("run --set a.n=1").ok().steps(), ["a"]);
    assert_eq!(folder.cas("run --set a.n=2").ok().steps(), ["a"]);
    assert_eq!(folder.cas("cat a --set a.n=2").ok().stdout, "y\nx\n");
}

#[test]
fn they_are_counted_and_cleaned() {
    let folder = Folder::with(&[("pipeline.yaml", COUNTS)]);
    assert!(!folder.cas("stats").stdout.contains("scratch"));
    assert_eq!(counted(&folder, 1), "0");
    assert!(folder.cas("stats").ok().stdout.contains("in 1 folder of steps (`cas clean` removes them)"));
    assert!(folder.cas("gc").ok().stderr.contains("1 scratch folder of steps"));
    assert_eq!(counted(&folder, 2), "1");
    let cleaned = folder.cas("clean").ok();
    assert!(cleaned.stdout.starts_with("gone: 1 folder"), "{}", cleaned.stdout);
    assert_eq!(counted(&folder, 3), "0");
}

/// A step that waits, between two fifos, until it is told to go on, and holds a third one for as long as it lives. A run
/// that is killed does not end it, because it left its group and cleared its environment.
const WAITS: &str = "\
solids:
  count:
    config: {n: {type: int, default: 0}}
    scratch: [cache]
    pass_env: [PLACE]
    command: |
      ls cache | wc -l > {{ outputs.result }}; touch cache/{{ config.n }}
      if [ {{ config.n }} = 1 ]; then setsid -w env -i PATH=\"$PATH\" PLACE=\"$PLACE\" sh -c 'exec 9> $PLACE/alive; echo here > $PLACE/ready; cat $PLACE/go > /dev/null'; fi
";

fn waits() -> (Folder, Child) {
    let mut folder = Folder::with(&[("pipeline.yaml", WAITS)]);
    let place = folder.path("");
    folder.variable("PLACE", &place.display().to_string());
    for name in ["ready", "go", "alive"] {
        mknodat(CWD, place.join(name), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .expect("a fifo can be made");
    }
    let mut command = folder.command(Path::new(env!("CARGO_BIN_EXE_cas")));
    command.args(["run", "--set", "count.n=1"]).stdout(Stdio::null()).stderr(Stdio::null());
    let first = command.spawn().expect("cas can be started");
    (folder, first)
}

/// Reads a fifo to its end: until nobody holds it any more.
fn to_the_end(path: &Path) -> String {
    let mut text = String::new();
    fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)).expect("it can be read");
    text
}

fn go_on(folder: &Folder) {
    let mut go = fs::OpenOptions::new().write(true).open(folder.path("go")).expect("somebody reads it");
    go.write_all(b"go\n").expect("it can be written to");
}

#[test]
fn two_attempts_at_once_do_not_share_them() {
    let (folder, mut first) = waits();
    let alive = fs::File::open(folder.path("alive")).expect("the step opens it");
    assert_eq!(to_the_end(&folder.path("ready")), "here\n");
    assert_eq!(counted(&folder, 2), "0");
    // Nobody cleans what a step has.
    let _ = folder.cas("clean").ok();
    go_on(&folder);
    assert!(first.wait().expect("it ends").success());
    drop(alive);
    // What the second one left is gone, and what the first one left is there.
    assert_eq!(counted(&folder, 3), "1");
}

#[test]
fn what_a_killed_run_leaves_is_nobodys_until_its_step_is_gone_and_then_the_next_ones() {
    let (folder, mut first) = waits();
    let mut alive = fs::File::open(folder.path("alive")).expect("the step opens it");
    assert_eq!(to_the_end(&folder.path("ready")), "here\n");
    first.kill().expect("it can be killed");
    let _ = first.wait().expect("it ends");
    // What left the group of its step and cleared its environment goes on, and may still write there.
    assert_eq!(counted(&folder, 2), "0");
    go_on(&folder);
    let mut nothing = Vec::new();
    let _ = alive.read_to_end(&mut nothing).expect("it ends when the step does");
    assert_eq!(counted(&folder, 3), "1");
}
