//! The socket in the store's folder: binding it, connecting to it, and who is at the other end.
//!
//! Only the holder of the host's lock binds or removes it. An address holds 107 bytes; a longer path is
//! reached through the opened folder, as `/proc/self/fd/N/socket`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect as connect_to, listen, socket_with,
};

use crate::config::Sharing;
use crate::layout::Layout;
use crate::share;
use crate::sys::{self, Kept};

/// What an address of a socket holds, without the byte that ends it.
const ADDRESS_BYTES: usize = 107;

/// So many may knock before the first is let in.
const BACKLOG: i32 = 1024;

/// Makes the socket and listens. The caller has the host's lock, so what stands there is left over.
pub(crate) fn listen_at(layout: &Layout, sharing: Sharing) -> io::Result<Kept<UnixListener>> {
    let path = layout.socket();
    remove(layout)?;
    let socket = new_socket()?;
    let (address, _folder) = address(&path)?;
    bind(&socket, &address)?;
    // Who may connect is who may write to the socket's file.
    let mode = match sharing {
        Sharing::Private => 0o600,
        Sharing::Group => 0o660,
    };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    listen(&socket, BACKLOG)?;
    Ok(Kept::new(UnixListener::from(socket)))
}

/// Removes the socket. The caller has the host's lock.
pub(crate) fn remove(layout: &Layout) -> io::Result<()> {
    match std::fs::remove_file(layout.socket()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Connects, without waiting for a host that lets nobody in: that is [`io::ErrorKind::WouldBlock`].
pub(crate) fn connect(layout: &Layout) -> io::Result<Kept<UnixStream>> {
    let socket = new_socket()?;
    let (address, _folder) = address(&layout.socket())?;
    connect_to(&socket, &address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(Kept::new(stream))
}

fn new_socket() -> io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// The address of the socket, and the folder that has to be open while it is used.
fn address(path: &Path) -> io::Result<(SocketAddrUnix, Option<File>)> {
    if path.as_os_str().len() <= ADDRESS_BYTES {
        return Ok((SocketAddrUnix::new(path)?, None));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    let mut short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    short.push(name);
    Ok((SocketAddrUnix::new(short.as_path())?, Some(folder)))
}

/// Whether whoever is at the other end may be talked to, and which user that is; else who that is, in words.
pub(crate) fn check_peer(stream: impl AsFd, layout: &Layout, sharing: Sharing) -> Result<u32, String> {
    let unknown = |error: io::Error| format!("a user that cannot be told ({error})");
    let (user, own_group) = sys::peer(&stream).map_err(unknown)?;
    let own = rustix::process::geteuid().as_raw();
    let of_group = |group: u32| -> io::Result<bool> {
        Ok(own_group == group || sys::peer_groups(&stream)?.contains(&group))
    };
    let trusted = [own, 0, share::owner_of(layout).map_err(unknown)?];
    let is_welcome = is_welcome(user, &trusted, sharing, &|| of_group(share::group_of(layout)?));
    if is_welcome.map_err(unknown)? {
        return Ok(user);
    }
    Err(format!("{} (uid {user})", share::user(user)))
}

/// A private store is its user's, and root's, who may do everything anyway; a shared one its group's too. It is asked at
/// both ends: whoever serves a store to root is its user.
fn is_welcome(
    peer: u32,
    trusted: &[u32],
    sharing: Sharing,
    is_member: &dyn Fn() -> io::Result<bool>,
) -> io::Result<bool> {
    if trusted.contains(&peer) {
        return Ok(true);
    }
    match sharing {
        Sharing::Private => Ok(false),
        Sharing::Group => is_member(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_store_is_not_served_to_others() {
        for (peer, own, sharing, is_member, expected) in [
            (1000, 1000, Sharing::Private, false, true),
            (0, 1000, Sharing::Private, false, true),
            (1001, 1000, Sharing::Private, true, false),
            (1000, 0, Sharing::Private, true, false),
            (1001, 1000, Sharing::Group, true, true),
            (1001, 1000, Sharing::Group, false, false),
            (1000, 1000, Sharing::Group, false, true),
        ] {
            let is_welcome = is_welcome(peer, &[own, 0], sharing, &|| Ok(is_member)).unwrap();
            assert_eq!(is_welcome, expected, "{peer} {own} {sharing:?} {is_member}");
        }
    }

    #[test]
    fn a_path_of_any_length_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        for depth in [0, 1, 8] {
            let folder = (0..depth).fold(dir.path().to_owned(), |path, _| path.join("a".repeat(60)));
            std::fs::create_dir_all(&folder).unwrap();
            let layout = Layout::new(folder);
            assert_eq!(connect(&layout).unwrap_err().kind(), io::ErrorKind::NotFound);
            let listener = listen_at(&layout, Sharing::Private).unwrap();
            let client = connect(&layout).unwrap();
            let own = rustix::process::geteuid().as_raw();
            assert_eq!(check_peer(&*client, &layout, Sharing::Private), Ok(own));
            assert!(crate::sys::peer_groups(&*client).is_ok());
            drop(listener);
            assert_eq!(connect(&layout).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            // Left behind, it is in nobody's way.
            drop(listen_at(&layout, Sharing::Private).unwrap());
            remove(&layout).unwrap();
            assert!(!layout.socket().exists());
        }
    }
}
