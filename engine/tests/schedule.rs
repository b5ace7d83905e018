//! The schedule, by its promises: inputs settled first, nothing twice, all ends reached, never more used than
//! there is, the longest path first.

use std::collections::BTreeMap;

use cas_engine::schedule::{Capacity, Edges, Need, Phase, Schedule};
use proptest::prelude::*;

/// A schedule of steps that each consume those listed, all of one kind unless `needs` says otherwise.
struct Kit {
    above: Vec<Vec<u32>>,
    durations: Vec<u64>,
    needs: Vec<u32>,
    classes: Vec<Need>,
    capacity: Capacity,
}

impl Kit {
    fn new(above: &[&[u32]]) -> Self {
        Self {
            above: above.iter().map(|above| above.to_vec()).collect(),
            durations: vec![0; above.len()],
            needs: vec![0; above.len()],
            classes: vec![Need { cpus: 1, ..Need::default() }],
            capacity: Capacity { cpus: 1, memory: None, limits: BTreeMap::new() },
        }
    }

    fn schedule(&self) -> Schedule {
        let edges = Edges::new(self.above.len(), &mut |step, out| {
            out.extend(&self.above[step as usize]);
        });
        let phases = vec![Phase::Waiting; self.above.len()];
        Schedule::new(edges, phases, &self.durations, self.needs.clone(), &self.classes, &self.capacity)
    }

    /// Runs everything, one step at a time, and gives the order.
    fn order(&self) -> Vec<u32> {
        let mut schedule = self.schedule();
        let mut order = Vec::new();
        loop {
            want_opened(&mut schedule);
            let Some(step) = schedule.start() else { return order };
            order.push(step);
            schedule.settle(step);
        }
    }
}

fn want_opened(schedule: &mut Schedule) {
    while let Some(step) = schedule.opened() {
        schedule.want(step);
    }
}

/// Starts whatever there is room for.
fn start_all(schedule: &mut Schedule) -> Vec<u32> {
    want_opened(schedule);
    std::iter::from_fn(|| schedule.start()).collect()
}

fn need(cpus: u32) -> Need {
    Need { cpus, ..Need::default() }
}

#[test]
fn a_chain_runs_in_its_order() {
    assert_eq!(Kit::new(&[&[], &[0], &[1]]).order(), [0, 1, 2]);
}

#[test]
fn the_longest_path_goes_first() {
    // 0 stands alone; 1 has two steps below it.
    assert_eq!(Kit::new(&[&[], &[], &[1], &[2]]).order(), [1, 2, 0, 3]);
}

#[test]
fn known_durations_decide_which_path_is_longest() {
    let mut kit = Kit::new(&[&[], &[], &[1], &[2]]);
    kit.durations = vec![60_000, 1, 1, 1];
    assert_eq!(kit.order(), [0, 1, 2, 3]);
}

#[test]
fn a_step_that_is_named_twice_counts_once() {
    assert_eq!(Kit::new(&[&[], &[0, 0, 0]]).order(), [0, 1]);
}

#[test]
fn no_more_run_at_once_than_there_are_cores() {
    let mut kit = Kit::new(&[&[], &[], &[]]);
    kit.capacity.cpus = 2;
    let mut schedule = kit.schedule();
    assert_eq!(start_all(&mut schedule), [0, 1]);
    schedule.settle(0);
    assert_eq!(start_all(&mut schedule), [2]);
}

#[test]
fn steps_run_behind_one_that_runs_in_its_room() {
    let mut kit = Kit::new(&[&[], &[], &[], &[], &[]]);
    kit.capacity.cpus = 2;
    let mut schedule = kit.schedule();
    want_opened(&mut schedule);
    assert_eq!(schedule.start(), Some(0));
    assert_eq!(
        (schedule.ready_as(0), schedule.start_behind(0), schedule.start_behind(0)),
        (4, Some(1), Some(2))
    );
    // There is room for one more beside them.
    assert_eq!((schedule.start(), schedule.start()), (Some(3), None));
    // The first is done; its room is that of those behind it.
    schedule.settle(0);
    schedule.give_back(2);
    assert_eq!((schedule.start(), schedule.running()), (None, 2));
    schedule.settle(1);
    assert_eq!((schedule.start(), schedule.start()), (Some(2), None));
    [2, 3].into_iter().for_each(|step| schedule.settle(step));
    assert_eq!((schedule.start(), schedule.start(), schedule.running()), (Some(4), None, 1));
}

#[test]
fn nothing_runs_behind_one_where_something_else_is_next() {
    let mut kit = Kit::new(&[&[], &[], &[], &[2]]);
    kit.classes.push(need(2));
    kit.capacity.cpus = 2;
    // The third has a step below it, and needs all there is.
    kit.needs = vec![0, 0, 1, 0];
    let mut schedule = kit.schedule();
    want_opened(&mut schedule);
    assert_eq!(schedule.start(), Some(2));
    assert_eq!(schedule.start_behind(2), None);
    schedule.settle(2);
    want_opened(&mut schedule);
    assert_eq!(schedule.start(), Some(0));
    assert_eq!(schedule.start_behind(0), Some(1));
}

#[test]
fn a_step_that_wants_more_than_there_is_runs_alone() {
    let mut kit = Kit::new(&[&[], &[], &[]]);
    kit.capacity.cpus = 2;
    kit.classes.push(need(16));
    kit.needs = vec![0, 1, 0];
    let mut schedule = kit.schedule();
    // Step 1 has its turn after 0, and nothing passes it by meanwhile.
    assert_eq!(start_all(&mut schedule), [0]);
    schedule.settle(0);
    assert_eq!(start_all(&mut schedule), [1]);
    schedule.settle(1);
    assert_eq!(start_all(&mut schedule), [2]);
}

#[test]
fn a_named_limit_that_nobody_gave_is_one() {
    let mut kit = Kit::new(&[&[], &[], &[]]);
    kit.capacity.cpus = 8;
    let gpu = |amount| Need { cpus: 1, memory: 0, limits: BTreeMap::from([("gpu".to_owned(), amount)]) };
    kit.classes = vec![gpu(1)];
    assert_eq!(start_all(&mut kit.schedule()), [0]);
    kit.capacity.limits.insert("gpu".to_owned(), 2);
    assert_eq!(start_all(&mut kit.schedule()), [0, 1]);
    kit.classes = vec![gpu(5)];
    assert_eq!(start_all(&mut kit.schedule()), [0]);
}

#[test]
fn memory_is_shared_where_it_is_limited() {
    let mut kit = Kit::new(&[&[], &[], &[]]);
    kit.capacity.cpus = 8;
    kit.classes = vec![Need { cpus: 1, memory: 6, limits: BTreeMap::new() }];
    assert_eq!(start_all(&mut kit.schedule()), [0, 1, 2]);
    kit.capacity.memory = Some(13);
    assert_eq!(start_all(&mut kit.schedule()), [0, 1]);
}

#[test]
fn a_failure_ends_what_is_below_it_and_nothing_else() {
    let mut schedule = Kit::new(&[&[], &[], &[0], &[2], &[1]]).schedule();
    want_opened(&mut schedule);
    assert_eq!(schedule.start(), Some(0));
    assert_eq!(schedule.end(0), [2, 3]);
    assert_eq!(schedule.start(), Some(1));
    schedule.settle(1);
    assert_eq!(start_all(&mut schedule), [4]);
}

#[test]
fn what_is_taken_back_takes_back_what_stands_on_it() {
    let mut schedule = Kit::new(&[&[], &[0], &[1], &[]]).schedule();
    for step in [0, 1] {
        want_opened(&mut schedule);
        assert_eq!(schedule.start(), Some(step));
        schedule.settle(step);
    }
    // Step 2 opens; before it runs, the bytes of 0 are found gone.
    assert_eq!(schedule.opened(), Some(2));
    assert_eq!(schedule.take_back(0), [0, 1]);
    assert_eq!(schedule.phase(2), Phase::Waiting);
    let mut order = Vec::new();
    loop {
        want_opened(&mut schedule);
        let Some(step) = schedule.start() else { break };
        order.push(step);
        schedule.settle(step);
    }
    assert_eq!(order, [0, 1, 2, 3]);
}

#[test]
fn a_step_that_runs_while_its_input_is_taken_back_is_looked_at_again() {
    let mut schedule = Kit::new(&[&[], &[0]]).schedule();
    want_opened(&mut schedule);
    assert_eq!(schedule.start(), Some(0));
    schedule.settle(0);
    want_opened(&mut schedule);
    assert_eq!(schedule.start(), Some(1));
    assert_eq!(schedule.take_back(0), [0]);
    assert!(!schedule.inputs_settled(1));
    schedule.reopen(1);
    assert_eq!(schedule.phase(1), Phase::Waiting);
    assert_eq!(start_all(&mut schedule), [0]);
    schedule.settle(0);
    assert_eq!(start_all(&mut schedule), [1]);
}

/// What happens next to a schedule under test.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Settle,
    Fail,
    TakeBack(usize),
}

fn turn() -> impl Strategy<Value = Turn> {
    // Mostly all goes well; a schedule that mostly fails is over at once and shows nothing.
    prop_oneof![
        8 => Just(Turn::Settle),
        1 => Just(Turn::Fail),
        1 => (0..64_usize).prop_map(Turn::TakeBack),
    ]
}

fn graph() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..24).prop_map(
        |steps| {
            let above = |step: usize, above: Vec<prop::sample::Index>| {
                let pick = |index: &prop::sample::Index| u32::try_from(index.index(step)).unwrap_or(0);
                if step == 0 { Vec::new() } else { above.iter().map(pick).collect() }
            };
            steps.into_iter().enumerate().map(|(step, picks)| above(step, picks)).collect()
        },
    )
}

proptest! {
    #[test]
    fn inputs_settle_first_nothing_runs_twice_and_all_ends_are_reached(
        above in graph(),
        sizes in prop::collection::vec(1..6_u32, 24),
        cpus in 1..5_u32,
        turns in prop::collection::vec(turn(), 200),
    ) {
        let mut kit = Kit::new(&[]);
        kit.needs = (0..above.len()).map(|step| u32::try_from(step % 5).unwrap_or(0)).collect();
        kit.durations = above.iter().map(|above| above.len() as u64).collect();
        kit.classes = sizes[..5].iter().map(|size| need(*size)).collect();
        kit.capacity.cpus = cpus;
        kit.above = above.clone();
        let mut schedule = kit.schedule();
        let count = u32::try_from(above.len()).unwrap_or(0);
        let mut running: Vec<u32> = Vec::new();
        // How often each may run: once, and once more each time it is taken back.
        let mut allowed = vec![1; above.len()];
        let mut ran = vec![0; above.len()];
        let mut turns = turns.into_iter();
        loop {
            want_opened(&mut schedule);
            while let Some(step) = schedule.start() {
                for above in &above[step as usize] {
                    prop_assert_eq!(schedule.phase(*above), Phase::Settled);
                }
                ran[step as usize] += 1;
                prop_assert!(ran[step as usize] <= allowed[step as usize], "step {} ran again", step);
                running.push(step);
                let used: u32 =
                    running.iter().map(|step| kit.classes[(step % 5) as usize].cpus.min(cpus)).sum();
                prop_assert!(used <= cpus, "{} of {} cores", used, cpus);
            }
            prop_assert_eq!(schedule.running(), running.len());
            if running.is_empty() {
                break;
            }
            let turn = turns.next().unwrap_or(Turn::Settle);
            if let Turn::TakeBack(index) = turn {
                let settled: Vec<u32> =
                    (0..count).filter(|step| schedule.phase(*step) == Phase::Settled).collect();
                if !settled.is_empty() {
                    for step in schedule.take_back(settled[index % settled.len()]) {
                        allowed[step as usize] += 1;
                    }
                }
                continue;
            }
            let step = running.remove(0);
            if matches!(turn, Turn::Fail) || schedule.hopeless(step) {
                schedule.end(step);
            } else if schedule.inputs_settled(step) {
                schedule.settle(step);
            } else {
                allowed[step as usize] += 1;
                schedule.reopen(step);
            }
        }
        for step in 0..count {
            prop_assert!(
                matches!(schedule.phase(step), Phase::Settled | Phase::Ended),
                "step {} is {:?}", step, schedule.phase(step)
            );
        }
    }
}
