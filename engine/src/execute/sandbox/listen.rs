//! Hearing of each file that a process asks the kernel to open: the only unsafe code of the engine.
//!
//! A filter of system calls (seccomp) is laid over the calling thread, and over all that it starts from then on: it
//! lets everything through, but has the calls that open, make, remove or rename a file, give one to a socket or execute a program wait until
//! this process has heard of them and said "go on". It can neither allow nor refuse anything: what was read out of the memory of the
//! caller may have changed by the time that the kernel reads it. It is for telling; Landlock is for refusing.
//!
//! Everything here works without privileges. Invariant: what is unsafe is a system call whose arguments live longer
//! than it; nothing of the caller's memory is kept by the kernel.

#![expect(unsafe_code, reason = "system calls without a safe wrapper: prctl, seccomp, and its two ioctls")]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The calls that are heard of, by their number on this machine.
#[cfg(target_arch = "x86_64")]
const CALLS: &[libc::c_long] = &[
    libc::SYS_bind,
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_rmdir,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
];
#[cfg(not(target_arch = "x86_64"))]
const CALLS: &[libc::c_long] = &[
    libc::SYS_bind,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_renameat2,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_unlinkat,
];

/// What the kernel calls this machine. Calls of another kind (32 bits on 64) are let through unheard.
#[cfg(target_arch = "x86_64")]
const MACHINE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const MACHINE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const MACHINE: Option<u32> = None;

/// Where the number of the call and the machine stand in what a filter is given.
const AT_NUMBER: u32 = 0;
const AT_MACHINE: u32 = 4;

/// `_IOWR('!', 0, struct seccomp_notif)` and `_IOWR('!', 1, struct seccomp_notif_resp)`.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const _: () =
    assert!(size_of::<libc::seccomp_notif>() == 0x50 && size_of::<libc::seccomp_notif_resp>() == 0x18);

/// A call that waits to be let through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    id: u64,
    /// The thread that makes it.
    pub(super) thread: u32,
    /// Which it is.
    pub(super) number: libc::c_long,
    /// What it is given.
    pub(super) arguments: [u64; 6],
}

/// All that this process listens at, by number.
static LISTENERS: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

fn listeners() -> MutexGuard<'static, BTreeSet<RawFd>> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end at which is heard what a process opens. To be dropped by a thread that has not called [`listen`].
#[derive(Debug)]
pub(super) struct Listener(Option<OwnedFd>);

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().expect("it is taken only when this is dropped").as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut all = listeners();
        if let Some(fd) = self.0.take() {
            all.remove(&fd.as_raw_fd());
            // Before anybody else can be given the number and close it as a listener's.
            drop(fd);
        }
    }
}

/// Lays the filter over the calling thread, for good. Gives the end at which is heard what it and its descendants
/// open; while that is open, somebody else has to [`receive`] and to [`let_through`].
///
/// From then on the thread has a table of descriptors of its own, without any of these ends: what it starts has none. A
/// process that is just beginning waits for what is heard of it; with such an end it would wait for ever where this process is
/// killed, since then somebody listens still.
///
/// # Errors
/// The kernel cannot, or somebody above this process listens already (there can be one only).
pub(super) fn listen() -> io::Result<Listener> {
    let mut all = listeners();
    let listener = filtered()?;
    all.insert(listener.as_raw_fd());
    // SAFETY: both take numbers only. What is closed is so in a table that this thread alone has, where each number is still
    // that of a listener, because nobody closes one meanwhile; in the table of all other threads everything stays.
    unsafe {
        if libc::unshare(libc::CLONE_FILES) == 0 {
            all.iter().for_each(|number| {
                libc::close(*number);
            });
        }
    }
    Ok(Listener(Some(listener)))
}

fn filtered() -> io::Result<OwnedFd> {
    let Some(machine) = MACHINE else { return Err(io::ErrorKind::Unsupported.into()) };
    let load = |at: u32| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let equal = |to: u32, then: u8, or: u8| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, then, or, to);
    let end = |with: u32| step(libc::BPF_RET | libc::BPF_K, 0, 0, with);
    let count = u8::try_from(CALLS.len()).unwrap_or(u8::MAX);
    let mut filter = vec![load(AT_MACHINE), equal(machine, 0, count + 1), load(AT_NUMBER)];
    for (at, call) in (0..count).zip(CALLS) {
        filter.push(equal(u32::try_from(*call).unwrap_or(u32::MAX), count - at, 0));
    }
    filter.push(end(libc::SECCOMP_RET_ALLOW));
    filter.push(end(libc::SECCOMP_RET_USER_NOTIF));
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: it takes numbers only, and concerns this thread and what it starts: no program that they execute gains
    // rights (set-user-ID), which is what the kernel asks of those who lay a filter without privileges.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let plain = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // Signals do not break off a call that was heard of: a program that is sent many would never get through.
    let patient = plain | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let mut listener = -1;
    for flags in [patient, plain] {
        // SAFETY: `program` and the filter that it points to live until after the call, which copies them.
        listener = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
                flags,
                std::ptr::from_ref(&program),
            )
        };
        if listener >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
            break;
        }
    }
    let listener = i32::try_from(listener).unwrap_or(-1);
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to us, and to nobody else; it closes itself when a program is executed.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

fn step(code: u32, then: u8, or: u8, with: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: then, jf: or, k: with }
}

/// Takes a call that waits; waits for one itself. `None` where its thread has died meanwhile.
///
/// # Errors
/// There is nothing to listen to any more.
pub(super) fn receive(listener: &Listener) -> io::Result<Option<Call>> {
    // SAFETY: a structure of numbers, for which zeros are as good as any; the kernel wants them.
    let mut heard: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in the structure that this call is specified to take (its size is in its number), and
    // which lives until after it.
    if unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), RECEIVE, std::ptr::from_mut(&mut heard)) } != 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOENT | libc::EINTR) => Ok(None),
            _ => Err(error),
        };
    }
    Ok(Some(Call {
        id: heard.id,
        thread: heard.pid,
        number: libc::c_long::from(heard.data.nr),
        arguments: heard.data.args,
    }))
}

/// Lets a call through, as the kernel would have done without us.
pub(super) fn let_through(listener: &Listener, call: Call) {
    let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or_default();
    let answer = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags };
    // SAFETY: the kernel reads the structure that this call is specified to take, and which lives until after it. It
    // fails where the thread has died meanwhile: then nobody waits.
    unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), SEND, std::ptr::from_ref(&answer)) };
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    /// Where `cas` was killed in that moment, a process that was just beginning waited for ever, and with it whoever ends what a
    /// killed run left.
    #[test]
    fn what_is_just_beginning_does_not_wait_for_one_who_is_gone() {
        let (listens, listener) = channel();
        let (says, hears) = channel();
        std::thread::spawn(move || {
            let listening = listen();
            let hears = listening.is_ok();
            listens.send(listening).unwrap();
            if hears {
                let begun = Command::new("/bin/true").spawn();
                says.send(begun.map(|mut child| child.wait()).map_err(|error| error.raw_os_error())).unwrap();
            }
        });
        // Below another one that listens, or in a kernel without, nobody can.
        let Ok(listener) = listener.recv().unwrap() else { return };
        // It is there, and asks to execute its program.
        poll(&mut [PollFd::new(&listener, PollFlags::IN)], None).unwrap();
        drop(listener);
        let begun = hears.recv_timeout(Duration::from_secs(60)).expect("it does not wait");
        assert_eq!(begun.expect_err("nobody answers").unwrap_or_default(), libc::ENOSYS);
    }
}
