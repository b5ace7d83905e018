//! `cas versions`: the table of all step outputs, with version and status.

use std::collections::BTreeMap;

use cas_engine::graph::OutputId;
use cas_engine::memo::Status;
use cas_store::Create;
use serde::Serialize;

use super::{done, judgement, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::table::Table;
use crate::report::{json, words};
use crate::session::World;

/// Print the version and status of every step output
///
/// One row per output, in the order of the file, but a step after what it consumes. Runs no step. A version that
/// cannot be known before something above it runs is `-`.
///
/// The status is `stored`, `to-be-recomputed` (it will run), `not-needed` (its bytes are absent and nothing that is
/// wanted needs them) or `absent` (an optional output that was not produced, or a step below one).
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas versions -c maryland.yaml")]
pub(crate) struct VersionsArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Row {
    output: String,
    step: String,
    version: Option<String>,
    status: &'static str,
    may_be_unchanged: bool,
    accepted: Option<u64>,
    evicted_at: Option<String>,
    rebuild_ms: Option<u64>,
}

pub(crate) fn versions(world: &mut World, args: &VersionsArgs) -> Result<Code, Failure> {
    let session = world.session(&args.which, Create::Never)?;
    // The table says nothing of causes.
    let (plan, resolved) =
        if world.json() { session.whole_with_causes(world)? } else { session.whole(world)? };
    let graph = &plan.graph;
    let outputs = plan.steps.iter().flat_map(|step| {
        let outputs = graph.solid(*step).outputs.len();
        (0..outputs).map(|output| OutputId {
            step: *step,
            output: u16::try_from(output).expect("a solid has fewer than 65,536 outputs"),
        })
    });
    // What was evicted and is there again, because another result has the same bytes, is only stored.
    let evicted = |output: OutputId| {
        if resolved.status(output) == Status::Stored {
            return None;
        }
        let found = resolved.states[output.step.0 as usize].found.as_ref()?;
        let evicted = found.record.evicted.as_ref()?;
        Some((evicted, found.record.cost_ms))
    };
    let mut out = out();
    if world.json() {
        let accepted = session.memo.accepted(&plan, &resolved)?;
        let accepted: BTreeMap<_, _> =
            accepted.into_iter().map(|(step, judgement)| (step, judgement.id)).collect();
        let rows = outputs.map(|output| {
            let state = &resolved.states[output.step.0 as usize];
            let evicted = evicted(output);
            Row {
                output: graph.output_name(output),
                step: graph.step_name(output.step),
                version: plan.output_version(output).map(|version| version.to_string()),
                status: resolved.status(output).word(),
                may_be_unchanged: state.may_be_unchanged,
                accepted: accepted.get(&output.step).copied(),
                evicted_at: evicted.and_then(|(evicted, _)| words::moment_utc(evicted.at_ms)),
                rebuild_ms: evicted.map(|(_, cost)| cost),
            }
        });
        json::document(&mut out, "versions", rows)?;
        return done(out);
    }
    let mut table = Table::new(["Step Output", "Version", "Status of Output"]).at_least(1, 64);
    let mut notes = Vec::new();
    for output in outputs {
        let name = graph.output_name(output);
        if let Some((evicted, cost)) = evicted(output) {
            notes.push(format!(
                "{name}: evicted on {}, {} to rebuild",
                words::moment(evicted.at_ms),
                words::duration_ms(cost)
            ));
        }
        let version =
            plan.output_version(output).map_or_else(|| "-".to_owned(), |version| version.to_string());
        table.row([name, version, resolved.status(output).word().to_owned()]);
    }
    notes.extend(judgement::notes(&session.memo, &plan, &resolved)?);
    table.write_ruled(&mut out)?;
    let code = done(out)?;
    for note in notes {
        world.tell(note);
    }
    Ok(code)
}
