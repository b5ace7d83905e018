//! The folders that were handed out for work, scratch folders among them: which there are, and their removal.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::error::{At, StoreError};
use crate::inside;
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

/// Makes folders writable, so that what is in them can be removed; gives the bytes of their files.
///
/// Links are not followed, neither those that are found nor those that somebody puts in the place of a folder that was
/// found: each folder is reached from the first (`inside.rs`), and looked at and changed by its descriptor.
pub(crate) fn open_up(path: &Path) -> Result<u64, StoreError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let first = match openat(CWD, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(folder) => folder,
        // A file, or a link.
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return Ok(fs::symlink_metadata(path).at("look at", path)?.len());
        }
        Err(error) => return Err(error).at("open up", path),
    };
    let mut bytes = 0;
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let here = || path.join(&below);
        let folder = match inside::open(&first, &below, flags) {
            Ok(folder) => folder,
            // It is not there any longer, or is something else by now: what removes it looks for itself.
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(error) if inside::is_link(error) => continue,
            Err(error) => return Err(error).at("open up", &here()),
        };
        let mode = rustix::fs::fstat(&folder).at("look at", &here())?.st_mode;
        if mode & 0o700 != 0o700 {
            // By its descriptor: a folder that may not be read can be opened only so, and changed only there.
            let itself = format!("/proc/self/fd/{}", folder.as_raw_fd());
            let wider = fs::Permissions::from_mode(mode & 0o7777 | 0o700);
            fs::set_permissions(itself, wider).at("open up", &here())?;
        }
        let listed =
            openat(&folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        for entry in listed.and_then(Dir::new).at("list", &here())? {
            let entry = entry.at("list", &here())?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match rustix::fs::statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => open.push(below.join(name)),
                Ok(stat) => bytes += u64::try_from(stat.st_size).unwrap_or(0),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error).at("look at", &here().join(name)),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn folders_are_opened_up_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "1234567").unwrap();
        fs::write(inside.join("a/b/file"), "12345").unwrap();
        symlink(&outside, inside.join("a/link")).unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o500)).unwrap();
        fs::set_permissions(inside.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(inside.join("a"), fs::Permissions::from_mode(0o2100)).unwrap();
        let link = outside.as_os_str().len() as u64;
        assert_eq!(open_up(&inside).unwrap(), 5 + link);
        assert_eq!(
            [mode(&inside.join("a")), mode(&inside.join("a/b")), mode(&outside)],
            [0o2700, 0o700, 0o500]
        );
        assert_eq!(open_up(&inside.join("a/link")).unwrap(), link);
        assert_eq!(open_up(&inside.join("a/b/file")).unwrap(), 5);
        assert_eq!(mode(&outside), 0o500);
    }

    /// What a step left running puts a link in the place of a folder, and back, while its folder is opened up.
    #[test]
    fn a_folder_that_becomes_a_link_meanwhile_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::create_dir_all(outside.join("b")).unwrap();
        for folder in [&outside.join("b"), &outside] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).unwrap();
        }
        let (folder, link) = (inside.join("a"), inside.join("link"));
        symlink(&outside, &link).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    rustix::fs::renameat_with(CWD, &folder, CWD, &link, rustix::fs::RenameFlags::EXCHANGE)
                        .expect("both are there");
                }
            });
            for _ in 0..2000 {
                let opened = open_up(&inside);
                if opened.is_err() || mode(&outside) != 0o500 || mode(&outside.join("b")) != 0o500 {
                    done.store(true, Ordering::Relaxed);
                    panic!("{opened:?}: {:o} {:o}", mode(&outside), mode(&outside.join("b")));
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
