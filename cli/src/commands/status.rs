//! `cas status`: counts, then each step that would run with its first cause.

use std::collections::BTreeMap;
use std::io::Write;

use cas_engine::Past;
use cas_engine::forecast::{Durations, Forecast, Known};
use cas_engine::lack::Lack;
use cas_engine::memo::{Memo, Resolved, Status};
use cas_engine::plan::Plan;
use cas_engine::secrets;
use cas_store::Create;
use serde::Serialize;

use super::{done, judgement, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{elements, json, words};
use crate::session::World;

/// Show what would run, and why
///
/// First how many steps there are in which state, then each step that `cas run` would run, with the first cause; elements of
/// a step that have the same, together; with -v, each. Nothing is run.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas status
  3 steps: 1 stored, 2 to-be-recomputed
  emit_tree      config.tree_species: douglas_fir → red_maple
  emit_sentence  below emit_tree
  $ cas status --exit-code || cas run")]
pub(crate) struct StatusArgs {
    /// End with 1 if anything would run
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    which: Which,
}

/// A step that would run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ToRun {
    step: String,
    status: &'static str,
    why: Option<String>,
    may_be_unchanged: bool,
    /// The limit that it uses and this run was told to have none of: then it fails unless it turns out unchanged.
    lacks: Option<String>,
    /// How much of which.
    #[serde(skip)]
    used: Option<String>,
    /// How long it will take, as far as that is known, and from what it is.
    expected_ms: Option<u64>,
    expected_from: &'static str,
    /// How many elements its step has, whether they would run or not.
    #[serde(skip)]
    elements: usize,
}

/// How many steps are in which state, in this order.
pub(crate) type Counts = [(Status, usize); 4];

pub(crate) fn status(world: &mut World, args: &StatusArgs) -> Result<Code, Failure> {
    let session = world.session(&args.which, Create::Never)?;
    let (plan, resolved) = session.whole_with_causes(world)?;
    warn_of_secrets(world, &plan, &resolved);
    let mut out = out();
    let counts = counts(&plan, &resolved);
    let past = session.memo.past_of(&plan, &resolved.states)?;
    let rows = to_run(&session.memo, &plan, &resolved, &past, &BTreeMap::new())?;
    write(world, &mut out, "status", &counts, &rows, None, None)?;
    done(out)?;
    for note in judgement::notes(&session.memo, &plan, &resolved)? {
        world.tell(note);
    }
    Ok(if args.exit_code && resolved.states.iter().any(|state| state.to_run) {
        Code::Failed
    } else {
        Code::Done
    })
}

/// Says which secrets are not set that the steps which would run need.
pub(crate) fn warn_of_secrets(world: &World, plan: &Plan, resolved: &Resolved) {
    for missing in secrets::unset(plan, resolved, &world.environment) {
        world.warn(format_args!("{missing}"));
    }
}

/// The steps that would run, with their first causes, in a run that was told this of its limits.
pub(crate) fn to_run(
    memo: &Memo,
    plan: &Plan,
    resolved: &Resolved,
    past: &Past,
    limits: &BTreeMap<String, u32>,
) -> Result<Vec<ToRun>, Failure> {
    let durations = Durations::of(plan, &resolved.states, past);
    let mut elements = vec![0; plan.graph.pipeline.invocations.len()];
    plan.steps.iter().for_each(|step| elements[plan.graph.steps[step.0 as usize].invocation as usize] += 1);
    let mut steps = Vec::new();
    for &step in plan.steps.iter().filter(|step| resolved.states[step.0 as usize].to_run) {
        let cause = memo.why(plan, resolved, past, step)?;
        let lack = Lack::of(&plan.graph.solid(step).policy, limits);
        steps.push(ToRun {
            step: plan.graph.step_name(step),
            status: Status::ToBeRecomputed.word(),
            may_be_unchanged: cause.as_ref().is_some_and(|cause| cause.may_be_unchanged),
            why: cause.map(|cause| cause.words),
            used: lack.as_ref().map(Lack::used),
            lacks: lack.map(|lack| lack.name),
            expected_ms: durations.get(step).map(|(took, _)| took),
            elements: elements[plan.graph.steps[step.0 as usize].invocation as usize],
            expected_from: durations.get(step).map_or(Known::Not, |(_, known)| known).word(),
        });
    }
    Ok(steps)
}

/// A line that is told of a step, or of several elements of one for which it is the same.
struct Row {
    step: String,
    why: String,
}

/// What is told of each step that would run; of elements of one step that would run for one cause, once, but where each is
/// wanted.
fn rows(steps: &[ToRun], each: bool) -> Vec<Row> {
    let why = |step: &ToRun| {
        let may = match &step.used {
            Some(used) => {
                format!(" (fails unless it turns out unchanged: it uses {used}, and there is none)")
            }
            None if step.may_be_unchanged => " (may turn out unchanged)".to_owned(),
            None => String::new(),
        };
        format!("{}{may}", step.why.as_deref().unwrap_or("new"))
    };
    let of_any = |step: &ToRun| elements::of_any(&step.step, &why(step)).into_owned();
    let groups = elements::grouped(steps, |step| &step.step, |step| (!each).then(|| of_any(step)));
    let row = |group: Vec<&ToRun>| {
        let first = *group.first()?;
        Some(match (group.len(), elements::parts(&first.step)) {
            (2.., Some((base, _))) => {
                Row { step: elements::some_of(base, group.len(), first.elements), why: of_any(first) }
            }
            _ => Row { step: first.step.clone(), why: why(first) },
        })
    };
    groups.into_iter().filter_map(row).collect()
}

/// How many steps are in which state.
pub(crate) fn counts(plan: &Plan, resolved: &Resolved) -> Counts {
    let mut counts =
        [Status::Stored, Status::ToBeRecomputed, Status::NotNeeded, Status::Absent].map(|status| (status, 0));
    for step in &plan.steps {
        let status = resolved.step_status(*step);
        for (counted, count) in &mut counts {
            *count += usize::from(*counted == status);
        }
    }
    counts
}

/// Writes counts and steps, as text or as the document of `command`; of a sweep, those of this combination.
pub(crate) fn write(
    world: &World,
    out: &mut dyn Write,
    command: &str,
    counts: &Counts,
    steps: &[ToRun],
    forecast: Option<&Forecast>,
    combination: Option<&str>,
) -> Result<(), Failure> {
    if world.json() {
        let by_word: serde_json::Map<String, serde_json::Value> =
            counts.iter().map(|(status, count)| (status.word().to_owned(), (*count).into())).collect();
        let mut more = vec![("counts", by_word.into())];
        more.extend(forecast.map(|forecast| ("forecast", forecast_json(forecast))));
        more.extend(combination.map(|combination| ("combination", combination.into())));
        json::document_with(out, command, steps, &more)?;
        return Ok(());
    }
    let all: usize = counts.iter().map(|(_, count)| count).sum();
    let parts: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(status, count)| format!("{} {}", words::thousands(*count), status.word()))
        .collect();
    writeln!(out, "{}: {}", words::count(all, "step"), parts.join(", "))?;
    if steps.is_empty() {
        writeln!(out, "nothing to run")?;
    }
    let rows = rows(steps, world.common.verbose);
    // Long names of a few elements do not push the causes of all others off the screen.
    let width = rows.iter().map(|row| row.step.len()).filter(|len| *len <= 40).max().unwrap_or(0);
    for Row { step, why } in rows {
        writeln!(out, "{}", words::wrapped(&format!("{step:width$}  {why}"), width + 2, words::columns()))?;
    }
    if let Some(forecast) = forecast.filter(|forecast| forecast.steps > 0) {
        writeln!(out, "{}", words::wrapped(&forecast_line(forecast), 2, words::columns()))?;
    }
    Ok(())
}

/// How long it will take, and how sure that is: `about 2 min with -j 4; of 1 of 3 it is not known`.
pub(super) fn forecast_line(forecast: &Forecast) -> String {
    let Forecast { steps, jobs, alike, unknown, may_be_unchanged, by_last_list, .. } = forecast;
    let counted = match by_last_list {
        0 => String::new(),
        counted => format!("; {} counted by the last list", words::count(*counted, "element")),
    };
    let (Some(elapsed), Some(least)) = (forecast.elapsed_ms, forecast.at_least_ms) else {
        return format!("how long it takes is not known: nothing of it ran before{counted}");
    };
    let mut line = format!("about {} with -j {jobs}", words::duration_ms(elapsed));
    let at_least = words::duration_ms(least);
    // The same words twice say nothing.
    if *may_be_unchanged > 0 && least < elapsed && at_least != words::duration_ms(elapsed) {
        let which = match *may_be_unchanged {
            1 => "the step that may turn out unchanged does".to_owned(),
            several => format!("the {} steps that may turn out unchanged do", words::thousands(several)),
        };
        line += &format!(", or {at_least} if {which}");
    }
    if *alike > 0 {
        line += &format!("; {} taken from other elements", words::count(*alike, "step"));
    }
    if *unknown > 0 {
        line += &format!(
            "; {} of {steps} never ran, and counts as the middle of the rest",
            words::thousands(*unknown)
        );
    }
    line + &counted
}

pub(super) fn forecast_json(forecast: &Forecast) -> serde_json::Value {
    serde_json::json!({
        "steps": forecast.steps, "jobs": forecast.jobs, "elapsed_ms": forecast.elapsed_ms,
        "at_least_ms": forecast.at_least_ms, "work_ms": forecast.work_ms, "known": forecast.known,
        "alike": forecast.alike, "unknown": forecast.unknown, "may_be_unchanged": forecast.may_be_unchanged,
        "by_last_list": forecast.by_last_list,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_says_what_unchanged_steps_would_spare_where_that_is_another_number() {
        let check = |least: u64, may_be_unchanged: usize, expected: &str| {
            let forecast = Forecast {
                steps: 9,
                jobs: 2,
                elapsed_ms: Some(4_931),
                at_least_ms: Some(least),
                work_ms: Some(4_931),
                known: 9,
                alike: 0,
                unknown: 0,
                may_be_unchanged,
                by_last_list: 0,
            };
            assert_eq!(forecast_line(&forecast), expected);
        };
        check(4_929, 1, "about 4.9 s with -j 2");
        check(2_000, 1, "about 4.9 s with -j 2, or 2.0 s if the step that may turn out unchanged does");
        check(2_000, 3, "about 4.9 s with -j 2, or 2.0 s if the 3 steps that may turn out unchanged do");
        check(4_931, 0, "about 4.9 s with -j 2");
    }
}
