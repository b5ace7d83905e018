//! Runs the bodies of Rust solids, in the thread of whoever asks, and opens their resources.
//!
//! A panic is a failure of the step, like an error. Nothing that a body prints is captured: it shares the
//! standard streams of the program. Nor can it be ended from outside, because a thread that is killed leaves
//! locks and memory behind: it is told to stop ([`Context::stopped`](crate::typed::Context::stopped)), and
//! one that comes back after its time is a time-out, whatever it brings.
//!
//! Owns: the resources that were opened in a run. Each is opened once, by the first step that needs it, and
//! dropped with the executor, after those that need it.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{Attempt, Attempted, Call, Cause, Execute, Failure, Opened, paused};
use crate::graph::Graph;
use crate::solid::Body;

/// Runs functions. One serves a whole run, and is dropped at its end.
pub struct FunctionExecutor {
    graph: Arc<Graph>,
    /// By the index of the resource in the graph: what it was opened to, or why it could not be.
    opened: Vec<OnceLock<Result<Opened, Failure>>>,
    /// The indices in the order in which they were opened.
    order: Mutex<Vec<usize>>,
}

impl FunctionExecutor {
    /// An executor for the steps of this graph. Nothing is opened yet.
    pub fn new(graph: Arc<Graph>) -> Self {
        let opened = graph.resources.iter().map(|_| OnceLock::new()).collect();
        Self { graph, opened, order: Mutex::new(Vec::new()) }
    }

    /// Opens a resource and what it needs, or gives what came of that before.
    fn open(&self, index: usize) -> Result<Opened, Failure> {
        // Those that it needs are opened before the lock is taken; a graph has no cycles of resources.
        let resource = &self.graph.resources[index];
        let name = &resource.definition.name;
        let mut needs: BTreeMap<String, Opened> = BTreeMap::new();
        for need in &resource.needs {
            let opened = self.open(*need)?;
            needs.insert(self.graph.resources[*need].definition.name.clone(), opened);
        }
        self.opened[index]
            .get_or_init(|| {
                let Some(open) = &resource.definition.open else {
                    // One that only commands use has nothing to open.
                    return Ok(Arc::new(()) as Opened);
                };
                let opened = catch_unwind(AssertUnwindSafe(|| open.open(&resource.config, &needs)));
                let opened = match opened {
                    Ok(Ok(opened)) => opened,
                    Ok(Err(error)) => {
                        return Err(failure(
                            Cause::Error,
                            format!("resource `{name}` could not be opened: {}", chain(&*error)),
                        ));
                    }
                    Err(panic) => {
                        return Err(failure(
                            Cause::Panic,
                            format!("resource `{name}` panicked while it was opened: {}", message(&*panic)),
                        ));
                    }
                };
                self.order.lock().unwrap_or_else(PoisonError::into_inner).push(index);
                Ok(opened)
            })
            .clone()
    }
}

impl Drop for FunctionExecutor {
    fn drop(&mut self) {
        // What was opened last goes first, because it may use what was opened before it.
        let order = std::mem::take(self.order.get_mut().unwrap_or_else(PoisonError::into_inner));
        for index in order.into_iter().rev() {
            let opened = self.opened[index].take();
            // A panic in here must not take the run with it: everything that ran is committed.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(opened)));
        }
    }
}

impl Execute for FunctionExecutor {
    fn execute(&self, attempt: &Attempt<'_>) -> Attempted {
        let began = paused::now();
        let outcome = self.outcome(attempt);
        Attempted::new(outcome, paused::since(began))
    }
}

impl FunctionExecutor {
    fn outcome(&self, attempt: &Attempt<'_>) -> Result<Vec<super::Produced>, Failure> {
        let Body::Function(function) = &attempt.solid.body else {
            return Err(failure(Cause::NotStarted, format!("`{}` is no function", attempt.solid.name)));
        };
        let mut resources = BTreeMap::new();
        for given in attempt.resources {
            let Some(index) = self.graph.resource(&given.name) else {
                let message = format!("there is no resource `{}` in this graph", given.name);
                return Err(failure(Cause::NotStarted, message));
            };
            resources.insert(given.name.clone(), self.open(index)?);
        }
        // The time of a step begins when its resources are open: they are opened once for many.
        let deadline = attempt.timeout.and_then(|timeout| paused::now().checked_add(timeout));
        let call = Call {
            config: attempt.config,
            inputs: attempt.inputs,
            resources: &resources,
            folder: attempt.folder,
            outputs: &attempt.solid.outputs,
            cancel: attempt.cancel,
            deadline,
        };
        let called = catch_unwind(AssertUnwindSafe(|| function.call(&call)));
        if let (Some(deadline), Some(timeout)) = (deadline, attempt.timeout)
            && paused::now() >= deadline
        {
            return Err(failure(Cause::Timeout, format!("it took longer than {timeout:?}")));
        }
        let produced = match called {
            Ok(Ok(produced)) => produced,
            // An error after it was told to stop is how it stops.
            Ok(Err(_)) if attempt.cancel.now() != super::Stop::No => {
                return Err(failure(Cause::Cancelled, "it was stopped".to_owned()));
            }
            Ok(Err(error)) => return Err(failure(Cause::Error, chain(&*error))),
            Err(panic) => {
                return Err(failure(Cause::Panic, format!("it panicked: {}", message(&*panic))));
            }
        };
        if produced.len() == attempt.solid.outputs.len() {
            Ok(produced)
        } else {
            let (made, declared) = (produced.len(), attempt.solid.outputs.len());
            Err(failure(Cause::BadOutput, format!("it gave {made} outputs, where {declared} are declared")))
        }
    }
}

fn failure(cause: Cause, message: String) -> Failure {
    Failure { cause, message, hint: None }
}

/// An error with everything that caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        // Some errors print their source themselves.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the table")]
        struct Outer(#[source] std::io::Error);

        let inner = std::io::Error::other("disk on fire");
        assert_eq!(chain(&Outer(inner)), "cannot read the table: disk on fire");
    }

    #[test]
    fn a_panic_is_told_by_its_message() {
        let panic = catch_unwind(|| panic!("no {}", "dogs")).expect_err("a panic");
        assert_eq!(message(&*panic), "no dogs");
        let panic = catch_unwind(|| std::panic::panic_any(3)).expect_err("a panic");
        assert_eq!(message(&*panic), "without a message");
    }
}
