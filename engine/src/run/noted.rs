//! How a run is noted while it goes on, so that others can see how far it is, and what was known of it where its
//! process is killed.
//!
//! A note is the whole record so far. They come after a second and then ever more rarely, as a part of how long the run
//! has gone on: so all of them together cost little, however long it takes, and a run that is short writes none.

use std::time::{Duration, Instant};

use super::coordinator::Coordinator;
use super::now_ms;

use crate::event::Outcome;
use crate::execute;
use crate::graph::StepNames;
use crate::plan::Plan;
use crate::record::{Drawing, DrawnInvocation, DrawnStep, Reused, RunRecord, Running};

/// No note is written before.
const FIRST: Duration = Duration::from_secs(1);

/// Between two notes lies so much of the time that the run has taken.
const PART: u32 = 20;

/// What stands for none among indices.
const NONE: u32 = u32::MAX;

/// A run as it is noted.
pub(super) struct RunLog {
    run: u64,
    began: Instant,
    noted: Instant,
    /// Something happened since.
    news: bool,
    record: RunRecord,
}

impl RunLog {
    pub(super) fn new(run: u64, record: RunRecord) -> Self {
        Self { run, began: execute::now(), noted: Instant::now(), news: false, record }
    }

    /// Something happened.
    pub(super) fn touched(&mut self) {
        self.news = true;
    }

    /// An attempt began.
    pub(super) fn started(&mut self, step: &str, attempt: u32, worker: usize, why: Option<&str>, at_ms: u64) {
        self.news = true;
        self.stopped(worker);
        let worker = u32::try_from(worker).unwrap_or(NONE);
        let why = why.map(str::to_owned);
        self.record.running.push(Running { step: step.to_owned(), attempt, why, started_ms: at_ms, worker });
    }

    /// A worker has nothing any longer.
    pub(super) fn stopped(&mut self, worker: usize) {
        self.record.running.retain(|running| running.worker as usize != worker);
    }

    /// How long until the next note is due; `None` while there is nothing to note.
    pub(super) fn until_due(&self) -> Option<Duration> {
        let pause = FIRST.max(execute::since(self.began) / PART);
        self.news.then(|| pause.saturating_sub(self.noted.elapsed()))
    }
}

impl Coordinator<'_> {
    /// Notes how far the run is.
    pub(super) fn note_so_far(&mut self) {
        let mut steps = Vec::new();
        let mut reused = Vec::new();
        let names = self.plan.graph.step_names(&self.plan.steps);
        for (&step, name) in self.plan.steps.iter().zip(names.iter()) {
            let note = &self.notes[step.0 as usize];
            if note.outcome.is_none() {
                continue;
            }
            if let Some(record) = &note.record {
                steps.push((note.finished, (**record).clone()));
            } else if note.outcome == Some(Outcome::Reused)
                && let Some(version) = self.states[step.0 as usize].version
            {
                reused.push(Reused { step: name, version });
            }
        }
        steps.sort_by_key(|(finished, _)| *finished);
        let mut record = self.log.record.clone();
        record.steps = steps.into_iter().map(|(_, record)| record).collect();
        record.allowed = self.allowed(&names);
        record.summary = self.summary();
        record.noted_ms = now_ms();
        let elapsed = execute::since(self.log.began).as_millis();
        record.summary.elapsed_ms = u64::try_from(elapsed).unwrap_or(u64::MAX);
        // What cannot be noted now, logs among it, is noted with the end of the run, and what is wrong is said then.
        let drawing = drawing(self.plan, &names);
        let _ = self.memo.note_run(self.log.run, &mut record, &reused, &drawing, &mut self.logs);
        self.log.noted = Instant::now();
        self.log.news = false;
    }
}

/// The steps of a plan, of these names, and what they consume.
pub(super) fn drawing<'n>(plan: &Plan, names: &'n StepNames) -> Drawing<&'n str> {
    let graph = &plan.graph;
    let mut drawing = Drawing { steps: Vec::with_capacity(plan.steps.len()), ..Drawing::default() };
    let mut inputs: Vec<u32> = Vec::new();
    let mut invocations = vec![NONE; graph.pipeline.invocations.len()];
    let mut drawn = vec![NONE; graph.steps.len()];
    for (&step, name) in plan.steps.iter().zip(names.iter()) {
        let known = &mut invocations[graph.steps[step.0 as usize].invocation as usize];
        if *known == NONE {
            *known = u32::try_from(drawing.invocations.len()).unwrap_or(NONE);
            let outputs = &graph.solid(step).outputs;
            drawing.invocations.push(DrawnInvocation {
                name: graph.invocation(step).name.clone(),
                outputs: outputs.iter().map(|output| output.name.clone()).collect(),
            });
        }
        let invocation = *known;
        inputs.clear();
        graph.each_input(step, &mut |output| {
            let above = drawn[output.step.0 as usize];
            if above != NONE {
                inputs.push(above);
            }
        });
        inputs.sort_unstable();
        inputs.dedup();
        drawn[step.0 as usize] = u32::try_from(drawing.steps.len()).unwrap_or(NONE);
        drawing.inputs.extend(&inputs);
        let inputs_end = u32::try_from(drawing.inputs.len()).unwrap_or(NONE);
        drawing.steps.push(DrawnStep { name, invocation, inputs_end });
    }
    drawing
}

#[cfg(test)]
mod tests {
    use cas_store::{Create, Digest, Hosting, Open, Store};

    use crate::event::Summary;
    use crate::memo::Memo;
    use crate::record::{Drawing, Reused, RunRecord};

    /// Where a note in between failed (on a full disk, which is why steps fail), the logs of the failures went with it:
    /// the record of the run named blobs that nobody had stored.
    #[test]
    fn what_could_not_be_noted_keeps_its_logs_for_the_next_note() {
        let dir = tempfile::tempdir().unwrap();
        let open = Open {
            create: Create::IfAbsent,
            wait: std::time::Duration::from_secs(10),
            owner: "a test".to_owned(),
            on_wait: &mut |_| {},
            hosting: Hosting::Willing,
        };
        let store = Store::open(&dir.path().join("store"), open).unwrap();
        let memo = Memo::new(store.clone());
        let mut record = RunRecord {
            pipeline: "p".to_owned(),
            file: None,
            mode: None,
            command_line: Vec::new(),
            config: Digest::of(b""),
            program: String::new(),
            host: String::new(),
            started_ms: 1,
            ended_ms: None,
            summary: Summary::default(),
            steps: Vec::new(),
            reused: None,
            drawing: None,
            jobs: 1,
            noted_ms: 1,
            running: Vec::new(),
            process: None,
            combination: None,
            allowed: Vec::new(),
        };
        let run = memo.begin_run(1, &record).unwrap().id();
        // Above what lives in the index.
        let log = dir.path().join("log");
        std::fs::write(&log, "it failed\n".repeat(5000)).unwrap();
        let staged = memo.stage_log(&log, cas_store::Take::Copy).unwrap().unwrap();
        let (digest, mut logs) = (staged.digest(), vec![staged]);
        let none = Drawing::<String>::default();
        assert!(
            memo.note_run(run + 1, &mut record, &Vec::<Reused<String>>::new(), &none, &mut logs).is_err()
        );
        assert_eq!(logs.len(), 1);
        memo.note_run(run, &mut record, &Vec::<Reused<String>>::new(), &none, &mut logs).unwrap();
        assert!(logs.is_empty());
        assert_eq!(store.bytes(&digest).unwrap().len(), 50_000);
    }
}
