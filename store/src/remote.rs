//! A host in another process, and this process's connections to it.
//!
//! Each connection is used by one thread at a time, for a question and its answer; they are kept for the next one. The
//! *line* is a connection on which nothing is asked: when it ends, the host is gone, and all others are ended with it.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::frame as frames;
use crate::hosts::{self, Member};
use crate::sys::Kept;
use crate::times::LETTING_GO;
use crate::wire::{PROTOCOL, Request, Response, frame};

/// So much is asked at once at most.
const CONNECTIONS: usize = 8;

/// How long no more connections are asked for than there were when there was no descriptor for another one.
const NARROW: Duration = Duration::from_secs(10);

/// A host in another process.
pub(crate) struct Remote {
    number: u64,
    pub(crate) owner: String,
    pub(crate) line: Kept<UnixStream>,
    /// Connections: those that are free, and how many there are.
    pool: Mutex<Pool>,
    freed: Condvar,
    /// The line has ended.
    pub(crate) gone: AtomicBool,
    /// It was waited for long enough.
    pub(crate) given_up: AtomicBool,
}

struct Pool {
    free: Vec<Arc<Kept<UnixStream>>>,
    all: Vec<Weak<Kept<UnixStream>>>,
    used: usize,
    /// How many there were when there was no descriptor for another one, here or at the host, and when that was.
    narrow: Option<(usize, Instant)>,
}

impl Pool {
    /// So many may be used at once now.
    fn most(&self, now: Instant) -> usize {
        match self.narrow {
            Some((most, since)) if now.saturating_duration_since(since) < NARROW => most,
            _ => CONNECTIONS,
        }
    }
}

/// Why there is no answer.
pub(crate) enum Lost {
    /// The connection ended, and the host lives.
    Unanswered,
    /// The host is gone.
    Gone,
    /// There is no such message.
    Unsendable(String),
    /// The host has no descriptor left for a connection.
    Full,
    /// This process has none.
    FullHere,
}

impl Remote {
    /// A host that let this process in under this number.
    pub(crate) fn new(number: u64, owner: String, line: Kept<UnixStream>) -> Self {
        Self {
            number,
            owner,
            line,
            pool: Mutex::new(Pool { free: Vec::new(), all: Vec::new(), used: 0, narrow: None }),
            freed: Condvar::new(),
            gone: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) fn call(&self, member: &Member, request: &Request) -> Result<Response, Lost> {
        let line = self.take(member)?;
        let asked = frames::send(&**line, frame::REQUEST, PROTOCOL, request);
        if let Err(error) = &asked
            && error.kind() == io::ErrorKind::InvalidInput
        {
            self.give_back(Some(line));
            return Err(Lost::Unsendable(format!("a question is too long: {error}")));
        }
        match asked.and_then(|()| frames::receive(&**line, frame::RESPONSE, PROTOCOL)) {
            Ok(response) => {
                self.give_back(Some(line));
                Ok(response)
            }
            Err(_) => {
                self.give_back(None);
                Err(self.lost())
            }
        }
    }

    /// The line's end may be noticed a moment after that of another connection.
    fn lost(&self) -> Lost {
        let soon = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let mut ended = [PollFd::new(&*self.line, PollFlags::empty())];
        let hung_up = poll(&mut ended, Some(&soon)).is_ok_and(|number| number > 0);
        if hung_up || self.gone.load(Ordering::SeqCst) { Lost::Gone } else { Lost::Unanswered }
    }

    /// A connection for one's own use.
    fn take(&self, member: &Member) -> Result<Arc<Kept<UnixStream>>, Lost> {
        {
            let mut pool = self.pool();
            loop {
                if self.gone.load(Ordering::SeqCst) {
                    return Err(Lost::Gone);
                }
                if let Some(line) = pool.free.pop() {
                    pool.used += 1;
                    return Ok(line);
                }
                if pool.used < pool.most(Instant::now()) {
                    pool.used += 1;
                    break;
                }
                pool = self.freed.wait(pool).unwrap_or_else(PoisonError::into_inner);
            }
        }
        match self.attach(member) {
            Ok(line) => Ok(line),
            Err(error) => {
                let mut pool = self.pool();
                pool.used -= 1;
                self.freed.notify_one();
                let full = match &error {
                    error if hosts::is_full(error) => Lost::Full,
                    error if hosts::is_full_here(error) => Lost::FullHere,
                    _ => {
                        drop(pool);
                        return Err(self.lost());
                    }
                };
                if pool.used == 0 {
                    return Err(full);
                }
                // Those that there are have to do for now.
                pool.narrow = Some((pool.used, Instant::now()));
                drop(pool);
                self.take(member)
            }
        }
    }

    /// Opens another connection. Before anything is waited for on it, it is one of those that [`Remote::hang_up`] ends.
    fn attach(&self, member: &Member) -> io::Result<Arc<Kept<UnixStream>>> {
        let line = Arc::new(hosts::dial(member)?);
        {
            let mut pool = self.pool();
            // Whoever hangs up says so before it takes this lock.
            if self.gone.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            pool.all.retain(|line| line.strong_count() > 0);
            pool.all.push(Arc::downgrade(&line));
        }
        // A host that lives answers these at once.
        line.set_read_timeout(Some(LETTING_GO.get()))?;
        hosts::greet_again(member, &line)?;
        let token = member.files.token().to_owned();
        let attach = Request::Attach { connection: self.number, token };
        frames::send(&**line, frame::REQUEST, PROTOCOL, &attach)?;
        match frames::receive(&**line, frame::RESPONSE, PROTOCOL)? {
            Response::Flag(true) => {}
            // It is another host.
            _ => return Err(io::ErrorKind::ConnectionRefused.into()),
        }
        line.set_read_timeout(None)?;
        Ok(line)
    }

    fn give_back(&self, line: Option<Arc<Kept<UnixStream>>>) {
        let mut pool = self.pool();
        pool.used -= 1;
        pool.free.extend(line);
        self.freed.notify_one();
    }

    /// Ends all connections; whoever waits for an answer on one learns that there will be none.
    pub(crate) fn hang_up(&self) {
        self.gone.store(true, Ordering::SeqCst);
        let _ = self.line.shutdown(Shutdown::Both);
        let mut pool = self.pool();
        self.freed.notify_all();
        pool.free.clear();
        for line in pool.all.drain(..).filter_map(|line| line.upgrade()) {
            let _ = line.shutdown(Shutdown::Both);
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_without_descriptors_does_not_leave_it_narrow_for_ever() {
        let now = Instant::now();
        let pool = |narrow| Pool { free: Vec::new(), all: Vec::new(), used: 1, narrow };
        assert_eq!(pool(None).most(now), CONNECTIONS);
        assert_eq!(pool(Some((1, now))).most(now + NARROW / 2), 1);
        assert_eq!(pool(Some((1, now))).most(now + NARROW), CONNECTIONS);
    }
}
