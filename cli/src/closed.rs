//! Whether stdout was closed when the process began.
//!
//! Rust's runtime puts `/dev/null` in the place of a closed descriptor before `main`, and an answer would be lost
//! without a word. So it is looked at before the runtime does that.

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    let open = rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_ok();
    CLOSED.store(!open, Ordering::Relaxed);
}

#[used]
#[expect(
    unsafe_code,
    reason = "what runs before `main` is found by its section; it asks for one flag, and no more"
)]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look;

/// Whether it was.
pub(crate) fn stdout() -> bool {
    CLOSED.load(Ordering::Relaxed)
}
