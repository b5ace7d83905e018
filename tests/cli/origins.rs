//! `diff`, `lineage`, `show FILE`, `shell`, `run --replay-logs`.

use std::io::Write;
use std::process::Stdio;

use crate::kit::{Folder, Ran};
use crate::{dogs, outcomes};

/// Compares a transcript in which a version is as wide as its redaction.
#[track_caller]
fn shows(ran: Ran, expected: &str) {
    let mut found = ran.transcript();
    while let Some(at) = found.find("[hex]  ") {
        found.remove(at + "[hex]".len());
    }
    let found = found.replace("[hex] \n", "[hex]\n");
    assert_eq!(found, expected.trim_start_matches('\n'));
}

fn version_of(folder: &Folder, output: &str, more: &str) -> String {
    let table = folder.cas(&format!("versions {more}")).ok().stdout;
    let row = table.lines().find(|line| line.starts_with(&format!("| {output} "))).expect("it has a row");
    row.split('|').nth(2).expect("a version").trim().to_owned()
}

#[test]
fn two_versions_differ_by_fact_and_by_content() {
    let folder = dogs();
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["emit_dog", "emit_tree", "emit_sentence"]);
    let old = version_of(&folder, "emit_tree.result", "");
    let other = folder.cas("run --set emit_tree.tree_species=red_maple").ok();
    assert_eq!(other.steps(), ["emit_tree", "emit_sentence"]);
    let ran = folder.cas(&format!("diff {old} emit_tree --set emit_tree.tree_species=red_maple"));
    shows(
        ran,
        "
$ cas diff [hex] emit_tree --set emit_tree.tree_species=red_maple
[hex] → emit_tree.result
  config.tree_species: douglas_fir → red_maple
content:
  -douglas_fir
  +red_maple
[1]
",
    );
    // One that has not run has facts and no content.
    let ran = folder.cas(&format!("diff {old} emit_tree --set emit_tree.tree_species=oak"));
    shows(
        ran,
        "
$ cas diff [hex] emit_tree --set emit_tree.tree_species=oak
[hex] → emit_tree.result
  config.tree_species: douglas_fir → oak
content: `emit_tree.result` is not stored
[1]
",
    );
    folder.cas("diff emit_dog emit_dog").shows(
        "
$ cas diff emit_dog emit_dog
emit_dog.result → emit_dog.result
  made of the same
content: the same content
",
    );
    let json =
        folder.cas(&format!("diff {old} emit_tree --set emit_tree.tree_species=red_maple --format json"));
    let document: serde_json::Value = serde_json::from_str(&json.code(1).stdout).expect("it is a document");
    assert_eq!(document["diff"][0]["facts"][0]["label"], "config.tree_species");
    assert_eq!(document["diff"][0]["content"]["kind"], "text");
    let _ = folder.cas("diff emit_dog nothing").code(2);
    // To compare runs nothing: the version that had not run still has not.
    let oak = folder.cas("run --set emit_tree.tree_species=oak --format json").ok();
    assert_eq!(outcomes(&oak), ["emit_dog reused", "emit_tree ran", "emit_sentence ran"]);
}

#[test]
fn json_and_folders_differ_by_value_and_by_entry() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        r#"
pipeline: shapes
solids:
  metrics:
    config: {auc: {type: float, default: 0.9}}
    command: "printf '{\"auc\": %s, \"n\": [1, 2]}' {{ config.auc }}"
    stdout: result
  site:
    config: {word: {type: str, default: low}}
    command: mkdir {{ outputs.result }}; echo {{ config.word }} > {{ outputs.result }}/a.txt; echo same > {{ outputs.result }}/b.txt; [ {{ config.word }} = low ] || echo new > {{ outputs.result }}/c.txt
"#,
    )]);
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["metrics", "site"]);
    let (metrics, site) = (version_of(&folder, "metrics.result", ""), version_of(&folder, "site.result", ""));
    let set = "--set metrics.auc=0.95 --set site.word=high";
    assert_eq!(folder.cas(&format!("run -j 1 {set}")).ok().steps(), ["metrics", "site"]);
    let found = folder.cas(&format!("diff {metrics} metrics {set}")).code(1).stdout;
    assert!(found.ends_with("  config.auc: 0.9 → 0.95\ncontent: auc: 0.9 → 0.95\n"), "{found}");
    let found = folder.cas(&format!("diff {site} site {set}")).code(1).stdout;
    assert!(
        found.ends_with("content:\n  a.txt: file, 4 bytes → file, 5 bytes\n  c.txt added: file, 4 bytes\n"),
        "{found}"
    );
}

#[test]
fn two_runs_differ_by_how_they_began_and_which_steps_had_other_versions() {
    let folder = dogs();
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["emit_dog", "emit_tree", "emit_sentence"]);
    let other = folder.cas("run -j 1 --set emit_tree.tree_species=red_maple").ok();
    assert_eq!(other.steps(), ["emit_tree", "emit_sentence"]);
    assert_eq!(folder.cas("run -j 1").ok().steps(), Vec::<&str>::new());
    folder.cas("diff 1 2").shows(
        "
$ cas diff 1 2
run 1 → run 2
  command: run -j 1 → run -j 1 --set emit_tree.tree_species=red_maple
emit_tree: config.tree_species: douglas_fir → red_maple
emit_sentence: input tree: config.tree_species: douglas_fir → red_maple
1 step with the same version in both
[1]
",
    );
    folder.cas("diff 1 3").shows(
        "
$ cas diff 1 3
run 1 → run 3
3 steps with the same version in both
",
    );
    let _ = folder.cas("diff 1 9").code(2);
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 3 reused");
}

/// Of a step that had failed in one of them it was said that what it was made of is not on record, and of one that had
/// failed for once nothing.
#[test]
fn of_two_runs_it_is_told_what_failed_in_one_of_them_and_with_what() {
    let yaml = "pipeline: p\nsolids:\n  a: {config: {n: {type: int, default: 1}}, command: 'test {{ config.n }} != 2 || exit \
                7', outputs: []}\n  b: {pass_env: [OK], command: 'test -e $OK; echo $OK', stdout: result}\n  c: {inputs: {x: b}, \
                command: cat inputs/x, stdout: result}\n";
    let mut folder = Folder::with(&[("pipeline.yaml", yaml)]);
    folder.variable("OK", "/nowhere");
    let _ = folder.cas("run -k").code(1);
    folder.variable("OK", "/");
    let _ = folder.cas("run -k --set a.n=2").code(1);
    folder.cas("diff 1 2").shows(
        "
$ cas diff 1 2
run 1 → run 2
  command: run -k → run -k --set a.n=2
b: failed in run 1: exit status 1
a: failed in run 2: exit status 7
c: skipped in run 1: `b` failed
0 steps with the same version and content in both
[1]
",
    );
    let json = folder.cas("diff 2 1 --format json").code(1).stdout;
    assert!(json.contains("\"unmade_before\":\"failed in run 2: exit status 7\""), "{json}");
    // Two that failed alike are equal.
    folder.variable("OK", "/nowhere");
    let _ = folder.cas("forget b --reason again").ok();
    let _ = folder.cas("run -k").code(1);
    folder.cas("diff 1 3").shows(
        "
$ cas diff 1 3
run 1 → run 3
3 steps with the same version in both
",
    );
}

#[test]
fn lineage_goes_up_and_down_across_pipelines_and_from_a_file() {
    let folder = dogs();
    folder.write("names.txt", "rex\n");
    folder.write(
        "other.yaml",
        "pipeline: other\nsolids:\n  emit_dog:\n    config: {dog_breed: {type: str, default: poodle}}\n    command: echo {{ config.dog_breed }}\n    stdout: result\n  walk: {inputs: {d: emit_dog, n: {path: names.txt}, k: {value: 3}}, command: \"cat {{ inputs.d }} {{ inputs.n }}\", stdout: result}\n",
    );
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["emit_dog", "emit_tree", "emit_sentence"]);
    assert_eq!(folder.cas("run -f other.yaml").ok().steps(), ["walk"]);
    folder.cas("lineage emit_dog").shows(
        "
$ cas lineage emit_dog
dogs/emit_dog  run 1
used by
  dogs/emit_sentence  run 1
  other/walk  run 2
",
    );
    shows(
        folder.cas("lineage --up walk -f other.yaml"),
        "
$ cas lineage --up walk -f other.yaml
other/walk  run 2
made from
  d: dogs/emit_dog  run 1
  n: names.txt [hex]
  k: 3
",
    );
    // A file, whatever it is called and wherever it lies.
    folder.write("somewhere/else.bin", "poodle\nrex\n");
    let shown = folder.cas("show somewhere/else.bin").ok().stdout;
    assert!(shown.starts_with("output    other/walk.result\n"), "{shown}");
    assert_eq!(
        folder.cas("lineage --up somewhere/else.bin").ok().stdout.lines().next(),
        Some("other/walk  run 2")
    );
    // One that no step made: what was made from it, also where it is called otherwise by now.
    let used = "used by\n  other/walk  run 2\n";
    let down = folder.cas("lineage --down names.txt").ok().stdout;
    assert!(down.starts_with("names.txt ") && down.ends_with(used), "{down}");
    folder.write("old/renamed.txt", "rex\n");
    let down = folder.cas("lineage old/renamed.txt").ok().stdout;
    assert!(down.starts_with("old/renamed.txt ") && down.ends_with(used), "{down}");
    assert_eq!(folder.cas("lineage --up names.txt").ok().stdout.lines().count(), 1);
    // Also where a step has made the same content.
    folder.write("other/copy.yaml", "pipeline: copy\nsolids:\n  same: {command: echo rex, stdout: result}\n");
    let _ = folder.cas("run -f other/copy.yaml --store .cas").ok();
    let down = folder.cas("lineage --down names.txt").ok().stdout;
    assert!(down.starts_with("copy/same  run 3\nnames.txt ") && down.ends_with(used), "{down}");
    folder.write("unknown.txt", "nobody made this\n");
    let unknown = folder.cas("lineage --down unknown.txt").code(1);
    let none = "no result on record has the content of `unknown.txt`, or was made from it";
    assert!(unknown.stderr.contains(none), "{}", unknown.stderr);
    let absent = folder.cas("show out/not-there.txt").code(2);
    assert!(absent.stderr.contains("(and there is no such file)"), "{}", absent.stderr);
    let unknown = folder.cas("show unknown.txt").code(1);
    assert!(unknown.stderr.contains("no result on record has the content"), "{}", unknown.stderr);
    let _ = folder.cas("show not-there.txt").code(2);
}

/// Only the last 64 versions of each step were looked at, and of what an earlier one had read it was said that nothing had.
#[test]
fn what_a_file_was_made_into_is_found_however_many_versions_ago_that_was() {
    let yaml = "pipeline: p\nsolids:\n  a: {config: {k: {type: int, default: 0}}, inputs: {n: {path: names.txt}}, command: 'wc -c < \
                {{ inputs.n }}', stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml), ("names.txt", "rex\n"), ("old.txt", "rex\n")]);
    let _ = folder.cas("run").ok();
    folder.write("names.txt", "bello\n");
    let _ = folder.cas("run --sweep a.k=1..70").ok();
    let down = folder.cas("lineage --down old.txt").ok().stdout;
    assert!(down.ends_with("used by\n  p/a  run 1\n"), "{down}");
    let down = folder.cas("lineage --down names.txt").ok().stdout;
    assert_eq!(down.lines().filter(|line| line.starts_with("  p/a  run ")).count(), 70, "{down}");
}

/// A value that nobody gave, or a slip in the file, kept a file from being looked up.
#[test]
fn a_file_is_looked_up_in_a_folder_whose_pipeline_cannot_be_planned() {
    let folder = dogs();
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["emit_dog", "emit_tree", "emit_sentence"]);
    let version = version_of(&folder, "emit_tree.result", "");
    folder.write("else.txt", "poodle\n");
    // The value is asked for now: the file can be read, and says which store is meant.
    folder.write("pipeline.yaml", crate::DOGS.replace("{type: str, default: poodle}", "str"));
    let lacking = "warning: the pipeline is not looked at: pipeline.yaml:4:14: config `dog_breed` of `emit_dog` must be given";
    for line in ["show else.txt", "lineage else.txt", &format!("show {version}")] {
        let ran = folder.cas(line).ok();
        assert_eq!(ran.stderr.lines().next(), Some(lacking), "{}", ran.transcript());
        assert!(ran.stdout.contains("dogs"), "{}", ran.transcript());
    }
    // What is a step of the pipeline needs it.
    folder.write("emit_tree.txt", "poodle\n");
    for line in ["show emit_tree", "show emit_tree.txt", "show else.txt emit_dog"] {
        let ran = folder.cas(line).code(2);
        assert!(ran.stderr.contains("error: pipeline.yaml:4:14: config `dog_breed`"), "{}", ran.transcript());
    }
    // One that cannot be read at all says nothing of the store.
    folder.write("pipeline.yaml", "pipeline: [\n");
    assert!(folder.cas("show else.txt").code(2).stderr.contains("error: pipeline.yaml:"));
    let shown = folder.cas("show else.txt --store .cas").ok();
    assert!(shown.stdout.starts_with("output    dogs/emit_dog.result\n"), "{}", shown.transcript());
    let lineage = folder.cas("lineage --up else.txt --store .cas").ok();
    assert_eq!(lineage.stdout, "dogs/emit_dog  run 1\n");
}

/// A step that is run again leaves one trace and several contents: what was made of the first was said to be made of
/// the last, and was forgotten with it.
#[test]
fn what_was_made_of_an_earlier_making_is_told_so_and_is_not_forgotten_with_a_later_one() {
    let folder = Folder::with(&[("w", "1\n"), ("h", "1\n")]);
    let at = folder.path("").display().to_string();
    let text = "pipeline: lin\nsolids:\n  w: {version: volatile, command: cat AT/w, stdout: result}\n  \
                h: {command: cat AT/h, stdout: result}\n  \
                rep: {inputs: {w: w, h: h}, command: cat inputs/w inputs/h, stdout: result}\n";
    folder.write("pipeline.yaml", text.replace("AT/", &at));
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["w", "h", "rep"]);
    let _ = folder.cas("get w w1.txt").ok();
    let _ = folder.cas("get rep o1.txt").ok();
    folder.write("w", "2\n");
    assert_eq!(folder.cas("run").ok().steps(), ["w", "rep"]);
    let _ = folder.cas("get rep o2.txt").ok();
    folder.write("h", "5\n");
    assert_eq!(folder.cas("run --force h").ok().steps(), ["h"]);
    let lineage = |of: &str| folder.cas(&format!("lineage {of}")).ok().stdout;
    assert_eq!(
        lineage("--up o1.txt"),
        "lin/rep  run 1\nmade from\n  w: lin/w  run 1  (replaced since)\n  h: lin/h  run 1  (replaced since)\n"
    );
    assert_eq!(
        lineage("--up o2.txt"),
        "lin/rep  run 2\nmade from\n  w: lin/w  run 2\n  h: lin/h  run 1  (replaced since)\n"
    );
    assert_eq!(lineage("--down h"), "lin/h  run 3\n");
    assert_eq!(lineage("--down w"), "lin/w  run 2\nused by\n  lin/rep  run 2\n");
    assert_eq!(lineage("--down w1.txt"), "lin/w  run 1  (replaced since)\nused by\n  lin/rep  run 1\n");
    // What nothing was made of takes nothing along, and each result counts once, whatever runs keep of it.
    assert_eq!(folder.cas("forget h --reason broken").ok().stdout, "forgot h (judgement 1)\n");
    folder.write("h", "1\n");
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["w", "h"]);
    let forgot = folder.cas("forget w --reason broken").ok().stdout;
    assert_eq!(forgot, "forgot w and 1 result made from it (judgement 2)\n");
    folder.write("w", "1\n");
    assert_eq!(folder.cas("run").ok().steps(), ["w"], "what was made of the first is as good as it was");
    folder.write("w", "2\n");
    assert_eq!(folder.cas("run").ok().steps(), ["w", "rep"]);
}

/// The same where what was read is an element of a list.
#[test]
fn an_element_is_of_the_list_that_it_was_read_of() {
    let folder = Folder::with(&[("in/a", "a\n"), ("in/b", "b\n")]);
    let at = folder.path("").display().to_string();
    let text = "pipeline: els\nsolids:\n  lst: {outputs: [{parts: {list: true}}], command: cp -r AT/in outputs/parts}\n  \
                m: {map: {x: lst.parts}, command: cat inputs/x, stdout: result}\n";
    folder.write("pipeline.yaml", text.replace("AT/", &at));
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["lst", "m[x=a]", "m[x=b]"]);
    let _ = folder.cas("get 'm[x=b]' b.txt").ok();
    folder.write("in/b", "other\n");
    assert_eq!(folder.cas("run --force lst").ok().steps(), ["lst"]);
    let lineage = |of: &str| folder.cas(&format!("lineage {of}")).ok().stdout;
    assert_eq!(
        lineage("--up b.txt"),
        "els/m[x=b]  run 1\nmade from\n  x: els/lst  run 1  (replaced since)\n"
    );
    // The other element has the content that it had, and was read in the list that was there then.
    let another = "  (read another making with this content)";
    assert_eq!(lineage("--down lst"), format!("els/lst  run 2\nused by\n  els/m[x=a]  run 1{another}\n"));
    let forgot = folder.cas("forget lst --reason broken").ok().stdout;
    assert_eq!(forgot, "forgot lst and 1 result made from it (judgement 1)\n");
}

const FAILS: &str = "\
pipeline: fails
solids:
  good: {command: echo fine; echo log >&2, stdout: result}
  bad:
    inputs: {x: good}
    config: {n: {type: int, default: 3}}
    code: [try.sh]
    env: [{WORD: hidden}]
    command: sh try.sh {{ inputs.x }} > {{ outputs.result }}
";

#[test]
fn a_shell_has_the_steps_folder_and_leaves_nothing() {
    let folder = Folder::with(&[("pipeline.yaml", FAILS), ("try.sh", "echo trying $1 $WORD; cat $1\n")]);
    assert!(folder.cas("shell bad").code(1).stderr.contains("there is no store"));
    assert_eq!(folder.cas("run good").ok().steps(), ["good"]);
    let mut command = folder.command(std::path::Path::new(env!("CARGO_BIN_EXE_cas")));
    command.args(["shell", "bad"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut typed = child.stdin.take().expect("its input");
    typed
        .write_all(b"ls; cat inputs/x config.json; echo $WORD; sh ../run.sh; cat outputs/result; echo mine > outputs/result\n")
        .expect("it takes it");
    drop(typed);
    let ran = folder.ran("cas shell bad".to_owned(), &child.wait_with_output().expect("it ends")).ok();
    assert_eq!(
        ran.stdout,
        "config.json\ninputs\noutputs\ntry.sh\nfine\n{\"n\":3}hidden\ntrying inputs/x hidden\nfine\n",
        "{}",
        ran.transcript()
    );
    assert!(folder.names(".cas/work").iter().all(|name| !name.starts_with("shell")), "it is removed");
    assert_eq!(
        folder.cas("status").ok().stdout.lines().next(),
        Some("2 steps: 1 stored, 1 to-be-recomputed")
    );
    assert_eq!(outcomes(&folder.cas("run --format json").ok()), ["good reused", "bad ran"]);
    // What it consumes has to be there.
    let missing = folder.cas("shell bad --set good.x=1");
    assert_eq!(missing.code, 2);
    let _ = folder.cas("forget good --reason x").ok();
    let missing = folder.cas("shell bad").code(1);
    assert!(
        missing.stderr.contains("`good.result`, which `bad` consumes, is not stored"),
        "{}",
        missing.stderr
    );
}

#[test]
fn a_kept_folder_has_a_script_that_repeats_the_attempt() {
    let folder = Folder::with(&[("pipeline.yaml", FAILS), ("try.sh", "echo trying $WORD; exit 3\n")]);
    assert_eq!(outcomes(&folder.cas("run --format json").code(1)), ["good ran", "bad failed"]);
    let kept = folder.names(".cas/work/failed");
    assert_eq!(kept.len(), 1);
    let script = folder.path(&format!(".cas/work/failed/{}/run.sh", kept[0]));
    let output = folder.command(&script).output().expect("it starts");
    assert_eq!(output.status.code(), Some(3));
    // It stored nothing.
    assert_eq!(outcomes(&folder.cas("run --format json").code(1)), ["good reused", "bad failed"]);
}

#[test]
fn what_reused_steps_printed_is_printed_again_where_it_is_asked_for() {
    let folder = dogs();
    let first = folder.cas("run -j 1 --show-output").ok();
    assert_eq!(first.steps(), ["emit_dog", "emit_tree", "emit_sentence"]);
    assert!(first.stderr.contains("planting"), "{}", first.stderr);
    let plain = folder.cas("run").ok();
    assert_eq!(plain.steps(), Vec::<&str>::new());
    assert!(!plain.stderr.contains("planting"), "{}", plain.stderr);
    let again = folder.cas("run --replay-logs").ok();
    assert_eq!(again.steps(), Vec::<&str>::new());
    assert!(again.stderr.contains("planting"), "{}", again.stderr);
}

#[test]
fn a_shell_ends_with_what_it_ended_with() {
    let folder = Folder::with(&[("pipeline.yaml", "solids: {a: {command: 'true', outputs: []}}\n")]);
    let _ = folder.cas("run").ok();
    for (typed, code) in [("exit 3\n", 3), ("false\n", 1), ("kill -TERM $$\n", 143), ("true\n", 0)] {
        let mut command = folder.command(std::path::Path::new(env!("CARGO_BIN_EXE_cas")));
        command.args(["shell", "a"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let mut input = child.stdin.take().expect("its input");
        input.write_all(typed.as_bytes()).expect("it takes it");
        drop(input);
        assert_eq!(child.wait().expect("it ends").code(), Some(code), "{typed}");
    }
}
