//! What is known of the runs that are told together: of one, or of those of a sweep, each under its own name. Pure, but
//! that paths are shown from the current folder.
//!
//! Invariant: with one run all is told as if there were no others; with several, every line names the one it is of.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cas_engine::event::Event;
use cas_engine::forecast;
use serde_json::{Value, json};

use super::Lines;
use super::lines::{self, Detail};
use super::progress::Progress;

/// The runs that are told together.
#[derive(Debug)]
pub(crate) struct Runs {
    /// What each is called; none where there is only one.
    names: Vec<String>,
    /// Those that have begun and are not over, by their place.
    begun: BTreeMap<usize, Progress>,
    /// Those that are over, and what has not begun.
    over: Progress,
    left: usize,
    /// The number of each in the store.
    numbers: BTreeMap<usize, u64>,
    /// Warnings that were told: what is the same for several is told once.
    warned: BTreeSet<String>,
    /// When it was laid out last what is left of them, and how long that took.
    foreseen: Option<(Instant, Duration)>,
    /// Something happened since.
    news: bool,
}

impl Runs {
    /// Before any has begun: one where there are no names.
    pub(crate) fn new(names: Vec<String>, now: Instant) -> Self {
        let over = Progress::new(now);
        let begun = if names.is_empty() { BTreeMap::from([(0, over.clone())]) } else { BTreeMap::new() };
        let left = names.len();
        Self {
            names,
            begun,
            over,
            left,
            numbers: BTreeMap::new(),
            warned: BTreeSet::new(),
            foreseen: None,
            news: false,
        }
    }

    /// Takes in what happened in a run, and gives the lines that say so.
    pub(crate) fn absorb(&mut self, place: usize, event: &Event, detail: Detail, now: Instant) -> Lines {
        let name = self.names.get(place).map(String::as_str);
        if name.is_some()
            && let Event::Warning { text } = event
            && !self.warned.insert(text.clone())
        {
            return Lines::default();
        }
        self.news = true;
        let left = &mut self.left;
        let progress = self.begun.entry(place).or_insert_with(|| {
            *left = left.saturating_sub(1);
            Progress::new(now)
        });
        let lines = lines::lines(progress, event, detail, name);
        // What is told of one of them moves what was told of all.
        self.begun.values_mut().for_each(|progress| progress.scrolled(lines.err.len()));
        if let Some(progress) = self.begun.get_mut(&place) {
            progress.absorb(event, now);
        }
        if name.is_some()
            && matches!(event, Event::RunFinished { .. })
            && let Some(progress) = self.begun.remove(&place)
        {
            self.over.add(&progress, "");
        }
        lines
    }

    /// Whether it is to be laid out anew what is left: something happened, or time went by; and not so often that it would
    /// be a twentieth of what a core does.
    pub(crate) fn is_to_be_foreseen(&self, now: Instant) -> bool {
        /// What takes longer than expected holds up what comes after it.
        const TICK: Duration = Duration::from_secs(1);
        self.foreseen.is_none_or(|(at, took)| {
            let pause = if self.news { took * 20 } else { TICK.max(took * 20) };
            now.saturating_duration_since(at) >= pause
        })
    }

    /// Lays out what is left of all that have begun.
    pub(crate) fn foresee(&mut self, now: Instant) {
        self.news = false;
        self.foreseen = Some((now, Duration::ZERO));
        let going: Vec<_> = self.begun.values().filter_map(|progress| progress.going(now)).collect();
        let left = forecast::left_ms(&going).map(|left| (now, Duration::from_millis(left)));
        match self.begun.get_mut(&0).filter(|_| self.names.is_empty()) {
            Some(only) => only.foreseen = left,
            None => self.over.foreseen = left,
        }
    }

    /// How long that took.
    pub(crate) fn foreseeing_took(&mut self, took: Duration) {
        self.foreseen = self.foreseen.map(|(at, _)| (at, took));
    }

    /// One of those that have not begun does not begin.
    pub(crate) fn not_to_come(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// All of them as if they were one.
    pub(crate) fn together(&self) -> Cow<'_, Progress> {
        if self.names.is_empty()
            && let Some(only) = self.begun.get(&0)
        {
            return Cow::Borrowed(only);
        }
        let mut all = self.over.clone();
        for (place, progress) in &self.begun {
            all.add(progress, &suffix(self.names.get(*place).map(String::as_str)));
        }
        all.runs_left = self.left;
        Cow::Owned(all)
    }

    /// An event as a program reads it: with several runs, each says which one it is of.
    pub(crate) fn document(&mut self, place: usize, event: &Event) -> Value {
        let mut document = event.to_json();
        let (Some(name), Value::Object(members)) = (self.names.get(place), &mut document) else {
            return document;
        };
        if let Event::RunStarted { run, .. } = event {
            self.numbers.insert(place, *run);
            members.insert("combination".to_owned(), json!(name));
        } else {
            members.insert("run".to_owned(), json!(self.numbers.get(&place)));
        }
        document
    }
}

/// What stands behind the name of a step to say which run it is of.
pub(super) fn suffix(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!(" ({name})"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cas_engine::event::{Outcome, Summary};

    use super::*;

    fn began(run: u64, to_run: usize) -> Event {
        let (pipeline, mode) = ("lab".to_owned(), None);
        Event::RunStarted { run, pipeline, mode, steps: 3, to_run, jobs: 2, at_ms: 0 }
    }

    fn started(step: &str) -> Event {
        Event::StepStarted { step: step.to_owned(), attempt: 1, worker: 0, why: None, at_ms: 0 }
    }

    fn finished(step: &str) -> Event {
        let (step, outcome, failure) = (step.to_owned(), Outcome::Ran, None);
        Event::StepFinished { step, outcome, elapsed_ms: 1200, saved_ms: 0, failure, skipped: None, at_ms: 0 }
    }

    fn ended() -> Event {
        let summary = Summary { ran: 2, elapsed_ms: 2000, ..Summary::default() };
        Event::RunFinished { summary, allowed: 0, at_ms: 0 }
    }

    #[test]
    fn each_run_is_named_and_all_are_counted_together() {
        let zero = Instant::now();
        let names = ["lr=1", "lr=2", "lr=3"].map(str::to_owned).to_vec();
        let mut runs = Runs::new(names, zero);
        let mut told = Vec::new();
        let mut tell = |place, event: &Event| {
            let lines = runs.absorb(place, event, Detail::Normal, zero);
            told.extend(
                lines.err.iter().chain(&lines.out).map(|line| anstream::adapter::strip_str(line).to_string()),
            );
        };
        tell(0, &began(7, 2));
        tell(1, &began(8, 2));
        tell(0, &started("train"));
        tell(1, &started("train"));
        tell(1, &finished("train"));
        let warning = Event::Warning { text: "the kernel cannot".to_owned() };
        tell(0, &warning);
        tell(1, &warning);
        tell(1, &ended());
        assert_eq!(
            told,
            [
                "run 7 of lab (lr=1): 2 of 3 steps to run",
                "run 8 of lab (lr=2): 2 of 3 steps to run",
                "ran       train (lr=2)  1.2 s",
                "warning: lr=1: the kernel cannot",
                "lr=2: 0 reused, 2 ran, 2.0 s",
            ]
        );
        let together = runs.together();
        let running: Vec<&str> = together.running.iter().map(|(step, _)| step.as_str()).collect();
        assert_eq!(running, ["train (lr=1)"]);
        assert_eq!((together.ran, together.left(), together.runs_left), (1, 2, 1));
        assert_eq!(together.elapsed(zero + Duration::from_secs(3)), Duration::from_secs(3));
        drop(together);
        runs.not_to_come();
        assert_eq!(runs.together().runs_left, 0);
    }

    /// Four seconds were told where eight were to come.
    #[test]
    fn what_is_left_is_laid_out_again_when_something_happened_and_every_second() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let finished = |step: &str| match finished(step) {
            Event::StepFinished { step, outcome, saved_ms, failure, skipped, at_ms, .. } => {
                Event::StepFinished { step, outcome, elapsed_ms: 4000, saved_ms, failure, skipped, at_ms }
            }
            other => other,
        };
        let expected = |steps: &[(&str, u64, &[u32])]| {
            let outlook = std::sync::Arc::new(forecast::Outlook::known(steps, 2));
            Event::StepsExpected { elapsed_ms: None, steps: Vec::new(), outlook }
        };
        let wide: &[(&str, u64, &[u32])] =
            &[("a", 4000, &[]), ("b", 4000, &[]), ("c", 4000, &[]), ("tail", 8000, &[0, 1, 2])];
        let mut runs = Runs::new(Vec::new(), zero);
        let mut story = |ms: u64, events: &[Event]| {
            for event in events {
                runs.absorb(0, event, Detail::Normal, at(ms));
            }
            let due = runs.is_to_be_foreseen(at(ms));
            if due {
                runs.foresee(at(ms));
                runs.foreseeing_took(Duration::from_millis(10));
            }
            (due, runs.together().time_left(at(ms)).map(|left| left.as_millis()))
        };
        let begin = [began(1, 4), expected(wide), started("a"), started("b")];
        assert_eq!(story(0, &begin), (true, Some(16_000)));
        assert_eq!(story(100, &[]), (false, Some(15_900)));
        assert_eq!(story(1000, &[]), (true, Some(15_000)));
        // Not a second later, but something happened; and where much happens, only now and then.
        let together = [finished("a"), finished("b"), started("c")];
        assert_eq!(story(1300, &together), (true, Some(12_000)));
        assert_eq!(story(1400, &[finished("c"), started("tail")]), (false, Some(11_900)));
        assert_eq!(story(1500, &[]), (true, Some(7900)));
        assert_eq!(story(9500, &[finished("tail")]), (true, None));
        // Of several, all that have begun are laid out together.
        let mut several = Runs::new(["lr=1", "lr=2"].map(str::to_owned).to_vec(), zero);
        for place in [0, 1] {
            for event in [began(1, 1), expected(&[("fit", 4000, &[]), ("test", 4000, &[0])])] {
                several.absorb(place, &event, Detail::Normal, zero);
            }
            several.foresee(zero);
            assert_eq!(several.together().time_left(zero), Some(Duration::from_secs(8)));
        }
    }

    #[test]
    fn one_run_alone_has_no_name() {
        let zero = Instant::now();
        let mut runs = Runs::new(Vec::new(), zero);
        let lines = runs.absorb(0, &began(7, 2), Detail::Normal, zero);
        assert_eq!(lines.err, ["run 7 of lab: 2 of 3 steps to run"]);
        assert!(matches!(runs.together(), Cow::Borrowed(_)));
        assert_eq!(runs.document(0, &ended()), ended().to_json());
    }

    #[test]
    fn events_of_several_say_which_run_they_are_of() {
        let document = include_str!("../../../docs/events.md");
        let (_, section) = document.split_once("\n## A sweep\n").expect("it has that section");
        let (section, _) = section.split_once("\n## ").expect("another follows");
        // What a preview ends with is no event.
        let is_event = |line: &&str| line.starts_with("{\"cas\":1,\"event\"");
        let documented: Vec<&str> = section.lines().filter(is_event).collect();
        let mut runs = Runs::new(vec!["x".to_owned(), "emit_dog.dog_breed=pug".to_owned()], Instant::now());
        let (pipeline, mode, at_ms) = ("dogs".to_owned(), None, 1_700_000_000_000);
        let began = Event::RunStarted { run: 12, pipeline, mode, steps: 3, to_run: 2, jobs: 4, at_ms };
        let (step, outcome, failure, skipped) = ("emit_tree".to_owned(), Outcome::Ran, None, None);
        let at_ms = at_ms + 180;
        let finished =
            Event::StepFinished { step, outcome, elapsed_ms: 79, saved_ms: 0, failure, skipped, at_ms };
        let given = [&began, &finished].map(|event| runs.document(1, event).to_string());
        assert_eq!(given, *documented);
    }
}
