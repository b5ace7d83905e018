//! Whether what the placeholders of a pipeline ask for is there, and stands where it can.
//!
//! Pure.

use crate::error::Diagnostic;
use crate::pipeline::{Invocation, Source};
use crate::solid::{Body, EnvVar, Line, Part, Template};
use crate::value::Value;

use super::{Check, Finding, near};

impl Check<'_> {
    /// Whether each placeholder names something that this invocation has.
    pub(super) fn templates(&mut self, invocation: &Invocation) {
        let solid = &*invocation.solid;
        let mut all: Vec<(&Template, bool)> = Vec::new();
        if let Body::Command(command) = &solid.body {
            let shell = matches!(command.line, Line::Shell { .. });
            all.extend(command.line.templates().iter().map(|template| (template, shell)));
        }
        for variable in &solid.env {
            if let EnvVar::Set(_, template) = variable {
                all.push((template, false));
            }
        }
        for input in &invocation.inputs {
            match &input.source {
                Source::Path { path, .. } => {
                    self.no_secret(invocation, path);
                    all.push((path, false));
                }
                Source::Probe { command, .. } => all.push((command, false)),
                Source::Output(_)
                | Source::Element(_)
                | Source::Gather { .. }
                | Source::FanIn(_)
                | Source::Value(_)
                | Source::Default(_) => {}
            }
        }
        for (template, shell) in all {
            for (before, part) in template.holes() {
                self.part(invocation, template, before, part);
            }
            self.several(invocation, template, shell);
        }
    }

    /// What a path names is kept and shown, so that nothing of it can be secret.
    fn no_secret(&mut self, invocation: &Invocation, path: &Template) {
        for (before, part) in path.holes() {
            let Part::Config(keys) = part else { continue };
            let field = keys.first().and_then(|key| invocation.solid.config.fields.get(key));
            if field.is_some_and(|field| field.secret) {
                let message =
                    format!("`{}` is secret, and what `path:` names is kept and shown", part.written());
                let diagnostic = Diagnostic::new(message).at(path.place.as_ref());
                let diagnostic = diagnostic.hint("let a field that is not secret say where it lies");
                self.findings.push(Finding { diagnostic, before: Some(before) });
            }
        }
    }

    fn part(&mut self, invocation: &Invocation, template: &Template, before: usize, part: &Part) {
        let solid = &*invocation.solid;
        match part {
            Part::Text(_) | Part::Cpus => {}
            Part::Input(name) if !invocation.inputs.iter().any(|input| input.name == *name) => {
                let known = invocation.inputs.iter().map(|input| &input.name);
                let what = format!("`{}` has no input", invocation.name);
                self.placeholder(template, before, part, &what, name, known);
            }
            Part::Output(name) if !solid.outputs.iter().any(|output| output.name == *name) => {
                let known = solid.outputs.iter().map(|output| &output.name);
                let what = format!("`{}` has no output", solid.name);
                self.placeholder(template, before, part, &what, name, known);
            }
            Part::Config(path) => {
                let Some(key) = path.first() else { return };
                let axes = invocation.matrix.iter().map(|axis| &axis.name);
                if !solid.config.fields.contains_key(key) && !axes.clone().any(|axis| axis == key) {
                    let known = solid.config.fields.keys().chain(axes);
                    let what = format!("`{}` has no config", invocation.name);
                    self.placeholder(template, before, part, &what, key, known);
                }
            }
            Part::Matrix { axis, column } => {
                if invocation.mapped().is_some_and(|(element, _)| element.name == *axis) {
                    let message = format!(
                        "`{}` is mapped, and does not see how an element is called, for which `{}` asks",
                        invocation.name,
                        part.written()
                    );
                    let diagnostic = Diagnostic::new(message).at(template.place.as_ref());
                    let diagnostic = diagnostic.hint(format!("what it is lies at `{{{{ inputs.{axis} }}}}`"));
                    self.findings.push(Finding { diagnostic, before: Some(before) });
                    return;
                }
                let Some(known) = invocation.matrix.iter().find(|known| known.name == *axis) else {
                    let axes = invocation.matrix.iter().map(|axis| &axis.name);
                    let what = format!("`{}` has no axis", invocation.name);
                    return self.placeholder(template, before, part, &what, axis, axes);
                };
                let (Some(column), Some(point)) = (column, known.points.first()) else { return };
                if let Value::Map(columns) = &point.value {
                    if !columns.contains_key(column) {
                        let what = format!("the axis `{axis}` has no column");
                        self.placeholder(template, before, part, &what, column, columns.keys());
                    }
                } else {
                    let what = format!("the values of the axis `{axis}` are no rows, so it has no column");
                    self.placeholder(template, before, part, &what, column, std::iter::empty());
                }
            }
            Part::Resource { name, path } => {
                let needed = self.needed(&solid.resources);
                if !needed.contains(name) {
                    let what = format!("`{}` does not need the resource", solid.name);
                    return self.placeholder(template, before, part, &what, name, needed.iter());
                }
                let (Some(key), Some(definitions)) = (path.first(), self.definitions.get(name.as_str()))
                else {
                    return;
                };
                if !definitions.iter().any(|resource| resource.config.fields.contains_key(key)) {
                    let known: Vec<&String> =
                        definitions.iter().flat_map(|resource| resource.config.fields.keys()).collect();
                    let what = format!("the resource `{name}` has no config");
                    self.placeholder(template, before, part, &what, key, known.into_iter());
                }
            }
            Part::Input(_) | Part::Output(_) => {}
        }
    }

    /// The resources that these need, and those that they need in turn, in whatever mode.
    fn needed(&self, names: &[String]) -> Vec<String> {
        let mut needed: Vec<String> = Vec::new();
        let mut open: Vec<&str> = names.iter().map(String::as_str).rev().collect();
        while let Some(name) = open.pop() {
            if needed.iter().any(|known| known == name) {
                continue;
            }
            needed.push(name.to_owned());
            for resource in self.definitions.get(name).into_iter().flatten() {
                open.extend(resource.resources.iter().map(String::as_str));
            }
        }
        needed
    }

    /// A placeholder that is several paths has to stand alone: glued to a text, only its first would be.
    fn several(&mut self, invocation: &Invocation, template: &Template, shell: bool) {
        for (index, part) in template.parts.iter().enumerate() {
            let Part::Input(name) = part else { continue };
            // A gather is one path: the folder that holds its elements.
            let several = invocation
                .inputs
                .iter()
                .any(|input| input.name == *name && matches!(input.source, Source::FanIn(_)));
            let side = |index: Option<usize>| index.and_then(|index| template.parts.get(index));
            let (left, right) = (side(index.checked_sub(1)), side(Some(index + 1)));
            if !several || (left.is_none() && right.is_none()) {
                continue;
            }
            let apart = |c: char| c.is_whitespace() || ";&|()".contains(c);
            let free = shell
                && match left {
                    None => true,
                    // After a redirection only the first path would be redirected.
                    Some(Part::Text(text)) => {
                        text.ends_with(apart) && !text.trim_end_matches([' ', '\t']).ends_with(['<', '>'])
                    }
                    Some(_) => false,
                }
                && match right {
                    None => true,
                    Some(Part::Text(text)) => text.starts_with(|c| apart(c) || c == '<' || c == '>'),
                    Some(_) => false,
                };
            if !free {
                let place = template.place.clone();
                let before = template.holes().position(|(_, hole)| std::ptr::eq(hole, part));
                let before = before.and_then(|nth| template.holes().nth(nth)).map(|(before, _)| before);
                let message = format!("`{}` is several paths, and stands beside other text", part.written());
                let hint = if shell {
                    "put blanks around it; its folder is $CAS_INPUT_… in the environment"
                } else {
                    "let it be an item of its own: each path becomes one argument"
                };
                let diagnostic = Diagnostic::new(message).at(place.as_ref()).hint(hint);
                self.findings.push(Finding { diagnostic, before });
            }
        }
    }

    pub(super) fn placeholder<'n>(
        &mut self,
        template: &Template,
        before: usize,
        part: &Part,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'n String>,
    ) {
        let known = known.map(String::as_str).collect();
        let hint = near(name, known, "declare it, or take the placeholder away");
        let message = format!("{what} `{name}`, for which `{}` asks", part.written());
        let diagnostic = Diagnostic::new(message).at(template.place.as_ref()).hint(hint);
        self.findings.push(Finding { diagnostic, before: Some(before) });
    }
}
