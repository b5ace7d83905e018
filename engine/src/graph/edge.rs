//! The inputs of an invocation with their references looked up once, so that an element costs a few additions.
//!
//! Elements of an invocation are numbered with the last axis fastest. What a reader's element reads is
//! `constant + Σ offsets[axis][its point on that axis]`: shared axes are matched by label and value, picked ones
//! are in the constant, and the axes that the reader lacks are what a gather walks over.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::build::Builder;
use super::mapped::Late;
use super::{OutputId, StepId};
use crate::error::Diagnostic;
use crate::file::written_label;
use crate::pipeline::{Axis, Input, Invocation, OutputRef, Pick, Pipeline};
use crate::solid::Template;
use crate::value::{Value, listed, nearest};

/// One input of an invocation, looked up.
pub(super) enum Edge<'a> {
    One(Address),
    Gather(Gather),
    FanIn(FanIn<'a>),
    /// From or to an invocation that is mapped over a list.
    Late(Late<'a>),
    /// A fan-in with such an edge in it.
    LateFanIn(Vec<Edge<'a>>),
    /// The element of the list that the reader is mapped over.
    Element(u32),
    Value(Arc<Value>),
    Path {
        template: Template,
        external: bool,
        /// Whether elements differ in it.
        varies: bool,
        /// The index that the element before got.
        index: Option<u32>,
    },
    Probe {
        template: Template,
        every: Option<Duration>,
        varies: bool,
        index: Option<u32>,
    },
    /// It is wrong, and an error says so.
    Wrong,
}

/// Which element of a producer a reader's element reads.
pub(super) struct Address {
    producer: u32,
    output: u16,
    /// The producer's first step; known once its elements are.
    first: u32,
    constant: u32,
    /// For each axis of the reader that counts: its index, and what each point of it adds.
    offsets: Vec<(usize, Vec<u32>)>,
}

/// Which elements of a producer a reader's element gathers.
pub(super) struct Gather {
    address: Address,
    /// The axes of the producer that the reader lacks: index, stride.
    free: Vec<(usize, u32)>,
    /// Gathers that were made, by the first element: readers that gather the same share it.
    made: HashMap<u32, Arc<[(String, OutputId)]>>,
}

/// Several references, in order; a gather among them stands for all that it gathers.
pub(super) struct FanIn<'a> {
    parts: Vec<Edge<'a>>,
    /// What it was for these first elements: readers that differ in nothing that counts share it.
    made: HashMap<Vec<u32>, Arc<[OutputId]>>,
}

/// How the elements of an invocation are numbered.
pub(super) struct Expansion {
    lens: Vec<u32>,
    /// How many elements there are. Sizes were found to fit before.
    pub(super) size: u32,
}

impl Expansion {
    pub(super) fn of(axes: &[Axis]) -> Self {
        let lens =
            axes.iter().map(|axis| u32::try_from(axis.points.len()).unwrap_or(u32::MAX)).collect::<Vec<_>>();
        let size = lens.iter().fold(1_u32, |size, len| size.saturating_mul(*len));
        Self { lens, size }
    }

    /// Goes on to the next element.
    pub(super) fn advance(&self, points: &mut [u32]) {
        for (point, len) in points.iter_mut().zip(&self.lens).rev() {
            *point += 1;
            if *point < *len {
                return;
            }
            *point = 0;
        }
    }

    /// By how much the number of an element grows with a point on each axis.
    fn strides(&self) -> Vec<u32> {
        let mut strides = vec![1_u32; self.lens.len()];
        for axis in (1..self.lens.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(self.lens[axis]);
        }
        strides
    }
}

impl Address {
    fn element(&self, points: &[u32]) -> u32 {
        self.offsets.iter().fold(self.constant, |sum, (axis, adds)| sum + adds[points[*axis] as usize])
    }

    fn output(&self, element: u32) -> OutputId {
        OutputId { step: StepId(self.first + element), output: self.output }
    }

    pub(super) fn at(&self, points: &[u32]) -> OutputId {
        self.output(self.element(points))
    }
}

impl Gather {
    pub(super) fn at(&mut self, points: &[u32], pipeline: &Pipeline) -> Arc<[(String, OutputId)]> {
        let first = self.address.element(points);
        let (address, free) = (&self.address, &self.free);
        Arc::clone(self.made.entry(first).or_insert_with(|| {
            let axes = &pipeline.invocations[address.producer as usize].matrix;
            let mut elements = vec![(String::new(), first)];
            for (axis, stride) in free {
                let axis = &axes[*axis];
                elements = elements
                    .iter()
                    .flat_map(|(label, element)| {
                        (0_u32..).zip(axis.points.iter()).map(move |(at, point)| {
                            (join(label, &axis.name, &point.label, free.len()), element + at * stride)
                        })
                    })
                    .collect();
            }
            elements.into_iter().map(|(label, element)| (label, address.output(element))).collect()
        }))
    }
}

/// A label of one axis is its point's; of several, each with its axis: `lr=0.1,depth=4`, as a reference writes them.
/// So no two elements have the same, whatever stands in the labels.
pub(super) fn join(before: &str, axis: &str, label: &str, axes: usize) -> String {
    match (axes, before) {
        (1, _) => label.to_owned(),
        (_, "") => format!("{axis}={}", written_label(label)),
        _ => format!("{before},{axis}={}", written_label(label)),
    }
}

impl FanIn<'_> {
    pub(super) fn at(&mut self, points: &[u32], pipeline: &Pipeline) -> Arc<[OutputId]> {
        let firsts =
            self.parts.iter().filter_map(|part| part.address().map(|address| address.element(points)));
        let firsts = firsts.collect::<Vec<_>>();
        if let Some(made) = self.made.get(&firsts) {
            return Arc::clone(made);
        }
        let mut outputs = Vec::with_capacity(self.parts.len());
        for part in &mut self.parts {
            match part {
                Edge::One(address) => outputs.push(address.at(points)),
                Edge::Gather(gather) => {
                    outputs.extend(gather.at(points, pipeline).iter().map(|(_, output)| *output));
                }
                // A fan-in that holds any of these is no `FanIn`, or is wrong.
                Edge::Late(_)
                | Edge::LateFanIn(_)
                | Edge::Element(_)
                | Edge::FanIn(_)
                | Edge::Value(_)
                | Edge::Path { .. }
                | Edge::Probe { .. }
                | Edge::Wrong => {}
            }
        }
        let outputs: Arc<[OutputId]> = outputs.into();
        self.made.insert(firsts, Arc::clone(&outputs));
        outputs
    }
}

impl<'a> Edge<'a> {
    pub(super) fn fan_in(parts: Vec<Self>) -> Self {
        if parts.iter().any(|part| matches!(part, Self::Late(_))) {
            return Self::LateFanIn(parts);
        }
        Self::FanIn(FanIn { parts, made: HashMap::new() })
    }

    fn address(&self) -> Option<&Address> {
        match self {
            Self::One(address) => Some(address),
            Self::Gather(gather) => Some(&gather.address),
            Self::FanIn(_)
            | Self::Late(_)
            | Self::LateFanIn(_)
            | Self::Element(_)
            | Self::Value(_)
            | Self::Path { .. }
            | Self::Probe { .. }
            | Self::Wrong => None,
        }
    }

    /// Adds the invocations that are read.
    pub(super) fn producers(&self, into: &mut Vec<u32>) {
        match self {
            Self::FanIn(fan_in) => fan_in.parts.iter().for_each(|part| part.producers(into)),
            Self::LateFanIn(parts) => parts.iter().for_each(|part| part.producers(into)),
            Self::Late(late) => into.push(late.producer),
            Self::Element(producer) => into.push(*producer),
            other => into.extend(other.address().map(|address| address.producer)),
        }
    }

    /// Tells where the producers' elements begin.
    pub(super) fn start_at(&mut self, elements: &[Range<u32>]) {
        match self {
            Self::One(address) | Self::Gather(Gather { address, .. }) => {
                address.first = elements[address.producer as usize].start;
            }
            Self::FanIn(FanIn { parts, .. }) | Self::LateFanIn(parts) => {
                parts.iter_mut().for_each(|part| part.start_at(elements));
            }
            // What is late finds it itself.
            Self::Late(_) | Self::Element(_) => {}
            Self::Value(_) | Self::Path { .. } | Self::Probe { .. } | Self::Wrong => {}
        }
    }
}

impl<'a> Builder<'a> {
    /// Looks a reference up: the invocation, the output, and how the elements of both meet.
    pub(super) fn reference(&mut self, reader: u32, input: &'a Input, reference: &'a OutputRef) -> Edge<'a> {
        self.look_up(reader, input, reference).unwrap_or_else(|error| {
            self.errors.push(error.at(reference.place.as_ref().or(input.place.as_ref())));
            Edge::Wrong
        })
    }

    fn look_up(
        &self,
        reader: u32,
        input: &'a Input,
        reference: &'a OutputRef,
    ) -> Result<Edge<'a>, Diagnostic> {
        let mapped = self.is_mapped(reader);
        let reader = &self.pipeline.invocations[reader as usize];
        let Some(index) = self.names.get(reference.step.as_str()).copied() else {
            let mut error = Diagnostic::new(format!(
                "`{}` reads `{}`, and there is no such step",
                reader.name, reference.step
            ));
            error.hint = self.near_step(&reference.step);
            return Err(error);
        };
        let producer = &self.pipeline.invocations[index as usize];
        let output = output(producer, reference.output.as_deref())?;
        if mapped || self.is_mapped(index) {
            return Ok(Edge::Late(Late::new(index, output, input, reference)));
        }
        let expansion = Expansion::of(&producer.matrix);
        let strides = expansion.strides();
        let picks = picks(producer, &reference.pick)?;
        let mut address = Address { producer: index, output, first: 0, constant: 0, offsets: Vec::new() };
        let mut free = Vec::new();
        for (at, axis) in producer.matrix.iter().enumerate() {
            let stride = strides[at];
            if let Some(point) = picks[at] {
                // Sizes that do not fit are told before any element is looked up.
                address.constant = address.constant.saturating_add(point.saturating_mul(stride));
            } else if let Some(own) = reader.matrix.iter().position(|own| own.name == axis.name) {
                let points = matched(reader, &reader.matrix[own], producer, axis)?;
                let adds = points.into_iter().map(|point| point.saturating_mul(stride)).collect();
                address.offsets.push((own, adds));
            } else {
                free.push((at, stride));
            }
        }
        let written = || written(producer, reference);
        match (&reference.pick, free.is_empty()) {
            (Pick::All, false) => Ok(Edge::Gather(Gather { address, free, made: HashMap::new() })),
            (Pick::All, true) if producer.matrix.is_empty() => Err(Diagnostic::new(format!(
                "`{}` gathers the elements of `{}`, which has no matrix",
                written(),
                producer.name
            ))
            .hint(format!("write `{}`", without_pick(reference)))),
            (Pick::All, true) => Err(Diagnostic::new(format!(
                "`{}` gathers over the axes that `{}` lacks, and it has them all",
                written(),
                reader.name
            ))
            .hint(format!("write `{}` for the element with the same values", without_pick(reference)))),
            (Pick::Same | Pick::Where(_), true) => Ok(Edge::One(address)),
            (Pick::Same | Pick::Where(_), false) => {
                let lacking =
                    free.iter().map(|(axis, _)| producer.matrix[*axis].name.clone()).collect::<Vec<_>>();
                let all = written_with(&producer.name, "*", reference.output.as_deref());
                let one = lacking.iter().map(|axis| {
                    let points = producer.matrix.iter().find(|known| &known.name == axis);
                    let label = points
                        .and_then(|axis| axis.points.first())
                        .map_or("…", |point| point.label.as_str());
                    format!("{axis}={label}")
                });
                let one = one.collect::<Vec<_>>().join(",");
                let one = written_with(&producer.name, &one, reference.output.as_deref());
                let gather = match &reference.pick {
                    Pick::Where(_) => String::new(),
                    Pick::Same | Pick::All => format!("write `{all}` for all of them, or "),
                };
                Err(Diagnostic::new(format!(
                    "`{}` reads `{}`, which has one element for each {}, an axis that `{}` lacks",
                    reader.name,
                    written(),
                    listed(&lacking),
                    reader.name
                ))
                .hint(format!("{gather}pick one, as `{one}`")))
            }
        }
    }
}

/// The output that is meant: the one of this name, else the only one, else `result`.
pub(super) fn output(producer: &Invocation, name: Option<&str>) -> Result<u16, Diagnostic> {
    let outputs = &producer.solid.outputs;
    let found = match (name, outputs.as_slice()) {
        (Some(name), _) => outputs.iter().position(|output| output.name == name),
        (None, [_]) => Some(0),
        (None, _) => outputs.iter().position(|output| output.name == "result"),
    };
    if let Some(found) = found {
        return u16::try_from(found)
            .map_err(|_| Diagnostic::new(format!("`{}` has more outputs than 65,535", producer.name)));
    }
    let known = outputs.iter().map(|output| output.name.clone()).collect::<Vec<_>>();
    Err(match name {
        _ if known.is_empty() => Diagnostic::new(format!("`{}` has no outputs", producer.name)),
        Some(name) => Diagnostic::new(format!("`{}` has no output `{name}`", producer.name)).hint(
            match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{}.{near}`?", producer.name),
                None => format!("it has {}", listed(&known)),
            },
        ),
        None => Diagnostic::new(format!("`{}` has several outputs", producer.name)).hint(format!(
            "say which: {}",
            listed(&known.iter().map(|output| format!("{}.{output}", producer.name)).collect::<Vec<_>>())
        )),
    })
}

/// For each axis of a producer, the point that is picked on it, if one is.
fn picks(producer: &Invocation, pick: &Pick) -> Result<Vec<Option<u32>>, Diagnostic> {
    let mut picks = vec![None; producer.matrix.len()];
    let wanted = match pick {
        Pick::Same | Pick::All => return Ok(picks),
        Pick::Where(wanted) => wanted,
    };
    for (name, label) in wanted {
        let Some(at) = producer.matrix.iter().position(|axis| &axis.name == name) else {
            return Err(no_axis(producer, &producer.matrix, name));
        };
        let axis = &producer.matrix[at];
        let Some(point) = (0_u32..).zip(axis.points.iter()).find(|(_, point)| &point.label == label) else {
            return Err(no_point(producer, axis, label));
        };
        if picks[at].replace(point.0).is_some() {
            return Err(Diagnostic::new(format!("axis `{name}` of `{}` is picked twice", producer.name)));
        }
    }
    Ok(picks)
}

pub(super) fn no_axis(invocation: &Invocation, axes: &[Axis], name: &str) -> Diagnostic {
    let known = axes.iter().map(|axis| axis.name.clone()).collect::<Vec<_>>();
    let hint = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "it has no matrix".to_owned(),
        None => format!("it has {}", listed(&known)),
    };
    Diagnostic::new(format!("`{}` has no axis `{name}`", invocation.name)).hint(hint)
}

pub(super) fn no_point(invocation: &Invocation, axis: &Axis, label: &str) -> Diagnostic {
    let known = axis.points.iter().map(|point| point.label.clone()).collect::<Vec<_>>();
    let hint = match nearest(label, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{}={near}`?", axis.name),
        None => format!("`{}` is {}", axis.name, listed(&known)),
    };
    Diagnostic::new(format!("`{}` has no element with `{}={label}`", invocation.name, axis.name)).hint(hint)
}

/// For each point of a reader's axis, the producer's point with the same label and value.
fn matched(
    reader: &Invocation,
    own: &Axis,
    producer: &Invocation,
    axis: &Axis,
) -> Result<Vec<u32>, Diagnostic> {
    if Arc::ptr_eq(&own.points, &axis.points) {
        return Ok((0_u32..).zip(own.points.iter()).map(|(at, _)| at).collect());
    }
    let by_label = (0_u32..)
        .zip(axis.points.iter())
        .map(|(at, point)| (point.label.as_str(), (at, point)))
        .collect::<HashMap<_, _>>();
    own.points
        .iter()
        .map(|point| match by_label.get(point.label.as_str()) {
            Some((at, same)) if same.value == point.value => Ok(*at),
            Some((_, other)) => Err(Diagnostic::new(format!(
                "`{}={}` is {} in `{}` and {} in `{}`",
                axis.name, point.label, point.value, reader.name, other.value, producer.name
            ))
            .hint(
                "elements meet where label and value are the same: write both alike, or share a named matrix",
            )),
            None => {
                let mut error = no_point(producer, axis, &point.label);
                error.message = format!("{}, which `{}` would read", error.message, reader.name);
                Err(error)
            }
        })
        .collect()
}

/// A reference as it is written.
pub(super) fn written(producer: &Invocation, reference: &OutputRef) -> String {
    let output = reference.output.as_deref();
    match &reference.pick {
        Pick::Same => without_pick(reference),
        Pick::All => written_with(&producer.name, "*", output),
        Pick::Where(picks) => {
            let picks = picks.iter().map(|(axis, label)| format!("{axis}={label}")).collect::<Vec<_>>();
            written_with(&producer.name, &picks.join(","), output)
        }
    }
}

pub(super) fn without_pick(reference: &OutputRef) -> String {
    match &reference.output {
        Some(output) => format!("{}.{output}", reference.step),
        None => reference.step.clone(),
    }
}

pub(super) fn written_with(step: &str, pick: &str, output: Option<&str>) -> String {
    match output {
        Some(output) => format!("{step}[{pick}].{output}"),
        None => format!("{step}[{pick}]"),
    }
}
