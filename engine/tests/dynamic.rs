//! Steps that are mapped over a list which another step yields at run time: each story says which steps were
//! executed, in order, and then that nothing is left to do. Commands, store and run are real.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cas_engine::config::RunConfig;
use cas_engine::event::Event;
use cas_engine::execute::Cancel;
use cas_engine::file;
use cas_engine::graph::{Graph, OutputId};
use cas_engine::memo::{Memo, Resolved, Wanted};
use cas_engine::plan::Plan;
use cas_engine::run::{RunOptions, RunReport, now_ms, run};
use cas_engine::select::Selection;
use cas_engine::source::{Environment, Measure, measure};
use cas_store::{Create, Hosting, Open, Store};

/// A project with a pipeline and a store.
struct Kit {
    project: tempfile::TempDir,
    yaml: String,
    events: Vec<Event>,
    jobs: usize,
    keep_going: bool,
    force: bool,
    only: bool,
    steps: Vec<&'static str>,
    open: Option<Store>,
    last: Option<RunReport>,
}

impl Kit {
    fn new(yaml: &str) -> Self {
        Self {
            project: tempfile::tempdir().unwrap(),
            yaml: yaml.to_owned(),
            events: Vec::new(),
            jobs: 1,
            keep_going: false,
            force: false,
            only: false,
            steps: Vec::new(),
            open: None,
            last: None,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.project.path().join(path)
    }

    /// Puts a file into the project, in the place of what is there.
    fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        fs::write(path, text).unwrap();
    }

    fn with(self, files: &[(&str, &str)]) -> Self {
        files.iter().for_each(|(path, text)| self.file(path, text));
        self
    }

    fn store(&mut self) -> Store {
        let dir = self.path(".cas");
        let open = || {
            if !dir.exists() {
                kit::keep_all_in_files(&dir);
            }
            let wait = Duration::from_secs(10);
            let owner = "a test".to_owned();
            Store::open(
                &dir,
                Open {
                    create: Create::IfAbsent,
                    wait,
                    owner,
                    on_wait: &mut |_| {},
                    hosting: Hosting::Willing,
                },
            )
            .unwrap()
        };
        self.open.get_or_insert_with(open).clone()
    }

    fn graph(&self) -> Graph {
        let parsed = file::pipeline(Path::new("pipeline.yaml"), &self.yaml, &mut |_| unreachable!());
        let mut pipeline = parsed.unwrap_or_else(|wrong| panic!("{wrong:?}"));
        pipeline.folder = self.project.path().to_owned();
        pipeline.home.clone_from(&pipeline.folder);
        Graph::new(Arc::new(pipeline), None, &RunConfig::default())
            .unwrap_or_else(|wrong| panic!("{wrong:?}"))
    }

    /// What is asked of a graph in which no list is known.
    fn plan(&mut self) -> (Plan, Memo, Wanted) {
        let memo = Memo::new(self.store());
        let graph = self.graph();
        let selection = Selection {
            steps: self.steps.iter().map(|step| (*step).to_owned()).collect(),
            exclude: Vec::new(),
        };
        let selected = selection.of(&graph).unwrap();
        let force = match (self.force, selected.wanted.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => selected.plan.clone(),
            (true, false) => selected.wanted.clone(),
        };
        let wanted = Wanted {
            steps: selected.wanted,
            force,
            only: self.only,
            at_ms: now_ms(),
            again: Some(selection.asking(self.force)),
            ..Wanted::default()
        };
        let environment = environment();
        let how = Measure { store: Some(self.path(".cas")), ..Measure::new(&environment) };
        let measures = measure(&graph, &selected.plan, &how).unwrap();
        (Plan::new(Arc::new(graph), Arc::new(measures), selected.plan), memo, wanted)
    }

    fn run(&mut self) -> RunReport {
        let (plan, memo, wanted) = self.plan();
        let options = RunOptions {
            wanted,
            jobs: self.jobs,
            memory: None,
            limits: BTreeMap::new(),
            shared: true,
            keep_going: self.keep_going,
            show_output: false,
            overwrite: false,
            replay_logs: false,
            each_reused: true,
            each_expected: false,
            reproduce: false,
            environment: environment(),
            cancel: Arc::new(Cancel::default()),
            command_line: vec!["cas".to_owned(), "run".to_owned()],
            combination: None,
            home: None,
            turn: None,
        };
        self.events.clear();
        let events = &mut self.events;
        let report = run(&plan, &memo, &options, &mut |event| events.push(event.clone())).unwrap();
        self.last = Some(report.clone());
        report
    }

    /// The bytes of the first output of a step as the last run left it.
    fn made(&mut self, step: &str) -> String {
        let report = self.last.clone().unwrap();
        let step = report.graph.select(step).unwrap()[0];
        let digest = report.outputs[&step][0].artifact.clone().unwrap().digest;
        String::from_utf8(self.store().bytes(&digest).unwrap().to_vec()).unwrap()
    }

    /// Runs, and gives what ran.
    fn ran(&mut self) -> Vec<String> {
        self.run();
        let started = |event: &Event| match event {
            Event::StepStarted { step, .. } => Some(step.clone()),
            _ => None,
        };
        self.events.iter().filter_map(started).collect()
    }

    /// Runs, and gives what became of each step, in the order of the plan: `a: ran`.
    fn outcomes(&mut self) -> Vec<String> {
        let report = self.run();
        let line = |(step, outcome): (&cas_engine::graph::StepId, &cas_engine::event::Outcome)| {
            format!("{}: {}", report.graph.step_name(*step), outcome.word())
        };
        report.outcomes.iter().map(line).collect()
    }

    fn resolve(&mut self) -> (Plan, Resolved) {
        let (plan, memo, wanted) = self.plan();
        let (plan, _, resolved) = memo.resolve_grown(plan, wanted).unwrap();
        (plan, resolved)
    }

    /// The table of `cas versions`: `-` for a version that is not known.
    fn statuses(&mut self) -> Vec<String> {
        let (plan, resolved) = self.resolve();
        let mut rows = Vec::new();
        for &step in &plan.steps {
            for output in 0..plan.graph.solid(step).outputs.len() {
                let output = OutputId { step, output: u16::try_from(output).unwrap() };
                let known = if plan.output_version(output).is_some() { "" } else { " -" };
                rows.push(format!(
                    "{}:{known} {}",
                    plan.graph.output_name(output),
                    resolved.status(output).word()
                ));
            }
        }
        rows
    }

    /// The bytes of an output.
    fn bytes(&mut self, output: &str) -> String {
        let (plan, resolved) = self.resolve();
        let output = plan.graph.select_outputs(output).unwrap()[0];
        let digest = resolved.artifact(output).unwrap().digest;
        let bytes = self.store().bytes(&digest).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Takes the bytes of an output away.
    fn lose(&mut self, output: &str) {
        let (plan, resolved) = self.resolve();
        let output = plan.graph.select_outputs(output).unwrap()[0];
        let digest = resolved.artifact(output).unwrap().digest;
        kit::spoil(&self.store(), &digest);
    }

    fn replace(&mut self, from: &str, to: &str) {
        assert!(self.yaml.contains(from), "{from}");
        self.yaml = self.yaml.replace(from, to);
    }

    fn failure(&self, step: &str) -> String {
        let failure = self.events.iter().find_map(|event| match event {
            Event::StepFinished { step: name, failure: Some(report), .. } if name == step => {
                Some(report.failure.message.clone())
            }
            _ => None,
        });
        failure.unwrap_or_default()
    }
}

fn environment() -> Environment {
    let path = std::env::var("PATH").unwrap();
    Environment { vars: BTreeMap::from([("PATH".to_owned(), path)]) }
}

const NOTHING: [&str; 0] = [];

/// A folder is split into its entries, each is worked on, and all are gathered.
const STORY: &str = r#"
pipeline: story
solids:
  split:
    inputs: {data: {path: data}}
    command: cp -R {{ inputs.data }} {{ outputs.parts }}
    outputs: [{parts: {list: true}}]
  train:
    map: {part: split.parts}
    command: tr a-z A-Z < {{ inputs.part }} > {{ outputs.result }}
  report:
    inputs: {all: "train[*]"}
    command: |
      for file in {{ inputs.all }}/*; do
        if [ -e "$file" ]; then echo "${file##*/} $(cat "$file")"; fi
      done > {{ outputs.result }}
"#;

fn story() -> Kit {
    Kit::new(STORY).with(&[("data/a.txt", "one"), ("data/b.txt", "two"), ("data/c.txt", "three")])
}

#[test]
fn a_list_is_yielded_mapped_and_gathered_in_order_and_then_nothing_is_left_to_do() {
    let mut kit = story();
    assert_eq!(kit.ran(), ["split", "train[part=a.txt]", "train[part=b.txt]", "train[part=c.txt]", "report"]);
    assert_eq!(kit.bytes("report"), "a.txt ONE\nb.txt TWO\nc.txt THREE\n");
    assert_eq!(kit.ran(), NOTHING);
    let reused = ["split", "train[part=a.txt]", "train[part=b.txt]", "train[part=c.txt]", "report"];
    assert_eq!(kit.outcomes(), reused.map(|step| format!("{step}: reused")));
}

#[test]
fn one_changed_element_runs_one_step_and_the_gather() {
    let mut kit = story();
    kit.run();
    kit.file("data/b.txt", "second");
    assert_eq!(kit.ran(), ["split", "train[part=b.txt]", "report"]);
    assert_eq!(kit.bytes("report"), "a.txt ONE\nb.txt SECOND\nc.txt THREE\n");
    assert_eq!(kit.ran(), NOTHING);
    // Back again: every element was there before, and so was what was gathered.
    kit.file("data/b.txt", "two");
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn an_inserted_element_runs_one_step_and_moves_no_other() {
    let mut kit = story();
    kit.run();
    kit.file("data/aa.txt", "between");
    assert_eq!(kit.ran(), ["split", "train[part=aa.txt]", "report"]);
    assert_eq!(kit.bytes("report"), "a.txt ONE\naa.txt BETWEEN\nb.txt TWO\nc.txt THREE\n");
    fs::remove_file(kit.path("data/a.txt")).unwrap();
    assert_eq!(kit.ran(), ["split", "report"]);
    // What an element is called is nothing that its step sees.
    fs::rename(kit.path("data/b.txt"), kit.path("data/z.txt")).unwrap();
    assert_eq!(kit.ran(), ["split", "report"]);
    assert_eq!(kit.bytes("report"), "aa.txt BETWEEN\nc.txt THREE\nz.txt TWO\n");
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn what_is_mapped_over_an_unchanged_list_is_reused() {
    let mut kit = story();
    kit.run();
    kit.replace("cp -R {{", "cp -R  {{");
    assert_eq!(
        kit.outcomes(),
        [
            "split: ran",
            "train[part=a.txt]: reused",
            "train[part=b.txt]: reused",
            "train[part=c.txt]: reused",
            "report: reused"
        ]
    );
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn until_the_list_is_known_there_is_one_row_without_a_version() {
    let mut kit = story();
    assert_eq!(
        kit.statuses(),
        [
            "split.parts: to-be-recomputed",
            "train[*].result: - to-be-recomputed",
            "report.result: - to-be-recomputed"
        ]
    );
    kit.run();
    let stored = ["split.parts", "train[part=a.txt].result", "train[part=b.txt].result"];
    assert_eq!(kit.statuses()[..3], stored.map(|output| format!("{output}: stored")));
    kit.replace("cp -R {{", "cp -R  {{");
    assert_eq!(
        kit.statuses(),
        [
            "split.parts: to-be-recomputed",
            "train[*].result: - to-be-recomputed",
            "report.result: - to-be-recomputed"
        ]
    );
}

#[test]
fn a_list_without_elements_is_gathered_as_nothing() {
    let mut kit = Kit::new(STORY);
    fs::create_dir(kit.path("data")).unwrap();
    assert_eq!(kit.ran(), ["split", "report"]);
    assert_eq!(kit.bytes("report"), "");
    assert_eq!(kit.ran(), NOTHING);
    assert_eq!(kit.statuses(), ["split.parts: stored", "report.result: stored"]);
    // Asked for the steps of an empty list, the list is what is made.
    kit.steps = vec!["train"];
    assert_eq!(kit.outcomes(), ["split: reused"]);
    kit.steps.clear();
    kit.file("data/a.txt", "one");
    assert_eq!(kit.ran(), ["split", "train[part=a.txt]", "report"]);
    fs::remove_file(kit.path("data/a.txt")).unwrap();
    assert_eq!(kit.ran(), NOTHING);
    assert_eq!(kit.bytes("report"), "");
}

#[test]
fn the_items_of_a_json_list_are_elements() {
    let mut kit = Kit::new(
        r#"
pipeline: p
solids:
  list:
    inputs: {data: {path: list.json}}
    command: cp {{ inputs.data }} {{ outputs.items }}
    outputs: [{items: {list: true}}]
  one:
    map: {item.json: list.items}
    command: 'echo "<$(cat inputs/item.json)>" > {{ outputs.result }}'
  all:
    inputs: {ones.txt: "one[*]"}
    command: 'cat inputs/ones.json inputs/ones/*.txt > {{ outputs.result }}'
"#,
    )
    .with(&[("list.json", r#"["de", "at", {"x": 1.50}]"#)]);
    let digest = cas_store::Digest::of(br#"{"x": 1.50}"#).to_hex();
    let third = format!("one[item={}]", &digest[..12]);
    assert_eq!(kit.ran(), ["list", "one[item=de]", "one[item=at]", &third, "all"]);
    let all = kit.bytes("all");
    assert!(all.contains("<de>") && all.contains("<at>") && all.contains(r#"<{"x": 1.50}>"#), "{all}");
    assert!(all.find("\"de\"").unwrap() < all.find("\"at\"").unwrap(), "in the order of the list: {all}");
    assert_eq!(kit.ran(), NOTHING);
    // An item at the beginning moves no other; one that is there twice runs once.
    kit.file("list.json", r#"["new", "de", "at", {"x": 1.50}, "de"]"#);
    assert_eq!(kit.ran(), ["list", "one[item=new]", "all"]);
    assert_eq!(kit.statuses()[5], "one[item=de~2].result: stored");
    // Only how a list is written is new: what it holds is the same.
    kit.file("list.json", r#"[ "new","de","at",{"x": 1.50},"de" ]"#);
    assert_eq!(kit.ran(), ["list"]);
}

#[test]
fn a_mapped_step_can_yield_a_list_in_turn() {
    let mut kit = Kit::new(
        r#"
pipeline: p
solids:
  books:
    inputs: {data: {path: books}}
    command: cp -R {{ inputs.data }} {{ outputs.books }}
    outputs: [{books: {list: true}}]
  pages:
    map: {book: books}
    command: cp -RL {{ inputs.book }} {{ outputs.pages }}
    outputs: [{pages: {list: true}}]
  read:
    map: {page: pages}
    command: 'wc -c < {{ inputs.page }} > {{ outputs.result }}'
  sums:
    map: {book: books}
    inputs: {of: "read[*]"}
    command: 'cat {{ inputs.of }}/* > {{ outputs.result }}'
  all:
    inputs: {sums: "sums[*]"}
    command: 'cat {{ inputs.sums }}/* > {{ outputs.result }}'
"#,
    )
    .with(&[("books/a/1", "x"), ("books/a/2", "xx"), ("books/b/1", "xxx")]);
    assert_eq!(
        kit.ran(),
        [
            "books",
            "pages[book=a]",
            "pages[book=b]",
            "read[book=a,page=1]",
            "read[book=a,page=2]",
            "read[book=b,page=1]",
            "sums[book=a]",
            "sums[book=b]",
            "all"
        ]
    );
    assert_eq!(kit.bytes("all"), "1\n2\n3\n");
    assert_eq!(kit.ran(), NOTHING);
    // One page more: its book, itself, what gathers it.
    kit.file("books/b/2", "xxxx");
    assert_eq!(kit.ran(), ["books", "pages[book=b]", "read[book=b,page=2]", "sums[book=b]", "all"]);
    assert_eq!(kit.bytes("all"), "1\n2\n3\n4\n");
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn steps_that_are_mapped_over_one_list_meet_element_by_element_and_a_matrix_multiplies_them() {
    let mut kit = Kit::new(
        r#"
pipeline: p
solids:
  split: {inputs: {data: {path: data}}, command: "cp -R {{ inputs.data }} {{ outputs.parts }}", outputs: [{parts: {list: true}}]}
  base: {command: "echo base > {{ outputs.result }}"}
  train:
    matrix: {seed: [1, 2]}
    map: {part: split.parts}
    inputs: {base: base}
    command: 'echo "$(cat inputs/base) $(cat inputs/part)" {{ config.seed }} > {{ outputs.result }}'
  check:
    map: {part: split.parts}
    inputs: {models: "train[*]", first: "train[seed=1]"}
    command: 'cat {{ inputs.models }}/* {{ inputs.first }} > {{ outputs.result }}'
"#,
    )
    .with(&[("data/a", "A"), ("data/b", "B")]);
    assert_eq!(
        kit.ran(),
        [
            "split",
            "base",
            "train[seed=1,part=a]",
            "train[seed=1,part=b]",
            "train[seed=2,part=a]",
            "train[seed=2,part=b]",
            "check[part=a]",
            "check[part=b]"
        ]
    );
    assert_eq!(kit.bytes("check[part=b]"), "base B 1\nbase B 2\nbase B 1\n");
    assert_eq!(kit.ran(), NOTHING);
    kit.file("data/b", "BB");
    assert_eq!(kit.ran(), ["split", "train[seed=1,part=b]", "train[seed=2,part=b]", "check[part=b]"]);
}

#[test]
fn one_element_can_be_asked_for_before_its_list_is_known() {
    let mut kit = story();
    kit.steps = vec!["train[part=b.txt]"];
    assert_eq!(kit.ran(), ["split", "train[part=b.txt]"]);
    assert_eq!(kit.ran(), NOTHING);
    kit.force = true;
    assert_eq!(kit.ran(), ["train[part=b.txt]"]);
    kit.force = false;
    kit.steps = vec!["train@part=c.txt"];
    assert_eq!(kit.ran(), ["train[part=c.txt]"]);
    kit.steps = vec!["train[part=none]"];
    let (plan, memo, wanted) = kit.plan();
    let error = memo.resolve_grown(plan, wanted).unwrap_err();
    assert_eq!(error.to_string(), "`train` has no element with `part=none`");
}

#[test]
fn a_failed_element_ends_what_needs_it_and_the_others_stay() {
    let mut kit = story();
    kit.replace("tr a-z A-Z <", "grep -v two < {{ inputs.part }} && tr a-z A-Z <");
    kit.keep_going = true;
    assert_eq!(
        kit.outcomes(),
        [
            "split: ran",
            "train[part=a.txt]: ran",
            "train[part=b.txt]: failed",
            "train[part=c.txt]: ran",
            "report: skipped"
        ]
    );
    assert_eq!(kit.ran(), ["train[part=b.txt]"], "only what failed is tried again");
    kit.file("data/b.txt", "better");
    assert_eq!(kit.ran(), ["split", "train[part=b.txt]", "report"]);
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn a_gather_that_skips_what_failed_goes_on_with_the_list_that_is_there() {
    let mut kit = story();
    kit.replace("tr a-z A-Z <", "grep -v two < {{ inputs.part }} && tr a-z A-Z <");
    kit.replace(r#"{all: "train[*]"}"#, "{all: {gather: train, failed: skip, max_failed: 40%}}");
    assert_eq!(kit.ran(), ["split", "train[part=a.txt]", "train[part=b.txt]", "train[part=c.txt]", "report"]);
    assert_eq!(kit.made("report"), "a.txt ONE\nc.txt THREE\n");
    // What failed is tried again; what was gathered is the same, so it is there.
    assert_eq!(
        kit.outcomes(),
        [
            "split: reused",
            "train[part=a.txt]: reused",
            "train[part=b.txt]: failed",
            "train[part=c.txt]: reused",
            "report: reused"
        ]
    );
    // Another one is there now.
    kit.file("data/b.txt", "better");
    assert_eq!(kit.ran(), ["split", "train[part=b.txt]", "report"]);
    assert_eq!(kit.bytes("report"), "a.txt ONE\nb.txt BETTER\nc.txt THREE\n");
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn a_gather_gives_up_when_more_failed_than_may() {
    let mut kit = story();
    kit.replace("tr a-z A-Z <", "grep -v t < {{ inputs.part }} && tr a-z A-Z <");
    kit.replace(r#"{all: "train[*]"}"#, "{all: {gather: train, failed: skip, max_failed: 1}}");
    // The second failure is one too many: nothing more is started.
    assert_eq!(kit.ran(), ["split", "train[part=a.txt]", "train[part=b.txt]", "train[part=c.txt]"]);
    // It was told as cancelled where the run stopped with that failure, and nobody said why.
    for keep_going in [false, true] {
        kit.keep_going = keep_going;
        assert_eq!(
            kit.outcomes(),
            [
                "split: reused",
                "train[part=a.txt]: reused",
                "train[part=b.txt]: failed",
                "train[part=c.txt]: failed",
                "report: skipped"
            ]
        );
    }
}

/// The former implementation made a deleted intermediate again though nothing needed it.
#[test]
fn a_list_whose_bytes_are_gone_is_not_made_again_for_what_is_stored() {
    let mut kit = story();
    kit.run();
    kit.lose("split.parts");
    assert_eq!(kit.ran(), NOTHING);
    assert_eq!(kit.statuses()[0], "split.parts: not-needed");
    // An element that has to run needs them.
    kit.replace("tr a-z A-Z", "tr  a-z A-Z");
    assert_eq!(
        kit.ran(),
        ["split", "train[part=a.txt]", "train[part=b.txt]", "train[part=c.txt]"],
        "and what came out the same is gathered as before"
    );
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn an_element_whose_bytes_are_gone_is_made_again_for_who_needs_it() {
    let mut kit = story();
    kit.run();
    kit.lose("train[part=b.txt]");
    assert_eq!(kit.ran(), NOTHING);
    kit.replace("echo \"${file", "echo  \"${file");
    assert_eq!(kit.ran(), ["train[part=b.txt]", "report"]);
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn a_list_that_comes_out_otherwise_when_it_is_made_again_is_mapped_anew() {
    let mut kit = story();
    // Each time another list: what is written down in the project outside of what is hashed.
    let data = kit.path("hidden");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("x"), "one").unwrap();
    let command = format!("cp -R {} {{{{ outputs.parts }}}}", data.display());
    kit.replace("cp -R {{ inputs.data }} {{ outputs.parts }}", &command);
    assert_eq!(kit.ran(), ["split", "train[part=x]", "report"]);
    fs::write(data.join("y"), "two").unwrap();
    kit.lose("split.parts");
    kit.replace("tr a-z A-Z", "tr  a-z A-Z");
    assert_eq!(kit.ran(), ["split", "train[part=x]", "train[part=y]", "report"]);
    assert_eq!(kit.bytes("report"), "x ONE\ny TWO\n");
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn an_element_that_is_a_folder_is_given_whole_and_an_executable_as_one() {
    let mut kit = Kit::new(
        r#"
pipeline: p
solids:
  split:
    command: mkdir -p outputs/parts/d/e outputs/parts/d/empty && echo 1 > outputs/parts/d/e/x && ln -s e/x outputs/parts/d/link && echo 'echo ran' > outputs/parts/tool && chmod +x outputs/parts/tool
    outputs: [{parts: {list: true}}]
  look:
    map: {part: split.parts}
    command: if [ -d {{ inputs.part }} ]; then (cd inputs/part && find . | sort && cat link) else test -x {{ inputs.part }} && sh {{ inputs.part }}; fi > {{ outputs.result }}
"#,
    );
    assert_eq!(kit.ran(), ["split", "look[part=d]", "look[part=tool]"]);
    assert_eq!(kit.bytes("look[part=d]"), ".\n./e\n./e/x\n./empty\n./link\n1\n");
    assert_eq!(kit.bytes("look[part=tool]"), "ran\n");
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn what_is_no_list_fails_its_step() {
    let mut kit = story();
    kit.replace("cp -R {{ inputs.data }} {{ outputs.parts }}", "echo '{}' > {{ outputs.parts }}");
    assert_eq!(kit.outcomes(), ["split: failed", "train[*]: skipped", "report: skipped"]);
    assert_eq!(
        kit.failure("split"),
        "its output `outputs/parts` is to be a list, and is neither a folder nor a JSON list: invalid type: map, \
         expected a sequence at line 1 column 0"
    );
}

#[test]
fn an_optional_list_that_is_not_made_is_an_empty_one() {
    let mut kit = story();
    kit.replace("{list: true}", "{list: true, optional: true}");
    kit.replace("cp -R {{ inputs.data }} {{ outputs.parts }}", "echo none");
    assert_eq!(kit.ran(), ["split", "report"]);
    assert_eq!(kit.bytes("report"), "");
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn a_gather_leaves_out_elements_that_were_not_made() {
    let mut kit = story();
    kit.replace("    command: tr a-z A-Z < {{ inputs.part }} > {{ outputs.result }}", "    outputs: [{result: {optional: true}}]\n    command: if grep -v two {{ inputs.part }}; then cp {{ inputs.part }} {{ outputs.result }}; fi");
    assert_eq!(kit.ran().last().map(String::as_str), Some("report"));
    assert_eq!(kit.bytes("report"), "a.txt one\nc.txt three\n");
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn hundreds_of_elements_run_once_each_however_many_at_a_time() {
    let mut kit = Kit::new(STORY);
    for element in 0..300 {
        kit.file(&format!("data/{element:03}"), &format!("x{element}"));
    }
    kit.jobs = 4;
    let mut ran = kit.ran();
    ran.sort();
    let mut expected = (0..300).map(|element| format!("train[part={element:03}]")).collect::<Vec<_>>();
    expected.extend(["report".to_owned(), "split".to_owned()]);
    expected.sort();
    assert_eq!(ran, expected);
    assert_eq!(kit.bytes("report").lines().count(), 300);
    assert_eq!(kit.ran(), NOTHING);
    kit.file("data/150", "other");
    kit.file("data/150b", "new");
    let mut ran = kit.ran();
    ran.sort();
    assert_eq!(ran, ["report", "split", "train[part=150]", "train[part=150b]"]);
}

/// Workers were counted before the list was known: three steps, so three workers, however many elements came of them and
/// however many were to run at once.
#[test]
fn as_many_elements_run_at_once_as_are_to() {
    let yaml = "\
solids:
  split:
    command: 'mkdir {{ outputs.parts }}; cd {{ outputs.parts }}; for n in 1 2 3 4 5 6; do echo $n > $n; done'
    outputs: [{parts: {list: true}}]
  train:
    map: {part: split.parts}
    timeout: 1m
    command: 'exec 8> PLACE/here; echo here >&8; : > PLACE/go; cat {{ inputs.part }} > {{ outputs.result }}'
";
    let mut kit = Kit::new("");
    kit.yaml = yaml.replace("PLACE", kit.project.path().to_str().unwrap());
    kit.jobs = 4;
    for pipe in ["here", "go"] {
        let made = std::process::Command::new("mkfifo").arg(kit.path(pipe)).status().unwrap();
        assert!(made.success());
    }
    let (here, go) = (kit.path("here"), kit.path("go"));
    // Each element says that it is here, and goes on when four are: what opens `go` to write waits for who reads.
    let seen = std::thread::spawn(move || {
        let mut lines = BufReader::new(fs::File::open(here).unwrap()).lines();
        let seen = lines.by_ref().take(4).count();
        (seen, lines, fs::OpenOptions::new().read(true).write(true).open(go).unwrap())
    });
    assert_eq!(kit.ran().len(), 7);
    assert_eq!(seen.join().unwrap().0, 4);
}

#[test]
fn everything_can_be_forced_and_nothing_upstream_allowed() {
    let mut kit = story();
    kit.run();
    kit.force = true;
    assert_eq!(kit.ran(), ["split", "train[part=a.txt]", "train[part=b.txt]", "train[part=c.txt]", "report"]);
    kit.force = false;
    kit.only = true;
    kit.steps = vec!["train[part=a.txt]"];
    kit.replace("tr a-z A-Z", "tr  a-z A-Z");
    assert_eq!(kit.ran(), ["train[part=a.txt]"]);
}

/// A result that answers for a step whose output is a list now, and was none when it was made (it was accepted by a
/// program that did not look at that): what is mapped over it waited for ever, and the run with it.
#[test]
fn a_stored_result_that_is_no_list_is_made_again_once_and_then_nothing_is_left_to_do() {
    let mut kit = story();
    let (plan, memo, wanted) = kit.plan();
    let resolved = memo.resolve(&plan, &wanted).unwrap();
    let split = plan.graph.ids().find(|step| plan.graph.step_name(*step) == "split").unwrap();
    let state = &resolved.states[split.0 as usize];
    let store = kit.store();
    let staged = store.stage_bytes(b"no list").unwrap();
    let output = |staged: &cas_store::Staged| cas_store::Output {
        name: plan.graph.solid(split).outputs[0].name.clone(),
        artifact: Some(staged.artifact("file")),
    };
    store
        .commit(cas_store::Commit {
            rows: plan.rows(split, &state.version.unwrap()),
            ..cas_store::Commit::bare(state.trace.unwrap(), vec![output(&staged)], vec![staged])
        })
        .unwrap();
    let mut expected = story();
    let all = expected.ran();
    assert_eq!(kit.ran(), all);
    assert_eq!(kit.ran(), Vec::<String>::new());
}
