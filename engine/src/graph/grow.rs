//! A graph that grows: the same pipeline, taken apart again with lists that became known.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Graph, OutputId, StepId, build};
use crate::error::Diagnostic;
use crate::list::List;

/// Which step of a graph each step of an earlier one is.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    /// By step of the earlier graph: the step, `None` for one that is there no more.
    pub(crate) to: Vec<Option<StepId>>,
    /// By step of the later graph: the step that it is, or the placeholder that stood in its place.
    pub(crate) from: Vec<Option<StepId>>,
}

impl Graph {
    /// The same with these lists known too (or known otherwise).
    ///
    /// # Errors
    /// Elements that are to meet do not.
    pub fn grown(&self, lists: &[(OutputId, Arc<List>)]) -> Result<Self, Vec<Diagnostic>> {
        let mut known = HashMap::clone(&self.lists);
        for (output, list) in lists {
            known.insert((self.step_name(output.step), output.output), Arc::clone(list));
        }
        build::build(&self.pipeline, self.mode.as_deref(), &self.run_config, Arc::new(known))
    }

    /// Which step of this graph each step of an earlier one of the same pipeline is: the element of the same name.
    pub(crate) fn moved(&self, earlier: &Self) -> Moved {
        let mut to = vec![None; earlier.steps.len()];
        let mut from = vec![None; self.steps.len()];
        for (index, (before, after)) in earlier.steps_of.iter().zip(&self.steps_of).enumerate() {
            if !self.elements[index].is_mapped() {
                for (before, after) in before.clone().zip(after.clone()) {
                    to[before as usize] = Some(StepId(after));
                    from[after as usize] = Some(StepId(before));
                }
                continue;
            }
            let names: HashMap<String, StepId> =
                after.clone().map(|after| (self.step_name(StepId(after)), StepId(after))).collect();
            let mut placeholder = None;
            for before in before.clone().map(StepId) {
                let after = names.get(&earlier.step_name(before)).copied();
                to[before.0 as usize] = after;
                match after {
                    Some(after) => from[after.0 as usize] = Some(before),
                    None => placeholder = placeholder.or(earlier.is_placeholder(before).then_some(before)),
                }
            }
            // What a list that was known otherwise held stood in the place of what it holds now.
            let stood = placeholder.or((!before.is_empty()).then_some(StepId(before.start)));
            for after in after.clone() {
                from[after as usize] = from[after as usize].or(stood);
            }
        }
        Moved { to, from }
    }
}
