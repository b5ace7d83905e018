//! `cas init`: a starter pipeline around the scripts that lie there.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use cas_store::{Create, Store};

use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::session::{DONE, World};

/// Write a starter pipeline around the scripts in this folder
///
/// Each script becomes a solid, one after the other; what they read and write is for you to fill in. Nothing that
/// exists is replaced. The store that the pipeline names is made, too.
///
/// With --shared only the store is made, or the one that is there is shared: all members of the group of its folder
/// can use it from then on, each as an own user.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas init
  $ $EDITOR pipeline.yaml
  $ cas run
  $ cas init --shared --store /srv/lab/cas")]
pub(crate) struct InitArgs {
    /// Make the store one of its folder's group, and no pipeline
    #[arg(long)]
    shared: bool,
    #[command(flatten)]
    which: Which,
}

/// The scripts that are looked for: their extension, and what runs them.
const RUNNERS: &[(&str, &str)] = &[
    ("py", "python3"),
    ("sh", "sh"),
    ("bash", "bash"),
    ("R", "Rscript"),
    ("r", "Rscript"),
    ("jl", "julia"),
    ("js", "node"),
    ("mjs", "node"),
    ("rb", "ruby"),
    ("pl", "perl"),
    ("php", "php"),
    ("lua", "lua"),
];

/// Where they are looked for.
const FOLDERS: &[&str] = &["", "solids", "scripts", "src", "bin"];

/// More than so many make no starter that anyone would read.
const MOST: usize = 12;

pub(crate) fn init(world: &mut World, args: &InitArgs) -> Result<Code, Failure> {
    if args.shared {
        return share(world, &args.which);
    }
    let file = args.which.file.clone().unwrap_or_else(|| "pipeline.yaml".into());
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => ".".into(),
    };
    let name = std::path::absolute(&folder)
        .ok()
        .and_then(|folder| folder.file_name().map(|name| identifier(&name.to_string_lossy())))
        .unwrap_or_else(|| "my_pipeline".to_owned());
    let scripts = scripts(&folder);
    let text = starter(&name, &scripts);
    // Only a new file: `create_new` leaves no moment in which another one could be written over.
    match OpenOptions::new().write(true).create_new(true).open(&file) {
        Ok(mut to) => to
            .write_all(text.as_bytes())
            .map_err(|error| Failure::usage(format!("cannot write `{}`", file.display())).because(error))?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::usage(format!("`{}` exists already: nothing was written", file.display()))
                .hint("-f FILE writes another one"));
        }
        Err(error) => {
            return Err(Failure::usage(format!("cannot write `{}`", file.display())).because(error));
        }
    }
    world.tell(format_args!("wrote {}", file.display()));
    for script in &scripts {
        world.tell(format_args!("  {}  runs {}", script.solid, script.path));
    }
    let which = Which { file: Some(file), ..args.which.clone() };
    if let Some(definition) = world.definition(&which)? {
        let choice = world.choice(&which, Some(&definition))?;
        if !Store::is_at(&choice.dir) {
            world.open(&choice, &which, Create::IfAbsent)?;
            world.tell(format_args!(
                "made the store {} (it ignores itself in git)",
                crate::session::shown(&choice.dir).display()
            ));
        }
    }
    world.tell("next: see to what each step reads and writes, then `cas run`");
    DONE
}

/// Makes a store that a group uses.
fn share(world: &mut World, which: &Which) -> Result<Code, Failure> {
    let (choice, _) = world.store_choice(which)?;
    let group = world.with_open(which, Create::IfAbsent, |open| Store::share(&choice.dir, open))?;
    let store = crate::session::shown(&choice.dir);
    world.tell(format_args!("{} is shared among {}", store.display(), cas_store::group_name(group)));
    DONE
}

/// A script that was found.
#[derive(Debug, PartialEq, Eq)]
struct Script {
    path: String,
    solid: String,
    runner: &'static str,
}

fn scripts(folder: &Path) -> Vec<Script> {
    let mut found: Vec<Script> = Vec::new();
    for below in FOLDERS {
        let Ok(entries) = std::fs::read_dir(folder.join(below)) else { continue };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with(['.', '_']))
            .collect();
        names.sort();
        for name in names {
            let Some((stem, extension)) = name.rsplit_once('.') else { continue };
            let Some((_, runner)) = RUNNERS.iter().find(|(known, _)| *known == extension) else { continue };
            let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            // Quotes in YAML and words in a shell are no matter for a starter: such a file is left to its owner.
            if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b)) {
                continue;
            }
            let mut solid = identifier(stem);
            while found.iter().any(|script| script.solid == solid) {
                solid.push_str("_2");
            }
            found.push(Script { path, solid, runner });
        }
    }
    found.truncate(MOST);
    found
}

/// A name that a pipeline takes: `[A-Za-z_][A-Za-z0-9_-]*`.
fn identifier(text: &str) -> String {
    let mut name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, '_');
    }
    name
}

fn starter(name: &str, scripts: &[Script]) -> String {
    let mut text = format!(
        "pipeline: {name}\n# `cas run` runs it, `cas schema` prints what can stand in this file.\n\nsolids:\n"
    );
    if scripts.is_empty() {
        text.push_str(
            "  # A solid is a command that runs in a clean folder, with what is declared here and nothing else.
  hello:
    config: {who: {type: str, default: world}}
    command: echo hello {{ config.who }}
    stdout: result              # standard output becomes hello.result

  shout:
    inputs:
      text: hello               # short for hello.result
    command: tr a-z A-Z < {{ inputs.text }} > {{ outputs.result }}
",
        );
        return text;
    }
    for (index, Script { path, solid, runner }) in scripts.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        // Writing to a `String` cannot fail.
        let _ = write!(
            text,
            "  {solid}:\n    code: [{path}]            # and every file it reads of its own: modules, templates\n    \
             # inputs: {{data: {{path: data/input.csv}}}}   # a file, or a step: {{{{ inputs.data }}}} is its path\n    \
             command: {runner} {path}\n    stdout: result              # or `outputs: [result]`, written to {{{{ outputs.result }}}}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_whatever_stands_there() {
        assert_eq!(identifier("my folder"), "my_folder");
        assert_eq!(identifier("2nd"), "_2nd");
        assert_eq!(identifier(""), "_");
    }

    #[test]
    fn scripts_are_found_in_order_and_odd_ones_are_left() {
        let dir = tempfile::tempdir().expect("a folder for the test");
        std::fs::create_dir(dir.path().join("scripts")).expect("a folder in it");
        for file in ["b.py", "a.sh", "a b.py", ".hidden.py", "notes.txt", "scripts/b.py"] {
            std::fs::write(dir.path().join(file), "").expect("a file in it");
        }
        let found = scripts(dir.path());
        let found: Vec<(&str, &str, &str)> =
            found.iter().map(|s| (s.path.as_str(), s.solid.as_str(), s.runner)).collect();
        assert_eq!(
            found,
            [("a.sh", "a", "sh"), ("b.py", "b", "python3"), ("scripts/b.py", "b_2", "python3")]
        );
    }

    #[test]
    fn both_starters_are_pipelines() {
        let script = Script { path: "a.sh".to_owned(), solid: "a".to_owned(), runner: "sh" };
        for scripts in [vec![], vec![script]] {
            let text = starter("p", &scripts);
            let mut read = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
            let parsed = cas_engine::file::pipeline(Path::new("pipeline.yaml"), &text, &mut read);
            assert!(parsed.is_ok(), "{text}\n{parsed:?}");
        }
    }
}
