//! How long what is to run will take, told to whoever shows how much of it is left. Decides nothing.

use std::sync::Arc;

use super::coordinator::Coordinator;

use crate::event::Event;
use crate::forecast::{Durations, Outlook};

/// With more steps than this it is not laid out when each of them will run: nobody waits for that while nothing runs.
const MANY: usize = 10_000;

impl Coordinator<'_> {
    /// Tells how long each step that is to run will take, where that is wanted and anything is known of it.
    pub(super) fn expect(&mut self) {
        if !self.options.each_expected || self.states.iter().all(|state| !state.to_run) {
            return;
        }
        // What cannot be read is not worth failing for: then nothing is expected.
        if self.memo.add_durations(self.plan, &self.states, &mut self.past).is_err() {
            return;
        }
        let lengths = self.memo.last_lengths(self.plan).unwrap_or_default();
        let durations = Durations::of(self.plan, &self.states, &self.past);
        let Some(typical) = durations.typical_ms() else { return };
        let graph = &self.plan.graph;
        let to_run = self.plan.steps.iter().filter(|step| self.states[step.0 as usize].to_run);
        let expected = to_run.map(|step| {
            let took = durations.get(*step).map_or(typical, |(took, _)| took);
            // One that stands for the elements of a list takes as long as all of them.
            let count = lengths.get(step).map_or(1, |count| *count as u64);
            (graph.step_name(*step), took.saturating_mul(count))
        });
        let steps: Vec<(String, u64)> = expected.collect();
        let outlook = Outlook::of(self.plan, &self.states, &self.past, &lengths, &self.limits.capacity);
        let elapsed_ms = (steps.len() <= MANY).then(|| outlook.elapsed_ms());
        let outlook = Arc::new(outlook);
        (self.tell)(&Event::StepsExpected { elapsed_ms, steps, outlook });
    }
}
