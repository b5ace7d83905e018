//! Where a step writes: its outputs and its scratch folders, and whether they are in each other's way.
//!
//! Pure.

use std::collections::{BTreeMap, HashMap};

use super::{Check, leaves, near};
use crate::file::variable;
use crate::pattern;
use crate::solid::{Body, OutputDecl, Pattern, ScratchFolder, Solid};

/// What a step is given, and where it puts what it makes.
const OWN: [&str; 3] = ["inputs", "outputs", "config.json"];

/// What to do where a scratch folder and declared files are in each other's way.
pub(crate) const SCRATCH_HINT: &str =
    "what is given is new in each attempt: name another folder, declare less, or name it in .casignore";

impl Check<'_> {
    pub(super) fn outputs(&mut self, solid: &Solid) {
        let mut variables: HashMap<String, &OutputDecl> = HashMap::new();
        let mut places: BTreeMap<Vec<&str>, &OutputDecl> = BTreeMap::new();
        for output in &solid.outputs {
            let place = output.place.as_ref();
            self.name("an output", &output.name, place);
            if let Some(other) = variables.insert(variable("CAS_OUTPUT_", &output.name), output) {
                let message = if other.name == output.name {
                    format!("the output `{}` is declared twice", output.name)
                } else {
                    format!("the outputs `{}` and `{}` give one variable", other.name, output.name)
                };
                self.say(place, message, "give one another name");
                continue;
            }
            if matches!(solid.body, Body::Function(_)) {
                continue;
            }
            if output.at.contains("{{") {
                self.say(place, "the place of an output takes no placeholders", "");
                continue;
            }
            let parts = parts(&output.at);
            if let Some(wrong) = leaves(&output.at) {
                self.say(place, format!("`{}` {wrong}", output.at), "an output lies in the step's folder");
            } else if parts.is_empty() || parts == ["outputs"] {
                let hint = "name a file or folder in it";
                self.say(place, format!("`{}` is a folder that is always there", output.at), hint);
            } else if matches!(parts[0], "inputs" | "config.json") {
                let hint = "what a step is given stays as it is";
                self.say(place, format!("`{}` is where the step is given things", output.at), hint);
            } else if let Some(first) = places.insert(parts, output) {
                let message = format!("the outputs `{}` and `{}` have one place", first.name, output.name);
                self.say(place, message, "give each a place of its own, with `at`");
            }
        }
        // Sorted by parts, a place comes directly before those that are inside of it.
        let sorted: Vec<_> = places.into_iter().collect();
        for (at, (outer, first)) in sorted.iter().enumerate() {
            if let Some((_, second)) = sorted[at + 1..].first().filter(|(inner, _)| inner.starts_with(outer))
            {
                let message = format!("the output `{}` lies inside of `{}`", second.name, first.name);
                self.say(second.place.as_ref(), message, "give each a place of its own, with `at`");
            }
        }
        if let Body::Command(command) = &solid.body
            && let Some(stdout) = &command.stdout
            && !solid.outputs.iter().any(|output| output.name == *stdout)
        {
            let known = solid.outputs.iter().map(|output| output.name.as_str()).collect();
            let hint = near(stdout, known, "declare it");
            self.say(
                command.place.as_ref(),
                format!("standard output is to be `{stdout}`, which is no output"),
                hint,
            );
        }
    }

    /// What a step finds again must be nothing that it is given, and nothing that is stored: an output that holds a
    /// scratch folder would hold what other versions left there.
    pub(super) fn scratch(&mut self, solid: &Solid) {
        let mut folders: Vec<(Vec<&str>, &ScratchFolder)> = Vec::new();
        for folder in &solid.policy.scratch {
            let (at, place) = (&folder.at, folder.place.as_ref().or(solid.place.as_ref()));
            let own = parts(at);
            let overlaps = |other: &[&str]| other.starts_with(&own) || own.starts_with(other);
            let holds = |output: &&OutputDecl| own.starts_with(&parts(&output.at));
            // What is wrong with a pattern is told where it is resolved.
            let in_it =
                |code: &&Pattern| pattern::Pattern::parse(&code.text).is_ok_and(|code| code.lies_in(&own));
            if leaves(at).is_some() || own.is_empty() {
                let hint = "a scratch folder is one of the step's folder: scratch: [target]";
                self.say(place, format!("`{at}` is no folder in the step's folder"), hint);
            } else if let Some(given) = OWN.into_iter().find(|given| overlaps(&[given])) {
                let hint = "name another folder: what is given and what is made is new in each attempt";
                self.say(place, format!("`{at}` cannot be a scratch folder: `{given}` is cas's"), hint);
            } else if let Some((_, other)) = folders.iter().find(|(other, _)| overlaps(other)) {
                let message = format!("`{at}` and `{}` are, or hold, the same folder", other.at);
                self.say(place, message, "name one of them");
            } else if let Some(output) = solid.outputs.iter().find(holds) {
                let message =
                    format!("`{at}` cannot be a scratch folder: the output `{}` holds it", output.name);
                let hint = "what an attempt finds there is not what this version makes: give the output a place of its own";
                self.say(place, message, hint);
            } else if let Some(code) = solid.code.iter().find(in_it) {
                let message =
                    format!("`{at}` cannot be a scratch folder: the code `{}` lies there", code.text);
                self.say(place, message, SCRATCH_HINT);
            } else {
                folders.push((own, folder));
            }
        }
    }
}

/// The parts of a path in the step's folder, by which two ways to write it are one.
fn parts(at: &str) -> Vec<&str> {
    at.split('/').filter(|part| !matches!(*part, "" | ".")).collect()
}
