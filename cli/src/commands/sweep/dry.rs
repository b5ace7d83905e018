//! `cas run -n --sweep`: says of each combination what would run, and foresees all of them together.
//!
//! Invariant: what is wrong with one combination keeps none of the others from being told, as in the sweep itself.

use std::collections::BTreeMap;
use std::io::Write;

use cas_engine::forecast::{Forecast, ToRun};
use cas_engine::schedule::Capacity;
use cas_store::Create;

use super::sessions::Sessions;
use super::wrong::Wrong;
use super::{Combination, run};
use crate::commands::run::{Dry, Nth, RunArgs};
use crate::commands::{done, is_unread, out, status};
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::{Definition, World};

/// Says it of all of them; `unfit` is what is wrong with those that the pipeline does not take.
pub(super) fn each(
    world: &World,
    args: &RunArgs,
    definition: &Definition,
    combinations: &[Combination],
    mut unfit: BTreeMap<usize, Failure>,
    create: Create,
) -> Result<Code, Failure> {
    let sessions = Sessions::new(world, &args.which, definition, create);
    let mut previews = Previews { world, args, sessions, capacity: None };
    let mut plans: Vec<Option<ToRun>> = Vec::new();
    let (mut wrong, mut worst) = (Wrong::default(), Code::Done);
    for (place, combination) in combinations.iter().enumerate() {
        match unfit.remove(&place).map_or_else(|| previews.of(combination), Err) {
            Ok(dry) => {
                let nth = Nth { number: place + 1, of: combinations.len(), name: &combination.name };
                dry.write(world, Some(&nth))?;
                plans.push(Some(dry.to_run));
            }
            Err(failure) if failure.code >= Code::Store => return Err(failure),
            Err(failure) => {
                worst = worst.max(failure.code);
                wrong.tell(world, combinations, place, &failure)?;
                plans.push(None);
            }
        }
        // It need not be found out for nobody.
        if is_unread() {
            return Ok(worst);
        }
    }
    wrong.tell_same(world, combinations);
    let of_each: Vec<_> = combinations
        .iter()
        .zip(&plans)
        .map(|(combination, plan)| {
            serde_json::json!({"combination": combination.name, "steps": plan.as_ref().map(ToRun::steps)})
        })
        .collect();
    let plans: Vec<ToRun> = plans.into_iter().flatten().collect();
    let forecast = previews.capacity.map(|capacity| Forecast::of(&plans, &capacity, run::jobs(args)));
    let mut out = out();
    if world.json() {
        let forecast = forecast.as_ref().map(status::forecast_json);
        json::document_with(&mut out, "sweep", of_each, &[("forecast", forecast.into())])?;
    } else if let Some(forecast) = forecast.filter(|_| combinations.len() > 1) {
        let each: usize = plans.iter().map(ToRun::steps).sum();
        let line = together(combinations.len(), wrong.count(), each, &forecast);
        writeln!(out, "{}", words::wrapped(&line, 2, words::columns()))?;
    }
    done(out)?;
    Ok(worst)
}

/// What all of them are together: `4 combinations: 5 steps to run, what they share once; about 3 min with -j 2`. `each` is
/// how many steps there would be if each combination were alone.
fn together(combinations: usize, wrong: usize, each: usize, forecast: &Forecast) -> String {
    let mut line = words::count(combinations, "combination");
    if wrong > 0 {
        line += &format!(" ({} cannot be run)", words::thousands(wrong));
    }
    if forecast.steps == 0 {
        return line + ": nothing to run";
    }
    line += &format!(": {} to run", words::count(forecast.steps, "step"));
    if each > forecast.steps {
        line += ", what they share once";
    }
    line + "; " + &status::forecast_line(forecast)
}

/// Looks at one combination after the other.
struct Previews<'a> {
    world: &'a World,
    args: &'a RunArgs,
    sessions: Sessions<'a>,
    /// What there is for all of them: as in the sweep, what the first one has.
    capacity: Option<Capacity>,
}

impl Previews<'_> {
    fn of(&mut self, combination: &Combination) -> Result<Dry, Failure> {
        let (world, args) = (self.world, self.args);
        let session = self.sessions.of(combination)?;
        self.sessions.keep(&session);
        let planned = run::planned(world, args, &session)?;
        let wanted = run::wanted(world, args, &session, &planned)?;
        let dry = run::dry(world, args, &session, &planned.plan, &wanted)?;
        self.capacity.get_or_insert_with(|| session.memo.limits(run::own(args)).capacity);
        Ok(dry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_are_told_in_a_line() {
        let check = |wrong: usize, each: usize, steps: usize, expected: &str| {
            let forecast = Forecast {
                steps,
                jobs: 2,
                elapsed_ms: Some(4_931),
                at_least_ms: Some(4_931),
                work_ms: Some(4_931),
                known: steps,
                alike: 0,
                unknown: 0,
                may_be_unchanged: 0,
                by_last_list: 0,
            };
            assert_eq!(together(4, wrong, each, &forecast), expected);
        };
        check(0, 0, 0, "4 combinations: nothing to run");
        check(0, 4, 4, "4 combinations: 4 steps to run; about 4.9 s with -j 2");
        check(
            1,
            6,
            4,
            "4 combinations (1 cannot be run): 4 steps to run, what they share once; about 4.9 s with -j 2",
        );
    }
}
