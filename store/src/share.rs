//! Sharing a store with a group: who may use it, and what the modes in its folder have to be for that.
//!
//! ```text
//! private   the store's folder is 0700: nobody else gets in
//! group     each folder is 2770 with a default access list: what is made in it is the group's, whatever the umask
//! ```
//!
//! Owns the modes of folders and the access lists. Who makes a file owns it: nobody changes the mode of what another
//! user made, and nobody has to, because the kernel gives a new file the folder's group and what the folder's list
//! says, also those that RocksDB makes. Only `work/` has no such list: a step has the umask that it was promised, and
//! its folder is its user's alone. Who may enter is decided by the kernel at the store's folder; the socket asks for
//! the user and the groups of the other end besides.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, XattrFlags};

use crate::config::{Config, Sharing};
use crate::error::{At, StoreError};
use crate::folder::Folder;
use crate::hosts;
use crate::layout::Layout;
use crate::plain_file;
use crate::store::{Open, Store};

/// The mode of a private store's folder.
pub(crate) const PRIVATE_MODE: u32 = 0o700;

/// The mode of the folders of a shared store: what is made in them is their group's.
const SHARED_MODE: u32 = 0o2770;

/// What the kernel calls the list that new files in a folder get.
const DEFAULT_LIST: &str = "system.posix_acl_default";

impl Store {
    /// Makes the store in a folder one of the folder's group, and the folder a store first if it is none. What other
    /// users made in it stays as it is. Gives the group's number. The store must not be open.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`]; a folder of another user's; a file system that has no access lists.
    pub fn share(dir: &Path, mut open: Open<'_>) -> Result<u32, StoreError> {
        let folder = Folder::open(dir, open.create)?;
        own_folder(&folder.layout)?;
        hosts::alone(&folder, &mut open.wanted(), &|layout, _lock| share(layout))
    }
}

/// What a store's folder is, which has to be this user's.
fn own_folder(layout: &Layout) -> Result<Metadata, StoreError> {
    let root = layout.root();
    let metadata = fs::metadata(root).at("look at", root)?;
    let own = rustix::process::geteuid().as_raw();
    if own != 0 && metadata.uid() != own {
        let source = io::Error::other(format!("it belongs to {}, who can share it", user(metadata.uid())));
        return Err(StoreError::Io { action: "share", path: root.to_owned(), source });
    }
    Ok(metadata)
}

fn share(layout: &Layout) -> Result<u32, StoreError> {
    let root = layout.root();
    let own = rustix::process::geteuid().as_raw();
    let group = own_folder(layout)?.gid();
    let work = layout.work();
    let failed = work.join("failed");
    for folder in [layout.blobs(), layout.staging(), work.clone(), failed.clone()] {
        fs::create_dir_all(&folder).at("make", &folder)?;
    }
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).at("look at", &path)?;
        let is_ours = own == 0 || metadata.uid() == own;
        if metadata.is_dir() {
            if is_ours {
                share_folder(&path, &metadata, group, !path.starts_with(&work))?;
            }
            // What lies in a work folder is its step's.
            if path.starts_with(&work) {
                continue;
            }
            for entry in fs::read_dir(&path).at("list", &path)? {
                open.push(entry.at("list", &path)?.path());
            }
        } else if metadata.is_file() && is_ours {
            share_file(&path, &metadata, group, path.starts_with(layout.blobs()))?;
        }
    }
    share_folder(&failed, &fs::metadata(&failed).at("look at", &failed)?, group, false)?;
    // Last: what says that it is shared is true then.
    Config::save_sharing(&layout.config(), Sharing::Group)?;
    let config = layout.config();
    share_file(&config, &fs::metadata(&config).at("look at", &config)?, group, false)?;
    Ok(group)
}

fn share_folder(path: &Path, metadata: &Metadata, group: u32, lists: bool) -> Result<(), StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(io::Error::from);
    let folder = File::from(folder.at("open", path)?);
    if metadata.gid() != group {
        fchown(&folder, None, Some(group)).at("give to the group", path)?;
    }
    folder.set_permissions(fs::Permissions::from_mode(SHARED_MODE)).at("share", path)?;
    if lists {
        match rustix::fs::fsetxattr(&folder, DEFAULT_LIST, &default_list(), XattrFlags::empty()) {
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let what =
                    "its file system has no access lists, which keep what one user makes open to the others";
                let source = io::Error::new(io::ErrorKind::Unsupported, what);
                return Err(StoreError::Io { action: "share", path: path.to_owned(), source });
            }
            set => set.map_err(io::Error::from).at("share", path)?,
        }
    }
    Ok(())
}

fn share_file(path: &Path, metadata: &Metadata, group: u32, is_blob: bool) -> Result<(), StoreError> {
    if is_blob {
        // Everybody reads it and nobody writes it, as ever.
        if metadata.gid() != group {
            std::os::unix::fs::lchown(path, None, Some(group)).at("give to the group", path)?;
        }
        return Ok(());
    }
    let file = plain_file::open(path, File::options().read(true)).at("open", path)?;
    if metadata.gid() != group {
        fchown(&file, None, Some(group)).at("give to the group", path)?;
    }
    let mode = (file.metadata().at("look at", path)?.mode() & 0o700) | 0o660;
    file.set_permissions(fs::Permissions::from_mode(mode)).at("share", path)
}

/// The access list that makes a new file its owner's and its group's, and nobody else's: version 2, and three entries
/// of a tag, permissions and no id.
fn default_list() -> Vec<u8> {
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions) in [(0x01u16, 7u16), (0x04, 7), (0x20, 0)] {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&permissions.to_le_bytes());
        list.extend_from_slice(&u32::MAX.to_le_bytes());
    }
    list
}

/// Whether the folder of a store that says that it is shared is as it has to be.
pub(crate) fn check(layout: &Layout, config: &Config) -> Result<(), StoreError> {
    check_folders(layout)?;
    if config.sharing == Sharing::Private {
        return Ok(());
    }
    let root = layout.root();
    let mode = fs::metadata(root).at("look at", root)?.mode();
    let mut list = [0; 256];
    let has_list = rustix::fs::getxattr(root, DEFAULT_LIST, &mut list).is_ok_and(|len| len > 0);
    if mode & SHARED_MODE == SHARED_MODE && has_list {
        return Ok(());
    }
    let path = layout.config();
    let what = "the store's folder is not its group's, as `sharing = \"group\"` says: `cas init --shared` makes it so";
    Err(StoreError::Config { line: Config::line_of(&path, "sharing"), path, what: what.to_owned() })
}

/// Refuses a folder of a store in whose place somebody else has put a link: what this process would write, sweep or
/// remove there is its own user's, anywhere. Whose store it is may have moved one to another disk; root follows none but
/// its own.
fn check_folders(layout: &Layout) -> Result<(), StoreError> {
    let root = layout.root();
    let own = rustix::process::geteuid().as_raw();
    let owner = owner_of(layout).at("look at", root)?;
    let trusted = [own, 0, if own == 0 { own } else { owner }];
    for folder in layout.folders() {
        let Ok(metadata) = fs::symlink_metadata(&folder) else { continue };
        if metadata.is_symlink() && !trusted.contains(&metadata.uid()) {
            let name = folder.strip_prefix(root).unwrap_or(&folder).display();
            let whose = user(metadata.uid());
            let why = format!("its folder `{name}` is a link, which {whose} put there and may take away");
            return Err(StoreError::Refused { dir: root.to_owned(), why });
        }
    }
    Ok(())
}

/// The user whose store it is.
pub(crate) fn owner_of(layout: &Layout) -> io::Result<u32> {
    fs::metadata(layout.root()).map(|metadata| metadata.uid())
}

/// The group whose members may use a store.
pub(crate) fn group_of(layout: &Layout) -> io::Result<u32> {
    fs::metadata(layout.root()).map(|metadata| metadata.gid())
}

/// Why nothing in a folder may be looked at, where that is because of who this is.
pub(crate) fn refused(root: &Path) -> Option<StoreError> {
    let metadata = fs::metadata(root).ok()?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() == own {
        return None;
    }
    let why = if metadata.mode() & 0o070 == 0 {
        format!("it is private to {}", user(metadata.uid()))
    } else {
        format!("it is shared among {}, which {} is not in", group(metadata.gid()), user(own))
    };
    Some(StoreError::Refused { dir: root.to_owned(), why })
}

/// Why a process whose files are `made`'s is not to serve a store, nor to make it anew: root gets in everywhere, and a
/// journal or folder of root's would lock out whose store it is. (Some file systems say of all files that they are one
/// user's, whoever makes them: that is why it is asked of a file.)
pub(crate) fn locks_out(layout: &Layout, sharing: Sharing, made: Option<u32>) -> Option<String> {
    let owner = owner_of(layout).ok()?;
    let is_others = sharing == Sharing::Private && made.is_some_and(|made| made != owner);
    is_others.then(|| format!("it is private to {}, whom files of another user would lock out", user(owner)))
}

/// What a user is called, as far as that is known.
pub(crate) fn user(id: u32) -> String {
    format!("the user {}", name("/etc/passwd", id))
}

/// What a group is called.
pub fn group(id: u32) -> String {
    format!("the group {}", name("/etc/group", id))
}

/// The name with this number in a list of the system's, and else the number.
fn name(list: &str, id: u32) -> String {
    let text = fs::read_to_string(PathBuf::from(list)).unwrap_or_default();
    let named = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    });
    named.map_or_else(|| id.to_string(), |name| format!("`{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_list_is_these_bytes() {
        let entry = |tag: u8, permissions: u8| [tag, 0, permissions, 0, 255, 255, 255, 255];
        let expected = [[2, 0, 0, 0].as_slice(), &entry(1, 7), &entry(4, 7), &entry(0x20, 0)].concat();
        assert_eq!(default_list(), expected);
    }

    #[test]
    fn users_are_named_where_the_system_knows_them() {
        assert_eq!(user(0), "the user `root`");
        assert_eq!(user(4_000_000_000), "the user 4000000000");
        assert_eq!(group(0), "the group `root`");
    }
}
