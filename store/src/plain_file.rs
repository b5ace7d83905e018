//! A file by a name that everybody knows, and never what a link of that name points to.
//!
//! In a store that several people share, each of them can put a link where another's process opens a file: what
//! that process then cuts or writes would be its own user's file anywhere.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file as `options` say.
///
/// # Errors
///
/// `ELOOP` where a link has its name, and what opening gives.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

/// An empty file in the place of whatever has this name. Not for files that two processes make at once.
pub(crate) fn replace(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_a_link_points_to_is_neither_opened_nor_written() {
        let dir = tempfile::tempdir().unwrap();
        let (theirs, link) = (dir.path().join("thesis"), dir.path().join("lock"));
        fs::write(&theirs, "chapter 1").unwrap();
        std::os::unix::fs::symlink(&theirs, &link).unwrap();
        let error = open(&link, File::options().read(true).write(true).create(true)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
        replace(&link).unwrap().write_all(b"ours").unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "ours");
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "chapter 1");
    }
}
