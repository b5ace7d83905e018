//! The other end of the host: asks it, wherever it is, and finds the next one when it goes.
//!
//! A request to a host in this process is a call; to another, a message on a connection that nobody else
//! uses meanwhile. None of them waits for a claim: whoever has to, leaves a ticket and is told on the
//! *line*, a connection with a thread that listens and says every few seconds that this process lives.
//! When the line ends, the host is gone: the processes that it served race for the lock, one of them
//! becomes the host, all others go to that one, each with the claims that it has. What was asked and not
//! answered is asked again.
//!
//! A host that is there and says nothing is waited for once, from the first question that it does not answer (`silence.rs`);
//! whether it is stopped, or busy with that question, is seen by greeting it anew.

mod held;

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::digest::Trace;
use crate::error::StoreError;
use crate::frame as frames;
use crate::guests::Newcomer;
use crate::hosts::{self, Hosted, Member, Reached, Wanted};
use crate::remote::{Lost, Remote};
use crate::shares::Portion;
use crate::silence::Silence;
use crate::store::Hosting;
use crate::sys::Kept;
use crate::taking::Taking;
use crate::tickets::Tickets;
use crate::times::{LETTING_GO, MOMENT, RENEW, SILENT};
use crate::wire::{Notice, PROTOCOL, Request, Response, frame};

/// A request whose answer is lost so often, for longer than a host takes to let go, is one that hosts cannot answer.
const TRIES: u32 = 50;

/// How long before a host that has no descriptor left is asked again.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// How long descriptors of this process are waited for, that another of its threads may let go of.
const FULL_HERE: Duration = Duration::from_secs(2);

/// A host that was given up is asked whether it is there again in so many parts of the time that it had before: what
/// many ask for one after the other is refused soon.
const PROBES: u32 = 20;

/// Whoever listens looks no sooner again.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// Told who is waited for.
pub(crate) type Teller = Arc<dyn Fn(&str) + Send + Sync>;

/// One user of a store, with its way to the host.
pub(crate) struct Client {
    member: Arc<Member>,
    owner: String,
    wait: Duration,
    hosting: Hosting,
    to_read: bool,
    teller: Mutex<Option<Teller>>,
    tickets: Tickets,
    taking: Taking,
    state: Mutex<State>,
    silence: Arc<Mutex<Silence>>,
    /// Held by whoever looks for a host. When the one that is given up was last greeted in vain, and what it is called.
    search: Mutex<Option<(Instant, String)>>,
    /// Itself, for the threads that listen.
    this: Weak<Client>,
}

#[derive(Default)]
struct State {
    link: Option<Link>,
    /// Counts the links: what was said on an earlier one may not hold any longer.
    links: u64,
    /// The claims that this user has.
    claims: HashMap<u64, Trace>,
    /// The shares that this user has, each with whether it is begun with.
    shares: HashMap<u64, (Vec<Portion>, bool)>,
    closed: bool,
}

#[derive(Clone)]
enum Link {
    Own { hosted: Arc<Hosted>, connection: u64 },
    Other(Arc<Remote>),
}

/// An answer, and on which link it was given.
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) link: u64,
}

impl Client {
    /// Finds the host, or becomes it.
    pub(crate) fn open(member: Arc<Member>, wanted: &mut Wanted<'_>) -> Result<Arc<Self>, StoreError> {
        let client = Arc::new_cyclic(|this| Self {
            member,
            owner: wanted.owner.to_owned(),
            wait: wanted.wait,
            hosting: wanted.hosting,
            to_read: wanted.to_read,
            teller: Mutex::new(None),
            tickets: Tickets::new(),
            taking: Taking::default(),
            state: Mutex::new(State::default()),
            silence: Arc::default(),
            search: Mutex::default(),
            this: Weak::clone(this),
        });
        client.find_host(wanted)?;
        hosts::register(&client.member, &client);
        Ok(client)
    }

    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Who is told when a host has to be waited for later on.
    pub(crate) fn set_teller(&self, teller: Teller) {
        *self.teller.lock().unwrap_or_else(PoisonError::into_inner) = Some(teller);
    }

    /// What the host is called, and whether it is this process.
    pub(crate) fn host(&self) -> (String, bool) {
        match self.state().link.clone() {
            Some(Link::Other(remote)) => (remote.owner.clone(), false),
            Some(Link::Own { .. }) | None => (self.owner.clone(), true),
        }
    }

    /// The process ends as soon as this user closes the store.
    pub(crate) fn ends_with_the_process(&self) {
        if let Some(Link::Own { hosted, .. }) = self.state().link.clone() {
            hosted.core().index.ends_with_the_process();
        }
    }

    /// What the host in this process, if it is here, found lost when it opened the store.
    pub(crate) fn warnings(&self) -> Vec<String> {
        match self.state().link.clone() {
            Some(Link::Own { hosted, .. }) => hosted.core().warnings.clone(),
            _ => Vec::new(),
        }
    }

    /// Asks the host, and the next one if this one goes before it has answered.
    pub(crate) fn ask(&self, mut request: Request) -> Result<Answer, StoreError> {
        if self.member.birth.is_over() {
            let what = "it was opened before this process was forked: open it again".to_owned();
            return Err(self.failed(what));
        }
        let (mut tries, begin) = (0, Instant::now());
        let _asked = Asked::at(&self.silence, begin);
        let mut is_last = || {
            tries += 1;
            tries >= TRIES && begin.elapsed() >= LETTING_GO.get()
        };
        loop {
            let (link, number) = self.link()?;
            match link {
                Link::Own { hosted, connection } => {
                    let response = hosted.core().serve(connection, request);
                    return Ok(Answer { response, link: number });
                }
                Link::Other(remote) => match remote.call(&self.member, &request) {
                    Ok(response) => {
                        self.silence().ended(Instant::now());
                        return Ok(Answer { response, link: number });
                    }
                    Err(Lost::Unsendable(what)) => return Err(self.failed(what)),
                    Err(Lost::Unanswered) => {
                        if is_last() {
                            return Err(self.failed("its host does not answer".to_owned()));
                        }
                    }
                    Err(Lost::Full) => {
                        if is_last() {
                            let (owner, why) = (&remote.owner, hosts::FULL);
                            return Err(self.failed(format!("its host, {owner}, {why}")));
                        }
                        std::thread::sleep(FULL_PAUSE);
                    }
                    Err(Lost::FullHere) => {
                        // Other threads may let go of some in a moment; nobody else will.
                        if begin.elapsed() >= FULL_HERE {
                            return Err(self.failed(format!("this process {}", hosts::FULL)));
                        }
                        std::thread::sleep(FULL_PAUSE);
                    }
                    Err(Lost::Gone) => self.lost(&remote)?,
                },
            }
            request.told_again();
        }
    }

    fn failed(&self, what: String) -> StoreError {
        StoreError::Index { dir: self.member.folder.layout.root().to_owned(), what }
    }

    /// The present link, which is looked for if there is none.
    fn link(&self) -> Result<(Link, u64), StoreError> {
        loop {
            {
                let state = self.state();
                if let Some(link) = &state.link {
                    return Ok((link.clone(), state.links));
                }
            }
            self.find_host_again()?;
        }
    }

    /// A host is gone: finds the next one, unless that is done already.
    fn lost(&self, remote: &Arc<Remote>) -> Result<(), StoreError> {
        {
            let mut state = self.state();
            match &state.link {
                Some(Link::Other(present)) if Arc::ptr_eq(present, remote) => state.link = None,
                Some(_) => return Ok(()),
                None => {}
            }
            // Whoever finds no link finds why.
            if remote.given_up.load(Ordering::SeqCst) {
                self.silence().give_up();
            }
        }
        remote.hang_up();
        self.find_host_again()
    }

    fn find_host_again(&self) -> Result<(), StoreError> {
        let teller = self.teller.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever searched until now may have given it up.
        let given_up = self.silence().is_given_up();
        if let Some((at, owner)) = search.as_ref().filter(|_| given_up && self.state().link.is_none())
            && at.elapsed() < MOMENT.get()
        {
            // However many threads ask, it is greeted once in a moment.
            let (dir, owner) = (self.member.folder.layout.root().to_owned(), owner.clone());
            return Err(StoreError::InUse { dir, owner });
        }
        let mut on_wait = |who: &str| {
            if let Some(tell) = teller.as_ref().filter(|_| !given_up) {
                tell(who);
            }
        };
        // A new host may take a while to come, also where nobody is to be waited for.
        let wait = if given_up { Duration::ZERO } else { self.wait.max(LETTING_GO.get()) };
        let owner = self.owner.clone();
        let found = self.search_for_host(&mut Wanted {
            wait,
            moment: if given_up { MOMENT.get() / PROBES } else { MOMENT.get() },
            owner: &owner,
            hosting: self.hosting,
            on_wait: &mut on_wait,
            to_read: self.to_read,
            go_on: &|| !self.state().closed,
        });
        *search = None;
        if let Err(StoreError::InUse { owner, .. }) = &found {
            self.silence().give_up();
            *search = Some((Instant::now(), owner.clone()));
        }
        found
    }

    /// Finds the host that there is now without being asked anything: what this user claims is known there then, and
    /// whoever waits for a ticket asks again. In a thread of its own, because a host may have to be waited for.
    pub(crate) fn look_for_host(self: &Arc<Self>) {
        let client = Arc::clone(self);
        let look = move || {
            // What cannot be had now is told to whoever asks next.
            let _ = client.link();
            client.tickets.end_all();
        };
        if std::thread::Builder::new().name("cas-store-back".to_owned()).spawn(look).is_err() {
            // Then the first to ask finds it.
            self.tickets.end_all();
        }
    }

    /// What a host that is gone has granted and is not noted yet is to be asked for again: the next host is about to
    /// be told what this process claims.
    pub(crate) fn doubt_link(&self) {
        self.state().links += 1;
    }

    fn find_host(&self, wanted: &mut Wanted<'_>) -> Result<(), StoreError> {
        let _search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        self.search_for_host(wanted)
    }

    /// The caller holds `search`.
    fn search_for_host(&self, wanted: &mut Wanted<'_>) -> Result<(), StoreError> {
        let begin = Instant::now();
        let wait = wanted.wait;
        loop {
            {
                let state = self.state();
                if state.closed {
                    return Err(self.failed("it was closed".to_owned()));
                }
                if state.link.is_some() {
                    return Ok(());
                }
            }
            wanted.wait = wait.saturating_sub(begin.elapsed());
            let reached = hosts::reach(&self.member, wanted)?;
            // Before anything of this process is told there, and outside of the lock that each of them takes itself.
            for other in hosts::clients(&self.member) {
                if !std::ptr::eq(&raw const *other, self) {
                    other.doubt_link();
                }
            }
            match reached {
                Reached::Own(hosted) => {
                    self.enter_own(hosted);
                    return Ok(());
                }
                Reached::Other { line, welcome } => {
                    // One that goes in this very moment is followed by another.
                    if self.enter_other(line, welcome.owner) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn enter_own(&self, hosted: Arc<Hosted>) {
        let this = Weak::clone(&self.this);
        let notify = Box::new(move |notice| {
            if let (Notice::Ended { ticket, failure }, Some(client)) = (notice, this.upgrade()) {
                client.tickets.deliver(ticket, failure.map(|failure| failure.0));
            }
        });
        let mut state = self.state();
        let claims: Vec<(Trace, u64)> =
            state.claims.iter().map(|(ticket, trace)| (*trace, *ticket)).collect();
        let token = self.member.files.token();
        let shares = state.shares();
        let again = state.links > 0;
        let connection = hosted.core().enter(
            Newcomer { owner: &self.owner, token, user: None },
            &claims,
            &shares,
            again,
            notify,
        );
        if state.closed {
            hosted.core().leave(connection);
            drop(state);
            return;
        }
        self.linked(&mut state, Link::Own { hosted, connection });
    }

    /// Enters at a host in another process; false where it is gone again.
    fn enter_other(&self, line: Kept<UnixStream>, owner: String) -> bool {
        let mut state = self.state();
        if state.closed {
            return false;
        }
        let claims = state.claims.iter().map(|(ticket, trace)| (*trace, *ticket)).collect();
        let token = self.member.files.token().to_owned();
        let (owner_name, shares, again) = (self.owner.clone(), state.shares(), state.links > 0);
        let enter = Request::Enter { owner: owner_name, token, claims, shares, again };
        let number = line
            .set_read_timeout(Some(LETTING_GO.get()))
            .and_then(|()| frames::send(&*line, frame::REQUEST, PROTOCOL, &enter))
            .and_then(|()| frames::receive(&*line, frame::RESPONSE, PROTOCOL))
            .and_then(|number| line.set_read_timeout(None).map(|()| number));
        let Ok(Response::Number(number)) = number else { return false };
        let remote = Arc::new(Remote::new(number, owner, line));
        let (listening, this) = (Arc::clone(&remote), Weak::clone(&self.this));
        let (silence, wait) = (Arc::clone(&self.silence), self.wait);
        let listen = move || listen(&listening, &this, &silence, wait);
        // Without the thread nobody would notice that the host is gone; better not to be here at all.
        if std::thread::Builder::new().name("cas-store-line".to_owned()).spawn(listen).is_err() {
            remote.hang_up();
            return false;
        }
        self.linked(&mut state, Link::Other(remote));
        true
    }

    fn linked(&self, state: &mut State, link: Link) {
        self.silence().ended(Instant::now());
        state.link = Some(link);
        state.links += 1;
        // What was to be told was to be told by a host that is gone: whoever waits asks again.
        self.tickets.end_all();
    }

    /// Lets go of the host in this process, so that it can end.
    pub(crate) fn let_go(&self) {
        let link = {
            let mut state = self.state();
            match &state.link {
                Some(Link::Own { .. }) => {
                    // What was granted on it and not noted yet, the next host does not know of.
                    state.links += 1;
                    state.link.take()
                }
                _ => None,
            }
        };
        // Not left as one leaves for good: what is claimed stays claimed, at the next host too.
        drop(link);
    }

    /// Ends it: what it held at the host is given back.
    pub(crate) fn close(&self) {
        if self.member.birth.is_over() {
            return;
        }
        let link = {
            let mut state = self.state();
            state.closed = true;
            state.link.take()
        };
        match link {
            Some(Link::Own { hosted, connection }) => hosted.core().leave(connection),
            Some(Link::Other(remote)) => remote.hang_up(),
            None => {}
        }
        // A thread that was just becoming the host, because the last one went, gives that up again. The process may
        // end when this returns, and nobody may be at the index then.
        drop(self.search.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn silence(&self) -> MutexGuard<'_, Silence> {
        locked(&self.silence)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn locked(silence: &Mutex<Silence>) -> MutexGuard<'_, Silence> {
    silence.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that is not over yet.
struct Asked<'a>(&'a Mutex<Silence>);

impl<'a> Asked<'a> {
    fn at(silence: &'a Mutex<Silence>, now: Instant) -> Self {
        locked(silence).asked(now);
        Self(silence)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        locked(self.0).over();
    }
}

/// Listens to what the host says unasked, tells it that this process lives, and goes to the next one when
/// it is gone.
fn listen(remote: &Arc<Remote>, this: &Weak<Client>, silence: &Mutex<Silence>, wait: Duration) {
    let mut said = Instant::now();
    let (mut heard, mut looked) = (said, said);
    let mut told = false;
    let slice = RENEW.get() / 5;
    // The last moment of the time that a silent host has is for greeting it.
    let until_last = wait.saturating_sub(MOMENT.get());
    loop {
        let mut wanted = [PollFd::new(&*remote.line, PollFlags::IN)];
        // Not a slice later than the last moment begins.
        let left = locked(silence).lasts(Instant::now()).map(|lasts| until_last.saturating_sub(lasts));
        let pause = left.map_or(slice, |left| left.clamp(LEAST_PAUSE, slice));
        match poll(&mut wanted, Timespec::try_from(pause).ok().as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => match frames::receive(&*remote.line, frame::NOTICE, PROTOCOL) {
                Ok(notice) => {
                    heard = Instant::now();
                    locked(silence).ended(heard);
                    match notice {
                        Notice::Alive => told = false,
                        Notice::Ended { ticket, failure } => {
                            let Some(client) = this.upgrade() else { return };
                            client.tickets.deliver(ticket, failure.map(|failure| failure.0));
                        }
                    }
                }
                Err(_) => break,
            },
            Err(_) => break,
        }
        if said.elapsed() > 2 * (RENEW.get() + SILENT.get()) {
            // This process was stopped: what the host said meanwhile is still to be read.
            heard = Instant::now();
        }
        if looked.elapsed() > SILENT.get() {
            locked(silence).ended(Instant::now());
        }
        looked = Instant::now();
        if said.elapsed() >= RENEW.get() {
            said = Instant::now();
            if frames::send(&*remote.line, frame::REQUEST, PROTOCOL, &Request::Renew).is_err() {
                break;
            }
        }
        if locked(silence).lasts(looked).is_some_and(|lasts| lasts >= until_last) {
            let Some(member) = this.upgrade().map(|client| Arc::clone(&client.member)) else { return };
            if hosts::is_silent(&member) {
                remote.given_up.store(true, Ordering::SeqCst);
                break;
            }
            // It is busy with what it was asked.
            locked(silence).ended(Instant::now());
        }
        if heard.elapsed() < RENEW.get() + SILENT.get() {
            continue;
        }
        let Some(client) = this.upgrade() else { return };
        if !told {
            told = true;
            let teller = client.teller.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(tell) = teller {
                tell(&format!("{}, which does not answer (was it stopped?)", remote.owner));
            }
        }
        if heard.elapsed() > wait.max(LETTING_GO.get()) {
            remote.given_up.store(true, Ordering::SeqCst);
            break;
        }
    }
    remote.gone.store(true, Ordering::SeqCst);
    remote.hang_up();
    if let Some(client) = this.upgrade()
        && !client.state().closed
    {
        // What cannot be had now is told to whoever asks next.
        let _ = client.lost(remote);
        client.tickets.end_all();
    }
}
