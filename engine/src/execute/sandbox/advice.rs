//! What a step used beyond what it was given, in words, and the lines that declare it in the pipeline file.
//!
//! Pure but for the questions whether something is a folder, what belongs to a program, and what a folder gives as code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::{Attempt, Content, Undeclared};
use super::listing::Declared;
use super::rules::{belonging, beside, holds_programs};
use super::{Confinement, Seen, Use};
use crate::file::is_name;
use crate::source;

/// Files of the project that end so are code; others are data.
const CODE: &[&str] = &[
    "awk", "bash", "c", "cc", "cpp", "cu", "f90", "go", "h", "hpp", "hs", "java", "jl", "js", "kt", "lua",
    "m", "mjs", "mk", "ml", "nim", "php", "pl", "pm", "ps1", "py", "r", "R", "rb", "rs", "sas", "sc",
    "scala", "sed", "sh", "smk", "sql", "stan", "swift", "tcl", "ts", "zig", "zsh",
];

/// So many files of one folder are declared as that folder.
const MANY: usize = 12;

/// What is to be said of what a step used; `None` where that is nothing.
pub(crate) fn advice(
    seen: &Seen,
    attempt: &Attempt<'_>,
    confinement: &Confinement<'_>,
) -> Option<Undeclared> {
    if seen.paths.is_empty() {
        return None;
    }
    let project =
        std::fs::canonicalize(confinement.project).unwrap_or_else(|_| confinement.project.to_owned());
    let store = confinement.store.and_then(|store| std::fs::canonicalize(store).ok());
    let stored = |path: &Path| store.as_ref().is_some_and(|store| path.starts_with(store));
    let shown = |path: &Path| match path.strip_prefix(&project) {
        Ok(inside) if inside != Path::new("") => inside.to_string_lossy().into_owned(),
        _ => path.to_string_lossy().into_owned(),
    };
    let mut left: BTreeMap<&Path, Use> =
        seen.paths.iter().map(|(path, how)| (path.as_path(), *how)).collect();
    let programs = programs(seen, &mut left, &project);
    let of_programs = programs.iter().map(|(program, more)| match more {
        0 => format!("ran {}", shown(program)),
        more => format!("ran {} (and used {more} more of what belongs to it)", shown(program)),
    });
    let others = left.iter().map(|(path, how)| {
        let note = match how {
            Use::Wrote => " (what it writes belongs into its outputs or TMPDIR)",
            Use::Removed => " (only what is in its own folder is its to remove)",
            _ if stored(path) => " (a file of the store: take the step output as an input)",
            _ => "",
        };
        let word = match how {
            Use::Listed => "listed",
            Use::Read => "read",
            Use::Ran => "ran",
            Use::Removed => "removed",
            Use::Wrote => "wrote",
        };
        format!("{word} {}{note}", shown(path))
    });
    let used = of_programs.chain(others).collect();
    left.retain(|path, how| {
        let declarable = *how < Use::Removed && !stored(path) && !project.starts_with(path);
        // Folders that near to the root hold everything.
        declarable && (*how != Use::Listed || path.components().count() > 2)
    });
    let programs: Vec<&Path> = programs.into_iter().map(|(program, _)| program).collect();
    let changed: Vec<&Path> =
        seen.paths.iter().filter(|(_, how)| **how >= Use::Removed).map(|(path, _)| path.as_path()).collect();
    // As code it lacks what ignore files leave out; a step that lists it sees that, too.
    let listed_as_code = |folder: &Path| {
        let names = source::as_code(&project, store.as_deref(), folder);
        names.is_some_and(|names| Declared { names, store: store.as_deref() }.parts(folder) == [folder])
    };
    // As what is used is told: without links on the way to the project.
    let inside = |from: &Path| from.strip_prefix(confinement.project).ok().map(|path| project.join(path));
    let given = Given {
        code: attempt.files.iter().filter_map(|file| inside(&file.from)).collect(),
        data: data(attempt).filter_map(inside).collect(),
        listed_as_code: &listed_as_code,
    };
    let lines = lines(left, &changed, &programs, attempt, &project, &given, &shown);
    Some(Undeclared { refused: confinement.refuses, used, lines })
}

/// What a step was given of the project, as far as it matters to how a folder is declared.
struct Given<'a> {
    /// The files of its code and its resources.
    code: BTreeSet<PathBuf>,
    /// Those of its inputs.
    data: BTreeSet<PathBuf>,
    /// Whether a folder that is declared as code may be listed.
    listed_as_code: &'a dyn Fn(&Path) -> bool,
}

fn data<'a>(attempt: &'a Attempt<'_>) -> impl Iterator<Item = &'a Path> {
    let measured = attempt.inputs.iter().filter_map(|given| match &given.content {
        Content::Project { measured, .. } => Some(measured),
        _ => None,
    });
    measured.flat_map(|measured| &measured.files.files).map(|file| file.from.as_path())
}

/// The programs that a resource would have to name, each with how much of what was used belongs to it; that is taken
/// out of what is left.
fn programs<'a>(seen: &'a Seen, left: &mut BTreeMap<&Path, Use>, project: &Path) -> Vec<(&'a Path, usize)> {
    let mut programs = Vec::new();
    // Those that others start come with these: a shim, or the link of a virtual environment.
    let ran = seen.paths.iter().filter(|(_, how)| **how == Use::Ran).map(|(path, _)| path);
    let (shims, ran): (Vec<&PathBuf>, Vec<&PathBuf>) =
        ran.partition(|path| path.parent().is_some_and(|folder| folder.ends_with("shims")));
    for program in seen.named.iter().chain(shims).chain(ran) {
        if !program.parent().is_some_and(holds_programs) {
            continue;
        }
        let parts: Vec<PathBuf> = beside(program)
            .iter()
            .flat_map(|program| program.parent().map(|folder| belonging(folder, project)).unwrap_or_default())
            .filter_map(|part| part.canonicalize().ok())
            .collect();
        let before = left.len();
        left.retain(|path, how| *how >= Use::Removed || !parts.iter().any(|part| path.starts_with(part)));
        let taken = before - left.len();
        if taken > 0 {
            let itself = usize::from(seen.paths.get(program) == Some(&Use::Ran));
            programs.push((program.as_path(), taken - itself.min(taken)));
        }
    }
    programs
}

fn lines(
    mut left: BTreeMap<&Path, Use>,
    changed: &[&Path],
    programs: &[&Path],
    attempt: &Attempt<'_>,
    project: &Path,
    given: &Given<'_>,
    shown: &dyn Fn(&Path) -> String,
) -> Vec<String> {
    let mut names: BTreeSet<String> = attempt.inputs.iter().map(|given| given.name.clone()).collect();
    let mut code: Vec<String> = Vec::new();
    let mut inputs = Vec::new();
    let resources: Vec<(String, String)> = programs
        .iter()
        .map(|program| (free_name(program, &mut names), format!("{} --version", shown(program))))
        .collect();
    // A folder in which the step itself makes or removes something would be another one after each run.
    left.retain(|path, how| *how != Use::Listed || !changed.iter().any(|changed| changed.starts_with(path)));
    let folders: Vec<&Path> =
        left.iter().filter(|(_, how)| **how == Use::Listed).map(|(path, _)| *path).collect();
    let is_code_file = |path: &Path, how: Use| {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        path.starts_with(project) && how != Use::Listed && (how == Use::Ran || CODE.contains(&extension))
    };
    // One of which only code was read is code: as that, it is without what interpreters leave in it. What it was given was
    // not told of, and may have been read.
    let any_in = |files: &BTreeSet<PathBuf>, folder: &Path| {
        files.range(folder.to_owned()..).next().is_some_and(|file| file.starts_with(folder))
    };
    let of_code: BTreeSet<&Path> = folders
        .iter()
        .copied()
        .filter(|folder| {
            let mut inside =
                left.iter().filter(|(path, how)| **how != Use::Listed && path.starts_with(folder));
            let mut any = any_in(&given.code, folder);
            let only_code = inside.all(|(path, how)| {
                any = true;
                is_code_file(path, *how)
            });
            let is_code = only_code && any && folder.starts_with(project) && !any_in(&given.data, folder);
            is_code && (given.listed_as_code)(folder)
        })
        .collect();
    let inside_one = |path: &Path| folders.iter().any(|folder| path != *folder && path.starts_with(folder));
    left.retain(|path, _| !inside_one(path));
    let mut by_folder: BTreeMap<(&Path, bool), usize> = BTreeMap::new();
    let is_code = |path: &Path, how: Use| is_code_file(path, how) || of_code.contains(path);
    for (path, how) in &left {
        *by_folder.entry((path.parent().unwrap_or(path), is_code(path, *how))).or_default() += 1;
    }
    let mut told = BTreeSet::new();
    for (path, how) in &left {
        let code_file = is_code(path, *how);
        let folder = path.parent().unwrap_or(path);
        let many =
            by_folder.get(&(folder, code_file)).is_some_and(|count| *count > MANY) && folder != project;
        let path = if many { folder } else { path };
        if !told.insert((path, code_file)) {
            continue;
        }
        if code_file {
            code.push(shown(path));
        } else {
            inputs.push((free_name(path, &mut names), shown(path), !path.starts_with(project)));
        }
    }
    written(attempt, &code, &inputs, &resources)
}

/// The lines of YAML. Lists are given whole, because a key stands once.
fn written(
    attempt: &Attempt<'_>,
    code: &[String],
    inputs: &[(String, String, bool)],
    resources: &[(String, String)],
) -> Vec<String> {
    let solid = attempt.solid;
    let mut lines = Vec::new();
    if code.is_empty() && inputs.is_empty() && resources.is_empty() {
        return lines;
    }
    let list = |items: &mut dyn Iterator<Item = &str>| items.map(scalar).collect::<Vec<_>>().join(", ");
    lines.push("solids:".to_owned());
    lines.push(format!("  {}:", solid.name));
    if !code.is_empty() {
        let known = solid.code.iter().map(|pattern| pattern.text.as_str());
        lines.push(format!("    code: [{}]", list(&mut known.chain(code.iter().map(String::as_str)))));
    }
    if !resources.is_empty() {
        let known = solid.resources.iter().map(String::as_str);
        let new = resources.iter().map(|(name, _)| name.as_str());
        lines.push(format!("    resources: [{}]", list(&mut known.chain(new))));
    }
    if !inputs.is_empty() {
        lines.push("    inputs:".to_owned());
    }
    for (name, path, external) in inputs {
        let external = if *external { ", external: true" } else { "" };
        lines.push(format!("      {name}: {{path: {}{external}}}", scalar(path)));
    }
    if !resources.is_empty() {
        lines.push("resources:".to_owned());
    }
    for (name, probe) in resources {
        lines.push(format!("  {name}: {{probe: {}}}", scalar(probe)));
    }
    lines
}

/// A text as YAML within brackets.
fn scalar(text: &str) -> String {
    let plain =
        |char: char| char.is_alphanumeric() || matches!(char, '_' | '.' | '/' | '+' | '@' | '-' | '=' | ' ');
    let begins = text.starts_with(|char: char| char.is_alphanumeric() || matches!(char, '_' | '/' | '.'));
    let numeric = text.starts_with(|char: char| char.is_ascii_digit());
    if begins && !numeric && text.chars().all(plain) && text.trim() == text {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}

/// A name made of a file's, that is not taken.
fn free_name(path: &Path, names: &mut BTreeSet<String>) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |char: char| if char.is_ascii_alphanumeric() || char == '_' { char } else { '_' };
    let mut name: String = stem.chars().map(plain).collect();
    if !is_name(&name) {
        name.insert(0, '_');
    }
    let first = name.clone();
    let mut count = 2;
    while !names.insert(name.clone()) {
        name = format!("{first}_{count}");
        count += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_files_and_are_never_taken() {
        let mut names = BTreeSet::from(["x".to_owned()]);
        let mut check = |path: &str, name: &str| assert_eq!(free_name(Path::new(path), &mut names), name);
        check("data/x.csv", "x_2");
        check("data/y z.csv", "y_z");
        check("/srv/3.fa", "_3");
        check("/", "_");
    }

    #[test]
    fn what_is_not_plain_goes_between_quotes() {
        let check = |text: &str, yaml: &str| assert_eq!(scalar(text), yaml);
        check("data/x.csv", "data/x.csv");
        check(".venv/bin/python --version", ".venv/bin/python --version");
        check("a, b", "\"a, b\"");
        check("{x}", "\"{x}\"");
        check("1.5", "\"1.5\"");
        check(" x", "\" x\"");
    }
}
