//! A pipeline into a graph: mode, resources, config, order, then the elements of every matrix with their edges.
//!
//! The work is linear in the steps and edges that come out: names are looked up once an invocation, never once
//! an element, and what elements share (config, literals, gathers) is made once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::edge::{Edge, Expansion};
use super::elements::Elements;
use super::fill::Of;
use super::{Graph, Lists, OutputId, PathInput, ProbeInput, Step, StepInput};
use crate::config::{Placed, RunConfig};
use crate::error::Diagnostic;
use crate::list::List;
use crate::pipeline::{Axis, Input, Invocation, Mode, Pipeline, Source};
use crate::solid::{Body, EnvVar, Solid};
use crate::value::{Config, Owner, Value, listed, nearest};

/// The most steps of a pipeline: many times what a machine goes through, and few enough to be told of.
const STEPS: u64 = 10_000_000;

/// What the builder knows while it works; errors are collected, so that all are told at once.
pub(super) struct Builder<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) errors: Vec<Diagnostic>,
    /// The invocations by name.
    pub(super) names: HashMap<&'a str, u32>,
    /// For each invocation, its configuration without matrix values.
    pub(super) configs: Vec<Arc<Config>>,
    /// For each invocation, its elements; empty until its turn has come.
    pub(super) elements: Vec<Range<u32>>,
    /// For each invocation, what tells its elements apart; empty until its turn has come.
    pub(super) told: Vec<Elements>,
    /// The lists that are known.
    pub(super) lists: &'a Lists,
    /// The lists that steps are mapped over, with what they hold where that is known.
    pub(super) mapped_lists: Vec<(OutputId, Arc<List>)>,
    pub(super) pending: Vec<OutputId>,
    paths: Interned<PathInput>,
    probes: Interned<ProbeInput>,
}

/// Values that are kept once, with their index.
#[derive(Default)]
struct Interned<T> {
    values: Vec<T>,
    index: HashMap<(String, bool), u32>,
}

impl<T> Interned<T> {
    fn add(&mut self, key: (String, bool), value: impl FnOnce() -> T) -> u32 {
        *self.index.entry(key).or_insert_with(|| {
            self.values.push(value());
            // There are never more of them than inputs of steps, which were counted before.
            u32::try_from(self.values.len() - 1).expect("as many as steps at most, which `u32` counts")
        })
    }
}

/// See [`Graph::new`].
pub(super) fn build(
    pipeline: &Arc<Pipeline>,
    mode: Option<&str>,
    run: &Arc<RunConfig>,
    lists: Lists,
) -> Result<Graph, Vec<Diagnostic>> {
    let mut names = HashMap::with_capacity(pipeline.invocations.len());
    for (index, invocation) in (0_u32..).zip(&pipeline.invocations) {
        names.entry(invocation.name.as_str()).or_insert(index);
    }
    let mut builder = Builder {
        pipeline,
        errors: Vec::new(),
        names,
        configs: Vec::new(),
        elements: vec![0..0; pipeline.invocations.len()],
        told: vec![Elements::default(); pipeline.invocations.len()],
        lists: &lists,
        mapped_lists: Vec::new(),
        pending: Vec::new(),
        paths: Interned { values: Vec::new(), index: HashMap::new() },
        probes: Interned { values: Vec::new(), index: HashMap::new() },
    };
    let mode = builder.mode(mode);
    builder.unknown_names(run);
    let shared = pipeline.config.resolve(Owner::Pipeline, &run.pipeline, None, &mut builder.errors);
    let (resources, needs) = builder.resources(mode, run, &shared);
    builder.resolve_configs(run, &shared);
    builder.missing_versions();
    let edges = builder.edges(run);
    let order = builder.order(&edges);
    let steps = if builder.errors.is_empty() { builder.expand(&order, edges) } else { Vec::new() };
    if !builder.errors.is_empty() {
        return Err(in_order_of_text(builder.errors));
    }
    let graph = Graph {
        mode: mode.map(|mode| mode.name.clone()),
        resources,
        needs,
        steps,
        steps_of: builder.elements,
        elements: builder.told,
        mapped_lists: builder.mapped_lists,
        pending: builder.pending,
        run_config: Arc::clone(run),
        configs: builder.configs,
        paths: builder.paths.values,
        probes: builder.probes.values,
        pipeline: Arc::clone(pipeline),
        lists,
    };
    let collisions = crate::publish::collisions(&graph);
    if collisions.is_empty() { Ok(graph) } else { Err(in_order_of_text(collisions)) }
}

/// Sorts what was found as a reader of the file meets it, each once; what has no place comes last.
fn in_order_of_text(mut errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    errors.sort_by(|a, b| {
        let key = |diagnostic: &Diagnostic| {
            diagnostic
                .place
                .as_ref()
                .map_or((1, None), |place| (0, Some((Arc::clone(&place.file), place.line, place.column))))
        };
        key(a).cmp(&key(b))
    });
    let mut seen = HashSet::new();
    errors.retain(|error| seen.insert((error.message.clone(), error.place.clone())));
    errors
}

impl<'a> Builder<'a> {
    /// The mode that was named, else `default`, else the only one, else none.
    fn mode(&mut self, named: Option<&str>) -> Option<&'a Mode> {
        let modes = &self.pipeline.modes;
        let Some(name) = named else {
            return modes.iter().find(|mode| mode.name == "default").or(match modes.as_slice() {
                [only] => Some(only),
                _ => None,
            });
        };
        let found = modes.iter().find(|mode| mode.name == name);
        if found.is_none() {
            let known = modes.iter().map(|mode| mode.name.clone()).collect::<Vec<_>>();
            let hint = match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "the pipeline has no modes".to_owned(),
                None => format!("there is {}", listed(&known)),
            };
            self.errors.push(Diagnostic::new(format!("there is no mode `{name}`")).hint(hint));
        }
        found
    }

    /// What the run config names must be there.
    fn unknown_names(&mut self, run: &RunConfig) {
        for (step, given) in run.config.iter().chain(&run.inputs) {
            if !self.names.contains_key(step.as_str()) {
                let place = given.values().find_map(|placed| placed.place.as_ref());
                let mut error =
                    Diagnostic::new(format!("the run config names `{step}`, and there is no such step"))
                        .at(place);
                error.hint = self.near_step(step);
                self.errors.push(error);
            }
        }
        let of_modes = self.pipeline.modes.iter().flat_map(|mode| &mode.resources);
        let known = self.pipeline.resources.iter().chain(of_modes).map(|(name, _)| name.as_str());
        let known = known.collect::<BTreeSet<_>>();
        for (name, given) in &run.resources {
            // `io_manager` says where the store is; it needs no definition.
            if name != "io_manager" && !known.contains(name.as_str()) {
                let place = given.values().find_map(|placed| placed.place.as_ref());
                let mut error =
                    Diagnostic::new(format!("the run config names resource `{name}`, and there is none"))
                        .at(place);
                error.hint =
                    nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                self.errors.push(error);
            }
        }
    }

    /// Resolves the config of every invocation. Those of one solid that are given nothing share theirs.
    fn resolve_configs(&mut self, run: &RunConfig, shared: &Config) {
        let pipeline = self.pipeline;
        let (none, empty) = (BTreeMap::new(), Arc::new(Config::default()));
        let mut by_solid: HashMap<*const Solid, Arc<Config>> = HashMap::new();
        for invocation in &pipeline.invocations {
            let solid = &*invocation.solid;
            for axis in &invocation.matrix {
                if let Some(field) = solid.config.fields.get(&axis.name) {
                    self.errors.push(
                        Diagnostic::new(format!(
                            "`{}` is a config key of `{}` and an axis of its matrix",
                            axis.name, invocation.name
                        ))
                        .hint("an axis is config already: leave out the key, or give the axis another name")
                        .at(field.place.as_ref().or(invocation.place.as_ref())),
                    );
                }
            }
            let given = run.config.get(&invocation.name).unwrap_or(&none);
            if given.is_empty() && solid.config.fields.is_empty() {
                self.configs.push(Arc::clone(&empty));
                continue;
            }
            if given.is_empty()
                && let Some(config) = by_solid.get(&std::ptr::from_ref(solid))
            {
                self.configs.push(Arc::clone(config));
                continue;
            }
            let mut rest: BTreeMap<String, Placed> = given.clone();
            for axis in &invocation.matrix {
                if let Some(placed) = rest.remove(&axis.name) {
                    self.errors.push(
                        Diagnostic::new(format!(
                            "config `{}` of `{}` comes from its matrix",
                            axis.name, invocation.name
                        ))
                        .hint("select elements by name instead, or change the matrix")
                        .at(placed.place.as_ref()),
                    );
                }
            }
            let before = self.errors.len();
            let owner = Owner::Step(&invocation.name);
            let config = Arc::new(solid.config.resolve(
                owner,
                &rest,
                Some((&pipeline.config, shared)),
                &mut self.errors,
            ));
            // A key that is missing is missing for each of them, so only a whole config is shared.
            if given.is_empty() && self.errors.len() == before {
                by_solid.insert(solid, Arc::clone(&config));
            }
            self.configs.push(config);
        }
    }

    /// A function's code cannot be seen, so its version must be given; it never means "always" or "never".
    fn missing_versions(&mut self) {
        let mut seen = HashSet::new();
        for invocation in &self.pipeline.invocations {
            let solid = &*invocation.solid;
            let unversioned = solid.version.is_none() && solid.code.is_empty();
            if matches!(solid.body, Body::Function(_))
                && unversioned
                && seen.insert(std::ptr::from_ref(solid))
            {
                self.errors.push(
                    Diagnostic::new(format!("solid `{}` has no version", solid.name))
                        .hint("give it `file_version!()`, `crate_version!()` or a version by hand")
                        .at(solid.place.as_ref().or(invocation.place.as_ref())),
                );
            }
        }
    }

    /// The inputs of every invocation with their references looked up.
    fn edges(&mut self, run: &RunConfig) -> Vec<Vec<Edge<'a>>> {
        let pipeline = self.pipeline;
        for (name, given) in &run.inputs {
            let Some(invocation) =
                self.names.get(name.as_str()).map(|index| &pipeline.invocations[*index as usize])
            else {
                continue; // That it is unknown was said already.
            };
            for (input, placed) in given {
                let error = match invocation.inputs.iter().find(|known| is_called(known, input)) {
                    Some(Input { source: Source::Default(_), .. }) => continue,
                    Some(_) => Diagnostic::new(format!(
                        "input `{input}` of `{name}` is fixed by the pipeline, so the run config cannot give it"
                    ))
                    .hint("an input that is declared as `{default: …}` can be given"),
                    None => {
                        let known = invocation.inputs.iter().map(|known| known.name.as_str());
                        let mut error = Diagnostic::new(format!("`{name}` has no input `{input}`"));
                        error.hint = nearest(input, known).map(|near| format!("did you mean `{near}`?"));
                        error
                    }
                };
                self.errors.push(error.at(placed.place.as_ref()));
            }
        }
        let none = BTreeMap::new();
        (0_u32..)
            .zip(&pipeline.invocations)
            .map(|(index, invocation)| {
                let given = run.inputs.get(&invocation.name).unwrap_or(&none);
                invocation.inputs.iter().map(|input| self.edge(index, invocation, input, given)).collect()
            })
            .collect()
    }

    fn edge(
        &mut self,
        reader: u32,
        invocation: &'a Invocation,
        input: &'a Input,
        given: &BTreeMap<String, Placed>,
    ) -> Edge<'a> {
        let name = &invocation.name;
        match &input.source {
            Source::Output(reference) | Source::Gather { of: reference, .. } => {
                self.reference(reader, input, reference)
            }
            Source::Element(list) => match self.names.get(list.step.as_str()) {
                Some(producer) => Edge::Element(*producer),
                None => {
                    let mut error = Diagnostic::new(format!(
                        "`{name}` is mapped over `{}`, and there is no such step",
                        list.step
                    ))
                    .at(list.place.as_ref().or(input.place.as_ref()));
                    error.hint = self.near_step(&list.step);
                    self.errors.push(error);
                    Edge::Wrong
                }
            },
            Source::FanIn(references) => {
                let parts = references.iter().map(|reference| self.reference(reader, input, reference));
                Edge::fan_in(parts.collect())
            }
            Source::Value(value) => self.literal(name, input, value.clone()),
            Source::Default(value) => {
                let placed =
                    given.iter().find(|(given, _)| is_called(input, given)).map(|(_, placed)| placed);
                self.literal(name, input, placed.map_or(value, |placed| &placed.value).clone())
            }
            Source::Path { path, external } => {
                let varies = super::fill::varies(path, &invocation.matrix);
                Edge::Path { template: path.clone(), external: *external, varies, index: None }
            }
            Source::Probe { command, every } => {
                let varies = super::fill::varies(command, &invocation.matrix) || varying_env(invocation);
                Edge::Probe { template: command.clone(), every: *every, varies, index: None }
            }
        }
    }

    fn literal(&mut self, step: &str, input: &Input, value: Value) -> Edge<'a> {
        if let Err(fragment) = value.check_numbers() {
            let message = format!("input `{}` of `{step}` {fragment}", input.name);
            self.errors.push(Diagnostic::new(message).at(input.place.as_ref()));
        }
        Edge::Value(Arc::new(value))
    }

    /// The order of the file, but an invocation after what it consumes: always the first one that is ready.
    fn order(&mut self, edges: &[Vec<Edge<'a>>]) -> Vec<u32> {
        let count = u32::try_from(edges.len()).unwrap_or(u32::MAX);
        let mut needs: Vec<Vec<u32>> = edges
            .iter()
            .map(|edges| {
                let mut needs = Vec::new();
                edges.iter().for_each(|edge| edge.producers(&mut needs));
                needs.sort_unstable();
                needs.dedup();
                needs
            })
            .collect();
        // A file that is in order already, as most are, needs no heap.
        if (0_u32..).zip(&needs).all(|(index, needs)| needs.last().is_none_or(|last| *last < index)) {
            return (0..count).collect();
        }
        let mut readers = vec![Vec::new(); edges.len()];
        for (index, needs) in (0_u32..).zip(&needs) {
            needs.iter().for_each(|need| readers[*need as usize].push(index));
        }
        let mut waits = needs.iter().map(Vec::len).collect::<Vec<_>>();
        let mut ready =
            (0..count).filter(|index| waits[*index as usize] == 0).map(Reverse).collect::<BinaryHeap<_>>();
        let mut order = Vec::with_capacity(edges.len());
        while let Some(Reverse(index)) = ready.pop() {
            order.push(index);
            for reader in &readers[index as usize] {
                waits[*reader as usize] -= 1;
                if waits[*reader as usize] == 0 {
                    ready.push(Reverse(*reader));
                }
            }
        }
        if order.len() < edges.len() {
            for (index, needs) in needs.iter_mut().enumerate() {
                needs.retain(|need| waits[*need as usize] > 0 && waits[index] > 0);
            }
            let cycle = cycle(&needs);
            let invocations = &self.pipeline.invocations;
            let path =
                cycle.iter().map(|index| invocations[*index as usize].name.as_str()).collect::<Vec<_>>();
            let place = cycle.first().and_then(|index| invocations[*index as usize].place.as_ref());
            self.errors.push(
                Diagnostic::new(format!("these steps need each other: {}", path.join(" → ")))
                    .hint("each needs the next; take one of these inputs away")
                    .at(place),
            );
        }
        order
    }

    /// Makes the steps, invocation after invocation.
    fn expand(&mut self, order: &[u32], mut edges: Vec<Vec<Edge<'a>>>) -> Vec<Step> {
        let pipeline = self.pipeline;
        let mut total: u64 = 0;
        for invocation in &pipeline.invocations {
            let mut size: u64 = 1;
            for axis in &invocation.matrix {
                if axis.points.is_empty() {
                    self.errors.push(
                        Diagnostic::new(format!(
                            "axis `{}` of `{}` has no values",
                            axis.name, invocation.name
                        ))
                        .at(invocation.place.as_ref()),
                    );
                }
                let mut labels = HashSet::new();
                if !Axis::counts_up(&axis.points)
                    && let Some(twice) = axis.points.iter().find(|point| !labels.insert(point.label.as_str()))
                {
                    self.errors.push(
                        Diagnostic::new(format!(
                            "axis `{}` of `{}` has `{}` twice",
                            axis.name, invocation.name, twice.label
                        ))
                        .hint("elements are named by these values, so they must differ as they are written")
                        .at(invocation.place.as_ref()),
                    );
                }
                if let Some((point, fragment)) = axis
                    .points
                    .iter()
                    .find_map(|point| point.value.check_numbers().err().map(|fragment| (point, fragment)))
                {
                    let message = format!(
                        "`{}` on axis `{}` of `{}` {fragment}",
                        point.label, axis.name, invocation.name
                    );
                    self.errors.push(Diagnostic::new(message).at(invocation.place.as_ref()));
                }
                size = size.saturating_mul(axis.points.len() as u64);
            }
            let before = total;
            total = total.saturating_add(size);
            // At the one with which it is too much, and before there is room made for any.
            if total > STEPS && before <= STEPS {
                let message = match before {
                    0 => format!("the matrix of `{}` gives {size} steps", invocation.name),
                    _ => format!(
                        "the matrix of `{}` gives {size} steps, beside {before} others",
                        invocation.name
                    ),
                };
                let diagnostic = Diagnostic::new(format!("{message}; {STEPS} is the most"));
                self.errors.push(diagnostic.at(invocation.place.as_ref()));
            }
        }
        if !self.errors.is_empty() {
            return Vec::new();
        }
        let mut steps = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
        for index in order {
            let invocation = &pipeline.invocations[*index as usize];
            let first = u32::try_from(steps.len()).unwrap_or(u32::MAX);
            let mut given = Vec::new();
            self.told[*index as usize] = match invocation.mapped() {
                None => {
                    let size = Expansion::of(&invocation.matrix).size;
                    Elements::product(invocation.matrix.clone(), size)
                }
                Some((input, list)) => match self.mapped(invocation, input, list) {
                    Ok((elements, of_list)) => {
                        given = of_list;
                        elements
                    }
                    Err(error) => {
                        self.errors.push(error.at(list.place.as_ref().or(input.place.as_ref())));
                        Elements::default()
                    }
                },
            };
            let size = self.told[*index as usize].len();
            if steps.len() as u64 + u64::from(size) > STEPS {
                let message = format!("the lists give more steps than {STEPS}, which is the most");
                self.errors.push(Diagnostic::new(message).at(invocation.place.as_ref()));
                return Vec::new();
            }
            let mut edges = std::mem::take(&mut edges[*index as usize]);
            edges.iter_mut().for_each(|edge| edge.start_at(&self.elements));
            let mut points = Vec::with_capacity(self.told[*index as usize].axes.len());
            for element in 0..size {
                points.clear();
                points.extend(self.told[*index as usize].points(element));
                let mut inputs = Vec::with_capacity(edges.len());
                for (edge, input) in edges.iter_mut().zip(&invocation.inputs) {
                    inputs.push(match edge {
                        Edge::Element(_) => {
                            std::mem::replace(&mut given[element as usize], StepInput::Unknown(Arc::from([])))
                        }
                        edge => self.input(*index, invocation, input, edge, &points),
                    });
                }
                steps.push(Step { invocation: *index, element, inputs: inputs.into() });
            }
            self.elements[*index as usize] = first..first + size;
        }
        steps
    }

    fn input(
        &mut self,
        index: u32,
        invocation: &Invocation,
        input: &Input,
        edge: &mut Edge<'a>,
        points: &[u32],
    ) -> StepInput {
        match edge {
            Edge::One(address) => StepInput::Output(address.at(points)),
            Edge::Gather(gather) => StepInput::Gather(gather.at(points, self.pipeline)),
            Edge::FanIn(fan_in) => StepInput::FanIn(fan_in.at(points, self.pipeline)),
            Edge::Late(late) => self.late(index, late, points),
            Edge::LateFanIn(parts) => self.late_fan_in(index, parts, points),
            Edge::Value(value) => StepInput::Value(Arc::clone(value)),
            Edge::Path { template, external, varies, index: known } => {
                if let (false, Some(known)) = (*varies, *known) {
                    return StepInput::Path(known);
                }
                let config = &self.configs[index as usize];
                let path = match super::fill::fill(Of::Text, template, config, &invocation.matrix, points) {
                    Ok(path) => path,
                    Err(error) => {
                        self.errors.push(error);
                        String::new()
                    }
                };
                let (external, place) = (*external, input.place.clone());
                let id = self.paths.add((path.clone(), external), || PathInput { path, external, place });
                *known = Some(id);
                StepInput::Path(id)
            }
            Edge::Probe { template, every, varies, index: known } => {
                if let (false, Some(known)) = (*varies, *known) {
                    return StepInput::Probe(known);
                }
                let config = &self.configs[index as usize];
                let command =
                    match super::fill::fill(Of::ShellLine, template, config, &invocation.matrix, points) {
                        Ok(command) => command,
                        Err(error) => {
                            self.errors.push(error);
                            String::new()
                        }
                    };
                let (every, place) = (*every, input.place.clone());
                // The answer belongs to the environment that the solid declares, element by element where it differs.
                let solid = &*invocation.solid;
                let element = if varying_env(invocation) { &points[..invocation.matrix.len()] } else { &[] };
                let key = format!("{:p} {element:?} {every:?} {command}", std::ptr::from_ref(solid));
                let id = self.probes.add((key.clone(), false), || ProbeInput { command, every, key, place });
                *known = Some(id);
                StepInput::Probe(id)
            }
            // An edge that is wrong left an error, and then no steps are made.
            Edge::Element(_) | Edge::Wrong => StepInput::FanIn(Arc::from([])),
        }
    }

    pub(super) fn near_step(&self, name: &str) -> Option<String> {
        let known = self.pipeline.invocations.iter().map(|invocation| invocation.name.as_str());
        nearest(name, known).map(|near| format!("did you mean `{near}`?"))
    }
}

/// Whether elements of an invocation differ in the environment that its solid sets.
fn varying_env(invocation: &Invocation) -> bool {
    invocation.solid.env.iter().any(|variable| match variable {
        EnvVar::Set(_, template) => super::fill::varies(template, &invocation.matrix),
        EnvVar::Pass(_) => false,
    })
}

/// Whether an input is meant by this name: `tree`, or as the step sees it `tree.txt`.
fn is_called(input: &Input, name: &str) -> bool {
    input.name == name || input.file_name == name
}

/// The cycle that is met first when the needs of the first one that has any are followed.
fn cycle(needs: &[Vec<u32>]) -> Vec<u32> {
    let mut seen_at = HashMap::new();
    let mut path: Vec<u32> = Vec::new();
    let mut next = (0_u32..).zip(needs).find(|(_, needs)| !needs.is_empty()).map(|(index, _)| index);
    while let Some(index) = next {
        if let Some(start) = seen_at.insert(index, path.len()) {
            let mut cycle = path.split_off(start);
            let smallest = (0..cycle.len()).min_by_key(|at| cycle[*at]).unwrap_or(0);
            cycle.rotate_left(smallest);
            cycle.extend(cycle.first().copied());
            return cycle;
        }
        path.push(index);
        next = needs[index as usize].first().copied();
    }
    path
}
