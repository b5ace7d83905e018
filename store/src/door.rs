//! The host's side of the socket: lets processes in and passes on what they ask.
//!
//! A thread per connection, which asks and answers in turn. A process has one connection that stays (its
//! *line*: it says that the process lives, and carries what the host has to say unasked, from a second
//! thread), and as many others as it asks things at once. None of them waits for a claim. Closing lets
//! everybody finish what was asked, and waits for that.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::descriptors;
use crate::frame as frames;
use crate::guests::Newcomer;
use crate::host::Core;
use crate::hosts::FULL;
use crate::processes;
use crate::socket;
use crate::sys::Kept;
use crate::wire::{GREETING_VERSION, Hello, Notice, PROTOCOL, Request, Response, Welcome, frame};

/// The version of this program, for people.
pub(crate) const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// Whoever connects says within this time what it wants.
const GREETING_TIME: Duration = Duration::from_secs(10);

/// So long a closing host waits for answers to be taken before it hangs up.
const CLOSING_TIME: Duration = Duration::from_secs(2);

/// Somebody for whom there is no room is listened to so long at most: nobody else is let in meanwhile.
const TURNING_AWAY_TIME: Duration = Duration::from_millis(100);

/// The open door; closing it is dropping it.
pub(crate) struct Door {
    shared: Arc<Shared>,
    /// Written to when the door closes: it wakes whoever listens.
    wake: Option<Kept<UnixStream>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    core: Arc<Core>,
    owner: String,
    closing: AtomicBool,
    guests: Mutex<HashMap<u64, Arc<Kept<UnixStream>>>>,
    /// A guest left, or the door closes.
    changed: Condvar,
    next: AtomicU64,
}

impl Door {
    /// Begins to serve. Where there can be no socket (some file systems have none) the host serves its own
    /// process alone, and others wait for it to end.
    pub(crate) fn open(core: Arc<Core>, owner: &str) -> io::Result<Self> {
        let shared = Shared {
            core,
            owner: owner.to_owned(),
            closing: AtomicBool::new(false),
            guests: Mutex::default(),
            changed: Condvar::new(),
            next: AtomicU64::new(0),
        };
        // Nothing else here keeps what it shares: closed half open, it waits until only the threads did.
        let mut door = Self { shared: Arc::new(shared), wake: None, threads: Vec::new() };
        let core = &door.shared.core;
        if let Ok(listener) = socket::listen_at(&core.layout, core.config.sharing) {
            let (wake, woken) = UnixStream::pair()?;
            let (wake, woken) = (Kept::new(wake), Kept::new(woken));
            let shared = Arc::clone(&door.shared);
            let listen = move || shared.listen(&listener, &woken);
            door.threads.push(std::thread::Builder::new().name("cas-store-door".to_owned()).spawn(listen)?);
            door.wake = Some(wake);
        }
        let shared = Arc::clone(&door.shared);
        let look = move || shared.look_around();
        door.threads.push(std::thread::Builder::new().name("cas-store-watch".to_owned()).spawn(look)?);
        Ok(door)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // First: those who are sent away keep what they claim and use.
        self.shared.core.claims.close();
        self.shared.core.shares.close();
        {
            // Whoever pauses asks for it under this lock, and is not missed by the word below.
            let _guests = self.shared.guests();
            self.shared.closing.store(true, Ordering::SeqCst);
        }
        // Nobody finds the socket any more; a new host makes its own.
        let _ = socket::remove(&self.shared.core.layout);
        drop(self.wake.take());
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of that thread was printed when it happened; there is nobody left to tell.
            let _ = thread.join();
        }
        self.shared.see_out();
        // Their threads are as good as gone; the last of what they share goes here, under the lock.
        while Arc::strong_count(&self.shared) > 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Shared {
    fn listen(self: &Arc<Self>, listener: &UnixListener, woken: &UnixStream) {
        // Given up for a moment to tell whoever comes that there is no room.
        let mut spare = descriptors::spare();
        while !self.is_closing() {
            match listener.accept() {
                Ok((stream, _)) => self.let_in(Kept::new(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut wanted =
                        [PollFd::new(listener, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
                    let _ = poll(&mut wanted, None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if descriptors::are_used_up(&error) => {
                    drop(spare.take());
                    if let Ok((stream, _)) = listener.accept() {
                        let _ = self.turn_away(&Kept::new(stream));
                    }
                    spare = descriptors::spare();
                    // Others will be closed.
                    self.pause(Duration::from_millis(50));
                }
                Err(_) => self.pause(Duration::from_millis(50)),
            }
        }
    }

    /// Says that there is no descriptor for whoever comes.
    fn turn_away(&self, line: &UnixStream) -> io::Result<()> {
        line.set_nonblocking(false)?;
        line.set_read_timeout(Some(TURNING_AWAY_TIME))?;
        line.set_write_timeout(Some(TURNING_AWAY_TIME))?;
        // It says this at once; what it said and nobody read would end the connection before the answer is read.
        let _hello: Hello = frames::receive(line, frame::GREETING, GREETING_VERSION)?;
        let welcome = self.welcome(FULL.to_owned());
        frames::send(line, frame::GREETING, GREETING_VERSION, &welcome)
    }

    fn welcome(&self, refusal: String) -> Welcome {
        Welcome {
            protocol: u32::from(PROTOCOL),
            program: PROGRAM.to_owned(),
            store: self.core.store_id.clone(),
            owner: self.owner.clone(),
            refusal,
        }
    }

    fn let_in(self: &Arc<Self>, stream: Kept<UnixStream>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let stream = Arc::new(stream);
        let guests = {
            let mut guests = self.guests();
            guests.insert(number, Arc::clone(&stream));
            guests.len()
        };
        // Those who are served must not take what this process itself needs.
        descriptors::make_room(guests as u64);
        let shared = Arc::clone(self);
        let guest = Guest { shared, number };
        let talk = move || {
            // Whoever hangs up, or says what nobody understands, is let go.
            let _ = guest.shared.talk(&stream);
            drop(stream);
            drop(guest);
        };
        // Without a thread it is let go too, and tries again.
        let _ = std::thread::Builder::new().name("cas-store-guest".to_owned()).spawn(talk);
    }

    fn talk(&self, stream: &Arc<Kept<UnixStream>>) -> io::Result<()> {
        let line = &***stream;
        line.set_nonblocking(false)?;
        line.set_read_timeout(Some(GREETING_TIME))?;
        let hello: Hello = frames::receive(line, frame::GREETING, GREETING_VERSION)?;
        let peer = socket::check_peer(line, &self.core.layout, self.core.config.sharing);
        let welcome = self.welcome(peer.clone().err().unwrap_or_default());
        frames::send(line, frame::GREETING, GREETING_VERSION, &welcome)?;
        let same = hello.protocol == welcome.protocol && hello.store == welcome.store;
        let Some(user) = peer.ok().filter(|_| same) else { return Ok(()) };
        match frames::receive(line, frame::REQUEST, PROTOCOL)? {
            // What it is called is a file's name.
            Request::Enter { token, .. } if !processes::is_token(&token) => Ok(()),
            Request::Enter { owner, token, claims, shares, again } => {
                line.set_read_timeout(None)?;
                let (notices, say) = channel();
                let notify = Box::new(move |notice| drop(notices.send(notice)));
                let number = self.core.enter(
                    Newcomer { owner: &owner, token: &token, user: Some(user) },
                    &claims,
                    &shares,
                    again,
                    notify,
                );
                let _leaving = Leaving { core: &self.core, number };
                frames::send(line, frame::RESPONSE, PROTOCOL, &Response::Number(number))?;
                std::thread::scope(|scope| {
                    let writer = std::thread::Builder::new().name("cas-store-line".to_owned());
                    writer.spawn_scoped(scope, move || write_notices(line, &say))?;
                    let heard = self.hear(line, number);
                    // The writer ends when the connection, which has the other end of its channel, is left.
                    self.core.leave(number);
                    let _ = line.shutdown(Shutdown::Both);
                    heard
                })
            }
            Request::Attach { connection, token } => {
                line.set_read_timeout(None)?;
                let known = self.core.connections.is_of(connection, &token, Some(user));
                frames::send(line, frame::RESPONSE, PROTOCOL, &Response::Flag(known))?;
                if known { self.serve(line, connection) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    fn hear(&self, line: &UnixStream, number: u64) -> io::Result<()> {
        while !self.is_closing() {
            match frames::receive(line, frame::REQUEST, PROTOCOL)? {
                Request::Renew => self.core.connections.heard(number),
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn serve(&self, line: &UnixStream, connection: u64) -> io::Result<()> {
        while !self.is_closing() {
            let request = frames::receive(line, frame::REQUEST, PROTOCOL)?;
            if !self.core.claims.is_here(connection) {
                return Ok(());
            }
            self.core.connections.asked(connection);
            let response = self.core.serve(connection, request);
            match frames::send(line, frame::RESPONSE, PROTOCOL, &response) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    frames::send(line, frame::RESPONSE, PROTOCOL, &Response::TooLong)?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    fn look_around(&self) {
        let mut last = Instant::now();
        while !self.is_closing() {
            let next = self.core.look_around(last.elapsed());
            last = Instant::now();
            self.pause(next);
        }
    }

    fn pause(&self, time: Duration) {
        let guests = self.guests();
        if !self.is_closing() {
            drop(self.changed.wait_timeout(guests, time));
        }
    }

    /// Lets everybody finish, and waits until all are gone.
    fn see_out(&self) {
        let until = Instant::now() + CLOSING_TIME;
        let mut how = Shutdown::Read;
        let mut guests = self.guests();
        while !guests.is_empty() {
            for guest in guests.values() {
                let _ = guest.shutdown(how);
            }
            if Instant::now() > until {
                how = Shutdown::Both;
            }
            let pause = Duration::from_millis(100);
            guests = self.changed.wait_timeout(guests, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<u64, Arc<Kept<UnixStream>>>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what there is to say until nothing will come any more.
fn write_notices(line: &UnixStream, say: &Receiver<Notice>) {
    for notice in say {
        if frames::send(line, frame::NOTICE, PROTOCOL, &notice).is_err() {
            // The reader of this line sees the end too.
            let _ = line.shutdown(Shutdown::Both);
        }
    }
}

/// A connection's place among the guests, which goes with its thread, however that ends.
struct Guest {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.shared.guests().remove(&self.number);
        self.shared.changed.notify_all();
    }
}

/// Leaves for a connection whose thread ends, however that ends.
struct Leaving<'a> {
    core: &'a Core,
    number: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.core.leave(self.number);
    }
}
