//! Committing what steps made, one or several at once, and what becomes of each by that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use cas_store::{Trace, Version};

use super::task::{Done, End, Held, panicked};
use super::{Bench, millis};
use crate::event::Outcome;
use crate::record::AttemptRecord;

impl Bench<'_> {
    /// Commits what was held of steps, and gives what became of each, in order.
    pub(super) fn settle(&self, held: Vec<(Done, Box<Held>)>) -> Vec<Done> {
        struct Rest {
            forced: Option<Trace>,
            nodes: Vec<Version>,
            folder: PathBuf,
            elapsed: Duration,
            at_ms: u64,
        }
        let graph = &self.plan.graph;
        let (mut settled, mut rests, mut staged) = (Vec::new(), Vec::new(), Vec::new());
        let mut claims = Vec::new();
        for (done, held) in held {
            let Held { step, forced, staging, nodes, folder, elapsed, at_ms, claim } = *held;
            staged.push((staging, graph.solid(step)));
            let forced = forced.filter(|_| claim.is_some());
            claims.extend(claim);
            settled.push(done);
            rests.push((step, Rest { forced, nodes, folder, elapsed, at_ms }));
        }
        let committed = catch_unwind(AssertUnwindSafe(|| self.memo.commit(staged, &|| self.goes_on())));
        let mut failed = None;
        let mut kept = match committed {
            Ok(Ok(kept)) => kept.into_iter(),
            Ok(Err(error)) => {
                failed = Some(End::Broken(error));
                Vec::new().into_iter()
            }
            Err(panic) => {
                failed = Some(panicked(&*panic, "a commit"));
                Vec::new().into_iter()
            }
        };
        for (done, (step, rest)) in settled.iter_mut().zip(rests) {
            let Rest { forced, nodes, folder, elapsed, at_ms } = rest;
            self.discard(folder, graph.solid(step), elapsed);
            done.end = match kept.next() {
                Some(Ok(Some(kept))) => {
                    self.wrote(nodes);
                    self.turn.zip(forced).into_iter().for_each(|(turn, trace)| turn.made(trace));
                    done.attempts.push(AttemptRecord {
                        failure: None,
                        log: kept.found.record.log,
                        started_ms: at_ms,
                        elapsed_ms: millis(elapsed),
                        folder: None,
                    });
                    End::Made { found: kept.found, outcome: Outcome::Ran, differs: kept.differs }
                }
                // Stopped while somebody else was at it: what this one made is thrown away.
                Some(Ok(None)) => End::Cancelled,
                Some(Err(error)) => End::Broken(error),
                // The first of them says what is wrong.
                None => failed.take().unwrap_or(End::Cancelled),
            };
        }
        self.memo.release(claims);
        settled
    }
}
