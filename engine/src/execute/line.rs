//! The command line and the environment of a command, as they are run and as they are shown. Pure.
//!
//! Every path is relative to the step's folder, so that neither says where that happens to be; HOME and TMPDIR
//! alone are absolute, because nothing accepts them otherwise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{HIDDEN, folder};
use crate::file::{self as template, Filled, variable};
use crate::solid::{Body, Line, OutputDecl, Part, Shell, Solid, Template};
use crate::value::{Config, Value};

/// The longest text that is passed as an argument; the kernel takes 128 KiB at most.
pub(crate) const LINE_LIMIT_BYTES: usize = 100_000;

/// What the command line and the environment of a step are made of.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// What is run.
    pub solid: &'a Solid,
    /// Its resolved config, matrix values included.
    pub config: &'a Config,
    /// Its inputs, in declared order.
    pub inputs: Vec<InputFact<'a>>,
    /// Its resources with their config.
    pub resources: Vec<(&'a str, &'a Config)>,
    /// How many cores it may use.
    pub cpus: u32,
    /// Whether secret config values are shown as `***`.
    pub hide: bool,
}

/// An input, as a command line sees it.
#[derive(Debug, Clone, Copy)]
pub struct InputFact<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its name as a file.
    pub file_name: &'a str,
    /// In what form it is given.
    pub form: InputForm,
}

/// The forms in which a command is given an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputForm {
    /// A file or folder.
    One,
    /// A fan-in of so many.
    FanIn(usize),
    /// A gather: a folder.
    Gather,
    /// An optional output that was not made.
    Absent,
}

/// A command line with everything filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The program.
    pub program: String,
    /// Its arguments, without the shell line.
    pub arguments: Vec<String>,
    /// The line that a shell is given as its last argument.
    pub line: Option<String>,
}

impl CommandLine {
    /// As a person would type it: the shell line itself, or the quoted words of a list.
    pub fn shown(&self) -> String {
        match &self.line {
            Some(line) => line.clone(),
            None => self.words().map(shown_word).collect::<Vec<_>>().join(" "),
        }
    }

    /// The program and all arguments.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.program).chain(&self.arguments).chain(&self.line).map(String::as_str)
    }
}

impl Facts<'_> {
    /// The command line of a command.
    ///
    /// # Errors
    /// A placeholder names nothing that is there: as a fragment.
    pub fn command_line(&self) -> Result<CommandLine, String> {
        let Body::Command(command) = &self.solid.body else {
            return Err("it is a function, not a command".to_owned());
        };
        let (mut words, line) = match &command.line {
            Line::Shell { text, shell } => (shell_words(shell), Some(self.shell_line(text)?)),
            Line::List(items) => (self.filled(|fill| template::arguments(items, fill))?, None),
        };
        if words.is_empty() {
            return Err("the command is empty".to_owned());
        }
        let program = words.remove(0);
        Ok(CommandLine { program, arguments: words, line })
    }

    /// A shell line: each placeholder is one quoted word, a fan-in one a path.
    ///
    /// # Errors
    /// A placeholder names nothing that is there.
    pub fn shell_line(&self, template: &Template) -> Result<String, String> {
        self.filled(|fill| template::shell_line(template, fill))
    }

    /// A text that is no shell line: the value of a variable.
    ///
    /// # Errors
    /// A placeholder names nothing that is there.
    pub fn text(&self, template: &Template) -> Result<String, String> {
        self.filled(|fill| template::text(template, fill))
    }

    /// Fills placeholders in, and gives the first that names nothing as the error.
    fn filled<T>(&self, make: impl FnOnce(&mut dyn FnMut(&Part) -> Filled) -> T) -> Result<T, String> {
        let mut wrong = None;
        let filled = make(&mut |part| {
            self.fill(part).unwrap_or_else(|| {
                wrong.get_or_insert_with(|| format!("`{}` has no value", part.written()));
                Filled::One(String::new())
            })
        });
        wrong.map_or(Ok(filled), Err)
    }

    fn fill(&self, part: &Part) -> Option<Filled> {
        match part {
            Part::Text(text) => Some(Filled::One(text.clone())),
            Part::Input(name) => {
                let input = self.inputs.iter().find(|input| input.name == name)?;
                Some(match input.form {
                    InputForm::FanIn(count) => {
                        Filled::Many((0..count).map(|index| format!("inputs/{name}/{index}")).collect())
                    }
                    InputForm::One | InputForm::Gather | InputForm::Absent => Filled::One(input.path()),
                })
            }
            Part::Output(name) => {
                let output = self.solid.outputs.iter().find(|output| output.name == *name)?;
                Some(Filled::One(output_path(output).to_owned()))
            }
            Part::Cpus => Some(Filled::One(self.cpus.to_string())),
            Part::Config(_) | Part::Matrix { .. } | Part::Resource { .. } => {
                let resource = |name: &str| {
                    self.resources.iter().find(|(resource, _)| *resource == name).map(|(_, config)| *config)
                };
                let value = template::value_text(part, self.config, &resource)?;
                let secret = match part {
                    Part::Config(path) => path.first().is_some_and(|key| self.config.secret.contains(key)),
                    Part::Resource { name, path } => {
                        let config = resource(name)?;
                        path.first().is_some_and(|key| config.secret.contains(key))
                    }
                    // Matrix values are never secret: they are the names of steps.
                    Part::Matrix { .. } | Part::Text(_) | Part::Input(_) | Part::Output(_) | Part::Cpus => {
                        false
                    }
                };
                Some(Filled::One(if secret && self.hide { HIDDEN.to_owned() } else { value }))
            }
        }
    }

    /// The environment of a command, in the order in which it is shown. `folder` is the attempt's; `path` is
    /// what PATH is without the folders that resources put before it; `declared` are the variables that the
    /// step and its resources declare, with their values, and win over the rest.
    pub fn environment(
        &self,
        folder: &Path,
        path: &str,
        before: &[PathBuf],
        declared: &[(String, String)],
    ) -> Vec<(String, String)> {
        let declared_path = declared.iter().rev().find(|(name, _)| name == "PATH");
        let base = declared_path.map_or(path, |(_, value)| value);
        let mut path = String::new();
        for before in before {
            // A folder whose name is not text, or holds a colon, cannot stand in PATH.
            if let Some(before) = before.to_str().filter(|before| !before.contains(':')) {
                path.push_str(before);
                path.push(':');
            }
        }
        path.push_str(base);
        let mut env = vec![
            ("PATH".to_owned(), path),
            ("HOME".to_owned(), folder::home(folder).to_string_lossy().into_owned()),
            ("TMPDIR".to_owned(), folder::tmp(folder).to_string_lossy().into_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("TZ".to_owned(), "UTC".to_owned()),
            ("CAS_STEP".to_owned(), self.solid.name.clone()),
            ("CAS_CONFIG".to_owned(), "config.json".to_owned()),
            ("CAS_CPUS".to_owned(), self.cpus.to_string()),
        ];
        let inputs = self.inputs.iter().filter(|input| input.form != InputForm::Absent);
        env.extend(inputs.map(|input| (variable("CAS_INPUT_", input.name), input.path())));
        let outputs = self.solid.outputs.iter();
        env.extend(
            outputs.map(|output| (variable("CAS_OUTPUT_", &output.name), output_path(output).to_owned())),
        );
        let cpus = self.cpus.to_string();
        env.extend(THREADS.iter().map(|name| ((*name).to_owned(), cpus.clone())));
        for (name, value) in declared.iter().filter(|(name, _)| name != "PATH") {
            match env.iter_mut().find(|(known, _)| known == name) {
                Some(known) => known.1.clone_from(value),
                None => env.push((name.clone(), value.clone())),
            }
        }
        env
    }

    /// `config.json`: canonical; what its resources were given stands under `resources`.
    pub fn config_json(&self) -> String {
        let mut values = self.shown(self.config);
        let resources: BTreeMap<String, Value> = self
            .resources
            .iter()
            .filter(|(_, config)| !config.values.is_empty())
            .map(|(name, config)| ((*name).to_owned(), Value::Map(self.shown(config))))
            .collect();
        if !resources.is_empty() {
            values.insert("resources".to_owned(), Value::Map(resources));
        }
        Value::Map(values).to_string()
    }

    fn shown(&self, config: &Config) -> BTreeMap<String, Value> {
        let mut values = config.values.clone();
        if self.hide {
            for name in &config.secret {
                if let Some(value) = values.get_mut(name) {
                    *value = Value::Str(HIDDEN.to_owned());
                }
            }
        }
        values
    }
}

impl InputFact<'_> {
    /// Where it lies, relative to the step's folder.
    fn path(&self) -> String {
        match self.form {
            InputForm::One | InputForm::Absent => format!("inputs/{}", self.file_name),
            InputForm::FanIn(_) | InputForm::Gather => format!("inputs/{}", self.name),
        }
    }
}

/// What tells the usual numeric libraries and runtimes how many threads to start. A step is counted as this
/// many cores; without these, most of them would take all that there are.
const THREADS: [&str; 9] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "JULIA_NUM_THREADS",
    "GOMAXPROCS",
];

fn output_path(output: &OutputDecl) -> &str {
    output.at.trim_end_matches('/')
}

fn shell_words(shell: &Shell) -> Vec<String> {
    let words: &[&str] = match shell {
        Shell::Sh => &["sh", "-e", "-c"],
        Shell::Bash => &["bash", "-e", "-o", "pipefail", "-c"],
        Shell::List(words) => return words.clone(),
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A word as a person would type it: quoted only where a shell would see something else in it.
fn shown_word(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-+,@%:=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) { word.to_owned() } else { template::quote(word) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_shown_as_they_would_be_typed() {
        let line = CommandLine {
            program: "python3".to_owned(),
            arguments: vec!["solids/a.py".to_owned(), "it's".to_owned(), String::new(), "--x=1".to_owned()],
            line: None,
        };
        assert_eq!(line.shown(), r"python3 solids/a.py 'it'\''s' '' --x=1");
    }
}
