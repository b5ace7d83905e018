//! The command `cas` as people see it: transcripts of stdout, stderr and exit code together.

#[path = "../kit/mod.rs"]
mod kit;
#[path = "../kit/terminal.rs"]
mod terminal_kit;

mod answers;
mod archives;
mod causes;
mod failures;
mod following;
mod freshness;
mod guide;
mod help;
mod judgements;
mod ledger;
mod limits;
mod lists;
mod maintenance;
mod origins;
mod orphans;
mod publishing;
mod report;
mod runs;
mod sandbox;
mod scratch;
mod screens;
mod several_files;
mod signals;
mod stores;
mod sweep_values;
mod sweeps;
mod terminal;
mod tour;
mod usage;
mod watching;

use kit::{Folder, Ran};

/// The example that most of these stories are told with.
pub(crate) const DOGS: &str = "\
pipeline: dogs
solids:
  emit_dog:
    config: {dog_breed: {type: str, default: poodle}}
    command: echo {{ config.dog_breed }}
    stdout: result
  emit_tree:
    config: {tree_species: {type: str, default: douglas_fir}}
    command: echo planting; echo {{ config.tree_species }} > {{ outputs.result }}
  emit_sentence:
    inputs: {dog: emit_dog, tree.txt: emit_tree}
    command: cat {{ inputs.dog }} {{ inputs.tree }} > {{ outputs.result }}
";

/// What became of each step, in the order in which it was told, by the events of a run: `emit_dog ran`.
pub(crate) fn outcomes(ran: &Ran) -> Vec<String> {
    let events = ran.stdout.lines().map(|line| {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("{}", ran.transcript()))
    });
    let text = |value: &serde_json::Value| value.as_str().expect("it is a text").to_owned();
    events
        .filter(|event| event["event"] == "step-finished")
        .map(|event| format!("{} {}", text(&event["step"]), text(&event["outcome"])))
        .collect()
}

/// A folder with that example.
pub(crate) fn dogs() -> Folder {
    Folder::with(&[("pipeline.yaml", DOGS)])
}
