//! The end of what runs when this process is killed, which it cannot hear of (`kill -9`, no memory left).
//!
//! A small shell stands by, in a group of its own, and reads from a pipe which groups begin and end here. The kernel
//! closes the pipe when this process is gone, however it went; then the shell kills what is left, and ends. So a step
//! does not go on beside its successor, with what another run has been given since. Between the start of a step and the
//! word to the shell lies a moment; one that begins in it goes on.
//!
//! It is begun with the first step of a program that asked for it, which concerns all of its process ([`watch_over`]), and ends
//! with [`end_all`](super::orphans::end_all). Where it cannot be begun, or does not listen, steps go on as they would have.
//!
//! Invariant: a shell that may have missed that a group ended is not asked to kill any: it is ended.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// What the shell does: `+ 7` and `- 7` come, and then the end.
const SCRIPT: &str = "\
trap '' HUP INT QUIT TERM
while read -r what group; do
  case $what in
    +) groups=\"$groups $group\" ;;
    -) left=
       for one in $groups; do [ \"$one\" = \"$group\" ] || left=\"$left $one\"; done
       groups=$left ;;
  esac
done
for one in $groups; do kill -s KILL -- \"-$one\"; done
";

/// Whether it was asked for.
static ASKED: AtomicBool = AtomicBool::new(false);

static GUARD: Mutex<State> = Mutex::new(State::None);

enum State {
    /// Nothing was started.
    None,
    Stands(Guard),
    /// There can be none.
    Lost,
}

struct Guard {
    shell: Child,
    pipe: ChildStdin,
}

/// From now on, the commands that this process runs end with it where it is killed. For a program, as it starts a shell of
/// its own for that with the first of them.
pub fn watch_over() {
    ASKED.store(true, Ordering::Relaxed);
}

/// Whether that was asked for.
pub(super) fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Has the shell stand by. Nothing may be started at this moment that is given a descriptor of its own.
pub(super) fn stand_by() {
    let mut state = state();
    if matches!(*state, State::None) {
        *state = Guard::begin().map_or(State::Lost, State::Stands);
    }
}

/// A group begins.
pub(super) fn begins(leader: i32) {
    state().say('+', leader);
}

/// A group is about to be gone, and its number may be given to another.
pub(super) fn ends(leader: i32) {
    state().say('-', leader);
}

/// Whether this is the shell.
pub(super) fn is(child: i32) -> bool {
    matches!(&*state(), State::Stands(guard) if i32::try_from(guard.shell.id()) == Ok(child))
}

/// Nothing runs any more: it ends.
pub(super) fn end() {
    let mut state = state();
    // It is one of ours until it has been waited for.
    if let State::Stands(guard) = std::mem::replace(&mut *state, State::None) {
        guard.end();
    }
}

impl State {
    fn say(&mut self, what: char, group: i32) {
        let State::Stands(guard) = self else { return };
        // Shorter than what a pipe takes whole or not at all; one that is full has no reader.
        if guard.pipe.write_all(format!("{what} {group}\n").as_bytes()).is_err()
            && let Self::Stands(guard) = std::mem::replace(self, Self::Lost)
        {
            guard.end();
        }
    }
}

impl Guard {
    fn begin() -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "cas-guard"])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let Some(pipe) = shell.stdin.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        Ok(Self { shell, pipe })
    }

    /// Killed, because it is to do nothing more, and may be stopped.
    fn end(mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn state() -> MutexGuard<'static, State> {
    GUARD.lock().unwrap_or_else(PoisonError::into_inner)
}
