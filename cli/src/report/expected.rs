//! How long what is left of a run will take, by how long each step is expected to take. Pure.
//!
//! What the run takes from beginning to end was laid out before; what is left of it is taken to be as large a part of that
//! as what is left of the work is of all work. Where steps take longer than expected, the rest is taken to do so, too.

use std::collections::HashMap;

/// What is expected of a run that goes on, or of several together. All in seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    /// From beginning to end.
    elapsed: f64,
    /// All steps that were to run, one after the other.
    work: f64,
    /// Those that have not ended.
    left: f64,
    /// Each of these.
    of: HashMap<String, f64>,
    /// Those that ran: how long they were expected to take, and did.
    ran: (f64, f64),
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl Expected {
    /// Of a run of these steps, of which so many are executed at once at most.
    pub(super) fn new(elapsed_ms: Option<u64>, steps: &[(String, u64)], jobs: usize) -> Self {
        let of: HashMap<String, f64> =
            steps.iter().map(|(step, took)| (step.clone(), seconds(*took))).collect();
        let work: f64 = of.values().sum();
        let elapsed = elapsed_ms.map_or_else(|| work / width(jobs), seconds);
        Self { elapsed, work, left: work, of, ran: (0.0, 0.0) }
    }

    /// A step ended; how long it took, if it ran.
    pub(super) fn ended(&mut self, step: &str, took_ms: Option<u64>) {
        let Some(expected) = self.of.remove(step) else { return };
        self.left -= expected;
        if let Some(took) = took_ms {
            self.ran = (self.ran.0 + expected, self.ran.1 + seconds(took));
        }
    }

    /// Takes in what is expected of another run, of which these steps run now, under names that end like this.
    pub(super) fn add<'s>(
        &mut self,
        other: &Self,
        running: impl Iterator<Item = &'s String>,
        ending: &str,
        jobs: usize,
    ) {
        let known = running.filter_map(|step| Some((format!("{step}{ending}"), *other.of.get(step)?)));
        self.of.extend(known);
        self.work += other.work;
        self.left += other.left;
        self.ran = (self.ran.0 + other.ran.0, self.ran.1 + other.ran.1);
        // They share one pool.
        self.elapsed = self.elapsed.max(other.elapsed).max(self.work / width(jobs));
    }

    /// How long it will take from now on, in seconds; `running` is what runs now, each for how many seconds so far.
    pub(super) fn time_left<'s>(&self, running: impl Iterator<Item = (&'s str, f64)>) -> Option<f64> {
        if self.work <= 0.0 {
            return None;
        }
        // As if a tenth of it had gone as expected: one short step that took its time says little.
        let some = self.work / 10.0;
        let slower = (self.ran.1 + some) / (self.ran.0 + some);
        let (mut left, mut longest) = (self.left * slower, 0.0_f64);
        for (step, so_far) in running {
            let Some(expected) = self.of.get(step) else { continue };
            let whole = expected * slower;
            left -= whole.min(so_far);
            longest = longest.max(whole - so_far);
        }
        Some((self.elapsed * left / self.work).max(longest))
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn width(jobs: usize) -> f64 {
    jobs.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(elapsed_ms: u64, steps: &[(&str, u64)]) -> Expected {
        let steps: Vec<(String, u64)> =
            steps.iter().map(|(step, took)| ((*step).to_owned(), *took)).collect();
        Expected::new(Some(elapsed_ms), &steps, 2)
    }

    fn left(expected: &Expected, running: &[(&str, f64)]) -> f64 {
        expected.time_left(running.iter().copied()).expect("something is expected")
    }

    fn check(expected: &Expected, running: &[(&str, f64)], seconds: f64) {
        let left = left(expected, running);
        assert!((left - seconds).abs() < 1e-9, "{left} for {seconds}");
    }

    /// Four of four seconds, two at once: it was told as more the nearer the end came.
    #[test]
    fn what_is_left_gets_less_as_time_goes_by() {
        let mut four = of(8000, &[("a", 4000), ("b", 4000), ("c", 4000), ("d", 4000)]);
        check(&four, &[("a", 0.0), ("b", 0.0)], 8.0);
        check(&four, &[("a", 2.0), ("b", 2.0)], 6.0);
        four.ended("a", Some(4000));
        four.ended("b", Some(4000));
        check(&four, &[("c", 0.0), ("d", 0.0)], 4.0);
        check(&four, &[("c", 3.0), ("d", 3.0)], 1.0);
        // What takes longer than it should has nothing left, and is not owed any time.
        check(&four, &[("c", 9.0), ("d", 9.0)], 0.0);
        four.ended("c", Some(4000));
        four.ended("d", None);
        check(&four, &[], 0.0);
    }

    #[test]
    fn a_chain_is_no_crowd_and_the_longest_is_waited_for() {
        let mut chain = of(20_000, &[("a", 10_000), ("b", 10_000), ("c", 20_000)]);
        chain.ended("a", Some(10_000));
        check(&chain, &[("b", 0.0), ("c", 10.0)], 10.0);
        let mut long = of(10_000, &[("long", 10_000), ("x", 1000), ("y", 1000), ("z", 1000)]);
        for short in ["x", "y", "z"] {
            long.ended(short, Some(1000));
        }
        check(&long, &[("long", 3.0)], 7.0);
    }

    #[test]
    fn where_all_takes_twice_as_long_the_rest_does_too() {
        let steps: Vec<(String, u64)> = (0..100).map(|n| (n.to_string(), 1000)).collect();
        let mut slow = Expected::new(Some(100_000), &steps, 1);
        for n in 0..50 {
            slow.ended(&n.to_string(), Some(2000));
        }
        let left = left(&slow, &[]);
        assert!((90.0..100.0).contains(&left), "{left}");
        assert!(Expected::new(None, &[], 1).time_left(std::iter::empty()).is_none());
    }

    #[test]
    fn several_runs_share_the_workers() {
        let mut all = Expected::default();
        for ending in [" (lr=1)", " (lr=2)", " (lr=3)"] {
            all.add(&of(4000, &[("fit", 4000)]), [&"fit".to_owned()].into_iter(), ending, 2);
        }
        check(&all, &[], 6.0);
        check(&all, &[("fit (lr=1)", 1.0), ("fit (lr=2)", 1.0)], 5.0);
    }
}
