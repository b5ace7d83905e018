//! Parts of the engine: plan, version, schedule, explain (all pure), and why a step of a large plan would run. `cargo bench -p cas-benches --bench engine`.
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cas_benches::{graph, grid, open, plan};
use cas_engine::execute::{Attempt, Attempted, Cancel, Execute, Produced};
use cas_engine::explain::differences;
use cas_engine::memo::{Memo, Wanted};
use cas_engine::run::{RunOptions, run_with};
use cas_engine::schedule::{Capacity, Edges, Need, Phase, Schedule};
use cas_engine::source::Environment;
use cas_engine::version::FactNode;
use cas_store::Hosting;
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const STEPS: [usize; 3] = [100, 1_000, 10_000];

/// From the text of the file to the graph.
#[divan::bench(args = STEPS)]
fn read(bencher: Bencher<'_, '_>, steps: usize) {
    let text = grid(steps);
    bencher.counter(ItemsCount::new(steps)).bench_local(|| graph(&text, Path::new("/")).unwrap());
}

/// From the graph to every step's version.
#[divan::bench(args = STEPS)]
fn version(bencher: Bencher<'_, '_>, steps: usize) {
    let text = grid(steps);
    bencher
        .counter(ItemsCount::new(steps))
        .with_inputs(|| graph(&text, Path::new("/")).unwrap())
        .bench_local_values(|graph| plan(graph).unwrap());
}

/// All steps of a grid, each after the three above it, on four cores.
#[divan::bench(args = STEPS)]
fn schedule(bencher: Bencher<'_, '_>, steps: usize) {
    bencher.counter(ItemsCount::new(steps)).bench_local(|| {
        let edges = Edges::new(steps, &mut |step, above| {
            above.extend((1..=3).filter_map(|by| step.checked_sub(by * 10)))
        });
        let classes = [Need { cpus: 1, ..Need::default() }];
        let capacity = Capacity { cpus: 4, memory: None, limits: Default::default() };
        let mut schedule = Schedule::new(
            edges,
            vec![Phase::Waiting; steps],
            &vec![1; steps],
            vec![0; steps],
            &classes,
            &capacity,
        );
        let mut ended = 0;
        while ended < steps {
            while let Some(step) = schedule.opened() {
                schedule.want(step);
            }
            while let Some(step) = schedule.start() {
                schedule.settle(step);
                ended += 1;
            }
        }
        schedule
    });
}

/// What differs between two steps, of which one thing does.
#[divan::bench]
fn explain(bencher: Bencher<'_, '_>) {
    let facts = |text: &str| {
        let plan = plan(graph(text, Path::new("/")).unwrap()).unwrap();
        let step = *plan.steps.last().unwrap();
        let mut version = |step: cas_engine::graph::StepId| plan.versions[step.0 as usize];
        let facts = plan.facts(step, &[0; 32], &mut version, &mut |_| None, &mut |_| true);
        let of = plan.versions[step.0 as usize].unwrap();
        (of, facts)
    };
    let before = facts(&grid(400));
    let after = facts(&grid(400).replace("cat {{ inputs.x }}", "cat < {{ inputs.x }}"));
    let node = |version: &cas_store::Version| -> Option<FactNode> {
        let mut all = before.1.iter().chain(&after.1);
        all.find(|(of, _)| of == version).map(|(_, node)| node.clone())
    };
    let (old, new) = (node(&before.0).unwrap(), node(&after.0).unwrap());
    assert!(!differences(&old, &new, &mut |version| node(version)).is_empty());
    bencher.bench_local(|| differences(&old, &new, &mut |version| node(version)));
}

/// Gives each step its name.
struct Names;

impl Execute for Names {
    fn execute(&self, attempt: &Attempt<'_>) -> Attempted {
        Attempted::new(Ok(vec![Produced::Bytes(attempt.step.into())]), Duration::ZERO)
    }
}

/// Why one of so many steps would run, with the plan at hand and three earlier versions of the step on record. It does
/// not grow with the plan.
#[divan::bench(args = STEPS)]
fn why(bencher: Bencher<'_, '_>, steps: usize) {
    let folder = tempfile::tempdir().unwrap();
    let memo = Memo::new(open(&folder.path().join("store"), Hosting::Willing).unwrap());
    let with = |steps: usize, command: &str| {
        plan(graph(&grid(steps).replace("cat", command), folder.path()).unwrap()).unwrap()
    };
    for command in ["cat", "cat -n", "tac"] {
        let options = RunOptions {
            wanted: Wanted::default(),
            jobs: 1,
            memory: None,
            limits: Default::default(),
            shared: false,
            keep_going: false,
            show_output: false,
            replay_logs: false,
            each_reused: false,
            each_expected: false,
            reproduce: false,
            overwrite: false,
            environment: Environment::default(),
            cancel: Arc::new(Cancel::default()),
            command_line: Vec::new(),
            home: None,
            combination: None,
            turn: None,
        };
        run_with(&with(4, command), &memo, &options, &Names, &mut |_| {}).unwrap();
    }
    let plan = with(steps, "/bin/cat");
    let resolved = memo.resolve(&plan, &Wanted::default()).unwrap();
    let past = memo.past("many").unwrap();
    let explain = || memo.explain(&plan, &resolved, &past, plan.steps[0]).unwrap();
    assert!(explain().chain[0].words.starts_with("command"));
    bencher.bench_local(explain);
}
