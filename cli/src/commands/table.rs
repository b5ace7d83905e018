//! `cas table`: the kept results of a step as rows, with config and values of their JSON outputs as columns.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use cas_engine::memo::Memo;
use cas_engine::origin::Origins;
use cas_engine::record::Provenance;
use cas_engine::version::output_version;
use cas_store::{Found, Kind, Store, Trace, Version};
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;

/// Compare the kept results of a step, one a row
///
/// A row for every result of STEP that is stored, of all its elements (or of one: `train[lr=0.1]`) and of all versions that
/// are kept. Columns are
/// `config.KEY`; `OUTPUT.PATH` for a value in a JSON output (`metrics.auc`, `metrics.rows[0].n`); `duration`, `made`,
/// `run`, `step`, `version`. Without --columns: the element where there are several, the config that differs, and every
/// number in a JSON output.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas run train --sweep train.lr=0.1,0.01 --sweep train.depth=4..8
  $ cas table train --columns config.lr,metrics.auc,duration --sort -metrics.auc")]
pub(crate) struct TableArgs {
    /// The step
    #[arg(value_name = "STEP")]
    step: String,
    /// Show these columns
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// Sort by this column; with a - before it, the largest first
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Show so many rows at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    which: Which,
}

/// Larger JSON is not read for a table.
const READ_BYTES: u64 = 16 * 1024 * 1024;

/// How many results of one step or element are looked for.
const HISTORY: usize = 10_000;

/// One result.
struct Row {
    found: Found,
    made: Provenance,
    /// The run that made it was one of another store.
    imported: bool,
    config: Value,
    /// The JSON outputs by name.
    outputs: BTreeMap<String, Value>,
    /// Why the others have no values, by name.
    unread: BTreeMap<String, String>,
}

pub(crate) fn table(world: &mut World, args: &TableArgs) -> Result<Code, Failure> {
    let session = world.session(&args.which, cas_store::Create::Never)?;
    let steps = session.graph.select(&args.step)?;
    let store = session.store().ok_or_else(|| Failure::missing("there is no store: nothing is stored"))?;
    // The names of a step's elements change with its matrix: what is meant is the invocation, unless elements were picked.
    let picked = args.step.contains(['[', '@']) && !args.step.contains("[*]");
    let names: BTreeSet<String> = steps
        .iter()
        .map(|step| match picked {
            true => session.graph.step_name(*step),
            false => session.graph.invocation(*step).name.clone(),
        })
        .collect();
    let is_meant = |step: &str| match picked {
        true => names.contains(step),
        false => names.contains(step.split('[').next().unwrap_or(step)),
    };
    let rows = rows(store, &session.memo, &session.graph.pipeline.name, &is_meant)?;
    let columns = if args.columns.is_empty() {
        columns_of(&rows)
    } else {
        args.columns.iter().map(|column| column.trim().to_owned()).collect()
    };
    for column in &columns {
        if !rows.is_empty() && !known(column) && !rows.iter().any(|row| cell(row, column).is_some()) {
            let failure = Failure::usage(format!("no result of `{}` has a column `{column}`", args.step));
            let output = output_of(column);
            return Err(match rows.iter().find_map(|row| row.unread.get(output)) {
                Some(why) => failure.because(format!("`{output}` {why}")),
                None => failure,
            }
            .hint(format!("there are: {}", columns_of(&rows).join(", "))));
        }
        let output = output_of(column);
        let unread: Vec<&String> = rows.iter().filter_map(|row| row.unread.get(output)).collect();
        if let Some(why) = unread.first().filter(|_| !known(column)) {
            let count = words::count(unread.len(), "result");
            world.warn(format_args!("`{column}` is empty for {count}: `{output}` {why}"));
        }
    }
    let mut rows: Vec<(Vec<Option<Value>>, Option<Value>, Row)> = rows
        .into_iter()
        .map(|row| {
            let cells = columns.iter().map(|column| cell(&row, column)).collect();
            let key = args.sort.as_ref().and_then(|sort| cell(&row, sort.trim_start_matches('-')));
            (cells, key, row)
        })
        .collect();
    rows.sort_by_key(|(_, _, row)| std::cmp::Reverse(row.found.record.made_ms));
    if let Some(sort) = &args.sort {
        if !rows.is_empty() && rows.iter().all(|(_, key, _)| key.is_none()) {
            let column = sort.trim_start_matches('-');
            return Err(Failure::usage(format!("no result of `{}` has a column `{column}`", args.step)));
        }
        let down = sort.starts_with('-');
        // What has no value stands last either way.
        rows.sort_by(|(_, a, _), (_, b, _)| match (a, b) {
            (Some(a), Some(b)) if down => order(b, a),
            (Some(a), Some(b)) => order(a, b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        });
    }
    let none = rows.is_empty();
    rows.truncate(args.limit.unwrap_or(usize::MAX));
    let mut out = out();
    if world.json() {
        let items = rows.iter().map(|(cells, _, row)| {
            let cells =
                columns.iter().cloned().zip(cells.iter().map(|cell| cell.clone().unwrap_or_default()));
            // A number of a run says nothing where it is not known whose.
            let imported = columns.iter().any(|column| column == "run");
            let imported = imported.then(|| ("imported".to_owned(), row.imported.into()));
            cells.chain(imported).collect::<serde_json::Map<String, Value>>()
        });
        json::document(&mut out, "table", items)?;
        return done(out);
    }
    if none {
        world.tell(format_args!("no result of `{}` is stored", args.step));
        return done(out);
    }
    let text: Vec<Vec<String>> = std::iter::once(columns.clone())
        .chain(rows.iter().map(|(cells, _, row)| {
            columns
                .iter()
                .zip(cells)
                .map(|(column, cell)| shown(column, cell.as_ref(), row.imported))
                .collect()
        }))
        .collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| text.iter().map(|row| row[column].width()).max().unwrap_or(0))
        .collect();
    for row in &text {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&crate::report::table::padded(cell, *width));
            line.push_str("  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    done(out)
}

/// The results of an invocation's steps that are stored.
fn rows(
    store: &Store,
    memo: &Memo,
    pipeline: &str,
    is_meant: &dyn Fn(&str) -> bool,
) -> Result<Vec<Row>, Failure> {
    let mut labels = Vec::new();
    store.labels(&mut |moment| {
        labels.push(moment.label);
        true
    })?;
    let is_meant = |label: &String| {
        let step = label.strip_prefix(pipeline).and_then(|rest| rest.strip_prefix('/'));
        step.is_some_and(is_meant)
    };
    let mut traces: BTreeSet<Trace> = BTreeSet::new();
    for label in labels.iter().filter(|label| is_meant(label)) {
        traces.extend(store.history(label, HISTORY)?.into_iter().map(|moment| moment.trace));
    }
    let traces: Vec<Trace> = traces.into_iter().collect();
    let mut rows = Vec::new();
    let mut origins = Origins::new(memo);
    for found in store.results(&traces)?.into_iter().flatten() {
        let Some(made) = memo.provenance(&found.trace)? else { continue };
        let config = serde_json::from_str(&made.config).unwrap_or(Value::Null);
        let (mut outputs, mut unread) = (BTreeMap::new(), BTreeMap::new());
        for (output, present) in found.record.outputs.iter().zip(&found.present) {
            let Some(artifact) = output.artifact.as_ref().filter(|_| *present) else { continue };
            if artifact.kind == Kind::Tree {
                unread.insert(output.name.clone(), "is a folder".to_owned());
                continue;
            }
            if artifact.len > READ_BYTES {
                unread.insert(output.name.clone(), format!("is larger than {}", words::size(READ_BYTES)));
                continue;
            }
            // Bytes that are gone or wrong are a cell that is empty.
            let bytes = match store.bytes(&artifact.digest) {
                Ok(bytes) => bytes,
                Err(error) if error.is_miss() => continue,
                Err(error) => return Err(error.into()),
            };
            match serde_json::from_slice::<Value>(&bytes) {
                Ok(value) => drop(outputs.insert(output.name.clone(), value)),
                Err(error) => drop(unread.insert(output.name.clone(), format!("is no JSON: {error}"))),
            }
        }
        let imported = origins.is_elsewhere(&made)?;
        rows.push(Row { found, made, imported, config, outputs, unread });
    }
    Ok(rows)
}

/// Columns that every result has.
const ALWAYS: &[&str] = &["duration", "made", "run", "step", "version"];

fn known(column: &str) -> bool {
    ALWAYS.contains(&column)
}

/// The columns where none were asked for: the element where there are several, config that differs, numbers of JSON outputs, and the duration.
fn columns_of(rows: &[Row]) -> Vec<String> {
    let mut columns = Vec::new();
    let steps: BTreeSet<&str> = rows.iter().map(|row| row.made.step.as_str()).collect();
    if steps.len() > 1 {
        columns.push("step".to_owned());
    }
    let mut config: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
    for (key, value) in rows.iter().filter_map(|row| row.config.as_object()).flatten() {
        config.entry(key).or_default().insert(value.to_string());
    }
    columns.extend(
        config.into_iter().filter(|(_, values)| values.len() > 1).map(|(key, _)| format!("config.{key}")),
    );
    let mut numbers = BTreeSet::new();
    for (output, value) in rows.iter().flat_map(|row| &row.outputs) {
        match value {
            Value::Number(_) => drop(numbers.insert(output.clone())),
            Value::Object(members) => {
                let leaves = members.iter().filter(|(_, value)| value.is_number());
                numbers.extend(leaves.map(|(key, _)| format!("{output}.{key}")));
            }
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => {}
        }
    }
    columns.extend(numbers);
    columns.push("duration".to_owned());
    columns
}

/// What other commands know the result by: the version of its first output, as `ls` prints it.
fn version(row: &Row) -> Version {
    match row.found.record.outputs.first() {
        Some(output) => output_version(&row.made.version, &output.name),
        None => row.made.version,
    }
}

/// The output that a column is of.
fn output_of(column: &str) -> &str {
    column.split(['.', '[']).next().unwrap_or(column)
}

/// The value of a row in a column, if it has one.
fn cell(row: &Row, column: &str) -> Option<Value> {
    let record = &row.found.record;
    match column {
        "duration" => return Some(record.cost_ms.into()),
        "made" => return words::moment_utc(record.made_ms).map(Value::from),
        "run" => return Some(row.made.run.into()),
        "step" => return Some(row.made.step.clone().into()),
        "version" => return Some(version(row).to_string().into()),
        _ => {}
    }
    if let Some(path) = column.strip_prefix("config.") {
        return at(&row.config, path).cloned();
    }
    let output = output_of(column);
    at(row.outputs.get(output)?, &column[output.len()..]).cloned()
}

/// A value in a JSON document by its path: `rows[0].name`.
fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = value;
    for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
        value = match part.strip_suffix(']') {
            Some(index) => value.get(index.parse::<usize>().ok()?)?,
            None => value.get(part)?,
        };
    }
    Some(value)
}

/// Numbers by their size, and before everything else; texts by their letters.
fn order(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => match (a.as_str(), b.as_str()) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => a.to_string().cmp(&b.to_string()),
        },
    }
}

fn shown(column: &str, value: Option<&Value>, imported: bool) -> String {
    match (column, value) {
        (_, None) => "-".to_owned(),
        ("run", Some(value)) if imported => format!("{value} of another store"),
        ("duration", Some(value)) => words::duration_ms(value.as_u64().unwrap_or(0)),
        ("version", Some(Value::String(text))) => text[..12.min(text.len())].to_owned(),
        (_, Some(Value::String(text))) => text.clone(),
        (_, Some(value)) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_reach_into_lists_and_maps() {
        let value = json!({"rows": [{"n": 1}, {"n": 2}], "a": {"b": "x"}});
        assert_eq!(at(&value, "rows[1].n"), Some(&json!(2)));
        assert_eq!(at(&value, "a.b"), Some(&json!("x")));
        assert_eq!(at(&value, "rows[2].n"), None);
        assert_eq!(at(&json!(3), ""), Some(&json!(3)));
    }

    #[test]
    fn numbers_are_sorted_as_numbers() {
        let mut values = [json!(10), json!("b"), json!(9.5), json!("a")];
        values.sort_by(order);
        assert_eq!(values, [json!(9.5), json!(10), json!("a"), json!("b")]);
    }
}
