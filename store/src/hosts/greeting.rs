//! The first words between a process and a host that it has reached: whether they can talk, and about this store.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::patience::{LONGEST_PAUSE, Patience};
use super::{Member, Wanted, dial};
use crate::door::PROGRAM;
use crate::error::StoreError;
use crate::frame as frames;
use crate::socket;
use crate::times::{LETTING_GO, MOMENT};
use crate::wire::{GREETING_VERSION, Hello, PROTOCOL, Welcome, frame};

/// What a host is said to be that has no descriptor left for another connection.
pub(crate) const FULL: &str = "has as many files open as it may (`ulimit -n`)";

/// Exchanges greetings; `None` where the host went away.
pub(super) fn greet(
    member: &Member,
    line: &UnixStream,
    patience: &mut Patience<'_>,
    wanted: &mut Wanted<'_>,
) -> Result<Option<Welcome>, StoreError> {
    let dir = || member.folder.layout.root().to_owned();
    if let Err(who) = socket::check_peer(line, &member.folder.layout, member.config.sharing) {
        return Err(StoreError::InUse { dir: dir(), owner: who });
    }
    if frames::send(line, frame::GREETING, GREETING_VERSION, &hello(member)).is_err() {
        return Ok(None);
    }
    // A host that is stopped lets connect whoever wants to, and says nothing.
    patience.connected = Some(Instant::now());
    let slice = rustix::event::Timespec::try_from(wanted.moment.min(LONGEST_PAUSE)).ok();
    loop {
        let mut wanted_of_it = [PollFd::new(line, PollFlags::IN)];
        match poll(&mut wanted_of_it, slice.as_ref()) {
            Ok(0) if !(wanted.go_on)() => return Ok(None),
            Ok(0) => patience.check(", which does not answer (was it stopped?)", wanted)?,
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Ok(None),
        }
    }
    patience.connected = None;
    let _ = line.set_read_timeout(Some(LETTING_GO.get()));
    let Ok(welcome) = frames::receive::<Welcome>(line, frame::GREETING, GREETING_VERSION) else {
        return Ok(None);
    };
    let _ = line.set_read_timeout(None);
    if welcome.protocol != u32::from(PROTOCOL) {
        return Err(StoreError::Skew {
            dir: dir(),
            owner: welcome.owner,
            theirs: format!("{} (protocol {})", welcome.program, welcome.protocol),
            ours: format!("{PROGRAM} (protocol {PROTOCOL})"),
        });
    }
    if welcome.refusal == FULL {
        // Somebody may leave; if not, this is why.
        patience.refused = FULL;
        return Ok(None);
    }
    if !welcome.refusal.is_empty() {
        let owner = format!("{}, who does not serve {}", welcome.owner, welcome.refusal);
        return Err(StoreError::InUse { dir: dir(), owner });
    }
    if welcome.store != member.folder.id {
        let what = "it became another store while it was open".to_owned();
        return Err(StoreError::NotAStore { dir: dir(), what });
    }
    Ok(Some(welcome))
}

/// Exchanges greetings on another connection with the host that is known already.
pub(crate) fn greet_again(member: &Member, line: &UnixStream) -> io::Result<()> {
    frames::send(line, frame::GREETING, GREETING_VERSION, &hello(member))?;
    let welcome: Welcome = frames::receive(line, frame::GREETING, GREETING_VERSION)?;
    if welcome.refusal == FULL {
        return Err(io::Error::other(FULL));
    }
    if welcome.protocol != u32::from(PROTOCOL) || !welcome.refusal.is_empty() {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

/// Whether the host lets whoever greets it wait for a moment: one that is stopped does, one that is busy does not.
pub(crate) fn is_silent(member: &Member) -> bool {
    let greeted = dial(member).and_then(|line| {
        frames::send(&*line, frame::GREETING, GREETING_VERSION, &hello(member))?;
        Ok(line)
    });
    // If nobody is there it ends, and that is noticed elsewhere.
    let Ok(line) = greeted else { return false };
    let moment = rustix::event::Timespec::try_from(MOMENT.get()).ok();
    let mut wanted = [PollFd::new(&*line, PollFlags::IN)];
    matches!(poll(&mut wanted, moment.as_ref()), Ok(0))
}

/// Whether a connection was refused because the host has no descriptor for it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.to_string() == FULL)
}

/// Whether there is no connection because this process, or the whole system, has no descriptor for it.
pub(crate) fn is_full_here(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

fn hello(member: &Member) -> Hello {
    Hello { protocol: u32::from(PROTOCOL), program: PROGRAM.to_owned(), store: member.folder.id.clone() }
}
