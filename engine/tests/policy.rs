//! How a solid says that its steps are run: how often, after which failures, and what a failure means; and what runs
//! first, and how long the next run will take. The executor is a fake that fails as it is told, says how long it took,
//! and notes how long it was to wait between attempts: nothing here waits.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cas_engine::config::RunConfig;
use cas_engine::event::Outcome;
use cas_engine::execute::{Attempt, Attempted, Cancel, Cause, Execute, Failure, Produced};
use cas_engine::file;
use cas_engine::forecast::{Durations, Forecast, ToRun};
use cas_engine::graph::Graph;
use cas_engine::limits::Own;
use cas_engine::memo::{Memo, Wanted};
use cas_engine::plan::Plan;
use cas_engine::run::{RunOptions, RunReport, now_ms, run_with};
use cas_engine::source::{Environment, Measure, measure};
use cas_store::{Create, Hosting, Open, Store};

struct Kit {
    folder: tempfile::TempDir,
    yaml: String,
    store: Store,
    /// How long each step takes, in seconds.
    takes: BTreeMap<&'static str, u64>,
    ran: Mutex<Vec<String>>,
    /// How a step fails, attempt by attempt, before it succeeds.
    fails: Mutex<BTreeMap<&'static str, Vec<Cause>>>,
    paused: Mutex<Vec<Duration>>,
    jobs: usize,
    /// How many files an attempt leaves in its folder, beside its outputs.
    litter: usize,
}

impl Execute for Kit {
    fn execute(&self, attempt: &Attempt<'_>) -> Attempted {
        self.ran.lock().unwrap().push(attempt.step.to_owned());
        let seconds = self.takes.get(attempt.step).copied().unwrap_or(1);
        let mut fails = self.fails.lock().unwrap();
        if let Some(causes) = fails.get_mut(attempt.step)
            && !causes.is_empty()
        {
            let failure = Failure { cause: causes.remove(0), message: "as told".to_owned(), hint: None };
            return Attempted::new(Err(failure), Duration::from_secs(seconds));
        }
        for n in 0..self.litter {
            std::fs::create_dir(attempt.folder.join(n.to_string())).unwrap();
        }
        let config = format!("{:?}", attempt.config.values.iter().collect::<Vec<_>>());
        let produced = attempt.solid.outputs.iter().map(|_| Produced::Bytes(config.clone().into_bytes()));
        Attempted::new(Ok(produced.collect()), Duration::from_secs(seconds))
    }

    fn pause(&self, _: &Cancel, time: Duration) {
        self.paused.lock().unwrap().push(time);
    }
}

impl Kit {
    fn new(yaml: &str, takes: &[(&'static str, u64)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = Open {
            create: Create::IfAbsent,
            hosting: Hosting::Willing,
            wait: Duration::from_secs(10),
            owner: "a test".to_owned(),
            on_wait: &mut |_| {},
        };
        kit::keep_all_in_files(&folder.path().join(".cas"));
        let store = Store::open(&folder.path().join(".cas"), open).unwrap();
        let (yaml, takes) = (yaml.to_owned(), takes.iter().copied().collect());
        let (ran, fails, paused) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { folder, yaml, store, takes, ran, fails, paused, jobs: 1, litter: 0 }
    }

    fn plan(&self) -> (Plan, Memo, Wanted) {
        let mut pipeline =
            file::pipeline(Path::new("pipeline.yaml"), &self.yaml, &mut |_| unreachable!()).unwrap();
        pipeline.folder = self.folder.path().to_owned();
        let graph = Graph::new(Arc::new(pipeline), None, &RunConfig::default()).unwrap();
        let steps: Vec<_> = graph.ids().collect();
        let environment = Environment::default();
        let how = Measure::new(&environment);
        let measures = measure(&graph, &steps, &how).unwrap();
        let plan = Plan::new(Arc::new(graph), Arc::new(measures), steps);
        (plan, Memo::new(self.store.clone()), Wanted { at_ms: now_ms(), ..Wanted::default() })
    }

    fn forecast(&self, jobs: usize) -> Forecast {
        self.forecast_of(&[self.to_run("store")], jobs)
    }

    fn forecast_of(&self, plans: &[ToRun], jobs: usize) -> Forecast {
        let limits = self.plan().1.limits(Own { jobs, cores: jobs, ..Own::default() });
        Forecast::of(plans, &limits.capacity, jobs)
    }

    fn to_run(&self, store: &str) -> ToRun {
        let (plan, memo, wanted) = self.plan();
        let resolved = memo.resolve(&plan, &wanted).unwrap();
        ToRun::of(Path::new(store), &plan, &resolved.states, &memo.past("p").unwrap(), &BTreeMap::new())
    }

    /// From what it is known how long each step will take.
    fn known(&self) -> Vec<String> {
        let (plan, memo, wanted) = self.plan();
        let resolved = memo.resolve(&plan, &wanted).unwrap();
        let durations = Durations::of(&plan, &resolved.states, &memo.past("p").unwrap());
        let steps = plan.steps.iter().filter(|step| resolved.states[step.0 as usize].to_run);
        steps
            .map(|step| {
                let known = durations.get(*step).map_or("unknown".to_owned(), |(took, known)| {
                    format!("{} s, {}", took / 1000, known.word())
                });
                format!("{}: {known}", plan.graph.step_name(*step))
            })
            .collect()
    }

    fn run(&self) -> Vec<String> {
        self.report();
        std::mem::take(&mut *self.ran.lock().unwrap())
    }

    /// How a step is to fail.
    fn fails(&self, step: &'static str, causes: &[Cause]) {
        self.fails.lock().unwrap().insert(step, causes.to_vec());
    }

    fn paused_s(&self) -> Vec<u64> {
        std::mem::take(&mut *self.paused.lock().unwrap()).iter().map(Duration::as_secs).collect()
    }

    fn report(&self) -> RunReport {
        let (plan, memo, wanted) = self.plan();
        let options = RunOptions {
            wanted,
            jobs: self.jobs,
            memory: None,
            limits: BTreeMap::new(),
            shared: true,
            keep_going: false,
            show_output: false,
            reproduce: false,
            replay_logs: false,
            each_reused: true,
            each_expected: false,
            overwrite: false,
            environment: Environment::default(),
            cancel: Arc::new(Cancel::default()),
            command_line: Vec::new(),
            combination: None,
            home: None,
            turn: None,
        };
        run_with(&plan, &memo, &options, self, &mut |_| {}).unwrap()
    }

    fn replace(&mut self, from: &str, to: &str) {
        assert!(self.yaml.contains(from), "{from}");
        self.yaml = self.yaml.replace(from, to);
    }
}

/// `a` and `b` are short, `c` and `d` below it are long.
const YAML: &str = r#"
pipeline: p
solids:
  a: {version: "1", command: "true"}
  b: {version: "1", command: "true"}
  c: {version: "1", command: "true"}
  d: {version: "1", command: "true", inputs: {x: c}}
"#;

const TAKES: [(&str, u64); 4] = [("a", 10), ("b", 5), ("c", 1), ("d", 100)];

/// What attempts left in their folders is removed when nothing runs any longer: a run of 2.1 s by its last line had taken 6.
#[test]
fn how_long_a_run_took_counts_all_that_it_did_before_it_was_noted() {
    let mut kit = Kit::new("pipeline: p\nsolids:\n  a: {command: x}\n  b: {command: y}\n", &[]);
    kit.litter = 300;
    let report = kit.report();
    let (_, memo, _) = kit.plan();
    let (_, record) = memo.runs(None, 1).unwrap().pop().unwrap();
    assert_eq!(record.summary, report.summary);
    // It began before, by one clock, and was noted after, by the other: in whole milliseconds of both.
    let between = record.ended_ms.unwrap() - record.started_ms;
    assert!(report.summary.elapsed_ms + 2 >= between, "{} of {between} ms", report.summary.elapsed_ms);
}

#[test]
fn the_longest_path_runs_first_once_it_is_known_how_long_steps_take() {
    let mut kit = Kit::new(YAML, &TAKES);
    // Nothing is known: the path with more steps first.
    assert_eq!(kit.run(), ["c", "a", "b", "d"].map(str::to_owned)[..].to_vec());
    kit.replace("version: \"1\"", "version: \"2\"");
    assert_eq!(kit.run(), ["c", "d", "a", "b"]);
    assert_eq!(kit.run(), [""; 0]);
}

#[test]
fn a_forecast_lays_out_what_is_known_of_the_last_runs_as_a_run_would() {
    let mut kit = Kit::new(YAML, &TAKES);
    let nothing = kit.forecast(1);
    assert_eq!((nothing.steps, nothing.unknown, nothing.elapsed_ms, nothing.work_ms), (4, 4, None, None));
    kit.run();
    assert_eq!(kit.forecast(1).steps, 0);
    kit.replace("version: \"1\"", "version: \"2\"");
    assert_eq!(kit.known(), ["a: 10 s, before", "b: 5 s, before", "c: 1 s, before", "d: 100 s, before"]);
    // One after the other; `d` after `c`, the others beside it; as many at once as there are.
    let times = |jobs| kit.forecast(jobs).elapsed_ms;
    assert_eq!([times(1), times(2), times(8)], [Some(116_000), Some(101_000), Some(101_000)]);
    let two = kit.forecast(2);
    let counts = (two.steps, two.jobs, two.known, two.alike, two.unknown, two.may_be_unchanged);
    assert_eq!((counts, two.work_ms), ((4, 2, 4, 0, 0, 1), Some(116_000)));
    // `d` may turn out unchanged.
    assert_eq!(two.at_least_ms, Some(10_000));
}

/// What two combinations share was nowhere foreseen once.
#[test]
fn a_sweep_is_foreseen_over_one_pool_and_what_is_shared_once() {
    let yaml = r#"
pipeline: p
solids:
  data: {version: "1", command: "true"}
  train: {version: "1", command: "true", inputs: {d: data}, config: {n: {type: int, default: 0}}}
"#;
    let mut kit = Kit::new(yaml, &[("data", 10), ("train", 100)]);
    kit.run();
    kit.replace("data: {version: \"1\"", "data: {version: \"2\"");
    let combinations = |kit: &mut Kit, stores: [&str; 4]| -> Vec<ToRun> {
        let mut plans = Vec::new();
        for (n, store) in stores.into_iter().enumerate() {
            kit.replace(&format!("default: {n}"), &format!("default: {}", n + 1));
            plans.push(kit.to_run(store));
        }
        kit.replace("default: 4", "default: 0");
        plans
    };
    let plans = combinations(&mut kit, ["store"; 4]);
    assert_eq!(plans.iter().map(ToRun::steps).collect::<Vec<_>>(), [2, 2, 2, 2]);
    let all = kit.forecast_of(&plans, 2);
    assert_eq!((all.steps, all.known, all.unknown, all.may_be_unchanged), (5, 5, 0, 4));
    // All wait for `data`, which the first one makes; then two at a time.
    let elapsed = |jobs| kit.forecast_of(&plans, jobs).elapsed_ms;
    assert_eq!([elapsed(1), elapsed(2), elapsed(8)], [410_000, 210_000, 110_000].map(Some));
    assert_eq!((all.at_least_ms, all.work_ms), (Some(10_000), Some(410_000)));
    let none = kit.forecast_of(&[], 2);
    assert_eq!((none.steps, none.elapsed_ms), (0, None));
    // Each store has to have its own.
    let plans = combinations(&mut kit, ["one", "two", "two", "one"]);
    let all = kit.forecast_of(&plans, 1);
    assert_eq!((all.steps, all.elapsed_ms), (6, Some(420_000)));
    // So has each combination what changes with time, and what is made of it.
    kit.replace("data: {version: \"2\"", "data: {version: volatile");
    let plans = combinations(&mut kit, ["store"; 4]);
    let all = kit.forecast_of(&plans, 1);
    assert_eq!((all.steps, all.elapsed_ms), (8, Some(440_000)));
}

#[test]
fn steps_that_are_one_and_the_same_are_foreseen_once() {
    let yaml = r#"
pipeline: p
solids:
  a: {version: "1", command: "true"}
  b: {solid: a}
  c: {version: "1", command: "true", inputs: {parts: [a, b]}}
"#;
    let mut kit = Kit::new(yaml, &[("a", 10), ("b", 10), ("c", 1)]);
    kit.run();
    kit.replace("version: \"1\"", "version: \"2\"");
    let forecast = kit.forecast(2);
    assert_eq!((forecast.steps, forecast.elapsed_ms, forecast.work_ms), (2, Some(11_000), Some(11_000)));
}

#[test]
fn what_is_not_known_counts_as_the_middle_of_the_rest_and_is_told() {
    let mut kit = Kit::new(YAML, &TAKES);
    kit.run();
    kit.replace("version: \"1\"", "version: \"2\"");
    kit.yaml += "  e: {version: \"1\", command: \"true\"}\n";
    assert_eq!(kit.known().last().map(String::as_str), Some("e: unknown"));
    let forecast = kit.forecast(1);
    assert_eq!((forecast.known, forecast.unknown, forecast.elapsed_ms), (4, 1, Some(116_000 + 10_000)));
}

#[test]
fn a_new_element_is_taken_to_be_like_the_others() {
    let yaml = "pipeline: p\nsolids:\n  t: {version: \"1\", command: \"true\", matrix: {n: [1, 2, 3]}}\n";
    let mut kit = Kit::new(yaml, &[("t[n=1]", 4), ("t[n=2]", 6), ("t[n=3]", 20)]);
    kit.run();
    kit.replace("[1, 2, 3]", "[1, 2, 3, 4]");
    assert_eq!(kit.known(), ["t[n=4]: 6 s, alike"]);
    assert_eq!((kit.forecast(1).alike, kit.forecast(1).elapsed_ms), (1, Some(6_000)));
}

#[test]
fn what_was_lost_takes_as_long_as_it_took() {
    let kit = Kit::new(YAML, &TAKES);
    kit.run();
    let (plan, memo, wanted) = kit.plan();
    let resolved = memo.resolve(&plan, &wanted).unwrap();
    let output = plan.graph.select_outputs("d").unwrap()[0];
    kit::spoil(&kit.store, &resolved.artifact(output).unwrap().digest);
    // All four have the same content: those that nothing consumes are made again.
    assert_eq!(kit.known(), ["a: 10 s, same", "b: 5 s, same", "c: 1 s, same", "d: 100 s, same"]);
}

#[test]
fn limits_count_in_a_forecast() {
    let yaml = "pipeline: p\nsolids:\n  t: {version: \"1\", command: \"true\", limits: {gpu: 1}, matrix: {n: [1, 2, 3]}}\n";
    let mut kit = Kit::new(yaml, &[("t[n=1]", 2), ("t[n=2]", 2), ("t[n=3]", 2)]);
    kit.run();
    kit.replace("version: \"1\"", "version: \"2\"");
    assert_eq!(kit.forecast(8).elapsed_ms, Some(6_000));
}

#[test]
fn a_step_is_tried_again_after_the_failures_that_are_named_and_each_wait_is_longer() {
    let kit = Kit::new(
        r#"
pipeline: p
solids:
  a: {version: "1", command: "true", retries: {times: 4, on: [75, timeout], back_off: 1s, max: 3s, jitter: 0%}}
"#,
        &[],
    );
    kit.fails("a", &[Cause::Exit(75), Cause::Timeout, Cause::Exit(75)]);
    assert_eq!(kit.run(), ["a", "a", "a", "a"]);
    assert_eq!(kit.paused_s(), [1, 2, 3]);
    assert_eq!(kit.run(), [""; 0]);
}

#[test]
fn a_failure_that_is_not_named_is_final_and_so_is_one_too_many() {
    let yaml = "pipeline: p\nsolids: {a: {version: '1', command: 'true', retries: {times: 2, on: 75}}}\n";
    let kit = Kit::new(yaml, &[]);
    kit.fails("a", &[Cause::Exit(75), Cause::Exit(1)]);
    assert_eq!(kit.run(), ["a", "a"]);
    kit.fails("a", &[Cause::Exit(75), Cause::Exit(75), Cause::Exit(75), Cause::Exit(75)]);
    assert_eq!(kit.run(), ["a", "a", "a"]);
    kit.fails("a", &[]);
    assert_eq!(kit.run(), ["a"]);
}

#[test]
fn an_allowed_failure_stops_nothing_but_what_needs_it() {
    let yaml = r#"
pipeline: p
solids:
  a: {version: "1", command: "true", allow_failure: true}
  below: {version: "1", command: "true", inputs: {x: a}}
  b: {version: "2", command: "true"}
"#;
    let kit = Kit::new(yaml, &[]);
    kit.fails("a", &[Cause::Exit(1)]);
    let report = kit.report();
    let outcomes: Vec<&str> = report.outcomes.values().map(|outcome| outcome.word()).collect();
    assert_eq!(outcomes, ["failed", "skipped", "ran"]);
    assert_eq!((report.summary.failed, report.allowed), (1, 1));
    assert_eq!(*kit.ran.lock().unwrap(), ["a", "b"]);
    // It is tried again in the next run.
    kit.ran.lock().unwrap().clear();
    let report = kit.report();
    assert_eq!((report.allowed, report.outcomes.values().filter(|o| **o == Outcome::Ran).count()), (0, 2));
    assert_eq!(*kit.ran.lock().unwrap(), ["a", "below"]);
}
