//! What a template in a definition becomes: config and matrix values are known when a graph is made.
//!
//! `path`, `probe` and `env` take nothing else. A command's placeholders are filled when it is run.

use std::borrow::Cow;

use crate::error::Diagnostic;
use crate::pipeline::{Axis, Point};
use crate::solid::{Part, Template};
use crate::value::{Config, Value};

/// Whether elements of a matrix differ in this template.
pub(super) fn varies(template: &Template, axes: &[Axis]) -> bool {
    template.parts.iter().any(|part| match part {
        Part::Matrix { .. } => true,
        Part::Config(path) => path.first().is_some_and(|key| axes.iter().any(|axis| &axis.name == key)),
        Part::Text(_) | Part::Input(_) | Part::Output(_) | Part::Resource { .. } | Part::Cpus => false,
    })
}

/// What a template is, so how a value stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// A text: a value stands there as it is.
    Text,
    /// A line for a shell: a value is one word, quoted.
    ShellLine,
}

/// Fills a template for one element: `config` is without matrix values, `points` one index an axis.
pub(super) fn fill(
    of: Of,
    template: &Template,
    config: &Config,
    axes: &[Axis],
    points: &[u32],
) -> Result<String, Diagnostic> {
    let point = |name: &str| -> Option<&Point> {
        let at = axes.iter().position(|axis| axis.name == name)?;
        axes[at].points.get(*points.get(at)? as usize)
    };
    let mut filled = String::with_capacity(template.text.len());
    for part in &template.parts {
        let text: Cow<'_, str> = match part {
            Part::Text(text) => text.into(),
            Part::Config(path) => {
                let (key, rest) =
                    path.split_first().map_or(("", &[][..]), |(key, rest)| (key.as_str(), rest));
                let value = point(key).map(|point| &point.value).or_else(|| config.values.get(key));
                let value = value.and_then(|value| value.at(rest)).ok_or_else(|| {
                    Diagnostic::new(format!("there is no `config.{}` here", path.join(".")))
                        .at(template.place.as_ref())
                })?;
                text_of(value)
            }
            Part::Matrix { axis, column } => {
                let value = point(axis).and_then(|point| match column {
                    None if point.row => Some(point.label.as_str().into()),
                    None => Some(text_of(&point.value)),
                    Some(column) => point.value.at(std::slice::from_ref(column)).map(text_of),
                });
                value.ok_or_else(|| {
                    let column = column.as_ref().map(|column| format!(".{column}")).unwrap_or_default();
                    Diagnostic::new(format!("there is no `matrix.{axis}{column}` here"))
                        .at(template.place.as_ref())
                })?
            }
            Part::Input(name) => return Err(refused(template, &format!("inputs.{name}"))),
            Part::Output(name) => return Err(refused(template, &format!("outputs.{name}"))),
            Part::Resource { name, .. } => return Err(refused(template, &format!("resources.{name}"))),
            Part::Cpus => return Err(refused(template, "cpus")),
        };
        match (of, part) {
            (Of::ShellLine, Part::Config(_) | Part::Matrix { .. }) => {
                filled.push_str(&crate::file::quote(&text));
            }
            _ => filled.push_str(&text),
        }
    }
    Ok(filled)
}

fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Str(text) => text.into(),
        other => other.to_string().into(),
    }
}

fn refused(template: &Template, name: &str) -> Diagnostic {
    Diagnostic::new(format!("`{{{{ {name} }}}}` is not known before the step runs"))
        .hint("only config and matrix values can stand here")
        .at(template.place.as_ref())
}
