//! Short functions that are handed to a worker together: each runs once, is told of as if it had been handed out by
//! itself, and waits for none that takes long.
//!
//! A body captures nothing, so each test has its own counters beside it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use cas_engine::event::{Event, Outcome, Summary};
use cas_engine::memo::Memo;
use cas_engine::typed::{Axis, Builder, Options, run};
use cas_store::{Create, Hosting, Open, Store};

/// So many steps that they are handed out together long before the end.
const STEPS: u64 = 300;

/// The one that is different.
const ODD: u64 = 150;

/// A count that somebody may wait for.
struct Count(Mutex<u64>, Condvar);

impl Count {
    const fn new() -> Self {
        Self(Mutex::new(0), Condvar::new())
    }

    fn add(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.1.notify_all();
    }

    fn now(&self) -> u64 {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for it; an error where it never comes.
    fn wait(&self, wanted: u64) -> Result<u64, std::io::Error> {
        let count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.1.wait_timeout_while(count, Duration::from_secs(60), |count| *count < wanted);
        let (count, late) = waited.unwrap_or_else(PoisonError::into_inner);
        let text = format!("{count} of {wanted} came");
        if late.timed_out() { Err(std::io::Error::other(text)) } else { Ok(*count) }
    }
}

/// Makes a step of each number, with this body. (Each test has another under the same version, and a store of its own.)
macro_rules! steps {
    ($body:expr) => {
        |builder: &mut Builder, axis: &Axis<u64>| {
            builder.solid("next", "1").over(axis).run_fallible($body);
        }
    };
}

fn run_all(
    store: &Path,
    jobs: usize,
    steps: impl FnOnce(&mut Builder, &Axis<u64>),
    tell: impl FnMut(&Event),
) -> Summary {
    let mut builder = Builder::new("numbers").folder(store.parent().unwrap());
    steps(&mut builder, &Axis::new("n", 0..STEPS));
    let options = Options { all: true, jobs, ..Options::default() };
    *run(&builder.build().unwrap(), store, options, tell).unwrap().summary()
}

/// What a body that may fail gives.
type Made = Result<u64, std::io::Error>;

#[test]
fn each_is_told_as_if_it_had_been_handed_out_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let mut events = Vec::new();
    let summary =
        run_all(&store, 2, steps!(|n: u64| -> Made { Ok(n + 1) }), |event| events.push(event.clone()));
    assert_eq!(summary.ran as u64, STEPS);
    let mut at_work: BTreeMap<usize, String> = BTreeMap::new();
    let mut workers: HashMap<String, usize> = HashMap::new();
    let mut finished = 0;
    for event in events {
        match event {
            Event::StepStarted { step, worker, .. } => {
                assert_eq!(at_work.insert(worker, step.clone()), None, "{step}");
                assert_eq!(workers.insert(step.clone(), worker), None, "{step} runs twice");
            }
            Event::StepFinished { step, outcome, .. } => {
                assert_eq!(outcome, Outcome::Ran);
                assert_eq!(at_work.remove(&workers[&step]), Some(step));
                finished += 1;
            }
            _ => {}
        }
    }
    assert_eq!((finished, at_work.len()), (STEPS, 0));
    let summary = run_all(&store, 2, steps!(|n: u64| -> Made { Ok(n + 1) }), |_| {});
    assert_eq!((summary.ran, summary.reused as u64), (0, STEPS));
}

#[test]
fn a_long_one_holds_up_no_other() {
    static OTHERS: Count = Count::new();
    let dir = tempfile::tempdir().unwrap();
    let body = steps!(|n: u64| {
        if n == ODD {
            return OTHERS.wait(STEPS - 1);
        }
        OTHERS.add();
        Ok(n)
    });
    let summary = run_all(&dir.path().join("store"), 2, body, |_| {});
    assert_eq!((summary.ran as u64, summary.failed), (STEPS, 0));
}

#[test]
fn what_was_made_before_a_long_one_is_told_while_that_runs() {
    static TOLD: Count = Count::new();
    let dir = tempfile::tempdir().unwrap();
    let body = steps!(|n: u64| if n == ODD { TOLD.wait(ODD) } else { Ok(n) });
    let tell = |event: &Event| {
        if let Event::StepFinished { outcome: Outcome::Ran, .. } = event {
            TOLD.add();
        }
    };
    let summary = run_all(&dir.path().join("store"), 1, body, tell);
    assert_eq!((summary.ran as u64, summary.failed), (STEPS, 0));
}

#[test]
fn after_a_failure_nothing_more_is_begun() {
    static BEGUN: Count = Count::new();
    let dir = tempfile::tempdir().unwrap();
    let body = steps!(|n: u64| {
        BEGUN.add();
        if n == ODD { Err(std::io::Error::other("it is odd")) } else { Ok(n) }
    });
    let summary = run_all(&dir.path().join("store"), 1, body, |_| {});
    assert_eq!((summary.ran as u64, summary.failed, BEGUN.now()), (ODD, 1, ODD + 1));
    assert_eq!(summary.cancelled as u64, STEPS - ODD - 1);
}

#[test]
fn a_panic_is_the_failure_of_its_own_step() {
    let dir = tempfile::tempdir().unwrap();
    let body = steps!(|n: u64| -> Made { if n == ODD { panic!("it is odd") } else { Ok(n) } });
    let summary = run_all(&dir.path().join("store"), 1, body, |_| {});
    assert_eq!((summary.ran as u64, summary.failed), (ODD, 1));
}

#[test]
fn two_runs_at_once_run_each_of_them_once() {
    static BEGUN: Count = Count::new();
    let dir = tempfile::tempdir().unwrap();
    let body = || {
        steps!(|n: u64| -> Made {
            BEGUN.add();
            Ok(n)
        })
    };
    let store = dir.path().join("store");
    let summaries = std::thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| run_all(&store, 2, body(), |_| {})));
        runs.map(|run| run.join().unwrap())
    });
    assert_eq!(BEGUN.now(), STEPS);
    assert_eq!(summaries.iter().map(|summary| summary.ran as u64).sum::<u64>(), STEPS);
    for summary in summaries {
        let done = summary.ran + summary.joined + summary.reused + summary.unchanged;
        assert_eq!((done as u64, summary.failed), (STEPS, 0));
    }
}

#[test]
fn what_a_long_one_holds_up_is_left_to_other_runs() {
    static LONG: Count = Count::new();
    static OTHERS: Count = Count::new();
    let dir = tempfile::tempdir().unwrap();
    let body = || {
        steps!(|n: u64| {
            if n == ODD {
                LONG.add();
                return OTHERS.wait(STEPS - 1);
            }
            OTHERS.add();
            Ok(n)
        })
    };
    let store = dir.path().join("store");
    let summaries = std::thread::scope(|scope| {
        // The first has nobody who could take what is left from its one worker.
        let first = scope.spawn(|| run_all(&store, 1, body(), |_| {}));
        LONG.wait(1).unwrap();
        let second = run_all(&store, 2, body(), |_| {});
        [first.join().unwrap(), second]
    });
    assert_eq!((LONG.now(), OTHERS.now()), (1, STEPS - 1));
    assert_eq!(summaries.map(|summary| summary.failed), [0, 0]);
}

/// What was taken back from a worker took the step that it was at off the account of the run.
#[test]
fn the_account_names_the_long_one_while_what_it_held_up_is_taken_back() {
    static LONG: Count = Count::new();
    static NOTED: Count = Count::new();
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let body = steps!(|n: u64| {
        if n == ODD {
            LONG.add();
            return NOTED.wait(1);
        }
        Ok(n)
    });
    std::thread::scope(|scope| {
        let run = scope.spawn(|| run_all(&store, 1, body, |_| {}));
        LONG.wait(1).unwrap();
        let open = Open {
            create: Create::Never,
            hosting: Hosting::default(),
            wait: Duration::from_secs(60),
            owner: "a test".to_owned(),
            on_wait: &mut |_| {},
        };
        let memo = Memo::new(Store::open(&store, open).unwrap());
        let at_work = loop {
            let (_, record) = memo.runs(None, 1).unwrap().remove(0);
            if record.steps.len() as u64 >= ODD {
                break record.running;
            }
            std::thread::yield_now();
        };
        NOTED.add();
        let at_work: Vec<String> = at_work.into_iter().map(|running| running.step).collect();
        assert_eq!(at_work, ["next[n=150]"]);
        assert_eq!(run.join().unwrap().ran as u64, STEPS);
    });
}
