//! `cas ls`: what is stored.

use std::collections::BTreeSet;

use cas_engine::memo::Memo;
use cas_engine::origin::Origins;
use cas_engine::version::output_version;
use cas_store::{Found, Kind, Said, Store, Trace};
use serde::Serialize;

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::table::Table;
use crate::report::{json, words};
use crate::session::World;

/// List what is stored
///
/// The results of this pipeline's steps, newest first, one output a line; also those of versions that it no longer
/// has. What was evicted is listed as long as its record is kept.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas ls
  $ cas ls --all --format json")]
pub(crate) struct LsArgs {
    /// List the results of every pipeline that uses the store
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Row {
    pipeline: String,
    step: String,
    output: String,
    version: Option<String>,
    digest: Option<String>,
    kind: Option<&'static str>,
    bytes: Option<u64>,
    state: &'static str,
    accepted: Option<u64>,
    deterministic: bool,
    made_at: Option<String>,
    cost_ms: u64,
    /// The run that made it was one of another store.
    imported: bool,
    #[serde(skip)]
    made_ms: u64,
}

/// How many earlier results of one step are looked for.
const HISTORY: usize = 1000;

pub(crate) fn ls(world: &mut World, args: &LsArgs) -> Result<Code, Failure> {
    let (pipeline, store) = if args.all {
        (None, world.store_to_read(&args.which)?.1)
    } else {
        let Some(definition) = world.definition(&args.which)? else {
            return Err(Failure::usage("there is no pipeline here or in a folder above")
                .hint("--all lists the results of every pipeline that uses a store"));
        };
        let choice = world.choice(&args.which, Some(&definition))?;
        let store = world.open_to_read(&choice, &args.which, Some(&definition))?;
        (Some(definition.pipeline.name.clone()), store)
    };
    let mut rows = match &store {
        Some(store) => rows(store, pipeline.as_deref())?,
        None => Vec::new(),
    };
    rows.sort_by(|a, b| {
        b.made_ms.cmp(&a.made_ms).then_with(|| (&a.step, &a.output).cmp(&(&b.step, &b.output)))
    });
    let mut out = out();
    if world.json() {
        json::document(&mut out, "ls", rows)?;
        return done(out);
    }
    if rows.is_empty() {
        world.tell("nothing is stored");
        return done(out);
    }
    let mut table = Table::new(["VERSION", "STEP OUTPUT", "SIZE", "MADE", "TOOK"]);
    for row in rows {
        let version = row.version.as_deref().map_or("-", |version| &version[..12]).to_owned();
        let name = match (&pipeline, row.output.is_empty()) {
            (Some(_), true) => row.step,
            (Some(_), false) => format!("{}.{}", row.step, row.output),
            (None, true) => format!("{}/{}", row.pipeline, row.step),
            (None, false) => format!("{}/{}.{}", row.pipeline, row.step, row.output),
        };
        let name = if row.accepted.is_some() { format!("{name} (accepted)") } else { name };
        let name = if row.imported { format!("{name} (imported)") } else { name };
        let name = if row.deterministic { name } else { format!("{name} (not deterministic)") };
        let size = match (row.state, row.bytes) {
            ("stored", Some(bytes)) => words::size(bytes),
            (state, _) => state.to_owned(),
        };
        table.row([version, name, size, words::moment(row.made_ms), words::duration_ms(row.cost_ms)]);
    }
    table.write_wrapped(&mut out, words::columns())?;
    done(out)
}

fn rows(store: &Store, pipeline: Option<&str>) -> Result<Vec<Row>, Failure> {
    let mut labels = Vec::new();
    store.labels(&mut |moment| {
        labels.push(moment.label);
        true
    })?;
    let mut rows = Vec::new();
    let memo = Memo::new(store.clone());
    let mut origins = Origins::new(&memo);
    let any_said = store
        .judgements()?
        .iter()
        .any(|judgement| judgement.revoked.is_none() || judgement.said == Said::Accept);
    for label in labels {
        let Some((of, step)) = label.split_once('/') else { continue };
        if pipeline.is_some_and(|pipeline| pipeline != of) {
            continue;
        }
        let moments = store.history(&label, HISTORY)?;
        let traces: Vec<Trace> =
            moments.iter().map(|moment| moment.trace).collect::<BTreeSet<_>>().into_iter().collect();
        if any_said {
            for judged in store.judged(&traces)? {
                if let Some(found) = &judged.found {
                    let said = Marks {
                        forgotten: judged.forgotten().is_some(),
                        accepted: judged.accepted().map(|judgement| judgement.id),
                    };
                    push(&mut rows, &memo, &mut origins, (of, step), found, &said)?;
                }
            }
            continue;
        }
        for found in store.results(&traces)?.into_iter().flatten() {
            push(&mut rows, &memo, &mut origins, (of, step), &found, &Marks::default())?;
        }
    }
    Ok(rows)
}

/// What was said of a result.
#[derive(Default)]
struct Marks {
    forgotten: bool,
    accepted: Option<u64>,
}

fn push(
    rows: &mut Vec<Row>,
    memo: &Memo,
    origins: &mut Origins<'_>,
    (pipeline, step): (&str, &str),
    found: &Found,
    said: &Marks,
) -> Result<(), Failure> {
    let made = memo.provenance(&found.trace)?;
    let imported = made.as_ref().map_or(Ok(false), |made| origins.is_elsewhere(made))?;
    let version = made.map(|made| made.version);
    let record = &found.record;
    let deterministic = memo.is_deterministic(&found.trace, version.as_ref())?;
    let row = |output: &str, artifact: Option<&cas_store::Artifact>, present: bool| Row {
        pipeline: pipeline.to_owned(),
        step: step.to_owned(),
        output: output.to_owned(),
        version: version.map(|version| {
            if output.is_empty() { version.to_string() } else { output_version(&version, output).to_string() }
        }),
        digest: artifact.map(|artifact| artifact.digest.to_string()),
        kind: artifact.map(|artifact| match artifact.kind {
            Kind::File { .. } => "file",
            Kind::Tree => "folder",
        }),
        bytes: artifact.map(|artifact| artifact.len),
        accepted: said.accepted,
        deterministic,
        state: match (artifact, present, &record.evicted) {
            _ if said.forgotten => "forgotten",
            (None, ..) if !output.is_empty() => "absent",
            (_, true, _) => "stored",
            (_, false, Some(_)) => "evicted",
            (_, false, None) => "gone",
        },
        made_at: words::moment_utc(record.made_ms),
        cost_ms: record.cost_ms,
        imported,
        made_ms: record.made_ms,
    };
    if record.outputs.is_empty() {
        rows.push(row("", None, true));
    }
    for (index, output) in record.outputs.iter().enumerate() {
        rows.push(row(&output.name, output.artifact.as_ref(), found.present.get(index) == Some(&true)));
    }
    Ok(())
}
