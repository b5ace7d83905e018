//! Which probes the steps of a plan ask, in which environment, and for whom each answer is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::probe::Probe;
use super::{Environment, Measures, Needed};
use crate::error::{Diagnostic, EngineError};
use crate::execute::command::DEFAULT_PATH;
use crate::graph::{Graph, StepId};
use crate::solid::EnvVar;

/// Whom an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A `probe:` input.
    Input(usize),
    /// A resource.
    Resource(usize),
}

/// The probes that are to be run, each once, and for whom: by the index of the probe.
pub(super) struct Questions {
    pub(super) probes: Vec<Probe>,
    pub(super) asked: Vec<(Asked, usize)>,
}

/// What a probe sees.
struct Surroundings {
    env: Vec<(String, String)>,
    declared: Vec<(String, String)>,
    secrets: Vec<String>,
}

/// Finds the probes that are to be run.
pub(super) fn probes(
    graph: &Graph,
    needed: &Needed,
    environment: &Environment,
) -> Result<Questions, EngineError> {
    let mut probes: Vec<Probe> = Vec::new();
    let mut asked = Vec::new();
    let mut add = |who: Asked, probe: Probe| {
        let same = |other: &Probe| {
            (&other.command, &other.env, other.kept, other.every)
                == (&probe.command, &probe.env, probe.kept, probe.every)
        };
        let index = probes.iter().position(same).unwrap_or_else(|| {
            probes.push(probe);
            probes.len() - 1
        });
        asked.push((who, index));
    };
    for &index in &needed.resources {
        let definition = &graph.resources[index].definition;
        let Some(template) = &definition.probe else { continue };
        let command = graph.fill_probe(index, template).map_err(EngineError::from)?;
        let resources = with_needs(graph, index);
        let Surroundings { env, declared, secrets } = probe_env(graph, environment, &resources, None)?;
        let of = format!("the probe of resource `{}`", definition.name);
        let place = template.place.clone().or_else(|| definition.place.clone());
        let (kept, every) = (false, None);
        add(Asked::Resource(index), Probe { of, command, env, declared, secrets, place, kept, every });
    }
    for (&index, steps) in &needed.probes {
        let input = &graph.probes[index];
        for &step in steps {
            let invocation = graph.steps[step.0 as usize].invocation;
            let resources = graph.resources_of(invocation);
            let Surroundings { env, declared, secrets } =
                probe_env(graph, environment, &resources, Some(step))?;
            let of = "this probe".to_owned();
            let (command, place) = (input.command.clone(), input.place.clone());
            let every = input.every;
            add(Asked::Input(index), Probe { of, command, env, declared, secrets, place, kept: true, every });
        }
    }
    Ok(Questions { probes, asked })
}

/// A resource after those that it needs.
fn with_needs(graph: &Graph, resource: usize) -> Vec<usize> {
    fn visit(graph: &Graph, resource: usize, order: &mut Vec<usize>) {
        if !order.contains(&resource) {
            graph.resources[resource].needs.iter().for_each(|need| visit(graph, *need, order));
            order.push(resource);
        }
    }
    let mut order = Vec::new();
    visit(graph, resource, &mut order);
    order
}

/// A step's environment, but for what belongs to its folder, and with the real HOME; and what of it is secret.
fn probe_env(
    graph: &Graph,
    environment: &Environment,
    resources: &[usize],
    step: Option<StepId>,
) -> Result<Surroundings, EngineError> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let mut declared: BTreeMap<String, String> = BTreeMap::new();
    let base = environment.vars.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    env.insert("PATH".to_owned(), base.to_owned());
    env.extend(environment.vars.get("HOME").map(|home| ("HOME".to_owned(), home.clone())));
    env.extend([("LANG", "C.UTF-8"), ("TZ", "UTC")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    let mut secrets = Vec::new();
    for &resource in resources {
        secrets.extend(graph.resources[resource].config.secrets());
        for (name, template) in &graph.resources[resource].definition.env {
            declared.insert(name.clone(), graph.fill_resource(resource, template)?);
        }
    }
    if let Some(step) = step {
        let solid = graph.solid(step);
        secrets.extend(graph.config(step).secrets());
        for variable in &solid.env {
            match variable {
                EnvVar::Pass(name) => {
                    declared.extend(environment.vars.get(name).map(|value| (name.clone(), value.clone())));
                }
                EnvVar::Set(name, template) => {
                    declared.insert(name.clone(), graph.fill(step, template)?);
                }
            }
        }
    }
    env.extend(declared.clone());
    if let Some(solid) = step.map(|step| graph.solid(step)) {
        for name in solid.pass_env.iter().chain(&solid.secrets) {
            env.extend(environment.vars.get(name).map(|value| (name.clone(), value.clone())));
        }
        secrets.extend(solid.secrets.iter().filter_map(|name| environment.vars.get(name).cloned()));
    }
    let folders = path_before(graph, resources);
    let before: Vec<&str> = folders.iter().filter_map(|folder| folder.to_str()).collect();
    if !before.is_empty() {
        let path = env.entry("PATH".to_owned()).or_default();
        *path = format!("{}:{path}", before.join(":"));
    }
    let declared = declared.into_iter().collect();
    Ok(Surroundings { env: env.into_iter().collect(), declared, secrets })
}

/// The folders that resources (in the order of [`Graph::resources_of`]) put before PATH, absolute: what needs
/// another comes before it.
pub fn path_before(graph: &Graph, resources: &[usize]) -> Vec<PathBuf> {
    let folders = resources.iter().rev().flat_map(|resource| &graph.resources[*resource].definition.path);
    folders.map(|folder| graph.pipeline.folder.join(folder)).collect()
}

/// Hands answers out.
pub(super) fn answer(
    graph: &Graph,
    asked: &[(Asked, usize)],
    answers: Vec<Result<String, Diagnostic>>,
    measures: &mut Measures,
) -> Result<(), EngineError> {
    for (who, index) in asked {
        let answer = match &answers[*index] {
            Ok(answer) => answer.clone(),
            Err(diagnostic) => return Err(EngineError::Probe(diagnostic.clone())),
        };
        match who {
            Asked::Resource(index) => measures.resource_probes[*index] = Some(answer),
            Asked::Input(index) => {
                if measures.probes[*index].as_ref().is_some_and(|other| *other != answer) {
                    let input = &graph.probes[*index];
                    let message =
                        format!("`{}` prints one thing for one step and another for another", input.command);
                    return Err(EngineError::Probe(
                        Diagnostic::new(message)
                            .hint("their solids declare different environments: give each its own probe")
                            .at(input.place.as_ref()),
                    ));
                }
                measures.probes[*index] = Some(answer);
            }
        }
    }
    Ok(())
}
