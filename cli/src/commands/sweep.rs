//! `cas run --sweep`: one run for each combination of values.

use cas_engine::config::RunConfig;
use cas_engine::error::EngineError;
use cas_engine::file;
use cas_engine::graph::Graph;
use cas_store::Create;

use super::run::{self, RunArgs};
use crate::failure::{Code, Failure};
use crate::session::{Definition, World};

/// More combinations than this are a mistake in the command line.
const COMBINATIONS: usize = 10_000;

/// One key with the values that it is given in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sweep {
    key: String,
    values: Vec<String>,
}

/// Reads a sweep as it is typed: `train.lr=0.1,0.01`, `train.depth=4..8`.
pub(crate) fn parse(text: &str) -> Result<Sweep, String> {
    let wrong = || "give a key and its values: train.lr=0.1,0.01 or train.depth=4..8".to_owned();
    let (key, values) = text.split_once('=').ok_or_else(wrong)?;
    if key.trim().is_empty() {
        return Err(wrong());
    }
    let mut all = Vec::new();
    for value in split(values) {
        let value = value.trim();
        if value.is_empty() {
            return Err(wrong());
        }
        match value
            .split_once("..")
            .and_then(|(from, to)| Some((from.parse::<i64>().ok()?, to.parse().ok()?)))
        {
            Some((from, to)) if from > to => return Err(format!("{from} is larger than {to}")),
            Some((from, to)) => {
                if to.abs_diff(from) >= COMBINATIONS as u64 {
                    return Err(format!("{value} is more than {COMBINATIONS} values"));
                }
                all.extend((from..=to).map(|number| number.to_string()));
            }
            None => all.push(value.to_owned()),
        }
    }
    Ok(Sweep { key: key.trim().to_owned(), values: all })
}

/// Splits at commas that stand in no quotes and no brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0_u32, None);
    for (at, char) in text.char_indices() {
        match (char, quote) {
            ('"' | '\'', None) => quote = Some(char),
            (char, Some(open)) if char == open => quote = None,
            (_, Some(_)) => {}
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth = depth.saturating_sub(1),
            (',', None) if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Every combination, the last key changing fastest, each as settings `key=value`.
fn combinations(sweeps: &[Sweep]) -> Result<Vec<Vec<String>>, Failure> {
    let count = sweeps.iter().try_fold(1_usize, |count, sweep| count.checked_mul(sweep.values.len()));
    if count.is_none_or(|count| count > COMBINATIONS) {
        return Err(Failure::usage(format!("that is more than {COMBINATIONS} combinations")));
    }
    let mut all = vec![Vec::new()];
    for Sweep { key, values } in sweeps {
        all = all
            .into_iter()
            .flat_map(|begun: Vec<String>| {
                values.iter().map(move |value| {
                    let mut next = begun.clone();
                    next.push(format!("{key}={value}"));
                    next
                })
            })
            .collect();
    }
    Ok(all)
}

/// Runs each combination, one after the other; what they have in common runs once.
pub(crate) fn sweep(world: &mut World, args: &RunArgs, create: Create) -> Result<Code, Failure> {
    let combinations = combinations(&args.sweep)?;
    let definition = world.definition(&args.which)?.ok_or_else(crate::session::no_pipeline)?;
    let configs = combinations
        .iter()
        .map(|combination| -> Result<RunConfig, Failure> {
            let mut config = definition.config.clone();
            for setting in combination {
                file::set(&definition.pipeline, setting, &mut config)?;
            }
            Ok(config)
        })
        .collect::<Result<Vec<_>, _>>()?;
    // What is wrong with one of them is said before any of them runs.
    for config in &configs {
        Graph::new(std::sync::Arc::clone(&definition.pipeline), args.which.mode.as_deref(), config)
            .map_err(|diagnostics| definition.texts.explain(EngineError::Definition(diagnostics)))?;
    }
    let (mut worst, mut open) = (Code::Done, None);
    for (index, (combination, config)) in combinations.iter().zip(configs).enumerate() {
        world.tell(format_args!("sweep {} of {}: {}", index + 1, combinations.len(), combination.join(" ")));
        let pipeline = std::sync::Arc::clone(&definition.pipeline);
        let definition = Definition { pipeline, config, texts: definition.texts.clone() };
        let mut session = world.session_of(definition, &args.which, create)?;
        let code = run::run_session(world, args, &mut session)?;
        // The store stays open from one to the next.
        open = Some(session);
        match code {
            Code::Done => {}
            Code::Interrupted | Code::Terminated => return Ok(code),
            code => {
                worst = worst.max(code);
                if !args.keep_going {
                    return Ok(code);
                }
            }
        }
    }
    drop(open);
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_ranges_are_read_as_typed() {
        let values = |text: &str| parse(text).map(|sweep| sweep.values.join(" "));
        assert_eq!(values("a.b=0.1,0.01"), Ok("0.1 0.01".to_owned()));
        assert_eq!(values("a.b=4..8"), Ok("4 5 6 7 8".to_owned()));
        assert_eq!(values("a.b=-1..1,9"), Ok("-1 0 1 9".to_owned()));
        assert_eq!(values("a.b=[1,2],{x: 1,y: 2},'a,b'"), Ok("[1,2] {x: 1,y: 2} 'a,b'".to_owned()));
        assert_eq!(values("a.b=x..y"), Ok("x..y".to_owned()));
        for wrong in ["a.b", "=1", "a.b=", "a.b=1,,2", "a.b=8..4", "a.b=0..99999999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn combinations_are_all_of_them_in_order() {
        let sweeps = [parse("a=1,2").expect("it is one"), parse("b=x,y").expect("it is one")];
        let all: Vec<String> =
            combinations(&sweeps).expect("they are few").iter().map(|one| one.join(" ")).collect();
        assert_eq!(all, ["a=1 b=x", "a=1 b=y", "a=2 b=x", "a=2 b=y"]);
        let many = [parse("a=1..200").expect("it is one"), parse("b=1..200").expect("it is one")];
        assert!(combinations(&many).is_err());
    }
}
