//! What a program that a test starts does when a signal comes: what a program does that a person starts at a terminal.
//!
//! Ignored signals and blocked ones are handed down to children, and whoever ignores Ctrl-C since it was started goes on
//! ignoring it. So a test that was started by `nohup`, or in the background of a script, would look at another `cas`.

#![expect(unsafe_code, reason = "what happens between fork and exec has no safe wrapper")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// All that have a name; of those after them none is anybody's here.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=31;

/// Has a program begin with the signals as they are by default: each does what it always does, and none is blocked.
pub(super) fn reset(command: &mut Command) {
    let reset = || {
        for signal in SIGNALS {
            // These two are nobody's to ignore, and even to say so is refused.
            let fixed = matches!(signal, libc::SIGKILL | libc::SIGSTOP);
            // SAFETY: it takes numbers, and setting a default runs nothing of ours.
            if !fixed && unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: a set is plain numbers, for which zero is a value; both calls write only to what they are given.
        let unblocked = unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none) == 0
                && libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) == 0
        };
        if unblocked { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: it only makes system calls that are allowed there, asks for no memory and takes no lock.
    unsafe { command.pre_exec(reset) };
}
