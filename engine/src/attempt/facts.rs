//! What is told to an attempt beside its inputs (variables, resources, what is secret of them), and what is
//! written down of where its result came from. Reads no file and no store.

use super::lay::LaidOut;
use super::{Bench, Task};
use crate::execute::line::{Facts, InputFact, InputForm};
use crate::execute::{Cause, Content, Failure, Given, GivenResource, blot};
use crate::given;
use crate::graph::StepId;
use crate::record::{Maker, Provenance};
use crate::solid::{Body, EnvVar, Solid};
use crate::version;

impl Bench<'_> {
    /// The environment that was declared.
    pub(super) fn env(&self, step: StepId, solid: &Solid) -> Result<Vec<(String, String)>, Failure> {
        let graph = &self.plan.graph;
        let invocation = graph.steps[step.0 as usize].invocation;
        let unfilled = |diagnostic: crate::error::Diagnostic| Failure {
            cause: Cause::NotStarted,
            message: diagnostic.to_string(),
            hint: diagnostic.hint,
        };
        let mut env = Vec::new();
        for resource in graph.resources_of(invocation) {
            for (name, template) in &graph.resources[resource].definition.env {
                set(&mut env, name, graph.fill_resource(resource, template).map_err(unfilled)?);
            }
        }
        let measured = self.plan.measures.env.get(invocation as usize);
        for variable in &solid.env {
            match variable {
                // What was measured is what was hashed.
                EnvVar::Pass(name) => {
                    let value = measured.and_then(|env| env.iter().find(|(known, _)| known == name));
                    if let Some((_, Some(value))) = value {
                        set(&mut env, name, value.clone());
                    }
                }
                EnvVar::Set(name, template) => {
                    set(&mut env, name, graph.fill(step, template).map_err(unfilled)?);
                }
            }
        }
        for name in &solid.pass_env {
            if let Some(value) = self.environment.vars.get(name) {
                set(&mut env, name, value.clone());
            }
        }
        for name in &solid.secrets {
            let Some(value) = self.environment.vars.get(name) else {
                return Err(Failure {
                    cause: Cause::NotStarted,
                    message: format!("its secret `{name}` is not set"),
                    hint: Some(format!("set the environment variable `{name}`")),
                });
            };
            set(&mut env, name, value.clone());
        }
        Ok(env)
    }

    /// The values that are never shown: those of secret variables and of secret config.
    pub(super) fn secrets(
        &self,
        step: StepId,
        env: &[(String, String)],
        secret_env: &[String],
    ) -> Vec<String> {
        let graph = &self.plan.graph;
        let invocation = graph.steps[step.0 as usize].invocation;
        let variables = env.iter().filter(|(name, _)| secret_env.contains(name));
        let mut secrets: Vec<String> = variables.map(|(_, value)| value.clone()).collect();
        let resources = graph.resources_of(invocation);
        secrets.extend(graph.config(step).secrets());
        secrets.extend(resources.iter().flat_map(|resource| graph.resources[*resource].config.secrets()));
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }

    /// The resources of a step with their config; a function's executor opens them.
    pub(super) fn resources(&self, step: StepId) -> Vec<GivenResource> {
        let graph = &self.plan.graph;
        let needed = graph.resources_of(graph.steps[step.0 as usize].invocation);
        let resolved = needed.into_iter().map(|resource| &graph.resources[resource]);
        resolved
            .map(|resolved| GivenResource {
                name: resolved.definition.name.clone(),
                config: (*resolved.config).clone(),
            })
            .collect()
    }

    /// Where what an attempt made came from; `makers` says who made what it was given.
    pub(super) fn provenance(
        &self,
        task: &Task,
        solid: &Solid,
        laid: &LaidOut,
        makers: &[Option<Maker>],
        (started_ms, elapsed_ms): (u64, u64),
        attempt: u32,
    ) -> Provenance {
        let graph = &self.plan.graph;
        let config = graph.config(task.step);
        let invocation = graph.steps[task.step.0 as usize].invocation;
        let resources = graph.resources_of(invocation);
        let facts = Facts {
            solid,
            config: &config,
            inputs: laid
                .given
                .iter()
                .map(|given| InputFact { name: &given.name, file_name: &given.file_name, form: form(given) })
                .collect(),
            resources: resources
                .iter()
                .map(|resource| &graph.resources[*resource])
                .map(|resolved| (resolved.definition.name.as_str(), &*resolved.config))
                .collect(),
            cpus: solid.policy.cpus,
            hide: true,
        };
        let command = match &solid.body {
            Body::Command(_) => facts.command_line().map(|line| line.shown()).unwrap_or_default(),
            Body::Function(_) => String::new(),
        };
        // What is passed without being hashed is not recorded, and secrets least of all.
        let hashed = |name: &String| !solid.pass_env.contains(name) && !solid.secrets.contains(name);
        let env = self.env(task.step, solid).unwrap_or_default();
        // What a variable is set to may hold a secret of the config.
        let secrets = self.secrets(task.step, &env, &solid.secrets);
        let env = env.into_iter().filter(|(name, _)| hashed(name));
        Provenance {
            run: self.run,
            pipeline: graph.pipeline.name.clone(),
            step: task.name.clone(),
            solid: solid.name.clone(),
            version: task.version,
            command,
            env: env.map(|(name, value)| (name, blot::hide(&value, &secrets))).collect(),
            config: version::shown_config(&config, &self.key).to_string(),
            inputs: given::inputs(self.plan, task.step, &task.consumes, makers),
            host: self.host.to_owned(),
            platform: self.plan.measures.platform.clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms,
            elapsed_ms,
            attempt,
            store: self.makers.store().to_owned(),
        }
    }
}

/// Sets a variable, in the place of one that was set before.
fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some(known) => known.1 = value,
        None => env.push((name.to_owned(), value)),
    }
}

fn form(given: &Given) -> InputForm {
    match &given.content {
        Content::FanIn(count) => InputForm::FanIn(*count),
        Content::Gather(_) => InputForm::Gather,
        Content::Absent => InputForm::Absent,
        Content::File
        | Content::Project { .. }
        | Content::Bytes(_)
        | Content::Many(_)
        | Content::Value(_)
        | Content::Path(_) => InputForm::One,
    }
}
