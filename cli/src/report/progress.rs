//! What is known of a run at a moment, from its events. Pure: the clock is handed in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cas_engine::event::{Event, Outcome};
use cas_engine::forecast::Going;

use super::{elements, words};

/// So many elements of a step that run for one cause are told one by one; a run of ten thousand is no flood.
const TOLD: usize = 10;

/// The state of a run as far as its events have told it.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    started: Instant,
    /// The steps that run now, in the order in which they began, each with when that was.
    pub(crate) running: Vec<(String, Instant)>,
    /// The steps that wait for what other runs use or make, each with what that is.
    pub(crate) waiting: Vec<(String, String)>,
    /// Why each of the steps that run now does.
    why: HashMap<String, (u32, Option<String>)>,
    /// Elements of one step that ran for one cause, by both: how many.
    ran_for: BTreeMap<(String, Option<String>), usize>,
    /// Elements of one step whose result others had made, in the same inputs or elsewhere, by both: how many.
    made: BTreeMap<(Outcome, String), usize>,
    /// How many elements of each step have an outcome.
    elements: HashMap<String, usize>,
    pub(crate) reused: usize,
    pub(crate) ran: usize,
    pub(crate) failed: Vec<String>,
    /// Those of them that may not fail.
    pub(crate) not_allowed: Vec<String>,
    /// How the last of those failed, in words.
    pub(crate) failure: Option<String>,
    /// How many lines were told since.
    pub(crate) since_failure: usize,
    /// What was not ended, in the order in which it was told.
    cancelled: Vec<String>,
    /// Steps that were to run and have an outcome.
    settled: usize,
    /// How many were to run, as far as was known when the run began, or when its plan grew.
    to_run: usize,
    /// The plan grew: what is reused from then on was among what was to run.
    grew: bool,
    /// How many steps ran to an end, and how long they took together: looking things up says nothing about that.
    took: (u32, Duration),
    /// How many ran at once at most.
    widest: usize,
    /// What is left of what was to run, where it is known from before how long that takes.
    going: Option<Going>,
    /// How long that was to take, and when that was laid out.
    pub(crate) foreseen: Option<(Instant, Duration)>,
    /// How many runs are to come, where there are several.
    pub(crate) runs_left: usize,
}

impl Progress {
    /// A run that has not begun.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            started: now,
            running: Vec::new(),
            waiting: Vec::new(),
            why: HashMap::new(),
            ran_for: BTreeMap::new(),
            made: BTreeMap::new(),
            elements: HashMap::new(),
            reused: 0,
            ran: 0,
            failed: Vec::new(),
            not_allowed: Vec::new(),
            failure: None,
            since_failure: 0,
            cancelled: Vec::new(),
            settled: 0,
            to_run: 0,
            grew: false,
            took: (0, Duration::ZERO),
            widest: 0,
            going: None,
            foreseen: None,
            runs_left: 0,
        }
    }

    /// Counts another run as well, and what it does at the moment, under names that end like this.
    pub(crate) fn add(&mut self, other: &Self, ending: &str) {
        let named = |name: &String| format!("{name}{ending}");
        self.running.extend(other.running.iter().map(|(step, since)| (named(step), *since)));
        self.waiting.extend(other.waiting.iter().map(|(step, what)| (named(step), what.clone())));
        self.failed.extend(other.failed.iter().map(named));
        self.reused += other.reused;
        self.ran += other.ran;
        self.settled += other.settled;
        self.to_run += other.to_run;
        self.took = (self.took.0 + other.took.0, self.took.1 + other.took.1);
        // They share one pool.
        self.widest = self.widest.max(other.widest).max(self.running.len());
    }

    /// Takes in what happened.
    pub(crate) fn absorb(&mut self, event: &Event, now: Instant) {
        match event {
            Event::RunStarted { to_run, .. } => {
                self.started = now;
                self.to_run = *to_run;
            }
            Event::PlanGrew { to_run, .. } => {
                self.to_run = self.settled + to_run;
                self.grew = true;
            }
            Event::StepWaits { step, limits, by, .. } => {
                let what = match limits.as_slice() {
                    [] => format!("{by}, which makes it"),
                    limits => format!("{} of {by}", limits.join(" and ")),
                };
                // What it was told of last is what it waits for.
                match self.waiting.iter_mut().find(|(name, _)| name == step) {
                    Some((_, waits)) => *waits = what,
                    None => self.waiting.push((step.clone(), what)),
                }
            }
            Event::StepStarted { step, attempt, why, .. } => {
                self.waiting.retain(|(name, _)| name != step);
                self.why.insert(step.clone(), (*attempt, why.clone()));
                match self.running.iter_mut().find(|(name, _)| name == step) {
                    Some((_, since)) => *since = now,
                    None => self.running.push((step.clone(), now)),
                }
                self.widest = self.widest.max(self.running.len());
            }
            Event::StepsExpected { outlook, .. } => {
                let outlook = Arc::clone(outlook);
                self.going = Some(match &self.going {
                    Some(going) => going.again(outlook),
                    None => Going::new(outlook),
                });
            }
            Event::StepFinished { step, outcome, elapsed_ms, failure, .. } => {
                if let Some(going) = &mut self.going {
                    going.ended(step, (*outcome == Outcome::Ran).then_some(*elapsed_ms));
                }
                if let Some((of, _)) = elements::parts(step) {
                    match self.elements.get_mut(of) {
                        Some(count) => *count += 1,
                        None => drop(self.elements.insert(of.to_owned(), 1)),
                    }
                }
                if *outcome == Outcome::Reused {
                    // The many: nothing else is looked at.
                    self.reused += 1;
                    self.settled += usize::from(self.grew);
                    return;
                }
                let why = self.why.remove(step).and_then(|(_, why)| why);
                if let (Some((of, _)), Outcome::Ran) = (elements::parts(step), outcome) {
                    *self.ran_for.entry((of.to_owned(), why)).or_default() += 1;
                }
                if let (Some((of, _)), Outcome::Unchanged | Outcome::Joined) =
                    (elements::parts(step), outcome)
                {
                    *self.made.entry((*outcome, of.to_owned())).or_default() += 1;
                }
                self.waiting.retain(|(name, _)| name != step);
                self.running.retain(|(name, _)| name != step);
                self.settled += 1;
                match outcome {
                    Outcome::Ran => {
                        self.ran += 1;
                        self.took = (self.took.0 + 1, self.took.1 + Duration::from_millis(*elapsed_ms));
                    }
                    Outcome::Failed => {
                        self.failed.push(step.clone());
                        if !failure.as_ref().is_some_and(|report| report.allowed) {
                            self.not_allowed.push(step.clone());
                            self.failure = failure.as_ref().map(|report| report.failure.to_string());
                            self.since_failure = 0;
                        }
                    }
                    Outcome::Cancelled => self.cancelled.push(step.clone()),
                    Outcome::Reused | Outcome::Unchanged | Outcome::Joined | Outcome::Skipped => {}
                }
            }
            Event::StepsReused { step, count, .. } => {
                *self.elements.entry(step.clone()).or_default() += count;
                self.reused += count;
                self.settled += if self.grew { *count } else { 0 };
            }
            Event::RunFinished { .. } => {
                self.running.clear();
                self.waiting.clear();
            }
            Event::StepRetried { .. }
            | Event::StepPrinted { .. }
            | Event::Undeclared { .. }
            | Event::Damaged { .. }
            | Event::Published { .. }
            | Event::Unpublished { .. }
            | Event::Warning { .. } => {}
        }
    }

    /// The attempt that runs of a step, and why the step runs.
    pub(crate) fn why(&self, step: &str) -> (u32, Option<&str>) {
        self.why.get(step).map_or((1, None), |(attempt, why)| (*attempt, why.as_deref()))
    }

    /// Whether so many elements of a step ran for one cause that each more is only counted.
    pub(crate) fn has_told_enough(&self, step: &str, why: Option<&str>) -> bool {
        let Some((of, _)) = elements::parts(step) else { return false };
        let key = (of.to_owned(), why.map(str::to_owned));
        self.ran_for.get(&key).is_some_and(|count| *count >= TOLD)
    }

    /// What elements of one step ran for, where that is one cause for several: `train[*]  40 of 60: config.lr: 1 → 2`.
    pub(crate) fn groups(&self) -> impl Iterator<Item = String> {
        self.ran_for.iter().filter(|(_, count)| **count > 1).map(|((of, why), count)| {
            let why = why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            format!("{}{why}", self.some_of(of, *count))
        })
    }

    /// So many of those elements of a step that have an outcome.
    fn some_of(&self, of: &str, count: usize) -> String {
        elements::some_of(of, count, self.elements.get(of).copied().unwrap_or(count))
    }

    /// Whether so many elements of a step did not have to run that each more is only counted.
    pub(crate) fn has_told_enough_made(&self, step: &str, outcome: Outcome) -> bool {
        let Some((of, _)) = elements::parts(step) else { return false };
        self.made.get(&(outcome, of.to_owned())).is_some_and(|count| *count >= TOLD)
    }

    /// Elements of one step that did not have to run, where they were not told each: `train[*]  400 of 400`.
    pub(crate) fn made(&self) -> impl Iterator<Item = (Outcome, String)> {
        let many = self.made.iter().filter(|(_, count)| **count > TOLD);
        many.map(|((outcome, of), count)| (*outcome, self.some_of(of, *count)))
    }

    /// So many lines were told.
    pub(crate) fn scrolled(&mut self, lines: usize) {
        self.since_failure += lines;
    }

    /// What was not ended, a line each: many elements of one step together, and no more than a few lines.
    pub(crate) fn cancelled(&self) -> Vec<String> {
        // Many elements of one step have one line, a few one each.
        let mut lines = Vec::new();
        let mut more = 0;
        let mut say = |line: String, count: usize| {
            if lines.len() < TOLD { lines.push(line) } else { more += count }
        };
        let mut count: HashMap<&str, usize> = HashMap::new();
        for (of, _) in self.cancelled.iter().filter_map(|step| elements::parts(step)) {
            *count.entry(of).or_default() += 1;
        }
        let is_many = |step: &String| {
            let (of, _) = elements::parts(step)?;
            (count.get(of).is_some_and(|count| *count > TOLD)).then_some(())
        };
        for group in elements::grouped(&self.cancelled, String::as_str, is_many) {
            match (group.as_slice(), group.first().and_then(|step| elements::parts(step))) {
                ([_, _, ..], Some((of, _))) => say(self.some_of(of, group.len()), group.len()),
                (steps, _) => steps.iter().for_each(|step| say((*step).clone(), 1)),
            }
        }
        if more > 0 {
            lines.push(format!("and {} more", words::thousands(more)));
        }
        lines
    }

    /// How long the run has gone on.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// How many steps that are to run have not begun.
    pub(crate) fn left(&self) -> usize {
        self.to_run.saturating_sub(self.settled + self.running.len())
    }

    /// What is left of what was to run, and what runs of it for how long, where it is known how long that takes.
    pub(crate) fn going(&self, now: Instant) -> Option<(&Going, Vec<(&str, u64)>)> {
        let so_far = |since: &Instant| {
            u64::try_from(now.saturating_duration_since(*since).as_millis()).unwrap_or(u64::MAX)
        };
        let running = self.running.iter().map(|(step, since)| (step.as_str(), so_far(since)));
        Some((self.going.as_ref()?, running.collect()))
    }

    /// How long what is left will take: as was laid out by how long it took before; else, once two steps have ended, as long as these, as
    /// many at once as so far.
    pub(crate) fn time_left(&self, now: Instant) -> Option<Duration> {
        let (count, took) = self.took;
        if self.left() + self.running.len() == 0 {
            return None;
        }
        if let Some((at, left)) = self.foreseen {
            let left = left.saturating_sub(now.saturating_duration_since(at));
            return (1..1_000_000_000).contains(&left.as_secs()).then_some(left);
        }
        if count < 2 {
            return None;
        }
        let typical = took.as_secs_f64() / f64::from(count);
        let of_running = |(_, since): &(String, Instant)| {
            (typical - now.saturating_duration_since(*since).as_secs_f64()).max(0.0)
        };
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let (left, widest) = (self.left() as f64, self.widest.max(1) as f64);
        let running: f64 = self.running.iter().map(of_running).sum();
        let longest = self.running.iter().map(of_running).fold(0.0, f64::max);
        let seconds = ((left * typical + running) / widest).max(longest);
        (1.0..1e9).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
    }

    /// What is going on, in a line.
    pub(crate) fn sign_of_life(&self, now: Instant) -> Option<String> {
        let Some((step, since)) = self.running.first() else {
            let (step, what) = self.waiting.first()?;
            return Some(format!("waiting   {step}  for {what}"));
        };
        let others = match self.running.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let left = match self.left() {
            0 => String::new(),
            left => format!(", {} left", words::thousands(left)),
        };
        let time = words::ticking(now.saturating_duration_since(*since));
        Some(format!("running   {step}{others}  {time}{left}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(step: &str, outcome: Outcome) -> Event {
        Event::StepFinished {
            step: step.to_owned(),
            outcome,
            elapsed_ms: 10_000,
            saved_ms: 0,
            failure: None,
            skipped: None,
            at_ms: 0,
        }
    }

    fn started(step: &str) -> Event {
        Event::StepStarted { step: step.to_owned(), attempt: 1, worker: 0, why: None, at_ms: 0 }
    }

    #[test]
    fn time_left_goes_by_what_ran_and_by_how_many_ran_at_once() {
        let zero = Instant::now();
        let at = |seconds| zero + Duration::from_secs(seconds);
        let mut progress = Progress::new(zero);
        progress.absorb(
            &Event::RunStarted {
                run: 1,
                pipeline: "p".to_owned(),
                mode: None,
                steps: 10,
                to_run: 4,
                jobs: 1,
                at_ms: 0,
            },
            at(0),
        );
        for _ in 0..2 {
            progress.absorb(&finished("cached", Outcome::Reused), at(0));
        }
        let together = Event::StepsReused { step: "train".to_owned(), count: 4, saved_ms: 9, at_ms: 0 };
        progress.absorb(&together, at(0));
        progress.absorb(&started("a"), at(100));
        progress.absorb(&finished("a", Outcome::Ran), at(110));
        assert_eq!(progress.time_left(at(110)), None);
        progress.absorb(&started("b"), at(110));
        progress.absorb(&finished("b", Outcome::Ran), at(120));
        progress.absorb(&started("c"), at(120));
        assert_eq!((progress.reused, progress.ran, progress.left()), (6, 2, 1));
        assert_eq!(progress.time_left(at(120)), Some(Duration::from_secs(20)));
        // What runs has part of its time behind it; and two at once take half as long, the longest at least.
        assert_eq!(progress.time_left(at(124)), Some(Duration::from_secs(16)));
        progress.absorb(&started("d"), at(124));
        assert_eq!(progress.time_left(at(124)), Some(Duration::from_secs(10)));
        assert_eq!(progress.time_left(at(129)), Some(Duration::from_secs(5)));
        progress.absorb(&finished("d", Outcome::Cancelled), at(130));
        assert_eq!(progress.sign_of_life(at(180)).as_deref(), Some("running   c  1 min"));
        progress.absorb(&finished("c", Outcome::Failed), at(181));
        assert_eq!(
            (progress.failed.as_slice(), progress.sign_of_life(at(181))),
            (["c".to_owned()].as_slice(), None)
        );
    }
}
