//! Plans so many steps with three inputs each, and prints the seconds that took and the most memory in MiB: what
//! `scripts/bench plan` measures.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cas_engine::config::RunConfig;
use cas_engine::file;
use cas_engine::graph::Graph;
use cas_engine::plan::Plan;
use cas_engine::source::{Environment, Measure, measure};

/// Four solids over one matrix of two axes; each consumes what stands above it, three times where it can.
fn pipeline(steps: usize) -> String {
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let steps = std::env::args().nth(1).unwrap_or_else(|| "1000".to_owned()).parse()?;
    let text = pipeline(steps);
    let began = Instant::now();
    let words = |wrong: Vec<cas_engine::error::Diagnostic>| format!("{wrong:?}");
    let mut pipeline =
        file::pipeline(Path::new("pipeline.yaml"), &text, &mut |_| Err(std::io::ErrorKind::NotFound.into()))
            .map_err(words)?;
    pipeline.folder = std::env::current_dir()?;
    let graph = Graph::new(Arc::new(pipeline), None, &RunConfig::default()).map_err(words)?;
    let all: Vec<_> = graph.ids().collect();
    let environment = Environment::default();
    let how =
        Measure { environment: &environment, store: None, cache: None, memo: None, at_ms: 0, frozen: false };
    let measures = measure(&graph, &all, &how)?;
    let plan = Plan::new(Arc::new(graph), Arc::new(measures), all);
    let seconds = began.elapsed().as_secs_f64();
    assert!(plan.steps.len() >= steps && plan.versions.iter().all(Option::is_some));
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak")?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse()?;
    #[expect(clippy::print_stdout, reason = "this is what it is for")]
    {
        println!("{seconds} {}", kib / 1024.0);
    }
    Ok(())
}
