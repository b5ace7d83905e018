//! What the benches of the parts and the programs of `scripts/bench` have in common: pipelines and commits of any
//! size, the same in every run.
//!
//! Nothing here is part of `cas`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cas_engine::config::RunConfig;
use cas_engine::file;
use cas_engine::graph::Graph;
use cas_engine::plan::Plan;
use cas_engine::source::{Environment, Measure, measure};
use cas_store::{Commit, Create, Hosting, Open, Output, Store, StoreError, Trace, Version};

/// What may go wrong in a bench, for a person.
pub type Wrong = Box<dyn std::error::Error + Send + Sync>;

/// Opens a store, made if there is none. `Hosting::Declined` lets it be served by another process.
///
/// # Errors
/// As for [`Store::open`].
pub fn open(dir: &Path, hosting: Hosting) -> Result<Store, StoreError> {
    let open = Open {
        create: Create::IfAbsent,
        wait: Duration::from_secs(60),
        owner: "a bench".to_owned(),
        hosting,
        on_wait: &mut |_| {},
    };
    Store::open(dir, open)
}

/// The version of the record of this number.
pub fn version(number: u64) -> Version {
    Version::from_bytes(of(b"version", number))
}

/// The trace of the commit of this number.
pub fn trace(number: u64) -> Trace {
    Trace::from_bytes(of(b"trace", number))
}

fn of(kind: &[u8], number: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind);
    hasher.update(&number.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// Bytes that do not compress, different for each seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The commit of this number: `outputs` outputs, each with a row and a small value of its own.
///
/// # Errors
/// As for [`Store::stage_bytes`].
pub fn commit(store: &Store, number: u64, outputs: u64) -> Result<Commit, StoreError> {
    let records = number * outputs..(number + 1) * outputs;
    let mut staged = Vec::new();
    for record in records.clone() {
        staged.push(store.stage_bytes(&record.to_le_bytes())?);
    }
    let named = staged.iter().zip(records.clone());
    let outputs = named.map(|(staged, record)| Output {
        name: format!("o{record}"),
        artifact: Some(staged.artifact("bytes")),
    });
    let outputs = outputs.collect();
    Ok(Commit {
        rows: records.map(version).collect(),
        made_ms: 1_000_000 + number,
        cost_ms: 1,
        ..Commit::bare(trace(number), outputs, staged)
    })
}

/// Four solids over one matrix of two axes, so many steps together; each consumes what stands above it, three times
/// where it can.
pub fn grid(steps: usize) -> String {
    let elements = steps.div_ceil(4);
    let wide = elements.isqrt().max(1);
    let axis = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let matrix = format!("matrix: {{i: [{}], j: [{}]}}", axis(wide), axis(elements.div_ceil(wide)));
    let solid = |name: &str, inputs: &str| {
        format!(
            "  {name}:\n    {matrix}\n    inputs: {{{inputs}}}\n    command: cat {{{{ inputs.x }}}} > {{{{ outputs.result }}}}\n"
        )
    };
    let solids = [
        solid("a", "x: {value: 1}, y: {value: 2}, z: {value: 3}"),
        solid("b", "x: a, y: {value: 2}, z: {value: 3}"),
        solid("c", "x: b, y: a, z: {value: 3}"),
        solid("d", "x: c, y: b, z: a"),
    ];
    format!("pipeline: many\nsolids:\n{}", solids.concat())
}

/// The graph of a pipeline's text.
///
/// # Errors
/// What is wrong with it.
pub fn graph(text: &str, folder: &Path) -> Result<Graph, Wrong> {
    let words = |wrong: Vec<cas_engine::error::Diagnostic>| format!("{wrong:?}");
    let mut pipeline =
        file::pipeline(Path::new("pipeline.yaml"), text, &mut |_| Err(std::io::ErrorKind::NotFound.into()))
            .map_err(words)?;
    pipeline.folder = folder.to_owned();
    Ok(Graph::new(Arc::new(pipeline), None, &RunConfig::default()).map_err(words)?)
}

/// The plan of all steps of a graph.
///
/// # Errors
/// What cannot be measured.
pub fn plan(graph: Graph) -> Result<Plan, Wrong> {
    let all: Vec<_> = graph.ids().collect();
    let environment = Environment::default();
    let how = Measure::new(&environment);
    let measures = measure(&graph, &all, &how)?;
    Ok(Plan::new(Arc::new(graph), Arc::new(measures), all))
}
