//! What the operating system offers and no safe library gives: the only unsafe code of the store.
//!
//! Three calls: asking whether a file is held open for writing, starting write-back, mapping a file. What
//! is left out is an answer on the safe side: a lease that cannot be had means "held open".

#![expect(unsafe_code, reason = "two system calls without a safe wrapper, and mapping a file")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

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
