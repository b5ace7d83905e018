//! Lists that a step yields at run time, as people see them.

use crate::kit::Folder;

const PAGES: &str = "\
pipeline: pages
solids:
  split:
    inputs: {book: {path: book}}
    command: cp -R {{ inputs.book }} {{ outputs.pages }}
    outputs: [{pages: {list: true}}]
  count:
    map: {page.txt: split.pages}
    command: wc -c < {{ inputs.page }} > {{ outputs.result }}
  total:
    inputs: {counts: 'count[*]'}
    command: cat {{ inputs.counts }}/* > {{ outputs.result }}
";

fn pages() -> Folder {
    Folder::with(&[("pipeline.yaml", PAGES), ("book/one", "1"), ("book/two", "22")])
}

#[test]
fn rows_of_a_list_are_one_until_it_is_known_and_then_one_an_element() {
    let folder = pages();
    let versions = folder.cas("versions").ok().stdout;
    let rows = |text: &str| -> Vec<(String, bool, String)> {
        let cells = |row: &str| row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let row = |cells: Vec<String>| (cells[1].clone(), cells[2] != "-", cells[3].clone());
        text.lines().skip(2).map(|line| row(cells(line))).collect()
    };
    let expected = |rows: &[(&str, bool, &str)]| -> Vec<(String, bool, String)> {
        rows.iter().map(|(step, known, status)| ((*step).to_owned(), *known, (*status).to_owned())).collect()
    };
    assert_eq!(
        rows(&versions),
        expected(&[
            ("split.pages", true, "to-be-recomputed"),
            ("count[*].result", false, "to-be-recomputed"),
            ("total.result", false, "to-be-recomputed")
        ])
    );
    let ran = folder.cas("run -j 1").ok();
    assert_eq!(ran.steps(), ["split", "count[page=one]", "count[page=two]", "total"]);
    assert_eq!(ran.counts(), "0 reused, 4 ran");
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 4 reused");
    let versions = folder.cas("versions").ok().stdout;
    assert_eq!(
        rows(&versions),
        expected(&[
            ("split.pages", true, "stored"),
            ("count[page=one].result", true, "stored"),
            ("count[page=two].result", true, "stored"),
            ("total.result", true, "stored")
        ])
    );
    folder.write("book/two", "other");
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["split", "count[page=two]", "total"]);
    assert_eq!(folder.cas("cat total").ok().stdout, "1\n5\n");
}

#[test]
fn one_element_is_named_in_every_command() {
    let folder = pages();
    let ran = folder.cas("run -j 1 count[page=two]").ok();
    assert_eq!(ran.steps(), ["split", "count[page=two]"]);
    assert_eq!(folder.cas("cat count[page=two]").ok().stdout, "2\n");
    assert_eq!(folder.cas("cat count@page=two").ok().stdout, "2\n");
    let _ = folder.cas("get count[page=two] here.txt").ok();
    assert_eq!(folder.read("here.txt"), "2\n");
    let explained = folder.cas("explain count[page=two]").ok().stdout;
    assert!(explained.starts_with("count[page=two] is stored\n"), "{explained}");
    let explained = folder.cas("explain count[page=one]").ok().stdout;
    assert!(explained.starts_with("count[page=one] would run: "), "{explained}");
    let _ = folder.cas("logs count[page=two]").ok();
    let lost = folder.cas("run count[page=three]").code(2);
    assert!(lost.stderr.contains("`count` has no element with `page=three`"), "{}", lost.stderr);
    folder.write("book/three", "333");
    assert_eq!(folder.cas("run -j 1 count[page=three]").ok().steps(), ["split", "count[page=three]"]);
    let lost = folder.cas("run count[page=four]").code(2);
    assert!(lost.stderr.contains("`count` has no element with `page=four`"), "{}", lost.stderr);
    // What a step sees of an element is what differs when it changes.
    folder.write("book/three", "4444");
    let ran = folder.cas("run -j 1").ok();
    assert!(ran.stderr.contains("  input page changed\n"), "{}", ran.stderr);
}

#[test]
fn events_tell_that_the_plan_grew() {
    let folder = pages();
    let events = folder.cas("run -j 1 --format json").ok().stdout;
    let words: Vec<String> = events
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
            let of = event.get("step").or_else(|| event.get("to_run")).map(ToString::to_string);
            format!("{} {}", event["event"].as_str().unwrap_or_default(), of.unwrap_or_default())
        })
        .collect();
    assert_eq!(
        words,
        [
            "run-started 3",
            "step-started \"split\"",
            "step-finished \"split\"",
            "plan-grew 3",
            "step-started \"count[page=one]\"",
            "step-finished \"count[page=one]\"",
            "step-started \"count[page=two]\"",
            "step-finished \"count[page=two]\"",
            "step-started \"total\"",
            "step-finished \"total\"",
            "run-finished "
        ]
    );
}

#[test]
fn a_failed_element_is_left_out_where_that_is_said_and_fails_the_run_all_the_same() {
    let folder = pages();
    let yaml = PAGES
        .replace("wc -c <", "grep -v 22 < {{ inputs.page }} && wc -c <")
        .replace("{counts: 'count[*]'}", "{counts: {gather: count, failed: skip, max_failed: 50%}}");
    folder.write("pipeline.yaml", &yaml);
    let ran = folder.cas("run -j 1").code(1);
    assert!(ran.stdout.contains("3 ran, 1 failed"), "{}", ran.transcript());
    folder.write("pipeline.yaml", yaml.replace("50%", "10%"));
    let ran = folder.cas("run -j 1 --keep-going").code(1);
    assert!(ran.stdout.contains("1 failed, 1 skipped"), "{}", ran.transcript());
    let why = "1 of 2 elements of `count` failed, and `max_failed` is 10%";
    assert!(ran.stderr.contains(&format!("skipped   total  {why}\n")), "{}", ran.transcript());
    let explained = folder.cas("explain total").ok().stdout;
    assert!(explained.contains(&format!("in run 2 it was skipped: {why}\n")), "{explained}");
    let events = folder.cas("run -k --format json").code(1).stdout;
    assert!(
        events.contains(&format!("\"skipped\":{{\"why\":\"{why}\",\"too_many_failed\":true}}")),
        "{events}"
    );
}

#[test]
fn a_mapped_step_is_published_by_its_labels() {
    let folder = pages();
    folder.write("pipeline.yaml", format!("{PAGES}publish: {{counts/: 'count[*]'}}\n"));
    let _ = folder.cas("run").ok();
    assert_eq!(folder.read("counts/two"), "2\n");
    assert_eq!(folder.read("counts/one"), "1\n");
}

/// An output becomes a list, and the result from before is none: accepted, it would answer for a list that nobody can
/// plan over.
#[test]
fn what_is_no_list_is_not_accepted_as_one() {
    let plain = "\
pipeline: numbers
solids:
  list:
    command: echo none > {{ outputs.result }}
";
    let listed = "\
pipeline: numbers
solids:
  list:
    command: echo '[1, 2]' > {{ outputs.result }}
    outputs: [{result: {list: true}}]
  twice:
    map: {n: list}
    command: cat {{ inputs.n }} {{ inputs.n }} > {{ outputs.result }}
";
    let folder = Folder::with(&[("pipeline.yaml", plain)]);
    let _ = folder.cas("run").ok();
    folder.write("pipeline.yaml", listed);
    folder.cas("accept list --reason same").shows(
        "
$ cas accept list --reason same
! error: no earlier result of `list` is a list in `result`
!   because `list: true` says that it is one now
! hint: `cas run` makes the result
[1]
",
    );
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["list", "twice[n=1]", "twice[n=2]"]);
}

/// A list of numbers of which those of three digits fail, and what gathers the others.
const SPARING: &str = "\
pipeline: numbers
solids:
  list:
    inputs: {from: {path: list.json}}
    command: cp {{ inputs.from }} {{ outputs.numbers }}
    outputs: [{numbers: {list: true}}]
  small:
    map: {n: list.numbers}
    command: '! grep -q ... {{ inputs.n }} && cp {{ inputs.n }} {{ outputs.result }}'
  all:
    inputs: {found: {gather: small, failed: skip}}
    command: cat {{ inputs.found }}/* > {{ outputs.result }}
  after:
    inputs: {all: all}
    command: cp {{ inputs.all }} {{ outputs.result }}
";

/// What failed again was named as what was added, and what is below the gather had lost its history.
#[test]
fn what_is_left_out_again_is_no_cause_of_what_gathers_nor_of_what_is_below() {
    let folder = Folder::with(&[("pipeline.yaml", SPARING), ("list.json", "[1, 200, 3]")]);
    let _ = folder.cas("run -j 1").code(1);
    folder.write("list.json", "[1, 200, 4]");
    let ran = folder.cas("run -j 1").code(1);
    let causes: Vec<&str> =
        ran.stderr.lines().filter_map(|line| line.split_once("  input ")).map(|(_, why)| why).collect();
    assert_eq!(
        causes,
        [
            "from changed",
            "found: element 4 added (and 1 more)",
            "all: input found: element 4 added (and 1 more)"
        ],
        "{}",
        ran.transcript()
    );
    let ran = folder.cas("run -j 1").code(1);
    assert_eq!(ran.counts(), "5 reused, 0 ran, 1 failed");
}

/// What a run took is found by the plan's version: who asks for it does not know what was left out.
#[test]
fn what_a_run_took_below_a_gather_that_left_something_out_is_there_for_a_frozen_one() {
    let yaml = SPARING.replace("  after:\n", "  after:\n    version: volatile\n");
    let folder = Folder::with(&[("pipeline.yaml", &*yaml), ("list.json", "[1, 200, 3]")]);
    let _ = folder.cas("run -j 1").code(1);
    let _ = folder.cas("run -j 1").code(1);
    assert_eq!(folder.cas("run -j 1 --frozen=1 after").ok().counts(), "nothing to run: 4 reused");
}

/// Nothing but `publish` gave what such a gather had made.
#[test]
fn what_was_gathered_without_what_failed_is_got_by_its_name() {
    let yaml = |word: &str| {
        format!(
            "pipeline: part\nsolids:\n  m: {{matrix: {{i: [1, 2, 3]}}, command: 'test {{{{ matrix.i }}}} != 2 && echo {{{{ matrix.i }}}}', stdout: result}}\n  \
             all: {{inputs: {{m: {{gather: m, failed: skip}}}}, command: 'echo {word}; cat inputs/m/*', stdout: result}}\n  \
             after: {{inputs: {{a: all}}, command: cat inputs/a, stdout: result}}\n"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &*yaml("sum"))]);
    let _ = folder.cas("run").code(1);
    for step in ["all", "after"] {
        let cat = folder.cas(&format!("cat {step}")).ok();
        assert_eq!(cat.stdout, "sum\n1\n3\n");
        assert_eq!(cat.stderr, format!("`{step}.result` as run 1 made it: the next run may make another\n"));
        let _ = folder.cas(&format!("get {step} {step}.txt")).ok();
    }
    let _ = folder.cas("show after").ok();
    let _ = folder.cas("export part.cas --frozen").ok();
    // Nothing of that is reused for anything else: what failed is tried again, and may come out otherwise.
    assert_eq!(
        folder.cas("status --exit-code").code(1).stdout.lines().next(),
        Some("5 steps: 2 stored, 3 to-be-recomputed")
    );
    // What another command made is not what the name means.
    folder.write("pipeline.yaml", yaml("other"));
    assert!(folder.cas("cat all").code(1).stderr.contains("`all.result` is not stored"));
    // Nor what was made without an element that is another now.
    folder.write("pipeline.yaml", yaml("sum").replace("!= 2 &&", "!= 4 &&"));
    assert!(folder.cas("cat all").code(1).stderr.contains("`all.result` is not stored"));
}

/// An export promised that `cas run --frozen` takes it; that ran what had failed again, ended with 1, and only then it was there.
#[test]
fn an_export_of_what_was_gathered_without_what_failed_says_how_it_is_taken() {
    let yaml = "pipeline: part\nsolids:\n  m: {matrix: {i: [1, 2, 3]}, command: 'test {{ matrix.i }} != 2 && echo {{ matrix.i }}', \
                stdout: result}\n  all: {inputs: {m: {gather: m, failed: skip}}, command: cat inputs/m/*, stdout: result}\n";
    let anew = "  v: {version: volatile, command: date +%N, stdout: result}\n  below: {inputs: {v: v}, command: cat inputs/v, \
                stdout: result}\n";
    let tried = "what was made without what failed goes along: a run there tries that again, and takes it if the same \
                 fails\n";
    let left =
        "what stands below what changes with time goes along as it was left: `cas run --frozen` takes it\n";
    for (yaml, said, counts) in [
        (yaml.to_owned(), tried.to_owned(), "1 reused, 0 ran, 1 failed"),
        (format!("{yaml}{anew}"), format!("{left}{tried}"), "2 reused, 1 unchanged, 0 ran, 1 failed"),
    ] {
        let here = Folder::with(&[("pipeline.yaml", &*yaml)]);
        let _ = here.cas("run -k").code(1);
        assert_eq!(here.cas("export part.cas").ok().stderr, said);
        assert_eq!(here.cas("export frozen.cas --frozen").ok().stderr, tried);
        let there = Folder::with(&[("pipeline.yaml", &*yaml)]);
        there.write("part.cas", std::fs::read(here.path("part.cas")).expect("it is there"));
        let _ = there.cas("import part.cas").ok();
        assert!(there.cas("cat all").code(1).stderr.contains("`all.result` is not stored"));
        let ran = there.cas("run -j 1 -k --frozen").code(1);
        assert_eq!(ran.counts(), counts, "{}", ran.transcript());
        assert_eq!(there.cas("cat all").ok().stdout, "1\n3\n");
    }
}

/// It counted as one step: a forecast said 3 steps where 7 then ran, and so that it takes the time of one element.
#[test]
fn a_forecast_counts_the_elements_that_a_list_had_last() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "\
pipeline: p
solids:
  split:
    config: {n: {type: int, default: 3}}
    command: 'mkdir outputs/parts; n={{ config.n }}; for i in $(seq $n); do echo $i > outputs/parts/$i; done'
    outputs: [{parts: {list: true}}]
  count: {map: {part: split.parts}, command: 'cat {{ inputs.part }}', stdout: result}
  again: {map: {part: split.parts}, inputs: {c: count}, command: 'cat {{ inputs.c }} x || true', stdout: result}
  total: {inputs: {all: 'again[*]'}, command: 'ls {{ inputs.all }}', stdout: result}
",
    )]);
    let forecast = |line: &str| -> serde_json::Value {
        let json = folder.cas(line).ok().stdout;
        let last = json.lines().last().expect("it gives a document");
        let document: serde_json::Value = serde_json::from_str(last).expect("it is a document");
        document["forecast"].clone()
    };
    // Before the first, nobody knows.
    let foreseen = forecast("run -n -j 2 --format json");
    assert_eq!((&foreseen["steps"], &foreseen["by_last_list"]), (&4.into(), &0.into()));
    assert_eq!(folder.cas("run").ok().counts(), "0 reused, 8 ran");

    let foreseen = forecast("run -n -j 2 --set split.n=5 --format json");
    assert_eq!((&foreseen["steps"], &foreseen["by_last_list"]), (&8.into(), &6.into()));
    // Each element has those of its own above it and no others: two go on at once.
    let [elapsed, work] = ["elapsed_ms", "work_ms"].map(|name| foreseen[name].as_u64().expect("it is known"));
    assert!(elapsed < work, "{foreseen}");
    let told = folder.cas("run -n -j 2 --set split.n=5").ok().stdout;
    let told = told.lines().skip_while(|line| !line.starts_with("about ")).collect::<Vec<_>>().join(" ");
    assert!(told.ends_with("; 6 elements counted by the last list"), "{told}");
    // In a sweep each combination has its own.
    let foreseen = forecast("run -n -j 2 --sweep split.n=4,5 --format json");
    assert_eq!((&foreseen["steps"], &foreseen["by_last_list"]), (&16.into(), &12.into()));
    // It is the last one that counts, and none are none.
    assert_eq!(folder.cas("run --set split.n=0").ok().counts(), "0 reused, 2 ran");
    let foreseen = forecast("run -n -j 2 --set split.n=5 --format json");
    assert_eq!((&foreseen["steps"], &foreseen["by_last_list"]), (&2.into(), &0.into()));
}
