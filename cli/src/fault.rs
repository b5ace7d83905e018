//! Panics of ours, as one line and exit code 4. A panic of a step's own function never comes here: the engine catches
//! it and makes it the step's failure.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

/// Calls `body`; a panic in it gives a line that says what and where.
///
/// Nothing is printed when a panic begins, unless RUST_BACKTRACE asks for it: whoever catches it tells it.
pub(crate) fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    let last = Arc::new(Mutex::new(None::<String>));
    let noted = Arc::clone(&last);
    let usual = panic::take_hook();
    let backtrace = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        let text = info.payload().downcast_ref::<&str>().copied();
        let what =
            text.or_else(|| info.payload().downcast_ref::<String>().map(String::as_str)).unwrap_or("panic");
        *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{what}{place}"));
        if backtrace {
            usual(info);
        }
    }));
    panic::catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        // One line, whatever the message held.
        let noted = last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let what = noted.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        what.unwrap_or_else(|| "panic".to_owned()).replace('\n', " ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_one_line_with_its_place() {
        let fault = caught(|| panic!("two\nlines")).expect_err("it panics");
        assert!(fault.starts_with("two lines (") && fault.contains("fault.rs:"), "{fault}");
        assert_eq!(caught(|| 1), Ok(1));
    }
}
