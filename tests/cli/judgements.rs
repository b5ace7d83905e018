//! `cas forget` and `accept`: what they let run, and where they are shown.

use std::fs;

use crate::dogs;
use crate::kit::{Folder, Ran};

/// A folder whose user is called ada.
fn adas(mut folder: Folder) -> Folder {
    folder.variable("USER", "ada");
    folder
}

/// Compares a transcript in which this machine's name is redacted.
#[track_caller]
fn shows(ran: Ran, expected: &str) {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("the machine has a name");
    // A table is as wide as the name.
    let found = ran.transcript().replace(&format!("on {}", host.trim()), "on [host]");
    let host = host.trim().len();
    let found = found.replace(&format!("BY{:1$}REASON", "", host + 7), "BY  REASON");
    assert_eq!(found, expected.trim_start_matches('\n'));
}

const SCRIPTS: &str = "\
pipeline: scripts
solids:
  one:
    config: {n: {type: int, default: 1}}
    code: [one.sh]
    command: sh one.sh {{ config.n }}
    stdout: result
  two:
    inputs: {x: one}
    code: [two.sh]
    command: sh two.sh {{ inputs.x }}
    stdout: result
  three: {inputs: {x: two}, command: \"cat {{ inputs.x }}\", stdout: result}
";

fn scripts() -> Folder {
    adas(Folder::with(&[
        ("pipeline.yaml", SCRIPTS),
        ("one.sh", "echo one $1\n"),
        ("two.sh", "cat $1; echo two\n"),
    ]))
}

#[test]
fn a_forgotten_result_and_what_was_made_from_it_run_again() {
    let folder = adas(dogs());
    let _ = folder.cas("run").ok();
    shows(
        folder.cas("forget emit_tree --reason 'the scale was wrong'"),
        "
$ cas forget emit_tree --reason 'the scale was wrong'
forgot emit_tree and 1 result made from it (judgement 1)
",
    );
    shows(
        folder.cas("status"),
        "
$ cas status
3 steps: 1 stored, 2 to-be-recomputed
emit_tree      its result was forgotten by ada on [host]: the scale was wrong
emit_sentence  `emit_tree`: its result was forgotten by ada on [host]: the scale was wrong (may turn out unchanged)
",
    );
    let cat = folder.cas("cat emit_tree").code(1);
    assert!(cat.stderr.contains("`emit_tree.result` counts as absent"), "{}", cat.transcript());
    assert!(cat.stderr.contains("cas forget --undo 1"), "{}", cat.transcript());
    let show = folder.cas("show emit_tree").ok().stdout;
    assert!(show.contains("\ncontent   forgotten\n") && show.contains("the scale was wrong"), "{show}");
    assert_eq!(folder.cas("ls").ok().stdout.matches("  forgotten  ").count(), 2);
    assert!(folder.cas("forget emit_tree --reason again").code(1).stderr.contains("is forgotten already"));

    // The same content comes out again: what was made from the forgotten result is made again all the same.
    let again = folder.cas("run").ok();
    assert_eq!(again.steps(), ["emit_tree", "emit_sentence"]);
    assert!(again.stderr.contains("forgotten by ada"), "{}", again.stderr);
    assert!(!again.stderr.contains("other content"), "{}", again.stderr);
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 3 reused");
}

#[test]
fn forgetting_can_be_taken_back_and_is_listed_for_good() {
    let folder = adas(dogs());
    let _ = folder.cas("run").ok();
    let _ = folder.cas("forget emit_dog --reason 'a wrong dog'").ok();
    assert_eq!(
        folder.cas("status").ok().stdout.lines().next(),
        Some("3 steps: 1 stored, 2 to-be-recomputed")
    );
    shows(
        folder.cas("forget --undo emit_dog --reason 'it was right'"),
        "
$ cas forget --undo emit_dog --reason 'it was right'
emit_dog is not forgotten any longer (judgement 1)
",
    );
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 3 reused");
    shows(
        folder.cas("forget --list"),
        "
$ cas forget --list
NUMBER  STEP      SAID                 BY  REASON
1       emit_dog  [date]  ada on [host]  a wrong dog (taken back on [date] by ada on [host]: it was right)
",
    );
    let _ = folder.cas("forget --undo emit_dog").code(1);
    let _ = folder.cas("forget --undo 1").code(1);
    let _ = folder.cas("forget emit_dog").code(2);
    let _ = folder.cas("forget nothing --reason x").code(2);
    // An older version that the pipeline does not have now is forgotten by its hex.
    let _ = folder.cas("run --set emit_dog.dog_breed=pug").ok();
    let version = folder.cas("versions --set emit_dog.dog_breed=pug --format json").ok().stdout;
    let document: serde_json::Value = serde_json::from_str(&version).expect("it is a document");
    let hex = document["versions"][0]["version"].as_str().expect("a version");
    let forgot = folder.cas(&format!("forget {} --reason 'no pugs'", &hex[..16])).ok();
    assert_eq!(forgot.stdout, "forgot emit_dog and 1 result made from it (judgement 2)\n");
    assert_eq!(folder.cas("run --set emit_dog.dog_breed=pug").ok().steps(), ["emit_dog", "emit_sentence"]);
    assert!(
        folder
            .cas("forget emit_dog --set emit_dog.dog_breed=cat --reason x")
            .code(1)
            .stderr
            .contains("nothing to forget")
    );
}

#[test]
fn a_result_that_was_forgotten_and_made_anew_is_used_and_the_old_never_mixes_with_it() {
    let folder = adas(Folder::with(&[(
        "pipeline.yaml",
        "pipeline: dice\nsolids:\n  roll:\n    command: date +%s%N > {{ outputs.left }}; cat {{ outputs.left }} > {{ outputs.right }}\n    outputs: [left, right]\n  sum: {inputs: {l: roll.left, r: roll.right}, command: \"cat {{ inputs.l }} {{ inputs.r }}\", stdout: result}\n",
    )]));
    let _ = folder.cas("run").ok();
    let first = folder.cas("cat sum").ok().stdout;
    let _ = folder.cas("forget roll --reason 'loaded dice'").ok();
    let run = folder.cas("run").ok();
    assert_eq!(run.steps(), ["roll", "sum"]);
    assert!(!run.stderr.contains("gave other content"), "{}", run.stderr);
    let second = folder.cas("cat sum").ok().stdout;
    assert_ne!(first, second);
    // Taken back, what was made meanwhile is what stands: one roll, both halves.
    let _ = folder.cas("forget --undo roll").ok();
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 2 reused");
    let halves: Vec<String> = folder.cas("cat sum").ok().stdout.lines().map(str::to_owned).collect();
    assert_eq!(halves[0], halves[1]);
}

#[test]
fn changed_code_is_accepted_and_what_stands_below_goes_on_with_the_earlier_result() {
    let folder = scripts();
    let _ = folder.cas("run").ok();
    folder.write("one.sh", "# says one\necho one $1\n");
    let status = folder.cas("status").ok().stdout;
    assert!(status.starts_with("3 steps: 3 to-be-recomputed\none    code one.sh changed\n"), "{status}");
    shows(
        folder.cas("accept one --reason 'only a comment'"),
        "
$ cas accept one --reason 'only a comment'
accepted one (judgement 1)
! the result of [date] answers; code one.sh changed
",
    );
    let run = folder.cas("run").ok();
    assert_eq!(run.steps(), Vec::<&str>::new());
    assert_eq!(run.counts(), "1 reused, 2 unchanged, 0 ran");
    shows(
        folder.cas("status"),
        "
$ cas status
3 steps: 3 stored
nothing to run
! one: accepted on [date] by ada on [host]: only a comment
",
    );
    for (line, said) in [
        ("versions", "! one: accepted on"),
        ("explain one", "accepted by ada"),
        ("show one", "accepted by ada"),
        ("ls", "one.result (accepted)"),
    ] {
        let ran = folder.cas(line).ok();
        assert!(ran.transcript().contains(said), "{}", ran.transcript());
    }
    // The code changes again: nothing was said of that.
    folder.write("one.sh", "# says one, twice\necho one $1; echo one $1\n");
    let run = folder.cas("run").ok();
    assert_eq!(run.steps(), ["one", "two", "three"]);
    assert_eq!(folder.cas("status").ok().stderr, "");
}

/// The code was not the same, and yet it was called not deterministic.
#[test]
fn what_runs_in_the_place_of_an_accepted_result_is_not_compared_with_that() {
    let folder = scripts();
    let _ = folder.cas("run").ok();
    folder.write("one.sh", "echo ONE $1\n");
    let _ = folder.cas("accept one --reason 'nearly the same'").ok();
    let _ = folder.cas("run").ok();
    // Neither is it made once more only to be compared.
    let reproduced = folder.cas("run --reproduce -j 1").ok();
    assert_eq!(reproduced.steps(), ["two", "three"]);
    assert!(reproduced.stderr.contains("left alone: `one` (accepted)"), "{}", reproduced.stderr);
    let forced = folder.cas("run --force one").ok();
    assert_eq!(forced.steps(), ["one"]);
    assert!(!forced.transcript().contains("other content"), "{}", forced.transcript());
    assert!(!folder.cas("ls").ok().stdout.contains("not deterministic"));
    assert_eq!(folder.cas("cat one").ok().stdout, "ONE 1\n");
    // From here on it is compared with itself.
    folder.write("pipeline.yaml", SCRIPTS.replace("sh one.sh", "date +%N; sh one.sh"));
    let _ = folder.cas("run one").ok();
    assert!(folder.cas("run --force one").ok().stderr.contains("not deterministic: `one`"));
}

#[test]
fn what_was_accepted_can_be_taken_back_and_then_runs() {
    let folder = scripts();
    let _ = folder.cas("run").ok();
    folder.write("one.sh", "echo ONE $1\n");
    let _ = folder.cas("accept one --reason 'it will be the same'").ok();
    assert_eq!(folder.cas("cat three").ok().stdout, "one 1\ntwo\n");
    let undone = folder.cas("accept --undo one --reason 'it is not'").ok();
    assert_eq!(undone.stdout, "one is not accepted any longer (judgement 1)\n");
    let explain = folder.cas("explain one").ok().stdout;
    assert!(explain.contains("was taken back by ada"), "{explain}");
    assert_eq!(folder.cas("run").ok().steps(), ["one", "two", "three"]);
    assert_eq!(folder.cas("cat three").ok().stdout, "ONE 1\ntwo\n");
    // Back to the first code: its own result is there as it was.
    folder.write("one.sh", "echo one $1\n");
    assert_eq!(folder.cas("run").ok().steps(), Vec::<&str>::new());
    assert_eq!(folder.cas("cat three").ok().stdout, "one 1\ntwo\n");
}

#[test]
fn forgetting_what_answers_forgets_where_it_was_accepted() {
    let folder = scripts();
    let _ = folder.cas("run").ok();
    folder.write("one.sh", "echo one $1 # the same\n");
    let _ = folder.cas("accept one --reason same").ok();
    assert_eq!(folder.cas("run").ok().steps(), Vec::<&str>::new());
    folder.write("one.sh", "echo one $1\n");
    let forgot = folder.cas("forget one --reason 'it never was right'").ok();
    assert_eq!(forgot.stdout, "forgot one and 3 results made from it (judgement 2)\n");
    folder.write("one.sh", "echo one $1 # the same\n");
    assert_eq!(folder.cas("run").ok().steps(), ["one", "two", "three"]);
}

#[test]
fn several_are_accepted_from_the_top_and_only_code_can_be() {
    let folder = scripts();
    let _ = folder.cas("run").ok();
    folder.write("one.sh", "echo one $1 # one\n");
    folder.write("two.sh", "cat $1; echo two # two\n");
    let alone = folder.cas("accept two --reason same").code(1);
    assert!(
        alone.stderr.contains("what `two` consumes is not known before `one` has run"),
        "{}",
        alone.stderr
    );
    let both = folder.cas("accept '*' --reason same").ok();
    assert_eq!(both.stdout, "accepted one (judgement 1)\naccepted two (judgement 2)\n");
    assert_eq!(folder.cas("run").ok().steps(), Vec::<&str>::new());

    let config = folder.cas("accept one --set one.n=2 --reason same").code(1);
    assert!(config.stderr.contains("its config differs from the newest"), "{}", config.stderr);
    let stored = folder.cas("accept one --reason same").code(1);
    assert!(stored.stderr.contains("`one` is stored: there is nothing to accept"), "{}", stored.stderr);
    let none = folder.cas("accept one").code(2);
    assert!(none.stderr.contains("--reason"), "{}", none.stderr);
}

#[test]
fn two_invocations_of_one_solid_share_what_is_said_of_their_result() {
    let folder = adas(Folder::with(&[(
        "pipeline.yaml",
        "pipeline: twins\nsolids:\n  a: {command: echo a, stdout: result}\n  b: {solid: a}\n",
    )]));
    let _ = folder.cas("run -j 1").ok();
    let _ = folder.cas("forget a --reason 'wrong for both'").ok();
    assert_eq!(folder.cas("status").ok().stdout.lines().next(), Some("2 steps: 2 to-be-recomputed"));
    assert_eq!(folder.cas("run -j 1").ok().counts(), "1 reused, 1 ran");
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 2 reused");
}
