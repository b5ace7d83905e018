//! Giving a step its element of a list: out of the bytes of the whole list, which are in the store.
//!
//! An entry of a folder is laid out from the blobs that it consists of, each checked as any input is. The items of a
//! JSON list are read and checked once for all that follow, and each is held against the digest that entered its
//! step's version.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use cas_store::{Artifact, Digest, Kind, Node, Tree};

use super::lay::{LaidOut, Unready, lost, make_folder};
use super::{Bench, Stored, Task};
use crate::error::EngineError;
use crate::execute::{Content, folder};
use crate::graph::OutputId;
use crate::list::{self, Element, Within};
use crate::value::Value;

/// The list that an element was last taken from.
#[derive(Default)]
pub(super) struct LastList(Mutex<Option<Opened>>);

#[derive(Clone)]
enum Opened {
    Folder(Digest, Arc<Tree>),
    Items(Digest, Arc<Vec<String>>),
}

impl LastList {
    fn get(&self) -> Option<Opened> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, opened: Opened) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
    }
}

impl Bench<'_> {
    /// What a step is given of an element. `at` is where it lies, as a file or folder.
    pub(super) fn element(
        &self,
        task: &Task,
        list: &Stored,
        element: &Element,
        command: bool,
        at: &Path,
        laid: &mut LaidOut,
    ) -> Result<Content, Unready> {
        let Some(of) = &list.artifact else {
            return Err(Unready::Lost(list.output, "the list is not there any more".to_owned()));
        };
        match (&element.within, element.artifact.kind) {
            (Within::Item(item), _) => {
                let items = self.items(list.output, of)?;
                let text = items
                    .get(*item as usize)
                    .filter(|text| Digest::of(text.as_bytes()) == element.artifact.digest);
                match text {
                    Some(text) => Ok(Content::Value(Value::Str(text.clone()))),
                    None => Err(other(list.output)),
                }
            }
            (Within::Entry(_), Kind::File { .. }) => {
                let part = Stored { artifact: Some(element.artifact.clone()), ..list.clone() };
                if !command {
                    return self.value(task, &part, at, laid);
                }
                self.lay(task, list.output, &element.artifact, at, laid)?;
                Ok(Content::File)
            }
            (Within::Entry(name), Kind::Tree) => {
                let tree = self.folder(list.output, of)?;
                let inside = list::below(&tree, name).map_err(|_| other(list.output))?;
                if inside.digest() != element.artifact.digest {
                    return Err(other(list.output));
                }
                self.lay_tree(task, list.output, &inside, &element.artifact.codec, at, laid)?;
                Ok(if command { Content::File } else { Content::Path(at.to_owned()) })
            }
        }
    }

    fn items(&self, output: OutputId, of: &Artifact) -> Result<Arc<Vec<String>>, Unready> {
        if let Some(Opened::Items(digest, items)) = self.last_list.get()
            && digest == of.digest
        {
            return Ok(items);
        }
        let bytes = self.memo.bytes(&of.digest)?.map_err(|error| Unready::Lost(output, lost(&error)))?;
        let items = Arc::new(list::items(&bytes).map_err(|_| other(output))?);
        self.last_list.set(Opened::Items(of.digest, Arc::clone(&items)));
        Ok(items)
    }

    fn folder(&self, output: OutputId, of: &Artifact) -> Result<Arc<Tree>, Unready> {
        if let Some(Opened::Folder(digest, tree)) = self.last_list.get()
            && digest == of.digest
        {
            return Ok(tree);
        }
        let tree = self.memo.tree(&of.digest)?.map_err(|error| Unready::Lost(output, lost(&error)))?;
        let tree = Arc::new(tree);
        self.last_list.set(Opened::Folder(of.digest, Arc::clone(&tree)));
        Ok(tree)
    }

    /// Lays out a folder that is no stored tree of its own, file by file.
    fn lay_tree(
        &self,
        task: &Task,
        output: OutputId,
        tree: &Tree,
        codec: &str,
        at: &Path,
        laid: &mut LaidOut,
    ) -> Result<(), Unready> {
        make_folder(at)?;
        for entry in &tree.entries {
            let place = at.join(&entry.path);
            if let Some(parent) = place.parent() {
                make_folder(parent)?;
            }
            match &entry.node {
                Node::File { digest, len, executable } => {
                    let kind = Kind::File { executable: *executable };
                    let artifact = Artifact { kind, codec: codec.to_owned(), digest: *digest, len: *len };
                    self.lay(task, output, &artifact, &place, laid)?;
                }
                Node::Link { target } => symlink(target, &place).map_err(|source| EngineError::Io {
                    action: "make",
                    path: place.clone(),
                    source,
                })?,
                Node::Folder => make_folder(&place)?,
            }
        }
        date(at)
    }
}

/// Gives a folder and all folders in it the time that everything given has.
fn date(folder: &Path) -> Result<(), Unready> {
    let io = |action| move |source| EngineError::Io { action, path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(io("read"))? {
        let entry = entry.map_err(io("read"))?;
        if entry.file_type().map_err(io("read"))?.is_dir() {
            date(&entry.path())?;
        }
    }
    Ok(folder::date(folder).map_err(io("date"))?)
}

fn other(output: OutputId) -> Unready {
    Unready::Lost(output, "the list does not hold what it was taken apart into".to_owned())
}
