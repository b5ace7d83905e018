//! Where a command takes a version: a step output by its name in the pipeline, else a unique prefix of its hex. A name
//! of the pipeline wins.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cas_engine::frozen::Frozen;
use cas_engine::graph::OutputId;
use cas_engine::memo::{self, Memo, Resolved, Wanted};
use cas_engine::origin::Origins;
use cas_engine::plan::Plan;
use cas_engine::resolve::Why;
use cas_engine::run::now_ms;
use cas_engine::version::output_version;
use cas_store::{Artifact, Create, Digest, Found, Judged, Store, Take, Trace, Version};

use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::given_file;
use crate::session::{Choice, Definition, Session, World};

/// Something that was named.
pub(crate) struct Item {
    /// `emit_dog.result`, or the hex of a version that the pipeline does not name.
    pub(crate) name: String,
    /// Its version, where that is known.
    pub(crate) version: Option<Version>,
    /// The step and the output in the pipeline, where it was named by these.
    pub(crate) output: Option<OutputId>,
    /// The name of the output among those of its step.
    pub(crate) output_name: Option<String>,
    /// The result that it belongs to, if one is on record.
    pub(crate) found: Option<Found>,
    /// What was said of it, also where it counts as absent because of that.
    pub(crate) judged: Option<Judged>,
    /// Its content, if it is on record (whether its bytes are there is `present`'s business).
    pub(crate) artifact: Option<Artifact>,
    /// Whether its bytes are in the store.
    pub(crate) present: bool,
    /// Its version is not known before a run: it is what the last one left.
    pub(crate) as_left: bool,
}

/// Where names are looked for: the pipeline, if there is one, and the store.
pub(crate) struct Ground {
    pub(crate) session: Option<Session>,
    /// `None` where there is no store yet.
    pub(crate) store: Option<Store>,
}

/// What was named.
pub(crate) struct Addressed {
    /// The plan that names of the pipeline were looked up in.
    pub(crate) plan: Option<(Plan, Resolved)>,
    /// In the order in which they were named.
    pub(crate) items: Vec<Item>,
}

/// A name as it was understood.
enum Name {
    Outputs(Vec<OutputId>),
    Rows(Vec<Version>),
    Path(PathBuf),
}

/// Whether a name that is nothing else may be the path of a file, and mean what has its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    Too,
    No,
}

impl Ground {
    /// Reads the pipeline, if there is one, and opens the store, if there is one.
    ///
    /// # Errors
    /// The pipeline is wrong, or there is neither pipeline nor store.
    pub(crate) fn new(world: &mut World, which: &Which) -> Result<Self, Failure> {
        match world.definition(which)? {
            Some(definition) => Self::of_pipeline(world, which, definition),
            None => {
                let choice = world.choice(which, None)?;
                Self::of_store(world, which, &choice)
            }
        }
    }

    fn of_pipeline(world: &mut World, which: &Which, definition: Definition) -> Result<Self, Failure> {
        let mut session = world.session_of(definition, which, Create::Never)?;
        // A list that every run makes anew has the elements that it had last.
        session.name_elements_as_left(world);
        let store = session.store().cloned();
        Ok(Self { session: Some(session), store })
    }

    fn of_store(world: &World, which: &Which, choice: &Choice) -> Result<Self, Failure> {
        let store = world.open_to_read(choice, which, None)?;
        Ok(Self { session: None, store })
    }

    /// As [`Ground::new`], for names that may also be paths of files: where all of them are (or the hex of versions),
    /// and none is a name of the pipeline, they are looked up in the store alone if the pipeline cannot be planned.
    ///
    /// # Errors
    /// As there, where that store is not known, or a name needs the pipeline.
    pub(crate) fn of_names(world: &mut World, which: &Which, names: &[String]) -> Result<Self, Failure> {
        let definition = world.definition(which);
        // Said outside of the pipeline, the store is known although the file cannot be read.
        let choice = world.choice(which, definition.as_ref().ok().and_then(Option::as_ref));
        let steps: Vec<String> = match &definition {
            Ok(Some(definition)) => {
                definition.pipeline.invocations.iter().map(|one| one.name.clone()).collect()
            }
            Ok(None) | Err(_) => Vec::new(),
        };
        let Some(definition) = definition.transpose() else { return Self::of_store(world, which, &choice?) };
        let ground = definition.and_then(|definition| Self::of_pipeline(world, which, definition));
        let without = |name: &String| {
            let step = name.split(['.', '[', '@']).next().unwrap_or_default();
            !steps.iter().any(|known| known == step) && (is_there(name) || is_hex(name))
        };
        match (ground, choice) {
            (Err(failure), Ok(choice)) if failure.code == Code::Usage && names.iter().all(without) => {
                world.warn(format_args!(
                    "the pipeline is not looked at: {}",
                    failure.problems.first().map_or("", |problem| problem.message.as_str())
                ));
                Self::of_store(world, which, &choice)
            }
            (ground, _) => ground,
        }
    }

    /// The store.
    ///
    /// # Errors
    /// There is none: nothing is stored.
    pub(crate) fn store(&self) -> Result<&Store, Failure> {
        self.store.as_ref().ok_or_else(|| Failure::missing("there is no store: nothing is stored"))
    }

    /// Whether a name is one: of a step, an output or a version that is stored.
    pub(crate) fn knows(&self, name: &str) -> bool {
        understand(self.session.as_ref(), self.store.as_ref(), name).is_ok()
    }

    /// Finds what the names mean, and what is stored of it.
    ///
    /// # Errors
    /// A name that nothing has, or that several versions have.
    pub(crate) fn find(&self, world: &World, names: &[String]) -> Result<Addressed, Failure> {
        self.find_among(world, names, Files::No)
    }

    /// As [`Ground::find`], but a name may also be the path of a file or folder: it means what has its content.
    ///
    /// # Errors
    /// As there, and where nothing has the content of a file.
    pub(crate) fn find_or_file(&self, world: &World, names: &[String]) -> Result<Addressed, Failure> {
        self.find_among(world, names, Files::Too)
    }

    /// The digest of what lies at a path, where a name is no other, and whether something on record made that content: else it
    /// came from outside.
    ///
    /// # Errors
    /// It cannot be read, or the store cannot.
    pub(crate) fn source(&self, name: &str) -> Result<Option<(Digest, bool)>, Failure> {
        let Some(store) = &self.store else { return Ok(None) };
        if !is_there(name) || understand(self.session.as_ref(), Some(store), name).is_ok() {
            return Ok(None);
        }
        let digest = digest_of(store, Path::new(name))?;
        Ok(Some((digest, !store.makers(&digest, 1)?.is_empty())))
    }

    fn find_among(&self, world: &World, names: &[String], files: Files) -> Result<Addressed, Failure> {
        let mut understood = Vec::new();
        for name in names {
            understood.push(match understand(self.session.as_ref(), self.store.as_ref(), name) {
                Err(_) if files == Files::Too && is_there(name) => Name::Path(Path::new(name).to_owned()),
                Err(unknown) if files == Files::Too && name.contains('/') && !name.contains('[') => {
                    return Err(unknown.note("and there is no such file"));
                }
                understood => understood?,
            });
        }
        let wanted = understood.iter().flat_map(|name| match name {
            Name::Outputs(outputs) => outputs.as_slice(),
            Name::Rows(_) | Name::Path(_) => &[],
        });
        let mut steps: Vec<_> = wanted.map(|output| output.step).collect();
        steps.sort_unstable();
        steps.dedup();
        let plan = match &self.session {
            // Only what was named is measured: a version given in hex needs no pipeline that holds.
            Some(session) if !steps.is_empty() => {
                let plan = session.plan(world, session.graph.closure(&steps))?;
                let resolved = session.memo.resolve(
                    &plan,
                    &Wanted { steps, at_ms: now_ms(), frozen: session.frozen, ..Wanted::default() },
                )?;
                Some((plan, resolved))
            }
            Some(_) | None => None,
        };
        // What is below something that every run makes anew is what was made of that as it was left last; what gathers
        // without what failed is what was made without that.
        let unknown = |output: &OutputId, resolved: &Resolved| {
            let state = &resolved.states[output.step.0 as usize];
            state.found.is_none() && state.why == Some(Why::Inputs)
        };
        let as_left = match (&self.session, &plan) {
            (Some(session), Some((plan, resolved))) if !matches!(session.frozen, Frozen::Run(_)) => {
                let mut named = understood.iter().flat_map(|name| match name {
                    Name::Outputs(outputs) => outputs.as_slice(),
                    Name::Rows(_) | Name::Path(_) => &[],
                });
                let wanted = Wanted { at_ms: now_ms(), ..Wanted::default() };
                let any = named.any(|output| unknown(output, resolved));
                if any { Some(session.memo.resolve_as_left(plan, &wanted)?) } else { None }
            }
            _ => None,
        };
        let mut items = Vec::new();
        for name in understood {
            match (name, &plan) {
                (Name::Outputs(outputs), Some((plan, resolved))) => {
                    for output in outputs {
                        let as_left = as_left.as_ref().filter(|_| unknown(&output, resolved));
                        let resolved = as_left.unwrap_or(resolved);
                        let state = &resolved.states[output.step.0 as usize];
                        let trace = state.found.as_ref().map(|found| found.trace).or(state.trace);
                        let mut item = of_output(plan, resolved, output);
                        item.judged = self.judged(trace)?;
                        item.as_left = as_left.is_some();
                        items.push(item);
                    }
                }
                (Name::Rows(versions), _) => {
                    for version in versions {
                        items.push(of_row(self.store.as_ref(), version)?);
                    }
                }
                (Name::Path(path), _) => items.extend(of_path(self.store.as_ref(), &path)?),
                (Name::Outputs(_), None) => {}
            }
        }
        Ok(Addressed { plan, items })
    }

    fn judged(&self, trace: Option<Trace>) -> Result<Option<Judged>, Failure> {
        match (&self.store, trace) {
            (Some(store), Some(trace)) => Ok(store.judged(&[trace])?.pop()),
            _ => Ok(None),
        }
    }
}

/// What has the content of a file or folder that lies at a path, in any pipeline.
fn of_path(store: Option<&Store>, path: &Path) -> Result<Vec<Item>, Failure> {
    let shown = path.display();
    let store = store.ok_or_else(|| Failure::missing("there is no store: nothing is stored"))?;
    let digest = digest_of(store, path)?;
    let traces = store.makers(&digest, MAKERS)?;
    if traces.is_empty() {
        return Err(Failure::missing(format!("no result on record has the content of `{shown}`"))
            .because(format_args!("its digest is {digest}")));
    }
    let mut items = Vec::new();
    let mut told = BTreeSet::new();
    for (trace, judged) in originals_first(store, &traces)? {
        let Some(found) = judged.found.clone() else { continue };
        let made = store.provenance(&trace)?.as_deref().and_then(memo::provenance);
        // What runs keep of a result is not another one; what was accepted is.
        let origin = made.as_ref().map(|made| (made.maker(), made.version));
        if judged.accepted().is_none() && origin.is_some_and(|origin| !told.insert(origin)) {
            continue;
        }
        let named = |output: &cas_store::Output| {
            output.artifact.as_ref().is_some_and(|artifact| {
                artifact.digest == digest
                    || store.tree(&artifact.digest).is_ok_and(|tree| tree.files().contains(&digest))
            })
        };
        let Some(index) = found.record.outputs.iter().position(named) else { continue };
        let output = &found.record.outputs[index];
        items.push(Item {
            name: made.as_ref().map_or_else(
                || trace.to_string(),
                |made| format!("{}/{}.{}", made.pipeline, made.step, output.name),
            ),
            version: made.as_ref().map(|made| output_version(&made.version, &output.name)),
            output: None,
            output_name: Some(output.name.clone()),
            artifact: output.artifact.clone(),
            present: found.present.get(index) == Some(&true),
            found: Some(found),
            judged: Some(judged),
            as_left: false,
        });
    }
    Ok(items)
}

/// The digest of a file or folder.
fn digest_of(store: &Store, path: &Path) -> Result<Digest, Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("cannot read `{}`", path.display())).because(error)
    };
    if path.is_dir() {
        Ok(store.stage_tree(path, Take::Copy).map_err(|error| cannot(&error))?.digest())
    } else {
        given_file::open(path).and_then(Digest::of_reader).map_err(|error| cannot(&error))
    }
}

/// Whether something lies at a path.
fn is_there(name: &str) -> bool {
    Path::new(name).symlink_metadata().is_ok()
}

/// Whether a name may be the beginning of a version.
fn is_hex(name: &str) -> bool {
    (4..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The results of traces, those that rows name before those that none does: those are kept of others.
fn originals_first(store: &Store, traces: &[Trace]) -> Result<Vec<(Trace, Judged)>, Failure> {
    let mut named = Vec::new();
    let mut others = Vec::new();
    for (trace, judged) in traces.iter().zip(store.judged(traces)?) {
        let to = if store.rows_of(trace, 1)?.is_empty() { &mut others } else { &mut named };
        to.push((*trace, judged));
    }
    named.append(&mut others);
    Ok(named)
}

/// How many results with one content are told.
const MAKERS: usize = 100;

fn understand(session: Option<&Session>, store: Option<&Store>, name: &str) -> Result<Name, Failure> {
    let unknown = match session {
        Some(session) => match session.graph.select_outputs(name) {
            Ok(outputs) if !outputs.is_empty() => return Ok(Name::Outputs(outputs)),
            Ok(_) => Failure::usage(format!("`{name}` has no outputs")),
            Err(diagnostic) => Failure::from(diagnostic),
        },
        None => Failure::usage(format!("`{name}` is no version: give four digits of its hex or more"))
            .hint("names of steps need a pipeline: there is none here or in a folder above"),
    };
    let Some(store) = store.filter(|_| is_hex(name)) else { return Err(unknown) };
    let versions = store.with_prefix(&name.to_ascii_lowercase(), 3)?;
    match versions.as_slice() {
        [] => Err(if session.is_some() {
            unknown.because(format!("and no version that is stored begins with `{name}`"))
        } else {
            Failure::missing(format!("nothing is stored under a version that begins with `{name}`"))
        }),
        [version] => Ok(Name::Rows(vec![*version])),
        several => {
            let several: Vec<String> =
                several.iter().map(|v| v.to_string()[..16.min(name.len() + 8)].to_owned()).collect();
            Err(Failure::usage(format!("several versions begin with `{name}`"))
                .because(several.join(", "))
                .hint("give more digits"))
        }
    }
}

fn of_output(plan: &Plan, resolved: &Resolved, output: OutputId) -> Item {
    let found = resolved.states[output.step.0 as usize].found.clone();
    let declared = &plan.graph.solid(output.step).outputs[usize::from(output.output)];
    // By name: a result may be that of a solid which declares the same outputs in another order.
    let index = found
        .as_ref()
        .and_then(|found| found.record.outputs.iter().position(|recorded| recorded.name == declared.name));
    Item {
        name: plan.graph.output_name(output),
        version: plan.output_version(output).or_else(|| {
            let step = resolved.states[output.step.0 as usize].version?;
            Some(output_version(&step, &declared.name))
        }),
        output: Some(output),
        output_name: Some(declared.name.clone()),
        artifact: resolved.artifact(output).cloned(),
        present: found.as_ref().zip(index).is_some_and(|(found, index)| found.present[index]),
        judged: None,
        as_left: false,
        found,
    }
}

fn of_row(store: Option<&Store>, version: Version) -> Result<Item, Failure> {
    let mut item = Item {
        name: version.to_string(),
        version: Some(version),
        output: None,
        output_name: None,
        found: None,
        judged: None,
        artifact: None,
        present: false,
        as_left: false,
    };
    let Some(store) = store else { return Ok(item) };
    item.judged = store.judged_row(&version)?;
    let Some((index, found)) = store.row(&version)? else { return Ok(item) };
    let index = usize::from(index);
    if let Some(output) = found.record.outputs.get(index) {
        item.output_name = Some(output.name.clone());
        item.artifact = output.artifact.clone();
        item.present = found.present.get(index) == Some(&true);
    }
    item.found = Some(found);
    Ok(item)
}

impl Item {
    /// Says which run it is from, where its name alone does not say so.
    pub(crate) fn tell_origin(&self, world: &World, store: &Store) -> Result<(), Failure> {
        if let (true, Some(found)) = (self.as_left, &self.found)
            && let Some(made) = store.provenance(&found.trace)?.as_deref().and_then(memo::provenance)
        {
            let memo = Memo::new(store.clone());
            let of = if Origins::new(&memo).is_elsewhere(&made)? { " of another store" } else { "" };
            world.tell(format_args!(
                "`{}` as run {}{of} made it: the next run may make another",
                self.name, made.run
            ));
        }
        Ok(())
    }

    /// Its content and its store, for who needs the bytes.
    ///
    /// # Errors
    /// It is not stored: says what is known of it.
    pub(crate) fn stored(&self) -> Result<&Artifact, Failure> {
        let name = &self.name;
        if let (Some(artifact), true) = (&self.artifact, self.present) {
            return Ok(artifact);
        }
        if let (None, Some(judgement)) = (&self.found, self.judged.as_ref().and_then(Judged::forgotten)) {
            let trace = self.judged.as_ref().and_then(|judged| Some(judged.found.as_ref()?.trace));
            return Err(Failure::missing(format!("`{name}` counts as absent"))
                .because(cas_engine::judge::words(judgement, trace.unwrap_or(judgement.trace)))
                .hint(format!(
                    "`cas run` makes it again; `cas forget --undo {}` takes that back",
                    judgement.id
                )));
        }
        let Some(found) = &self.found else {
            return Err(Failure::missing(format!("`{name}` is not stored")).hint("`cas run` makes it"));
        };
        if self.artifact.is_none() {
            return Err(Failure::missing(format!("`{name}` was not produced: it is optional")));
        }
        Err(match &found.record.evicted {
            Some(evicted) => Failure::missing(format!(
                "`{name}` was evicted on {} ({})",
                crate::report::words::moment(evicted.at_ms),
                evicted.why
            )),
            None => Failure::missing(format!("the bytes of `{name}` are gone from the store")),
        }
        .hint(format!(
            "`cas run` makes it again; that took {}",
            crate::report::words::duration_ms(found.record.cost_ms)
        )))
    }
}
