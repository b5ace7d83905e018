//! `cas report`: a run as data, as a page and as a trace; of a run that is over, one that goes on, and one whose bytes
//! are gone. What the page looks like is looked at in a browser (`tests/browser`).

use std::process::Stdio;

use serde_json::Value;

use crate::dogs;
use crate::kit::Folder;

/// What a page is drawn from.
struct Report(Value);

impl Report {
    fn of(folder: &Folder, line: &str) -> Self {
        let ran = folder.cas(&format!("report --format json {line}")).ok();
        let document: Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
        Self(document["report"][0].clone())
    }

    fn text(&self, index: &Value) -> Option<&str> {
        self.0["texts"].get(usize::try_from(index.as_i64()?).ok()?)?.as_str()
    }

    /// Each step with its outcome and why.
    fn steps(&self) -> Vec<String> {
        const OUTCOMES: [&str; 10] = [
            "reused",
            "unchanged",
            "ran",
            "joined",
            "failed",
            "skipped",
            "cancelled",
            "running",
            "waiting",
            "not-needed",
        ];
        let rows = self.0["steps"].as_array().expect("there are steps");
        rows.iter()
            .map(|row| {
                let of = row[1].as_i64().expect("it is a number");
                let invocation = usize::try_from(of)
                    .map_or("", |of| self.0["invocations"][of][0].as_str().expect("a name"));
                let outcome =
                    OUTCOMES[usize::try_from(row[3].as_u64().expect("it is one")).expect("it fits")];
                let why = self.text(&row[9]).map(|why| format!(": {why}")).unwrap_or_default();
                format!("{invocation}{} {outcome}{why}", row[0].as_str().expect("it is a text"))
            })
            .collect()
    }

    /// What differs from the run before, of each step.
    fn since(&self) -> Vec<String> {
        let rows = self.0["steps"].as_array().expect("there are steps");
        let words = |since: &Value| match since {
            Value::Array(facts) => {
                facts.iter().filter_map(|fact| self.text(fact)).collect::<Vec<_>>().join("; ")
            }
            number => {
                ["unknown", "same", "new", "other"][number.as_u64().map_or(0, |n| n as usize)].to_owned()
            }
        };
        rows.iter().map(|row| words(&row[13])).collect()
    }
}

#[test]
fn a_report_tells_what_ran_why_and_what_is_other_than_before() {
    let folder = dogs();
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["emit_dog", "emit_tree", "emit_sentence"]);
    let ran = folder.cas("run -j 1 --set emit_tree.tree_species=red_maple").ok();
    assert_eq!(ran.steps(), ["emit_tree", "emit_sentence"]);
    let report = Report::of(&folder, "");
    assert_eq!(
        report.steps(),
        [
            "emit_dog reused",
            "emit_tree ran: config.tree_species: douglas_fir → red_maple",
            "emit_sentence ran: input tree: config.tree_species: douglas_fir → red_maple",
        ]
    );
    assert_eq!(
        report.since(),
        [
            "same",
            "config.tree_species: douglas_fir → red_maple",
            "input tree: config.tree_species: douglas_fir → red_maple",
        ]
    );
    // What each consumed, by index, and how large what it made is.
    let of = |row: usize, column: usize| report.0["steps"][row][column].clone();
    assert_eq!([of(0, 2), of(1, 2), of(2, 2)], ["", "", "0-1"]);
    assert_eq!(
        [of(0, 10), of(1, 10), of(2, 10)],
        [serde_json::json!([7]), serde_json::json!([10]), serde_json::json!([17])]
    );
    assert_eq!((&report.0["run"], &report.0["previous"]["run"]), (&2.into(), &1.into()));
    // The run before is still there to be told, as it was.
    let first = Report::of(&folder, "1");
    assert_eq!(first.steps()[0], "emit_dog ran: for the first time");
    assert_eq!(first.0["previous"], Value::Null);
}

#[test]
fn the_page_is_one_file_and_says_where_it_is() {
    let folder = dogs();
    let _ = folder.cas("run -q").ok();
    let written = folder.cas("report -o report.html").ok();
    assert!(written.stdout.starts_with("report.html: run 1 of dogs, "), "{}", written.transcript());
    let page = folder.read("report.html");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
    assert_eq!(folder.cas("report").ok().stdout.len(), page.len());
    assert_eq!(folder.names("").iter().filter(|name| name.starts_with("report.html")).count(), 1);
    let failed = folder.cas("report -o none/report.html").code(1);
    assert!(failed.stderr.contains("cannot write `none/report.html`"), "{}", failed.stderr);
    let unknown = folder.cas("report 7").code(2);
    assert!(unknown.stderr.contains("there is no run 7"), "{}", unknown.stderr);
    let none = Folder::with(&[("pipeline.yaml", crate::DOGS)]).cas("report").code(1);
    assert!(none.stderr.contains("there were no runs"), "{}", none.stderr);
}

#[test]
fn what_was_collected_is_told_to_be_gone() {
    let folder = dogs();
    let _ = folder.cas("run -q").ok();
    let _ = folder.cas("gc --max-size 0 -q").ok();
    let report = Report::of(&folder, "");
    assert_eq!(report.steps()[0], "emit_dog ran: for the first time");
    // Less than nothing: so large it was, and the bytes are gone.
    assert_eq!(report.0["steps"][0][10], serde_json::json!([-8]));
    let why = report.text(&report.0["steps"][0][12][1]).expect("it says why").to_owned();
    assert!(why.contains("--max-size"), "{why}");
}

#[test]
fn a_run_that_goes_on_is_told_as_far_as_it_is() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "pipeline: long\nsolids:\n  a: {command: echo a, stdout: result}\n  \
         b: {inputs: {x: a}, command: \"cat \\\"$GATE\\\" > {{ outputs.result }}\", pass_env: [GATE]}\n  \
         c: {inputs: {x: b}, command: \"cat {{ inputs.x }}\", stdout: result}\n",
    )]);
    let gate = folder.path("gate");
    let made = std::process::Command::new("mkfifo").arg(&gate).status().expect("mkfifo can be started");
    assert!(made.success());
    let mut child = folder
        .command(env!("CARGO_BIN_EXE_cas").as_ref())
        .args(["run", "-q"])
        .env("GATE", &gate)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("cas can be started");
    // It is noted after a second, by when `b` waits at the gate; each look is a whole command.
    let began = std::time::Instant::now();
    let report = loop {
        assert!(began.elapsed() < std::time::Duration::from_secs(120), "the run is not noted");
        let ran = folder.cas("report --format json");
        if ran.code == 0 && ran.stdout.contains("\"b\"") {
            break Report::of(&folder, "");
        }
    };
    assert_eq!(report.steps(), ["a ran: for the first time", "b running: for the first time", "c waiting"]);
    assert_eq!(report.0["ended"], Value::Null);
    let trace: Value =
        serde_json::from_str(&folder.cas("report --as trace").ok().stdout).expect("it is JSON");
    let running = trace["traceEvents"]
        .as_array()
        .expect("there are events")
        .iter()
        .find(|event| event["cat"] == "running");
    assert_eq!(running.map(|event| event["name"].clone()), Some("b".into()));
    std::fs::write(&gate, "opened\n").expect("somebody reads it");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(Report::of(&folder, "").steps()[2], "c ran: for the first time");
}

#[test]
fn a_trace_has_a_lane_a_worker_and_pairs_for_what_waited() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "pipeline: lanes\nsolids:\n  \
         one: {command: echo 1, stdout: result, retries: 1}\n  \
         two: {inputs: {x: one}, matrix: {n: [1, 2, 3]}, command: \"echo {{ config.n }}\", stdout: result}\n  \
         bad: {command: exit 3, outputs: [], retries: 1}\n",
    )]);
    let ran = folder.cas("run -k -j 1 --trace trace.json").code(1);
    assert_eq!(ran.steps(), ["one", "two[n=1]", "two[n=2]", "two[n=3]"]);
    let trace: Value = serde_json::from_str(&folder.read("trace.json")).expect("it is JSON");
    assert_eq!(folder.cas("report --as trace").ok().stdout, folder.read("trace.json"));
    let events = trace["traceEvents"].as_array().expect("there are events");
    // By the format: every event has a phase, a process, a thread and a time; complete ones have a duration.
    for event in events {
        let phase = event["ph"].as_str().expect("it has a phase");
        assert!(["M", "X", "b", "e", "i"].contains(&phase), "{event}");
        assert!(event["name"].is_string() && event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
        assert!(event["ts"].is_u64(), "{event}");
        assert_eq!(event["dur"].is_u64(), phase == "X", "{event}");
        assert_eq!(event["id"].is_u64(), ["b", "e"].contains(&phase), "{event}");
    }
    let lanes: Vec<&Value> = events
        .iter()
        .filter(|event| event["name"] == "thread_name")
        .map(|event| &event["args"]["name"])
        .collect();
    assert_eq!(lanes, ["settled without running", "worker 1"]);
    // Each attempt, in the order in which the one worker had them.
    let mut attempts: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
    attempts.sort_by_key(|event| event["ts"].as_u64());
    let told: Vec<String> = attempts
        .iter()
        .map(|event| format!("{} {}", event["name"].as_str().unwrap_or_default(), event["args"]["attempt"]))
        .collect();
    assert_eq!(told, ["one 1", "two[n=1] 1", "two[n=2] 1", "two[n=3] 1", "bad 1", "bad 2"]);
    let attempts = |name: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["ph"] == "X" && event["name"] == name).collect()
    };
    assert_eq!(attempts("bad").iter().map(|event| &event["args"]["attempt"]).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(attempts("bad")[1]["args"]["failure"], "exit status 3");
    let two = attempts("two[n=2]");
    assert_eq!(two[0]["args"]["why"], "for the first time");
    assert_eq!(two[0]["args"]["version"].as_str().map(str::len), Some(64));
    // On one lane no two attempts overlap, and what waited began and ended to wait.
    let mut spans: Vec<(u64, u64)> = events
        .iter()
        .filter(|event| event["ph"] == "X")
        .map(|event| (event["ts"].as_u64().unwrap_or(0), event["dur"].as_u64().unwrap_or(0)))
        .collect();
    spans.sort_unstable();
    assert_eq!(spans.len(), 6);
    // Times are kept to the millisecond: two may share one.
    assert!(spans.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0 + 1000), "{spans:?}");
    let waits = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
    assert_eq!((waits("b"), waits("e")), (5, 5));
}

/// A program is built with it or without it: what it cannot do it says before anything runs.
#[cfg(not(feature = "otel"))]
#[test]
fn a_program_that_was_built_without_opentelemetry_says_how_to_get_one() {
    let folder =
        Folder::with(&[("pipeline.yaml", "pipeline: p\nsolids: {a: {command: echo 1, stdout: result}}\n")]);
    let refused = folder.cas("run --otel").code(2);
    assert!(
        refused.stderr.contains("error: this program was built without OpenTelemetry\nhint: `cargo install")
    );
    assert!(refused.steps().is_empty());
}

/// In a project whose store others use as well, the page was of whatever had run there last.
#[test]
fn without_a_run_it_is_the_last_one_of_the_pipeline_at_hand() {
    let folder = Folder::with(&[
        (
            "one/pipeline.yaml",
            "pipeline: one\nstore: ../store\nsolids: {a: {command: echo 1, stdout: result}}\n",
        ),
        (
            "two/pipeline.yaml",
            "pipeline: two\nstore: ../store\nsolids: {b: {command: echo 2, stdout: result}}\n",
        ),
        (
            "three/pipeline.yaml",
            "pipeline: three\nstore: ../store\nsolids: {c: {command: echo 3, stdout: result}}\n",
        ),
    ]);
    for (project, line) in [("one", "run"), ("one", "run --force"), ("two", "run")] {
        let _ = folder.cas_in(project, line).ok();
    }
    let told = |project: &str, line: &str| folder.cas_in(project, line).ok().stdout;
    assert!(told("one", "report -o r.html").starts_with("r.html: run 2 of one, "));
    assert!(told("two", "report -o r.html").starts_with("r.html: run 3 of two, "));
    assert!(told("one", "report 1 -o r.html").starts_with("r.html: run 1 of one, "));
    assert!(told("one", "report --store ../store -o r.html").starts_with("r.html: run 2 of one, "));
    // One that has not run has none of its own.
    assert!(told("three", "report -o r.html").starts_with("r.html: run 3 of two, "));
}

/// All runs of a sweep have the same command line, and their pages were told apart by the number only.
#[test]
fn the_page_of_a_run_of_a_sweep_says_which_combination_it_was() {
    let folder = dogs();
    let _ = folder.cas("run -j 1 --sweep emit_dog.dog_breed=pug,<b>collie</b>").ok();
    assert_eq!(Report::of(&folder, "1").0["combination"], "emit_dog.dog_breed=pug");
    let second = Report::of(&folder, "2").0;
    assert_eq!(second["combination"], "emit_dog.dog_breed=<b>collie</b>");
    let how =
        serde_json::json!([["combination", "emit_dog.dog_breed=pug", "emit_dog.dog_breed=<b>collie</b>"]]);
    assert_eq!(second["previous"]["how"], how);
    let page = folder.cas("report 2").ok().stdout;
    let title = "<title>dogs · run 2 · emit_dog.dog_breed=&lt;b&gt;collie&lt;/b&gt;</title>";
    assert!(page.contains(title), "{}", &page[..1000]);
    assert!(!page.contains("<b>collie"));
    let diff = folder.cas("diff 1 2").code(1).stdout;
    let combination = "  combination: emit_dog.dog_breed=pug → emit_dog.dog_breed=<b>collie</b>";
    assert_eq!(diff.lines().nth(1), Some(combination), "{diff}");
    let _ = folder.cas("run -j 1").ok();
    assert_eq!(Report::of(&folder, "3").0["combination"], serde_json::Value::Null);
}
