//! What is wrong with combinations: where it is the same with many, it is told of the first, and in the end of the others.

use std::collections::BTreeMap;
use std::io::Write;

use super::Combination;
use crate::commands::{done, out};
use crate::failure::Failure;
use crate::report::words;
use crate::session::World;

/// What was wrong, and with which combinations.
#[derive(Debug, Default)]
pub(super) struct Wrong(BTreeMap<String, Vec<usize>>);

impl Wrong {
    /// Notes what is wrong with a combination. Gives it in words, unless it was told of another one.
    pub(super) fn note(
        &mut self,
        combinations: &[Combination],
        place: usize,
        failure: &Failure,
    ) -> Option<String> {
        let mut text = Vec::new();
        // Memory takes it.
        let _ = failure.write(&mut text);
        let text = String::from_utf8_lossy(&text).trim_end().to_owned();
        let told = format!("{}:\n{text}", name(combinations, place));
        let same = self.0.entry(text).or_default();
        same.push(place);
        (same.len() == 1).then_some(told)
    }

    /// Tells what is wrong with a combination: people once, a program of each.
    pub(super) fn tell(
        &mut self,
        world: &World,
        combinations: &[Combination],
        place: usize,
        failure: &Failure,
    ) -> Result<(), Failure> {
        if let Some(told) = self.note(combinations, place, failure) {
            world.interrupts.say()(told);
        }
        if world.json() {
            let mut out = out();
            writeln!(out, "{}", json(combinations, place, failure))?;
            done(out)?;
        }
        Ok(())
    }

    /// Tells what is wrong with several of them in the same way.
    pub(super) fn tell_same(&self, world: &World, combinations: &[Combination]) {
        for line in self.same(combinations) {
            world.tell(line);
        }
    }

    /// With how many something is wrong.
    pub(super) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// What is wrong with several of them in the same way.
    pub(super) fn same(&self, combinations: &[Combination]) -> Vec<String> {
        let same = self.0.values().filter(|places| places.len() > 1);
        same.map(|places| {
            let others: Vec<String> = places[1..].iter().map(|place| name(combinations, *place)).collect();
            format!("{}: the same as {}", words::several(&others), name(combinations, places[0]))
        })
        .collect()
    }
}

/// What is wrong with a combination, for a program: every one of them has a line.
pub(super) fn json(combinations: &[Combination], place: usize, failure: &Failure) -> String {
    let mut document = Vec::new();
    // Memory takes it.
    let _ = failure.write_json(&mut document, Some(&combinations[place].name));
    String::from_utf8_lossy(&document).trim_end().to_owned()
}

fn name(combinations: &[Combination], place: usize) -> String {
    words::on_a_line(&combinations[place].name).into_owned()
}
