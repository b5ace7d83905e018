//! `cas forget`, `accept`: what somebody says of a result, and what is taken back of it.

use std::io::Write;

use cas_engine::graph::StepId;
use cas_engine::judge::Accepted;
use cas_engine::memo::{self, Memo, Resolved, Wanted};
use cas_engine::plan::Plan;
use cas_engine::run::now_ms;
use cas_store::{Create, Judgement, Said, Saying, Store};
use serde::Serialize;

use super::{done, out};
use crate::address::Ground;
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::table::Table;
use crate::report::{json, words};
use crate::session::{Session, World};

/// Let a wrong result, and what was made from it, count as absent
///
/// The result that STEP has now, and everything that was made from it in any pipeline that uses the store, is not
/// used any longer. `cas run` makes it again. It stays on record with who forgot it, when and why, until it is
/// collected; `--undo` takes it back.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas forget train --reason 'the disk of lab3 was failing'
  $ cas forget --list
  $ cas forget --undo train")]
pub(crate) struct ForgetArgs {
    /// Forget the results of these (to --undo, a judgement's number does too)
    #[arg(value_name = "STEP", required_unless_present = "list")]
    steps: Vec<String>,
    #[command(flatten)]
    how: How,
}

/// Let an earlier result answer for code that changed
///
/// For a STEP that would run only because its code, command or resources changed: its newest result from the same
/// inputs and config is its result now, as if it had run. Everything below goes on with that. Who accepted it, when
/// and why is shown wherever it is used, until the step runs; `--undo` takes it back.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas accept clean --reason 'only a comment changed'
  $ cas accept '*' --reason 'formatted the scripts'
  $ cas accept --undo clean")]
pub(crate) struct AcceptArgs {
    /// Accept earlier results of these (to --undo, a judgement's number does too)
    #[arg(value_name = "STEP", required_unless_present = "list")]
    steps: Vec<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct How {
    /// Say why
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["undo", "list"])]
    reason: Option<String>,
    /// Take it back
    #[arg(long, conflicts_with = "list")]
    undo: bool,
    /// List what was said, also what was taken back
    #[arg(long, conflicts_with_all = ["reason", "steps"])]
    list: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Row {
    judgement: u64,
    said: &'static str,
    step: String,
    by: String,
    at: Option<String>,
    reason: String,
    trace: String,
    answered_by: Option<String>,
    reached: u64,
    revoked_by: Option<String>,
    revoked_at: Option<String>,
    revoked_reason: Option<String>,
}

pub(crate) fn forget(world: &mut World, args: &ForgetArgs) -> Result<Code, Failure> {
    if args.how.list || args.how.undo {
        return said_before(world, Said::Forget, &args.steps, &args.how);
    }
    let saying = saying(world, &args.how)?;
    let ground = Ground::new(world, &args.how.which)?;
    let store = ground.store()?.clone();
    let mut judgements = Vec::new();
    for name in &args.steps {
        let steps = ground.session.as_ref().and_then(|session| session.graph.select(name).ok());
        let Some((session, steps)) = ground.session.as_ref().zip(steps) else {
            judgements.push(forget_version(world, &ground, &store, name, &saying)?);
            continue;
        };
        // Each is looked at again: forgetting one may have reached the next.
        let (plan, resolved) = planned(world, session, &steps)?;
        let mut some = false;
        let mut reached_before = false;
        for &step in &steps {
            if let Some(judgement) = session.memo.forget(&plan, &resolved, step, &saying)? {
                judgements.push(judgement);
                some = true;
            } else {
                reached_before |= resolved.states[step.0 as usize].found.is_some();
            }
        }
        if !some && !reached_before {
            let already = session.memo.forgotten(&plan, &resolved)?;
            let already = already.into_iter().find(|(step, _)| steps.contains(step));
            return Err(match already {
                Some((_, judgement)) => Failure::missing(format!("`{name}` is forgotten already"))
                    .because(format_args!("judgement {}: {}", judgement.id, judgement.saying.reason)),
                None => Failure::missing(format!("`{name}` is not stored: there is nothing to forget")),
            });
        }
    }
    answer(world, "forget", judgements, &|judgement| {
        let others = match judgement.reached {
            0 | 1 => String::new(),
            more => format!(
                " and {} made from it",
                words::count(usize::try_from(more - 1).unwrap_or(usize::MAX), "result")
            ),
        };
        format!("forgot {}{others} (judgement {})", step_of(judgement), judgement.id)
    })
}

/// Forgets the result of a version that is given by its hex.
fn forget_version(
    world: &World,
    ground: &Ground,
    store: &Store,
    name: &str,
    saying: &Saying,
) -> Result<Judgement, Failure> {
    let item = ground.find(world, &[name.to_owned()])?.items.pop();
    let item = item.ok_or_else(|| Failure::missing(format!("`{name}` is not stored")))?;
    let Some(found) = &item.found else {
        item.stored()?;
        return Err(Failure::missing(format!("`{name}` is not stored")));
    };
    let memo = Memo::new(store.clone());
    let made = memo.provenance(&found.trace)?;
    let label = made.map_or_else(|| item.name.clone(), |made| memo::label(&made.pipeline, &made.step));
    let judgement = memo.forget_result(found, &label, saying)?;
    judgement.ok_or_else(|| Failure::missing(format!("`{name}` is not stored any longer")))
}

pub(crate) fn accept(world: &mut World, args: &AcceptArgs) -> Result<Code, Failure> {
    if args.how.list || args.how.undo {
        return said_before(world, Said::Accept, &args.steps, &args.how);
    }
    let saying = saying(world, &args.how)?;
    let session = world.session(&args.how.which, Create::Never)?;
    if session.store().is_none() {
        return Err(Failure::missing("there is no store: nothing is stored that could be accepted"));
    }
    let mut steps = Vec::new();
    for name in &args.steps {
        steps.extend(session.graph.select(name)?);
    }
    steps.sort_unstable();
    steps.dedup();
    let named_one = steps.len() == 1;
    let mut accepted = Vec::new();
    let mut left = steps.clone();
    let mut refused = Vec::new();
    // What is accepted settles what stands below it: so again, until nothing more can be.
    while !left.is_empty() {
        let (plan, resolved) = planned(world, &session, &steps)?;
        let mut waiting = Vec::new();
        let before = accepted.len();
        for step in std::mem::take(&mut left) {
            let name = plan.graph.step_name(step);
            match session.memo.accept(&plan, &resolved, step, &saying)? {
                Accepted::Done { judgement, made_ms, differences } => {
                    accepted.push((judgement, made_ms, differences));
                }
                Accepted::Above(above) => waiting.push((step, above)),
                // Of several that were named, those that have nothing to be accepted are left alone.
                Accepted::Stored | Accepted::Absent if !named_one => {}
                other => refused.push((name, other)),
            }
        }
        if accepted.len() == before {
            refused.extend(
                waiting.into_iter().map(|(step, above)| (plan.graph.step_name(step), Accepted::Above(above))),
            );
            break;
        }
        left = waiting.into_iter().map(|(step, _)| step).collect();
    }
    if accepted.is_empty() && refused.is_empty() {
        return Err(Failure::missing("everything that was named is stored: there is nothing to accept"));
    }
    if !world.json() {
        for (_, made_ms, differences) in &accepted {
            let what: Vec<String> = differences.iter().map(ToString::to_string).collect();
            let what =
                if what.is_empty() { "what differs is not on record".to_owned() } else { what.join(", ") };
            world.tell(format_args!("the result of {} answers; {what}", words::moment(*made_ms)));
        }
    }
    let judgements = accepted.into_iter().map(|(judgement, ..)| judgement).collect();
    let code = answer(world, "accept", judgements, &|judgement| {
        format!("accepted {} (judgement {})", step_of(judgement), judgement.id)
    })?;
    match refusal(refused) {
        Some(failure) => Err(failure),
        None => Ok(code),
    }
}

/// Why results could not be accepted, each with its reason.
fn refusal(refused: Vec<(String, Accepted)>) -> Option<Failure> {
    let mut all: Option<Failure> = None;
    for (name, why) in refused {
        let failure = match why {
            Accepted::Stored => Failure::missing(format!("`{name}` is stored: there is nothing to accept")),
            Accepted::Absent => Failure::missing(format!(
                "`{name}` stands below an output that was not produced: there is nothing to accept"
            )),
            Accepted::Volatile => Failure::missing(format!(
                "`{name}` runs in every run (`version: volatile`): no result of it is reused"
            )),
            Accepted::Above(above) => {
                Failure::missing(format!("what `{name}` consumes is not known before `{above}` has run"))
                    .hint(format!("accept `{above}` too, or run it"))
            }
            Accepted::NoEarlier => Failure::missing(format!("no earlier result of `{name}` is on record"))
                .hint("`cas run` makes one"),
            Accepted::Other(differing) => {
                Failure::missing(format!("no earlier result of `{name}` was made of the same"))
                    .because(format_args!("{} differs from the newest", differing.join(", ")))
                    .hint("only changed code can be accepted; `cas run` makes the result")
            }
            Accepted::NoList(output) => {
                Failure::missing(format!("no earlier result of `{name}` is a list in `{output}`"))
                    .because("`list: true` says that it is one now")
                    .hint("`cas run` makes the result")
            }
            Accepted::Overtaken => {
                Failure::missing(format!("another process changed `{name}` just now")).hint("try again")
            }
            Accepted::Done { .. } => continue,
        };
        match &mut all {
            Some(all) => all.problems.extend(failure.problems),
            None => all = Some(failure),
        }
    }
    all
}

/// Lists what was said, or takes it back.
fn said_before(world: &mut World, said: Said, names: &[String], how: &How) -> Result<Code, Failure> {
    let command = match said {
        Said::Forget => "forget",
        Said::Accept => "accept",
    };
    if how.list {
        let (_, store) = world.store_to_read(&how.which)?;
        let mut judgements = store.map_or_else(|| Ok(Vec::new()), |store| store.judgements())?;
        judgements.retain(|judgement| judgement.said == said);
        return list(world, command, judgements);
    }
    let saying = saying(world, how)?;
    let ground = Ground::new(world, &how.which)?;
    let store = ground.store()?;
    let all = store.judgements()?;
    let mut revoked = Vec::new();
    for name in names {
        let labels = labels(&ground, name);
        let number: Option<u64> = name.parse().ok();
        let standing = all.iter().filter(|judgement| judgement.said == said && judgement.revoked.is_none());
        let meant: Vec<&Judgement> = standing
            .filter(|judgement| number == Some(judgement.id) || labels.contains(&judgement.label))
            .collect();
        if meant.is_empty() {
            return Err(Failure::missing(format!("nothing of the kind stands that was said of `{name}`"))
                .hint(format!("`cas {command} --list` lists what was said")));
        }
        for judgement in meant {
            revoked.extend(store.revoke(judgement.id, saying.clone())?);
        }
    }
    answer(world, command, revoked, &|judgement| match judgement.said {
        Said::Forget => {
            format!("{} is not forgotten any longer (judgement {})", step_of(judgement), judgement.id)
        }
        Said::Accept => {
            format!("{} is not accepted any longer (judgement {})", step_of(judgement), judgement.id)
        }
    })
}

/// What judgements call the steps of a name.
fn labels(ground: &Ground, name: &str) -> Vec<String> {
    let Some(session) = &ground.session else { return Vec::new() };
    let pipeline = &session.graph.pipeline.name;
    let steps = session.graph.select(name).unwrap_or_default();
    steps.into_iter().map(|step| memo::label(pipeline, &session.graph.step_name(step))).collect()
}

fn list(world: &World, command: &str, judgements: Vec<Judgement>) -> Result<Code, Failure> {
    let mut out = out();
    if world.json() {
        json::document(&mut out, command, judgements.into_iter().map(row))?;
        return done(out);
    }
    if judgements.is_empty() {
        world.tell("nothing was said of any result");
        return done(out);
    }
    let mut table = Table::new(["NUMBER", "STEP", "SAID", "BY", "REASON"]);
    for judgement in &judgements {
        let Judgement { id, saying, revoked, .. } = judgement;
        let revoked = revoked.as_ref().map(|revoked| {
            let reason =
                if revoked.reason.is_empty() { String::new() } else { format!(": {}", revoked.reason) };
            format!(" (taken back on {} by {}{reason})", words::moment(revoked.at_ms), revoked.by)
        });
        table.row([
            id.to_string(),
            step_of(judgement).to_owned(),
            words::moment(saying.at_ms),
            saying.by.clone(),
            format!("{}{}", saying.reason, revoked.unwrap_or_default()),
        ]);
    }
    table.write_columns(&mut out)?;
    done(out)
}

fn answer(
    world: &World,
    command: &str,
    judgements: Vec<Judgement>,
    line: &dyn Fn(&Judgement) -> String,
) -> Result<Code, Failure> {
    let mut out = out();
    if world.json() {
        json::document(&mut out, command, judgements.into_iter().map(row))?;
        return done(out);
    }
    for judgement in &judgements {
        writeln!(out, "{}", line(judgement))?;
    }
    done(out)
}

fn row(judgement: Judgement) -> Row {
    Row {
        judgement: judgement.id,
        said: match judgement.said {
            Said::Forget => "forget",
            Said::Accept => "accept",
        },
        step: step_of(&judgement).to_owned(),
        by: judgement.saying.by,
        at: words::moment_utc(judgement.saying.at_ms),
        reason: judgement.saying.reason,
        trace: judgement.trace.to_string(),
        answered_by: judgement.from.map(|from| from.to_string()),
        reached: judgement.reached,
        revoked_at: judgement.revoked.as_ref().and_then(|revoked| words::moment_utc(revoked.at_ms)),
        revoked_reason: judgement.revoked.as_ref().map(|revoked| revoked.reason.clone()),
        revoked_by: judgement.revoked.map(|revoked| revoked.by),
    }
}

/// The step that a judgement is about, without its pipeline.
fn step_of(judgement: &Judgement) -> &str {
    judgement.label.split_once('/').map_or(judgement.label.as_str(), |(_, step)| step)
}

fn planned(world: &World, session: &Session, steps: &[StepId]) -> Result<(Plan, Resolved), Failure> {
    let plan = session.plan(world, session.graph.closure(steps))?;
    let wanted =
        Wanted { steps: steps.to_vec(), at_ms: now_ms(), frozen: session.frozen, ..Wanted::default() };
    let resolved = session.memo.resolve(&plan, &wanted)?;
    Ok((plan, resolved))
}

/// Who says it, when and why.
fn saying(world: &World, how: &How) -> Result<Saying, Failure> {
    let var = |name: &str| world.environment.vars.get(name).filter(|value| !value.is_empty()).cloned();
    let user = var("USER").or_else(|| var("LOGNAME")).unwrap_or_else(|| {
        // As `cron` and containers start it: nothing says who it is but the system.
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        user_name(&users, rustix::process::geteuid().as_raw())
    });
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let reason = how.reason.clone().unwrap_or_default();
    if !how.undo && reason.trim().is_empty() {
        return Err(
            Failure::usage("the reason is empty").hint("--reason TEXT says why, to whoever asks later")
        );
    }
    Ok(Saying { by: format!("{user} on {host}"), at_ms: now_ms(), reason })
}

/// What the list of users (`/etc/passwd`) calls a user; the number, where it calls it nothing.
fn user_name(users: &str, uid: u32) -> String {
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid) && !name.is_empty()).then_some(name)
    });
    named.map_or_else(|| format!("user {uid}"), str::to_owned)
}

/// Says which results of a plan are accepted ones; for commands that say what is stored.
pub(crate) fn notes(memo: &Memo, plan: &Plan, resolved: &Resolved) -> Result<Vec<String>, Failure> {
    let accepted = memo.accepted(plan, resolved)?;
    Ok(accepted
        .into_iter()
        .map(|(step, judgement)| {
            format!(
                "{}: accepted on {} by {}: {}",
                plan.graph.step_name(step),
                words::moment(judgement.saying.at_ms),
                judgement.saying.by,
                judgement.saying.reason
            )
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_called_what_the_system_calls_it() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nodd\nada:x:1000:100::/home/ada:/bin/sh\n:x:7:7::/:\n";
        let check = |uid, expected: &str| assert_eq!(user_name(users, uid), expected);
        check(0, "root");
        check(1000, "ada");
        check(100, "user 100");
        check(7, "user 7");
    }
}
