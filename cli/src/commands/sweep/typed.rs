//! A sweep as it is typed: keys with their values, the combinations of all of them, and what cannot be meant so.

use std::collections::HashMap;
use std::sync::Arc;

use cas_engine::config::RunConfig;
use cas_engine::error::EngineError;
use cas_engine::execute::HIDDEN;
use cas_engine::file::{self, Typed};
use cas_engine::graph::Graph;
use cas_engine::pipeline::Pipeline;

use crate::commands::run::RunArgs;
use crate::failure::Failure;
use crate::session::Definition;

/// What it is given to.
const OPTION: &str = "--sweep";

/// More combinations than this are a mistake in the command line.
const COMBINATIONS: usize = 10_000;

/// One key with the values that it is given in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sweep {
    key: String,
    values: Vec<String>,
}

/// A key, which of its values it is given, and that value.
pub(super) type Setting<'s> = (&'s str, usize, &'s str);

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
            None if is_range(value) => {
                return Err(format!(
                    "{value} is a range of numbers that are not whole: give each, {}=0.1,0.2 (or put it in quotes, as a text)",
                    key.trim()
                ));
            }
            None => all.push(value.to_owned()),
        }
    }
    Ok(Sweep { key: key.trim().to_owned(), values: all })
}

/// Whether something looks like numbers from one to another.
fn is_range(text: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().is_ok();
    text.split_once("..").is_some_and(|(from, to)| number(from) && number(to))
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

/// Whether each key can be set, is given once and by nobody else, and has each value once: of two that say the same, one
/// would be for nothing.
///
/// # Errors
/// The first that is not so.
pub(super) fn check(pipeline: &Pipeline, sweeps: &[Sweep], set: &[String]) -> Result<(), Failure> {
    for (index, sweep) in sweeps.iter().enumerate() {
        let key = &sweep.key;
        file::settable(pipeline, &typed(index, &format!("{key}=")))?;
        let same = |other: &str| file::sets_the_same(pipeline, other, key);
        if let Some(before) = sweeps[..index].iter().find(|before| same(&before.key)) {
            let also = if before.key == *key { String::new() } else { format!(", as `{}`", before.key) };
            return Err(Failure::usage(format!("`{key}` is given to --sweep twice{also}"))
                .hint(format!("give all its values at once: --sweep {key}=1,2,3")));
        }
        let mut keys = set.iter().filter_map(|text| Some(text.split_once('=')?.0));
        if let Some(other) = keys.find(|other| same(other)) {
            let also = if other == key { String::new() } else { format!(", as `{other}`") };
            return Err(Failure::usage(format!("`{key}` is given to --sweep, and to --set{also}"))
                .hint("leave one of them out: the sweep gives it each of its values"));
        }
        let mut seen = HashMap::new();
        for (number, value) in (1..).zip(&sweep.values) {
            let plain = file::without_quotes(pipeline, key, value);
            if let Some(before) = seen.insert(file::value_as_typed(pipeline, key, &plain), number) {
                let shown = |number: usize| match file::sets_a_secret(pipeline, key) {
                    true => format!("{HIDDEN}{number}"),
                    false => sweep.values[number - 1].clone(),
                };
                let (first, second) = (shown(before), shown(number));
                let which = match first == second {
                    true => format!("the value `{first}` twice"),
                    false => format!("one value twice: `{first}` and `{second}` are the same"),
                };
                return Err(Failure::usage(format!("--sweep gives `{key}` {which}"))
                    .hint("leave one of them out: each combination runs once"));
            }
        }
    }
    Ok(())
}

/// What one of several sweeps is given, for messages about it.
fn typed<'t>(index: usize, text: &'t str) -> Typed<'t> {
    Typed { option: OPTION, line: u32::try_from(index + 1).unwrap_or(u32::MAX), text }
}

/// Sets the values of a combination.
///
/// # Errors
/// The pipeline does not take them.
pub(super) fn set(
    definition: &Definition,
    args: &RunArgs,
    settings: &[Setting<'_>],
    config: &mut RunConfig,
) -> Result<(), Failure> {
    let pipeline = &definition.pipeline;
    let mut lines = Vec::new();
    for (index, (key, _, value)) in settings.iter().enumerate() {
        let text = format!("{key}={}", file::without_quotes(pipeline, key, value));
        file::set(pipeline, &typed(index, &text), config)?;
        let shown = if file::sets_a_secret(pipeline, key) { format!("{key}={HIDDEN}") } else { text };
        lines.push(shown.replace('\n', " "));
    }
    Graph::new(Arc::clone(pipeline), args.which.mode.as_deref(), config)
        .map_err(|diagnostics| {
            // A message about a value shows it as it was typed.
            let texts = definition.texts.and(OPTION, lines.join("\n"));
            texts.explain(EngineError::Definition(diagnostics))
        })
        .map(drop)
}

/// What a combination is called: its settings, without secrets.
pub(super) fn name(pipeline: &Pipeline, settings: &[Setting<'_>]) -> String {
    let shown = |(key, number, value): &Setting<'_>| match file::sets_a_secret(pipeline, key) {
        true => format!("{key}={HIDDEN}{number}"),
        false => format!("{key}={value}"),
    };
    settings.iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// Every combination, the last key changing fastest: each key with its value, and which of its values that is.
pub(super) fn combinations(sweeps: &[Sweep]) -> Result<Vec<Vec<Setting<'_>>>, Failure> {
    let count = sweeps.iter().try_fold(1_usize, |count, sweep| count.checked_mul(sweep.values.len()));
    if count.is_none_or(|count| count > COMBINATIONS) {
        return Err(Failure::usage(format!("that is more than {COMBINATIONS} combinations")));
    }
    let mut all = vec![Vec::new()];
    for Sweep { key, values } in sweeps {
        all = all
            .into_iter()
            .flat_map(|begun: Vec<Setting<'_>>| {
                values.iter().enumerate().map(move |(index, value)| {
                    let mut next = begun.clone();
                    next.push((key.as_str(), index + 1, value.as_str()));
                    next
                })
            })
            .collect();
    }
    Ok(all)
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
        assert_eq!(values("a.b='0.1..0.3'"), Ok("'0.1..0.3'".to_owned()));
        let range = values("a.b=0.1..0.3").expect_err("it is no range of whole numbers");
        assert!(range.starts_with("0.1..0.3 is a range of numbers that are not whole: give each, a.b=0.1"));
        for wrong in ["a.b", "=1", "a.b=", "a.b=1,,2", "a.b=8..4", "a.b=0..99999999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn combinations_are_all_of_them_in_order() {
        let sweeps = [parse("a=1,2").expect("it is one"), parse("b=x,y").expect("it is one")];
        let shown = |one: &Vec<Setting<'_>>| {
            one.iter().map(|(key, _, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        let all: Vec<String> = combinations(&sweeps).expect("they are few").iter().map(shown).collect();
        assert_eq!(all, ["a=1 b=x", "a=1 b=y", "a=2 b=x", "a=2 b=y"]);
        let many = [parse("a=1..200").expect("it is one"), parse("b=1..200").expect("it is one")];
        assert!(combinations(&many).is_err());
    }
}
