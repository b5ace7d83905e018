//! The resources that the steps of a graph need, in turn too: sorted, with their config, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::ResolvedResource;
use super::build::Builder;
use crate::config::RunConfig;
use crate::error::{Diagnostic, Place};
use crate::pipeline::{Mode, Pipeline};
use crate::resource::Resource;
use crate::value::{Config, Owner, listed, nearest};

impl<'a> Builder<'a> {
    /// The resources that are needed, each after what it needs, and for each invocation those it needs directly.
    pub(super) fn resources(
        &mut self,
        mode: Option<&'a Mode>,
        run: &RunConfig,
        shared: &Config,
    ) -> (Vec<ResolvedResource>, Vec<Vec<usize>>) {
        let mut definitions = self
            .pipeline
            .resources
            .iter()
            .map(|(name, resource)| (name.as_str(), resource))
            .collect::<BTreeMap<_, _>>();
        for (name, resource) in mode.iter().flat_map(|mode| &mode.resources) {
            definitions.insert(name, resource);
        }
        let mut needed = BTreeMap::new();
        for invocation in &self.pipeline.invocations {
            for name in &invocation.solid.resources {
                needed.entry(name.as_str()).or_insert(invocation);
            }
        }
        let mut sorted =
            Sorted { definitions: &definitions, ids: HashMap::new(), order: Vec::new(), path: Vec::new() };
        for (name, invocation) in needed {
            let by = format!("`{}`", invocation.solid.name);
            if let Err(error) = sorted.visit(name, &by, invocation.place.as_ref(), self.pipeline) {
                self.errors.push(error);
                sorted.path.clear();
            }
        }
        let Sorted { ids, order, .. } = sorted;
        let none = BTreeMap::new();
        let resources = order
            .into_iter()
            .map(|resource| {
                if resource.version.is_none() && resource.probe.is_none() && resource.files.is_empty() {
                    self.errors.push(
                        Diagnostic::new(format!("resource `{}` has no version", resource.name))
                            .hint("give it at least one of `version`, `probe` and `files`")
                            .at(resource.place.as_ref()),
                    );
                }
                let given = run.resources.get(&resource.name).unwrap_or(&none);
                let owner = Owner::Resource(&resource.name);
                let shared = Some((&self.pipeline.config, shared));
                let config = resource.config.resolve(owner, given, shared, &mut self.errors);
                let mut needs = resource
                    .resources
                    .iter()
                    .filter_map(|name| ids.get(name.as_str()).copied())
                    .collect::<Vec<_>>();
                needs.sort_unstable();
                needs.dedup();
                ResolvedResource { definition: Arc::new(resource.clone()), config: Arc::new(config), needs }
            })
            .collect();
        // Of a resource that no step needs, no value is asked for; a key that it does not have is still a slip.
        for (name, given) in &run.resources {
            let unneeded = definitions.get(name.as_str()).filter(|_| !ids.contains_key(name.as_str()));
            if let Some(resource) = unneeded {
                let (known, owner) = (&resource.config, Owner::Resource(name));
                let unknown = given.iter().filter(|(key, _)| !known.fields.contains_key(*key));
                let unknown = unknown.map(|(key, placed)| (key.clone(), placed.clone())).collect();
                let mut errors = Vec::new();
                known.resolve(owner, &unknown, None, &mut errors);
                self.errors.extend(errors.into_iter().take(unknown.len()));
            }
        }
        let needs = self.pipeline.invocations.iter().map(|invocation| {
            let mut needs = invocation
                .solid
                .resources
                .iter()
                .filter_map(|name| ids.get(name.as_str()).copied())
                .collect::<Vec<_>>();
            needs.sort_unstable();
            needs.dedup();
            needs
        });
        (resources, needs.collect())
    }
}

/// Resources in an order in which each comes after what it needs, otherwise by name.
struct Sorted<'r, 'a> {
    definitions: &'r BTreeMap<&'a str, &'a Resource>,
    ids: HashMap<&'a str, usize>,
    order: Vec<&'a Resource>,
    path: Vec<&'a str>,
}

/// How deep needs of resources may go: far more than anybody means, far less than the stack holds.
const DEEPEST: usize = 200;

impl<'a> Sorted<'_, 'a> {
    fn visit(
        &mut self,
        name: &'a str,
        by: &str,
        place: Option<&Place>,
        pipeline: &Pipeline,
    ) -> Result<(), Diagnostic> {
        if self.ids.contains_key(name) {
            return Ok(());
        }
        if let Some(start) = self.path.iter().position(|above| *above == name) {
            let cycle = self.path[start..].join(" → ");
            return Err(
                Diagnostic::new(format!("these resources need each other: {cycle} → {name}")).at(place)
            );
        }
        if self.path.len() > DEEPEST {
            let message = format!("{by} needs resources more than {DEEPEST} deep");
            return Err(Diagnostic::new(message).at(place));
        }
        let Some(resource) = self.definitions.get(name).copied() else {
            let in_modes = pipeline.modes.iter().filter(|mode| mode.resources.contains_key(name));
            let in_modes = in_modes.map(|mode| mode.name.clone()).collect::<Vec<_>>();
            let mut error =
                Diagnostic::new(format!("{by} needs resource `{name}`, which is not defined")).at(place);
            error.hint = if in_modes.is_empty() {
                nearest(name, self.definitions.keys().copied()).map(|near| format!("did you mean `{near}`?"))
            } else {
                Some(format!("it is defined in mode {}: choose it with --mode", listed(&in_modes)))
            };
            return Err(error);
        };
        self.path.push(name);
        // By name, so that the order depends on nothing but what is needed.
        let needs = resource.resources.iter().map(String::as_str).collect::<BTreeSet<_>>();
        for need in needs {
            self.visit(need, &format!("resource `{name}`"), resource.place.as_ref(), pipeline)?;
        }
        self.path.pop();
        self.ids.insert(name, self.order.len());
        self.order.push(resource);
        Ok(())
    }
}
