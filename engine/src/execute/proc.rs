//! What `/proc` says of processes. Of one that is gone it says nothing.

use std::fs;

/// What the kernel says of a process behind its name.
#[derive(Debug)]
pub(super) struct Stat {
    state: String,
    pub(super) parent: i32,
    pub(super) group: i32,
}

impl Stat {
    /// Whether it runs no more, and is only not reaped.
    pub(super) fn is_dead(&self) -> bool {
        ["Z", "X", "x"].contains(&self.state.as_str())
    }

    /// Whether it does nothing: it is stopped, or dead.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_dead() || ["T", "t"].contains(&self.state.as_str())
    }
}

/// The numbers of all processes.
pub(super) fn all() -> impl Iterator<Item = i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok())
}

/// The state, parent and group of a process.
pub(super) fn stat(pid: i32) -> Option<Stat> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // `pid (name) state parent group …`; the name may hold anything, so it is skipped from its end.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = String::from_utf8_lossy(&stat[end + 1..]);
    let mut words = rest.split_ascii_whitespace();
    let state = words.next()?.to_owned();
    let mut number = || words.next()?.parse().ok();
    Some(Stat { state, parent: number()?, group: number()? })
}

/// Its environment as it was started with it: variables, each with a zero byte behind it. Empty where that may not be read.
pub(super) fn environment(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}
