//! The end of what runs when this process is killed, which it cannot hear of (`kill -9`, no memory left).
//!
//! A small shell stands by, in a group of its own, and reads from a pipe into which nothing is ever written. The kernel
//! closes the pipe when this process is gone, however it went; then the shell kills what is left, and ends. So a step
//! does not go on beside its successor, with what another run has been given since.
//!
//! What that is, two things tell. Everything that is started here has a variable with a token of this process in its
//! environment ([`VARIABLE`]), and so has what it starts, in whatever group or session: the shell looks for that through
//! `/proc`. Until it has executed its program, and with that has the variable, a child holds an end of the pipe: so none is
//! missed that is just beginning. And the leaders of the groups that run stand in a file in memory, with the time at which they
//! were noted, for what cleared its environment. The token also tells what to stop with a step: see `paused.rs`. What cleared its
//! environment and outlived the leader of its group is not reached: nobody can say then whose group that is.
//!
//! It is begun with the first step of a program that asked for it, which concerns all of its process ([`watch_over`]), and ends with
//! [`end_all`](super::orphans::end_all). Where it was killed itself, whoever waits for a step or a probe begins another at once
//! ([`Guard::keep`]). Where it cannot be begun steps go on as they would have, and a run says so.
//!
//! Invariant: nothing is killed that neither has the token nor is in a group whose leader was here before it was noted. A
//! shell that was stopped itself, and goes on days later, kills nobody else.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{ClockId, clock_gettime};

use super::process::STARTING;
use super::program::find_program;

/// The variable that whatever runs here has: the token of this process, after those of the ones that it runs below.
pub const VARIABLE: &str = "CAS_GUARD";

/// What the shell does: `$1` is the token, `$2` the `grep` that looks for it, nothing where there is no `/proc`. The pipe is its
/// standard output, open to be read, and the file with the groups its standard input.
///
/// A child that is just beginning shows no environment for a moment, so it looks three times. What is killed and hangs in the
/// kernel is found again and again, so it gives up at last.
const SCRIPT: &str = "\
trap '' HUP INT QUIT TERM
token=$1 grep=$2
while read -r nothing; do :; done <&1
while read -r group noted; do
  if [ -n \"$group\" ]; then
    stat=
    [ -z \"$grep\" ] || read -r stat <\"/proc/$group/stat\"
    set -- ${stat##*) }
    began=${20:-none}
    if [ -z \"$grep\" ] || [ \"$began\" -le \"$noted\" ]; then kill -s KILL -- \"-$group\"; fi
  fi
done
[ -n \"$grep\" ] || exit 0
found=0 none=0
while :; do
  left=
  for digit in 1 2 3 4 5 6 7 8 9; do
    for one in $(\"$grep\" -slF -e \"$token\" /proc/$digit*/environ); do
      one=${one#/proc/}
      left=\"$left ${one%/environ}\"
    done
  done
  if [ -n \"$left\" ]; then
    kill -s KILL $left
    none=0 found=$((found + 1))
    [ $found -lt 80 ] || exit 0
    [ $found -gt 20 ] || continue
  else
    none=$((none + 1))
    [ $none -lt 3 ] || exit 0
  fi
  sleep 1
done
";

/// Where `grep` is: the shell has no PATH but its own.
const TOOLS: &str = "/usr/bin:/bin:/usr/local/bin:/run/current-system/sw/bin";

/// A line of the file with the groups: a leader and the time, or nothing.
const LINE_BYTES: usize = 32;

/// What everything that is started here is given, if that was asked for.
static VALUE: OnceLock<String> = OnceLock::new();

/// Whether there was none when there should have been one.
static MISSED: AtomicBool = AtomicBool::new(false);

static GUARD: Mutex<State> = Mutex::new(State { shell: None, groups: None });

struct State {
    shell: Option<Shell>,
    /// Stays as it is where another shell is begun.
    groups: Option<Groups>,
}

struct Shell {
    child: Child,
    /// Tells of its end; nothing where the kernel gives none.
    end: Option<Arc<OwnedFd>>,
    /// Never written into.
    _pipe: PipeWriter,
}

/// The leaders of the groups that run, in a file that only this process writes.
struct Groups {
    file: File,
    /// Lines that hold nothing, below those that were never written.
    free: Vec<usize>,
    lines: usize,
}

/// From now on, the commands that this process runs end with it where it is killed, and all that they start. For a program,
/// as it starts a shell of its own for that with the first of them. `within` is what this process has in [`VARIABLE`]
/// itself: then it runs in a step, and what it runs belongs to that, too.
pub fn watch_over(within: Option<&str>) {
    VALUE.get_or_init(|| {
        let token = new_token();
        match within.filter(|within| is_value(within)) {
            Some(within) => format!("{within}:{token}"),
            None => token,
        }
    });
}

/// What everything that is started here has in [`VARIABLE`], if that was asked for.
pub(super) fn value() -> Option<&'static str> {
    VALUE.get().map(String::as_str)
}

/// The last part of it: what is this process's alone.
pub(super) fn token() -> Option<&'static str> {
    value()?.rsplit(':').next()
}

/// Whether nobody stood by while something ran, asked once: what ran then would have gone on without this process.
pub(crate) fn was_missed() -> bool {
    MISSED.swap(false, Ordering::Relaxed)
}

/// The shell that stands by, for as long as somebody waits for what it is to end.
pub(super) struct Guard {
    end: Option<Arc<OwnedFd>>,
    left: u32,
}

/// So often another one is begun while one process is waited for: something may be killing each.
const FOLLOWED: u32 = 16;

impl Guard {
    /// Has the shell stand by, where that was asked for.
    pub(super) fn stand_by() -> Self {
        Self { end: stand_by(), left: FOLLOWED }
    }

    /// Becomes readable when it ends, which nobody but its killer wanted; see [`keep`](Self::keep).
    pub(super) fn end(&self) -> Option<&OwnedFd> {
        self.end.as_deref()
    }

    /// It has ended: another one follows it.
    pub(super) fn keep(&mut self) {
        self.end = None;
        if let Some(left) = self.left.checked_sub(1) {
            *self = Self { end: stand_by(), left };
        } else {
            MISSED.store(true, Ordering::Relaxed);
        }
    }
}

/// Has the shell stand by; gives what tells of its end.
fn stand_by() -> Option<Arc<OwnedFd>> {
    let token = token()?;
    // What is given a descriptor of its own is not started at this moment.
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let mut state = state();
    let stands = state.shell.as_mut().is_some_and(Shell::stands);
    if !stands {
        state.shell = None;
        if state.begin(token, grep().as_deref()).is_err() {
            MISSED.store(true, Ordering::Relaxed);
        }
    }
    state.shell.as_ref()?.end.clone()
}

/// A group begins; gives the line that it has until it ends.
pub(super) fn begins(leader: i32) -> Option<usize> {
    value()?;
    state().groups.as_mut()?.note(leader)
}

/// A group is about to be gone, and its number may be given to another.
pub(super) fn ends(line: Option<usize>) {
    if let (Some(line), Some(groups)) = (line, &mut state().groups) {
        groups.forget(line);
    }
}

/// Whether this is the shell.
pub(super) fn is(child: i32) -> bool {
    state().shell.as_ref().is_some_and(|shell| i32::try_from(shell.child.id()) == Ok(child))
}

/// Nothing runs any more: it ends. (It is one of ours until it has been waited for, and nobody else's to reap.)
pub(super) fn end() {
    let mut state = state();
    if let Some(shell) = &mut state.shell {
        shell.end();
    }
    state.shell = None;
}

impl State {
    fn begin(&mut self, token: &str, grep: Option<&Path>) -> io::Result<()> {
        let groups = match &mut self.groups {
            Some(groups) => groups,
            none => none.insert(Groups::new()?),
        };
        let (hears, pipe) = io::pipe()?;
        let child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "cas-guard", token])
            .args(grep)
            .env_clear()
            .current_dir("/")
            .stdin(groups.file.try_clone()?)
            .stdout(hears)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok().map(Arc::new);
        self.shell = Some(Shell { child, end, _pipe: pipe });
        Ok(())
    }
}

impl Shell {
    /// Whether it is still there; reaped, where it is not.
    fn stands(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Killed, because it is to do nothing more, and may be stopped.
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Groups {
    fn new() -> io::Result<Self> {
        let file = File::from(memfd_create("cas-groups", MemfdFlags::CLOEXEC)?);
        Ok(Self { file, free: Vec::new(), lines: 0 })
    }

    /// Nothing where it cannot be written: the token tells of nearly all.
    fn note(&mut self, leader: i32) -> Option<usize> {
        let line = self.free.pop().unwrap_or_else(|| {
            self.lines += 1;
            self.lines - 1
        });
        if self.write(line, &format!("{leader} {}", ticks())) {
            return Some(line);
        }
        self.free.push(line);
        None
    }

    fn forget(&mut self, line: usize) {
        // It fits where something stood before.
        if self.write(line, "") {
            self.free.push(line);
        }
    }

    fn write(&self, line: usize, text: &str) -> bool {
        let padded = format!("{text:<width$}\n", width = LINE_BYTES - 1);
        self.file.write_all_at(padded.as_bytes(), (line * LINE_BYTES) as u64).is_ok()
    }
}

/// The time since the machine was started, as the kernel says of a process when it began.
fn ticks() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    let each = clock_ticks_per_second();
    seconds * each + nanos * each / 1_000_000_000
}

/// What looks through `/proc`, where that is to be had.
fn grep() -> Option<PathBuf> {
    File::open("/proc/self/environ").ok()?;
    find_program("grep", TOOLS, Path::new("/")).ok()
}

/// What no other process has.
pub(super) fn new_token() -> String {
    let mut hasher = blake3::Hasher::new_derive_key("cas 2026 token of a guard 1");
    // From the system's randomness, each its own.
    for _ in 0..2 {
        hasher.update(&RandomState::new().hash_one(0).to_le_bytes());
    }
    hasher.update(&std::process::id().to_le_bytes());
    hasher.update(&ticks().to_le_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Whether this can be what a process has in [`VARIABLE`]. Somebody else's would do no harm, but for its length.
fn is_value(text: &str) -> bool {
    let is_token = |token: &str| token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.len() < 4096 && text.split(':').all(is_token)
}

fn state() -> MutexGuard<'static, State> {
    GUARD.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use rustix::process::{Signal, kill_process, kill_process_group};

    use super::*;

    /// A child in a group of its own, which is ended with this.
    struct Kid(Child);

    impl Drop for Kid {
        fn drop(&mut self) {
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            let _ = self.0.wait();
        }
    }

    impl Kid {
        fn leader(&self) -> i32 {
            i32::try_from(self.0.id()).unwrap()
        }

        fn is_alive(&mut self) -> bool {
            self.0.try_wait().unwrap().is_none()
        }
    }

    /// One with this in its environment, and a pipe that ends when all of it is gone.
    fn child(line: &str, token: Option<&str>) -> (Kid, io::PipeReader) {
        let (hears, says) = io::pipe().unwrap();
        let mut command = Command::new("/bin/sh");
        let told = token.map(|token| (VARIABLE, format!("{}:{token}", new_token())));
        command.args(["-c", line]).env_clear().envs(told).stdout(says).stderr(Stdio::null()).process_group(0);
        let child = command.spawn().unwrap();
        (Kid(child), hears)
    }

    /// Waits until one says that it is there.
    fn began(hears: &mut io::PipeReader) {
        hears.read_exact(&mut [0; 3]).unwrap();
    }

    /// Ends what a shell is to end, as the kernel would: the pipe is closed. Waits for the shell.
    fn ended(mut state: State) {
        let Shell { mut child, _pipe, .. } = state.shell.take().unwrap();
        drop(_pipe);
        assert!(child.wait().unwrap().success());
    }

    const WAITS: &str = "echo up; while :; do sleep 1000; done";

    #[test]
    fn what_has_the_token_is_killed_wherever_it_went_and_nobody_else() {
        let (token, other) = (new_token(), new_token());
        // Told of, in a group that nobody told of, in a session of its own, and with nothing that tells but the group.
        let lines =
            [WAITS, &format!("setsid sh -c '{WAITS}' & wait"), &format!("exec env -i sh -c '{WAITS}'")];
        let mut ours = lines.map(|line| child(line, Some(&token)));
        let mut others = [Some(other.as_str()), Some(&token[1..]), None].map(|token| child(WAITS, token));
        ours.iter_mut().chain(&mut others).for_each(|(_, hears)| began(hears));
        let mut state = State { shell: None, groups: None };
        state.begin(&token, grep().as_deref()).unwrap();
        let groups = state.groups.as_mut().unwrap();
        let gone = groups.note(others[0].0.leader()).unwrap();
        groups.note(ours[2].0.leader()).unwrap();
        groups.forget(gone);
        // A number that was another's when it was noted: this one began later than that says.
        let later = format!("{} {}", others[1].0.leader(), 1);
        assert!(groups.write(gone, &later));
        ended(state);
        for (_, hears) in &mut ours {
            assert_eq!(hears.read(&mut [0]).unwrap(), 0, "nobody is left who could write");
        }
        for (child, _) in &mut others {
            assert!(child.is_alive());
        }
    }

    #[test]
    fn without_proc_the_groups_that_were_told_of_are_killed() {
        let token = new_token();
        let (told, mut hears) = child(WAITS, None);
        let (mut other, mut others) = child(WAITS, Some(&token));
        began(&mut hears);
        began(&mut others);
        let mut state = State { shell: None, groups: None };
        state.begin(&token, None).unwrap();
        state.groups.as_mut().unwrap().note(told.leader()).unwrap();
        ended(state);
        assert_eq!(hears.read(&mut [0]).unwrap(), 0);
        assert!(other.is_alive());
    }

    /// It went on, with nobody to end what it ran if it was killed next.
    #[test]
    fn one_that_was_killed_is_followed_by_another_with_the_same_groups() {
        let token = new_token();
        let (told, mut hears) = child(&format!("exec env -i sh -c '{WAITS}'"), None);
        began(&mut hears);
        let mut state = State { shell: None, groups: None };
        state.begin(&token, grep().as_deref()).unwrap();
        state.groups.as_mut().unwrap().note(told.leader()).unwrap();
        let shell = state.shell.as_mut().unwrap();
        assert!(shell.stands());
        kill_process(Pid::from_child(&shell.child), Signal::KILL).unwrap();
        shell.child.wait().unwrap();
        assert!(!shell.stands());
        state.begin(&token, grep().as_deref()).unwrap();
        ended(state);
        assert_eq!(hears.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_line_is_used_again_and_no_longer_than_the_others() {
        let mut groups = Groups::new().unwrap();
        let lines: Vec<usize> = (0..3).map(|_| groups.note(i32::MAX).unwrap()).collect();
        groups.forget(lines[1]);
        assert_eq!(groups.note(7), Some(lines[1]));
        let mut text = vec![0; 3 * LINE_BYTES];
        groups.file.read_exact_at(&mut text, 0).unwrap();
        let text = String::from_utf8(text).unwrap();
        let leaders: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(leaders, ["2147483647", "7", "2147483647"]);
        assert!(text.lines().all(|line| line.len() == LINE_BYTES - 1), "{text}");
    }

    #[test]
    fn what_comes_from_above_is_believed_where_it_can_be_a_token() {
        let token = new_token();
        assert!(is_value(&token) && is_value(&format!("{token}:{token}")));
        assert!(!is_value("") && !is_value("x") && !is_value(&format!("{token}:")));
        assert_ne!(new_token(), token);
    }
}
