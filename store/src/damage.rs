//! What is known to be lost of the journal: noted once, and told until somebody takes the note away.
//!
//! A loss is found when the store is opened or verified, and mended as far as it can be: the journal is
//! written anew from the index. So that it is not forgotten with that, a note stays in quarantine.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::error::{At, StoreError};
use crate::journal::Position;
use crate::layout::Layout;
use crate::plain_file;

/// Notes a loss.
pub(crate) fn note(layout: &Layout, what: &str) -> Result<(), StoreError> {
    let dir = layout.quarantine();
    fs::create_dir_all(&dir).at("make", &dir)?;
    // Named by its text: what is found again is noted once.
    let name = format!("journal-{}.txt", &blake3::hash(what.as_bytes()).to_hex()[..12]);
    let path = dir.join(name);
    plain_file::replace(&path).and_then(|mut file| file.write_all(what.as_bytes())).at("write", &path)
}

/// All losses that were noted, each with the place of its note.
pub(crate) fn notes(layout: &Layout) -> Result<Vec<String>, StoreError> {
    let dir = layout.quarantine();
    let mut notes = Vec::new();
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(notes),
        other => other.at("list", &dir)?,
    };
    for entry in entries {
        let path = entry.at("list", &dir)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("journal-") && name.ends_with(".txt") {
            let text = fs::read_to_string(&path).unwrap_or_else(|error| error.to_string());
            notes.push(format!(
                "{} (noted in `{}`; delete it when that is settled)",
                text.trim(),
                path.display()
            ));
        }
    }
    notes.sort();
    Ok(notes)
}

/// Where the journal ended when the store was last closed, if that is known.
pub(crate) fn journal_end(path: &Path) -> Option<Position> {
    let text = fs::read_to_string(path).ok()?;
    let (segment, offset) = text.trim().split_once(' ')?;
    Some(Position { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
}

/// Notes where the journal ends. That it could not be noted is no loss: then less is noticed.
pub(crate) fn set_journal_end(path: &Path, end: Position) {
    let _ = plain_file::replace(path).and_then(|mut file| writeln!(file, "{} {}", end.segment, end.offset));
}
