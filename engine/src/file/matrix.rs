//! Reads `matrix:` and `matrices:`: axes of listed values, or of the rows of a table.
//!
//! Pure but for the reader that it is given. The value of a row is a map of its columns, all text, and its label
//! under the name of the axis. So the label is part of what is hashed, `{{ matrix.axis }}` is found in the value
//! alone, and two tables that differ only in which column comes first give different versions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Diagnostic, Place};
use crate::pipeline::{Axis, Point};
use crate::value::Value;

use super::node::{Entry, Kind, Mark, Node};
use super::reader::{Reader, suggestion};
use super::{Read, excerpt, keys};

type Points = Arc<Vec<Point>>;

/// Reads matrices, each table once.
pub(crate) struct Matrices<'r, 'f> {
    folder: PathBuf,
    read: &'r mut Read<'f>,
    tables: HashMap<(PathBuf, String), Option<Points>>,
    named: BTreeMap<String, Vec<Axis>>,
}

impl<'r, 'f> Matrices<'r, 'f> {
    pub(crate) fn new(folder: &Path, read: &'r mut Read<'f>) -> Self {
        Self { folder: folder.to_owned(), read, tables: HashMap::new(), named: BTreeMap::new() }
    }

    /// Reads `matrices:`, which `matrix:` can name.
    pub(crate) fn declare(&mut self, reader: &mut Reader<'_>, node: &Node) {
        for entry in reader.names(node, "matrices", "matrices: {grid: {lr: [0.1, 0.01]}}") {
            let axes = self.axes(reader, &entry.value, &entry.key);
            self.named.insert(entry.key.clone(), axes);
        }
    }

    /// Reads a solid's `matrix:`: axes, the name of a matrix, or a list of these.
    pub(crate) fn matrix(&mut self, reader: &mut Reader<'_>, node: &Node) -> Vec<Axis> {
        let mut axes: Vec<Axis> = Vec::new();
        let items: Vec<&Node> = match &node.kind {
            Kind::List(items) => items.iter().map(|item| &**item).collect(),
            Kind::Scalar(_) | Kind::Map(_) => vec![node],
        };
        for item in items {
            let more = match &item.kind {
                Kind::Scalar(_) => {
                    let Some(name) = reader.some_text(item, "matrix") else { continue };
                    let Some(named) = self.named.get(&name) else {
                        let none = "write the axes themselves: matrix: {seed: [1, 2, 3]}";
                        let hint = suggestion(&name, self.named.keys().map(String::as_str), none);
                        reader.fault(item.at, format!("there is no matrix `{name}`"), hint);
                        continue;
                    };
                    named.clone()
                }
                Kind::Map(_) => self.axes(reader, item, "matrix"),
                Kind::List(_) => {
                    reader.expected(item, "matrix", "a map of axes, or the name of a matrix", "");
                    continue;
                }
            };
            for axis in more {
                if axes.iter().any(|known| known.name == axis.name) {
                    reader.fault(item.at, format!("the axis `{}` is given twice", axis.name), "");
                } else {
                    axes.push(axis);
                }
            }
        }
        axes
    }

    fn axes(&mut self, reader: &mut Reader<'_>, node: &Node, key: &str) -> Vec<Axis> {
        let mut axes = Vec::new();
        for entry in reader.names(node, key, "matrix: {seed: [1, 2, 3]}") {
            let points = match &entry.value.kind {
                Kind::List(items) => listed(reader, entry, items),
                Kind::Map(_) => self.rows(reader, entry),
                Kind::Scalar(_) => {
                    let hint = format!("write {}: [{}, …], or {{rows: table.tsv}}", entry.key, "1");
                    reader.expected(&entry.value, &entry.key, "a list of values", hint);
                    None
                }
            };
            if let Some(points) = points {
                axes.push(Axis { name: entry.key.clone(), points });
            }
        }
        axes
    }

    fn rows(&mut self, reader: &mut Reader<'_>, entry: &Entry) -> Option<Points> {
        let fields = reader.object(&entry.value, &keys::AXIS)?;
        let Some(node) = fields.get("rows") else {
            let hint = format!("write {}: [1, 2], or {}: {{rows: table.tsv}}", entry.key, entry.key);
            reader.fault(entry.at, format!("the axis `{}` has no values", entry.key), hint);
            return None;
        };
        let name = reader.some_text(node, "rows")?;
        let path = self.folder.join(&name);
        let key = (path.clone(), entry.key.clone());
        if let Some(known) = self.tables.get(&key) {
            return known.clone();
        }
        let points = self.table(reader, &name, &path, &entry.key, node.at);
        self.tables.insert(key, points.clone());
        points
    }

    fn table(
        &mut self,
        reader: &mut Reader<'_>,
        name: &str,
        path: &Path,
        axis: &str,
        at: Mark,
    ) -> Option<Points> {
        let separator = match path.extension().and_then(|extension| extension.to_str()) {
            Some("tsv") => '\t',
            Some("csv") => ',',
            _ => {
                reader.fault(
                    at,
                    format!("`{name}` is no table that is known"),
                    "a table ends in .tsv or .csv",
                );
                return None;
            }
        };
        let text = match (self.read)(path) {
            Ok(text) => text,
            Err(error) => {
                let hint =
                    "paths are relative to the project folder: that of the pipeline file, or its `root`";
                reader.fault(at, format!("cannot read `{name}`: {error}"), hint);
                return None;
            }
        };
        match points(&text, separator, axis) {
            Ok(points) => Some(Arc::new(points)),
            Err(wrong) => {
                let shown: Arc<str> = shown(&reader.file, name).into();
                for (line, column, message) in wrong {
                    let place = Place { file: shown.clone(), line, column };
                    let mut diagnostic = Diagnostic::new(message).at(Some(&place));
                    diagnostic.excerpt = excerpt::excerpt(&text, line, column);
                    reader.diagnostics.push(diagnostic);
                }
                None
            }
        }
    }
}

/// The name of a file beside the pipeline file as it is shown to people.
pub(crate) fn shown(pipeline: &str, name: &str) -> String {
    match pipeline.rsplit_once('/') {
        Some((folder, _)) if !name.starts_with('/') => format!("{folder}/{name}"),
        _ => name.to_owned(),
    }
}

fn listed(reader: &mut Reader<'_>, entry: &Entry, items: &[std::rc::Rc<Node>]) -> Option<Points> {
    if items.is_empty() {
        reader.fault(entry.value.at, format!("the axis `{}` has no values", entry.key), "name at least one");
        return None;
    }
    let mut points = Vec::with_capacity(items.len());
    for item in items {
        let value = reader.value(item)?;
        points.push(Point { label: value.text(), value, row: false });
    }
    if Axis::counts_up(&points) {
        return Some(Arc::new(points));
    }
    let mut seen = HashSet::with_capacity(points.len());
    for (item, Point { label, .. }) in items.iter().zip(&points) {
        if !seen.insert(label.as_str()) {
            let hint = "each value makes one element, which is named by it";
            reader.fault(item.at, format!("`{label}` is in the axis `{}` twice", entry.key), hint);
        }
    }
    Some(Arc::new(points))
}

/// Line, column and message of what is wrong with a table.
type TableFault = (u32, u32, String);

fn points(text: &str, separator: char, axis: &str) -> Result<Vec<Point>, Vec<TableFault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let records = if separator == ',' { quoted_records(text)? } else { plain_records(text, separator) };
    let Some(((_, header), rows)) = records.split_first() else {
        return Err(vec![(1, 1, "the table is empty: its first line names the columns".to_owned())]);
    };
    let mut wrong = Vec::new();
    for (index, column) in header.iter().enumerate() {
        if column.trim().is_empty() {
            wrong.push((1, 1, format!("column {} has no name in the first line", index + 1)));
        } else if header[..index].contains(column) {
            wrong.push((1, 1, format!("the column `{column}` is named twice")));
        } else if index > 0 && column == axis {
            let first = &header[0];
            let message = format!(
                "the column `{column}` has the name of the axis, which stands for the first column, `{first}`"
            );
            wrong.push((1, 1, message));
        }
    }
    if rows.is_empty() {
        wrong.push((1, 1, "the table has a first line that names the columns, and no rows".to_owned()));
    }
    let mut points = Vec::with_capacity(rows.len());
    let mut first_line: HashMap<&str, u32> = HashMap::new();
    for (line, row) in rows {
        if row.len() != header.len() {
            let message =
                format!("this row has {} columns, and the first line names {}", row.len(), header.len());
            wrong.push((*line, 1, message));
            continue;
        }
        let label = row[0].as_str();
        if label.trim().is_empty() {
            wrong.push((
                *line,
                1,
                format!("the first column, `{}`, labels the row, and is empty", header[0]),
            ));
        } else if let Some(first) = first_line.insert(label, *line) {
            wrong.push((*line, 1, format!("the label `{label}` was used on line {first}")));
        }
        let text = |text: &String| Value::Str(text.clone());
        let mut value: BTreeMap<_, _> = header.iter().cloned().zip(row.iter().map(text)).collect();
        value.insert(axis.to_owned(), text(&row[0]));
        points.push(Point { label: label.to_owned(), value: Value::Map(value), row: true });
    }
    if wrong.is_empty() { Ok(points) } else { Err(wrong) }
}

type Record = (u32, Vec<String>);

fn plain_records(text: &str, separator: char) -> Vec<Record> {
    let lines = text.trim_end_matches(['\n', '\r']).lines();
    let records =
        lines.zip(1..).map(|(line, number)| (number, line.split(separator).map(str::to_owned).collect()));
    if text.trim().is_empty() { Vec::new() } else { records.collect() }
}

/// CSV as RFC 4180 has it: a field in double quotes may hold separators, line breaks and doubled quotes.
fn quoted_records(text: &str) -> Result<Vec<Record>, Vec<TableFault>> {
    let mut records: Vec<Record> = Vec::new();
    let mut chars = text.trim_end_matches(['\n', '\r']).chars().peekable();
    let (mut line, mut start) = (1_u32, 1_u32);
    let (mut row, mut field, mut quoted) = (Vec::new(), String::new(), false);
    if text.trim().is_empty() {
        return Ok(records);
    }
    while let Some(c) = chars.next() {
        match c {
            '"' if field.is_empty() && !quoted => {
                quoted = true;
                let opened = line;
                loop {
                    match chars.next() {
                        Some('"') if chars.peek() == Some(&'"') => {
                            chars.next();
                            field.push('"');
                        }
                        Some('"') => break,
                        Some(inner) => {
                            line += u32::from(inner == '\n');
                            field.push(inner);
                        }
                        None => {
                            return Err(vec![(opened, 1, "a quote on this line is never closed".to_owned())]);
                        }
                    }
                }
                if !matches!(chars.peek(), None | Some(',' | '\n' | '\r')) {
                    return Err(vec![(line, 1, "something follows the closing quote of a field".to_owned())]);
                }
            }
            ',' => {
                row.push(std::mem::take(&mut field));
                quoted = false;
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                row.push(std::mem::take(&mut field));
                records.push((start, std::mem::take(&mut row)));
                quoted = false;
                line += 1;
                start = line;
            }
            c => field.push(c),
        }
    }
    row.push(field);
    records.push((start, row));
    Ok(records)
}
