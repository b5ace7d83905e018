//! Why things run, beyond the first cause: renames, evictions, one fact of a machine; and what is not the same twice.

use std::time::Duration;

use cas_engine::run::now_ms;
use cas_store::{Create, Hosting, Mode, Open, Policy, Store};

use crate::kit::Folder;
use crate::{dogs, outcomes};

#[test]
fn a_renamed_solid_is_recognised_by_all_else() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    let text = folder.read("pipeline.yaml").replace("emit_dog", "make_dog");
    folder.write("pipeline.yaml", &text);
    let status = folder.cas("status").ok().stdout;
    assert!(status.contains("make_dog       renamed from `emit_dog`? all else is equal"), "{status}");
    let run = folder.cas("run").ok();
    // Its content is the same: nothing below it runs.
    assert_eq!(run.steps(), ["make_dog"]);
    assert!(run.stderr.contains("renamed from `emit_dog`? all else is equal"), "{}", run.stderr);
}

#[test]
fn what_was_evicted_says_when_and_by_what() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    let _ = folder.cas("gc --max-size 0").ok();
    let status = folder.cas("status").ok().stdout;
    assert!(status.contains("  evicted ") && status.contains(" by --max-size 0"), "{status}");
    let run = folder.cas("run -j 1").ok();
    assert_eq!(run.steps(), ["emit_dog", "emit_tree", "emit_sentence"]);
    assert_eq!(run.stderr.matches(" by --max-size 0").count(), 3, "{}", run.stderr);
}

/// A collection is told what time it is: this one took place three days ago.
#[test]
fn what_was_evicted_three_days_ago_says_so_wherever_it_is_a_cause() {
    let folder = dogs();
    let _ = folder.cas("run -j 1").ok();
    {
        let open = Open {
            create: Create::Never,
            wait: Duration::from_secs(10),
            owner: "a test".to_owned(),
            hosting: Hosting::Willing,
            on_wait: &mut |_| {},
        };
        let store = Store::open(&folder.path(".cas"), open).expect("it is there");
        let policy = Policy { max_size_bytes: Some(0), ..Policy::default() };
        let then = now_ms() - 3 * 24 * 60 * 60 * 1000;
        let report = store.gc(&policy, Mode::Collect, then, &mut |_| {}).expect("it is collected");
        assert_eq!(report.results, 3);
    }
    let status = folder.cas("status").ok().stdout;
    let causes: Vec<&str> = status.lines().skip(1).collect();
    assert_eq!(
        causes,
        [
            "emit_dog       evicted 3 days ago by --max-size 0",
            "emit_tree      evicted 3 days ago by --max-size 0",
            "emit_sentence  evicted 3 days ago by --max-size 0"
        ]
    );
    let explained = folder.cas("explain emit_dog").ok().stdout;
    assert!(explained.starts_with("emit_dog would run: evicted 3 days ago by --max-size 0\n"), "{explained}");
    let ran = folder.cas("run --format json -j 1 emit_dog").ok();
    let started: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is an event"))
        .filter(|event: &serde_json::Value| event["event"] == "step-started")
        .collect();
    let told: Vec<_> = started.iter().map(|event| (&event["step"], &event["why"])).collect();
    assert_eq!(told, [(&"emit_dog".into(), &"evicted 3 days ago by --max-size 0".into())]);
}

#[test]
fn where_most_of_a_run_misses_for_one_fact_of_the_machine_one_line_says_which() {
    let pipeline = |version: &str| {
        format!(
            "pipeline: lab\nresources:\n  python: {{version: \"{version}\"}}\ndefaults: {{resources: [python]}}\nsolids:\n  a: {{command: echo a, stdout: result}}\n  b: {{inputs: {{x: a}}, command: echo b, stdout: result}}\n  c: {{inputs: {{x: b}}, command: \"cat {{{{ inputs.x }}}}\", stdout: result}}\n"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &pipeline("3.11.2"))]);
    let run = folder.cas("run").ok();
    assert_eq!((run.steps(), run.stderr.contains("one fact")), (vec!["a", "b", "c"], false));
    folder.write("pipeline.yaml", pipeline("3.11.7"));
    let run = folder.cas("run").ok();
    assert_eq!(run.steps(), ["a", "b", "c"]);
    assert!(
        run.stderr.contains(
            "3 of 3 steps run here because of one fact; the store knows them with another: resource python: 3.11.2 → 3.11.7"
        ),
        "{}",
        run.stderr
    );
    let run = folder.cas("run").ok();
    assert_eq!((run.steps(), run.stderr.contains("one fact")), (vec![], false));
}

#[test]
fn elements_that_run_for_one_cause_are_told_as_one() {
    let pipeline = |word: &str| {
        format!(
            "pipeline: many\nsolids:\n  each:\n    matrix: {{n: [1, 2, 3]}}\n    command: echo {word} {{{{ config.n }}}}\n    stdout: result\n"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &pipeline("low"))]);
    let _ = folder.cas("run").ok();
    folder.write("pipeline.yaml", pipeline("high"));
    let status = folder.cas("status").ok().stdout;
    assert_eq!(status.lines().count(), 2, "{status}");
    assert!(
        status.lines().nth(1).is_some_and(|line| line.starts_with("each[*]  3 of 3  command")),
        "{status}"
    );
    let json = folder.cas("status --format json").ok().stdout;
    assert_eq!(json.matches("\"step\":\"each[n=").count(), 3, "{json}");
    let run = folder.cas("run -j 1").ok();
    assert_eq!(run.steps(), ["each[n=1]", "each[n=2]", "each[n=3]"]);
    let whys: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("why ")).collect();
    assert_eq!(
        whys,
        ["why       each[*]  3 of 3: command: echo low {{ config.n }} → echo high {{ config.n }}"]
    );
    assert_eq!(folder.cas("run").ok().steps(), Vec::<&str>::new());
}

const DICE: &str = "\
pipeline: dice
solids:
  same: {command: echo same, stdout: result}
  roll: {command: date +%s%N, stdout: result}
  sum: {inputs: {s: same, r: roll}, command: \"cat {{ inputs.s }} {{ inputs.r }}\", stdout: result}
";

#[test]
fn what_is_not_the_same_twice_is_found_shown_and_remembered_and_nothing_changes() {
    let folder = Folder::with(&[("pipeline.yaml", DICE)]);
    let none = folder.cas("run --reproduce").code(1);
    assert!(none.stderr.contains("nothing is stored that could be reproduced"), "{}", none.stderr);
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["same", "roll", "sum"]);
    let sum = folder.cas("cat sum").ok().stdout;
    let again = folder.cas("run --reproduce -j 1").code(1);
    assert_eq!(again.steps(), ["same", "roll", "sum"]);
    assert!(again.stderr.contains("`roll` gave other content than before"), "{}", again.stderr);
    assert!(again.stderr.contains("\n  result: the value: "), "{}", again.stderr);
    assert!(again.stderr.contains("not deterministic: `roll` (the same inputs"), "{}", again.stderr);
    // What is stored stays, and so does what is made from it.
    assert_eq!(folder.cas("cat sum").ok().stdout, sum);
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 3 reused");
    let ls = folder.cas("ls").ok().stdout;
    assert_eq!(ls.matches("roll.result (not deterministic)").count(), 1, "{ls}");
    assert_eq!(ls.matches("not deterministic").count(), 1, "{ls}");
    let explain = folder.cas("explain roll").ok().stdout;
    assert!(
        explain.contains("it is not deterministic: the same inputs gave other content 1 time"),
        "{explain}"
    );
    // Only what is named, and a part of it.
    assert_eq!(folder.cas("run --reproduce same").ok().steps(), ["same"]);
    assert_eq!(folder.cas("run --reproduce --sample 1%").steps().len(), 1);
    let _ = folder.cas("run --sample 1%").code(2);
    // Run again on purpose: the new content stands from now on, and is compared, too.
    let forced = folder.cas("run --force roll").ok();
    assert_eq!(forced.steps(), ["roll"]);
    assert!(forced.stderr.contains("not deterministic: `roll`"), "{}", forced.stderr);
    let run = folder.cas("run").ok();
    assert_eq!(run.steps(), ["sum"]);
    assert_ne!(folder.cas("cat sum").ok().stdout, sum);
}

#[test]
fn a_sample_is_drawn_anew_each_time_and_says_what_it_is() {
    let numbers: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let yaml = format!(
        "pipeline: many\nsolids:\n  each: {{matrix: {{n: [{}]}}, command: 'echo {{{{ config.n }}}}', stdout: result}}\n",
        numbers.join(", ")
    );
    let folder = Folder::with(&[("pipeline.yaml", &yaml)]);
    let _ = folder.cas("run -q").ok();
    let mut drawn = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let ran = folder.cas("run --reproduce --sample 5% -j 1").ok();
        let mut steps: Vec<String> = ran.steps().iter().map(|step| (*step).to_owned()).collect();
        assert_eq!((steps.len(), ran.counts()), (2, "38 reused, 2 ran"), "{}", ran.transcript());
        let said = ran.stderr.lines().next().expect("it says something");
        let names = said.strip_prefix("reproducing 2 of 40 stored steps: ").expect(said);
        steps.sort_unstable();
        let mut named: Vec<&str> = names.split(", ").collect();
        named.sort_unstable();
        assert_eq!(named, steps);
        drawn.extend(steps);
    }
    // The same two eight times running would be one chance in 10^20.
    assert!(drawn.len() > 2, "{drawn:?}");
    // What was run again stays what it was.
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 40 reused");
}

/// Only the heading used to be told of a folder.
#[test]
fn a_folder_that_is_not_the_same_twice_is_told_by_its_entries() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "solids:\n  site:\n    outputs: [{pages: {at: pages/}}]\n    command: |\n      mkdir -p {{ outputs.pages }}\n      \
         echo same > {{ outputs.pages }}/same.txt\n      head -c 8 /dev/urandom | base64 > {{ outputs.pages }}/id.txt\n",
    )]);
    assert_eq!(folder.cas("run").ok().steps(), ["site"]);
    let again = folder.cas("run --reproduce").code(1);
    assert_eq!(again.steps(), ["site"]);
    assert!(again.stderr.contains("\n  pages: id.txt: file, 13 bytes, "), "{}", again.stderr);
    assert!(!again.stderr.contains("same.txt"), "{}", again.stderr);
}

/// Six elements were "joined": what had brought their bytes back was an equal element of the same run.
#[test]
fn what_comes_back_with_an_equal_element_is_reused_and_nobody_else_made_it() {
    let yaml = "\
pipeline: alike
solids:
  a: {matrix: {i: [1, 2, 3]}, command: ': {{ matrix.i }}; echo same > outputs/result'}
  z: {inputs: {a: 'a[*]'}, command: 'cat {{ inputs.a }}/* > {{ outputs.result }}'}
";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run -j 1").ok();
    let _ = folder.cas("gc --max-size 0").ok();
    let ran = folder.cas("run -j 1 --format json").ok();
    assert_eq!(outcomes(&ran), ["a[i=1] ran", "a[i=2] reused", "a[i=3] reused", "z ran"]);
}
