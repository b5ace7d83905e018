//! The folder of a step as an attempt would have it, for a person: prepared, and nothing run in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lay::Unready;
use super::{Bench, Stored, Task};
use crate::error::EngineError;
use crate::execute::command::CommandExecutor;
use crate::execute::{Cancel, Execute, Failure};
use crate::graph::{Graph, StepId};
use crate::memo::{Memo, Names};
use crate::plan::Plan;
use crate::resolve::{Resolved, Why};
use crate::solid::Body;
use crate::source::Environment;
use crate::value::Value;

/// A folder that was prepared.
#[derive(Debug)]
pub struct Prepared {
    /// Where the command would run.
    pub folder: PathBuf,
    /// The environment that it would have.
    pub env: Vec<(String, String)>,
    /// A script beside the folder that does what an attempt would; none where its config holds secrets.
    pub script: Option<PathBuf>,
}

/// Why a folder could not be prepared.
#[derive(Debug)]
pub enum Unprepared {
    /// The step is a function: there is no command to be run in a folder.
    Function,
    /// This output, which it consumes, is not stored.
    Missing(String),
    /// As an attempt would fail before its command is started.
    Failed(Failure),
}

/// The values that are secret in what a step prints.
///
/// # Errors
/// The name of a secret variable that is not set in this environment.
pub fn secrets(graph: &Graph, step: StepId, environment: &Environment) -> Result<Vec<String>, String> {
    let mut secrets = Vec::new();
    for name in &graph.solid(step).secrets {
        secrets.push(environment.vars.get(name).cloned().ok_or_else(|| name.clone())?);
    }
    let own = graph.config(step);
    let resources = graph.resources_of(graph.steps[step.0 as usize].invocation);
    let configs = resources.iter().map(|resource| &graph.resources[*resource].config);
    for config in configs.chain([&own]) {
        secrets.extend(config.secret.iter().filter_map(|name| config.values.get(name)).map(Value::text));
    }
    Ok(secrets)
}

/// Prepares the folder of a step in `folder`, which is empty.
///
/// # Errors
/// The store or the machine failed; what a person can do something about is the inner error.
pub fn prepare(
    plan: &Plan,
    memo: &Memo,
    resolved: &Resolved,
    step: StepId,
    environment: &Environment,
    folder: &Path,
) -> Result<Result<Prepared, Unprepared>, EngineError> {
    let graph = &plan.graph;
    let solid = graph.solid(step);
    if !matches!(solid.body, Body::Command(_)) {
        return Ok(Err(Unprepared::Function));
    }
    let mut consumes = Vec::new();
    let mut missing = None;
    graph.each_input(step, &mut |output| {
        let state = &resolved.states[output.step.0 as usize];
        if !state.settled || !(state.absent(output.output) || state.has_bytes(output.output)) {
            missing.get_or_insert(output);
        }
        let artifact = state.artifact(output.output).cloned();
        let trace = state.found.as_ref().map(|found| found.trace);
        let made_ms = state.found.as_ref().map(|found| found.record.made_ms);
        consumes.push(Stored { output, artifact, trace, made_ms, left_out: false });
    });
    if let Some(output) = missing {
        return Ok(Err(Unprepared::Missing(graph.output_name(output))));
    }
    let state = &resolved.states[step.0 as usize];
    let (Some(trace), Some(version)) = (state.trace, state.version) else {
        return Ok(Err(Unprepared::Missing(graph.step_name(step))));
    };
    let executor = CommandExecutor::new(environment);
    let cancel = Arc::new(Cancel::default());
    let bench = Bench::new(
        plan,
        memo,
        &executor,
        environment,
        &cancel,
        0,
        "",
        false,
        None,
        None,
        Arc::new(super::Folders::new(memo)),
    );
    let task = Task {
        step,
        name: graph.step_name(step),
        trace,
        version,
        consumes,
        above: Vec::new(),
        parents: Vec::new(),
        names: Names::default(),
        why: Why::Forced,
        // Whoever looks around in it may write: nothing in it is a link into the store.
        private: true,
        reusable: false,
        fresh: false,
        reproduces: false,
        misfit: false,
        failed: None,
    };
    let laid = match bench.lay_out(&task, solid, folder) {
        Ok(laid) => laid,
        Err(Unready::Lost(output, what)) => {
            return Ok(Err(Unprepared::Missing(format!("{} ({what})", graph.output_name(output)))));
        }
        Err(Unready::Failed(failure)) => return Ok(Err(Unprepared::Failed(failure))),
        Err(Unready::Broken(error)) => return Err(error),
    };
    let resources = bench.resources(step);
    let config = graph.config(step);
    let secret =
        !config.secret.is_empty() || resources.iter().any(|resource| !resource.config.secret.is_empty());
    let prepared = bench.with_attempt(&task, solid, &laid, folder, &folder.join("log"), |attempt| {
        let (step, env) = executor.prepare(attempt)?;
        // Keeping a script takes secret config out of the folder, which whoever works in it needs.
        let script = if secret { None } else { Some(executor.keep(attempt)) };
        Ok((step, env, script))
    });
    let (step, env, script) = match prepared {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(failure)) | Err(failure) => return Ok(Err(Unprepared::Failed(failure))),
    };
    if let Some(Err(source)) = &script {
        let source = std::io::Error::other(source.to_string());
        return Err(EngineError::Io { action: "write to", path: folder.to_owned(), source });
    }
    Ok(Ok(Prepared { folder: step, env, script: script.map(|_| folder.join("run.sh")) }))
}
