//! How many files and connections this process may have open.
//!
//! A host has up to nine connections for each process that it serves. A process begins with what its session allows
//! (the soft limit, often 1,024) and may raise that up to what the system allows (the hard limit): a host does so when
//! it serves so many that its own work would run short. Where that is no help it says so to whoever comes.

use std::fs::File;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sys::Kept;

/// So many are left to what the process does beside serving.
const HEADROOM: u64 = 256;

/// Something that can be closed when a descriptor is needed.
pub(crate) fn spare() -> Option<Kept<File>> {
    File::open("/dev/null").ok().map(Kept::new)
}

/// Whether an error says that this process, or the machine, has no descriptor left.
pub(crate) fn are_used_up(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// Raises the soft limit, where so many connections would not leave enough of it to everything else.
pub(crate) fn make_room(connections: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Some(raised) = raised(connections, current, maximum) {
        // Where it may not be raised, whoever comes too late is told so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
    }
}

/// What the soft limit is to be, if it is to be raised. A limit of `None` is no limit.
fn raised(connections: u64, soft: Option<u64>, hard: Option<u64>) -> Option<u64> {
    let soft = soft?;
    let wanted = (connections + HEADROOM).saturating_mul(2);
    let raised = hard.map_or(wanted, |hard| hard.min(wanted));
    (connections + HEADROOM > soft && raised > soft).then_some(raised)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_before_others_take_what_the_process_needs() {
        for (connections, soft, hard, expected) in [
            (1, Some(1024), Some(4096), None),
            (768, Some(1024), Some(4096), None),
            (769, Some(1024), Some(4096), Some(2050)),
            (769, Some(1024), Some(2000), Some(2000)),
            (769, Some(1024), Some(1024), None),
            (769, Some(1024), None, Some(2050)),
            (769, None, None, None),
            (5000, Some(4096), Some(4096), None),
        ] {
            assert_eq!(raised(connections, soft, hard), expected, "{connections} {soft:?} {hard:?}");
        }
    }

    #[test]
    fn what_says_that_no_descriptor_is_left() {
        for (code, expected) in [(libc::EMFILE, true), (libc::ENFILE, true), (libc::ENOENT, false)] {
            assert_eq!(are_used_up(&io::Error::from_raw_os_error(code)), expected);
        }
    }
}
