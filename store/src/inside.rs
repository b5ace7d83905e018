//! Paths below an open folder, reached through no link, whoever puts one there meanwhile.
//!
//! What a step left running, or another process of its user, may exchange a folder for a link between two looks at it.
//! Paths from the root would then lead elsewhere: what is not the step's would be stored, moved into the store, or have
//! its mode changed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, renameat};
use rustix::io::Errno;

/// Opens what stands at a path below a folder; [`is_link`] where the way there, or its end, is a link.
pub(crate) fn open(folder: impl AsFd, below: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(&folder, below, flags, Mode::empty(), within) {
        // A kernel before 5.6, or a filter of system calls: then only the last name is looked at.
        Err(Errno::NOSYS | Errno::PERM) => openat(&folder, below, flags, Mode::empty()),
        opened => opened,
    }
}

/// Moves what stands at a path below a folder to another path.
pub(crate) fn rename(folder: impl AsFd, below: &Path, to: &Path) -> rustix::io::Result<()> {
    let (Some(parent), Some(name)) = (below.parent(), below.file_name()) else { return Err(Errno::INVAL) };
    let parent = open(folder, parent, OFlags::PATH | OFlags::DIRECTORY)?;
    renameat(parent, name, CWD, to)
}

/// Whether this says that a link stands where none may.
pub(crate) fn is_link(error: Errno) -> bool {
    matches!(error, Errno::LOOP | Errno::XDEV)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_is_gone_through() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        for folder in [&inside, &outside] {
            fs::create_dir_all(folder.join("a")).unwrap();
            fs::write(folder.join("a/file"), "1").unwrap();
        }
        symlink(&outside, inside.join("link")).unwrap();
        symlink("a", inside.join("near")).unwrap();
        let folder = File::open(&inside).unwrap();
        let opened = |below: &str| open(&folder, Path::new(below), OFlags::RDONLY).map(drop);
        assert_eq!(opened("a/file"), Ok(()));
        assert_eq!(opened(""), Ok(()));
        for link in ["link", "near", "link/a/file", "near/file", "../out/a/file"] {
            assert!(is_link(opened(link).unwrap_err()), "{link}");
            assert!(
                rename(&folder, &Path::new(link).join("x"), &dir.path().join("moved")).is_err(),
                "{link}"
            );
        }
        assert_eq!(opened("b"), Err(Errno::NOENT));
        assert!(is_link(rename(&folder, Path::new("link/a/file"), &dir.path().join("moved")).unwrap_err()));
        rename(&folder, Path::new("a/file"), &dir.path().join("moved")).unwrap();
        assert!(dir.path().join("moved").exists() && outside.join("a/file").exists());
    }
}
