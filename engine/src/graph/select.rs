//! Steps and outputs by the names that people type: `train`, `tr*`, `train[lr=0.1]`, `train@lr=0.1,depth=4`,
//! `train[*].model`.

use globset::{GlobBuilder, GlobMatcher};

use super::edge::{no_axis, no_point};
use super::{Graph, OutputId, StepId};
use crate::error::Diagnostic;
use crate::pipeline::{Axis, Invocation};
use crate::value::{listed, nearest};

/// A name as typed, taken apart.
struct Typed<'t> {
    /// `train`, `tr*`.
    name: &'t str,
    /// `lr=0.1,depth=4` or `*`; `None` without brackets or `@`.
    pick: Option<&'t str>,
    /// `model`; may be a glob.
    output: Option<&'t str>,
}

impl<'t> Typed<'t> {
    /// The ways to read it, the most likely first. A label may hold dots, so with `@` there are two.
    fn readings(text: &'t str) -> Result<Vec<Self>, Diagnostic> {
        let end = text.find(['[', '@', '.']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if let Some(inside) = rest.strip_prefix('[') {
            let Some((pick, after)) = inside.rsplit_once(']') else {
                return Err(Diagnostic::new(format!("`{text}` has no closing bracket")));
            };
            let output = match (after.strip_prefix('.'), after) {
                (Some(output), _) => Some(output),
                (None, "") => None,
                (None, _) => {
                    return Err(Diagnostic::new(format!(
                        "`{after}` after the bracket of `{text}` means nothing"
                    ))
                    .hint("an output follows a dot: `train[lr=0.1].model`"));
                }
            };
            return Ok(vec![Self { name, pick: Some(pick), output }]);
        }
        if let Some(pick) = rest.strip_prefix('@') {
            let mut readings = vec![Self { name, pick: Some(pick), output: None }];
            if let Some((pick, output)) = pick.rsplit_once('.') {
                readings.push(Self { name, pick: Some(pick), output: Some(output) });
            }
            return Ok(readings);
        }
        Ok(vec![Self { name, pick: None, output: rest.strip_prefix('.') }])
    }
}

/// A name or a label: as it is, or a glob.
enum Pattern<'t> {
    Exact(&'t str),
    Glob(GlobMatcher),
}

impl<'t> Pattern<'t> {
    fn new(text: &'t str) -> Result<Self, Diagnostic> {
        if !text.contains(['*', '?', '{', '[']) {
            return Ok(Self::Exact(text));
        }
        match GlobBuilder::new(text).build() {
            Ok(glob) => Ok(Self::Glob(glob.compile_matcher())),
            Err(error) => Err(Diagnostic::new(format!("`{text}` is no pattern: {}", error.kind()))),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(text) => *text == name,
            Self::Glob(glob) => glob.is_match(name),
        }
    }
}

impl Graph {
    /// See [`Graph::select`].
    pub(super) fn steps_called(&self, text: &str) -> Result<Vec<StepId>, Diagnostic> {
        let typed = Typed::readings(text)?;
        let typed = &typed[0];
        if let Some(output) = typed.output {
            let step = &text[..text.len() - output.len() - 1];
            return Err(Diagnostic::new(format!("`{text}` names an output, and steps are asked for"))
                .hint(format!("write `{step}`")));
        }
        let mut steps = Vec::new();
        for (_, elements) in self.elements_called(typed)? {
            steps.extend(elements);
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// The steps that yield the lists over which what is called so is mapped.
    pub(super) fn lists_of(&self, text: &str) -> Result<Vec<StepId>, Diagnostic> {
        let typed = Typed::readings(text)?;
        let mut steps = Vec::new();
        for (index, _) in self.elements_called(&typed[0])? {
            let mut index = Some(index);
            // Upwards over empty lists, to the first step that there is.
            while let Some(at) = index {
                steps.extend(self.steps_of[at].clone().map(StepId));
                let list = self.pipeline.invocations[at].mapped().map(|(_, list)| &list.step);
                index = list.filter(|_| self.steps_of[at].is_empty()).and_then(|name| {
                    self.pipeline.invocations.iter().position(|invocation| invocation.name == *name)
                });
            }
        }
        Ok(steps)
    }

    /// See [`Graph::select_outputs`].
    pub(super) fn outputs_called(&self, text: &str) -> Result<Vec<OutputId>, Diagnostic> {
        let mut first_error = None;
        for typed in Typed::readings(text)? {
            match self.outputs_of(&typed) {
                Ok(outputs) => return Ok(outputs),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| Diagnostic::new(format!("`{text}` names nothing"))))
    }

    fn outputs_of(&self, typed: &Typed<'_>) -> Result<Vec<OutputId>, Diagnostic> {
        let pattern = typed.output.map(Pattern::new).transpose()?;
        let mut outputs = Vec::new();
        let mut without = None;
        for (index, elements) in self.elements_called(typed)? {
            let invocation = &self.pipeline.invocations[index];
            let declared = (0_u16..).zip(&invocation.solid.outputs);
            let wanted = declared
                .filter(|(_, output)| pattern.as_ref().is_none_or(|pattern| pattern.matches(&output.name)))
                .map(|(output, _)| output)
                .collect::<Vec<_>>();
            if wanted.is_empty() {
                without = without.or(Some(invocation));
            }
            outputs.extend(
                elements
                    .iter()
                    .flat_map(|step| wanted.iter().map(|output| OutputId { step: *step, output: *output })),
            );
        }
        match (outputs.is_empty(), without) {
            (true, Some(invocation)) => Err(no_output(invocation, typed.output)),
            _ => {
                outputs.sort_unstable();
                Ok(outputs)
            }
        }
    }

    /// The elements that are meant, by invocation.
    fn elements_called(&self, typed: &Typed<'_>) -> Result<Vec<(usize, Vec<StepId>)>, Diagnostic> {
        let pattern = Pattern::new(typed.name)?;
        let mut found = Vec::new();
        let mut first_error = None;
        for (index, invocation) in self.pipeline.invocations.iter().enumerate() {
            if pattern.matches(&invocation.name) {
                match self.elements_of(index, invocation, typed.pick) {
                    Ok(elements) => found.push((index, elements)),
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
        }
        match (found.is_empty(), first_error) {
            (false, _) => Ok(found),
            (true, Some(error)) => Err(error),
            (true, None) => Err(self.no_step(typed.name)),
        }
    }

    fn no_step(&self, name: &str) -> Diagnostic {
        let known = || self.pipeline.invocations.iter().map(|invocation| invocation.name.as_str());
        let error = Diagnostic::new(if name.is_empty() {
            "the name of a step is missing".to_owned()
        } else if name.contains(['*', '?', '{']) {
            format!("no step matches `{name}`")
        } else {
            format!("there is no step `{name}`")
        });
        match nearest(name, known()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => {
                error.hint(format!("there is {}", listed(&known().map(str::to_owned).collect::<Vec<_>>())))
            }
        }
    }

    fn elements_of(
        &self,
        index: usize,
        invocation: &Invocation,
        pick: Option<&str>,
    ) -> Result<Vec<StepId>, Diagnostic> {
        let all = self.steps_of[index].clone();
        let Some(pick) = pick.filter(|pick| *pick != "*") else {
            return Ok(all.map(StepId).collect());
        };
        // For each axis, which of its points are meant; `None` for all of them.
        let elements = &self.elements[index];
        let axes = &elements.axes;
        let mut allowed: Vec<Option<Vec<bool>>> = vec![None; axes.len()];
        for (axis, label) in &conditions(invocation, axes, pick)? {
            let Some(at) = axes.iter().position(|known| known.name == *axis) else {
                return Err(no_axis(invocation, axes, axis));
            };
            let points = &axes[at].points;
            let mut meant = points.iter().map(|point| point.label == *label).collect::<Vec<_>>();
            if !meant.contains(&true) {
                let pattern = Pattern::new(label)?;
                meant = points.iter().map(|point| pattern.matches(&point.label)).collect();
            }
            // While a list is not known, any name may turn out to be that of an element.
            if let Some(unknown) = elements.unknown(at) {
                meant[unknown as usize] = true;
            }
            if !meant.contains(&true) {
                return Err(no_point(invocation, &axes[at], label));
            }
            let before = allowed[at].take();
            allowed[at] = Some(match before {
                Some(before) => before.iter().zip(&meant).map(|(before, now)| *before || *now).collect(),
                None => meant,
            });
        }
        Ok(all
            .map(StepId)
            .filter(|step| {
                let points = self.point_indices(*step);
                points.zip(&allowed).all(|(point, allowed)| {
                    allowed
                        .as_ref()
                        .is_none_or(|allowed| allowed.get(point as usize).copied().unwrap_or(false))
                })
            })
            .collect())
    }
}

/// `lr=0.1,depth=4` taken apart: a comma ends a label only where `name=` follows, so that labels may hold commas. One
/// between double quotes is read as JSON, as in a pipeline file.
fn conditions<'t>(
    invocation: &Invocation,
    axes: &[Axis],
    pick: &'t str,
) -> Result<Vec<(&'t str, String)>, Diagnostic> {
    let begins = |rest: &str| {
        rest.split_once('=').is_some_and(|(axis, _)| axes.iter().any(|known| known.name == axis.trim()))
    };
    let mut conditions = Vec::new();
    let mut rest = Some(pick);
    while let Some(piece) = rest {
        let (axis, label) = piece.split_once('=').ok_or_else(|| {
            Diagnostic::new(format!("`{piece}` is no value of an axis"))
                .hint(format!("elements are written `{}[axis=value]`", invocation.name))
        })?;
        let label = label.trim_start();
        if label.starts_with('"') {
            let mut read = serde_json::Deserializer::from_str(label).into_iter::<String>();
            if let Some(Ok(quoted)) = read.next() {
                let after = label[read.byte_offset()..].trim_start();
                rest = after.strip_prefix(',');
                if rest.is_some() || after.is_empty() {
                    conditions.push((axis.trim(), quoted));
                    continue;
                }
            }
        }
        let end = label.match_indices(',').map(|(comma, _)| comma).find(|comma| begins(&label[comma + 1..]));
        let end = end.unwrap_or(label.len());
        conditions.push((axis.trim(), label[..end].trim().to_owned()));
        rest = label[end..].strip_prefix(',');
    }
    Ok(conditions)
}

fn no_output(invocation: &Invocation, output: Option<&str>) -> Diagnostic {
    let known = invocation.solid.outputs.iter().map(|output| output.name.clone()).collect::<Vec<_>>();
    let Some(output) = output else {
        return Diagnostic::new(format!("`{}` has no outputs", invocation.name));
    };
    let hint = match nearest(output, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{}.{near}`?", invocation.name),
        None => format!("it has {}", listed(&known)),
    };
    Diagnostic::new(format!("`{}` has no output `{output}`", invocation.name)).hint(hint)
}
