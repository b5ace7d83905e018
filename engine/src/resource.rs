//! What a resource is: a named thing that solids need.

use crate::error::Place;
use crate::solid::{Pattern, Template};
use crate::value::Schema;
use std::sync::Arc;

/// A tool, a service, a library of helpers. At least one of version, probe and files is given.
#[derive(Debug, Clone, Default)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// The version given by hand.
    pub version: Option<String>,
    /// A command whose output is part of the version.
    pub probe: Option<Template>,
    /// Files of the project: part of the version, and laid in the folder of each step that needs it.
    pub files: Vec<Pattern>,
    /// Folders of the project put before PATH; not hashed.
    pub path: Vec<String>,
    /// What it sets in the environment.
    pub env: Vec<(String, Template)>,
    /// The config it takes.
    pub config: Schema,
    /// The resources that it needs in turn.
    pub resources: Vec<String>,
    /// For Rust solids: how it is opened.
    pub open: Option<Arc<dyn crate::execute::OpenResource>>,
    /// Where it is defined.
    pub place: Option<Place>,
}
