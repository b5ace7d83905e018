//! File systems that a command mounted in its folder and left there.
//!
//! Only a privileged command can. What is mounted is not what is stored, and would keep the folder from being
//! removed, so it is taken away as its processes are, and the step fails.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{UnmountFlags, unmount};
use rustix::time::Timespec;

use super::{Cause, Failure};

/// The list of mounts, held open: the kernel tells of each change to it, once.
static MOUNTS: Mutex<Option<(File, u64)>> = Mutex::new(None);

/// How often the mounts have changed since this was asked first; `None` where that is not known. Reading the list is what
/// costs, and grows with it; asking whether it changed is one call.
pub(crate) fn changes() -> Option<u64> {
    // Nobody else can mount in our name space, and most steps run as nobody special.
    if !rustix::process::geteuid().is_root() {
        return Some(0);
    }
    let mut mounts = MOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    if mounts.is_none() {
        *mounts = Some((File::open("/proc/self/mountinfo").ok()?, 0));
    }
    let (list, changes) = mounts.as_mut()?;
    let mut fds = [PollFd::new(list, PollFlags::PRI)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).ok()?;
    let changed = fds[0].revents().intersects(PollFlags::PRI | PollFlags::ERR);
    *changes += u64::from(changed);
    Some(*changes)
}

/// Takes away what is mounted in a step's folder, which nothing can be if there was no change since `before`.
///
/// # Errors
/// Names what was.
pub(crate) fn release(step: &Path, before: Option<u64>) -> Result<(), Failure> {
    if before.is_some() && changes() == before {
        return Ok(());
    }
    let Ok(text) = fs::read("/proc/self/mountinfo") else { return Ok(()) };
    // Where it is as the kernel says it: without links.
    let Ok(whole) = step.canonicalize() else { return Ok(()) };
    let mounted: Vec<PathBuf> = points(&text).filter(|point| point.starts_with(&whole)).collect();
    let Some(first) = mounted.first() else { return Ok(()) };
    // The last to be mounted may lie in one that came before.
    for point in mounted.iter().rev() {
        // What cannot be taken away stays in the folder's way; the step fails as it does without.
        let _ = unmount(point, UnmountFlags::DETACH);
    }
    let place = first.strip_prefix(&whole).unwrap_or(first).display();
    Err(Failure {
        cause: Cause::BadOutput,
        message: format!("it mounted a file system at `{place}` in its folder and left it there"),
        hint: Some("unmount it before the command ends".to_owned()),
    })
}

/// The mount points that the kernel lists, in the order in which they were mounted.
fn points(mountinfo: &[u8]) -> impl Iterator<Item = PathBuf> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let point = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescaped(point))))
    })
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits behind a backslash.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        let text = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n\
            37 35 0:5 / /a\\040b\\134c rw - tmpfs none rw\n";
        let found: Vec<PathBuf> = points(text).collect();
        assert_eq!(found, [Path::new("/mnt2"), Path::new("/a b\\c")]);
    }
}
