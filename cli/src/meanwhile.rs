//! Stands in for what the engine does not offer yet; an inherent method of the same name wins, and then this goes.

use cas_engine::error::EngineError;
use cas_engine::event::Event;
use cas_engine::graph::StepId;
use cas_engine::memo::{Memo, Resolved, Status};
use cas_engine::plan::Plan;

/// See the module.
pub(crate) trait Why {
    fn why(&self, plan: &Plan, resolved: &Resolved, step: StepId) -> Result<Option<String>, EngineError>;
}

impl Why for Memo {
    fn why(&self, _: &Plan, _: &Resolved, _: StepId) -> Result<Option<String>, EngineError> {
        Ok(None)
    }
}

/// See the module.
pub(crate) trait StepStatus {
    fn step_status(&self, step: StepId) -> Status;
}

impl StepStatus for Resolved {
    fn step_status(&self, step: StepId) -> Status {
        let state = &self.states[step.0 as usize];
        match &state.found {
            _ if state.to_run => Status::ToBeRecomputed,
            _ if state.skipped => Status::Absent,
            Some(found) if found.whole() => Status::Stored,
            Some(_) | None => Status::NotNeeded,
        }
    }
}

/// See the module.
pub(crate) trait ToJson {
    fn to_json(&self) -> serde_json::Value;
}

impl ToJson for Event {
    fn to_json(&self) -> serde_json::Value {
        serde_json::Value::from(format!("{self:?}"))
    }
}
