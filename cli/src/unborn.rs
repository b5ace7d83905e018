//! Children that were being started when Ctrl-Z was typed, and would never come to be.
//!
//! A terminal sends its stop to the whole process group. A child that is there already, and has neither a group of its
//! own nor its program yet, gets it too, and with the default action: it stops, while the thread that starts it waits in
//! the kernel until it has its program. That thread can neither give anything back nor stop itself, so that the process
//! would never hand over, nor ever be stopped for the shell that waits for it. What is told to go on is not stopped, and
//! forgets a stop that it was yet to heed; steps that run are left alone.
//!
//! Invariant: only what we started is told, and only before it has its program.

use std::fs;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process};

/// How long a child that was stopped waits at most.
const EVERY: Duration = Duration::from_millis(20);

/// The kernel's mark of a process that has not had a program since it was made (`PF_FORKNOEXEC`).
const NO_PROGRAM_YET: u64 = 0x40;

/// Does something for which no thread may wait for a child that is stopped.
pub(crate) fn none_stopped_while<R>(work: impl FnOnce() -> R) -> R {
    go_on();
    std::thread::scope(|scope| {
        let (done, is_done) = channel::<()>();
        // Ctrl-Z may be typed again meanwhile. Without a thread, the first one is seen to all the same.
        let again = move || {
            while is_done.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                go_on();
            }
        };
        let _ = std::thread::Builder::new().name("unborn".to_owned()).spawn_scoped(scope, again);
        let result = work();
        drop(done);
        result
    })
}

/// Has every child of ours that has no program yet go on.
pub(crate) fn go_on() {
    let own = getpid();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        let Ok(stat) = fs::read(process.path().join("stat")) else { continue };
        if is_unborn(&stat, own) {
            // It may have ended.
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

/// Whether a process is a child of this one and has no program yet, from what the kernel says of it.
fn is_unborn(stat: &[u8], of: Pid) -> bool {
    // Its name stands in parentheses, and may hold anything.
    let Some(end) = stat.iter().rposition(|byte| *byte == b')') else { return false };
    let rest = String::from_utf8_lossy(&stat[end + 1..]);
    let mut fields = rest.split_ascii_whitespace();
    let parent = fields.nth(1).and_then(|parent| parent.parse().ok());
    let flags: Option<u64> = fields.nth(4).and_then(|flags| flags.parse().ok());
    parent == Some(of.as_raw_nonzero().get()) && flags.is_some_and(|flags| flags & NO_PROGRAM_YET != 0)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    #[test]
    fn a_child_without_a_program_is_told_from_one_that_runs() {
        let of = Pid::from_raw(7).expect("it is one");
        let check =
            |stat: &str, expected: bool| assert_eq!(is_unborn(stat.as_bytes(), of), expected, "{stat}");
        check("12 (cas) T 7 12 3 34816 5 4194368 0 0", true);
        check("12 (a ) S 7) T 7 12 3 34816 5 64 0 0", true);
        check("12 (sh) T 7 12 3 34816 5 4194304 0 0", false);
        check("12 (cas) T 8 12 3 34816 5 4194368 0 0", false);
        check("12 (cas", false);
        check("", false);
    }

    /// What stands in the file of a child that runs, as this kernel writes it.
    #[test]
    fn a_step_that_runs_is_left_alone() {
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().expect("it is there");
        let stat = |child: &Child| fs::read(format!("/proc/{}/stat", child.id())).expect("it is there");
        assert!(!is_unborn(&stat(&child), getpid()));
        drop(child.stdin.take());
        child.wait().expect("it ends");
    }
}
