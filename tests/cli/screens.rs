//! What is told, as it stands on a screen: nothing that a name holds moves the cursor, and many elements are no flood.

use crate::kit::Folder;

#[test]
fn a_label_that_would_break_a_line_is_written_and_read_back_everywhere() {
    let yaml = "pipeline: p\nsolids:\n  each:\n    matrix: {x: [\"a\\nb\", \"red \\e[31m\", \"\\u202Eback\", 日本]}\n    \
                command: 'printf %s {{ config.x }}'\n    stdout: result\n  all: {inputs: {x: 'each[*]'}, command: 'ls \
                inputs/x', stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let first = folder.cas("run -v -j 1").ok();
    let written =
        [r#"each[x="a\nb"]"#, r#"each[x="red \u001b[31m"]"#, r#"each[x="\u202eback"]"#, "each[x=日本]"];
    for name in written {
        assert!(first.stderr.contains(&format!("ran       {name}  ")), "{name}: {}", first.stderr);
    }
    for line in [
        "run -v --force",
        "status",
        "versions",
        "ls",
        "graph",
        "graph --as dot",
        "runs",
        "runs 1",
        "logs each",
        "explain all",
        "show all",
        "lineage all",
        "diff 1 2",
        "stats",
        "run -n --force",
    ] {
        let ran = folder.cas(line);
        for shown in ran.stdout.lines().chain(ran.stderr.lines()) {
            let bad = |c: char| c.is_control() || c == '\u{202e}';
            assert!(!shown.contains(bad), "cas {line}: {shown:?}");
        }
        assert!(ran.stdout.lines().chain(ran.stderr.lines()).all(|shown| shown != "b\"]"), "cas {line}");
    }
    // The name that is shown is the name that is typed.
    assert_eq!(folder.cas("cat 'each[x=\"a\\nb\"]'").ok().stdout, "a\nb");
    assert_eq!(folder.cas("run --force 'each[x=\"a\\nb\"]'").ok().steps(), ["each[x=\"a\\nb\"]"]);
}

#[test]
fn elements_that_ran_for_one_cause_are_told_as_one_at_the_end_and_are_no_flood() {
    let pipeline = |word: &str, last: u32| {
        let numbers: Vec<String> = (1..=last).map(|n| n.to_string()).collect();
        format!(
            "pipeline: p\nsolids:\n  each:\n    config: {{word: {{type: str, default: {word}}}}}\n    matrix: {{n: \
             [{}]}}\n    command: echo {{{{ config.word }}}} {{{{ config.n }}}}\n    stdout: result\n",
            numbers.join(", ")
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &pipeline("low", 12))]);
    let elements = |last: u32| (1..=last).map(|n| format!("each[n={n}]")).collect::<Vec<_>>();
    let verbose = folder.cas("run -v -j 1").ok();
    assert_eq!(verbose.steps(), elements(12));
    // Two new ones, and all others for another value.
    folder.write("pipeline.yaml", pipeline("high", 14));
    let ran = folder.cas("run -j 1").ok();
    let whys: Vec<&str> = ran.stderr.lines().filter_map(|line| line.strip_prefix("why       ")).collect();
    assert_eq!(whys, ["each[*]  12 of 14: config.word: low → high", "each[*]  2 of 14: for the first time"]);
    // Ten of the twelve, and the new ones, stand there one by one; all do with -v.
    assert_eq!(
        ran.steps(),
        [
            "each[n=1]",
            "each[n=2]",
            "each[n=3]",
            "each[n=4]",
            "each[n=5]",
            "each[n=6]",
            "each[n=7]",
            "each[n=8]",
            "each[n=9]",
            "each[n=10]",
            "each[n=13]",
            "each[n=14]"
        ]
    );
    assert_eq!(ran.counts(), "0 reused, 14 ran");
    assert_eq!(folder.cas("run -v --force -j 1").ok().steps(), elements(14));
    assert_eq!(folder.cas("run -v").ok().steps(), Vec::<&str>::new());
}

/// Hundreds of lines said of one element each that it had come out as before, and a line each what it would run for.
#[test]
fn elements_that_turn_out_unchanged_or_run_below_others_are_one_line() {
    let numbers = (1..=14).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let yaml = format!(
        "pipeline: p\nsolids:\n  a: {{matrix: {{n: [{numbers}]}}, config: {{k: {{type: int, default: 1}}}}, command: 'echo \
         {{{{ config.n }}}}', stdout: result}}\n  b: {{matrix: {{n: [{numbers}]}}, inputs: {{x: a}}, command: cat inputs/x, \
         stdout: result}}\n"
    );
    let folder = Folder::with(&[("pipeline.yaml", &yaml)]);
    let _ = folder.cas("run a[n=3] b[n=3]").ok();
    let status = folder.cas("status").ok().stdout;
    let told = [
        "28 steps: 2 stored, 26 to-be-recomputed",
        "a[*]  13 of 14  it has not run yet",
        "b[*]  13 of 14  `a[*]`: it has not run yet",
    ];
    assert_eq!(status.lines().collect::<Vec<_>>(), told);
    let foreseen = folder.cas("run -n").ok().stdout;
    assert_eq!(foreseen.lines().take(3).collect::<Vec<_>>(), told);
    let each = folder.cas("status -v").ok().stdout;
    assert_eq!(each.lines().nth(14), Some("b[n=1]   `a[n=1]`: it has not run yet"));
    assert_eq!(each.lines().count(), 27);
    assert_eq!(folder.cas("status --format json").ok().stdout.matches("\"step\":\"").count(), 26);

    let _ = folder.cas("run").ok();
    let of = |ran: &str, word: &str| {
        ran.lines().filter(|line| line.starts_with(word)).map(str::to_owned).collect::<Vec<_>>()
    };
    let ran = folder.cas("run --set a.k=2").ok();
    let unchanged = of(&ran.stderr, "unchanged");
    assert_eq!(unchanged.len(), 11, "{unchanged:?}");
    assert_eq!(unchanged[10], "unchanged b[*]  14 of 14  its inputs came out the same");
    let verbose = folder.cas("run -v --set a.k=3").ok();
    assert_eq!(of(&verbose.stderr, "unchanged").len(), 14);
    // A few are told each, and not once more.
    let few = folder.cas("run --set a.k=4 b[n=1] b[n=2]").ok();
    assert_eq!(of(&few.stderr, "unchanged").len(), 2);
}

#[test]
fn the_tail_of_a_failure_is_what_a_screen_would_have_shown() {
    let yaml = r#"
pipeline: p
solids:
  a: {command: "printf '10%%\\r100%%\\r\\n'; printf '\\033[31mred\\033[0m\\n'; exit 1", outputs: []}
"#;
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let ran = folder.cas("run").code(1);
    let tail: Vec<&str> = ran.stderr.lines().filter_map(|line| line.strip_prefix("  | ")).collect();
    assert_eq!(tail, ["100%", "red"]);
}
