//! Versions and traces from facts, in one walk that either hashes or explains. Pure: files, probes and variables
//! were measured before.
//!
//! ```text
//! solid ─┐
//! config ├─► step version ─► output version ─► step version of a reader …
//! resource, input ┘     └─ with contents in the place of versions ─► trace
//! ```
//!
//! The rule above the formulas: whatever a step can see, and is not fixed, or named as left out, by the contract,
//! is an ingredient. `docs/versions.md` lists every ingredient, what is left out, and every byte of the encoding.
//! Whoever changes that raises the number in the context of its kind, so that old records simply stop matching.

mod fact;
mod kind;
mod manifest;
mod outputs;
mod shape;
mod walk;

pub use fact::{Fact, FactNode, FactValue};

use std::collections::HashMap;
use std::sync::Arc;

use cas_store::{Artifact, Trace, Version};

use crate::fork;
use crate::graph::{Graph, OutputId, StepId, StepInput};
use crate::solid::{EnvVar, Solid};
use crate::source::Measures;
use crate::value::{Config, Value};
use kind::Kind;
use manifest::{Encoder, Label, Manifest, Term, Writer};
use outputs::Made;
pub(crate) use outputs::Outputs;
use shape::Shape;
use walk::{
    Entering, answer_facts, config_facts, enter, literal_facts, output_facts, path_facts, resource_facts,
    several_facts, solid_facts, there,
};

/// What a step is given by an output, for its trace.
#[derive(Debug, Clone, Copy)]
pub enum InputContent<'a> {
    /// This content.
    Artifact(&'a Artifact),
    /// It was recorded as not produced.
    Absent,
    /// It failed, and the gather that it is in goes on without it.
    LeftOut,
}

/// What of the steps of a plan is known before their inputs are: shared by versions and traces, hashed once.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// For each invocation, the version of its solid; `None` where its files were not measured.
    pub solids: Vec<Option<Version>>,
    /// For each resource, its version; `None` where its files or its probe were not measured.
    pub resources: Vec<Option<Version>>,
    /// For each step, the digest of its config; all zero outside the plan.
    pub configs: Vec<Version>,
    /// For each `path:` input.
    paths: Vec<Option<Version>>,
    /// For each `probe:` input.
    probes: Vec<Option<Version>>,
    /// For each invocation, what its elements have in common.
    shapes: Vec<Shape>,
}

/// The version of an output of a step of this version.
pub fn output_version(step: &Version, output: &str) -> Version {
    let mut encoder = Encoder::default();
    output_facts(&mut encoder, step, output);
    Kind::Output.hash(&encoder.bytes)
}

/// What is kept in the place of a secret value: a digest that says whether it changed, and to whoever has not the
/// key, nothing. `name` is the fact's label.
pub fn secret_digest(key: &[u8; 32], name: &str, value: &Value) -> String {
    let mut encoder = Encoder::default();
    encoder.entry(name, Term::Value(value));
    let hash = blake3::keyed_hash(key, &encoder.bytes);
    format!("secret {}", &hash.to_hex()[..16])
}

/// The key of the digests of secret values, from something that only those know who may read the store (its id).
pub fn secret_key(of: &[u8]) -> [u8; 32] {
    *Kind::Secret.hash(of).as_bytes()
}

/// What a value by itself is hashed to: values that no version tells apart have the same.
pub(crate) fn value_version(value: &Value) -> Version {
    hashed(Kind::Input, |to| literal_facts(to, value))
}

/// A config as it may be shown and kept: secret values as their keyed digests.
pub fn shown_config(config: &Config, key: &[u8; 32]) -> Value {
    let shown = config.values.iter().map(|(name, value)| {
        let shown = if config.secret.contains(name) {
            Value::Str(secret_digest(key, &format!("config.{name}"), value))
        } else {
            value.clone()
        };
        (name.clone(), shown)
    });
    Value::Map(shown.collect())
}

impl Buffers {
    /// Buffers that remember what lists were hashed to: while all that they hold stays as it is.
    fn listing() -> Self {
        let input = Lists { made: Some(HashMap::new()), ..Lists::default() };
        Self { input, ..Self::default() }
    }
}

/// Stands where a version is not known.
const NOT_KNOWN: Version = Version::from_bytes([0; 32]);

/// Whoever asks for hashes only has no secret to show.
const NO_KEY: &[u8; 32] = &[0; 32];

/// Buffers that are used again for every step: one for the step, one for an input of it.
#[derive(Default)]
pub(crate) struct Buffers {
    step: Encoder,
    input: Lists,
}

/// Where fan-ins and gathers are encoded, and, while all that they hold stays as it is, what they were hashed to:
/// by where they stand in memory, because readers that gather the same share it.
#[derive(Default)]
struct Lists {
    encoder: Encoder,
    made: Option<HashMap<usize, Option<Version>>>,
}

impl Lists {
    fn version<'a>(
        &mut self,
        graph: &Graph,
        input: &StepInput,
        known: &mut impl FnMut(OutputId) -> Option<Entering<'a>>,
    ) -> Option<Version> {
        let place = match input {
            StepInput::FanIn(outputs) => Arc::as_ptr(outputs).cast::<u8>().addr(),
            StepInput::Gather(elements) => Arc::as_ptr(elements).cast::<u8>().addr(),
            StepInput::Output(_)
            | StepInput::Element { .. }
            | StepInput::Unknown(_)
            | StepInput::Path(_)
            | StepInput::Value(_)
            | StepInput::Probe(_) => 0,
        };
        if let Some(made) = self.made.as_ref().and_then(|made| made.get(&place)) {
            return *made;
        }
        self.encoder.bytes.clear();
        let version = several_facts(&mut self.encoder, graph, input, known)
            .map(|()| Kind::Input.hash(&self.encoder.bytes));
        if let Some(made) = &mut self.made {
            made.insert(place, version);
        }
        version
    }
}

impl Base {
    /// Hashes what the steps of a plan have without their inputs.
    pub fn new(graph: &Graph, measures: &Measures, steps: &[StepId]) -> Self {
        let mut base = Self {
            paths: measures
                .paths
                .iter()
                .map(|path| path.as_ref().map(|path| hashed(Kind::Input, |to| path_facts(to, path))))
                .collect(),
            probes: measures
                .probes
                .iter()
                .map(|answer| {
                    answer.as_ref().map(|answer| hashed(Kind::Input, |to| answer_facts(to, answer)))
                })
                .collect(),
            ..Self::default()
        };
        // Each resource stands after what it needs.
        for index in 0..graph.resources.len() {
            let mut encoder = Encoder::default();
            let known = base.resource(graph, measures, index, &mut encoder);
            base.resources.push(known.map(|()| Kind::Resource.hash(&encoder.bytes)));
        }
        let invocations = &graph.pipeline.invocations;
        let mut planned = vec![false; invocations.len()];
        for step in steps {
            planned[graph.steps[step.0 as usize].invocation as usize] = true;
        }
        let shapes = planned.iter().enumerate();
        base.shapes = shapes
            .map(|(index, planned)| if *planned { Shape::of(graph, index) } else { Shape::default() })
            .collect();
        base.solids = vec![None; invocations.len()];
        let mut by_solid: HashMap<*const Solid, Version> = HashMap::new();
        let mut encoder = Encoder::default();
        for index in (0..invocations.len()).filter(|index| planned[*index]) {
            let solid = Arc::as_ptr(&invocations[index].solid);
            base.solids[index] = by_solid.get(&solid).copied().or_else(|| {
                encoder.bytes.clear();
                solid_of(graph, measures, index, &mut encoder)?;
                let version = Kind::Solid.hash(&encoder.bytes);
                by_solid.insert(solid, version);
                Some(version)
            });
        }
        base.configs = vec![NOT_KNOWN; graph.steps.len()];
        let hashed = fork::parts(steps, |part| base.some_configs(graph, part));
        for (step, config) in steps.iter().zip(hashed.into_iter().flatten()) {
            base.configs[step.0 as usize] = config;
        }
        base
    }

    fn some_configs(&self, graph: &Graph, steps: &[StepId]) -> Vec<Version> {
        let mut encoder = Encoder::default();
        let hashed = steps.iter().map(|step| {
            encoder.bytes.clear();
            self.config(graph, *step, NO_KEY, &mut encoder);
            Kind::Config.hash(&encoder.bytes)
        });
        hashed.collect()
    }

    /// Tells what a resource is made of, if all of it was measured.
    fn resource(
        &self,
        graph: &Graph,
        measures: &Measures,
        index: usize,
        to: &mut impl Manifest,
    ) -> Option<()> {
        let resource = &graph.resources[index];
        let definition = &resource.definition;
        let set = measures.resources.get(index).and_then(Option::as_deref);
        let printed = measures.resource_probes.get(index).and_then(Option::as_deref);
        if (set.is_none() && !definition.files.is_empty())
            || (printed.is_none() && definition.probe.is_some())
        {
            return None;
        }
        let mut needs = Vec::with_capacity(resource.needs.len());
        for need in &resource.needs {
            let name = graph.resources[*need].definition.name.as_str();
            needs.push((name, self.resources.get(*need)?.as_ref()?));
        }
        needs.sort_unstable();
        let config =
            hashed(Kind::Config, |to| config_facts(to, &resource.config, NO_KEY, std::iter::empty()));
        resource_facts(to, definition, printed, set, &config, &needs);
        Some(())
    }

    /// Tells the config of a step.
    fn config(&self, graph: &Graph, step: StepId, key: &[u8; 32], to: &mut impl Manifest) {
        let of = &graph.steps[step.0 as usize];
        let invocation = of.invocation as usize;
        let (config, axes) = (&graph.configs[invocation], &graph.pipeline.invocations[invocation].matrix);
        let points = self.shapes[invocation].axes.iter().map(|at| {
            let axis = &axes[*at];
            (axis.name.as_str(), &axis.points[graph.point_on(step, *at) as usize].value)
        });
        config_facts(to, config, key, points);
    }

    /// Tells what a step is made of; `None` where something of it is not known.
    fn step<'a>(
        &self,
        graph: &Graph,
        step: StepId,
        inner: &mut Lists,
        known: &mut impl FnMut(OutputId) -> Option<Entering<'a>>,
        to: &mut impl Manifest,
    ) -> Option<()> {
        let of = &graph.steps[step.0 as usize];
        let index = of.invocation as usize;
        let (invocation, shape) = (&graph.pipeline.invocations[index], &self.shapes[index]);
        to.fact(Label::Name, Term::Text(&invocation.solid.name));
        to.fact(Label::Solid, Term::Node(self.solids[index].as_ref()?));
        to.fact(Label::Config, Term::Node(&self.configs[step.0 as usize]));
        to.section(Label::Resources, shape.resources.len());
        for resource in &shape.resources {
            let name = &graph.resources[*resource].definition.name;
            to.entry(name, Term::Node(self.resources[*resource].as_ref()?));
        }
        to.section(if shape.ordered { Label::Arguments } else { Label::Inputs }, of.inputs.len());
        for input in &shape.inputs {
            let name = &invocation.inputs[*input].file_name;
            match &of.inputs[*input] {
                StepInput::Output(output) => {
                    enter(graph, *output, &there(known(*output))?, |term| to.entry(name, term));
                }
                // Neither its label nor its place in the list is visible to the step: only what it is.
                StepInput::Element { list, of, at } => {
                    let artifact = &of.elements.get(*at as usize)?.artifact;
                    let shape = graph.solid(list.step).outputs[list.output as usize].shape.as_deref();
                    to.entry(name, Term::Content { artifact, shape });
                }
                input_of => {
                    let version = self.input(graph, index, *input, input_of, inner, known)?;
                    to.entry(name, Term::Node(&version));
                }
            }
        }
        Some(())
    }

    /// The version of an input that is not a single output.
    fn input<'a>(
        &self,
        graph: &Graph,
        invocation: usize,
        index: usize,
        input: &StepInput,
        inner: &mut Lists,
        known: &mut impl FnMut(OutputId) -> Option<Entering<'a>>,
    ) -> Option<Version> {
        match input {
            StepInput::Path(path) => return self.paths.get(*path as usize).copied().flatten(),
            StepInput::Probe(probe) => return self.probes.get(*probe as usize).copied().flatten(),
            StepInput::Value(_) => return self.shapes[invocation].literals.get(index).copied().flatten(),
            StepInput::Output(_) | StepInput::Element { .. } | StepInput::Unknown(_) => return None,
            StepInput::FanIn(_) | StepInput::Gather(_) => {}
        }
        inner.version(graph, input, known)
    }

    /// The version of a step, if all that it is made of is known.
    fn version<'a>(
        &self,
        graph: &Graph,
        step: StepId,
        buffers: &mut Buffers,
        known: &mut impl FnMut(OutputId) -> Option<Entering<'a>>,
    ) -> Option<Version> {
        buffers.step.bytes.clear();
        self.step(graph, step, &mut buffers.input, known, &mut buffers.step)?;
        Some(Kind::Step.hash(&buffers.step.bytes))
    }

    /// The versions of steps and of their outputs, by id; `None` for a step that is not among `steps`, that stands
    /// below a volatile one, or of which something was not measured.
    pub(crate) fn versions(&self, graph: &Graph, steps: &[StepId]) -> (Vec<Option<Version>>, Outputs) {
        let mut versions: Vec<Option<Version>> = vec![None; graph.steps.len()];
        let mut outputs = Outputs::of(graph);
        let mut buffers = Buffers::listing();
        let mut made = Made::default();
        // Steps come in order, and none of an invocation needs another of it.
        for steps in graph.by_invocation(steps) {
            if fork::pays(steps.len()) {
                let parts = fork::parts(steps, |part| {
                    let mut made = Made::default();
                    self.some_versions(
                        graph,
                        part,
                        (&versions, &outputs),
                        &mut Buffers::listing(),
                        &mut made,
                    );
                    made
                });
                let mut rest = steps;
                for part in parts {
                    let (these, others) = rest.split_at(part.versions.len());
                    rest = others;
                    outputs.take(graph, these, &part, &mut versions);
                }
            } else {
                self.some_versions(graph, steps, (&versions, &outputs), &mut buffers, &mut made);
                outputs.take(graph, steps, &made, &mut versions);
            }
        }
        (versions, outputs)
    }

    /// The versions of some steps of one invocation and of their outputs, from those of what stands above.
    fn some_versions(
        &self,
        graph: &Graph,
        steps: &[StepId],
        (above, outputs): (&[Option<Version>], &Outputs),
        buffers: &mut Buffers,
        made: &mut Made,
    ) {
        made.versions.clear();
        made.outputs.clear();
        made.encoded_bytes = 0;
        for step in steps {
            let version = self.version(graph, *step, buffers, &mut |output| {
                if graph.is_volatile(output.step) {
                    return None;
                }
                let step = above[output.step.0 as usize]?;
                Some(Entering::Version(outputs.version(graph, output), step))
            });
            made.encoded_bytes += buffers.step.bytes.len() as u64;
            made.versions.push(version);
            for output in &graph.solid(*step).outputs {
                made.outputs.push(version.map_or(NOT_KNOWN, |version| {
                    buffers.step.bytes.clear();
                    output_facts(&mut buffers.step, &version, &output.name);
                    Kind::Output.hash(&buffers.step.bytes)
                }));
            }
        }
    }

    /// See [`crate::plan::Plan::version_by_content`].
    pub(crate) fn version_by_content<'a>(
        &self,
        graph: &Graph,
        step: StepId,
        version: &mut dyn FnMut(StepId) -> Option<Version>,
        content: &mut dyn FnMut(OutputId) -> Option<InputContent<'a>>,
    ) -> Option<Version> {
        self.version(graph, step, &mut Buffers::default(), &mut entering(graph, version, content))
    }

    /// See [`crate::plan::Plan::trace`].
    pub(crate) fn trace<'a>(
        &self,
        graph: &Graph,
        step: StepId,
        buffers: &mut Buffers,
        content: &mut dyn FnMut(OutputId) -> Option<InputContent<'a>>,
    ) -> Option<Trace> {
        buffers.step.bytes.clear();
        let mut known = |output| content(output).map(Entering::Content);
        self.step(graph, step, &mut buffers.input, &mut known, &mut buffers.step)?;
        Some(Trace::from_bytes(*Kind::Trace.hash(&buffers.step.bytes).as_bytes()))
    }

    /// See [`crate::plan::Plan::own_facts`].
    pub(crate) fn own_facts(&self, graph: &Graph, step: StepId) -> Vec<Version> {
        let this = &graph.steps[step.0 as usize];
        let index = this.invocation as usize;
        let resources = graph.resources_of(this.invocation);
        let mut own: Vec<Version> = vec![self.configs[step.0 as usize]];
        own.extend(self.solids[index]);
        own.extend(resources.into_iter().filter_map(|resource| self.resources[resource]));
        for (at, input) in this.inputs.iter().enumerate() {
            if matches!(input, StepInput::Path(_) | StepInput::Probe(_) | StepInput::Value(_)) {
                own.extend(self.input(graph, index, at, input, &mut Lists::default(), &mut |_| None));
            }
        }
        own
    }

    /// See [`crate::plan::Plan::facts`].
    pub(crate) fn facts<'a>(&self, of: &FactsOf<'_>, asked: &mut Asked<'_, 'a>) -> Vec<(Version, FactNode)> {
        let FactsOf { graph, measures, step, key } = *of;
        let known = &mut entering(graph, asked.version, asked.content);
        let mut buffers = Buffers::default();
        let Some(version) = self.version(graph, step, &mut buffers, known) else {
            return Vec::new();
        };
        let mut nodes = Vec::new();
        let mut write = |kind: Kind, version: Version, walk: &mut dyn FnMut(&mut Writer) -> Option<()>| {
            if (asked.wanted)(&version) {
                let mut writer = Writer::new(kind);
                if walk(&mut writer).is_some() {
                    nodes.push((version, writer.node()));
                }
            }
        };
        let this = &graph.steps[step.0 as usize];
        let index = this.invocation as usize;
        write(Kind::Step, version, &mut |to| self.step(graph, step, &mut buffers.input, known, to));
        if let Some(solid) = self.solids[index] {
            write(Kind::Solid, solid, &mut |to| solid_of(graph, measures, index, to));
        }
        write(Kind::Config, self.configs[step.0 as usize], &mut |to| {
            self.config(graph, step, key, to);
            Some(())
        });
        for resource in graph.resources_of(this.invocation) {
            if let Some(version) = self.resources[resource] {
                write(Kind::Resource, version, &mut |to| self.resource(graph, measures, resource, to));
            }
            let config = &graph.resources[resource].config;
            let version = hashed(Kind::Config, |to| config_facts(to, config, NO_KEY, std::iter::empty()));
            write(Kind::Config, version, &mut |to| {
                config_facts(to, config, key, std::iter::empty());
                Some(())
            });
        }
        for (at, input) in this.inputs.iter().enumerate() {
            if matches!(input, StepInput::Output(_) | StepInput::Element { .. }) {
                continue;
            }
            let Some(version) = self.input(graph, index, at, input, &mut buffers.input, known) else {
                continue;
            };
            write(Kind::Input, version, &mut |to| {
                match input {
                    StepInput::Path(path) => path_facts(to, measures.paths.get(*path as usize)?.as_deref()?),
                    StepInput::Probe(probe) => {
                        answer_facts(to, measures.probes.get(*probe as usize)?.as_deref()?)
                    }
                    StepInput::Value(value) => literal_facts(to, value),
                    StepInput::Output(_)
                    | StepInput::Element { .. }
                    | StepInput::Unknown(_)
                    | StepInput::FanIn(_)
                    | StepInput::Gather(_) => {
                        several_facts(to, graph, input, known)?;
                    }
                }
                Some(())
            });
        }
        nodes
    }
}

/// Whose facts are asked for, and the key of its secrets' digests.
#[derive(Clone, Copy)]
pub(crate) struct FactsOf<'p> {
    pub(crate) graph: &'p Graph,
    pub(crate) measures: &'p Measures,
    pub(crate) step: StepId,
    pub(crate) key: &'p [u8; 32],
}

/// What is asked while facts are written: versions of steps above, contents of volatile outputs, and whether a node
/// is wanted.
pub(crate) struct Asked<'p, 'a> {
    pub(crate) version: &'p mut dyn FnMut(StepId) -> Option<Version>,
    pub(crate) content: &'p mut dyn FnMut(OutputId) -> Option<InputContent<'a>>,
    pub(crate) wanted: &'p mut dyn FnMut(&Version) -> bool,
}

/// How outputs enter a version: those of volatile steps by content, all others by their version.
fn entering<'p, 'a>(
    graph: &'p Graph,
    version: &'p mut dyn FnMut(StepId) -> Option<Version>,
    content: &'p mut dyn FnMut(OutputId) -> Option<InputContent<'a>>,
) -> impl FnMut(OutputId) -> Option<Entering<'a>> {
    move |output| {
        let content = content(output);
        if matches!(content, Some(InputContent::LeftOut)) {
            return Some(Entering::LeftOut);
        }
        if graph.is_volatile(output.step) {
            return content.map(Entering::Content);
        }
        let step = version(output.step)?;
        let name = &graph.solid(output.step).outputs[output.output as usize].name;
        Some(Entering::Version(output_version(&step, name), step))
    }
}

/// Tells what a solid is made of, if all of it was measured.
fn solid_of(graph: &Graph, measures: &Measures, index: usize, to: &mut impl Manifest) -> Option<()> {
    let solid = &graph.pipeline.invocations[index].solid;
    let code = measures.code.get(index).and_then(Option::as_deref);
    let env = measures.env.get(index).map_or(&[][..], Vec::as_slice);
    let measured = |variable: &EnvVar| match variable {
        EnvVar::Set(..) => true,
        EnvVar::Pass(name) => env.iter().any(|(known, _)| known == name),
    };
    if (code.is_none() && !solid.code.is_empty()) || !solid.env.iter().all(measured) {
        return None;
    }
    solid_facts(to, solid, code, env, &measures.platform, measures.confines);
    Some(())
}

fn hashed(kind: Kind, walk: impl FnOnce(&mut Encoder)) -> Version {
    let mut encoder = Encoder::default();
    walk(&mut encoder);
    kind.hash(&encoder.bytes)
}
