//! A process that forks.

#![expect(unsafe_code, reason = "forking is what is tried")]

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use crate::kit::*;

/// Forks a child that lives until nobody has the other end of its standard input, and does nothing.
pub(crate) fn leave_a_child_behind() {
    // SAFETY: the child reads and exits, and calls nothing that another thread may have locked.
    match unsafe { libc::fork() } {
        0 => {
            let mut byte = [0];
            let mut input = std::mem::ManuallyDrop::new(unsafe {
                <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(0)
            });
            let _ = input.read(&mut byte);
            // SAFETY: it ends the process.
            unsafe { libc::_exit(0) }
        }
        pid => {
            assert!(pid > 0, "it can fork");
            crate::child::say("forked");
        }
    }
}

/// Runs something in a child of this process, and gives what it says.
pub(crate) fn in_child(body: impl FnOnce() -> u8) -> u8 {
    // SAFETY: the caller does in it what the store says may be done in a child.
    match unsafe { libc::fork() } {
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(99);
            // SAFETY: it ends the process, without the test harness of the parent.
            unsafe { libc::_exit(code.into()) }
        }
        pid => {
            assert!(pid > 0, "it can fork");
            let mut status = 0;
            // SAFETY: `status` is written to.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert!(libc::WIFEXITED(status), "it was killed: {status}");
            u8::try_from(libc::WEXITSTATUS(status)).expect("a code")
        }
    }
}

pub(crate) fn opens_anew(dir: &Path) -> bool {
    open_waiting(dir, Duration::from_secs(600)).is_ok_and(|store| !store.host().1 && get(&store, 1).is_some())
}
