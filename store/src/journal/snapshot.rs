//! A snapshot: the whole index as a segment, which takes the place of those before it.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::segment::{Header, KIND_SNAPSHOT, Segment, segment_path};
use super::sync_folder;
use crate::change::Change;
use crate::codec;
use crate::crash;
use crate::disk;
use crate::error::{At, StoreError};
use crate::index::{Family, View};
use crate::plain_file;
use crate::tables::{RECORD_VERSION, kind};

/// One part of a snapshot holds about this many bytes.
const SNAPSHOT_PART_BYTES: usize = 256 * 1024;

/// Writes the index, as it was when segment `number + 1` began, as segment `number`, and gives up the
/// segments before it. Appending goes on meanwhile. The index must be on disk up to that point.
pub(crate) fn write_snapshot(
    dir: &Path,
    store: &str,
    number: u64,
    view: &View<'_>,
) -> Result<(), StoreError> {
    let temporary = dir.join(format!("{number:016}.new"));
    let file = plain_file::replace(&temporary).at("make", &temporary)?;
    let mut out = BufWriter::with_capacity(256 * 1024, file);
    let header = Header { number, kind: KIND_SNAPSHOT, previous: 0 };
    out.write_all(&header.to_bytes(store)).at("write", &temporary)?;
    for family in Family::ALL {
        if family == Family::Scratch {
            continue;
        }
        let mut part = Vec::new();
        let mut size = 0;
        let mut write = |part: &mut Vec<(Vec<u8>, Vec<u8>)>| {
            let change = Change::Entries { family: family.number(), entries: std::mem::take(part) };
            let record = codec::encode(kind::CHANGE, RECORD_VERSION, &change)
                .map_err(|error| StoreError::Index { dir: dir.to_owned(), what: error.to_string() })?;
            out.write_all(&record).at("write", &temporary)
        };
        view.scan(family, &mut |key, value| {
            part.push((key.to_vec(), value.to_vec()));
            size += key.len() + value.len();
            if size >= SNAPSHOT_PART_BYTES {
                write(&mut part)?;
                size = 0;
            }
            Ok(true)
        })?;
        if !part.is_empty() {
            write(&mut part)?;
        }
    }
    crash::point("journal.snapshot-written");
    let file = out.into_inner().map_err(io::IntoInnerError::into_error).at("write", &temporary)?;
    disk::written(&temporary);
    disk::sync(&file, &temporary).at("sync", &temporary)?;
    let path = segment_path(dir, number);
    disk::rename(&temporary, &path).at("rename", &temporary)?;
    sync_folder(dir)?;
    crash::point("journal.snapshot-named");
    for old in Segment::numbers(dir)? {
        if old < number {
            let path = segment_path(dir, old);
            disk::remove(&path).at("remove", &path)?;
        }
    }
    Ok(())
}
