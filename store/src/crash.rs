//! Named places where a crash must do no harm.
//!
//! Every step of a write passes a point. Without the cargo feature `crash-points` a point is nothing at
//! all. With it, the process ends there, at once and without any clean-up, when `CAS_CRASH_POINT` names
//! it (`name`, or `name:3` for the third time it is passed): so tests walk [`POINTS`] and look at what a
//! killed process leaves behind. A new step of a write adds its point to the list.

/// Every point there is, in the order in which a write of its kind passes them.
#[cfg(feature = "crash-points")]
pub const POINTS: &[&str] = &[
    // A store's folder is made.
    "folder.made",
    "folder.filled",
    "folder.format-written",
    "folder.format-rewritten",
    // A blob is staged.
    "stage.created",
    "stage.written",
    "stage.finished",
    "stage.adopted",
    // The host gives it its name.
    "install.before-rename",
    "install.after-rename",
    // A blob goes away.
    "remove.before-unlink",
    "quarantine.before-rename",
    "quarantine.after-rename",
    // Files are made durable.
    "sync.before-files",
    "sync.before-folders",
    // A process says that it is there.
    "process.locked",
    "process.named",
    // The host opens index and journal, and lets others in; at its end the other way round.
    "host.locked",
    "host.index-opened",
    "host.change-replayed",
    "journal.segment-made",
    "journal.segment-named",
    "host.opened",
    "host.door-open",
    "host.door-closed",
    // A change is written.
    "journal.before-append",
    "journal.half-appended",
    "journal.after-append",
    "write.journaled",
    "write.applied",
    // A commit.
    "commit.begin",
    "commit.blobs-installed",
    "commit.written",
    // An archive is taken over, or given up.
    "import.blobs-installed",
    "import.part-written",
    "import.before-end",
    "import.ended",
    "import.dropped",
    // A blob turns out to be wrong.
    "lose.begin",
    "lose.forgotten",
    // An epoch ends.
    "sync.begin",
    "sync.files",
    "sync.journal",
    "sync.index",
    // The journal is compacted.
    "snapshot.rotated",
    "snapshot.flushed",
    "journal.snapshot-written",
    "journal.snapshot-named",
    // A collection.
    "collect.ordered",
    "collect.before-rows",
    "collect.after-rows",
    "collect.file-removed",
    // The index is made anew.
    "rebuild.begin",
    "rebuild.replayed",
    "rebuild.flushed",
    "rebuild.old-aside",
    "rebuild.new-named",
    // A person is given something.
    "materialize.before-rename",
];

/// Ends the process here if this point was asked for.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) fn point(_name: &str) {}

/// Ends the process here if this point was asked for.
#[cfg(feature = "crash-points")]
pub(crate) fn point(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};

    static PASSED: AtomicU64 = AtomicU64::new(0);

    assert!(POINTS.contains(&name), "crash point `{name}` is not in the list of `crash.rs`");
    let Ok(wanted) = std::env::var("CAS_CRASH_POINT") else { return };
    let (wanted, times) = match wanted.split_once(':') {
        Some((wanted, times)) => (wanted, times.parse().expect("a number follows the colon")),
        None => (wanted.as_str(), 1),
    };
    if wanted == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == times {
        std::process::abort();
    }
}
