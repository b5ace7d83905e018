//! What the engine costs, held down by counting: how often it asks for memory does not depend on the machine, on
//! what else runs there, or on the time of day. A count that rises past its bound is work that was added to every
//! step of every run; whoever adds it for a good reason raises the bound beside that reason.
//!
//! Alone in its file: the count is the process's.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cas_engine::config::RunConfig;
use cas_engine::execute::{Attempt, Attempted, Cancel, Execute, Produced};
use cas_engine::file;
use cas_engine::graph::Graph;
use cas_engine::memo::{Memo, Wanted};
use cas_engine::plan::Plan;
use cas_engine::run::{RunOptions, run_with};
use cas_engine::source::{Environment, Measure, measure};
use cas_engine::typed::{self, Axis, Builder, Options};
use cas_store::{Commit, Create, Hosting, Open, Output, Store, Trace};

/// The system's allocator, with a count of what it is asked for.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by its signature; this one only counts and hands on")]
// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test counts at a time.
static ONE: Mutex<()> = Mutex::new(());

/// How often, and for how many bytes, memory was asked for while this was done.
fn counted<T>(work: impl FnOnce() -> T) -> (T, u64, u64) {
    let (asked, bytes) = (ASKED.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    let done = work();
    (done, ASKED.load(Ordering::Relaxed) - asked, BYTES.load(Ordering::Relaxed) - bytes)
}

/// So many steps `say`, one per number, as a user writes them.
fn pipeline(steps: usize) -> String {
    let values: Vec<String> = (0..steps).map(|n| n.to_string()).collect();
    let values = values.join(", ");
    format!(
        "pipeline: numbers\nsolids:\n  say:\n    matrix: {{n: [{values}]}}\n    command: echo {{{{ config.n }}}} > {{{{ outputs.result }}}}\n"
    )
}

fn plan(text: &str, folder: &Path) -> Plan {
    let mut pipeline = file::pipeline(Path::new("pipeline.yaml"), text, &mut |_| unreachable!()).unwrap();
    pipeline.folder = folder.to_owned();
    pipeline.home.clone_from(&pipeline.folder);
    let graph = Graph::new(Arc::new(pipeline), None, &RunConfig::default()).unwrap();
    let steps: Vec<_> = graph.ids().collect();
    let environment = Environment::default();
    let how = Measure { store: Some(folder.join(".cas")), ..Measure::new(&environment) };
    let measures = measure(&graph, &steps, &how).unwrap();
    Plan::new(Arc::new(graph), Arc::new(measures), steps)
}

fn store(dir: &Path) -> Store {
    let open = Open {
        create: Create::IfAbsent,
        wait: Duration::ZERO,
        owner: "a test".to_owned(),
        hosting: Hosting::Willing,
        on_wait: &mut |_| {},
    };
    Store::open(dir, open).unwrap()
}

/// Gives each step its name as its output.
struct Names;

impl Execute for Names {
    fn execute(&self, attempt: &Attempt<'_>) -> Attempted {
        let bytes = attempt.step.as_bytes().to_vec();
        Attempted::new(Ok(vec![Produced::Bytes(bytes)]), Duration::ZERO)
    }
}

/// `split` gives a folder of ten thousand files, of which one is as it is told, and so is what its step gives; each other
/// step gives its name. Notes what ran.
struct Parts {
    odd: &'static str,
    ran: Mutex<Vec<String>>,
}

impl Execute for Parts {
    fn execute(&self, attempt: &Attempt<'_>) -> Attempted {
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).push(attempt.step.to_owned());
        if attempt.step == "each[part=4321]" {
            return Attempted::new(Ok(vec![Produced::Bytes(self.odd.into())]), Duration::ZERO);
        }
        if attempt.step != "split" {
            return Names.execute(attempt);
        }
        let parts = attempt.folder.join("parts");
        std::fs::create_dir(&parts).unwrap();
        for part in 0..10_000 {
            let text = if part == 4321 { self.odd } else { "as ever" };
            std::fs::write(parts.join(format!("{part:04}")), format!("{part} {text}")).unwrap();
        }
        Attempted::new(Ok(vec![Produced::Folder(parts)]), Duration::ZERO)
    }
}

/// Runs a pipeline, and gives how many of its steps ran.
fn run(text: &str, folder: &Path, store: &Store) -> usize {
    run_by(text, folder, store, &Names)
}

fn run_by(text: &str, folder: &Path, store: &Store, executor: &dyn Execute) -> usize {
    let plan = plan(text, folder);
    let options = RunOptions {
        wanted: Wanted::default(),
        jobs: 1,
        memory: None,
        limits: BTreeMap::new(),
        shared: true,
        keep_going: false,
        show_output: false,
        replay_logs: false,
        each_reused: false,
        each_expected: false,
        reproduce: false,
        overwrite: false,
        environment: Environment::default(),
        cancel: Arc::new(Cancel::default()),
        command_line: vec!["cas".to_owned(), "run".to_owned()],
        combination: None,
        home: None,
        turn: None,
    };
    let report = run_with(&plan, &Memo::new(store.clone()), &options, executor, &mut |_| {}).unwrap();
    report.summary.ran
}

#[track_caller]
fn at_most(bound: u64, counted: u64, of: &str) {
    assert!(counted <= bound, "{counted} allocations {of}, and {bound} are the bound");
    // A bound that is never neared guards nothing.
    assert!(counted * 3 / 2 >= bound, "only {counted} allocations {of}: lower the bound of {bound}");
}

#[test]
fn planning_ten_thousand_steps() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let text = pipeline(10_000);
    let (plan, asked, _) = counted(|| plan(&text, folder.path()));
    assert_eq!(plan.steps.len(), 10_000);
    // Reading the list of values is most of it.
    at_most(PLAN, asked, "to plan 10,000 steps");
}

#[test]
fn a_run_of_a_thousand_steps_with_nothing_to_do() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join(".cas"));
    let text = pipeline(1000);
    let (ran, asked, _) = counted(|| run(&text, folder.path(), &store));
    assert_eq!(ran, 1000);
    println!("{asked} allocations");
    at_most(COLD, asked, "to run 1,000 steps");
    let (ran, asked, _) = counted(|| run(&text, folder.path(), &store));
    assert_eq!(ran, 0);
    at_most(NO_OP, asked, "for 1,000 steps with nothing to do");
}

/// Functions that take next to no time are handed out, committed and told of together.
#[test]
fn a_run_of_a_thousand_short_functions() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let mut builder = Builder::new("numbers").folder(folder.path());
    let axis = Axis::new("n", 0..1000_u64);
    builder.solid("next", "1").over(&axis).run(|n: u64| n + 1);
    let pipeline = builder.build().unwrap();
    let options = Options { all: true, jobs: 1, ..Options::default() };
    let run = || typed::run(&pipeline, &folder.path().join(".cas"), options, |_| {}).unwrap();
    let (run, asked, _) = counted(run);
    assert_eq!(run.summary().ran, 1000);
    println!("{asked} allocations");
    at_most(FUNCTIONS, asked, "to run 1,000 functions");
}

/// Of ten thousand elements one is another: it runs, with what makes the list and what gathers it, and the others cost
/// what it costs to see that they are as they were.
#[test]
fn one_changed_element_of_ten_thousand() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join(".cas"));
    let text = "pipeline: parts\nsolids:\n  \
                split: {config: {n: {type: int, default: 1}}, command: 'true', outputs: [{parts: {list: true}}]}\n  \
                each: {map: {part: split.parts}, command: cat inputs/part, stdout: result}\n  \
                total: {inputs: {all: 'each[*]'}, command: ls inputs/all, stdout: result}\n";
    let run = |text: &str, odd| {
        let parts = Parts { odd, ran: Mutex::default() };
        let (count, asked, _) = counted(|| run_by(text, folder.path(), &store, &parts));
        let ran = parts.ran.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(ran.len(), count);
        (ran, asked)
    };
    let mut all = vec!["split".to_owned()];
    all.extend((0..10_000).map(|part| format!("each[part={part:04}]")));
    all.push("total".to_owned());
    let (ran, cold) = run(text, "as ever");
    assert_eq!(ran, all);
    let (ran, asked) = run(&text.replace("default: 1", "default: 2"), "another");
    assert_eq!(ran, ["split", "each[part=4321]", "total"]);
    println!("{cold} allocations for 10,000 elements, {asked} for one of them");
    assert!(asked * 2 < cold, "{asked} allocations for one changed element, and {cold} for all");
    let (ran, asked) = run(&text.replace("default: 1", "default: 2"), "another");
    assert_eq!(ran, Vec::<String>::new());
    println!("{asked} for none of them");
    assert!(asked * 4 < cold, "{asked} allocations with nothing to do, and {cold} for all");
}

/// With the plan at hand, why one of ten thousand steps would run is found by looking at that step alone.
#[test]
fn explaining_one_of_ten_thousand_steps() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join(".cas"));
    // A few of them have a history; each of the others has none.
    for word in ["echo", "echo -n", "printf %s"] {
        assert_eq!(run(&pipeline(10).replace("echo", word), folder.path(), &store), 10);
    }
    let plan = plan(&pipeline(10_000).replace("echo", "/bin/echo"), folder.path());
    let memo = Memo::new(store);
    let resolved = memo.resolve(&plan, &Wanted::default()).unwrap();
    let past = memo.past("numbers").unwrap();
    let step = plan.steps[7];
    let explain = || memo.explain(&plan, &resolved, &past, step).unwrap();
    // What is looked for once, for all steps.
    let _ = explain();
    let (explained, asked, _) = counted(explain);
    assert_eq!(explained.chain.len(), 1);
    assert!(explained.chain[0].words.starts_with("command"), "{}", explained.chain[0].words);
    println!("{asked} allocations");
    at_most(EXPLAIN, asked, "to explain a step");
}

#[test]
fn a_put_of_one_mebibyte() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    // Text, so that it is compressed; the second of two, because the first makes what is kept for the next.
    let put = |number: u8| {
        let bytes: Vec<u8> = (0..1 << 20).map(|at: u32| (b'a' + (at % 23) as u8) ^ number).collect();
        counted(|| {
            let staged = store.stage_bytes(&bytes).unwrap();
            let artifact = Some(staged.artifact("bytes"));
            let outputs = vec![Output { name: "result".to_owned(), artifact }];
            store.commit(Commit::bare(Trace::from_bytes([number; 32]), outputs, vec![staged])).unwrap();
        })
    };
    put(1);
    let ((), asked, bytes) = put(2);
    at_most(PUT, asked, "for a put of one mebibyte");
    assert!(bytes <= PUT_BYTES, "{bytes} bytes for a put of one mebibyte, and {PUT_BYTES} are the bound");
}

/// Four for each step: its value of the matrix is read and kept (text, label, map of the config).
const PLAN: u64 = 45_000;

/// What an attempt is told, its facts and provenance, the commit, and two events; planning it is part of it.
/// (Measured: 285,565 to 289,316.)
const COLD: u64 = 315_000;

/// As [`COLD`], through the Rust API, opening and closing the store included. (Measured: 193,709.)
const FUNCTIONS: u64 = 215_000;

/// As planning, and for each step its row and its result. (Measured: 11,965, and 16,935 before.)
const NO_OP: u64 = 17_500;

/// The history of one step, eight versions of it at most, and the facts in which they differ: nothing that grows with
/// the plan. (Measured: 356, in 0.4 ms where nothing is optimised.)
const EXPLAIN: u64 = 450;

/// The pipeline of hashing, compressing and writing, and one commit. (Measured: 109.)
const PUT: u64 = 130;

/// Buffers of that pipeline, a few frames in flight: they do not grow with what is put. (Measured: 5,277,930.)
const PUT_BYTES: u64 = 6_000_000;
