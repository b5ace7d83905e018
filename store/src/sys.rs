//! What the operating system offers and no safe library gives: the only unsafe code of the store.
//!
//! Asking whether a file is held open for writing, who is at the other end of a socket, starting write-back, mapping a file, and being told of a
//! fork. What is left out is an answer on the safe side: a lease that cannot be had means "held open".
//!
//! **Forks.** A child gets a copy of every descriptor. A lock or a connection that lives on in a child
//! outlives the process that it speaks for: nobody would notice its death. So each descriptor that means
//! something to others is [`Kept`] on a list, and in a child, before anything else runs there, all of
//! them become `/dev/null`. What was opened before the fork can tell that ([`Birth::is_over`]) and refuses.

#![expect(unsafe_code, reason = "system calls without a safe wrapper, mapping a file, and hearing of a fork")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

/// Asks the kernel whether anybody (this process included) has the file open for writing or mapped
/// writable: only then does it refuse a read lease. The lease is given back at once. `file` must be open
/// for reading only. Where there are no leases (network file systems, another user's file), the answer
/// is yes.
pub(crate) fn held_open_for_writing(file: &File) -> bool {
    /// The same on all of Linux; the libc crate does not have it for all.
    const F_SETSIG: libc::c_int = 10;

    let fd = file.as_raw_fd();
    // While the lease is held, whoever opens the file for writing makes the kernel send a signal here, by
    // default one that ends the process. SIGURG is ignored by default.
    // SAFETY: `fcntl` with these commands takes an integer and touches no memory; `fd` is open.
    unsafe {
        if libc::fcntl(fd, F_SETSIG, libc::SIGURG) != 0
            || libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) != 0
        {
            return true;
        }
        libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
    }
    false
}

/// Tells the kernel to begin writing a range of a file to the disk, so that little is left to do when it
/// is to be durable. It is a wish: what fails here is found when the file is synced.
pub(crate) fn start_write_back(file: &File, offset: u64, bytes: u64) {
    let (Ok(offset), Ok(bytes)) = (offset.try_into(), bytes.try_into()) else { return };
    // SAFETY: `sync_file_range` takes integers and touches no memory; the descriptor is open.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, bytes, libc::SYNC_FILE_RANGE_WRITE);
    }
}

/// The user and the group at the other end of a socket. The number of its process is given with that, and is 0
/// where it is in another namespace (a container): the safe call takes that for a failure.
pub(crate) fn peer(socket: impl AsFd) -> io::Result<(u32, u32)> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut bytes = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the kernel writes at most `bytes` bytes to `peer`, whose size that is.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut bytes,
        )
    };
    if done == 0 { Ok((peer.uid, peer.gid)) } else { Err(io::Error::last_os_error()) }
}

/// The groups, besides its own, of the process at the other end of a socket, as they were when it connected.
pub(crate) fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    /// The same on all of Linux but for three old machines; the libc crate has it for some.
    const SO_PEERGROUPS: libc::c_int = 59;

    let fd = socket.as_fd().as_raw_fd();
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let room = groups.len() * size_of::<libc::gid_t>();
        let mut bytes = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: `groups` has room for `bytes` bytes, which is all that the kernel writes; `fd` is open.
        let done = unsafe {
            let into = groups.as_mut_ptr().cast();
            libc::getsockopt(fd, libc::SOL_SOCKET, SO_PEERGROUPS, into, &raw mut bytes)
        };
        let count = usize::try_from(bytes).map_err(io::Error::other)? / size_of::<libc::gid_t>();
        if done == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // There are more than that, and it says how many.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// Maps a whole file for reading.
///
/// The bytes are only as constant as the file. Blob files are: read-only, never written again once they
/// have their name, and removed without being cut short (a removed file stays whole for who has it
/// mapped). Somebody who cuts one short by hand makes the reader fault; what is overwritten by hand is
/// found at the next check.
pub(crate) fn map(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: see above; the file is one that this program does not change while it stands.
    unsafe { memmap2::Mmap::map(file) }
}

/// How many descriptors can be kept from children. One that finds no room is shared with them.
const KEPT_MAX: usize = 4096;

/// The descriptors that no child may have; -1 is a free place.
static KEPT: [AtomicI32; KEPT_MAX] = [const { AtomicI32::new(-1) }; KEPT_MAX];

/// What the descriptors become in a child; -1 until it is open.
static NOTHING: AtomicI32 = AtomicI32::new(-1);

/// How many forks lie between the first process and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    // The libc crate does not declare it for Linux, where every C library has it.
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> libc::c_int;
}

/// Runs in a child between the fork and everything else; calls nothing but what may be called there.
unsafe extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    let nothing = NOTHING.load(Ordering::SeqCst);
    for kept in &KEPT {
        let fd = kept.swap(-1, Ordering::SeqCst);
        if fd >= 0 && nothing >= 0 {
            // SAFETY: `dup3` takes integers; it may be called in a child. Whoever owns `fd` here goes on
            // to own a descriptor that leads nowhere, so that closing it later closes nothing else.
            unsafe {
                libc::dup3(nothing, fd, libc::O_CLOEXEC);
            }
        }
    }
}

/// Asks to be told of forks, once.
fn watch_forks() {
    static WATCHED: OnceLock<Option<File>> = OnceLock::new();
    WATCHED.get_or_init(|| {
        let nothing = File::options().read(true).write(true).open("/dev/null").ok();
        if let Some(nothing) = &nothing {
            NOTHING.store(nothing.as_raw_fd(), Ordering::SeqCst);
        }
        // SAFETY: `in_child` lives as long as the program and does only what may be done in a child.
        unsafe {
            pthread_atfork(None, None, Some(in_child));
        }
        nothing
    });
}

/// Something with a descriptor that no child of a fork gets (and no program that is executed: everything
/// that is opened here is closed then).
#[derive(Debug)]
pub(crate) struct Kept<T: AsFd> {
    inner: T,
    place: Option<usize>,
}

impl<T: AsFd> Kept<T> {
    pub(crate) fn new(inner: T) -> Self {
        watch_forks();
        let fd = inner.as_fd().as_raw_fd();
        let free =
            |place: &AtomicI32| place.compare_exchange(-1, fd, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        let place = KEPT.iter().position(free);
        Self { inner, place }
    }
}

impl<T: AsFd> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: AsFd> Drop for Kept<T> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            // In a child the place is free already, or another's.
            let fd = self.inner.as_fd().as_raw_fd();
            let _ = KEPT[place].compare_exchange(fd, -1, Ordering::SeqCst, Ordering::Relaxed);
        }
    }
}

/// In which process something came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Birth(u64);

impl Birth {
    pub(crate) fn now() -> Self {
        watch_forks();
        Self(FORKS.load(Ordering::SeqCst))
    }

    /// Whether that was before a fork, in the parent: threads, locks and connections stayed there.
    pub(crate) fn is_over(self) -> bool {
        self.0 != FORKS.load(Ordering::SeqCst)
    }
}

/// A value that every process of a family has for itself: in a child it is made anew, because what it
/// was in the parent may have been locked by a thread that does not exist here.
pub(crate) struct PerProcess<T: 'static> {
    at: AtomicPtr<(Birth, T)>,
}

impl<T: Default + Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self { at: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// The value of this process. (A parent's is never freed: there is one per fork.)
    pub(crate) fn get(&'static self) -> &'static T {
        let now = Birth::now();
        loop {
            let old = self.at.load(Ordering::Acquire);
            // SAFETY: what is stored here came from `Box::into_raw` below and is never freed.
            if let Some((birth, value)) = unsafe { old.as_ref() }
                && *birth == now
            {
                return value;
            }
            let new = Box::into_raw(Box::new((now, T::default())));
            if self.at.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // Another thread was first.
                // SAFETY: `new` was made above and nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn a_writer_is_noticed_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert!(held_open_for_writing(&reader));
        drop(writer);
        assert!(!held_open_for_writing(&reader));
        let appender = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(held_open_for_writing(&reader));
        drop(appender);
        assert!(!held_open_for_writing(&reader));
    }
}
