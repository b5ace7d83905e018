//! `cas get`: outputs as files.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use cas_engine::execute::folder::safe_label;
use cas_store::{Artifact, Store, StoreError};
use serde::Serialize;

use super::{done, out};
use crate::address::{Addressed, Ground, Item};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;

/// Write outputs as files
///
/// With one output, PATH becomes it. With several, or where PATH ends in `/` or is a folder, they go inside by file
/// name; two of the same name are told apart by their steps. Without PATH they go into the current folder.
///
/// The files are yours: they can be written to, and are no links into the store. Nothing that exists is replaced
/// without --overwrite.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas get emit_sentence sentence.txt
  $ cas get 'train[*].model' report models/")]
pub(crate) struct GetArgs {
    /// Write these outputs; the last one may be PATH, where they go
    #[arg(value_name = "STEP[.OUTPUT]", required = true, num_args = 1..)]
    names: Vec<String>,
    /// Replace what exists
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Got {
    output: String,
    path: String,
    bytes: u64,
}

pub(crate) fn get(world: &mut World, args: &GetArgs) -> Result<Code, Failure> {
    let ground = Ground::new(world, &args.which)?;
    // A name of the pipeline wins over a path.
    let (names, path) = match args.names.as_slice() {
        [names @ .., last] if !names.is_empty() && !ground.knows(last) => (names, Some(last.as_str())),
        names => (names, None),
    };
    let Addressed { items, plan } = ground.find(world, names)?;
    let store = ground.store()?;
    let mut stored = Vec::new();
    for item in &items {
        stored.push((item, item.stored()?));
    }
    let file_name = |item: &Item| match (&plan, item.output, &item.output_name) {
        (Some((plan, _)), Some(output), _) => {
            let at = &plan.graph.solid(output.step).outputs[usize::from(output.output)].at;
            at.trim_end_matches('/').rsplit('/').next().unwrap_or(at).to_owned()
        }
        (_, _, Some(name)) => name.clone(),
        (_, _, None) => item.name.clone(),
    };
    let targets = targets(
        &stored.iter().map(|(item, _)| (file_name(item), item.name.as_str())).collect::<Vec<_>>(),
        path,
    );
    // All or nothing, as far as can be told before: half of what was asked for is in the way of the next try.
    let taken = targets.iter().find(|target| !args.overwrite && target.symlink_metadata().is_ok());
    if let Some(target) = taken {
        return Err(
            Failure::usage(format!("`{}` exists already", target.display())).hint("--overwrite replaces it")
        );
    }
    let mut places = HashSet::new();
    if let Some(target) = targets.iter().find(|target| !places.insert(*target)) {
        return Err(Failure::usage(format!("two of these outputs would become `{}`", target.display()))
            .hint("get them one by one, each with its own PATH"));
    }
    let mut got = Vec::new();
    for ((item, artifact), target) in stored.iter().zip(&targets) {
        put(store, artifact, target)?;
        item.tell_origin(world, store)?;
        got.push(Got { output: item.name.clone(), path: target.display().to_string(), bytes: artifact.len });
    }
    let mut out = out();
    if world.json() {
        json::document(&mut out, "get", got)?;
    } else {
        for Got { output, path, bytes } in got {
            world.tell(format_args!("{path}  {output}, {}", words::size(bytes)));
        }
    }
    done(out)
}

/// Where each file goes: its own name and the name of its output are given.
fn targets(files: &[(String, &str)], path: Option<&str>) -> Vec<PathBuf> {
    let path = path.unwrap_or("");
    let folder = Path::new(path);
    if files.len() == 1 && !path.is_empty() && !path.ends_with('/') && !folder.is_dir() {
        return vec![folder.to_owned()];
    }
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for (file, _) in files {
        *uses.entry(file).or_default() += 1;
    }
    files
        .iter()
        .map(|(file, output)| {
            let name = if uses[file.as_str()] == 1 {
                file.clone()
            } else {
                // `train[lr=0.1].model` and `model.bin` give `train[lr=0.1].model.bin`; a `/` in a label would be
                // another folder. Different steps give different names.
                let (step, _) = output.rsplit_once('.').unwrap_or((output, ""));
                format!("{}.{file}", safe_label(step))
            };
            folder.join(name)
        })
        .collect()
}

/// Puts one output in its place, whole or not at all: it is laid beside the place and then renamed.
fn put(store: &Store, artifact: &Artifact, target: &Path) -> Result<(), Failure> {
    let cannot =
        |error: std::io::Error| Failure::usage(format!("cannot write `{}`", target.display())).because(error);
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(cannot)?;
    let Some(name) = target.file_name() else {
        return Err(Failure::usage(format!("`{}` names no file", target.display())));
    };
    let beside = folder.join(format!(".{}.{}.cas", name.to_string_lossy(), std::process::id()));
    let laid = store.materialize(artifact, &beside).map_err(|error| match error {
        // It is the place that is at fault, not the store.
        StoreError::Io { source, path, .. } if path.starts_with(&beside) => cannot(source),
        error => error.into(),
    });
    let placed = laid.and_then(|()| {
        match target.symlink_metadata() {
            // A folder cannot be renamed over.
            Ok(there) if there.is_dir() => std::fs::remove_dir_all(target).map_err(cannot)?,
            Ok(_) if beside.is_dir() => std::fs::remove_file(target).map_err(cannot)?,
            Ok(_) | Err(_) => {}
        }
        std::fs::rename(&beside, target).map_err(cannot)
    });
    if placed.is_err() {
        // Whichever it is; if it cannot be removed there is nothing more to do, and the failure is told.
        let _ = std::fs::remove_file(&beside);
        let _ = std::fs::remove_dir_all(&beside);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_output_becomes_the_path_and_several_go_inside_by_name() {
        let check = |files: &[(&str, &str)], path: Option<&str>, expected: &[&str]| {
            let files: Vec<(String, &str)> =
                files.iter().map(|(file, output)| ((*file).to_owned(), *output)).collect();
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(targets(&files, path), expected);
        };
        check(&[("chart.png", "plot.chart")], Some("x.png"), &["x.png"]);
        check(&[("chart.png", "plot.chart")], Some("new/"), &["new/chart.png"]);
        check(&[("chart.png", "plot.chart")], None, &["chart.png"]);
        check(&[("chart.png", "plot.chart"), ("t.csv", "plot.t")], Some("x"), &["x/chart.png", "x/t.csv"]);
        check(
            &[("m.bin", "train[f=a/b].m"), ("m.bin", "train[f=c].m"), ("r", "all.r")],
            Some("x"),
            &["x/train[f=a%2Fb].m.bin", "x/train[f=c].m.bin", "x/r"],
        );
        // Once `a/b` and `a_b` were one name, and one result took the place of the other.
        check(&[("m", "t[f=a/b].m"), ("m", "t[f=a_b].m")], Some("x/"), &["x/t[f=a%2Fb].m", "x/t[f=a_b].m"]);
    }
}
