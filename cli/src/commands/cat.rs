//! `cas cat`: the bytes of an output on stdout.

use std::io::Write;

use cas_store::{Kind, Node};

use super::done;
use crate::address::Ground;
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::session::World;

/// Write the bytes of an output to stdout
///
/// VERSION is `step.output` (`step` where it has one output), or four digits or more of a version's hex. A path
/// behind it reaches into an output that is a folder.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas cat emit_sentence
  $ cas cat report.site/index.html | head")]
pub(crate) struct CatArgs {
    /// Write this output, or a file inside of it
    #[arg(value_name = "VERSION[/PATH]")]
    version: String,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn cat(world: &mut World, args: &CatArgs) -> Result<Code, Failure> {
    let (name, inside) = split(&args.version);
    let ground = Ground::new(world, &args.which)?;
    let items = ground.find(world, &[name.to_owned()])?.items;
    let [item] = items.as_slice() else {
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).take(5).collect();
        return Err(Failure::usage(format!("`{name}` is several outputs"))
            .hint(format!("give one: {}", names.join(", "))));
    };
    let artifact = item.stored()?;
    let store = ground.store()?;
    let name = &item.name;
    let digest = match (&artifact.kind, inside) {
        (Kind::File { .. }, None) => artifact.digest,
        (Kind::File { .. }, Some(path)) => {
            return Err(Failure::usage(format!("`{name}` is a file: there is no `{path}` in it")));
        }
        (Kind::Tree, path) => {
            let tree = store.tree(&artifact.digest)?;
            let entry = path.and_then(|path| tree.entries.iter().find(|entry| entry.path == path));
            match entry.map(|entry| &entry.node) {
                Some(Node::File { digest, .. }) => *digest,
                Some(Node::Link { target }) => {
                    return Err(Failure::usage(format!(
                        "`{}` in `{name}` is a link to `{target}`",
                        path.unwrap_or("")
                    )));
                }
                Some(Node::Folder) | None => {
                    let below = path.map(|path| format!("{path}/")).unwrap_or_default();
                    let files: Vec<&str> = tree
                        .entries
                        .iter()
                        .map(|entry| entry.path.as_str())
                        .filter(|entry| entry.starts_with(&below))
                        .collect();
                    let problem = match path {
                        Some(path) if files.is_empty() => format!("there is no `{path}` in `{name}`"),
                        Some(path) => format!("`{path}` in `{name}` is a folder"),
                        None => format!("`{name}` is a folder"),
                    };
                    let files = if files.is_empty() {
                        tree.entries.iter().map(|e| e.path.as_str()).collect()
                    } else {
                        files
                    };
                    let more = if files.len() > 5 { ", …" } else { "" };
                    let shown = files.iter().take(5).copied().collect::<Vec<_>>().join(", ");
                    return Err(Failure::usage(problem)
                        .hint(format!("give a file in it ({shown}{more}), or use `{} get`", world.name)));
                }
            }
        }
    };
    item.tell_origin(world, store)?;
    // Bytes go out as they are: no colours are looked for in them.
    let mut out = Out { to: std::io::stdout().lock(), error: None };
    match store.read(&digest, &mut out) {
        Ok(_) => done(out),
        Err(error) => match out.error.take() {
            // It is no fault of the store's.
            Some(error) => Err(error.into()),
            None => {
                // What came out before is not to be taken for the whole.
                let _ = out.flush();
                Err(error.into())
            }
        },
    }
}

/// Where the bytes go; keeps what was wrong with that apart from what is wrong with the store.
struct Out<W> {
    to: W,
    error: Option<std::io::Error>,
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.to.write(bytes).inspect_err(|error| {
            if error.kind() != std::io::ErrorKind::Interrupted {
                self.error = Some(std::io::Error::new(error.kind(), error.to_string()));
            }
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// A name and the path behind it; an element's label may hold a `/`, and it stands in brackets.
fn split(text: &str) -> (&str, Option<&str>) {
    let start = text.rfind(']').map_or(0, |bracket| bracket + 1);
    match text[start..].find('/') {
        Some(slash) => {
            let path = text[start + slash + 1..].trim_end_matches('/');
            (&text[..start + slash], (!path.is_empty()).then_some(path))
        }
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_path_begins_behind_the_name_and_its_element() {
        assert_eq!(split("step.out"), ("step.out", None));
        assert_eq!(split("step.out/a/b.txt"), ("step.out", Some("a/b.txt")));
        assert_eq!(split("step.out/"), ("step.out", None));
        assert_eq!(split("train[f=a/b].model"), ("train[f=a/b].model", None));
        assert_eq!(split("train[f=a/b].model/x"), ("train[f=a/b].model", Some("x")));
    }
}
