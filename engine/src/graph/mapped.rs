//! Invocations for each element of a list, and edges from and to them.
//!
//! What such an invocation has for elements is known only when those of the list's step are, and then the lists. So
//! its axes are made when its turn comes, and references from and to it are looked up then: by the values on the axes
//! that both have. Where a list is not known, a placeholder stands in the place of the elements; what would read them,
//! or which of them would be read, is then [`StepInput::Unknown`]: edges, but no version.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::build::Builder;
use super::edge::{Edge, join, no_axis, no_point, output, without_pick, written, written_with};
use super::elements::{Elements, unknown_point};
use super::{OutputId, StepId, StepInput};
use crate::error::Diagnostic;
use crate::list::{Element, List};
use crate::pipeline::{Axis, Input, Invocation, OutputRef, Pick, Point};
use crate::value::{Value, listed};

/// A reference from or to an invocation that is mapped.
pub(super) struct Late<'a> {
    pub(super) producer: u32,
    output: u16,
    reference: &'a OutputRef,
    input: &'a Input,
    found: Option<Lookup>,
    /// Something of it is wrong, and was told.
    wrong: bool,
}

/// How the elements of a reader and those of a producer meet.
struct Lookup {
    /// The producer's first step.
    first: u32,
    /// The axes that both have: the reader's index, and for each of its points the producer's.
    shared: Vec<(usize, Vec<Option<u32>>)>,
    /// The elements that are meant, by their points on the shared axes.
    groups: HashMap<Vec<u32>, Vec<u32>>,
    /// Elements that stand for any on a shared or picked axis, with their points on the shared ones where these are
    /// known.
    loose: Vec<(Vec<Option<u32>>, u32)>,
    /// The axes of the producer that the reader lacks.
    free: Vec<usize>,
    /// What was given for these points: readers that are given the same share it.
    made: HashMap<Option<Vec<u32>>, StepInput>,
}

impl<'a> Late<'a> {
    pub(super) fn new(producer: u32, output: u16, input: &'a Input, reference: &'a OutputRef) -> Self {
        Self { producer, output, reference, input, found: None, wrong: false }
    }

    fn outputs(&self, first: u32, elements: impl IntoIterator<Item = u32>) -> Arc<[OutputId]> {
        let output = |element| OutputId { step: StepId(first + element), output: self.output };
        elements.into_iter().map(output).collect()
    }
}

impl<'a> Builder<'a> {
    /// Whether elements of an invocation come from a list.
    pub(super) fn is_mapped(&self, invocation: u32) -> bool {
        self.pipeline.invocations[invocation as usize].mapped().is_some()
    }

    /// What an element of a reader is given by a reference.
    pub(super) fn late(&mut self, reader: u32, late: &mut Late<'a>, points: &[u32]) -> StepInput {
        let given = if late.wrong {
            Ok(StepInput::Unknown(Arc::from([])))
        } else {
            self.looked_up(reader, late, points)
        };
        given.unwrap_or_else(|error| {
            late.wrong = true;
            self.errors.push(error.at(late.reference.place.as_ref().or(late.input.place.as_ref())));
            StepInput::Unknown(Arc::from([]))
        })
    }

    /// Several references in order, some of them from or to an invocation that is mapped.
    pub(super) fn late_fan_in(&mut self, reader: u32, parts: &mut [Edge<'a>], points: &[u32]) -> StepInput {
        let mut outputs = Vec::with_capacity(parts.len());
        let mut unknown = false;
        for part in parts {
            let given = match part {
                Edge::Late(late) => self.late(reader, late, points),
                Edge::One(address) => StepInput::Output(address.at(points)),
                Edge::Gather(gather) => StepInput::Gather(gather.at(points, self.pipeline)),
                // A fan-in holds references only.
                _ => continue,
            };
            match &given {
                StepInput::Output(output) => outputs.push(*output),
                StepInput::Gather(elements) => outputs.extend(elements.iter().map(|(_, output)| *output)),
                StepInput::Unknown(any) => {
                    unknown = true;
                    outputs.extend(any.iter().copied());
                }
                _ => {}
            }
        }
        if unknown { StepInput::Unknown(outputs.into()) } else { StepInput::FanIn(outputs.into()) }
    }

    fn looked_up(&self, reader: u32, late: &mut Late<'a>, points: &[u32]) -> Result<StepInput, Diagnostic> {
        let lookup = match late.found.take() {
            Some(lookup) => lookup,
            None => self.lookup(reader, late)?,
        };
        let lookup = late.found.insert(lookup);
        let readers = &self.told[reader as usize];
        let any = lookup.shared.iter().any(|(own, _)| readers.stands_for_any(*own, points[*own]));
        let key = if any {
            None
        } else {
            let key = lookup.shared.iter().map(|(own, of)| of[points[*own] as usize]);
            // A point that the producer lacks meets only what may still turn out to have it.
            Some(key.map(|point| point.unwrap_or(u32::MAX)).collect::<Vec<_>>())
        };
        if let Some(made) = lookup.made.get(&key) {
            return Ok(made.clone());
        }
        let first = lookup.first;
        let given = match &key {
            None => {
                let mut all = lookup.groups.values().flatten().copied().collect::<Vec<_>>();
                all.extend(lookup.loose.iter().map(|(_, element)| *element));
                all.sort_unstable();
                StepInput::Unknown(late.outputs(first, all))
            }
            Some(key) => {
                let lookup = late.found.as_ref().expect("it was put there above");
                self.met(reader, late, lookup, key, points)?
            }
        };
        late.found.as_mut().expect("it was put there above").made.insert(key, given.clone());
        Ok(given)
    }

    fn met(
        &self,
        reader: u32,
        late: &Late<'a>,
        lookup: &Lookup,
        key: &[u32],
        points: &[u32],
    ) -> Result<StepInput, Diagnostic> {
        let producer = &self.pipeline.invocations[late.producer as usize];
        let elements = &self.told[late.producer as usize];
        let exact = lookup.groups.get(key).map_or(&[][..], Vec::as_slice);
        let may_be = |known: &[Option<u32>]| {
            known.iter().zip(key).all(|(known, wanted)| known.is_none_or(|known| known == *wanted))
        };
        let loose = lookup.loose.iter().filter(|(known, _)| may_be(known)).map(|(_, element)| *element);
        let loose = loose.collect::<Vec<_>>();
        if let (true, [one]) = (lookup.free.is_empty() && late.reference.pick != Pick::All, exact) {
            let one = OutputId { step: StepId(lookup.first + one), output: late.output };
            return Ok(StepInput::Output(one));
        }
        let unknown = !loose.is_empty() || exact.iter().any(|element| elements.is_placeholder(*element));
        if unknown {
            let mut any = exact.to_vec();
            any.extend(loose);
            any.sort_unstable();
            return Ok(StepInput::Unknown(late.outputs(lookup.first, any)));
        }
        if late.reference.pick == Pick::All {
            let labelled = exact.iter().map(|element| {
                let points = elements.points(*element).collect::<Vec<_>>();
                let label = lookup.free.iter().fold(String::new(), |label, axis| {
                    let of = &elements.axes[*axis];
                    join(&label, &of.name, &of.points[points[*axis] as usize].label, lookup.free.len())
                });
                (label, OutputId { step: StepId(lookup.first + element), output: late.output })
            });
            return Ok(StepInput::Gather(labelled.collect()));
        }
        let readers = &self.told[reader as usize];
        let values = lookup.shared.iter().map(|(own, _)| {
            let axis = &readers.axes[*own];
            format!("{}={}", axis.name, axis.points[points[*own] as usize].label)
        });
        let values = values.collect::<Vec<_>>().join(",");
        let reader = &self.pipeline.invocations[reader as usize];
        Err(Diagnostic::new(format!(
            "`{}[{values}]` reads `{}`, which has no element with the same values",
            reader.name,
            written(producer, late.reference)
        ))
        .hint("elements meet where label and content are the same: map both over the same list"))
    }

    fn lookup(&self, reader: u32, late: &Late<'a>) -> Result<Lookup, Diagnostic> {
        let (readers, elements) = (&self.told[reader as usize], &self.told[late.producer as usize]);
        let producer = &self.pipeline.invocations[late.producer as usize];
        let reader = &self.pipeline.invocations[reader as usize];
        let reference = late.reference;
        let picks = picked(producer, elements, &reference.pick)?;
        let mut shared = Vec::new();
        let mut fixed = Vec::new();
        let mut free = Vec::new();
        for (at, axis) in elements.axes.iter().enumerate() {
            if picks[at].is_some() {
                continue;
            }
            match readers.axes.iter().position(|own| own.name == axis.name) {
                Some(own) => {
                    shared.push((own, same_points(&readers.axes[own], axis)));
                    fixed.push(at);
                }
                None => free.push(at),
            }
        }
        match (&reference.pick, free.is_empty()) {
            (Pick::All, true) if elements.axes.is_empty() => {
                return Err(Diagnostic::new(format!(
                    "`{}` gathers the elements of `{}`, which has no matrix",
                    written(producer, reference),
                    producer.name
                ))
                .hint(format!("write `{}`", without_pick(reference))));
            }
            (Pick::All, true) => {
                return Err(Diagnostic::new(format!(
                    "`{}` gathers over the axes that `{}` lacks, and it has them all",
                    written(producer, reference),
                    reader.name
                ))
                .hint(format!("write `{}` for the element with the same values", without_pick(reference))));
            }
            (Pick::Same | Pick::Where(_), false) => {
                let lacking = free.iter().map(|axis| elements.axes[*axis].name.clone()).collect::<Vec<_>>();
                let all = written_with(&producer.name, "*", reference.output.as_deref());
                return Err(Diagnostic::new(format!(
                    "`{}` reads `{}`, which has one element for each {}, an axis that `{}` lacks",
                    reader.name,
                    written(producer, reference),
                    listed(&lacking),
                    reader.name
                ))
                .hint(format!(
                    "write `{all}` for all of them, or map `{}` over the same list",
                    reader.name
                )));
            }
            (Pick::All, false) | (Pick::Same | Pick::Where(_), true) => {}
        }
        let mut lookup = Lookup {
            first: self.elements[late.producer as usize].start,
            shared,
            groups: HashMap::new(),
            loose: Vec::new(),
            free,
            made: HashMap::new(),
        };
        for element in 0..elements.len() {
            let points = elements.points(element).collect::<Vec<_>>();
            let any = |axis: usize| elements.stands_for_any(axis, points[axis]);
            let meant = |(axis, picked): (usize, &Option<Vec<bool>>)| {
                picked.as_ref().is_none_or(|picked| any(axis) || picked[points[axis] as usize])
            };
            if !picks.iter().enumerate().all(meant) {
                continue;
            }
            let loose_pick = (0..picks.len()).any(|axis| picks[axis].is_some() && any(axis));
            if loose_pick || fixed.iter().any(|axis| any(*axis)) {
                let known = fixed.iter().map(|axis| (!any(*axis)).then_some(points[*axis]));
                lookup.loose.push((known.collect(), element));
            } else {
                let key = fixed.iter().map(|axis| points[*axis]).collect();
                lookup.groups.entry(key).or_default().push(element);
            }
        }
        Ok(lookup)
    }

    /// Makes the elements of an invocation that is mapped over a list, each with the element that it is given.
    pub(super) fn mapped(
        &mut self,
        invocation: &'a Invocation,
        input: &'a Input,
        list: &'a OutputRef,
    ) -> Result<(Elements, Vec<StepInput>), Diagnostic> {
        let Some(of) = self.names.get(list.step.as_str()).copied() else {
            return Ok((Elements::default(), Vec::new())); // That there is no such step was told already.
        };
        let producer = &self.pipeline.invocations[of as usize];
        let index = output(producer, list.output.as_deref())?;
        let declared = &producer.solid.outputs[index as usize];
        if !declared.list {
            return Err(Diagnostic::new(format!(
                "`{}` is mapped over `{}.{}`, which is no list",
                invocation.name, producer.name, declared.name
            ))
            .hint(format!("declare it as one: outputs: [{{{}: {{list: true}}}}]", declared.name)));
        }
        if list.pick == Pick::All {
            return Err(Diagnostic::new(format!(
                "`{}` is mapped over all elements of `{}` at once",
                invocation.name, producer.name
            ))
            .hint(format!("write `{}`: there is a step for each element of each list", without_pick(list))));
        }
        let elements = &self.told[of as usize];
        let picks = picked(producer, elements, &list.pick)?;
        let mut axes = invocation.matrix.clone();
        let mut unknown = vec![None; axes.len()];
        // For each axis of the producer: the axis of the matrix that it is, or that it becomes one of these elements.
        let mut shared: Vec<(usize, usize, Vec<Option<u32>>)> = Vec::new();
        let mut taken_on = Vec::new();
        for (at, axis) in elements.axes.iter().enumerate() {
            if let Some(own) = invocation.matrix.iter().position(|own| own.name == axis.name) {
                let points = same_points(&invocation.matrix[own], axis);
                if let Some(lacking) = points.iter().position(Option::is_none) {
                    let label = &invocation.matrix[own].points[lacking].label;
                    return Err(no_point(producer, axis, label));
                }
                shared.push((own, at, points));
            } else if picks[at].is_none() {
                unknown.push(elements.unknown(at));
                axes.push(axis.clone());
                taken_on.push(at);
            }
        }
        if axes.iter().any(|axis| axis.name == input.name) {
            return Err(Diagnostic::new(format!(
                "`{}` is mapped as `{}`, and has an axis of that name already",
                invocation.name, input.name
            ))
            .hint("give the element another name"));
        }
        let mut groups: HashMap<Vec<u32>, Vec<u32>> = HashMap::new();
        for element in 0..elements.len() {
            let points = elements.points(element).collect::<Vec<_>>();
            let meant = |(axis, picked): (usize, &Option<Vec<bool>>)| {
                let any = elements.stands_for_any(axis, points[axis]);
                picked.as_ref().is_none_or(|picked| any || picked[points[axis] as usize])
            };
            if picks.iter().enumerate().all(meant) {
                let key = shared.iter().map(|(_, at, _)| points[*at]).collect();
                groups.entry(key).or_default().push(element);
            }
        }
        let first = self.elements[of as usize].start;
        let mut rows = Rows::default();
        let matrix = super::edge::Expansion::of(&invocation.matrix);
        let mut own = vec![0_u32; invocation.matrix.len()];
        let mut seen = HashSet::new();
        for _ in 0..matrix.size {
            let key: Vec<u32> = shared.iter().filter_map(|(axis, _, of)| of[own[*axis] as usize]).collect();
            for &element in groups.get(&key).map_or(&[][..], Vec::as_slice) {
                let output = OutputId { step: StepId(first + element), output: index };
                let points = elements.points(element).collect::<Vec<_>>();
                let mut above = own.clone();
                above.extend(taken_on.iter().map(|at| points[*at]));
                let known = if elements.is_placeholder(element) {
                    None
                } else {
                    let name = name(&producer.name, elements, element);
                    let known = self.lists.get(&(name, index)).cloned();
                    if seen.insert(output) {
                        match &known {
                            Some(list) => self.mapped_lists.push((output, Arc::clone(list))),
                            None => self.pending.push(output),
                        }
                    }
                    known
                };
                rows.add(&above, output, known);
            }
            matrix.advance(&mut own);
        }
        axes.push(Axis { name: input.name.clone(), points: Arc::new(rows.points) });
        unknown.push(rows.unknown);
        Ok((Elements::table(axes, unknown, rows.table), rows.given))
    }
}

/// The rows of the table of elements of a mapped invocation, while it is made.
#[derive(Default)]
struct Rows {
    points: Vec<Point>,
    by_value: HashMap<(String, String), u32>,
    unknown: Option<u32>,
    table: Vec<u32>,
    given: Vec<StepInput>,
}

impl Rows {
    /// Adds the elements of one list, which stand at these points on the axes above.
    fn add(&mut self, above: &[u32], list: OutputId, known: Option<Arc<List>>) {
        let Some(of) = known else {
            let points = &mut self.points;
            let unknown = *self.unknown.get_or_insert_with(|| {
                points.push(unknown_point());
                as_index(points.len() - 1)
            });
            self.table.extend(above);
            self.table.push(unknown);
            self.given.push(StepInput::Unknown(Arc::from([list])));
            return;
        };
        for (at, element) in (0_u32..).zip(&of.elements) {
            let value = content_of(element);
            let points = &mut self.points;
            let point =
                *self.by_value.entry((element.label.clone(), value)).or_insert_with_key(|(_, value)| {
                    let value = Value::Str(value.clone());
                    points.push(Point { label: element.label.clone(), value, row: false });
                    as_index(points.len() - 1)
                });
            self.table.extend(above);
            self.table.push(point);
            self.given.push(StepInput::Element { list, of: Arc::clone(&of), at });
        }
    }
}

fn as_index(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What tells the content of elements apart.
fn content_of(element: &Element) -> String {
    let artifact = &element.artifact;
    format!("{:?} {} {}", artifact.kind, artifact.codec, artifact.digest)
}

/// The name of an element's step.
pub(super) fn name(invocation: &str, elements: &Elements, element: u32) -> String {
    let label = |axis: &Axis, point: u32| axis.name.len() + axis.points[point as usize].label.len() + 4;
    let labels: usize =
        elements.axes.iter().zip(elements.points(element)).map(|(axis, point)| label(axis, point)).sum();
    let mut name = String::with_capacity(invocation.len() + labels);
    write_name(invocation, elements, element, &mut name);
    name
}

/// Writes the name of an element's step behind a text.
pub(super) fn write_name(invocation: &str, elements: &Elements, element: u32, name: &mut String) {
    name.push_str(invocation);
    if elements.stands_for_all(element) {
        name.push_str("[*]");
        return;
    }
    for (index, (axis, point)) in elements.axes.iter().zip(elements.points(element)).enumerate() {
        name.push(if index == 0 { '[' } else { ',' });
        name.push_str(&axis.name);
        name.push('=');
        name.push_str(&crate::file::written_label(&axis.points[point as usize].label));
    }
    if !elements.axes.is_empty() {
        name.push(']');
    }
}

/// For each point of an axis, the one of another that has the same label and value.
fn same_points(own: &Axis, other: &Axis) -> Vec<Option<u32>> {
    if Arc::ptr_eq(&own.points, &other.points) {
        return (0..as_index(own.points.len())).map(Some).collect();
    }
    let mut by_label: HashMap<&str, Vec<u32>> = HashMap::with_capacity(other.points.len());
    for (at, point) in (0_u32..).zip(other.points.iter()) {
        by_label.entry(&point.label).or_default().push(at);
    }
    let same = |point: &Point| {
        let equal = |at: &&u32| other.points[**at as usize].value == point.value;
        by_label.get(point.label.as_str())?.iter().find(equal).copied()
    };
    own.points.iter().map(same).collect()
}

/// For each axis of a producer, which of its points are picked; `None` for one on which none is.
fn picked(
    producer: &Invocation,
    elements: &Elements,
    pick: &Pick,
) -> Result<Vec<Option<Vec<bool>>>, Diagnostic> {
    let mut picks = vec![None; elements.axes.len()];
    let Pick::Where(wanted) = pick else { return Ok(picks) };
    for (name, label) in wanted {
        let Some(at) = elements.axes.iter().position(|axis| &axis.name == name) else {
            return Err(no_axis(producer, &elements.axes, name));
        };
        let axis = &elements.axes[at];
        let meant = axis.points.iter().map(|point| &point.label == label).collect::<Vec<_>>();
        if !meant.contains(&true) && elements.unknown(at).is_none() {
            return Err(no_point(producer, axis, label));
        }
        if picks[at].replace(meant).is_some() {
            return Err(Diagnostic::new(format!("axis `{name}` of `{}` is picked twice", producer.name)));
        }
    }
    Ok(picks)
}
