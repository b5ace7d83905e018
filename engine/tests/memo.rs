//! Memoization, by what ran: each story says which steps were executed, in order, and then that nothing is left
//! to do. Steps are executed by a fake that counts, fails and changes its mind where it is told to; the store,
//! the plan and the run are real.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cas_engine::config::RunConfig;
use cas_engine::event::{Event, Outcome};
use cas_engine::execute::{
    Attempt, Attempted, Cancel, Cause, Content, Execute, Failure, Produced, Stop, folder,
};
use cas_engine::file;
use cas_engine::forecast::{Forecast, ToRun};
use cas_engine::graph::{Graph, StepId};
use cas_engine::limits::{Limits, Own};
use cas_engine::memo::{Memo, Resolved, Wanted};
use cas_engine::plan::Plan;
use cas_engine::record::{Provenance, decode_provenance, encode_provenance};
use cas_engine::run::{RunOptions, RunReport, now_ms, run_with};
use cas_engine::source::{Environment, Measure, Measures, measure};
use cas_store::{Claim, Commit, Create, Digest, Hosting, Open, Output, Put, Store, Trace};

/// Executes steps by writing what they are and what they were given; everything else is as told.
#[derive(Default)]
struct Fake {
    ran: Mutex<Vec<String>>,
    orders: Mutex<Orders>,
}

#[derive(Default)]
struct Orders {
    /// `step.output` or `step`: what it holds instead; `#` in it counts up with each execution.
    content: BTreeMap<String, String>,
    /// How often a step fails before it succeeds.
    fails: BTreeMap<String, u32>,
    /// Optional outputs that are not made.
    absent: BTreeSet<String>,
    /// Files that a step changes while it runs.
    writes: BTreeMap<String, (PathBuf, String)>,
    /// A step that stops the run.
    stops: Option<String>,
    /// How often a step leaves what cannot be stored.
    bad: BTreeMap<String, u32>,
    /// What happens while a step runs.
    hooks: BTreeMap<String, Box<dyn FnOnce() + Send>>,
    count: u32,
}

impl Execute for Fake {
    fn execute(&self, attempt: &Attempt<'_>) -> Attempted {
        self.ran.lock().unwrap().push(attempt.step.to_owned());
        let hook = self.orders.lock().unwrap().hooks.remove(attempt.step);
        if let Some(hook) = hook {
            hook();
        }
        let mut orders = self.orders.lock().unwrap();
        orders.count += 1;
        if let Some((path, text)) = orders.writes.remove(attempt.step) {
            fs::remove_file(&path).unwrap();
            fs::write(&path, text).unwrap();
        }
        let failure = |cause, message: &str| {
            Attempted::new(
                Err(Failure { cause, message: message.to_owned(), hint: None }),
                Duration::from_millis(3),
            )
        };
        if orders.stops.as_deref() == Some(attempt.step) {
            attempt.cancel.request(Stop::Gently);
            return failure(Cause::Cancelled, "stopped");
        }
        if let Some(left) = orders.fails.get_mut(attempt.step)
            && *left > 0
        {
            *left -= 1;
            fs::write(attempt.log, "it did not work\n").unwrap();
            return failure(Cause::Exit(1), "exit status 1");
        }
        if let Some(left) = orders.bad.get_mut(attempt.step)
            && *left > 0
        {
            *left -= 1;
            let folder = attempt.folder.join("bad");
            fs::create_dir(&folder).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
            let produced = vec![Produced::Folder(folder)];
            return Attempted::new(Ok(produced), Duration::from_millis(3));
        }
        let mut given = Vec::new();
        for input in attempt.inputs {
            given.push(match &input.content {
                Content::File => read(&folder::input(attempt.folder, &input.file_name)),
                Content::FanIn(count) => (0..*count)
                    .map(|index| read(&folder::fan_in(attempt.folder, &input.name, index)))
                    .collect::<Vec<_>>()
                    .join("+"),
                Content::Gather(labels) => labels
                    .iter()
                    .map(|label| {
                        let part = folder::gathered(attempt.folder, &input.name, label, "");
                        format!("{label}={}", read(&part))
                    })
                    .collect::<Vec<_>>()
                    .join("+"),
                Content::Value(value) => value.to_string(),
                Content::Project { measured, .. } => read(&measured.files.files[0].from),
                Content::Absent | Content::Bytes(_) | Content::Many(_) | Content::Path(_) => {
                    panic!("not given to commands")
                }
            });
        }
        let config: Vec<String> =
            attempt.config.values.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let count = orders.count.to_string();
        let produced = attempt.solid.outputs.iter().map(|output| {
            let name = format!("{}.{}", attempt.step, output.name);
            if orders.absent.contains(&name) {
                return Produced::Absent;
            }
            let told = orders.content.get(&name).or_else(|| orders.content.get(attempt.step));
            let text = match told {
                Some(text) => text.replace('#', &count),
                None => format!("{}({})[{}]", attempt.solid.name, given.join(","), config.join(",")),
            };
            Produced::Bytes(text.into_bytes())
        });
        Attempted::new(Ok(produced.collect()), Duration::from_millis(3))
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// A project with a pipeline and a store.
struct Kit {
    project: tempfile::TempDir,
    yaml: String,
    fake: Fake,
    events: Vec<Event>,
    jobs: usize,
    keep_going: bool,
    overwrite: bool,
    /// Whether each step that is reused is told by itself.
    each_reused: bool,
    wanted: Vec<&'static str>,
    force: Vec<&'static str>,
    only: bool,
    all: bool,
    set: Vec<&'static str>,
    /// What is lost whenever this step has ended: its name, and what its output holds.
    loses: Option<(&'static str, &'static str)>,
    open: Option<Store>,
}

impl Kit {
    fn new(yaml: &str) -> Self {
        Self {
            project: tempfile::tempdir().unwrap(),
            yaml: yaml.to_owned(),
            fake: Fake::default(),
            events: Vec::new(),
            jobs: 1,
            keep_going: false,
            overwrite: false,
            each_reused: true,
            wanted: Vec::new(),
            force: Vec::new(),
            only: false,
            all: false,
            set: Vec::new(),
            loses: None,
            open: None,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.project.path().join(path)
    }

    fn store(&mut self) -> Store {
        let dir = self.path(".cas");
        let open = || {
            if !dir.exists() {
                kit::keep_all_in_files(&dir);
            }
            Store::open(
                &dir,
                Open {
                    create: Create::IfAbsent,
                    hosting: Hosting::Willing,
                    wait: Duration::from_secs(10),
                    owner: "a test".to_owned(),
                    on_wait: &mut |_| {},
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
        let mut config = RunConfig::default();
        for set in &self.set {
            file::set(&pipeline, &file::Typed::set(set), &mut config).unwrap();
        }
        Graph::new(Arc::new(pipeline), None, &config).unwrap_or_else(|wrong| panic!("{wrong:?}"))
    }

    fn plan(&mut self) -> (Plan, Memo, Wanted) {
        let store = self.store();
        let graph = self.graph();
        let select = |names: &[&str]| -> Vec<StepId> {
            names.iter().flat_map(|name| graph.select(name).unwrap()).collect()
        };
        let wanted = Wanted {
            steps: select(&self.wanted),
            all: self.all,
            force: select(&self.force),
            only: self.only,
            at_ms: now_ms(),
            frozen: cas_engine::frozen::Frozen::No,
            left_out: Vec::new(),
            again: None,
        };
        let steps =
            if wanted.steps.is_empty() { graph.ids().collect() } else { graph.closure(&wanted.steps) };
        let environment = Environment::default();
        let how = Measure { store: Some(self.path(".cas")), ..Measure::new(&environment) };
        let measures = measure(&graph, &steps, &how).unwrap();
        (Plan::new(Arc::new(graph), Arc::new(measures), steps), Memo::new(store), wanted)
    }

    fn run(&mut self) -> RunReport {
        let (plan, memo, wanted) = self.plan();
        let options = self.options(wanted);
        self.events.clear();
        let events = &mut self.events;
        let (loses, store) = (self.loses, self.open.clone().unwrap());
        run_with(&plan, &memo, &options, &self.fake, &mut |event| {
            events.push(event.clone());
            if let (Some((name, content)), Event::StepFinished { step, outcome: Outcome::Ran, .. }) =
                (loses, event)
                && step == name
            {
                kit::spoil(&store, &Digest::of(content.as_bytes()));
            }
        })
        .unwrap()
    }

    fn options(&self, wanted: Wanted) -> RunOptions {
        RunOptions {
            wanted,
            jobs: self.jobs,
            memory: None,
            limits: BTreeMap::new(),
            shared: true,
            keep_going: self.keep_going,
            show_output: false,
            reproduce: false,
            replay_logs: false,
            each_reused: self.each_reused,
            each_expected: false,
            overwrite: self.overwrite,
            environment: Environment::default(),
            cancel: Arc::new(Cancel::default()),
            command_line: vec!["cas".to_owned(), "run".to_owned()],
            combination: None,
            home: None,
            turn: None,
        }
    }

    /// Runs, and gives what ran.
    fn ran(&mut self) -> Vec<String> {
        self.fake.ran.lock().unwrap().clear();
        self.run();
        self.fake.ran.lock().unwrap().clone()
    }

    /// Runs, and gives what became of each step, in the order of the plan: `a: ran`.
    fn outcomes(&mut self) -> Vec<String> {
        let report = self.run();
        let graph = self.graph();
        report
            .outcomes
            .iter()
            .map(|(step, outcome)| format!("{}: {}", graph.step_name(*step), outcome.word()))
            .collect()
    }

    fn resolve(&mut self) -> (Plan, Resolved) {
        let (plan, memo, wanted) = self.plan();
        let resolved = memo.resolve(&plan, &wanted).unwrap();
        (plan, resolved)
    }

    /// The table of `cas versions`, without the versions.
    fn statuses(&mut self) -> Vec<String> {
        let (plan, resolved) = self.resolve();
        let mut rows = Vec::new();
        for &step in &plan.steps {
            for output in 0..plan.graph.solid(step).outputs.len() {
                let output = cas_engine::graph::OutputId { step, output: u16::try_from(output).unwrap() };
                let status = resolved.status(output).word();
                rows.push(format!("{}: {status}", plan.graph.output_name(output)));
            }
        }
        rows
    }

    /// The bytes of an output as the store has them, `None` where they are not there.
    fn bytes(&mut self, output: &str) -> Option<String> {
        let (plan, resolved) = self.resolve();
        let output = plan.graph.select_outputs(output).unwrap()[0];
        let digest = resolved.artifact(output)?.digest;
        let bytes = self.store().bytes(&digest).ok()?;
        Some(String::from_utf8(bytes.to_vec()).unwrap())
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

    fn says(&self, step: &str, text: &str) {
        self.fake.orders.lock().unwrap().content.insert(step.to_owned(), text.to_owned());
    }

    fn fails(&self, step: &str, times: u32) {
        self.fake.orders.lock().unwrap().fails.insert(step.to_owned(), times);
    }

    fn warnings(&self) -> Vec<&str> {
        let text = |event: &'_ Event| match event {
            Event::Warning { text } => Some(text.clone().leak() as &str),
            _ => None,
        };
        self.events.iter().filter_map(text).collect()
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

const NOTHING: [&str; 0] = [];

/// a → b → c.
const CHAIN: &str = r#"
pipeline: chain
solids:
  a: {version: "1", command: "true"}
  b: {version: "1", command: "true", inputs: {x: a}}
  c: {version: "1", command: "true", inputs: {x: b}}
"#;

/// Two steps below one with two outputs, and one below both.
const SPLIT: &str = r#"
pipeline: split
solids:
  split: {version: "1", command: "true", outputs: [train, test]}
  fit: {version: "1", command: "true", inputs: {x: split.train}}
  score: {version: "1", command: "true", inputs: {model: fit, x: split.test}}
"#;

#[test]
fn what_ran_once_does_not_run_again() {
    let mut kit = Kit::new(CHAIN);
    assert_eq!(
        kit.statuses(),
        ["a.result: to-be-recomputed", "b.result: to-be-recomputed", "c.result: to-be-recomputed"]
    );
    assert_eq!(kit.ran(), ["a", "b", "c"]);
    assert_eq!(kit.statuses(), ["a.result: stored", "b.result: stored", "c.result: stored"]);
    assert_eq!(kit.ran(), NOTHING);
    assert_eq!(kit.outcomes(), ["a: reused", "b: reused", "c: reused"]);
    assert_eq!(kit.bytes("c").unwrap(), "c(b(a()[])[])[]");
}

#[test]
fn a_store_that_is_opened_again_still_knows() {
    let mut kit = Kit::new(CHAIN);
    assert_eq!(kit.ran(), ["a", "b", "c"]);
    kit.open = None;
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn a_changed_step_runs_with_all_below_it_and_going_back_runs_nothing() {
    let mut kit = Kit::new(CHAIN);
    kit.ran();
    kit.replace(r#"b: {version: "1""#, r#"b: {version: "2""#);
    kit.says("b", "another");
    assert_eq!(
        kit.statuses(),
        ["a.result: stored", "b.result: to-be-recomputed", "c.result: to-be-recomputed"]
    );
    assert_eq!(kit.ran(), ["b", "c"]);
    assert_eq!(kit.ran(), NOTHING);
    kit.replace(r#"b: {version: "2""#, r#"b: {version: "1""#);
    assert_eq!(kit.statuses(), ["a.result: stored", "b.result: stored", "c.result: stored"]);
    assert_eq!(kit.ran(), NOTHING);
    assert_eq!(kit.bytes("c").unwrap(), "c(b(a()[])[])[]");
}

#[test]
fn a_change_that_changes_no_content_stops_there() {
    let mut kit = Kit::new(CHAIN);
    kit.ran();
    kit.replace(r#"a: {version: "1""#, r#"a: {version: "2""#);
    let (_, resolved) = kit.resolve();
    let may_be_unchanged: Vec<bool> = resolved.states.iter().map(|state| state.may_be_unchanged).collect();
    assert_eq!(may_be_unchanged, [false, true, true]);
    assert_eq!(kit.ran(), ["a"]);
    // Their rows were linked to the results that were there: now they are plain hits.
    assert_eq!(kit.outcomes(), ["a: reused", "b: reused", "c: reused"]);
    kit.replace(r#"a: {version: "2""#, r#"a: {version: "3""#);
    assert_eq!(kit.outcomes(), ["a: ran", "b: unchanged", "c: unchanged"]);
}

#[test]
fn a_failure_skips_what_is_below_and_the_next_run_resumes() {
    let mut kit = Kit::new(CHAIN);
    kit.fails("b", 1);
    assert_eq!(kit.outcomes(), ["a: ran", "b: failed", "c: skipped"]);
    assert_eq!(kit.failure("b"), "exit status 1");
    assert_eq!(kit.ran(), ["b", "c"]);
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn keep_going_runs_what_does_not_depend_on_the_failure() {
    let yaml = r#"
pipeline: wide
solids:
  a: {version: "1", command: "true"}
  b: {version: "1", command: "true", inputs: {x: a}}
  c: {version: "1", command: "true", config: {n: {type: int, default: 1}}}
  d: {version: "1", command: "true", inputs: {x: c}}
"#;
    let mut kit = Kit::new(yaml);
    kit.fails("a", 2);
    assert_eq!(kit.outcomes(), ["a: failed", "b: skipped", "c: cancelled", "d: cancelled"]);
    kit.keep_going = true;
    assert_eq!(kit.outcomes(), ["a: failed", "b: skipped", "c: ran", "d: ran"]);
    assert_eq!(kit.ran(), ["a", "b"]);
}

#[test]
fn a_failed_attempt_is_tried_again_and_its_log_is_kept() {
    let mut kit = Kit::new(
        "
pipeline: p
solids:
  a: {version: '1', command: 'true', retries: 1}
",
    );
    kit.fails("a", 1);
    assert_eq!(kit.ran(), ["a", "a"]);
    let memo = Memo::new(kit.store());
    let (_, record) = memo.runs(None, 1).unwrap().remove(0);
    let step = &record.steps[0];
    assert_eq!((step.outcome, step.attempts.len()), (Outcome::Ran, 2));
    assert_eq!(step.attempts[0].failure.as_ref().unwrap().message, "exit status 1");
    let log = kit.store().bytes(&step.attempts[0].log.unwrap()).unwrap();
    assert_eq!(&*log, b"it did not work\n");
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn where_nobody_asks_for_each_what_is_reused_is_told_at_once() {
    let yaml = "
pipeline: p
solids:
  one:
    command: echo 1 > {{ outputs.result }}
  say:
    inputs: {one: one}
    matrix: {n: [1, 2, 3]}
    command: cat {{ inputs.one }} > {{ outputs.result }}
";
    let mut kit = Kit::new(yaml);
    kit.run();
    kit.each_reused = false;
    let report = kit.run();
    assert_eq!((report.summary.reused, report.outcomes.len()), (4, 4));
    let told: Vec<String> = kit
        .events
        .iter()
        .filter_map(|event| match event {
            Event::StepsReused { step, count, .. } => Some(format!("{count} of {step}")),
            Event::StepFinished { step, .. } => Some(step.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["1 of one", "3 of say"]);
    let memo = Memo::new(kit.store());
    let (_, record) = memo.runs(None, 1).unwrap().remove(0);
    let reused: Vec<String> = memo.reused(&record).unwrap().into_iter().map(|reused| reused.step).collect();
    assert_eq!(reused, ["one", "say[n=1]", "say[n=2]", "say[n=3]"]);
}

#[test]
fn a_failed_folder_is_kept_and_told() {
    let mut kit = Kit::new(CHAIN);
    kit.fails("a", 1);
    kit.run();
    let report = kit.events.iter().find_map(|event| match event {
        Event::StepFinished { failure: Some(report), .. } => Some(report.clone()),
        _ => None,
    });
    let report = report.unwrap();
    assert_eq!(report.log_tail, "it did not work\n");
    assert!(report.folder.unwrap().join("log").exists());
}

#[test]
fn the_last_failed_folders_are_kept_and_no_more() {
    let mut kit = Kit::new(CHAIN);
    kit.fails("a", 8);
    let mut folders = Vec::new();
    for _ in 0..8 {
        kit.run();
        folders.extend(kit.events.iter().find_map(|event| match event {
            Event::StepFinished { failure: Some(report), .. } => report.folder.clone(),
            _ => None,
        }));
    }
    let kept: Vec<bool> = folders.iter().map(|folder| folder.exists()).collect();
    assert_eq!(kept, [false, false, false, true, true, true, true, true]);
}

#[test]
fn bytes_that_nothing_needs_are_not_made_again() {
    let mut kit = Kit::new(CHAIN);
    kit.ran();
    kit.lose("a");
    assert_eq!(kit.statuses(), ["a.result: not-needed", "b.result: stored", "c.result: stored"]);
    assert_eq!(kit.ran(), NOTHING);
    // Only when something needs them.
    kit.replace(r#"b: {version: "1""#, r#"b: {version: "2""#);
    assert_eq!(
        kit.statuses(),
        ["a.result: to-be-recomputed", "b.result: to-be-recomputed", "c.result: to-be-recomputed"]
    );
    assert_eq!(kit.ran(), ["a", "b"]);
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn bytes_that_are_wanted_are_made_again_down_to_what_is_there() {
    let mut kit = Kit::new(CHAIN);
    kit.ran();
    kit.lose("b");
    kit.lose("c");
    assert_eq!(
        kit.statuses(),
        ["a.result: stored", "b.result: to-be-recomputed", "c.result: to-be-recomputed"]
    );
    assert_eq!(kit.ran(), ["b", "c"]);
    kit.lose("a");
    kit.all = true;
    assert_eq!(kit.ran(), ["a"]);
    assert_eq!(kit.outcomes(), ["a: reused", "b: reused", "c: reused"]);
}

#[test]
fn an_unneeded_step_is_not_made_for_one_that_turns_out_unchanged() {
    let yaml = r#"
pipeline: p
solids:
  a: {version: "1", command: "true"}
  e: {version: "1", command: "true", config: {n: {type: int, default: 1}}}
  x: {version: "1", command: "true", inputs: {a: a, e: e}}
"#;
    let mut kit = Kit::new(yaml);
    kit.ran();
    kit.lose("e");
    kit.replace(r#"a: {version: "1""#, r#"a: {version: "2""#);
    assert_eq!(kit.ran(), ["a"]);
    assert_eq!(kit.ran(), NOTHING);
}

/// The halves of a random split must come from one making of it, at any distance.
#[test]
fn halves_of_different_makings_never_meet() {
    let mut kit = Kit::new(SPLIT);
    kit.says("split.train", "train #");
    kit.says("split.test", "test #");
    assert_eq!(kit.ran(), ["split", "fit", "score"]);
    assert_eq!(kit.bytes("score").unwrap(), "score(fit(train 1)[],test 1)[]");
    kit.lose("split.test");
    kit.lose("score");
    // The other half is still there, and `fit` has its result of it; but the new test half has a new train half.
    let ran = kit.ran();
    let count = kit.fake.orders.lock().unwrap().count;
    assert_eq!(ran, ["split", "fit", "score"]);
    let made = count - 2;
    assert_eq!(kit.bytes("score").unwrap(), format!("score(fit(train {made})[],test {made})[]"));
    assert_eq!(kit.ran(), NOTHING);
}

/// As above, where the step with the old half is wanted by itself and looks as good as ever.
#[test]
fn a_hit_on_the_old_half_is_no_hit_once_the_split_was_made_again() {
    let mut kit = Kit::new(SPLIT);
    kit.says("split.train", "train #");
    kit.says("split.test", "test #");
    kit.ran();
    kit.wanted = vec!["split"];
    kit.force = vec!["split"];
    assert_eq!(kit.ran(), ["split"]);
    kit.force.clear();
    kit.wanted.clear();
    assert_eq!(
        kit.statuses(),
        [
            "split.train: stored",
            "split.test: stored",
            "fit.result: to-be-recomputed",
            "score.result: to-be-recomputed"
        ]
    );
    assert_eq!(kit.ran(), ["fit", "score"]);
    assert_eq!(kit.bytes("score").unwrap(), "score(fit(train 4)[],test 4)[]");
}

#[test]
fn a_rebuild_with_the_same_content_leaves_the_rest_as_it_is() {
    let mut kit = Kit::new(SPLIT);
    kit.ran();
    kit.lose("split.test");
    kit.lose("score");
    assert_eq!(kit.outcomes(), ["split: ran", "fit: reused", "score: ran"]);
}

/// What could not be rebuilt is still on record, and so is what stands on it.
#[test]
fn a_rebuild_that_fails_spoils_nothing_that_is_stored() {
    let mut kit = Kit::new(SPLIT);
    kit.replace("  score:", "  shown: {version: \"1\", command: \"true\", inputs: {x: fit}}\n  score:");
    kit.ran();
    kit.lose("split.test");
    kit.lose("score");
    kit.fails("split", 1);
    kit.keep_going = true;
    assert_eq!(kit.outcomes(), ["split: failed", "fit: reused", "shown: reused", "score: skipped"]);
    assert_eq!(kit.outcomes(), ["split: ran", "fit: reused", "shown: reused", "score: ran"]);
}

#[test]
fn damage_that_is_found_while_a_step_is_given_its_input_is_repaired_in_the_same_run() {
    let mut kit = Kit::new(CHAIN);
    // Above the limit below which values stand in the index.
    let large: String = (0..20_000).map(|n| format!("{}\n", n * 7919 % 65_537)).collect();
    kit.says("a", &large);
    kit.ran();
    let digest = cas_store::Digest::of(large.as_bytes()).to_hex();
    let folder = kit.path(".cas/blobs").join(&digest[..2]);
    let blob = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let len = fs::metadata(&blob).unwrap().len();
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, vec![7_u8; usize::try_from(len).unwrap()]).unwrap();
    kit.replace(r#"b: {version: "1""#, r#"b: {version: "2""#);
    // It looks whole until it is read.
    assert_eq!(
        kit.statuses(),
        ["a.result: stored", "b.result: to-be-recomputed", "c.result: to-be-recomputed"]
    );
    assert_eq!(kit.ran(), ["a", "b"]);
    let damaged =
        kit.events.iter().any(|event| matches!(event, Event::Damaged { output, .. } if output == "a.result"));
    assert!(damaged, "{:?}", kit.events);
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn a_volatile_step_runs_in_every_run_and_what_is_below_only_for_new_content() {
    let mut kit = Kit::new(CHAIN);
    kit.replace(r#"a: {version: "1""#, "a: {version: volatile");
    kit.says("a", "first");
    assert_eq!(kit.ran(), ["a", "b", "c"]);
    assert_eq!(kit.outcomes(), ["a: ran", "b: reused", "c: reused"]);
    kit.says("a", "second");
    assert_eq!(kit.outcomes(), ["a: ran", "b: ran", "c: ran"]);
    kit.says("a", "first");
    assert_eq!(kit.outcomes(), ["a: ran", "b: reused", "c: reused"]);
    assert_eq!(kit.bytes("a").unwrap(), "first");
    assert_eq!(
        kit.statuses(),
        ["a.result: to-be-recomputed", "b.result: to-be-recomputed", "c.result: to-be-recomputed"]
    );
}

#[test]
fn a_result_that_is_good_for_a_day_is_reused_that_day() {
    let mut kit = Kit::new(CHAIN);
    kit.replace(r#"a: {version: "1""#, "a: {version: {every: 1d}");
    assert_eq!(kit.ran(), ["a", "b", "c"]);
    assert_eq!(kit.ran(), NOTHING);
    // Long after, and before it was made.
    for at_ms in [now_ms() + 25 * 3_600_000, 1] {
        let (plan, memo, wanted) = kit.plan();
        let resolved = memo.resolve(&plan, &Wanted { at_ms, ..wanted }).unwrap();
        let to_run: Vec<bool> = resolved.states.iter().map(|state| state.to_run).collect();
        assert_eq!(to_run, [true, true, true]);
    }
}

#[test]
fn force_runs_a_step_and_only_what_its_new_content_asks_for() {
    let mut kit = Kit::new(CHAIN);
    kit.ran();
    kit.force = vec!["b"];
    assert_eq!(kit.ran(), ["b"]);
    assert_eq!(kit.outcomes(), ["a: reused", "b: ran", "c: reused"]);
    kit.says("b", "new");
    assert_eq!(kit.outcomes(), ["a: reused", "b: ran", "c: ran"]);
    assert_eq!(
        kit.warnings(),
        [
            "`b` gave other content than before for the same inputs\n  result:\n    -b(a()[])[]\n    +new",
            "not deterministic: `b` (the same inputs, other content)"
        ]
    );
    kit.force.clear();
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn named_steps_are_wanted_and_nothing_else_is() {
    let mut kit = Kit::new(CHAIN);
    kit.wanted = vec!["b"];
    assert_eq!(kit.ran(), ["a", "b"]);
    kit.wanted.clear();
    assert_eq!(kit.ran(), ["c"]);
}

#[test]
fn only_runs_nothing_upstream() {
    let mut kit = Kit::new(CHAIN);
    kit.wanted = vec!["b"];
    kit.only = true;
    assert_eq!(kit.ran(), NOTHING);
    assert_eq!(kit.failure("b"), "its input `a.result` is not stored, and nothing upstream may run");
    kit.only = false;
    kit.ran();
    kit.only = true;
    kit.replace(r#"b: {version: "1""#, r#"b: {version: "2""#);
    assert_eq!(kit.ran(), ["b"]);
}

#[test]
fn what_is_below_an_output_that_was_not_made_is_skipped() {
    let yaml = r#"
pipeline: p
solids:
  a: {version: "1", command: "true", outputs: [{x: {optional: true}}, y]}
  b: {version: "1", command: "true", inputs: {x: a.x}}
  c: {version: "1", command: "true", inputs: {x: b}}
  d: {version: "1", command: "true", inputs: {y: a.y}}
"#;
    let mut kit = Kit::new(yaml);
    kit.fake.orders.lock().unwrap().absent.insert("a.x".to_owned());
    assert_eq!(kit.outcomes(), ["a: ran", "b: skipped", "c: skipped", "d: ran"]);
    assert_eq!(
        kit.statuses(),
        ["a.x: absent", "a.y: stored", "b.result: absent", "c.result: absent", "d.result: stored"]
    );
    assert_eq!(kit.outcomes(), ["a: reused", "b: skipped", "c: skipped", "d: reused"]);
}

#[test]
fn two_invocations_with_equal_ingredients_run_once() {
    let yaml = r#"
pipeline: p
solids:
  a: {version: "1", command: "true"}
  again: {solid: a}
  both: {version: "1", command: "true", inputs: {x: a, y: again}}
"#;
    let mut kit = Kit::new(yaml);
    kit.jobs = 4;
    assert_eq!(kit.ran(), ["a", "both"]);
    assert_eq!(kit.outcomes(), ["a: reused", "again: reused", "both: reused"]);
}

#[test]
fn two_invocations_that_fail_fail_once() {
    let yaml = r#"
pipeline: p
solids:
  a: {version: "1", command: "true"}
  again: {solid: a}
"#;
    let mut kit = Kit::new(yaml);
    kit.keep_going = true;
    kit.jobs = 2;
    kit.fails("a", 1);
    kit.fails("again", 1);
    let ran = kit.ran();
    // Which of the two came first is not promised; where the other was not waiting yet, it had its own try.
    assert!(ran.len() == 1 || ran.len() == 2, "{ran:?}");
    assert_eq!(kit.failure("a"), "exit status 1");
    assert_eq!(kit.failure("again"), "exit status 1");
}

#[test]
fn a_step_without_outputs_is_memoized_like_any_other() {
    let yaml = r#"
pipeline: p
solids:
  a: {version: "1", command: "true"}
  b: {version: "1", command: "true", inputs: {x: a}, outputs: []}
"#;
    let mut kit = Kit::new(yaml);
    assert_eq!(kit.ran(), ["a", "b"]);
    assert_eq!(kit.ran(), NOTHING);
    assert_eq!(kit.outcomes(), ["a: reused", "b: reused"]);
    kit.replace(r#"b: {version: "1""#, r#"b: {version: "2""#);
    assert_eq!(kit.ran(), ["b"]);
}

#[test]
fn a_project_file_that_changes_under_a_step_fails_it_by_name() {
    let yaml = r#"
pipeline: p
solids:
  a: {version: "1", command: "true", inputs: {notes: {path: notes.txt}}}
"#;
    let mut kit = Kit::new(yaml);
    let notes = kit.path("notes.txt");
    fs::write(&notes, "before").unwrap();
    kit.fake.orders.lock().unwrap().writes.insert("a".to_owned(), (notes.clone(), "after!".to_owned()));
    assert_eq!(kit.outcomes(), ["a: failed"]);
    assert!(kit.failure("a").contains("notes.txt"), "{}", kit.failure("a"));
    // Nothing was committed, for either content.
    assert_eq!(kit.ran(), ["a"]);
    fs::write(&notes, "before").unwrap();
    assert_eq!(kit.ran(), ["a"]);
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn a_stopped_run_keeps_what_finished_and_the_next_one_resumes() {
    let mut kit = Kit::new(CHAIN);
    kit.fake.orders.lock().unwrap().stops = Some("b".to_owned());
    let report = kit.run();
    assert!(report.summary.interrupted);
    let outcomes: Vec<Outcome> = report.outcomes.values().copied().collect();
    assert_eq!(outcomes, [Outcome::Ran, Outcome::Cancelled, Outcome::Cancelled]);
    let (_, record) = Memo::new(kit.store()).runs(None, 1).unwrap().remove(0);
    assert!(record.summary.interrupted && record.ended_ms.is_some());
    kit.fake.orders.lock().unwrap().stops = None;
    assert_eq!(kit.ran(), ["b", "c"]);
}

#[test]
fn matrices_gather_in_order_and_one_changed_element_reruns_only_its_own() {
    let yaml = r#"
pipeline: p
solids:
  train: {version: "1", command: "true", matrix: {lr: [1, 2, 3]}}
  best: {version: "1", command: "true", inputs: {all: "train[*]"}}
"#;
    let mut kit = Kit::new(yaml);
    assert_eq!(kit.ran(), ["train[lr=1]", "train[lr=2]", "train[lr=3]", "best"]);
    assert_eq!(kit.bytes("best").unwrap(), "best(1=train()[lr=1]+2=train()[lr=2]+3=train()[lr=3])[]");
    kit.replace("[1, 2, 3]", "[1, 4, 3]");
    assert_eq!(kit.ran(), ["train[lr=4]", "best"]);
    kit.replace("[1, 4, 3]", "[1, 2, 3]");
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn many_steps_at_once_run_once_each() {
    let seeds: Vec<String> = (0..60).map(|seed| seed.to_string()).collect();
    let yaml = format!(
        "
pipeline: p
solids:
  draw: {{version: '1', command: 'true', matrix: {{seed: [{}]}}}}
  twice: {{version: '1', command: 'true', inputs: {{x: draw}}, matrix: {{seed: [{}]}}}}
  sum: {{version: '1', command: 'true', inputs: {{all: 'twice[*]'}}}}
",
        seeds.join(", "),
        seeds.join(", ")
    );
    let mut kit = Kit::new(&yaml);
    kit.jobs = 4;
    let mut ran = kit.ran();
    assert_eq!(ran.pop().unwrap(), "sum");
    let different: BTreeSet<&String> = ran.iter().collect();
    assert_eq!((ran.len(), different.len()), (120, 120));
    assert_eq!(kit.ran(), NOTHING);
}

#[test]
fn what_is_published_is_put_there_after_each_run() {
    let mut kit = Kit::new(CHAIN);
    kit.yaml.push_str("publish:\n  out/c.txt: c\n");
    kit.ran();
    assert_eq!(read(&kit.path("out/c.txt")), "c(b(a()[])[])[]");
    // Reused or not.
    fs::remove_file(kit.path("out/c.txt")).unwrap();
    assert_eq!(kit.ran(), NOTHING);
    assert_eq!(read(&kit.path("out/c.txt")), "c(b(a()[])[])[]");
    // What cas wrote it may replace.
    kit.replace(r#"c: {version: "1""#, r#"c: {version: "2""#);
    kit.says("c", "new");
    kit.ran();
    assert_eq!(read(&kit.path("out/c.txt")), "new");
    // What somebody else wrote it leaves alone, and says so.
    fs::write(kit.path("out/c.txt"), "mine").unwrap();
    kit.ran();
    assert_eq!(read(&kit.path("out/c.txt")), "mine");
    assert!(kit.warnings()[0].contains("`out/c.txt`"), "{:?}", kit.warnings());
    kit.overwrite = true;
    kit.ran();
    assert_eq!(read(&kit.path("out/c.txt")), "new");
}

#[test]
fn elements_are_published_by_their_labels() {
    let yaml = r#"
pipeline: p
solids:
  train: {version: "1", command: "true", matrix: {lr: [1, 2]}, outputs: [chart.png]}
publish:
  charts/: "train[*].chart"
"#;
    let mut kit = Kit::new(yaml);
    kit.ran();
    assert_eq!(read(&kit.path("charts/1.png")), "train()[lr=1]");
    assert_eq!(read(&kit.path("charts/2.png")), "train()[lr=2]");
    kit.ran();
    let published: Vec<bool> = kit
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Published { changed, .. } => Some(*changed),
            _ => None,
        })
        .collect();
    assert_eq!(published, [false, false]);
}

#[test]
fn why_a_step_runs_is_told_by_name() {
    let yaml = r#"
pipeline: p
solids:
  tree: {version: "1", command: "true", config: {species: {type: str, default: douglas_fir}}}
  leaf: {version: "1", command: "true", inputs: {x: tree}}
"#;
    let mut kit = Kit::new(yaml);
    kit.ran();
    kit.set = vec!["solids.tree.config.species=red_maple"];
    let (plan, memo, wanted) = kit.plan();
    let resolved = memo.resolve(&plan, &wanted).unwrap();
    let past = memo.past("p").unwrap();
    let why = |step| memo.why(&plan, &resolved, &past, StepId(step)).unwrap().map(|cause| cause.words);
    assert_eq!(why(0).as_deref(), Some("config.species: douglas_fir → red_maple"));
    assert_eq!(why(1).as_deref(), Some("`tree`: config.species: douglas_fir → red_maple"));
    let explanation = memo.explain(&plan, &resolved, &past, StepId(1)).unwrap();
    let chain: Vec<&str> = explanation.chain.iter().map(|because| because.step.as_str()).collect();
    assert_eq!(chain, ["leaf", "tree"]);
    kit.run();
    let told: Vec<Option<String>> = kit
        .events
        .iter()
        .filter_map(|event| match event {
            Event::StepStarted { why, .. } => Some(why.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(told[0].as_deref(), Some("config.species: douglas_fir → red_maple"));
    let (plan, memo, wanted) = kit.plan();
    let resolved = memo.resolve(&plan, &wanted).unwrap();
    assert_eq!(memo.why(&plan, &resolved, &past, StepId(0)).unwrap(), None);
    let made = memo.explain(&plan, &resolved, &past, StepId(1)).unwrap();
    assert_eq!(made.provenance.unwrap().run, 2);
    let trace = made.made.unwrap().trace;
    let inputs = memo.made_from(&trace).unwrap();
    assert_eq!((inputs.len(), inputs[0].0.from.as_deref()), (1, Some("tree.result")));
    assert!(inputs[0].1.is_some());
}

#[test]
fn a_run_is_noted_with_what_it_did_and_what_it_reused() {
    let mut kit = Kit::new(CHAIN);
    kit.wanted = vec!["a"];
    kit.ran();
    kit.wanted.clear();
    kit.ran();
    let memo = Memo::new(kit.store());
    let runs = memo.runs(None, 10).unwrap();
    assert_eq!(runs.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 1]);
    let (_, record) = &runs[0];
    let steps: Vec<&str> = record.steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(steps, ["b", "c"]);
    let reused: Vec<String> = memo.reused(record).unwrap().into_iter().map(|reused| reused.step).collect();
    assert_eq!(reused, ["a"]);
    assert_eq!(record.command_line, ["cas", "run"]);
    assert!(record.ended_ms.is_some());
}

/// The order of declared outputs was no part of a command's version, and records are read by position: what had
/// listed `[train, test]` and then `[test, train]` gave each reader the other one's bytes, in every run.
#[test]
fn listing_the_outputs_of_a_step_in_another_order_gives_no_reader_the_wrong_one() {
    let mut kit = Kit::new(SPLIT);
    kit.says("split.train", "even");
    kit.says("split.test", "odd");
    assert_eq!(kit.ran(), ["split", "fit", "score"]);
    let score = kit.bytes("score");
    assert_eq!(score.as_deref(), Some("score(fit(even)[],odd)[]"));

    kit.replace("[train, test]", "[test, train]");
    assert_eq!(kit.ran(), ["split"], "what it made is what its readers had");
    assert_eq!(kit.bytes("split.train").as_deref(), Some("even"));
    assert_eq!(kit.bytes("split.test").as_deref(), Some("odd"));
    assert_eq!(kit.bytes("score"), score);
    assert_eq!(kit.ran(), NOTHING);
    assert_eq!(kit.warnings(), NOTHING, "that is no other content");
}

/// A record with other outputs than its step's was adopted, and what read it read by position.
#[test]
fn a_record_that_is_not_of_this_step_is_replaced_and_never_adopted() {
    let mut kit = Kit::new(CHAIN);
    let (plan, _, _) = kit.plan();
    let trace = plan.trace(StepId(0), &mut |_| None).unwrap();
    commit(&kit.store(), trace, "other", "of something else", 1);
    assert_eq!(kit.ran(), ["a", "b", "c"]);
    assert_eq!(kit.bytes("c").as_deref(), Some("c(b(a()[])[])[]"));
    assert_eq!(kit.ran(), NOTHING);
}

/// Commits a result with one output, as another run could have.
fn commit(store: &Store, trace: Trace, output: &str, content: &str, made_ms: u64) {
    let staged = store.stage_bytes(content.as_bytes()).unwrap();
    let output = Output { name: output.to_owned(), artifact: Some(staged.artifact("file")) };
    store
        .commit(Commit { made_ms, put: Put::Replace, ..Commit::bare(trace, vec![output], vec![staged]) })
        .unwrap();
}

/// Who made what a step was given was asked for once the step had run, of what stood there by then, and it was not told where
/// the clock had been set back while that was made.
#[test]
fn who_made_what_a_step_is_given_is_known_before_it_begins_whatever_the_clock_said() {
    let mut kit = Kit::new(CHAIN);
    assert_eq!(kit.ran(), ["a", "b", "c"]);
    let (plan, _, _) = kit.plan();
    let trace = plan.trace(StepId(0), &mut |_| None).unwrap();
    let content = kit.bytes("a").unwrap();
    let store = kit.store();
    let made = decode_provenance(&store.provenance(&trace).unwrap().unwrap()).unwrap();
    let make_again = move |run: u64, made_ms: u64| {
        let staged = store.stage_bytes(content.as_bytes()).unwrap();
        let output = Output { name: "result".to_owned(), artifact: Some(staged.artifact("file")) };
        let provenance = Provenance { run, started_ms: made_ms + 3_600_000, ..made.clone() };
        let provenance = encode_provenance(&provenance).unwrap();
        let bare = Commit::bare(trace, vec![output], vec![staged]);
        store.commit(Commit { made_ms, provenance, put: Put::Replace, ..bare }).unwrap();
    };
    make_again(7, 1_000);
    kit.fake.orders.lock().unwrap().hooks.insert("b".to_owned(), Box::new(move || make_again(8, 2_000)));
    kit.force = vec!["b"];
    assert_eq!(kit.ran(), ["b"]);
    let (plan, memo, wanted) = kit.plan();
    let found = memo.resolve(&plan, &wanted).unwrap().states[1].found.clone().unwrap();
    let input = memo.provenance(&found.trace).unwrap().unwrap().inputs.remove(0);
    assert_eq!((input.made_ms, input.maker.map(|maker| maker.run)), (Some(1_000), Some(7)));
}

/// Two runs that found the result of an `every:` step too old both ran it, one after the other.
#[test]
fn a_result_that_another_run_renewed_meanwhile_is_taken() {
    let yaml = r#"
pipeline: p
solids:
  slow: {version: "1", command: "true"}
  day: {version: {every: 1h}, command: "true"}
"#;
    let mut kit = Kit::new(yaml);
    let (plan, _, _) = kit.plan();
    let trace = plan.trace(StepId(1), &mut |_| None).unwrap();
    commit(&kit.store(), trace, "result", "Monday", 1);
    let store = kit.store();
    let renew = move || commit(&store, trace, "result", "Tuesday", now_ms());
    kit.fake.orders.lock().unwrap().hooks.insert("slow".to_owned(), Box::new(renew));
    assert_eq!(kit.outcomes(), ["slow: ran", "day: joined"]);
    assert_eq!(kit.bytes("day").as_deref(), Some("Tuesday"));
    assert_eq!(*kit.fake.ran.lock().unwrap(), ["slow"]);
}

/// Whoever waited for another run's claim did not hear that its own run was stopped, for as long as that took.
#[test]
fn a_run_that_waits_for_another_can_be_stopped() {
    let yaml = r#"
pipeline: p
solids:
  stop: {version: "1", command: "true"}
  wait: {version: "1", command: "true"}
"#;
    let mut kit = Kit::new(yaml);
    kit.jobs = 2;
    let (plan, _, _) = kit.plan();
    let claim = kit.store().claim(plan.trace(StepId(1), &mut |_| None).unwrap()).unwrap();
    assert!(matches!(claim, Claim::Granted(_)));
    kit.fake.orders.lock().unwrap().stops = Some("stop".to_owned());
    assert_eq!(kit.outcomes(), ["stop: cancelled", "wait: cancelled"]);
    drop(claim);
}

/// The coordinator waited for ever for a worker that had panicked.
#[test]
fn a_panic_of_an_executor_ends_the_run() {
    let mut kit = Kit::new(CHAIN);
    kit.jobs = 2;
    let (plan, memo, wanted) = kit.plan();
    kit.fake.orders.lock().unwrap().hooks.insert("b".to_owned(), Box::new(|| panic!("out of luck")));
    let options = kit.options(wanted);
    let error = run_with(&plan, &memo, &options, &kit.fake, &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "a panic while working on `b`: out of luck");
    assert_eq!(kit.ran(), ["b", "c"], "what had finished is kept");
}

/// The attempt after a bad output committed its result without rows, so the next run did not find it.
#[test]
fn what_a_second_attempt_makes_is_found_by_its_version() {
    let mut kit = Kit::new("pipeline: p\nsolids: {a: {version: \"1\", command: \"true\", retries: 1}}\n");
    kit.fake.orders.lock().unwrap().bad.insert("a".to_owned(), 1);
    assert_eq!(kit.ran(), ["a", "a"]);
    assert_eq!(kit.outcomes(), ["a: reused"]);
}

/// Facts were taken for written as soon as they were made: a step that failed kept those that others share.
#[test]
fn a_step_that_fails_takes_no_facts_from_its_siblings() {
    let yaml = "pipeline: p\nsolids: {a: {version: \"one\", command: \"true\", matrix: {n: [1, 2]}}}\n";
    let mut kit = Kit::new(yaml);
    kit.keep_going = true;
    kit.fails("a[n=1]", 1);
    assert_eq!(kit.outcomes(), ["a[n=1]: failed", "a[n=2]: ran"]);
    kit.replace("one", "two");
    let (plan, memo, wanted) = kit.plan();
    let resolved = memo.resolve(&plan, &wanted).unwrap();
    let past = memo.past("p").unwrap();
    let why = memo.why(&plan, &resolved, &past, StepId(1)).unwrap().map(|cause| cause.words);
    assert_eq!(why.as_deref(), Some("version: one → two"));
}

/// Bytes that were gone each time they were to be published ended the run as if all was done, with nothing there.
#[test]
fn what_can_never_be_published_fails() {
    let mut kit =
        Kit::new("pipeline: p\nsolids: {a: {version: \"1\", command: \"true\"}}\npublish: {out.txt: a}\n");
    kit.says("a", "lost");
    kit.loses = Some(("a", "lost"));
    for keep_going in [false, true] {
        kit.keep_going = keep_going;
        kit.force = vec!["a"];
        let report = kit.run();
        assert_eq!((report.summary.failed, report.summary.cancelled), (1, 0));
        assert_eq!(*kit.fake.ran.lock().unwrap(), ["a", "a", "a", "a"]);
        kit.fake.ran.lock().unwrap().clear();
        let failure = kit.events.iter().rev().find_map(|event| match event {
            Event::StepFinished { failure: Some(report), .. } => Some(report.failure.message.clone()),
            _ => None,
        });
        let failure = failure.unwrap_or_default();
        assert!(failure.starts_with("`a.result` cannot be published: it was made 3 times more"), "{failure}");
        assert!(!kit.path("out.txt").exists());
    }
    kit.loses = None;
    kit.force.clear();
    assert_eq!(kit.run().summary.failed, 0);
    assert_eq!(read(&kit.path("out.txt")), "lost");
}

/// All that were not there were counted as failed.
#[test]
fn of_what_a_gather_lacks_it_is_said_what_failed_and_what_was_skipped() {
    let yaml = "pipeline: p\nsolids:\n  a: {version: \"1\", command: \"true\", matrix: {n: [1, 2, 3, 4]}}\n  \
                b: {version: \"1\", command: \"true\", matrix: {n: [1, 2, 3, 4]}, inputs: {x: a}}\n  \
                c: {version: \"1\", command: \"true\", inputs: {all: {gather: b, failed: skip, max_failed: 0}}}\n";
    let said = |failing: &[&str]| {
        let mut kit = Kit::new(yaml);
        kit.keep_going = true;
        failing.iter().for_each(|step| kit.fails(step, 1));
        kit.run();
        let skips = kit.events.iter().filter_map(|event| match event {
            Event::StepFinished { skipped: Some(skip), .. } if skip.too_many_failed => Some(skip.why.clone()),
            _ => None,
        });
        skips.collect::<Vec<_>>()
    };
    assert_eq!(said(&["b[n=1]", "b[n=4]"]), ["2 of 4 elements of `b` failed, and `max_failed` is 0"]);
    assert_eq!(said(&["a[n=1]"]), ["1 of 4 elements of `b` was skipped, and `max_failed` is 0"]);
    assert_eq!(
        said(&["a[n=1]", "a[n=2]", "b[n=3]"]),
        ["1 of 4 elements of `b` failed, 2 were skipped, and `max_failed` is 0"]
    );
}

/// It was told as cancelled, where elements had not run yet when the run stopped with the failure that was one too many.
#[test]
fn a_gather_that_lacks_too_much_is_skipped_also_where_the_run_stops_before_all_elements_ran() {
    let yaml = "pipeline: p\nsolids:\n  b: {version: \"1\", command: \"true\", matrix: {n: [1, 2, 3, 4]}}\n  \
                c: {version: \"1\", command: \"true\", inputs: {all: {gather: b, failed: skip, max_failed: 0}}}\n";
    let mut kit = Kit::new(yaml);
    for n in 1..=4 {
        kit.fails(&format!("b[n={n}]"), 1);
    }
    let outcomes = kit.outcomes();
    assert!(outcomes.iter().any(|outcome| outcome.ends_with(": cancelled")), "{outcomes:?}");
    assert_eq!(outcomes.last().map(String::as_str), Some("c: skipped"));
}

/// Its event said that the run was none the worse for it no longer, and its record that it was allowed; and what else was to
/// be published was not.
#[test]
fn what_may_fail_may_fail_to_be_published() {
    let yaml = "pipeline: p\nsolids:\n  a: {version: \"1\", command: \"true\", allow_failure: true}\n  \
                b: {version: \"1\", command: \"true\"}\npublish: {out.txt: a, other.txt: b}\n";
    let mut kit = Kit::new(yaml);
    kit.says("a", "lost");
    kit.says("b", "there");
    kit.loses = Some(("a", "lost"));
    let report = kit.run();
    assert_eq!((report.summary.failed, report.allowed), (1, 1));
    let allowed = kit.events.iter().filter_map(|event| match event {
        Event::StepFinished { step, failure: Some(report), .. } => Some((step.as_str(), report.allowed)),
        _ => None,
    });
    assert_eq!(allowed.collect::<Vec<_>>(), [("a", true)]);
    assert!(!kit.path("out.txt").exists());
    assert_eq!(read(&kit.path("other.txt")), "there");
}

#[test]
fn where_nothing_can_be_refused_a_run_says_so_once_and_goes_on() {
    let mut kit =
        Kit::new("pipeline: p\nsandbox: deny\nsolids: {a: {command: \"true\", matrix: {n: [1, 2]}}}\n");
    let (plan, memo, wanted) = kit.plan();
    let measures = Measures { confines: false, ..(*plan.measures).clone() };
    let plan = Plan::new(Arc::clone(&plan.graph), Arc::new(measures), plan.steps.clone());
    let options = kit.options(wanted);
    let mut warnings = Vec::new();
    run_with(&plan, &memo, &options, &kit.fake, &mut |event| {
        if let Event::Warning { text } = event {
            warnings.push(text.clone());
        }
    })
    .unwrap();
    let said = "this kernel cannot refuse files to a step (it has no Landlock): `sandbox: deny` is as `off`, and \
                results are not those of a machine that can";
    assert_eq!(warnings, [said]);
    assert_eq!(*kit.fake.ran.lock().unwrap(), ["a[n=1]", "a[n=2]"]);
}

/// What an imported record says is not looked into: a run that reused two results which had cost as much as a number can
/// say added that up, and ended as a fault of ours.
#[test]
fn costs_that_no_number_can_hold_together_are_the_highest_one() {
    let mut kit = Kit::new(CHAIN);
    assert_eq!(kit.ran(), ["a", "b", "c"]);
    let (_, resolved) = kit.resolve();
    for state in &resolved.states {
        let found = state.found.as_ref().unwrap();
        let bare = Commit::bare(found.trace, found.record.outputs.clone(), Vec::new());
        let commit = Commit { cost_ms: u64::MAX, put: Put::Replace, ..bare };
        kit.store().commit(commit).unwrap();
    }
    assert_eq!(kit.run().summary.saved_ms, u64::MAX);
    assert_eq!(kit.outcomes(), ["a: reused", "b: reused", "c: reused"]);
    // How long it would take to make them again.
    kit.force = vec!["a", "b", "c"];
    let (plan, resolved) = kit.resolve();
    let past = Memo::new(kit.store()).past("chain").unwrap();
    let capacity = Limits::new(Own { jobs: 1, ..Own::default() }, &BTreeMap::new()).capacity;
    let to_run = ToRun::of(Path::new("store"), &plan, &resolved.states, &past, &BTreeMap::new());
    let forecast = Forecast::of(&[to_run], &capacity, 1);
    assert_eq!((forecast.elapsed_ms, forecast.work_ms), (Some(u64::MAX), Some(u64::MAX)));
    assert_eq!(kit.ran(), ["a", "b", "c"]);
}
