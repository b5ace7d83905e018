//! Plans from text, without a file being read: what would be measured is given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cas_engine::config::RunConfig;
use cas_engine::file;
use cas_engine::graph::Graph;
use cas_engine::list::List;
use cas_engine::plan::Plan;
use cas_engine::solid::EnvVar;
use cas_engine::source::{FileSet, MeasuredFile, MeasuredPath, MeasuredWhat, Measures, PathKind, Stat};
use cas_store::{Digest, Version};

/// A project as its pipeline sees it.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) text: String,
    pub(crate) run_config: String,
    pub(crate) mode: Option<String>,
    /// Declared files and `path:` inputs: content, executable.
    pub(crate) files: BTreeMap<String, (String, bool)>,
    /// Tables.
    pub(crate) tables: BTreeMap<String, String>,
    /// What each probe prints, by its command.
    pub(crate) probes: BTreeMap<String, String>,
    pub(crate) env: BTreeMap<String, String>,
    /// What each list holds, as JSON, by its output.
    pub(crate) lists: BTreeMap<String, String>,
    pub(crate) platform: String,
    /// Whether the kernel refuses files to steps.
    pub(crate) confines: bool,
}

impl World {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), platform: "linux/x86_64".to_owned(), confines: true, ..Self::default() }
    }

    #[must_use]
    pub(crate) fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.to_owned(), (content.to_owned(), false));
        self
    }

    /// The same with one text in the place of another; each must be there.
    #[must_use]
    pub(crate) fn edited(&self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "`{from}` is not in the pipeline");
        Self { text: self.text.replacen(from, to, 1), ..self.clone() }
    }

    #[must_use]
    pub(crate) fn with_run_config(&self, text: &str) -> Self {
        Self { run_config: text.to_owned(), ..self.clone() }
    }

    pub(crate) fn graph(&self) -> Result<Graph, String> {
        let words = |diagnostics: Vec<cas_engine::error::Diagnostic>| {
            let lines = diagnostics.iter().map(|diagnostic| match &diagnostic.hint {
                Some(hint) => format!("{diagnostic}; {hint}"),
                None => diagnostic.to_string(),
            });
            lines.collect::<Vec<_>>().join("\n")
        };
        let mut read = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            self.tables.get(name).cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into())
        };
        let pipeline =
            file::pipeline(Path::new("/project/pipeline.yaml"), &self.text, &mut read).map_err(words)?;
        let mut run = RunConfig::default();
        if !self.run_config.is_empty() {
            file::run_config(Path::new("run.yaml"), &self.run_config, &mut run).map_err(words)?;
        }
        Graph::new(Arc::new(pipeline), self.mode.as_deref(), &run).map_err(words)
    }

    fn files<'p>(&self, patterns: impl Iterator<Item = &'p str>) -> Option<Arc<FileSet>> {
        let mut files = patterns
            .map(|path| {
                let (content, executable) = self.files.get(path).cloned().unwrap_or_default();
                let digest = Digest::of(content.as_bytes());
                MeasuredFile {
                    path: path.to_owned(),
                    from: PathBuf::from(path),
                    what: MeasuredWhat::File { digest, executable },
                    stat: Stat::default(),
                }
            })
            .collect::<Vec<_>>();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Some(Arc::new(FileSet { files, looked: Vec::new() }))
    }

    pub(crate) fn measures(&self, graph: &Graph) -> Measures {
        let solids = graph.pipeline.invocations.iter().map(|invocation| &invocation.solid);
        let answer = |command: &str| self.probes.get(command).cloned();
        Measures {
            code: solids
                .clone()
                .map(|solid| self.files(solid.code.iter().map(|code| code.text.as_str())))
                .collect(),
            resources: graph
                .resources
                .iter()
                .map(|resource| self.files(resource.definition.files.iter().map(|file| file.text.as_str())))
                .collect(),
            resource_probes: graph
                .resources
                .iter()
                .map(|resource| resource.definition.probe.as_ref().and_then(|probe| answer(&probe.text)))
                .collect(),
            paths: graph
                .paths
                .iter()
                .map(|path| {
                    let (content, executable) = self.files.get(&path.path)?.clone();
                    let digest = Digest::of(content.as_bytes());
                    let kind = PathKind::File { executable };
                    let len = content.len() as u64;
                    Some(Arc::new(MeasuredPath { digest, kind, files: FileSet::default(), len }))
                })
                .collect(),
            probes: graph.probes.iter().map(|probe| answer(&probe.command)).collect(),
            env: solids
                .map(|solid| {
                    let passed = solid.env.iter().filter_map(|variable| match variable {
                        EnvVar::Pass(name) => Some((name.clone(), self.env.get(name).cloned())),
                        EnvVar::Set(..) => None,
                    });
                    passed.collect()
                })
                .collect(),
            platform: self.platform.clone(),
            confines: self.confines,
            ..Measures::default()
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        let graph = self.graph().unwrap_or_else(|errors| panic!("{errors}\n{}", self.text));
        let lists = self.lists.iter().flat_map(|(output, json)| {
            let list =
                Arc::new(List::of_json(json.as_bytes(), "file").unwrap_or_else(|what| panic!("{what}")));
            let outputs = graph.select_outputs(output).unwrap_or_else(|error| panic!("{error}"));
            outputs.into_iter().map(move |output| (output, Arc::clone(&list)))
        });
        let lists = lists.collect::<Vec<_>>();
        let graph = Arc::new(graph.grown(&lists).unwrap_or_else(|errors| panic!("{errors:?}")));
        let measures = Arc::new(self.measures(&graph));
        let steps = graph.ids().collect();
        Plan::new(graph, measures, steps)
    }

    /// The version of the first step that has this name.
    pub(crate) fn version(&self, step: &str) -> Version {
        let plan = self.plan();
        let steps = plan.graph.select(step).unwrap_or_else(|error| panic!("{error}"));
        plan.versions[steps[0].0 as usize].unwrap_or_else(|| panic!("`{step}` has no version"))
    }
}
