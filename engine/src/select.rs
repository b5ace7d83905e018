//! Which steps are meant by the words of a command line: names, globs, `step+`, what is excluded. Pure.

use crate::error::Diagnostic;
use crate::graph::{Graph, StepId};
use crate::grow::{Asked, Asking};

/// Steps as typed.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Names and globs; `step+` means also all below. Empty: what the pipeline is for.
    pub steps: Vec<String>,
    /// Names and globs of steps that are left out, and with them all that is below them.
    pub exclude: Vec<String>,
}

/// Steps as meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The steps that are wanted; empty: the pipeline's ends, published outputs and steps without outputs.
    pub wanted: Vec<StepId>,
    /// Those and all that they are made from, in order: every step where nothing was selected.
    pub plan: Vec<StepId>,
}

impl Selection {
    /// Finds the steps.
    ///
    /// # Errors
    /// Nothing has one of the names (says what is near), or nothing is left.
    pub fn of(&self, graph: &Graph) -> Result<Selected, Diagnostic> {
        if self.steps.is_empty() && self.exclude.is_empty() {
            return Ok(Selected { wanted: Vec::new(), plan: all(graph) });
        }
        let mut wanted = Vec::new();
        for text in &self.steps {
            match text.strip_suffix('+') {
                Some(name) => wanted.extend(graph.below(&graph.wanted(name)?)),
                None => wanted.extend(graph.wanted(text)?),
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        if !self.exclude.is_empty() {
            let mut named = Vec::new();
            for text in &self.exclude {
                named.extend(graph.select(text)?);
            }
            let mut out = vec![false; graph.steps.len()];
            for step in graph.below(&named) {
                out[step.0 as usize] = true;
            }
            if self.steps.is_empty() {
                // The ends of what is left: the steps that no step that is left reads.
                let mut read = vec![false; graph.steps.len()];
                for step in all(graph).into_iter().filter(|step| !out[step.0 as usize]) {
                    graph.each_input(step, &mut |output| read[output.step.0 as usize] = true);
                }
                wanted = all(graph).into_iter().filter(|step| !read[step.0 as usize]).collect();
            }
            wanted.retain(|step| !out[step.0 as usize]);
            if wanted.is_empty() {
                return Err(Diagnostic::new("nothing is left of the steps that were selected")
                    .hint("--exclude leaves out the steps it names and all below them"));
            }
        }
        let plan = graph.closure(&wanted);
        Ok(Selected { wanted, plan })
    }
}

impl Selection {
    /// The same, to be asked again of a plan that has grown. `force`: what is wanted runs whatever is stored.
    pub fn asking(&self, force: bool) -> Asking {
        let selection = self.clone();
        Asking::new(move |graph| {
            let Selected { wanted, plan } = selection.of(graph)?;
            let force = match (force, wanted.is_empty()) {
                (false, _) => Vec::new(),
                (true, false) => wanted.clone(),
                (true, true) => plan.clone(),
            };
            Ok(Asked { steps: wanted, force, plan })
        })
    }
}

fn all(graph: &Graph) -> Vec<StepId> {
    (0..graph.steps.len()).map(|step| StepId(u32::try_from(step).expect("step ids are 32 bits"))).collect()
}
