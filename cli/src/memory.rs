//! What becomes of memory that is free again: it is kept for what comes next.
//!
//! A command over many steps makes one large table after the other and lets go of each. By itself the C library
//! gives such a table back to the system and asks for another, page by page, and a page that is touched for the
//! first time costs more than what is written to it: of a run of 66,002 steps with nothing to do that was a twelfth.

/// Larger pieces than this still come from the system and go back to it (the most that the C library takes).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_PIECE_BYTES: i32 = 32 << 20;

/// So much that is free is kept.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: i32 = 256 << 20;

/// Keeps what is let go of; to be called before there are other threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "there is no safe way to say it to the C library")]
pub(crate) fn keep() {
    for (what, bytes) in [(libc::M_MMAP_THRESHOLD, KEPT_PIECE_BYTES), (libc::M_TRIM_THRESHOLD, KEPT_BYTES)] {
        // SAFETY: it takes two numbers and touches nothing but the allocator's settings. Where it does not take them,
        // nothing is lost but time.
        unsafe { libc::mallopt(what, bytes) };
    }
}

/// Other C libraries have their own ways.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep() {}
