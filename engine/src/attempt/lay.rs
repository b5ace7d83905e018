//! What an attempt is given: laid out before it begins, and looked at again before its outcome counts.
//!
//! Stored inputs are placed here (by `memo.rs`); what a command is given of the project, its executor lays out
//! itself. Nothing here runs anything or commits anything.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cas_store::{Artifact, Link, StoreError};

use super::{Bench, Stored, Task};
use crate::error::EngineError;
use crate::execute::scratch::Scratch;
use crate::execute::{Cause, Content, Encoded, Failure, Given, GivenFile, GivenWhat, folder};
use crate::graph::{OutputId, StepId, StepInput};
use crate::memo;
use crate::solid::{Body, Solid};
use crate::source::{self, FileSet, MeasuredWhat};
use crate::value::Value;

/// Everything that is laid out for one attempt.
#[derive(Default)]
pub(super) struct LaidOut {
    pub(super) given: Vec<Given>,
    /// The links among it, each with the output that it is of.
    links: Vec<(OutputId, Link)>,
    /// Its scratch folders, if it has any and nobody else has them now. Given back when this is dropped.
    pub(super) scratch: Option<Scratch>,
}

/// Why an attempt could not be laid out.
pub(super) enum Unready {
    Lost(OutputId, String),
    Failed(Failure),
    Broken(EngineError),
}

impl<E: Into<EngineError>> From<E> for Unready {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

impl Bench<'_> {
    /// Lays out what is stored of a step's inputs, and says in what form each is given.
    pub(super) fn lay_out(&self, task: &Task, solid: &Solid, folder: &Path) -> Result<LaidOut, Unready> {
        let graph = &self.plan.graph;
        let step = &graph.steps[task.step.0 as usize];
        let declared = &graph.invocation(task.step).inputs;
        let command = matches!(solid.body, Body::Command(_));
        let mut laid = LaidOut::default();
        let mut consumes = task.consumes.iter();
        for (input, declared) in step.inputs.iter().zip(declared) {
            let one = |consumes: &mut std::slice::Iter<'_, Stored>| consumes.next().cloned();
            let content = match input {
                StepInput::Output(_) => match one(&mut consumes) {
                    Some(Stored { artifact: Some(artifact), output, .. }) if command => {
                        let at = folder::input(folder, &declared.file_name);
                        self.lay(task, output, &artifact, &at, &mut laid)?;
                        Content::File
                    }
                    Some(Stored { artifact: None, .. }) => Content::Absent,
                    Some(part) => {
                        let at = folder.join("inputs").join(&declared.file_name);
                        self.value(task, &part, &at, &mut laid)?
                    }
                    None => Content::Absent,
                },
                StepInput::Element { of, at, .. } => {
                    match (one(&mut consumes), of.elements.get(*at as usize)) {
                        (Some(list), Some(element)) => {
                            let at = if command {
                                folder::input(folder, &declared.file_name)
                            } else {
                                folder.join("inputs").join(&declared.file_name)
                            };
                            self.element(task, &list, element, command, &at, &mut laid)?
                        }
                        _ => Content::Absent,
                    }
                }
                // Nothing whose inputs are not known is ever run.
                StepInput::Unknown(_) => Content::Absent,
                StepInput::FanIn(outputs) => {
                    let parts: Vec<(String, Stored)> = outputs
                        .iter()
                        .enumerate()
                        .filter_map(|(index, _)| Some((index.to_string(), one(&mut consumes)?)))
                        .collect();
                    if command {
                        for (index, (_, part)) in parts.iter().enumerate() {
                            let at = folder::fan_in(folder, &declared.name, index);
                            self.lay_stored(task, part, &at, &mut laid)?;
                        }
                        Content::FanIn(parts.len())
                    } else {
                        Content::Many(self.many(task, folder, &declared.name, parts, &mut laid)?)
                    }
                }
                StepInput::Gather(elements) => {
                    // An element that was not produced is left out.
                    let parts: Vec<(String, Stored)> = elements
                        .iter()
                        .filter_map(|(label, _)| Some((label.clone(), one(&mut consumes)?)))
                        .filter(|(_, part)| part.artifact.is_some())
                        .collect();
                    if command {
                        let extension = folder::extension(&declared.name, &declared.file_name);
                        for (label, part) in &parts {
                            let at = folder::gathered(folder, &declared.name, label, extension);
                            self.lay_stored(task, part, &at, &mut laid)?;
                        }
                        Content::Gather(parts.into_iter().map(|(label, _)| label).collect())
                    } else {
                        Content::Many(self.many(task, folder, &declared.name, parts, &mut laid)?)
                    }
                }
                StepInput::Path(path) => self.project(*path, &declared.file_name, command, folder)?,
                StepInput::Value(value) => Content::Value((**value).clone()),
                StepInput::Probe(probe) => {
                    let printed = self.plan.measures.probes.get(*probe as usize).cloned().flatten();
                    Content::Value(Value::Str(printed.unwrap_or_default()))
                }
            };
            let (name, file_name) = (declared.name.clone(), declared.file_name.clone());
            laid.given.push(Given { name, file_name, content });
        }
        Ok(laid)
    }

    /// Whether everything that a function is given is in memory, so that nothing is laid in its folder.
    pub(super) fn is_given_values(&self, task: &Task) -> bool {
        let inputs = &self.plan.graph.steps[task.step.0 as usize].inputs;
        let in_memory = |input: &StepInput| {
            matches!(input, StepInput::Value(_) | StepInput::Probe(_) | StepInput::Output(_))
        };
        let is_tree = |stored: &Stored| stored.artifact.as_ref().is_some_and(memo::is_tree);
        inputs.iter().all(in_memory) && !task.consumes.iter().any(is_tree)
    }

    /// A `path:` input: a command's executor lays it out itself; for a function it is laid out here.
    fn project(&self, path: u32, file_name: &str, command: bool, at: &Path) -> Result<Content, Unready> {
        let external = self.plan.graph.paths[path as usize].external;
        let Some(measured) = self.plan.measures.paths.get(path as usize).cloned().flatten() else {
            return Err(Unready::Failed(unmeasured(file_name)));
        };
        if command {
            return Ok(Content::Project { measured, external });
        }
        let inputs = at.join("inputs");
        make_folder(&inputs)?;
        let at = inputs.join(file_name);
        folder::lay_path(&measured, external, &at).map_err(|unlaid| EngineError::Io {
            action: "lay out",
            path: unlaid.path,
            source: unlaid.source,
        })?;
        Ok(Content::Path(at))
    }

    fn lay_stored(&self, task: &Task, part: &Stored, at: &Path, laid: &mut LaidOut) -> Result<(), Unready> {
        match &part.artifact {
            Some(artifact) => self.lay(task, part.output, artifact, at, laid),
            None => Ok(()),
        }
    }

    pub(super) fn lay(
        &self,
        task: &Task,
        output: OutputId,
        artifact: &Artifact,
        at: &Path,
        laid: &mut LaidOut,
    ) -> Result<(), Unready> {
        if let Some(parent) = at.parent() {
            make_folder(parent)?;
        }
        match self.memo.give(artifact, at, task.private)? {
            Ok(links) => {
                laid.links.extend(links.into_iter().map(|link| (output, link)));
                Ok(())
            }
            Err(error) => Err(Unready::Lost(output, lost(&error))),
        }
    }

    /// What a function is given of an output: its bytes, or the path of a folder.
    pub(super) fn value(
        &self,
        task: &Task,
        part: &Stored,
        at: &Path,
        laid: &mut LaidOut,
    ) -> Result<Content, Unready> {
        let Some(artifact) = &part.artifact else { return Ok(Content::Absent) };
        if memo::is_tree(artifact) {
            self.lay(task, part.output, artifact, at, laid)?;
            return Ok(Content::Path(at.to_owned()));
        }
        match self.memo.lend(&artifact.digest)? {
            Ok((bytes, link)) => {
                laid.links.extend(link.map(|link| (part.output, link)));
                Ok(Content::Bytes(Encoded { codec: artifact.codec.clone(), bytes }))
            }
            Err(error) => Err(Unready::Lost(part.output, lost(&error))),
        }
    }

    fn many(
        &self,
        task: &Task,
        folder: &Path,
        input: &str,
        parts: Vec<(String, Stored)>,
        laid: &mut LaidOut,
    ) -> Result<Vec<(String, Content)>, Unready> {
        let folder = folder.join("inputs").join(input);
        let mut many = Vec::with_capacity(parts.len());
        for (label, part) in parts {
            let content = self.value(task, &part, &folder.join(folder::safe_label(&label)), laid)?;
            many.push((label, content));
        }
        Ok(many)
    }

    /// The declared files of a step and of its resources.
    pub(super) fn files(&self, step: StepId) -> Arc<Vec<GivenFile>> {
        let invocation = self.plan.graph.steps[step.0 as usize].invocation;
        let files = self.files[invocation as usize].get_or_init(|| {
            let files = self.file_sets(invocation);
            Arc::new(files.iter().flat_map(|files| files.files.iter().map(given_file)).collect())
        });
        Arc::clone(files)
    }

    fn file_sets(&self, invocation: u32) -> Vec<&FileSet> {
        let measures = &self.plan.measures;
        let code = measures.code.get(invocation as usize).and_then(Option::as_deref);
        let resources = self.plan.graph.resources_of(invocation);
        let of_resource = |resource: usize| measures.resources.get(resource)?.as_deref();
        code.into_iter().chain(resources.into_iter().filter_map(of_resource)).collect()
    }

    /// A project file that is not what it was when it was hashed, as the failure of the step that was given it.
    pub(super) fn changed_source(&self, task: &Task) -> Option<Failure> {
        let step = &self.plan.graph.steps[task.step.0 as usize];
        let paths = step.inputs.iter().filter_map(|input| match input {
            StepInput::Path(path) => self.plan.measures.paths.get(*path as usize)?.as_deref(),
            StepInput::Output(_)
            | StepInput::Element { .. }
            | StepInput::Unknown(_)
            | StepInput::FanIn(_)
            | StepInput::Gather(_)
            | StepInput::Value(_)
            | StepInput::Probe(_) => None,
        });
        let mut sets = self.file_sets(step.invocation);
        sets.extend(paths.map(|path| &path.files));
        let project = &self.plan.graph.pipeline.folder;
        let changed = sets.into_iter().find_map(|files| files.changed(project))?;
        let hint = match changed.how {
            "changed" => "nothing was stored; run again to use the file as it is now",
            source::IGNORED | source::SHOWN => {
                "nothing was stored; run again to go by the ignore files as they are now"
            }
            _ => "nothing was stored; run again to use the files that are there now",
        };
        Some(Failure {
            cause: Cause::SourceChanged,
            message: format!("`{}` {} while it ran", changed.path, changed.how),
            hint: Some(hint.to_owned()),
        })
    }

    /// The first output whose bytes were spoilt while the step had them as a link.
    pub(super) fn spoilt(&self, laid: &LaidOut) -> Result<Option<(OutputId, String)>, EngineError> {
        let links: Vec<Link> = laid.links.iter().map(|(_, link)| link.clone()).collect();
        let spoilt = self.memo.spoilt(&links)?;
        let of = |(_, link): &&(OutputId, Link)| spoilt.contains(&link.digest);
        let what = "its bytes changed while a step had them";
        Ok(laid.links.iter().find(of).map(|(output, _)| (*output, what.to_owned())))
    }
}

fn given_file(file: &source::MeasuredFile) -> GivenFile {
    let what = match &file.what {
        MeasuredWhat::File { executable, .. } => GivenWhat::File { executable: *executable },
        MeasuredWhat::Link(target) => GivenWhat::Link(target.clone()),
        MeasuredWhat::Folder => GivenWhat::Folder,
    };
    GivenFile { to: file.path.clone(), from: file.from.clone(), what }
}

fn unmeasured(name: &str) -> Failure {
    Failure { cause: Cause::Input, message: format!("its input `{name}` was not measured"), hint: None }
}

/// What was found of bytes that could not be had, in words for people.
pub(super) fn lost(error: &StoreError) -> String {
    match error {
        StoreError::Damaged { what, .. } => format!("its bytes are damaged ({what})"),
        _ => "its bytes are not in the store".to_owned(),
    }
}

pub(super) fn make_folder(path: &Path) -> Result<(), EngineError> {
    fs::create_dir_all(path).map_err(|source| EngineError::Io {
        action: "make",
        path: path.to_owned(),
        source,
    })
}
