//! What is left of runs that go on, laid out again by the rule that foresaw them: what has ended is done, what runs has its
//! slot and some of its time behind it, and the rest is handed out by the real schedule. Pure.
//!
//! Where steps take longer than expected, the rest is taken to do so, too. What takes longer than it should has nothing
//! left, and is not owed any time.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::laid_out::{self, Begun, Pace, ToRun, Took, elapsed_ms};
use crate::graph::StepId;
use crate::past::Past;
use crate::plan::Plan;
use crate::resolve::StepState;
use crate::schedule::Capacity;

/// What was to run of a plan when it was told how long that will take.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outlook {
    /// How long each takes is known, or taken to be known.
    to_run: ToRun,
    /// The nodes of each step, by its name: one, or as many as a list is likely to have.
    nodes: HashMap<String, Range<u32>>,
    capacity: Option<Capacity>,
}

impl Outlook {
    /// Of what is to run of a plan; see [`ToRun::of`].
    pub(crate) fn of(
        plan: &Plan,
        states: &[StepState],
        past: &Past,
        lengths: &BTreeMap<StepId, usize>,
        capacity: &Capacity,
    ) -> Self {
        // One store: what several runs of a sweep make of equal versions is made once.
        let (mut to_run, places) = ToRun::placed(Path::new(""), plan, states, past, lengths);
        to_run.fill_in();
        let named = plan.graph.ids().zip(places).filter_map(|(step, place)| {
            let (first, count) = place?;
            Some((plan.graph.step_name(step), first..first.saturating_add(count)))
        });
        Self { nodes: named.collect(), to_run, capacity: Some(capacity.clone()) }
    }

    /// Of steps each of which is told how long it takes, and which of those before it it consumes; so many run at once.
    pub fn known(steps: &[(&str, u64, &[u32])], jobs: u32) -> Self {
        let known: Vec<(u64, &[u32])> = steps.iter().map(|(_, took, above)| (*took, *above)).collect();
        let nodes = steps.iter().zip(0..).map(|((step, ..), at)| ((*step).to_owned(), at..at + 1)).collect();
        let capacity = Capacity { cpus: jobs, memory: None, limits: BTreeMap::new() };
        Self { to_run: ToRun::known(&known), nodes, capacity: Some(capacity) }
    }

    /// From beginning to end.
    pub fn elapsed_ms(&self) -> u64 {
        let Some(capacity) = &self.capacity else { return 0 };
        elapsed_ms(std::slice::from_ref(&self.to_run), capacity, 1, took(Pace::EVEN))
    }
}

/// Everything is known, or taken to be, and nothing to turn out unchanged.
fn took(pace: Pace) -> Took {
    Took { typical_ms: 0, unchanged: false, pace }
}

/// How far a run is.
#[derive(Debug, Clone)]
pub struct Going {
    outlook: Arc<Outlook>,
    /// By node.
    ended: Vec<bool>,
    /// How long what ran to an end was expected to take, and took.
    ran: Pace,
}

impl Going {
    /// One of which nothing has ended.
    pub fn new(outlook: Arc<Outlook>) -> Self {
        let ended = vec![false; outlook.to_run.len()];
        Self { outlook, ended, ran: Pace { took_ms: 0, expected_ms: 0 } }
    }

    /// The same run with another outlook: its plan grew.
    pub fn again(&self, outlook: Arc<Outlook>) -> Self {
        Self { ran: self.ran, ..Self::new(outlook) }
    }

    /// A step ended; how long it took, if it ran.
    pub fn ended(&mut self, step: &str, took_ms: Option<u64>) {
        let Some(nodes) = self.outlook.nodes.get(step) else { return };
        if let Some(took_ms) = took_ms {
            let expected_ms = self.outlook.to_run.work_ms(nodes.clone());
            self.ran = self.ran.and(Pace { took_ms, expected_ms });
        }
        self.ended[nodes.start as usize..nodes.end as usize].fill(true);
    }

    /// The nodes of what runs now, in order.
    fn running(&self, running: &[(&str, u64)]) -> Vec<(u32, u64)> {
        let node = |(step, so_far): &(&str, u64)| Some((self.outlook.nodes.get(*step)?.start, *so_far));
        let mut nodes: Vec<(u32, u64)> = running.iter().filter_map(node).collect();
        nodes.sort_unstable();
        nodes.dedup_by_key(|(node, _)| *node);
        nodes
    }
}

/// How long what is left of runs over one pool will take from now on, in milliseconds; beside each what runs of it now, each
/// for how long. `None` where nothing is expected of any.
pub fn left_ms(runs: &[(&Going, Vec<(&str, u64)>)]) -> Option<u64> {
    let capacity = runs.iter().find_map(|(going, _)| going.outlook.capacity.as_ref())?;
    let work = |(going, _): &(&Going, _)| going.outlook.to_run.work_ms(0..u32::MAX);
    let work: u64 = runs.iter().map(work).fold(0, u64::saturating_add);
    if work == 0 {
        return None;
    }
    // As if a tenth of it had gone as expected: one short step that took its time says little.
    let some = Pace { took_ms: work / 10, expected_ms: work / 10 };
    let pace = runs.iter().map(|(going, _)| going.ran).fold(some, Pace::and);
    let running: Vec<Vec<(u32, u64)>> = runs.iter().map(|(going, running)| going.running(running)).collect();
    let begun = runs.iter().zip(&running).map(|((going, _), running)| Begun {
        plan: &going.outlook.to_run,
        ended: &going.ended,
        running,
    });
    Some(laid_out::left_ms(&begun.collect::<Vec<_>>(), capacity, took(pace)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &[u32] = &[];

    fn going(steps: &[(&str, u64, &[u32])]) -> Going {
        Going::new(Arc::new(Outlook::known(steps, 2)))
    }

    fn check(going: &Going, running: &[(&str, u64)], left: u64) {
        assert_eq!(left_ms(&[(going, running.to_vec())]), Some(left));
    }

    /// Four seconds were told where eight were to come: of what was to be done a half was done, and so a half of the time
    /// was taken to be over.
    #[test]
    fn what_runs_alone_at_the_end_takes_its_time() {
        let mut wide = going(&[
            ("a", 2000, NONE),
            ("b", 2000, NONE),
            ("c", 2000, NONE),
            ("d", 2000, NONE),
            ("tail", 8000, &[0, 1, 2, 3]),
        ]);
        assert_eq!(wide.outlook.elapsed_ms(), 12_000);
        check(&wide, &[], 12_000);
        check(&wide, &[("a", 500), ("b", 500)], 11_500);
        wide.ended("a", Some(2000));
        wide.ended("b", Some(2000));
        check(&wide, &[("c", 0), ("d", 0)], 10_000);
        check(&wide, &[("c", 2000), ("d", 2000)], 8000);
        wide.ended("c", Some(2000));
        wide.ended("d", Some(2000));
        check(&wide, &[("tail", 0)], 8000);
        check(&wide, &[("tail", 5000)], 3000);
    }

    /// Four of four seconds, two at once: it was told as more the nearer the end came.
    #[test]
    fn what_is_left_gets_less_as_time_goes_by() {
        let mut four = going(&[("a", 4000, NONE), ("b", 4000, NONE), ("c", 4000, NONE), ("d", 4000, NONE)]);
        check(&four, &[("a", 0), ("b", 0)], 8000);
        check(&four, &[("a", 2000), ("b", 2000)], 6000);
        four.ended("a", Some(4000));
        four.ended("b", Some(4000));
        check(&four, &[("c", 0), ("d", 0)], 4000);
        check(&four, &[("c", 3000), ("d", 3000)], 1000);
        // What takes longer than it should has nothing left, and is not owed any time.
        check(&four, &[("c", 9000), ("d", 9000)], 0);
        four.ended("c", Some(4000));
        four.ended("d", None);
        check(&four, &[], 0);
    }

    #[test]
    fn a_chain_is_no_crowd_and_the_longest_is_waited_for() {
        let mut chain = going(&[("a", 10_000, NONE), ("b", 10_000, &[0]), ("c", 20_000, NONE)]);
        chain.ended("a", Some(10_000));
        check(&chain, &[("b", 0), ("c", 10_000)], 10_000);
        // What was taken back in runs again.
        check(&chain, &[("a", 0), ("c", 10_000)], 20_000);
        let mut long = going(&[("long", 10_000, NONE), ("x", 1000, NONE), ("y", 1000, NONE)]);
        long.ended("x", Some(1000));
        long.ended("y", Some(1000));
        check(&long, &[("long", 3000)], 7000);
    }

    #[test]
    fn where_all_takes_twice_as_long_the_rest_does_too() {
        let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let steps: Vec<(&str, u64, &[u32])> = names.iter().map(|name| (&**name, 1000, NONE)).collect();
        let mut slow = Going::new(Arc::new(Outlook::known(&steps, 1)));
        names[..50].iter().for_each(|name| slow.ended(name, Some(2000)));
        // 110 s for 60: the tenth that went as expected among them.
        check(&slow, &[], 50 * 1833);
        // Its plan grew: how fast it goes is known still.
        let grown = slow.again(Arc::new(Outlook::known(&steps, 1)));
        check(&grown, &[], 100 * 1833);
    }

    #[test]
    fn several_runs_share_the_workers() {
        let three = [(); 3].map(|()| going(&[("fit", 4000, NONE)]));
        let at =
            |running: [Vec<(&'static str, u64)>; 3]| left_ms(&three.iter().zip(running).collect::<Vec<_>>());
        assert_eq!(at([vec![], vec![], vec![]]), Some(8000));
        // Who runs has its slot, whatever its place.
        assert_eq!(at([vec![], vec![("fit", 1000)], vec![("fit", 1000)]]), Some(7000));
        assert_eq!(left_ms(&[]), None);
        assert_eq!(left_ms(&[(&Going::new(Arc::default()), Vec::new())]), None);
    }
}
