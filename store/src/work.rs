//! The folders that were handed out for work, scratch folders among them: which there are, and their removal.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::error::{At, StoreError};
use crate::layout::Layout;
use crate::processes;
use crate::scratch;

/// A folder below the store's work folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkFolder {
    /// Where it is.
    pub path: PathBuf,
    /// When something directly in it was last made or removed; of a scratch folder, when it was last taken.
    pub modified_ms: u64,
    /// Whether it lies among those that were kept of failures, in `failed/`.
    pub kept: bool,
    /// Whether it was handed out by a process that has the store open now; of a scratch folder, whether somebody has it.
    pub in_use: bool,
}

/// The work folders of a store that are this user's, by name; `own` is in the names of those that this process handed out.
pub(crate) fn list(layout: &Layout, own: &str) -> Result<Vec<WorkFolder>, StoreError> {
    let mut folders = Vec::new();
    let in_use = |name: &str| {
        // `<label>-<token>-<number>`: the token says whose it is.
        name.rsplit('-').nth(1).is_some_and(|token| token == own || processes::is_live(layout, token))
    };
    list_in(&layout.work(), false, &in_use, &mut folders)?;
    folders.retain(|folder| folder.path != failed(layout));
    list_in(&failed(layout), true, &|_| false, &mut folders)?;
    scratch::list(layout, &mut folders)?;
    folders.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(folders)
}

/// Where folders are moved that are kept of failures.
fn failed(layout: &Layout) -> PathBuf {
    layout.work().join("failed")
}

fn list_in(
    dir: &Path,
    kept: bool,
    in_use: &dyn Fn(&str) -> bool,
    folders: &mut Vec<WorkFolder>,
) -> Result<(), StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.at("list", dir)?,
    };
    let own_user = rustix::process::geteuid().as_raw();
    for entry in entries {
        let path = entry.at("list", dir)?.path();
        let metadata = match fs::symlink_metadata(&path) {
            // A step's folder may go at any time.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.at("look at", &path)?,
        };
        // Another user's can be neither looked into nor removed.
        if own_user != 0 && metadata.uid() != own_user {
            continue;
        }
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        folders.push(WorkFolder {
            modified_ms: modified.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            kept,
            in_use: in_use(&name),
            path,
        });
    }
    Ok(())
}

/// Removes a work folder, whatever permissions a step left in it, and says how many bytes that freed.
pub(crate) fn remove(layout: &Layout, folder: &WorkFolder) -> Result<u64, StoreError> {
    let refuse = |what: &str| {
        let source = std::io::Error::other(what.to_owned());
        Err(StoreError::Io { action: "remove", path: folder.path.clone(), source })
    };
    let parent = folder.path.parent();
    if parent == Some(layout.scratch().as_path()) {
        return scratch::remove(&folder.path);
    }
    if parent != Some(layout.work().as_path()) && parent != Some(failed(layout).as_path()) {
        return refuse("it is not one of the store's work folders");
    }
    if folder.in_use {
        return refuse("it is in use");
    }
    let bytes = open_up(&folder.path)?;
    let metadata = fs::symlink_metadata(&folder.path).at("look at", &folder.path)?;
    if metadata.is_dir() {
        fs::remove_dir_all(&folder.path).at("remove", &folder.path)?;
    } else {
        fs::remove_file(&folder.path).at("remove", &folder.path)?;
    }
    Ok(bytes)
}

/// Makes folders writable, so that what is in them can be removed; gives the bytes of their files. Links
/// are not followed.
pub(crate) fn open_up(path: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0;
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).at("look at", &path)?;
        if !metadata.is_dir() {
            bytes += metadata.len();
            continue;
        }
        let mode = metadata.permissions().mode();
        if mode & 0o700 != 0o700 {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o700)).at("open up", &path)?;
        }
        for entry in fs::read_dir(&path).at("list", &path)? {
            open.push(entry.at("list", &path)?.path());
        }
    }
    Ok(bytes)
}
