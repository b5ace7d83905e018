//! The run config: what is given for one run, merged from files and `--set`, not yet checked against schemas.

use std::collections::BTreeMap;

use crate::error::Place;
use crate::value::Value;

/// A run config as given: values by step, input, resource and for the pipeline, each with its place.
#[derive(Debug, Clone, Default)]
pub struct RunConfig {
    /// `solids.<step>.config.<key>`.
    pub config: BTreeMap<String, BTreeMap<String, Placed>>,
    /// `solids.<step>.inputs.<name>`.
    pub inputs: BTreeMap<String, BTreeMap<String, Placed>>,
    /// `resources.<name>.config.<key>`.
    pub resources: BTreeMap<String, BTreeMap<String, Placed>>,
    /// `config.<key>`: the pipeline's.
    pub pipeline: BTreeMap<String, Placed>,
    /// `resources.io_manager.config.base_dir`, as written.
    pub base_dir: Option<String>,
    /// What was accepted and ignored, in words, to be told once.
    pub warnings: Vec<String>,
}

/// A value and where it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// The value.
    pub value: Value,
    /// The text it was given as by `--set`: a `str` field takes it as it is.
    pub text: Option<String>,
    /// Where.
    pub place: Option<Place>,
}

impl RunConfig {
    /// Lays another over this one: key by key, what the other gives wins.
    pub fn overlay(&mut self, other: Self) {
        let Self { config, inputs, resources, pipeline, base_dir, warnings } = other;
        for (mine, others) in
            [(&mut self.config, config), (&mut self.inputs, inputs), (&mut self.resources, resources)]
        {
            for (name, values) in others {
                mine.entry(name).or_default().extend(values);
            }
        }
        self.pipeline.extend(pipeline);
        self.base_dir = base_dir.or(self.base_dir.take());
        self.warnings.extend(warnings);
    }
}
