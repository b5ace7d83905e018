//! Programs: where the one is that a name means, and why it cannot be executed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why a program cannot be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoProgram {
    /// It is on none of these folders.
    NowhereOnPath(String),
    /// There is nothing at this path of the folder.
    NotInFolder,
    /// It is a folder or something else.
    NotAFile,
    /// It is not executable.
    NotExecutable,
}

/// Finds a program as a shell would: a name with a `/` is a path (relative to `folder`), another is looked for
/// along `path`.
///
/// # Errors
/// It is not there, or cannot be executed.
pub(crate) fn find_program(name: &str, path: &str, folder: &Path) -> Result<PathBuf, NoProgram> {
    if name.contains('/') {
        let Ok(metadata) = folder.join(name).metadata() else { return Err(NoProgram::NotInFolder) };
        if !metadata.is_file() {
            return Err(NoProgram::NotAFile);
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(NoProgram::NotExecutable);
        }
        return Ok(PathBuf::from(name));
    }
    if !name.is_empty() {
        for entry in path.split(':') {
            // An empty entry is the current folder, by tradition; the path must hold a `/` to be one.
            let entry = if entry.is_empty() { Path::new(".") } else { Path::new(entry) };
            let found = entry.join(name);
            let there =
                if found.is_absolute() { is_program(&found) } else { is_program(&folder.join(&found)) };
            if there {
                return Ok(found);
            }
        }
    }
    Err(NoProgram::NowhereOnPath(path.to_owned()))
}

/// Whether there is something at a path that may be executed.
pub(crate) fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|there| there.is_file() && there.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_along_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "x").unwrap();
        assert_eq!(find_program("sh", "/nowhere:/bin", folder.path()), Ok(PathBuf::from("/bin/sh")));
        assert_eq!(find_program("./plain", "/bin", folder.path()), Err(NoProgram::NotExecutable));
        assert_eq!(find_program("./none", "/bin", folder.path()), Err(NoProgram::NotInFolder));
        assert_eq!(find_program("./", "/bin", folder.path()), Err(NoProgram::NotAFile));
        assert_eq!(find_program("plain", "", folder.path()), Err(NoProgram::NowhereOnPath(String::new())));
        std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_program("plain", "", folder.path()), Ok(PathBuf::from("./plain")));
    }
}
