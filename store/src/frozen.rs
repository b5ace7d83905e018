//! A store that cannot be written: on a read-only file system, another user's, or without any room left.
//!
//! It is read without its lock, as it is at this moment. Its index's files are opened read-only, what the
//! journal has beyond them is read into memory, and every write is refused with the reason.

use std::io::ErrorKind;
use std::sync::Arc;

use crate::apply;
use crate::blob::Files;
use crate::config::Config;
use crate::durable::Durable;
use crate::error::StoreError;
use crate::host::{Core, check_store};
use crate::index::Index;
use crate::journal::{Journal, Position};
use crate::layout::Layout;

/// Why a store cannot be written, if that is what this error says.
pub(crate) fn reason(error: &StoreError) -> Option<&'static str> {
    let StoreError::Io { source, .. } = error else { return None };
    match source.kind() {
        ErrorKind::ReadOnlyFilesystem => Some("its file system is read-only"),
        ErrorKind::PermissionDenied => Some("it belongs to another user"),
        _ => None,
    }
}

/// Opens a store to be read.
pub(crate) fn open(
    layout: &Layout,
    store_id: &str,
    files: Arc<Files>,
    why: &str,
) -> Result<Core, StoreError> {
    let config = Config::read(&layout.config())?;
    let index = Index::open_frozen(layout.root(), &layout.index())?;
    check_store(&index, store_id)?;
    let applied = index.position()?;
    let mut end = applied.unwrap_or(Position { segment: 0, offset: 0 });
    let (root, dir) = (layout.root(), layout.journal());
    let mut warnings = vec![format!("the store is only read: {why}")];
    let unreadable = Journal::replay(root, &dir, store_id, applied, None, &mut |change, position| {
        end = position;
        apply::apply(&index, change, position).map(drop)
    })?;
    for part in unreadable {
        let (path, offset) = (part.path.display(), part.offset);
        warnings.push(format!("`{path}` cannot be read at byte {offset}: {}", part.what));
    }
    let journal = Journal::frozen(root, &dir, store_id, end, why)?;
    let durable = Durable::frozen(why);
    Core::new(files, index, config, store_id, journal, durable, warnings)
}
