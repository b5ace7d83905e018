//! What each kind of node is made of, told fact by fact. Whatever a listener makes of it, the order here is the order
//! of the encoding.

use cas_store::Version;

use super::InputContent;
use super::manifest::{Label, Manifest, PathTag, Term};
use crate::graph::{Graph, OutputId, StepInput};
use crate::resource::Resource;
use crate::solid::{Body, Command, Declared, EnvVar, Line, Platform, Sandbox, Shell, Solid};
use crate::source::{FileSet, MeasuredPath, MeasuredWhat, PathKind};
use crate::value::{Config, Value};

pub(super) fn output_facts(to: &mut impl Manifest, step: &Version, output: &str) {
    to.fact(Label::Step, Term::Node(step));
    to.fact(Label::Output, Term::Text(output));
}

pub(super) fn solid_facts(
    to: &mut impl Manifest,
    solid: &Solid,
    code: Option<&FileSet>,
    env: &[(String, Option<String>)],
    platform: &str,
    confines: bool,
) {
    to.fact(
        Label::Declared,
        match &solid.version {
            None => Term::None,
            Some(Declared::Text(version)) => Term::Text(version),
            Some(Declared::Volatile) => Term::Volatile,
            Some(Declared::Every(_)) => Term::Every,
        },
    );
    files(to, Label::Code, code);
    let stdout = match &solid.body {
        Body::Function(function) => {
            // One that runs by the clock has no declared text: what its code is stands here.
            to.fact(Label::Command, function.version().map_or(Term::Function, Term::Text));
            to.fact(Label::Shell, Term::None);
            None
        }
        Body::Command(Command { line, stdout, .. }) => {
            match line {
                Line::Shell { text, shell } => {
                    to.fact(Label::Command, Term::Template(&text.text));
                    to.fact(
                        Label::Shell,
                        match shell {
                            Shell::Sh => Term::Sh,
                            Shell::Bash => Term::Bash,
                            Shell::List(words) => Term::Texts(words),
                        },
                    );
                }
                Line::List(words) => {
                    to.fact(Label::Command, Term::Templates(words));
                    to.fact(Label::Shell, Term::None);
                }
            }
            stdout.as_deref()
        }
    };
    let mut outputs = solid.outputs.iter().enumerate().collect::<Vec<_>>();
    outputs.sort_by_key(|(_, output)| &output.name);
    to.section(Label::Outputs, outputs.len());
    for (position, output) in outputs {
        let declaration = Term::Declaration {
            optional: output.optional,
            at: &output.at,
            codec: &output.codec,
            list: output.list,
            stdout: stdout == Some(output.name.as_str()),
            shape: output.shape.as_deref(),
            position,
        };
        to.entry(&output.name, declaration);
    }
    let mut variables = solid
        .env
        .iter()
        .map(|variable| match variable {
            EnvVar::Set(name, template) => (name, Term::Template(&template.text)),
            EnvVar::Pass(name) => {
                let value =
                    env.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref());
                (name, value.map_or(Term::Unset, Term::Text))
            }
        })
        .collect::<Vec<_>>();
    // Stable, so that of two lines for one name the later one stays the later one.
    variables.sort_by_key(|(name, _)| *name);
    to.section(Label::Env, variables.len());
    for (name, term) in variables {
        to.entry(name, term);
    }
    to.fact(
        Label::Platform,
        match solid.platform {
            Platform::Here => Term::Text(platform),
            Platform::Any => Term::None,
        },
    );
    // One that is not refused anything sees what it always saw: its bytes are those of before there were sandboxes.
    if solid.sandbox == Sandbox::Deny && confines && matches!(solid.body, Body::Command(_)) {
        to.fact(Label::Sandbox, Term::Text("deny"));
    }
}

pub(super) fn files(to: &mut impl Manifest, label: Label, set: Option<&FileSet>) {
    let files = set.map_or(&[][..], |set| &set.files);
    to.section(label, files.len());
    for file in files {
        let term = match &file.what {
            MeasuredWhat::File { digest, executable } => Term::File { digest, executable: *executable },
            MeasuredWhat::Link(target) => Term::Link(target),
            MeasuredWhat::Folder => Term::Folder,
        };
        to.entry(&file.path, term);
    }
}

pub(super) fn resource_facts<'a>(
    to: &mut impl Manifest,
    resource: &Resource,
    printed: Option<&str>,
    set: Option<&FileSet>,
    config: &Version,
    needs: &[(&'a str, &'a Version)],
) {
    to.fact(Label::Name, Term::Text(&resource.name));
    to.fact(Label::Declared, resource.version.as_deref().map_or(Term::None, Term::Text));
    to.fact(Label::Probe, resource.probe.as_ref().map_or(Term::None, |probe| Term::Template(&probe.text)));
    to.fact(Label::Printed, printed.map_or(Term::None, Term::Text));
    files(to, Label::Files, set);
    let mut env = resource.env.iter().collect::<Vec<_>>();
    env.sort_by_key(|(name, _)| name);
    to.section(Label::Env, env.len());
    for (name, template) in env {
        to.entry(name, Term::Template(&template.text));
    }
    to.fact(Label::Config, Term::Node(config));
    resources(to, needs.iter().copied());
}

pub(super) fn resources<'a>(
    to: &mut impl Manifest,
    needs: impl ExactSizeIterator<Item = (&'a str, &'a Version)>,
) {
    to.section(Label::Resources, needs.len());
    for (name, version) in needs {
        to.entry(name, Term::Node(version));
    }
}

/// The keys of a config with the values of a matrix among them, sorted by name; `points` are.
pub(super) fn config_facts<'a>(
    to: &mut impl Manifest,
    config: &Config,
    key: &[u8; 32],
    points: impl ExactSizeIterator<Item = (&'a str, &'a Value)>,
) {
    to.section(Label::Keys, config.values.len() + points.len());
    let mut points = points.peekable();
    let mut add = |name: &str, value: &Value| {
        let secret = config.secret.contains(name);
        to.entry(name, if secret { Term::Secret(value, key) } else { Term::Value(value) });
    };
    for (name, value) in &config.values {
        while let Some((axis, point)) = points.next_if(|(axis, _)| *axis < name.as_str()) {
            add(axis, point);
        }
        add(name, value);
    }
    points.for_each(|(axis, point)| add(axis, point));
}

pub(super) fn path_facts(to: &mut impl Manifest, path: &MeasuredPath) {
    let kind = match path.kind {
        PathKind::File { executable: false } => PathTag::File,
        PathKind::File { executable: true } => PathTag::Executable,
        PathKind::Folder => PathTag::Folder,
        PathKind::Glob => PathTag::Glob,
    };
    to.fact(Label::Path, Term::Path { kind, digest: &path.digest });
}

/// What an output enters as, or `None` where that is not known (yet).
pub(super) enum Entering<'a> {
    /// By its version; with its step's.
    Version(Version, Version),
    /// By its content.
    Content(InputContent<'a>),
    /// Not at all: it failed, and the gather that it is in goes on without it.
    LeftOut,
}

/// Tells one output, as a named entry or as an item.
pub(super) fn enter(graph: &Graph, output: OutputId, entering: &Entering<'_>, tell: impl FnOnce(Term<'_>)) {
    match entering {
        Entering::Version(version, step) => {
            let name = &graph.solid(output.step).outputs[output.output as usize].name;
            tell(Term::Output { version, step, name });
        }
        Entering::Content(InputContent::Artifact(artifact)) => {
            let shape = graph.solid(output.step).outputs[output.output as usize].shape.as_deref();
            tell(Term::Content { artifact, shape });
        }
        Entering::Content(InputContent::Absent) => tell(Term::Absent),
        Entering::Content(InputContent::LeftOut) | Entering::LeftOut => {}
    }
}

/// What enters where nothing can be left out.
pub(super) fn there(entering: Option<Entering<'_>>) -> Option<Entering<'_>> {
    entering
        .filter(|entering| !matches!(entering, Entering::LeftOut | Entering::Content(InputContent::LeftOut)))
}

pub(super) fn gather_facts<'a>(
    to: &mut impl Manifest,
    graph: &Graph,
    elements: &[(String, OutputId)],
    known: &mut impl FnMut(OutputId) -> Option<Entering<'a>>,
) -> Option<()> {
    let mut entering = Vec::with_capacity(elements.len());
    for (label, output) in elements {
        match known(*output)? {
            Entering::LeftOut | Entering::Content(InputContent::LeftOut) => {}
            there => entering.push((label, *output, there)),
        }
    }
    to.section(Label::Gather, entering.len());
    for (label, output, there) in &entering {
        enter(graph, *output, there, |term| to.entry(label, term));
    }
    Some(())
}

pub(super) fn fan_in_facts<'a>(
    to: &mut impl Manifest,
    graph: &Graph,
    outputs: &[OutputId],
    known: &mut impl FnMut(OutputId) -> Option<Entering<'a>>,
) -> Option<()> {
    to.section(Label::FanIn, outputs.len());
    for (index, output) in outputs.iter().enumerate() {
        enter(graph, *output, &there(known(*output))?, |term| to.item(index, term));
    }
    Some(())
}

pub(super) fn several_facts<'a>(
    to: &mut impl Manifest,
    graph: &Graph,
    input: &StepInput,
    known: &mut impl FnMut(OutputId) -> Option<Entering<'a>>,
) -> Option<()> {
    match input {
        StepInput::FanIn(outputs) => fan_in_facts(to, graph, outputs, known),
        StepInput::Gather(elements) => gather_facts(to, graph, elements, known),
        StepInput::Output(_)
        | StepInput::Element { .. }
        | StepInput::Unknown(_)
        | StepInput::Path(_)
        | StepInput::Value(_)
        | StepInput::Probe(_) => None,
    }
}

pub(super) fn literal_facts(to: &mut impl Manifest, value: &Value) {
    to.fact(Label::Value, Term::Value(value));
}

pub(super) fn answer_facts(to: &mut impl Manifest, answer: &str) {
    to.fact(Label::Answer, Term::Text(answer));
}
